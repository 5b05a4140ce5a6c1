//! See [`smmu_types_fuzz::descriptors`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| smmu_types_fuzz::descriptors(data));
