//! DMA: a transaction, the fetches that it causes, and the prefetcher.

pub(crate) mod fetch;
pub(crate) mod prefetch;
pub(crate) mod transaction;
