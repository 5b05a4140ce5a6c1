//! From registers to a running SMMU.

use std::sync::Arc;

use smmu_driver::smmu_attach::Smmu;
use smmu_driver::smmu_cmdq::{CommandQueue, Port, QueueConfig, QueueGroup, SyncBy};
use smmu_driver::smmu_hw_mmio::{
    Bringup, BringupConfig, BringupError, EventQueue, Interrupts, Probe, StreamTableBase,
};
use smmu_driver::smmu_types::queue::QueueSize;
use smmu_driver::smmu_types::seam::{DmaBlock, DmaMemory, Registers, SinkError, TimedOut, poll};
use smmu_driver::smmu_types::{Capabilities, Command, MsiAttributes};

use super::platform::{Dma, Harness, Sink};
use super::queues::{Group, Queue, takes, the_second};
use super::rig::{Events, RigError};
use super::tap::Tap;
use crate::machine::Clock;
use crate::machine::SecondQueueKind;
use crate::scenario::{SmmuSpec, SyncMethod as Completion};
use smmu_driver::smmu_types::regs::vcmdq;

const QUEUE_LOG2: u8 = 8;

/// Registers, capabilities and name of one SMMU while it is set up.
pub(super) struct Part {
    pub(super) name: String,
    pub(super) tap: Tap,
    pub(super) caps: Capabilities,
    pub(super) smmu: Arc<Smmu<Harness>>,
    pub(super) clock: Clock,
    /// log2 of the entries of its command queue, where the scenario has a wish.
    pub(super) queue_log2: Option<u8>,
    pub(super) config: QueueConfig,
    pub(super) second: Option<(Tap, SecondQueueKind)>,
}

/// What a scenario says of the driver's command queue, and what the SMMU needs.
pub(super) fn queue_config(spec: &SmmuSpec, probed: &Probe) -> QueueConfig {
    let sync_by = match spec.completion() {
        Completion::Polling => SyncBy::Polling,
        Completion::Event => SyncBy::Event,
        Completion::Msi => SyncBy::Msi(MsiAttributes::WRITE_BACK),
    };
    let suited = QueueConfig::suited_to(&probed.caps, probed.quirks);
    QueueConfig { timeout: spec.timeout(), sync_by, ..suited }
}

fn queue_size(wanted: u8, largest: u8) -> QueueSize {
    QueueSize::from_log2(wanted.min(largest)).unwrap_or(SMALLEST)
}

const SMALLEST: QueueSize = match QueueSize::from_log2(0) {
    Some(size) => size,
    None => unreachable!(),
};

/// The queues of an SMMU: the main one, and the second where the scenario has it.
pub(super) fn make_queues(part: &Part, dma: &Dma) -> Result<Group, RigError> {
    let mut queues = vec![queue_on(part, part.tap.clone(), part.config, dma)?];
    if let Some((tap, kind)) = &part.second {
        queues.push(make_second(part, tap, *kind, dma)?);
    }
    QueueGroup::new(queues, the_second as fn(&[Command]) -> usize)
        .map_err(|error| RigError::Queue(part.name.clone(), error))
}

/// The second queue of an SMMU, enabled.
///
/// It is a virtual queue of Tegra241's CMDQV, as the model has it: neither MSIs nor events, so that its `CMD_SYNC` is
/// polled for.
fn make_second(
    part: &Part,
    tap: &Tap,
    kind: SecondQueueKind,
    dma: &Dma,
) -> Result<Queue, RigError> {
    let (sync_by, port, takes) = (SyncBy::Polling, Port::vcmdq(0), takes(kind));
    let config = QueueConfig { sync_by, port, takes, ..part.config };
    let queue = queue_on(part, tap.clone(), config, dma)?;
    tap.write64(vcmdq::BASE, queue.base().0 | u64::from(queue.size().log2()));
    tap.write32(vcmdq::CONS, 0);
    tap.write32(vcmdq::PROD, 0);
    tap.write32(vcmdq::CONFIG, vcmdq::ENABLE);
    let enabled = || (tap.read32(vcmdq::STATUS) & vcmdq::ENABLE != 0).then_some(());
    let never = |error: TimedOut| RigError::SecondQueue(part.name.clone(), error);
    poll(&part.clock, part.config.timeout, enabled).map_err(never)?;
    Ok(queue)
}

fn queue_on(part: &Part, tap: Tap, config: QueueConfig, dma: &Dma) -> Result<Queue, RigError> {
    let size = queue_size(part.queue_log2.unwrap_or(QUEUE_LOG2), part.caps.cmdq_log2);
    let block = dma.allocate(Queue::layout(size, config.sync_by))?;
    CommandQueue::new(part.smmu.id(), tap, block, size, part.clock.clone(), config)
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
    let size = queue_size(QUEUE_LOG2, part.caps.eventq_log2);
    let block = dma.allocate(Events::layout(size))?;
    let base = block.address();
    let config = BringupConfig::new(&part.caps);
    Bringup::begin(&part.tap, &part.clock, config)
        .and_then(|smmu| smmu.set_tables(StreamTableBase { address, format }))
        .and_then(|smmu| smmu.enable_commands(queue.base(), queue.size()))
        .and_then(|smmu| smmu.invalidate_all(sink, id))
        .and_then(|smmu| smmu.enable_events(base, size))
        .and_then(|smmu| smmu.enable_interrupts(Interrupts::Wired))
        .and_then(|smmu| smmu.enable_translation())
        .map_err(failed)?;
    EventQueue::new(part.tap.clone(), block, size).map_err(events)
}
