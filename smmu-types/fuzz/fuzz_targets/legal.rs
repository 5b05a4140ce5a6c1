//! See [`smmu_types_fuzz::legal`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| smmu_types_fuzz::legal(data));
