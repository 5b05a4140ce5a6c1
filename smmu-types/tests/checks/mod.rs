//! What must hold for every bit pattern. The property tests and the fuzz targets call the same functions.
//!
//! Each function panics when something does not hold, and does nothing else.

mod entries;
mod layouts;
mod records;
mod registers;
mod sizes;

pub(crate) use entries::{Judgement, cd, descriptors, legal, ste};
pub(crate) use layouts::{keep_width, layout};
pub(crate) use records::{command, event, pri};
pub(crate) use registers::registers;
pub(crate) use sizes::{AddressKind, Range, capabilities, queue, queue_registers, range};

/// What a value prints. Printing must not panic, and must say something.
fn text_of(value: &dyn std::fmt::Display) -> String {
    let text = value.to_string();
    assert!(!text.trim().is_empty(), "prints nothing");
    text
}
