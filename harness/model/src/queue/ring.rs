//! One circular queue, as its base register describes it.

use smmu_types::PhysAddr;
use smmu_types::queue::QueueSize;

/// The widest pointer of a queue, with its wrap flag.
const POINTER: u32 = 0x000f_ffff;

/// Address and size of one circular queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QueueRing {
    pub(crate) base: u64,
    pub(crate) size: QueueSize,
    entry: u64,
}

impl QueueRing {
    /// Decode a base register. `limit` is log2 of the SMMU's largest queue, and cuts the size.
    pub(crate) fn new(register: u64, limit: u8, entry: u64) -> Self {
        let log2 = (register & 0x1f).min(u64::from(limit)) as u8;
        // `Profile::bounded` keeps `limit` valid, so the fallback is never used.
        let size = QueueSize::from_log2(log2).unwrap_or(SMALLEST);
        QueueRing { base: register & 0x000f_ffff_ffff_ffe0, size, entry }
    }

    pub(crate) fn align(&self) -> u64 {
        (u64::from(self.size.entries()) * self.entry).max(32)
    }

    /// The ring with the bits of `base` below its alignment cleared, as the SMMU does.
    pub(crate) fn rounded_down(self) -> Self {
        QueueRing { base: self.base & !(self.align() - 1), ..self }
    }

    pub(crate) fn is_aligned(&self) -> bool {
        self.base & (self.align() - 1) == 0
    }

    pub(crate) fn slot(&self, pointer: u32) -> PhysAddr {
        let index = u64::from(pointer & (self.size.entries() - 1));
        PhysAddr(self.base + index * self.entry)
    }

    /// A `CONS` register as it reads: pointer bits above the wrap flag are zero.
    pub(crate) fn readable(&self, cons: u32) -> u32 {
        cons & !(POINTER & !self.size.pointer_mask())
    }

    pub(crate) fn after(&self, pointer: u32) -> u32 {
        pointer.wrapping_add(1) & self.size.pointer_mask()
    }
}

const SMALLEST: QueueSize = match QueueSize::from_log2(0) {
    Some(size) => size,
    None => unreachable!(),
};
