//! `defer`: take mappings away, and leave the invalidation to a later `flush`.

use core::ops::Range;

use serde::{Deserialize, Serialize};

use crate::page_tables::LeafSize;
use crate::prelude::*;
use crate::scenario::names::{Declared, SpannedName, Wrong, mappable};
use crate::scenario::step_spec::StepSpec;

/// See [`Step::Defer`](crate::scenario::Step::Defer).
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Defer {
    /// The domain.
    pub domain: SpannedName,
    /// The input address of the page.
    pub iova: u64,
    /// The page that is mapped there, which the flush hands back.
    pub page: SpannedName,
}

impl StepSpec for Defer {
    fn check(&self, span: Range<usize>, names: &Declared) -> Result<(), Wrong> {
        names.domain(&self.domain)?;
        names.page(&self.page)?;
        mappable(&span, self.iova, LeafSize::Page)
    }

    fn text(&self) -> String {
        let (iova, domain) = (self.iova, self.domain.get_ref());
        format!("unmap {iova:#x} of {domain}, and flush later")
    }
}
