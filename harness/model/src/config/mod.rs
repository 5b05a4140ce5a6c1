//! The stream table and its entries: where they lie, and what they mean.

pub(crate) mod cd_table;
pub(crate) mod decode_cd;
pub(crate) mod decode_ste;
pub(crate) mod stream_table;
pub(crate) mod treatment;
