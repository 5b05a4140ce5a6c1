//! An allocator of DMA blocks over one window of memory.
//!
//! The window may be the heap (a model), memory shared with an emulator, or memory reserved for the
//! SMMU on a board. The allocator takes the first fit in units of 64 bytes. It is made for tables
//! and queues: few blocks that live long.

use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::vec::Vec;

use crate::PhysAddr;
use crate::seam::dma_barrier::{full_barrier, load_barrier, store_barrier};
use crate::seam::{DmaBlock, DmaError, DmaLayout, DmaMemory};

/// A window of memory that the SMMU sees.
///
/// # Safety
///
/// *Implementation safety.* `words` is the same memory on every call, for the whole life of the
/// value. The SMMU finds it at `base`, which is aligned to 64 bytes. It is cache-coherent with the
/// SMMU. Only the [`Pool`] allocates from it.
#[expect(unsafe_code, reason = "the trait's promise is about what hardware does to memory")]
pub unsafe trait Window: Send + Sync {
    /// The memory.
    fn words(&self) -> &[AtomicU64];
    /// The physical address of the memory.
    fn base(&self) -> PhysAddr;
}

const UNIT_WORDS: usize = 8;
const UNIT_BYTES: u64 = 64;

#[derive(Debug)]
struct PoolState<W> {
    window: W,
    // Sorted, disjoint, never empty and never adjacent ranges of units.
    free: Mutex<Vec<Range<usize>>>,
}

/// Blocks cut from a [`Window`]. Clones share the window.
#[derive(Debug)]
pub struct Pool<W> {
    shared: Arc<PoolState<W>>,
}

impl<W> Clone for Pool<W> {
    fn clone(&self) -> Self {
        Pool { shared: Arc::clone(&self.shared) }
    }
}

impl<W: Window> Pool<W> {
    /// A pool whose whole window is free.
    pub fn new(window: W) -> Self {
        let units = window.words().len() / UNIT_WORDS;
        let mut free = Vec::with_capacity(64);
        if units > 0 {
            free.push(0..units);
        }
        Pool { shared: Arc::new(PoolState { window, free: Mutex::new(free) }) }
    }

    /// The window.
    #[must_use]
    pub fn window(&self) -> &W {
        &self.shared.window
    }

    /// Bytes that are not allocated.
    #[must_use]
    pub fn free_bytes(&self) -> u64 {
        self.shared.lock().iter().map(|r| r.len() as u64 * UNIT_BYTES).sum()
    }
}

impl<W> PoolState<W> {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Range<usize>>> {
        // The list is never left half changed, so a panic elsewhere does not spoil it.
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[expect(unsafe_code, reason = "passes the window's promise on")]
// SAFETY: each unit belongs to one block until the block is dropped, and is zeroed when it is
// allocated. Addresses follow from the window, whose implementor vouches for its base.
unsafe impl<W: Window> DmaMemory for Pool<W> {
    type Block = PoolBlock<W>;

    fn allocate(&self, layout: DmaLayout) -> Result<PoolBlock<W>, DmaError> {
        let refused = DmaError { bytes: layout.bytes(), align: layout.align() };
        let base = self.shared.window.base().0;
        let units = layout.bytes().div_ceil(UNIT_BYTES) as usize;
        let mut free = self.shared.lock();
        // Reserve first: cutting a range in two needs one more place in the list.
        free.try_reserve(1).map_err(|_| refused)?;
        for i in 0..free.len() {
            let range = free[i].clone();
            let begin = base + range.start as u64 * UNIT_BYTES;
            let Some(aligned) = begin.checked_next_multiple_of(layout.align()) else { continue };
            let start = ((aligned - base).div_ceil(UNIT_BYTES)) as usize;
            if !(aligned - base).is_multiple_of(UNIT_BYTES) || start + units > range.end {
                continue;
            }
            let (before, after) = (range.start..start, start + units..range.end);
            match (before.is_empty(), after.is_empty()) {
                (true, true) => {
                    free.remove(i);
                }
                (true, false) => free[i] = after,
                (false, true) => free[i] = before,
                (false, false) => {
                    free[i] = before;
                    free.insert(i + 1, after);
                }
            }
            drop(free);
            let block = PoolBlock {
                shared: Arc::clone(&self.shared),
                words: start * UNIT_WORDS..start * UNIT_WORDS + layout.words(),
            };
            for word in block.words() {
                word.store(0, Ordering::Relaxed);
            }
            block.publish(0..layout.words());
            return Ok(block);
        }
        Err(refused)
    }

