//! The backends: places where scenarios run.

mod board;
mod mock;
mod qemu;

pub use board::{Board, BoardInQemu, BoardKind, SILENCE};
pub use mock::Mock;
pub use qemu::Qemu;
