//! See [`smmu_harness_fuzz::device_tree`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| smmu_harness_fuzz::device_tree(data));
