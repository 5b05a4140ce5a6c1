//! See [`smmu_types_fuzz::registers`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| smmu_types_fuzz::registers(data));
