//! See [`smmu_harness_fuzz::iort`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| smmu_harness_fuzz::iort(data));
