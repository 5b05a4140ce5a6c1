//! `unmap`: take a mapping away and invalidate, as a driver does.

use core::ops::Range;

use serde::Deserialize;

use super::command::WantedFailure;
use crate::scenario::names::{Declared, SpannedName, Wrong, mappable};
use crate::scenario::step_spec::StepSpec;

/// See [`Step::Unmap`](crate::scenario::Step::Unmap).
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unmap {
    /// The domain.
    pub domain: SpannedName,
    /// The input address.
    pub iova: u64,
    /// How the invalidation must fail.
    pub fails: Option<WantedFailure>,
}

impl StepSpec for Unmap {
    fn check(&self, span: Range<usize>, names: &Declared) -> Result<(), Wrong> {
        names.domain(&self.domain)?;
        mappable(&span, self.iova)
    }

    fn text(&self) -> String {
        format!("unmap {:#x} of {}", self.iova, self.domain.get_ref())
    }
}
