//! `poke`: change a descriptor without any invalidation.

use core::ops::Range;

use serde::{Deserialize, Serialize};

use crate::page_tables::LeafSize;
use crate::prelude::*;
use crate::scenario::names::{Declared, SpannedName, Wrong, mappable};
use crate::scenario::step_spec::StepSpec;

/// See [`Step::Poke`](crate::scenario::Step::Poke).
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Poke {
    /// The domain.
    pub domain: SpannedName,
    /// The input address.
    pub iova: u64,
    /// The page. Without it the descriptor maps nothing afterwards.
    pub page: Option<SpannedName>,
}

impl StepSpec for Poke {
    fn check(&self, span: Range<usize>, names: &Declared) -> Result<(), Wrong> {
        names.domain(&self.domain)?;
        self.page.as_ref().map_or(Ok(()), |page| names.page(page))?;
        mappable(&span, self.iova, LeafSize::Page)
    }

    fn text(&self) -> String {
        let target = match &self.page {
            Some(page) => format!("page {}", page.get_ref()),
            None => "nothing".into(),
        };
        let domain = self.domain.get_ref();
        format!("past the driver: {:#x} of {domain} now maps {target}", self.iova)
    }
}
