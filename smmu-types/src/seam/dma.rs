//! The seam to memory that the SMMU reads and writes.

use core::ops::Range;
use core::sync::atomic::AtomicU64;

use crate::PhysAddr;

/// Size and alignment of a block of DMA memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DmaLayout {
    bytes: u64,
    align: u64,
}

impl DmaLayout {
    /// A block of `bytes`, rounded up to whole 64-bit words, whose address is a multiple of
    /// `align`.
    ///
    /// `None` when `bytes` is 0 or `align` is not a power of two.
    #[must_use]
    pub const fn new(bytes: u64, align: u64) -> Option<Self> {
        if bytes == 0 || !align.is_power_of_two() || bytes > u64::MAX - 7 {
            return None;
        }
        let align = if align < 8 { 8 } else { align };
        Some(DmaLayout { bytes: (bytes + 7) & !7, align })
    }

    /// A block aligned to its own size, rounded up to a power of two and at least to 64 bytes. The
    /// architecture requires this of queues and tables.
    #[must_use]
    pub const fn naturally_aligned(bytes: u64) -> Option<Self> {
        match bytes.checked_next_power_of_two() {
            Some(align) => Self::new(bytes, if align < 64 { 64 } else { align }),
            None => None,
        }
    }

    /// Bytes, a multiple of 8.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.bytes
    }

    /// Alignment in bytes, at least 8.
    #[must_use]
    pub const fn align(self) -> u64 {
        self.align
    }

    /// Number of 64-bit words.
    #[must_use]
    pub const fn words(self) -> usize {
        (self.bytes / 8) as usize
    }
}

/// The allocator has no such block of DMA memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no DMA memory for {bytes:#x} bytes aligned to {align:#x}")]
pub struct DmaError {
    /// Bytes asked for.
    pub bytes: u64,
    /// Alignment asked for.
    pub align: u64,
}

/// Memory that the SMMU can read and write.
///
/// # Safety
///
/// *Implementation safety.* A block is zeroed, and belongs to the caller alone until the caller
/// drops it. Its physical address is where the SMMU finds exactly its words. With a wrong address
/// the SMMU reads tables from, and writes events to, memory of another owner.
#[expect(unsafe_code, reason = "the trait's promise is about what hardware does to memory")]
pub unsafe trait DmaMemory {
    /// A block. Dropping it returns the memory.
    type Block: DmaBlock;

    /// Allocates a zeroed block. The zeroes are visible to the device.
    fn allocate(&self, layout: DmaLayout) -> Result<Self::Block, DmaError>;

    /// A full barrier: every load and store of this thread before the call comes before every later
    /// one, as the CPUs *and the SMMU* see them.
    ///
    /// The SMMU walks a table that a CPU has changed: a Rust fence need not order that store for
    /// it. [`dma_barrier::full_barrier`](super::dma_barrier::full_barrier) does, on platforms
    /// whose SMMUs observe the Outer Shareable domain.
    fn full_barrier(&self);
}

/// One block of DMA memory.
///
/// # Safety
///
/// *Implementation safety.* `words` is the same memory for the whole life of the block, with the
/// alignment of its [`DmaLayout`]. `address` is its address as the SMMU sees it.
///
/// *Ordering.* The SMMU is an observer outside the CPUs' Inner Shareable domain, so a compiler
/// fence or a `dmb ish` may not reach it. The driver orders memory against the device only through
/// [`publish`](DmaBlock::publish) and [`observe`](DmaBlock::observe), and with
/// [`DmaMemory::full_barrier`]. On AArch64 they are at least the barriers of
/// [`dma_barrier`](super::dma_barrier), and `dsb` if a `dmb` does not order the MMIO access that
/// follows.
/// For an SMMU that does not snoop caches (`IDR0.COHACC` = 0) they also clean and invalidate the
/// range.
#[expect(unsafe_code, reason = "the trait's promise is about what hardware does to memory")]
pub unsafe trait DmaBlock: Send + Sync {
    /// The block, as 64-bit words that the device may change at any time.
    ///
    /// The crates of this workspace only load and store these words: no swap, no compare-exchange,
    /// no `fetch_*`. So the memory may be mapped uncached (Normal Non-cacheable, or Device as
    /// `/dev/mem` gives it), where the architecture does not guarantee an atomic read-modify-write.
    fn words(&self) -> &[AtomicU64];

    /// The physical address of the block.
    fn address(&self) -> PhysAddr;

    /// Makes every earlier store to `words` visible to the device before any later store of this
    /// thread, to memory or to a register. `words` are indices into [`words`](DmaBlock::words).
    ///
    /// The barrier orders *all* earlier stores of the thread. The range only says which cache lines
    /// may need cleaning.
    fn publish(&self, words: Range<usize>);

    /// Makes every later load of `words` see at least what the device had stored when this thread's
    /// last register read returned. It also keeps every earlier load before every later store.
    fn observe(&self, words: Range<usize>);
}
