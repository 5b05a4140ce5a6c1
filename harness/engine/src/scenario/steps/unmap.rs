//! `unmap`: take a mapping away and invalidate, as a driver does.

use core::ops::Range;

use crate::scenario::spanned::Spanned;
use schemars::JsonSchema;
use serde::Deserialize;

use super::command::WantedFailure;
use crate::page_tables::PAGE;
use crate::scenario::names::{Declared, SpannedName, Wrong, mappable};
use crate::scenario::step_spec::StepSpec;

/// See [`Step::Unmap`](crate::scenario::Step::Unmap).
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Unmap {
    /// The domain.
    pub domain: SpannedName,
    /// The input address.
    pub iova: u64,
    /// How many pages from `iova` on, which one invalidation takes away; 1 by default.
    pub pages: Option<Spanned<u32>>,
    /// How the invalidation must fail.
    pub fails: Option<WantedFailure>,
}

impl Unmap {
    /// How many pages.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.pages.as_ref().map_or(1, |pages| *pages.get_ref())
    }

    /// The address of each page.
    pub fn each(&self) -> impl Iterator<Item = u64> {
        (0..u64::from(self.count())).map(|n| self.iova.saturating_add(n * PAGE))
    }
}

/// More pages than this are a mistake.
const MOST_PAGES: u32 = 1024;

impl StepSpec for Unmap {
    fn check(&self, span: Range<usize>, names: &Declared) -> Result<(), Wrong> {
        names.domain(&self.domain)?;
        if let Some(pages) = &self.pages
            && !(1..=MOST_PAGES).contains(pages.get_ref())
        {
            return Err((pages.span(), format!("pages must be 1 to {MOST_PAGES}")));
        }
        self.each().try_for_each(|iova| mappable(&span, iova))
    }

    fn text(&self) -> String {
        match self.count() {
            1 => format!("unmap {:#x} of {}", self.iova, self.domain.get_ref()),
            pages => {
                format!("unmap {pages} pages from {:#x} of {}", self.iova, self.domain.get_ref())
            }
        }
    }
}
