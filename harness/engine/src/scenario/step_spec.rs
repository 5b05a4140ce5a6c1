//! What every kind of step can do before a machine exists: check itself, and say what it will do.

use core::ops::Range;

use super::names::{Declared, Wrong};

use crate::prelude::*;

/// One kind of step, as a file states it.
pub(crate) trait StepSpec {
    /// Checks the step against the head of the file.
    ///
    /// `span` is the whole step. An error about one value points at that value instead.
    fn check(&self, span: Range<usize>, names: &Declared) -> Result<(), Wrong>;

    /// The step's line of the transcript, without its number.
    fn text(&self) -> String;
}
