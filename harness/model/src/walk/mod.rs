//! Table walks, and what they work with.

pub(crate) mod in_memory;
pub(crate) mod space;
pub(crate) mod table_walk;
pub(crate) mod translation;
