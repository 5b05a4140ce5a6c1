//! `guest_unmap`: a guest takes a mapping away, and sends no command yet.

use core::ops::Range;

use serde::{Deserialize, Serialize};

use crate::page_tables::LeafSize;
use crate::prelude::*;
use crate::scenario::names::{Declared, SpannedName, Wrong, mappable};
use crate::scenario::step_spec::StepSpec;

/// See [`Step::GuestUnmap`](crate::scenario::Step::GuestUnmap).
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct GuestUnmap {
    /// The guest's table.
    pub table: SpannedName,
    /// The address that a device uses.
    pub iova: u64,
}

impl StepSpec for GuestUnmap {
    fn check(&self, span: Range<usize>, names: &Declared) -> Result<(), Wrong> {
        names.guest_table(&self.table)?;
        mappable(&span, self.iova, LeafSize::Page)
    }

    fn text(&self) -> String {
        format!("the guest unmaps {:#x} of {}", self.iova, self.table.get_ref())
    }
}
