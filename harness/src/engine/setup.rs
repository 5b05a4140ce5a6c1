//! From registers to a running SMMU.

use std::sync::Arc;

use smmu_attach::Smmu;
use smmu_cmdq::{CommandQueue, QueueConfig};
use smmu_hw_mmio::{Bringup, BringupConfig, BringupError, EventQueue, Interrupts, StreamTable};
use smmu_types::Capabilities;
use smmu_types::queue::QueueSize;
use smmu_types::seam::{DmaBlock, DmaMemory, SinkError, StdWait};

use super::platform::{Dma, Harness, Queue, Sink};
use super::rig::{Events, RigError};
use super::tap::Tap;

const QUEUE_LOG2: u8 = 8;

/// Registers, capabilities and name of one SMMU while it is set up.
pub(super) struct Part {
    pub(super) name: String,
    pub(super) tap: Tap,
    pub(super) caps: Capabilities,
    pub(super) smmu: Arc<Smmu<Harness>>,
}

fn queue_size(largest: u8) -> QueueSize {
    QueueSize::from_log2(QUEUE_LOG2.min(largest)).unwrap_or(SMALLEST)
}

const SMALLEST: QueueSize = match QueueSize::from_log2(0) {
    Some(size) => size,
    None => unreachable!(),
};

pub(super) fn make_queue(part: &Part, dma: &Dma) -> Result<Queue, RigError> {
    let size = queue_size(part.caps.cmdq_log2);
    let block = dma.allocate(Queue::layout(size))?;
    let config = QueueConfig::default();
    CommandQueue::new(part.smmu.id(), part.tap.clone(), block, size, StdWait::new(), config)
        .map_err(|error| RigError::Queue(part.name.clone(), error))
}

pub(super) fn bring_up(part: &Part, sink: &Sink, dma: &Dma) -> Result<Events, RigError> {
    let failed = |error: BringupError| match error {
        BringupError::Invalidate(error) => RigError::Sink(error),
        error => RigError::Bringup(part.name.clone(), error),
    };
    let events = |error| RigError::Events(part.name.clone(), error);
    let id = part.smmu.id();
    let queue = sink.queue(id).ok_or(SinkError::UnknownSmmu { smmu: id })?;
    let (address, format) = part.smmu.stream_table();
    let size = queue_size(part.caps.eventq_log2);
    let block = dma.allocate(Events::layout(size))?;
    let base = block.address();
    let wait = StdWait::new();
    let config = BringupConfig::new(&part.caps);
    Bringup::begin(&part.tap, &wait, config)
        .and_then(|smmu| smmu.set_tables(StreamTable { address, format }))
        .and_then(|smmu| smmu.enable_commands(queue.base(), queue.size()))
        .and_then(|smmu| smmu.invalidate_all(sink, id))
        .and_then(|smmu| smmu.enable_events(base, size))
        .and_then(|smmu| smmu.enable_interrupts(Interrupts::Wired))
        .and_then(|smmu| smmu.enable_translation())
        .map_err(failed)?;
    EventQueue::new(part.tap.clone(), block, size).map_err(events)
}
