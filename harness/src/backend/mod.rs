//! The backends: places where scenarios run.

mod mock;
mod qemu;

pub use mock::Mock;
pub use qemu::Qemu;
