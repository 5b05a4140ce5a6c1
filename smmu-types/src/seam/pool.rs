//! An allocator of DMA blocks over one window of memory.
//!
//! The window may be the heap (a model), memory shared with an emulator, or memory reserved for the
//! SMMU on a board. The allocator takes the first fit in whole cache lines. It is made for tables
//! and queues: few blocks that live long.
//!
//! 1. A pool that has a block for every line of its window still frees each of them without
//!    memory: `allocate` makes room for the free range that the block leaves.
//! 2. No call allocates while it holds the pool's lock, so the lock may mask interrupts.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::mem;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

use lock_api::{Mutex, MutexGuard, RawMutex};

use crate::PhysAddr;
use crate::seam::{DmaBlock, DmaError, DmaLayout, DmaMemory, dma_barrier};

/// A window of memory that the SMMU sees.
///
/// The provided methods suit memory that is coherent with the SMMU, on a platform whose SMMUs
/// observe the Outer Shareable domain: they are the barriers of
/// [`dma_barrier`](crate::seam::dma_barrier), `dmb osh` and its kin on AArch64. Replace them where
/// that does not suffice:
///
/// | memory | `publish` | `observe` |
/// |---|---|---|
/// | coherent, Normal Inner Shareable Write-Back | as provided | as provided |
/// | the SMMU does not snoop (`IDR0.COHACC` = 0) | `dc civac` for each line of the range, `dsb sy` | `dsb sy`, `dc civac` for each line, `dsb sy` |
/// | uncached (Normal Non-cacheable, Device) | as provided, or `dsb st` | as provided, or `dsb ld` |
///
/// On other architectures the provided methods are `SeqCst` fences.
///
/// # Safety
///
/// *Implementation safety.* `words` is the same memory on every call, for the whole life of the
/// value. The SMMU finds it at `base`, which is a multiple of `line_bytes`. Only the [`Pool`]
/// allocates from it. `publish`, `observe` and `full_barrier` keep the promises of [`DmaBlock`] and
/// [`DmaMemory`] for this memory and the SMMU.
#[expect(unsafe_code, reason = "the trait's promise is about what hardware does to memory")]
pub unsafe trait Window: Send + Sync {
    /// The memory.
    fn words(&self) -> &[AtomicU64];

    /// The physical address of the memory.
    fn base(&self) -> PhysAddr;

    /// The line in bytes by which `publish` and `observe` clean and invalidate: a power of two, at
    /// least 64.
    ///
    /// No two blocks share a line. Otherwise the cleaning of one block could write old words over
    /// those that the SMMU has stored in the other. A board takes the larger one of 64 and the
    /// line of `CTR_EL0.CWG`.
    fn line_bytes(&self) -> u64 {
        UNIT_BYTES
    }

    /// [`DmaBlock::publish`] of a block in this window. `words` are indices into
    /// [`words`](Self::words).
    fn publish(&self, words: Range<usize>) {
        let _ = words;
        dma_barrier::store_barrier();
    }

    /// [`DmaBlock::observe`] of a block in this window. `words` are indices into
    /// [`words`](Self::words).
    fn observe(&self, words: Range<usize>) {
        let _ = words;
        dma_barrier::load_barrier();
    }

    /// [`DmaMemory::full_barrier`].
    fn full_barrier(&self) {
        dma_barrier::full_barrier();
    }
}

const UNIT_BYTES: u64 = 64;

/// The lock of a [`Pool`] whose type names none.
#[cfg(feature = "std")]
pub type DefaultLock = parking_lot::RawMutex;

/// The free part of a window.
struct FreeUnits {
    // Sorted, disjoint, never empty and never adjacent: at most one more than there are blocks.
    ranges: Vec<Range<usize>>,
    blocks: usize,
}

struct PoolState<W, L> {
    window: W,
    unit_bytes: u64,
    free: Mutex<L, FreeUnits>,
}

