//! A queue whose SMMU has carried everything out as soon as it is told of it.

use std::ops::Range;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use smmu_cmdq::{CommandQueue, Port, QueueConfig, Reserve, SyncBy};
use smmu_types::queue::QueueSize;
use smmu_types::seam::{DmaBlock, Registers, StdWait};
use smmu_types::{PhysAddr, SmmuId};

pub(crate) const LOG2: u8 = 10;
pub(crate) const ENTRIES: usize = 1 << LOG2;
pub(crate) const SIZE: QueueSize = match QueueSize::from_log2(LOG2) {
    Some(size) => size,
    None => unreachable!(),
};

/// Registers of an SMMU that has nothing left to do; each of those that are written is a line of its own.
#[derive(Default)]
pub(crate) struct Instant {
    producer: Line,
    others: Line,
}

#[derive(Default)]
#[repr(align(128))]
struct Line(AtomicU32);

impl Registers for Instant {
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

#[repr(align(64))]
/// With a cache line for MSIs behind it.
pub(crate) struct Ring([AtomicU64; 2 * ENTRIES + 8]);

impl Ring {
    /// One that lives on.
    pub(crate) fn new() -> Memory {
        Box::leak(Box::new(Ring([const { AtomicU64::new(0) }; 2 * ENTRIES + 8])))
    }
}

pub(crate) type Memory = &'static Ring;

// SAFETY: no SMMU knows the address.
unsafe impl DmaBlock for Memory {
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

pub(crate) type Queue<S> = CommandQueue<Instant, Memory, StdWait, S, ENTRIES>;

pub(crate) fn queue<S: Reserve>(sync_by: SyncBy) -> Option<Queue<S>> {
    let config = QueueConfig { sync_by, ..QueueConfig::default() };
    let (registers, memory) = (Instant::default(), Ring::new());
    Queue::reserving(SmmuId(0), registers, memory, SIZE, StdWait::new(), config).ok()
}
