//! RAM for the structures of SMMUs and for DMA: a [`Window`] for a [`Pool`], coherent or not.
//!
//! [`Pool`]: smmu_types::pool::Pool

use core::arch::asm;
use core::ops::Range;
use core::ptr::NonNull;
use core::slice;
use core::sync::atomic::AtomicU64;

use smmu_hw_mmio::Coherency;
use smmu_types::PhysAddr;
use smmu_types::pool::Window;
use smmu_types::seam::dma_barrier::{full_barrier, load_barrier, store_barrier};

use crate::machine::Region;

const SMALLEST_LINE: u64 = 64;

/// RAM that the CPU and the SMMU share.
#[derive(Debug)]
pub struct RamWindow {
    words: NonNull<AtomicU64>,
    count: usize,
    /// The address that the SMMU uses.
    base: u64,
    coherency: Coherency,
    /// The unit of allocation, and the step of cache maintenance.
    unit_bytes: u64,
    clean_bytes: usize,
}

// SAFETY: the window is memory of atomic words, which any thread may access.
unsafe impl Send for RamWindow {}
// SAFETY: as for Send.
unsafe impl Sync for RamWindow {}

impl RamWindow {
    /// The window over `memory`, which the CPU has at its own address.
    ///
    /// `coherency` is that of all SMMUs which use it: [`Coherency::NonCoherent`] if one of them
    /// does not snoop.
    ///
    /// # Safety
    ///
    /// `memory` is RAM, mapped at its own address as Normal Inner Shareable Write-Back memory for
    /// ever. Only this window uses it.
    #[must_use]
    pub unsafe fn new(memory: Region, coherency: Coherency) -> Self {
        // SAFETY: as the caller promises.
        unsafe { Self::mapped(memory, memory.base as *mut u8, coherency) }
    }

    /// The window over `memory`, cut to whole lines of the cache. The CPU has its first byte at
    /// `at`, and the SMMU at the address of `memory`.
    ///
    /// # Safety
    ///
    /// `memory` is RAM, mapped from `at` on as Normal Inner Shareable Write-Back memory for ever.
    /// Its physical addresses stay the same. Only this window uses it.
    #[must_use]
    pub unsafe fn mapped(memory: Region, at: *mut u8, coherency: Coherency) -> Self {
        let (clean_bytes, granule) = lines();
        let unit_bytes = granule.max(SMALLEST_LINE);
        let base = memory.base.next_multiple_of(unit_bytes);
        let bytes = memory.end().saturating_sub(base) / unit_bytes * unit_bytes;
        let words = at.wrapping_add((base - memory.base) as usize).cast();
        let words = NonNull::new(words).unwrap_or(NonNull::dangling());
        RamWindow { words, count: (bytes / 8) as usize, base, coherency, unit_bytes, clean_bytes }
    }

    /// Whether the SMMUs of this window snoop.
    #[must_use]
    pub const fn coherency(&self) -> Coherency {
        self.coherency
    }

    /// Writes the lines of these words back to memory, and drops them from the caches.
    fn clean_invalidate(&self, words: Range<usize>) {
        let base = self.words.as_ptr().addr();
        let (from, to) = (base + words.start * 8, base + words.end.min(self.count) * 8);
        for line in (from / self.clean_bytes * self.clean_bytes..to).step_by(self.clean_bytes) {
            // SAFETY: the line is part of the window, or of a line that the window shares with no
            // other owner. The instruction changes no value that a CPU reads.
            unsafe { asm!("dc civac, {}", in(reg) line, options(nostack, preserves_flags)) };
        }
        data_barrier();
    }
}

/// Bytes of the smallest line of a data cache, and of the largest line that a write-back may touch.
fn lines() -> (usize, u64) {
    let ctr: u64;
    // SAFETY: reads an ID register, which every exception level may read.
    unsafe { asm!("mrs {}, ctr_el0", out(reg) ctr, options(nomem, nostack, preserves_flags)) };
    let bytes = |log2_words: u64| 4u64 << log2_words;
    let smallest = bytes(ctr >> 16 & 0xf);
    // CWG = 0 gives no information: then 2 KiB is the architecture's largest.
    let granule = match ctr >> 24 & 0xf {
        0 => 2048,
        log2_words => bytes(log2_words),
    };
    (smallest as usize, granule.max(smallest))
}

/// Waits until every earlier access and cache maintenance of this CPU is complete, for all
/// observers.
fn data_barrier() {
    // SAFETY: a barrier changes nothing. Without `nomem` no access moves across it.
    unsafe { asm!("dsb sy", options(nostack, preserves_flags)) };
}

// SAFETY: the words stay where they are for ever, and are RAM at the physical address `base`, which
// is aligned to the line. With `Coherent` the barriers of `dma_barrier` suffice. Otherwise each
// range is cleaned to memory before the device reads it, and dropped before the CPU reads it.
unsafe impl Window for RamWindow {
    fn words(&self) -> &[AtomicU64] {
        // SAFETY: the caller of `new` promised the memory, and that nothing else uses it.
        unsafe { slice::from_raw_parts(self.words.as_ptr(), self.count) }
    }

    fn base(&self) -> PhysAddr {
        PhysAddr(self.base)
    }

    fn line_bytes(&self) -> u64 {
        self.unit_bytes
    }

    fn publish(&self, words: Range<usize>) {
        match self.coherency {
            Coherency::Coherent => store_barrier(),
            Coherency::NonCoherent => {
                full_barrier();
                self.clean_invalidate(words);
            }
        }
    }

    fn observe(&self, words: Range<usize>) {
        match self.coherency {
            Coherency::Coherent => load_barrier(),
            Coherency::NonCoherent => {
                data_barrier();
                self.clean_invalidate(words);
            }
        }
    }
}
