//! See [`smmu_attach_fuzz::batch`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| smmu_attach_fuzz::batch(data));
