//! `map`: map a page.

use core::ops::Range;

use serde::Deserialize;

use crate::page_tables::Permission;
use crate::scenario::names::{Declared, SpannedName, Wrong, mappable};
use crate::scenario::step_spec::StepSpec;

/// See [`Step::Map`](crate::scenario::Step::Map).
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Map {
    /// The domain.
    pub domain: SpannedName,
    /// The input address.
    pub iova: u64,
    /// The page.
    pub page: SpannedName,
    /// What the mapping permits.
    #[serde(default)]
    pub access: Permission,
}

impl Map {
    /// What is mapped where, in words.
    pub(super) fn mapping(&self) -> String {
        let access = match self.access {
            Permission::ReadWrite => "",
            Permission::ReadOnly => ", read-only",
        };
        let (domain, page) = (self.domain.get_ref(), self.page.get_ref());
        format!("{:#x} of {domain} to page {page}{access}", self.iova)
    }
}

impl StepSpec for Map {
    fn check(&self, span: Range<usize>, names: &Declared) -> Result<(), Wrong> {
        names.domain(&self.domain)?;
        names.page(&self.page)?;
        mappable(&span, self.iova)
    }

    fn text(&self) -> String {
        format!("map {}", self.mapping())
    }
}
