//! The formats of logs and dumps, a file each. Every one takes a line and says whether it is its own.

pub(crate) mod bao;
pub(crate) mod dump;
pub(crate) mod freebsd;
pub(crate) mod linux;
pub(crate) mod pending;
pub(crate) mod qemu;
pub(crate) mod smmudxe;
pub(crate) mod tf_rmm;