    fn full_barrier(&self) {
        full_barrier();
    }
}

/// A block of a [`Pool`].
#[derive(Debug)]
pub struct PoolBlock<W> {
    shared: Arc<PoolState<W>>,
    words: Range<usize>,
}

impl<W> Drop for PoolBlock<W> {
    fn drop(&mut self) {
        let units = self.words.start / UNIT_WORDS..self.words.end.div_ceil(UNIT_WORDS);
        let mut free = self.shared.lock();
        let at = free.partition_point(|r| r.start < units.start);
        free.insert(at, units);
        if at + 1 < free.len() && free[at].end == free[at + 1].start {
            free[at].end = free[at + 1].end;
            free.remove(at + 1);
        }
        if at > 0 && free[at - 1].end == free[at].start {
            free[at - 1].end = free[at].end;
            free.remove(at);
        }
    }
}

#[expect(unsafe_code, reason = "passes the window's promise on")]
// SAFETY: the range belongs to this block alone until it is dropped, and the window does not move
// while the block holds it. A window is coherent, so `publish` and `observe` owe only ordering.
unsafe impl<W: Window> DmaBlock for PoolBlock<W> {
    fn words(&self) -> &[AtomicU64] {
        &self.shared.window.words()[self.words.clone()]
    }

    fn address(&self) -> PhysAddr {
        PhysAddr(self.shared.window.base().0 + self.words.start as u64 * 8)
    }

    fn publish(&self, _words: Range<usize>) {
        store_barrier();
    }

    fn observe(&self, _words: Range<usize>) {
        load_barrier();
    }
}

/// A window on the heap, for models and tests. Clones share the memory.
#[derive(Clone, Debug)]
pub struct HeapWindow {
    words: Arc<[AtomicU64]>,
    base: PhysAddr,
}

impl HeapWindow {
    /// `bytes` of zeroes. A model finds them at `base`.
    #[must_use]
    pub fn new(base: PhysAddr, bytes: usize) -> Self {
        HeapWindow { words: (0..bytes / 8).map(|_| AtomicU64::new(0)).collect(), base }
    }

    /// The same memory, for the model.
    #[must_use]
    pub fn share(&self) -> Arc<[AtomicU64]> {
        Arc::clone(&self.words)
    }
}

#[expect(unsafe_code, reason = "implements the promise for the heap")]
// SAFETY: the slice does not move while the `Arc` lives. The SMMU is software on this host with the
// same slice; alignment matters only in the address space of that software.
unsafe impl Window for HeapWindow {
    fn words(&self) -> &[AtomicU64] {
        &self.words
    }
    fn base(&self) -> PhysAddr {
        self.base
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(bytes: usize) -> Pool<HeapWindow> {
        Pool::new(HeapWindow::new(PhysAddr(0x4000_0000), bytes))
    }

    #[test]
    fn aligns_zeroes_and_merges_again() {
        let pool = pool(0x10000);
        let all = pool.free_bytes();
        let small = pool.allocate(DmaLayout::new(8, 8).unwrap()).unwrap();
        let table = pool.allocate(DmaLayout::naturally_aligned(0x4000).unwrap()).unwrap();
        assert_eq!(table.address().0 % 0x4000, 0);
        assert_eq!(table.words().len(), 0x800);
        table.words()[5].store(7, Ordering::Relaxed);
        drop(table);
        drop(small);
        assert_eq!(pool.free_bytes(), all);
        let again = pool.allocate(DmaLayout::naturally_aligned(0x10000).unwrap()).unwrap();
        assert!(again.words().iter().all(|w| w.load(Ordering::Relaxed) == 0));
    }

    #[test]
    fn blocks_are_disjoint_and_exhaustion_is_an_error() {
        let pool = pool(0x1000);
        let layout = DmaLayout::new(0x100, 0x100).unwrap();
        let mut blocks = Vec::new();
        while let Ok(block) = pool.allocate(layout) {
            blocks.push(block);
        }
        assert_eq!(blocks.len(), 16);
        let mut addresses: Vec<u64> = blocks.iter().map(|b| b.address().0).collect();
        addresses.dedup();
        assert_eq!(addresses.len(), 16);
        assert_eq!(pool.allocate(layout).map(|_| ()), Err(DmaError { bytes: 0x100, align: 0x100 }));
        blocks.remove(3);
        assert!(pool.allocate(layout).is_ok());
    }

    #[test]
    fn layouts_that_make_no_sense_are_refused() {
        assert_eq!(DmaLayout::new(0, 8), None);
        assert_eq!(DmaLayout::new(8, 3), None);
        assert_eq!(DmaLayout::new(u64::MAX, 8), None);
        assert_eq!(DmaLayout::naturally_aligned(u64::MAX), None);
    }
}
