//! A range of addresses.

use core::fmt;

const PAGE: u64 = 4096;

/// A range of addresses, which ends below 2^64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Region {
    /// The first address.
    pub base: u64,
    /// The length.
    pub bytes: u64,
}

impl Region {
    /// `None` if the range passes 2^64.
    #[must_use]
    pub const fn new(base: u64, bytes: u64) -> Option<Self> {
        match base.checked_add(bytes) {
            Some(_) => Some(Region { base, bytes }),
            None => None,
        }
    }

    /// The first address behind it.
    #[must_use]
    pub const fn end(self) -> u64 {
        self.base.saturating_add(self.bytes)
    }

    /// Whether the two have an address in common.
    #[must_use]
    pub const fn overlaps(self, other: Self) -> bool {
        self.base < other.end() && other.base < self.end()
    }

    /// Whether all addresses of `other` are in this.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.base <= other.base && other.end() <= self.end()
    }

    /// What is left of it below and above `taken`.
    pub fn without(self, taken: Self) -> impl Iterator<Item = Self> {
        let below = taken.base.clamp(self.base, self.end());
        let above = taken.end().clamp(below, self.end());
        let part =
            |from: u64, to: u64| (to > from).then_some(Region { base: from, bytes: to - from });
        // An empty `taken` takes nothing.
        let parts = if taken.bytes == 0 {
            [Some(self), None]
        } else {
            [part(self.base, below), part(above, self.end())]
        };
        parts.into_iter().flatten()
    }

    /// Its whole pages of 4 KiB, if there are any.
    #[must_use]
    pub fn whole_pages(self) -> Option<Self> {
        let base = self.base.checked_next_multiple_of(PAGE)?;
        let bytes = (self.end() / PAGE * PAGE).checked_sub(base)?;
        (bytes > 0).then_some(Region { base, bytes })
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}+{:#x}", self.base, self.bytes)
    }
}
