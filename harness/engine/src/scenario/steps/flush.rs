//! `flush`: invalidate what `defer` has left, and take its pages back.

use core::ops::Range;

use serde::{Deserialize, Serialize};

use super::command::WantedFailure;
use crate::prelude::*;
use crate::scenario::names::{Declared, SpannedName, Wrong};
use crate::scenario::step_spec::StepSpec;

/// See [`Step::Flush`](crate::scenario::Step::Flush).
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Flush {
    /// The domain.
    pub domain: SpannedName,
    /// The pages that the flush hands back, in the order in which they were unmapped.
    #[serde(default)]
    pub hands_back: Vec<SpannedName>,
    /// How the flush must fail. Then it hands nothing back.
    pub fails: Option<WantedFailure>,
}

impl StepSpec for Flush {
    fn check(&self, span: Range<usize>, names: &Declared) -> Result<(), Wrong> {
        names.domain(&self.domain)?;
        self.hands_back.iter().try_for_each(|page| names.page(page))?;
        if self.fails.is_some() != self.hands_back.is_empty() {
            return Err((span, "a flush needs either `hands_back` or `fails`".into()));
        }
        Ok(())
    }

    fn text(&self) -> String {
        format!("flush the deferred unmaps of {}", self.domain.get_ref())
    }
}
