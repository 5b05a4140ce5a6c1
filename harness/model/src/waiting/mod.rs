//! What waits for software: stalled transactions, and groups of page requests.

pub(crate) mod pages;
pub(crate) mod stalls;
