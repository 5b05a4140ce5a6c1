//! The memory that callers and SMMU share: a ring, and pages.

use std::cell::UnsafeCell;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use smmu_types::PhysAddr;
use smmu_types::seam::DmaBlock;

pub(crate) const BASE: u64 = 0x8000_0000;
/// The pages of one caller, and so the most tickets that it holds at once.
pub(crate) const PAGES: usize = 12;

/// The memory, with the only operations that order it against registers: `release` and `acquire`.
///
/// Registers are relaxed atomics, so they order nothing. On hardware a fence would do.
/// ThreadSanitizer does not model fences, but it models a read-modify-write with a release and one
/// with an acquire.
pub(crate) struct StressMemory {
    /// A cache line for MSIs is behind it.
    ring: Vec<AtomicU64>,
    order: AtomicU64,
    pages: Vec<UnsafeCell<u64>>,
}

// SAFETY: each access to a page has an argument why no other thread accesses it.
unsafe impl Sync for StressMemory {}

impl StressMemory {
    pub(crate) fn new(slots: usize, callers: usize) -> Self {
        StressMemory {
            ring: (0..slots.max(4) * 2 + 8).map(|_| AtomicU64::new(0)).collect(),
            order: AtomicU64::new(0),
            pages: (0..callers * PAGES).map(|_| UnsafeCell::new(0)).collect(),
        }
    }

    /// The word for MSIs.
    pub(crate) fn msi(&self) -> &AtomicU64 {
        &self.ring[self.ring.len() - 8]
    }

    /// Orders every access before it before every access after it.
    pub(crate) fn release(&self) {
        self.order.fetch_add(1, Ordering::Release);
        fence(Ordering::SeqCst);
    }

    pub(crate) fn acquire(&self) {
        fence(Ordering::SeqCst);
        self.order.fetch_add(0, Ordering::Acquire);
    }

    /// Increment the counter of a page, by plain accesses.
    ///
    /// # Safety
    ///
    /// Only the SMMU may call this, while it carries out a command that names the page.
    pub(crate) unsafe fn touch(&self, caller: usize, page: usize) {
        // SAFETY: the caller of the command does not touch the page before its wait returns.
        unsafe { *self.pages[caller * PAGES + page].get() += 1 };
    }

    /// Take the counter of a page.
    ///
    /// # Safety
    ///
    /// The SMMU is done with every command that names the page.
    pub(crate) unsafe fn take(&self, caller: usize, page: usize) -> u64 {
        // SAFETY: only the caller of those commands uses the page now.
        unsafe { std::mem::take(&mut *self.pages[caller * PAGES + page].get()) }
    }
}

/// The ring of a [`StressMemory`].
pub(crate) struct StressRing<'m>(pub(crate) &'m StressMemory);

// SAFETY: the words stay in place while they are borrowed, and only the test's SMMU uses the
// address.
unsafe impl DmaBlock for StressRing<'_> {
    fn words(&self) -> &[AtomicU64] {
        &self.0.ring
    }

    fn address(&self) -> PhysAddr {
        PhysAddr(BASE)
    }

    fn publish(&self, _: Range<usize>) {
        self.0.release();
    }

    fn observe(&self, _: Range<usize>) {
        self.0.acquire();
    }
}
