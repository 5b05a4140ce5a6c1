//! `map`: map a page.

use core::ops::Range;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::page_tables::{PAGE, Permission};
use crate::scenario::names::{Declared, SpannedName, Wrong, mappable};
use crate::scenario::step_spec::StepSpec;

/// See [`Step::Map`](crate::scenario::Step::Map).
#[derive(Debug, Deserialize, JsonSchema)]
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
        let (domain, iova) = (self.domain.get_ref(), self.iova);
        let pages: Vec<&str> = self.each().map(|(_, page)| page.get_ref().as_str()).collect();
        let what = if pages.len() == 1 { "page" } else { "pages" };
        format!("{iova:#x} of {domain} to {what} {}{access}", pages.join(", "))
    }

    /// The pages in their order, each with its address.
    pub fn each(&self) -> impl Iterator<Item = (u64, &SpannedName)> {
        let pages = self.page.iter().chain(&self.pages);
        pages.enumerate().map(|(n, page)| (self.iova.saturating_add(n as u64 * PAGE), page))
    }
}

impl StepSpec for Map {
    fn check(&self, span: Range<usize>, names: &Declared) -> Result<(), Wrong> {
        names.domain(&self.domain)?;
        if self.page.is_some() != self.pages.is_empty() {
            return Err((span, "a mapping needs either `page` or `pages`".into()));
        }
        self.each().try_for_each(|(iova, page)| {
            names.page(page)?;
            mappable(&span, iova)
        })
    }

    fn text(&self) -> String {
        format!("map {}", self.mapping())
    }
}
