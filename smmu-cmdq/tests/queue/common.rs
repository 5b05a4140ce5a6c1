//! A queue on the heap with a device behind it.

use parking_lot::RawMutex;
use smmu_cmdq::fake::{Consumer, Pace};
use smmu_cmdq::{CommandQueue, QueueConfig};
use smmu_types::fake::{HeapWindow, Pool, PoolBlock, heap_pool};
use smmu_types::queue::QueueSize;
use smmu_types::seam::{CountingWait, DmaMemory};
use smmu_types::{Asid, Command, RawCommand, SmmuId, Vmid};

pub(crate) type Queue<'a> =
    CommandQueue<&'a Consumer, PoolBlock<HeapWindow>, CountingWait, RawMutex>;

pub(crate) struct Machine {
    pool: Pool<HeapWindow>,
    pub(crate) device: Consumer,
}

impl Machine {
    pub(crate) fn new(pace: Pace) -> Self {
        let pool = heap_pool(0x1_0000);
        let device = Consumer::new(pool.window(), pace);
        Machine { pool, device }
    }

    pub(crate) fn queue(&self, log2: u8) -> Queue<'_> {
        let size = QueueSize::from_log2(log2).unwrap();
        let block = self.pool.allocate(Queue::layout(size)).unwrap();
        let wait = CountingWait::new();
        let queue =
            Queue::new(SmmuId(0), &self.device, block, size, wait, QueueConfig::default()).unwrap();
        self.device.enable(queue.base(), size);
        queue
    }
}

/// The `n`th of many different commands.
pub(crate) fn nth(n: u64) -> Command {
    Command::TlbiNhAsid { vmid: Vmid((n >> 16) as u16), asid: Asid(n as u16) }
}

/// A command that no SMMU knows.
pub(crate) fn illegal(n: u64) -> Command {
    Command::Unknown(RawCommand([n << 32 | 0xff, n]))
}
