//! What must hold for every bit pattern. The property tests and the fuzz targets call the same
//! functions.
//!
//! Each function panics if a property does not hold.

pub(crate) mod bytes;
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

/// The text of a value. Printing must not panic, and the text is not empty.
fn text_of(value: &dyn std::fmt::Display) -> String {
    let text = value.to_string();
    assert!(!text.trim().is_empty(), "prints nothing");
    text
}
