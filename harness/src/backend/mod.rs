//! The backends: places where scenarios run.

mod board;
mod mock;
mod mock_variant;
mod qemu;

pub use board::{Board, BoardInQemu, BoardKind, SILENCE};
pub use mock::Mock;
pub(crate) use mock::start;
pub use mock_variant::{MockVariant, NOT_SNOOPING, UNCACHED, UNHELPFUL, USUAL_ONLY, UsualOnly};
pub use qemu::Qemu;