macro_rules! pool_types {
    ($($default:tt)*) => {
        /// Blocks cut from a [`Window`], behind the integrator's lock `L`. Clones share the window.
        ///
        /// The pool holds the lock while it looks through the list of free ranges, and never while
        /// it allocates, zeroes a block or publishes it. An interrupt handler takes it if it drops
        /// the last reference to a device: then `L` masks interrupts.
        pub struct Pool<W, L $($default)*> {
            shared: Arc<PoolState<W, L>>,
        }

        /// A block of a [`Pool`].
        pub struct PoolBlock<W: Window, L: RawMutex $($default)*> {
            shared: Arc<PoolState<W, L>>,
            words: Range<usize>,
        }
    };
}

// A default only adds: code that names the lock compiles with and without `std`.
#[cfg(feature = "std")]
pool_types!(= DefaultLock);
#[cfg(not(feature = "std"))]
pool_types!();

impl<W, L> Clone for Pool<W, L> {
    fn clone(&self) -> Self {
        Pool { shared: Arc::clone(&self.shared) }
    }
}

#[cfg(feature = "std")]
impl<W: Window> Pool<W> {
    /// A pool whose whole window is free.
    pub fn new(window: W) -> Self {
        Self::with_lock(window)
    }
}

impl<W: Window, L: RawMutex> Pool<W, L> {
    /// As `new`, for any lock.
    pub fn with_lock(window: W) -> Self {
        let line = window.line_bytes().max(UNIT_BYTES);
        let unit_bytes = line.checked_next_power_of_two().unwrap_or(UNIT_BYTES);
        let units = window.words().len() / (unit_bytes / 8) as usize;
        let mut ranges = Vec::with_capacity(64);
        if units > 0 {
            ranges.push(0..units);
        }
        let free = Mutex::new(FreeUnits { ranges, blocks: 0 });
        Pool { shared: Arc::new(PoolState { window, unit_bytes, free }) }
    }

    /// The window.
    #[must_use]
    pub fn window(&self) -> &W {
        &self.shared.window
    }

    /// Bytes that are not allocated.
    #[must_use]
    pub fn free_bytes(&self) -> u64 {
        let free = self.shared.free.lock();
        free.ranges.iter().map(|range| range.len() as u64 * self.shared.unit_bytes).sum()
    }
}

impl<W: Window, L: RawMutex> fmt::Debug for Pool<W, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("base", &self.shared.window.base())
            .field("free_bytes", &self.free_bytes())
            .finish_non_exhaustive()
    }
}

impl<W, L: RawMutex> PoolState<W, L> {
    /// The free ranges, with room for one block more and for what it leaves. The list grows while
    /// the lock is free.
    fn lock_with_room(&self) -> Option<MutexGuard<'_, L, FreeUnits>> {
        loop {
            let free = self.free.lock();
            let need = free.blocks + 2;
            if free.ranges.capacity() >= need {
                return Some(free);
            }
            drop(free);
            let mut longer = Vec::new();
            longer.try_reserve_exact(need * 2).ok()?;
            let mut free = self.free.lock();
            if longer.capacity() > free.ranges.capacity() {
                longer.append(&mut free.ranges);
                mem::swap(&mut free.ranges, &mut longer);
            }
            // Before the old list goes.
            drop(free);
        }
    }
}

impl FreeUnits {
    /// Takes `units` at a multiple of `align` from the first range that has them. `base`: the
    /// address of the first unit.
    fn take(&mut self, units: usize, base: u64, align: u64, unit_bytes: u64) -> Option<usize> {
        for i in 0..self.ranges.len() {
            let range = self.ranges[i].clone();
            let begin = base + range.start as u64 * unit_bytes;
            let Some(aligned) = begin.checked_next_multiple_of(align) else { continue };
            let start = ((aligned - base).div_ceil(unit_bytes)) as usize;
            if !(aligned - base).is_multiple_of(unit_bytes) || start + units > range.end {
                continue;
            }
            let (before, after) = (range.start..start, start + units..range.end);
            match (before.is_empty(), after.is_empty()) {
                (true, true) => {
                    self.ranges.remove(i);
                }
                (true, false) => self.ranges[i] = after,
                (false, true) => self.ranges[i] = before,
                (false, false) => {
                    self.ranges[i] = before;
                    self.ranges.insert(i + 1, after);
                }
            }
            self.blocks += 1;
            return Some(start);
        }
        None
    }

