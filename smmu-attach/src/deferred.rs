//! Unmaps of a domain that one flush completes.

use alloc::vec::{Drain, Vec};
use core::fmt;
use core::mem;

use smmu_invs::{InvalidateError, OutOfMemory};
use smmu_types::Leaf;
use smmu_types::range::Extent;

use crate::{Domain, Platform};

/// Unmaps that wait for one flush, each with what is free after it: a page, a range of IOVAs, or
/// both.
///
/// A flush costs a command and a `CMD_SYNC` on each SMMU of the domain, however many unmaps have
/// been gathered. In exchange, a device may reach the pages until then. So only a caller who trusts
/// the device, or who gives it no page with foreign data, defers.
///
/// [`flush`](Self::flush) hands back what the unmaps owned. There is no other way to get it, so no
/// page is used again too early. A value that is dropped flushes first. If an SMMU does not confirm,
/// what the unmaps owned stays in memory for ever.
///
/// Each thread, or each CPU, has its own; no lock is shared.
///
/// ```
/// # use smmu_attach::*;
/// # use smmu_attach::smmu_types::{Granule, Leaf, range::Extent};
/// # struct Page(u64);
/// # fn unmap_in_tables(_: u64) -> Page { Page(0) }
/// # fn give_back(_: Page) {}
/// fn unmap_all<P: Platform>(
///     domain: &Domain<P>,
///     addresses: &[u64],
/// ) -> Result<(), Box<dyn std::error::Error>> {
///     let mut unmaps = DeferredUnmaps::with_capacity(domain, 256)?;
///     for &address in addresses {
///         // Clears the descriptor and publishes the store.
///         let page = unmap_in_tables(address);
///         let extent = Extent::range(address, 0x1000, Granule::K4, Leaf::Last);
///         if let Err(page) = unmaps.defer(extent, page) {
///             unmaps.flush()?.for_each(give_back);
///             // There is room now.
///             let _ = unmaps.defer(extent, page);
///         }
///     }
///     unmaps.flush()?.for_each(give_back);
///     Ok(())
/// }
/// ```
pub struct DeferredUnmaps<P: Platform, T> {
    domain: Domain<P>,
    /// Never longer than its capacity.
    owned: Vec<T>,
    gathered: Gathered,
}

/// The union of extents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gathered {
    Nothing,
    /// Extents that follow each other without a gap, up or down.
    Run {
        start: u64,
        /// The last address, so that a run may reach the end of the address space.
        last: u64,
        leaf: Leaf,
    },
    /// Anything else.
    Everything,
}

impl Gathered {
    fn add(&mut self, extent: Extent) {
        let last = extent.size.checked_sub(1).and_then(|more| extent.address.checked_add(more));
        let start = extent.address;
        *self = match (*self, last) {
            (_, None) | (Gathered::Everything, _) => Gathered::Everything,
            (Gathered::Nothing, Some(last)) => Gathered::Run { start, last, leaf: extent.leaf },
            (Gathered::Run { start: from, last: to, leaf }, Some(last)) => {
                let leaf = if extent.leaf == Leaf::All { Leaf::All } else { leaf };
                if to.checked_add(1) == Some(start) {
                    Gathered::Run { start: from, last, leaf }
                } else if last.checked_add(1) == Some(from) {
                    Gathered::Run { start, last: to, leaf }
                } else {
                    Gathered::Everything
                }
            }
        };
    }
}

impl<P: Platform, T> DeferredUnmaps<P, T> {
    /// Room for `capacity` unmaps of a domain, which the value keeps alive.
    ///
    /// # Errors
    ///
    /// No memory.
    pub fn with_capacity(domain: &Domain<P>, capacity: usize) -> Result<Self, OutOfMemory> {
        let mut owned = Vec::new();
        let bytes = capacity.saturating_mul(mem::size_of::<T>());
        owned.try_reserve_exact(capacity).map_err(|_| OutOfMemory { bytes })?;
        Ok(DeferredUnmaps { domain: domain.clone(), owned, gathered: Gathered::Nothing })
    }

    /// Take over an unmap: its addresses, and what is free after the flush. Allocates nothing.
    ///
    /// The caller has changed the tables and published the stores, as for
    /// [`Domain::invalidate`].
    ///
    /// # Errors
    ///
    /// There is no room; `owned` comes back. [`flush`](Self::flush) makes room.
    pub fn defer(&mut self, extent: Extent, owned: T) -> Result<(), T> {
        if self.owned.len() == self.owned.capacity() {
            return Err(owned);
        }
        self.owned.push(owned);
        self.gathered.add(extent);
        Ok(())
    }

    /// Number of unmaps that wait for the flush.
    #[must_use]
    pub fn len(&self) -> usize {
        self.owned.len()
    }

    /// Whether no unmap waits for the flush.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.owned.is_empty()
    }

    /// Invalidate for all unmaps that wait, on every SMMU of the domain, and hand back what they
    /// owned.
    ///
    /// Unmaps that follow each other without a gap become one range. All others become one flush of
    /// the domain's tag.
    ///
    /// # Errors
    ///
    /// An SMMU did not confirm. Nothing is handed back; a later flush tries again.
    pub fn flush(&mut self) -> Result<Drain<'_, T>, InvalidateError> {
        let granule = self.domain.description().granule;
        match self.gathered {
            Gathered::Nothing => {}
            Gathered::Run { start, last, leaf } => {
                // A size of 0, for 2^64 bytes, means everything.
                let size = (last - start).wrapping_add(1);
                self.domain.invalidate(Extent::range(start, size, granule, leaf))?;
            }
            Gathered::Everything => self.domain.invalidate(Extent::everything(granule))?,
        }
        self.gathered = Gathered::Nothing;
        Ok(self.owned.drain(..))
    }
}

impl<P: Platform, T> Drop for DeferredUnmaps<P, T> {
    fn drop(&mut self) {
        if self.flush().is_err() {
            // A device may still reach what the unmaps owned.
            self.owned.drain(..).for_each(mem::forget);
        }
    }
}

impl<P: Platform, T> fmt::Debug for DeferredUnmaps<P, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeferredUnmaps")
            .field("domain", &self.domain.id())
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use smmu_types::Granule;

    use super::*;

    proptest! {
        /// Whatever is gathered covers each extent, and a run covers nothing else.
        #[test]
        fn a_run_is_the_union(
            extents in prop::collection::vec((0..20u64, 0..4u64, any::<bool>()), 1..12),
            high in any::<bool>(),
        ) {
            let base = if high { u64::MAX - 0x17_fff } else { 0 };
            let page = |n: u64| base.wrapping_add(n * 0x1000);
            let mut gathered = Gathered::Nothing;
            let mut pages = std::collections::BTreeSet::new();
            let (mut any_table, mut endless) = (false, false);
            for (first, count, table) in extents {
                let leaf = if table { Leaf::All } else { Leaf::Last };
                gathered.add(Extent::range(page(first), count * 0x1000, Granule::K4, leaf));
                endless |= count == 0;
                any_table |= table;
                pages.extend(first..first + count);
            }
            match gathered {
                Gathered::Nothing => prop_assert!(false, "an extent is lost"),
                Gathered::Everything => {}
                Gathered::Run { start, last, leaf } => {
                    prop_assert!(!endless);
                    prop_assert_eq!(leaf == Leaf::All, any_table);
                    let first = *pages.first().unwrap();
                    let end = *pages.last().unwrap();
                    prop_assert_eq!((start, last), (page(first), page(end) + 0xfff));
                    prop_assert_eq!(pages.len() as u64, end - first + 1);
                }
            }
        }
    }
}
