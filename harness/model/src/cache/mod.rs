//! What an SMMU keeps: the IOTLB, the walk cache and the configuration cache.

pub(crate) mod config_cache;
pub(crate) mod tlb;
