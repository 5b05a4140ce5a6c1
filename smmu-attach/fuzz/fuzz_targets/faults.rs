//! See [`smmu_attach_fuzz::faults`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| smmu_attach_fuzz::faults(data));
