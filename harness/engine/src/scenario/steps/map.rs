//! `map`: map pages or a block.

use core::ops::Range;

use serde::{Deserialize, Serialize};

use crate::page_tables::{LeafSize, PAGE, Permission};
use crate::prelude::*;
use crate::scenario::names::{Declared, SpannedName, Wrong, mappable};
use crate::scenario::spanned::Spanned;
use crate::scenario::step_spec::StepSpec;

/// See [`Step::Map`](crate::scenario::Step::Map).
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Map {
    /// The domain.
    pub domain: SpannedName,
    /// The input address.
    pub iova: u64,
    /// The page.
    pub page: Option<SpannedName>,
    /// Instead of `page`: several, one behind the other from `iova` on.
    #[serde(default)]
    pub pages: Vec<SpannedName>,
    /// Instead of `page`: a block of 2 MiB, which one descriptor maps.
    pub block: Option<SpannedName>,
    /// What the mapping permits.
    #[serde(default)]
    pub access: Permission,
    /// Why the tables must refuse the mapping. Then nothing may have changed.
    pub fails: Option<Spanned<MapFailure>>,
}

/// Why a mapping may be expected to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum MapFailure {
    /// `"mapped"`: something is mapped there already, perhaps by a block.
    Mapped,
    /// `"has-table"`: a block would take the place of a table of pages.
    HasTable,
    /// `"misaligned"`: the input address is not that of a page, or of a block.
    Misaligned,
    /// `"out-of-range"`: the input address is beyond the input bits of the tables.
    OutOfRange,
    /// `"no-memory"`: the first allocation of the mapping fails, because the step makes it fail.
    NoMemory,
}

impl MapFailure {
    /// As it is written in a file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            MapFailure::Mapped => "mapped",
            MapFailure::HasTable => "has-table",
            MapFailure::Misaligned => "misaligned",
            MapFailure::OutOfRange => "out-of-range",
            MapFailure::NoMemory => "no-memory",
        }
    }
}

impl Map {
    /// What is mapped where, in words.
    pub(super) fn mapping(&self) -> String {
        let access = match self.access {
            Permission::ReadWrite => "",
            Permission::ReadOnly => ", read-only",
        };
        let (domain, iova) = (self.domain.get_ref(), self.iova);
        let pages: Vec<&str> = self.each().map(|(_, page)| page.get_ref().as_str()).collect();
        let what = match self.leaf_size() {
            LeafSize::Block => "block",
            LeafSize::Page if pages.len() == 1 => "page",
            LeafSize::Page => "pages",
        };
        format!("{iova:#x} of {domain} to {what} {}{access}", pages.join(", "))
    }

    /// Whether it maps pages or a block.
    #[must_use]
    pub const fn leaf_size(&self) -> LeafSize {
        if self.block.is_some() { LeafSize::Block } else { LeafSize::Page }
    }

    /// The pages in their order, each with its address; or the block.
    pub fn each(&self) -> impl Iterator<Item = (u64, &SpannedName)> {
        let pages = self.page.iter().chain(&self.pages).chain(&self.block);
        pages.enumerate().map(|(n, page)| (self.iova.saturating_add(n as u64 * PAGE), page))
    }
}

impl StepSpec for Map {
    fn check(&self, span: Range<usize>, names: &Declared) -> Result<(), Wrong> {
        names.domain(&self.domain)?;
        let given = [self.page.is_some(), !self.pages.is_empty(), self.block.is_some()];
        if given.into_iter().filter(|&given| given).count() != 1 {
            return Err((span, "a mapping needs one of `page`, `pages` and `block`".into()));
        }
        if let Some(fails) = &self.fails
            && self.each().count() != 1
        {
            return Err((fails.span(), "a map that must fail maps one page or one block".into()));
        }
        let address_is_wrong = self.fails.as_ref().is_some_and(|fails| {
            matches!(fails.get_ref(), MapFailure::Misaligned | MapFailure::OutOfRange)
        });
        self.each().try_for_each(|(iova, page)| {
            match self.leaf_size() {
                LeafSize::Page => names.page(page)?,
                LeafSize::Block => names.block(page)?,
            }
            if address_is_wrong { Ok(()) } else { mappable(&span, iova, self.leaf_size()) }
        })
    }

    fn text(&self) -> String {
        format!("map {}", self.mapping())
    }
}
