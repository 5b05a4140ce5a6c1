//! The registers: what is stored, what a read does, what a write must obey.

pub(crate) mod access;
pub(crate) mod ecmdq;
pub(crate) mod enable;
pub(crate) mod global_error;
pub(crate) mod register_file;
pub(crate) mod vcmdq;
pub(crate) mod vcmdq_file;
