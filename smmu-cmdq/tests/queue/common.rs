//! A queue on the heap with a device behind it.

use smmu_cmdq::fake::{Consumer, Pace};
use smmu_cmdq::{CommandQueue, CompareExchange, QueueConfig, Reserve};
use smmu_types::fake::{HeapWindow, Pool, PoolBlock, heap_pool};
use smmu_types::queue::QueueSize;
use smmu_types::seam::{CountingWait, DmaMemory};
use smmu_types::{Asid, Command, RawCommand, SmmuId, Vmid};

pub(crate) type Queue<'a, S = CompareExchange, const CELLS: usize = 256> =
    CommandQueue<&'a Consumer, PoolBlock<HeapWindow>, CountingWait, S, CELLS>;

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
        self.queue_with(log2, QueueConfig::default())
    }

    pub(crate) fn queue_with<S: Reserve, const CELLS: usize>(
        &self,
        log2: u8,
        config: QueueConfig,
    ) -> Queue<'_, S, CELLS> {
        let size = QueueSize::from_log2(log2).unwrap();
        let block = self.pool.allocate(smmu_cmdq::layout(size, config.sync_by)).unwrap();
        let wait = CountingWait::new();
        let queue = Queue::reserving(SmmuId(0), &self.device, block, size, wait, config).unwrap();
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
