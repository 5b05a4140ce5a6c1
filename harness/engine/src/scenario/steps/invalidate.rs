//! `invalidate`: invalidate again, as a driver does after an invalidation that no SMMU confirmed.

use core::ops::Range;

use serde::{Deserialize, Serialize};

use super::unmap::Unmap;
use crate::prelude::*;
use crate::scenario::names::{Declared, Wrong};
use crate::scenario::step_spec::StepSpec;

/// See [`Step::Invalidate`](crate::scenario::Step::Invalidate): what an `unmap` before took away.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Invalidate(pub Unmap);

impl StepSpec for Invalidate {
    fn check(&self, span: Range<usize>, names: &Declared) -> Result<(), Wrong> {
        self.0.check(span, names)
    }

    fn text(&self) -> String {
        format!("invalidate {} of {} again", self.0.range(), self.0.domain.get_ref())
    }
}
