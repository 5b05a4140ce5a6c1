//! See [`smmu_types_fuzz::event`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| smmu_types_fuzz::event(data));
