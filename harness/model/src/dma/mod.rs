//! DMA: a transaction, the fetches that it causes, the prefetcher, and devices with ATS.

pub(crate) mod access;
pub(crate) mod ahead;
pub(crate) mod ats;
pub(crate) mod ats_device;
pub(crate) mod fetch;
pub(crate) mod memo;
pub(crate) mod prefetch;
pub(crate) mod transaction;
