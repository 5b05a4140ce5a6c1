//! The six crates of an Arm SMMUv3 driver under one name, for a program that takes all of them.
#![no_std]
#![forbid(unsafe_code)]

pub use {smmu_attach, smmu_cmdq, smmu_hw_mmio, smmu_invs, smmu_tags, smmu_types};
