//! Memory that the CPU and the SMMU share.

use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use smmu_types::PhysAddr;
use smmu_types::pool::Window;
use smmu_types::seam::dma_barrier::{load_barrier, store_barrier};

const WORDS: usize = (4 << 20) / 8;

#[repr(C, align(4096))]
struct Words([AtomicU64; WORDS]);

static MEMORY: Words = Words([const { AtomicU64::new(0) }; WORDS]);
static TAKEN: AtomicBool = AtomicBool::new(false);

/// A static part of the image, at its own physical address.
#[derive(Debug)]
pub(crate) struct OwnMemory(());

impl OwnMemory {
    /// The memory. `None` if it is taken already.
    pub(crate) fn take() -> Option<Self> {
        (!TAKEN.swap(true, Ordering::Relaxed)).then_some(OwnMemory(()))
    }
}

// SAFETY: the words stay where they are for ever. Without an MMU they are at their physical address,
// which is a multiple of 4 KiB, and no cache is between the CPU and memory: the barriers suffice.
unsafe impl Window for OwnMemory {
    fn words(&self) -> &[AtomicU64] {
        &MEMORY.0
    }

    fn base(&self) -> PhysAddr {
        PhysAddr((&raw const MEMORY).addr() as u64)
    }

    fn publish(&self, _: Range<usize>) {
        store_barrier();
    }

    fn observe(&self, _: Range<usize>) {
        load_barrier();
    }
}
