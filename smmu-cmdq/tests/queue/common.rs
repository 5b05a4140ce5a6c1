//! A queue on the heap with a device behind it.

use std::sync::atomic::Ordering;

use smmu_cmdq::fake::{Consumer, Pace};
use smmu_cmdq::{CommandQueue, CompareExchange, QueueConfig, Reserve, SyncBy};
use smmu_types::fake::{HeapWindow, Pool, PoolBlock, heap_pool};
use smmu_types::pool::Window;
use smmu_types::queue::QueueSize;
use smmu_types::seam::{CountingWait, DmaMemory, Registers, SinkError, Wait};
use smmu_types::{
    Asid, AtcScope, AtcSpan, Command, CommandErrorCode, PhysAddr, RawCommand, SmmuId, StreamId,
    Vmid,
};

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
        self.queue_through(&self.device, CountingWait::new(), log2, config)
    }

    /// A queue whose way to the device leads through something else.
    pub(crate) fn queue_through<R: Registers, W: Wait, S: Reserve, const CELLS: usize>(
        &self,
        registers: R,
        wait: W,
        log2: u8,
        config: QueueConfig,
    ) -> CommandQueue<R, PoolBlock<HeapWindow>, W, S, CELLS> {
        let size = QueueSize::from_log2(log2).unwrap();
        let block = self.block(log2, config.sync_by);
        let queue =
            CommandQueue::reserving(SmmuId(0), registers, block, size, wait, config).unwrap();
        self.device.enable(queue.base(), size);
        queue
    }

    /// Memory for a queue.
    pub(crate) fn block(&self, log2: u8, sync_by: SyncBy) -> PoolBlock<HeapWindow> {
        let size = QueueSize::from_log2(log2).unwrap();
        self.pool.allocate(smmu_cmdq::layout(size, sync_by)).unwrap()
    }

    /// Write as the device does.
    pub(crate) fn store32(&self, address: PhysAddr, value: u32) {
        let at = (address.0 - self.pool.window().base().0) as usize;
        let shift = at % 8 * 8;
        let word = &self.pool.window().words()[at / 8];
        word.fetch_and(!(0xffff_ffff << shift), Ordering::Relaxed);
        word.fetch_or(u64::from(value) << shift, Ordering::Relaxed);
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

/// An ATC invalidation.
pub(crate) fn atc() -> Command {
    let (scope, span) = (AtcScope::Substream, AtcSpan::EVERYTHING);
    Command::AtcInv { stream: StreamId(8), substream: None, scope, span }
}

pub(crate) fn refused(command: Command, code: CommandErrorCode) -> SinkError {
    SinkError::Command { smmu: SmmuId(0), command: command.encode(), code }
}
