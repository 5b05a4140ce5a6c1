//! `unmap`: take a mapping away and invalidate, as a driver does.

use core::ops::Range;

use crate::prelude::*;
use crate::scenario::spanned::Spanned;
use serde::{Deserialize, Serialize};

use super::command::WantedFailure;
use crate::page_tables::LeafSize;
use crate::scenario::names::{Declared, SpannedName, Wrong, mappable};
use crate::scenario::step_spec::StepSpec;

/// See [`Step::Unmap`](crate::scenario::Step::Unmap).
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Unmap {
    /// The domain.
    pub domain: SpannedName,
    /// The input address.
    pub iova: u64,
    /// How many pages from `iova` on, which one invalidation takes away; 1 by default.
    pub pages: Option<Spanned<u32>>,
    /// Instead of `pages`: how many blocks of 2 MiB from `iova` on.
    pub blocks: Option<Spanned<u32>>,
    /// How the invalidation must fail.
    pub fails: Option<WantedFailure>,
}

impl Unmap {
    /// How many pages or blocks.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.blocks.as_ref().or(self.pages.as_ref()).map_or(1, |count| *count.get_ref())
    }

    /// Whether it is about pages or blocks.
    #[must_use]
    pub const fn leaf_size(&self) -> LeafSize {
        if self.blocks.is_some() { LeafSize::Block } else { LeafSize::Page }
    }

    /// The address of each page or block.
    pub fn each(&self) -> impl Iterator<Item = u64> {
        let bytes = self.leaf_size().bytes();
        (0..u64::from(self.count())).map(move |n| self.iova.saturating_add(n * bytes))
    }

    /// What is taken away, in words.
    pub(super) fn range(&self) -> String {
        let iova = self.iova;
        match (self.leaf_size(), self.count()) {
            (LeafSize::Page, 1) => format!("{iova:#x}"),
            (LeafSize::Page, pages) => format!("{pages} pages from {iova:#x}"),
            (LeafSize::Block, 1) => format!("the block at {iova:#x}"),
            (LeafSize::Block, blocks) => format!("{blocks} blocks from {iova:#x}"),
        }
    }
}

/// More pages than this are a mistake.
const MOST_PAGES: u32 = 1024;

/// More blocks than this are a mistake.
const MOST_BLOCKS: u32 = 512;

impl StepSpec for Unmap {
    fn check(&self, span: Range<usize>, names: &Declared) -> Result<(), Wrong> {
        names.domain(&self.domain)?;
        if let Some(pages) = &self.pages
            && !(1..=MOST_PAGES).contains(pages.get_ref())
        {
            return Err((pages.span(), format!("pages must be 1 to {MOST_PAGES}")));
        }
        if let Some(blocks) = &self.blocks {
            if self.pages.is_some() {
                return Err((blocks.span(), "give either `pages` or `blocks`".into()));
            }
            if !(1..=MOST_BLOCKS).contains(blocks.get_ref()) {
                return Err((blocks.span(), format!("blocks must be 1 to {MOST_BLOCKS}")));
            }
        }
        self.each().try_for_each(|iova| mappable(&span, iova, self.leaf_size()))
    }

    fn text(&self) -> String {
        format!("unmap {} of {}", self.range(), self.domain.get_ref())
    }
}
