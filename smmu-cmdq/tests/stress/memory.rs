//! What callers and SMMU share: a ring, and pages.

use std::cell::UnsafeCell;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use smmu_types::PhysAddr;
use smmu_types::seam::DmaBlock;

pub(crate) const BASE: u64 = 0x8000_0000;
/// Pages of one caller, and so tickets that it holds at once.
pub(crate) const PAGES: usize = 12;

/// Memory, and the one order that there is between it and registers.
///
/// Registers are relaxed atomics, so that nothing but these two orders anything. A fence would do on hardware, but
/// ThreadSanitizer does not know what a fence orders; it knows what a read-modify-write with a release and one with an
/// acquire order.
pub(crate) struct Memory {
    /// With a cache line for MSIs behind it.
    ring: Vec<AtomicU64>,
    order: AtomicU64,
    pages: Vec<UnsafeCell<u64>>,
}

// SAFETY: whoever touches a page says why nobody else does.
unsafe impl Sync for Memory {}

impl Memory {
    pub(crate) fn new(slots: usize, callers: usize) -> Self {
        Memory {
            ring: (0..slots.max(4) * 2 + 8).map(|_| AtomicU64::new(0)).collect(),
            order: AtomicU64::new(0),
            pages: (0..callers * PAGES).map(|_| UnsafeCell::new(0)).collect(),
        }
    }

    /// Where MSIs are written.
    pub(crate) fn msi(&self) -> &AtomicU64 {
        &self.ring[self.ring.len() - 8]
    }

    /// Everything before, before everything that follows.
    pub(crate) fn release(&self) {
        self.order.fetch_add(1, Ordering::Release);
        fence(Ordering::SeqCst);
    }

    pub(crate) fn acquire(&self) {
        fence(Ordering::SeqCst);
        self.order.fetch_add(0, Ordering::Acquire);
    }

    /// Count one up on a page, as plain memory.
    ///
    /// # Safety
    ///
    /// Only the SMMU calls it, when it carries a command out that names the page.
    pub(crate) unsafe fn touch(&self, caller: usize, page: usize) {
        // SAFETY: the caller of the command leaves the page alone until it is told.
        unsafe { *self.pages[caller * PAGES + page].get() += 1 };
    }

    /// How often a page was touched; and from now on, never.
    ///
    /// # Safety
    ///
    /// All commands that name the page have been proven.
    pub(crate) unsafe fn take(&self, caller: usize, page: usize) -> u64 {
        // SAFETY: nobody but their caller has the page.
        unsafe { std::mem::take(&mut *self.pages[caller * PAGES + page].get()) }
    }
}

/// The ring of a [`Memory`].
pub(crate) struct Ring<'m>(pub(crate) &'m Memory);

// SAFETY: the words are the same for as long as they are borrowed, and only the model's SMMU knows the address.
unsafe impl DmaBlock for Ring<'_> {
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
