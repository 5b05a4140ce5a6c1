//! The log and dump formats, a file each: it takes a line, and returns whether the line is its own.

pub(crate) mod bao;
pub(crate) mod board;
pub(crate) mod braces;
pub(crate) mod dump;
pub(crate) mod freebsd;
pub(crate) mod indexed;
pub(crate) mod linux;
pub(crate) mod pending;
pub(crate) mod qemu;
pub(crate) mod registers;
pub(crate) mod smmudxe;
pub(crate) mod smmuv2;
pub(crate) mod tf_rmm;
