//! What must hold for every bit pattern. The property tests and the fuzz targets call the same functions.
//!
//! Each function panics when something does not hold, and does nothing else.

mod entries;
mod layouts;
mod records;
mod sizes;

pub(crate) use entries::{cd, ste};
pub(crate) use layouts::{keep_width, layout};
pub(crate) use records::{command, event};
pub(crate) use sizes::{Range, capabilities, queue, range};

/// What a value prints. Printing must not panic, and must say something.
fn text_of(value: &dyn std::fmt::Display) -> String {
    let text = value.to_string();
    assert!(!text.trim().is_empty(), "prints nothing");
    text
}
