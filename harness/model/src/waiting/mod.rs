//! What waits for software: stalled transactions, and groups of page requests.

pub(crate) mod page_queue;
pub(crate) mod pages;
pub(crate) mod resume;
pub(crate) mod stalls;
