//! `remap`: move a mapping to another page as a driver does: break, invalidate, make.

use core::ops::Range;

use serde::{Deserialize, Serialize};

use super::map::Map;
use crate::prelude::*;
use crate::scenario::names::{Declared, Wrong};
use crate::scenario::step_spec::StepSpec;

/// See [`Step::Remap`](crate::scenario::Step::Remap): the new mapping.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Remap(pub Map);

impl StepSpec for Remap {
    fn check(&self, span: Range<usize>, names: &Declared) -> Result<(), Wrong> {
        if let Some(fails) = &self.0.fails {
            return Err((fails.span(), "`fails` goes with `map`, not with `remap`".into()));
        }
        self.0.check(span, names)
    }

    fn text(&self) -> String {
        format!("move {}", self.0.mapping())
    }
}
