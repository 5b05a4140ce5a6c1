//! The log and dump formats, a file each: it takes a line, and returns whether the line is its own.

pub(crate) mod bao;
pub(crate) mod dump;
pub(crate) mod freebsd;
pub(crate) mod linux;
pub(crate) mod pending;
pub(crate) mod qemu;
pub(crate) mod smmudxe;
pub(crate) mod tf_rmm;
