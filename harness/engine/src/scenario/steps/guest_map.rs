//! `guest_map`: a guest maps a page in its stage-1 tables.

use core::ops::Range;

use serde::{Deserialize, Serialize};

use crate::page_tables::LeafSize;
use crate::prelude::*;
use crate::scenario::names::{Declared, SpannedName, Wrong, mappable};
use crate::scenario::step_spec::StepSpec;

/// See [`Step::GuestMap`](crate::scenario::Step::GuestMap).
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct GuestMap {
    /// The guest's table.
    pub table: SpannedName,
    /// The address that a device uses.
    pub iova: u64,
    /// The guest's physical address, which the parent maps to a page or not.
    pub ipa: u64,
}

impl StepSpec for GuestMap {
    fn check(&self, span: Range<usize>, names: &Declared) -> Result<(), Wrong> {
        names.guest_table(&self.table)?;
        mappable(&span, self.iova, LeafSize::Page)?;
        mappable(&span, self.ipa, LeafSize::Page)
    }

    fn text(&self) -> String {
        let (iova, ipa, table) = (self.iova, self.ipa, self.table.get_ref());
        format!("the guest maps {iova:#x} of {table} to ipa {ipa:#x}")
    }
}
