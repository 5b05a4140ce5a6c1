//! The fixture of these tests: a queue on the heap, with a device behind it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use smmu_cmdq::fake::{Consumer, Pace};
use smmu_cmdq::{CommandQueue, Opcodes, Port, QueueConfig, SyncBy};
use smmu_types::fake::{HeapWindow, Pool, PoolBlock, heap_pool};
use smmu_types::pool::Window;
use smmu_types::queue::QueueSize;
use smmu_types::seam::{CountingWait, DmaBlock, DmaMemory, Registers, SinkError, Wait};
use smmu_types::{
    Asid, AtcScope, AtcSpan, Command, CommandErrorCode, PhysAddr, RawCommand, SmmuId, StreamId,
    Vmid,
};

/// The SMMU of every fixture.
pub(crate) const SMMU: SmmuId = SmmuId(0);

/// Waits count looks, and this one never ends: a thread that is not scheduled is no time-out.
pub(crate) const PATIENT: QueueConfig = QueueConfig {
    takes: Opcodes::ALL,
    timeout: Duration::from_secs(u64::MAX),
    sync_by: SyncBy::Polling,
    port: Port::MAIN,
    sync_every: None,
};

/// A queue with the fixture's memory, and with any registers and clock.
pub(crate) type QueueOn<R, W = CountingWait, const CELLS: usize = 256> =
    CommandQueue<R, PoolBlock<HeapWindow>, W, CELLS>;

/// A queue directly on the fixture's device.
pub(crate) type FixtureQueue<'f, const CELLS: usize = 256> =
    QueueOn<&'f Consumer, CountingWait, CELLS>;

/// A device, and memory that it reads.
pub(crate) struct QueueFixture {
    pool: Pool<HeapWindow>,
    pub(crate) device: Consumer,
}

impl QueueFixture {
    pub(crate) fn new(pace: Pace) -> Self {
        let pool = heap_pool(0x1_0000);
        let device = Consumer::new(pool.window(), pace);
        QueueFixture { pool, device }
    }

    /// The default queue.
    pub(crate) fn queue(&self, log2: u8) -> FixtureQueue<'_> {
        self.queue_with(log2, QueueConfig::default())
    }

    /// A queue with another configuration.
    pub(crate) fn queue_with(&self, log2: u8, config: QueueConfig) -> FixtureQueue<'_> {
        self.queue_of_cells(log2, config)
    }

    /// A queue with any number of cells.
    pub(crate) fn queue_of_cells<const CELLS: usize>(
        &self,
        log2: u8,
        config: QueueConfig,
    ) -> FixtureQueue<'_, CELLS> {
        self.queue_on_of_cells(&self.device, CountingWait::new(), log2, config)
    }

    /// A queue whose registers or clock stand between it and the device.
    pub(crate) fn queue_on<R: Registers, W: Wait>(
        &self,
        registers: R,
        wait: W,
        log2: u8,
        config: QueueConfig,
    ) -> QueueOn<R, W> {
        self.queue_on_of_cells(registers, wait, log2, config)
    }

    /// As `queue_on`, with any number of cells.
    pub(crate) fn queue_on_of_cells<R: Registers, W: Wait, const CELLS: usize>(
        &self,
        registers: R,
        wait: W,
        log2: u8,
        config: QueueConfig,
    ) -> QueueOn<R, W, CELLS> {
        self.queue_in(self.block(log2, config.sync_by), registers, wait, log2, config)
    }

    /// A queue in memory of the caller's, at an address that the device reads.
    pub(crate) fn queue_in<R: Registers, B: DmaBlock, W: Wait, const CELLS: usize>(
        &self,
        block: B,
        registers: R,
        wait: W,
        log2: u8,
        config: QueueConfig,
    ) -> CommandQueue<R, B, W, CELLS> {
        let size = size(log2);
        let queue = CommandQueue::with_cells(SMMU, registers, block, size, wait, config).unwrap();
        self.device.enable(queue.base(), size);
        queue
    }

    /// Memory for a queue.
    pub(crate) fn block(&self, log2: u8, sync_by: SyncBy) -> PoolBlock<HeapWindow> {
        self.pool.allocate(smmu_cmdq::layout(size(log2), sync_by)).unwrap()
    }

    /// Store 32 bits as the device does.
    pub(crate) fn store32(&self, address: PhysAddr, value: u32) {
        let at = (address.0 - self.pool.window().base().0) as usize;
        let shift = at % 8 * 8;
        let word = &self.pool.window().words()[at / 8];
        word.fetch_and(!(0xffff_ffff << shift), Ordering::Relaxed);
        word.fetch_or(u64::from(value) << shift, Ordering::Relaxed);
    }
}

pub(crate) fn size(log2: u8) -> QueueSize {
    QueueSize::from_log2(log2).unwrap()
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

/// The error for a waiter whose command the SMMU refused.
pub(crate) fn refused(command: Command, code: CommandErrorCode) -> SinkError {
    SinkError::Command { smmu: SMMU, command: command.encode(), code }
}
