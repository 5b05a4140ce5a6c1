//! Commands: what they ask for, and what they do.

pub(crate) mod execute;
pub(crate) mod form;
