//! A driver of Arm SMMUv3s, composed from the crates of this workspace.
#![no_std]
#![forbid(unsafe_code)]

pub use {smmu_attach, smmu_cmdq, smmu_hw_mmio, smmu_invs, smmu_tags, smmu_types};