    /// Gives the units of one block back.
    fn give_back(&mut self, units: Range<usize>) {
        let free = &mut self.ranges;
        let at = free.partition_point(|range| range.start < units.start);
        free.insert(at, units);
        if at + 1 < free.len() && free[at].end == free[at + 1].start {
            free[at].end = free[at + 1].end;
            free.remove(at + 1);
        }
        if at > 0 && free[at - 1].end == free[at].start {
            free[at - 1].end = free[at].end;
            free.remove(at);
        }
        self.blocks -= 1;
    }
}

#[expect(unsafe_code, reason = "passes the window's promise on")]
// SAFETY: each unit belongs to one block until the block is dropped, and is zeroed when it is
// allocated. Addresses follow from the window, whose implementor vouches for its base and barriers.
unsafe impl<W: Window, L: RawMutex + Send + Sync> DmaMemory for Pool<W, L> {
    type Block = PoolBlock<W, L>;

    fn allocate(&self, layout: DmaLayout) -> Result<PoolBlock<W, L>, DmaError> {
        let refused = DmaError { bytes: layout.bytes(), align: layout.align() };
        let PoolState { window, unit_bytes, .. } = &*self.shared;
        let units = layout.bytes().div_ceil(*unit_bytes) as usize;
        let mut free = self.shared.lock_with_room().ok_or(refused)?;
        let start = free.take(units, window.base().0, layout.align(), *unit_bytes);
        drop(free);
        let first = start.ok_or(refused)? * (*unit_bytes / 8) as usize;
        let shared = Arc::clone(&self.shared);
        let block = PoolBlock { shared, words: first..first + layout.words() };
        for word in block.words() {
            word.store(0, Ordering::Relaxed);
        }
        block.publish(0..layout.words());
        Ok(block)
    }

    fn full_barrier(&self) {
        self.shared.window.full_barrier();
    }
}

impl<W: Window, L: RawMutex> PoolBlock<W, L> {
    /// Indices of this block's words, as indices into the window's.
    fn in_window(&self, words: Range<usize>) -> Range<usize> {
        let at = |word: usize| self.words.start.saturating_add(word).min(self.words.end);
        at(words.start)..at(words.end)
    }
}

impl<W: Window, L: RawMutex> fmt::Debug for PoolBlock<W, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let base = PhysAddr(self.shared.window.base().0 + self.words.start as u64 * 8);
        f.debug_struct("PoolBlock")
            .field("address", &base)
            .field("words", &self.words.len())
            .finish_non_exhaustive()
    }
}

impl<W: Window, L: RawMutex> Drop for PoolBlock<W, L> {
    fn drop(&mut self) {
        let unit_words = (self.shared.unit_bytes / 8) as usize;
        let units = self.words.start / unit_words..self.words.end.div_ceil(unit_words);
        self.shared.free.lock().give_back(units);
    }
}

#[expect(unsafe_code, reason = "passes the window's promise on")]
// SAFETY: the range belongs to this block alone until it is dropped, and the window does not move
// while the block holds it. The window's implementor vouches for its barriers.
unsafe impl<W: Window, L: RawMutex + Send + Sync> DmaBlock for PoolBlock<W, L> {
    fn words(&self) -> &[AtomicU64] {
        &self.shared.window.words()[self.words.clone()]
    }

    fn address(&self) -> PhysAddr {
        PhysAddr(self.shared.window.base().0 + self.words.start as u64 * 8)
    }

    fn publish(&self, words: Range<usize>) {
        self.shared.window.publish(self.in_window(words));
    }

    fn observe(&self, words: Range<usize>) {
        self.shared.window.observe(self.in_window(words));
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
