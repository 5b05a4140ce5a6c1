//! Table walks, and what they work with.

pub(crate) mod space;
pub(crate) mod table_walk;
pub(crate) mod translation;
