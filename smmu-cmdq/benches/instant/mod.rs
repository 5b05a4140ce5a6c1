//! A queue on an SMMU that consumes each command at the write of `CMDQ_PROD`.

use std::ops::Range;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use smmu_cmdq::{CommandQueue, Port, QueueConfig, SyncBy};
use smmu_types::queue::QueueSize;
use smmu_types::seam::{DmaBlock, Registers, StdWait};
use smmu_types::{PhysAddr, SmmuId};

pub(crate) const LOG2: u8 = 10;
pub(crate) const ENTRIES: usize = 1 << LOG2;
pub(crate) const SIZE: QueueSize = match QueueSize::from_log2(LOG2) {
    Some(size) => size,
    None => unreachable!(),
};

/// Registers of an SMMU that has consumed everything: `CMDQ_CONS` reads as `CMDQ_PROD`.
///
/// `CMDQ_PROD` has a cache line of its own.
#[derive(Default)]
pub(crate) struct InstantSmmu {
    producer: RegisterLine,
    others: RegisterLine,
}

#[derive(Default)]
#[repr(align(128))]
struct RegisterLine(AtomicU32);

impl Registers for InstantSmmu {
    #[inline]
    fn read32(&self, offset: u32) -> u32 {
        match offset == Port::MAIN.consumer || offset == Port::MAIN.producer {
            true => self.producer.0.load(Ordering::Relaxed),
            false => self.others.0.load(Ordering::Relaxed),
        }
    }
    #[inline]
    fn write32(&self, offset: u32, value: u32) {
        if offset == Port::MAIN.producer {
            self.producer.0.store(value, Ordering::Relaxed);
        }
    }
    fn read64(&self, offset: u32) -> u64 {
        self.read32(offset).into()
    }
    fn write64(&self, offset: u32, value: u64) {
        self.write32(offset, value as u32);
    }
}

/// A ring, and a cache line for MSIs behind it.
#[repr(align(64))]
pub(crate) struct BenchRing([AtomicU64; 2 * ENTRIES + 8]);

impl BenchRing {
    /// A ring that is never freed, so that no measurement contains its end.
    pub(crate) fn new() -> BenchMemory {
        Box::leak(Box::new(BenchRing([const { AtomicU64::new(0) }; 2 * ENTRIES + 8])))
    }
}

pub(crate) type BenchMemory = &'static BenchRing;

// SAFETY: no device accesses the address. The words stay in place, since the ring is never freed.
unsafe impl DmaBlock for BenchMemory {
    fn words(&self) -> &[AtomicU64] {
        &self.0
    }
    fn address(&self) -> PhysAddr {
        PhysAddr(0x8000_0000)
    }
    fn publish(&self, _: Range<usize>) {
        fence(Ordering::Release);
    }
    fn observe(&self, _: Range<usize>) {
        fence(Ordering::Acquire);
    }
}

pub(crate) type BenchQueue = CommandQueue<InstantSmmu, BenchMemory, StdWait>;

pub(crate) fn queue(sync_by: SyncBy) -> Option<BenchQueue> {
    let config = QueueConfig { sync_by, ..QueueConfig::default() };
    let (registers, memory) = (InstantSmmu::default(), BenchRing::new());
    BenchQueue::new(SmmuId(0), registers, memory, SIZE, StdWait::new(), config).ok()
}
