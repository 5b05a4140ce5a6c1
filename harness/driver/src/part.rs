//! One SMMU of a driver: what its start, its restarts and its end need.

use alloc::vec::Vec;
use core::mem;
use core::time::Duration;

use smmu_cmdq::{
    CommandQueue, Passes, Port, QueueConfig, QueueGroup, RepeatingSink, SyncBy, layout,
};
use smmu_hw_mmio::{
    Bringup, BringupConfig, BringupError, ControlPages, El2, EventQueue, Interrupts, PriQueue,
    Probe, Running, SavedRegisters, StreamTableBase, Takeover, event_layout, page_request_layout,
};
use smmu_types::queue::QueueSize;
use smmu_types::regs::{self, gbpa, vcmdq};
use smmu_types::seam::{
    DmaError, DmaLayout, DmaMemory, Registers, RegistersExt, TimedOut, Wait, poll,
};
use smmu_types::{PhysAddr, SmmuId};

use crate::error::DriverError;
use crate::platform::{Block, DriverQueue, Env, Platform, Queue, QueueSink, Smmu, SmmuQueues};
use crate::smmu_options::SmmuOptions;
use crate::virtual_queue::{VirtualQueue, stop_virtual_queue};

pub(crate) type Events<P> = EventQueue<<P as Platform>::Registers, Block<P>>;

pub(crate) type Pages<P> = PriQueue<<P as Platform>::Registers, Block<P>>;

/// The queues that an SMMU fills.
pub(crate) struct OutputQueues<P: Platform> {
    pub(crate) events: Events<P>,
    pub(crate) pages: Option<Pages<P>>,
}

pub(crate) type RunningSmmu<P> = Running<<P as Platform>::Registers, <P as Platform>::Wait>;

/// One SMMU that is to be started: what a start and each restart need.
pub(crate) struct Part<P: Platform> {
    pub(crate) id: SmmuId,
    pub(crate) registers: P::Registers,
    pub(crate) probe: Probe,
    pub(crate) options: SmmuOptions,
    pub(crate) virtual_queues: Vec<VirtualQueue<P::Registers>>,
    // The regime that an old owner chose, whose streams may still run in it.
    pub(crate) el2: Option<El2>,
}

/// An SMMU that translates, and the queues that it fills.
type Started<P> = (RunningSmmu<P>, OutputQueues<P>);

/// Base and size of a command queue's ring.
pub(crate) type Ring = (PhysAddr, QueueSize);

/// The rings of the queues of one SMMU, in their order.
pub(crate) fn rings_of<'q, P: Platform + 'q>(
    smmu: SmmuId,
    queues: impl ExactSizeIterator<Item = &'q Queue<P>>,
) -> Result<Vec<Ring>, DriverError> {
    let mut rings = Vec::new();
    let room = rings.try_reserve_exact(queues.len());
    room.map_err(|_| DriverError::OutOfMemory { smmu })?;
    rings.extend(queues.map(|queue| (queue.base(), queue.size())));
    Ok(rings)
}

impl<P: Platform> Part<P> {
    /// Turns the SMMU and its virtual queues off, with all traffic set to abort, from any state.
    pub(crate) fn turn_off(&self, wait: &P::Wait) -> Result<(), DriverError> {
        let smmu = self.id;
        let failed = |error| DriverError::Bringup { smmu, error };
        abort_untranslated(&self.registers, wait, self.options.timeout).map_err(failed)?;
        let _off = Bringup::begin(&self.registers, wait, self.config()).map_err(failed)?;
        if self.stop_virtual_queues(wait) {
            return Ok(());
        }
        let error = TimedOut { timeout: self.options.timeout };
        Err(DriverError::VirtualQueueRuns { smmu, error })
    }

    /// Turns each enhanced command queue off, whatever it holds.
    pub(crate) fn cut_off_enhanced(&self, wait: &P::Wait) -> Result<(), DriverError> {
        let (smmu, caps) = (self.id, &self.probe.caps);
        let cut = Takeover::cut_off_enhanced_queues(&self.registers, wait, self.config(), caps);
        cut.map_err(|error| DriverError::NotAdopted { smmu, error: error.into() })
    }

    /// There are enhanced command queues, which may be on.
    pub(crate) fn may_have_enhanced(&self) -> bool {
        self.config().control_pages == ControlPages::Unknown
    }

    pub(crate) fn config(&self) -> BringupConfig {
        let suited = BringupConfig::new(&self.probe.caps);
        let el2 = self.el2.unwrap_or(suited.el2);
        let control_pages = self.options.control_pages.unwrap_or(suited.control_pages);
        BringupConfig { timeout: self.options.timeout, el2, control_pages, ..suited }
    }

    fn queue_config(&self) -> QueueConfig {
        let suited = QueueConfig::suited_to(&self.probe.caps, self.probe.quirks);
        let sync_by = self.options.sync_by.unwrap_or(suited.sync_by);
        QueueConfig { timeout: self.options.timeout, sync_by, ..suited }
    }

    fn allocate(&self, dma: &P::Dma, layout: DmaLayout) -> Result<Block<P>, DriverError> {
        let smmu = self.id;
        dma.allocate(layout).map_err(|error: DmaError| DriverError::Dma { smmu, error })
    }

    /// New queues for this SMMU, the main queue first. None is enabled yet.
    pub(crate) fn queues(
        &self,
        dma: &P::Dma,
        wait: &P::Wait,
    ) -> Result<Vec<Queue<P>>, DriverError> {
        let smmu = self.id;
        let config = self.queue_config();
        let mut queues = Vec::new();
        queues
            .try_reserve_exact(1 + self.virtual_queues.len())
            .map_err(|_| DriverError::OutOfMemory { smmu })?;
        queues.push(self.queue(self.registers.clone(), config, dma, wait)?);
        for VirtualQueue { registers, takes } in &self.virtual_queues {
            let (sync_by, port, takes) = (SyncBy::Polling, Port::vcmdq(0), *takes);
            let config = QueueConfig { sync_by, port, takes, ..config };
            queues.push(self.queue(registers.clone(), config, dma, wait)?);
        }
        Ok(queues)
    }

    /// The queues as one sink, in slots that a restart can fill again.
    pub(crate) fn group(&self, queues: Vec<Queue<P>>) -> Result<SmmuQueues<P>, DriverError> {
        let (smmu, mut slots) = (self.id, Vec::new());
        let no_memory = DriverError::OutOfMemory { smmu };
        slots.try_reserve_exact(queues.len()).map_err(|_| no_memory)?;
        for queue in queues {
            slots.push(DriverQueue::<P>::new(queue).map_err(|_| no_memory)?);
        }
        let group = QueueGroup::new(slots, self.options.pick)
            .map_err(|error| DriverError::CommandQueue { smmu, error })?;
        Ok(RepeatingSink::new(group, Passes::suited_to(self.probe.quirks)))
    }

    /// Whether the SMMU gets a PRI queue.
    pub(crate) const fn takes_page_requests(&self) -> bool {
        self.probe.caps.pri && self.options.pri_queue_log2.is_some()
    }

    /// New event and PRI queues, which the SMMU does not know yet.
    pub(crate) fn outputs(&self, dma: &P::Dma) -> Result<OutputQueues<P>, DriverError> {
        let events = self.events(dma)?;
        let pages = match self.options.pri_queue_log2 {
            Some(log2) if self.takes_page_requests() => Some(self.pages(dma, log2)?),
            _ => None,
        };
        Ok(OutputQueues { events, pages })
    }

    pub(crate) fn pages(&self, dma: &P::Dma, log2: u8) -> Result<Pages<P>, DriverError> {
        let size = size(log2, self.probe.caps.priq_log2);
        let block = self.allocate(dma, page_request_layout(size))?;
        PriQueue::new(self.registers.clone(), block, size)
            .map_err(|error| DriverError::PriQueue { smmu: self.id, error })
    }

    pub(crate) fn events(&self, dma: &P::Dma) -> Result<Events<P>, DriverError> {
        let size = size(self.options.event_queue_log2, self.probe.caps.eventq_log2);
        let block = self.allocate(dma, event_layout(size))?;
        EventQueue::new(self.registers.clone(), block, size)
            .map_err(|error| DriverError::EventQueue { smmu: self.id, error })
    }

    fn queue(
        &self,
        registers: P::Registers,
        config: QueueConfig,
        dma: &P::Dma,
        wait: &P::Wait,
    ) -> Result<Queue<P>, DriverError> {
        let smmu = self.id;
        let size = size(self.options.command_queue_log2, self.probe.caps.cmdq_log2);
        let block = self.allocate(dma, layout(size, config.sync_by))?;
        CommandQueue::new(smmu, registers, block, size, wait.clone(), config)
            .map_err(|error| DriverError::CommandQueue { smmu, error })
    }

    /// A blank stream table and tag spaces.
    pub(crate) fn attach(&self, env: &Env<P>) -> Result<Smmu<P>, DriverError> {
        let (probe, config) = (&self.probe, self.options.attach.clone());
        Ok(Smmu::<P>::new(env, self.id, probe.id, probe.caps, config)?)
    }

    /// Enables the virtual queues, each with its ring.
    pub(crate) fn enable_virtual_queues(
        &self,
        rings: &[Ring],
        wait: &P::Wait,
    ) -> Result<(), DriverError> {
        for (&(base, size), of) in rings.iter().zip(&self.virtual_queues) {
            self.enable(base, size, &of.registers, wait)?;
        }
        Ok(())
    }

    /// Enables a virtual queue, which counts from 0.
    fn enable(
        &self,
        base: PhysAddr,
        size: QueueSize,
        registers: &P::Registers,
        wait: &P::Wait,
    ) -> Result<(), DriverError> {
        registers.write64(vcmdq::BASE, base.0 | u64::from(size.log2()));
        registers.write32(vcmdq::CONS, 0);
        registers.write32(vcmdq::PROD, 0);
        registers.write32(vcmdq::CONFIG, vcmdq::ENABLE);
        let enabled = || (registers.read32(vcmdq::STATUS) & vcmdq::ENABLE != 0).then_some(());
        poll(wait, self.options.timeout, enabled)
            .map_err(|error| DriverError::VirtualQueue { smmu: self.id, error })
    }

    /// Disables the virtual queues. Says whether all confirm it.
    pub(crate) fn stop_virtual_queues(&self, wait: &P::Wait) -> bool {
        let mut off = true;
        for of in &self.virtual_queues {
            // Every queue is told, also after one that does not answer.
            off &= stop_virtual_queue(&of.registers, wait, self.options.timeout).is_ok();
        }
        off
    }

    pub(crate) fn start<X: From<DriverError>>(
        &self,
        env: &Env<P>,
        attach: &Smmu<P>,
        wait: &P::Wait,
        rings: &[Ring],
        before: impl FnOnce() -> Result<(), X>,
    ) -> Result<Started<P>, X> {
        let outputs = self.outputs(env.dma())?;
        match self.bring_up(env, attach, wait, None, rings, &outputs, || (), before) {
            Ok(running) => Ok((running, outputs)),
            Err(error) => {
                // The SMMU may know these queues already.
                if Bringup::begin(&self.registers, wait, self.config()).is_err() {
                    mem::forget(outputs);
                }
                Err(error)
            }
        }
    }

    /// From any state to translation, with empty queues in `rings`, and with the registers from before
    /// a sleep if there was one. Calls `open` as soon as the
    /// command queues accept commands.
    #[expect(clippy::too_many_arguments, reason = "one call site of each kind")]
    pub(crate) fn bring_up<X: From<DriverError>>(
        &self,
        env: &Env<P>,
        attach: &Smmu<P>,
        wait: &P::Wait,
        saved: Option<SavedRegisters>,
        rings: &[Ring],
        outputs: &OutputQueues<P>,
        open: impl FnOnce(),
        before: impl FnOnce() -> Result<(), X>,
    ) -> Result<RunningSmmu<P>, X> {
        let OutputQueues { events, pages } = outputs;
        let (smmu, sink) = (self.id, env.sink());
        let unknown = DriverError::UnknownSmmu { smmu, count: sink.queues().queues().len() };
        let (&(base, size), others) = rings.split_first().ok_or(unknown)?;
        self.enable_virtual_queues(others, wait)?;
        let (address, format) = attach.stream_table();
        let (registers, wait, config) = (self.registers.clone(), wait.clone(), self.config());
        let tables = match saved {
            Some(saved) => Bringup::resume(registers, wait, config, saved),
            None => Bringup::begin(registers, wait, config)
                .and_then(|smmu| smmu.set_tables(StreamTableBase { address, format })),
        };
        let interrupts =
            saved.map_or(self.options.interrupts, |saved| Interrupts::Saved(saved.interrupts()));
        let failed = |error| DriverError::Bringup { smmu, error };
        let ready = tables
            .and_then(|smmu| smmu.enable_commands(base, size))
            .inspect(|_| open())
            .and_then(|off| off.invalidate_all(sink, smmu))
            .and_then(|smmu| smmu.enable_events(events.base(), events.size()))
            .and_then(|smmu| match pages {
                Some(pages) => smmu.enable_page_requests(pages.base(), pages.size()),
                None => Ok(smmu),
            })
            .and_then(|smmu| smmu.enable_interrupts(interrupts))
            .map_err(failed)?;
        before()?;
        Ok(ready.enable_translation().map_err(failed)?)
    }
}

fn size(wanted: u8, largest: u8) -> QueueSize {
    QueueSize::from_log2(wanted.min(largest)).unwrap_or(SMALLEST)
}

const SMALLEST: QueueSize = match QueueSize::from_log2(0) {
    Some(size) => size,
    None => unreachable!(),
};

/// Makes the SMMU abort transactions while translation is off, also if it is off already: a reset
/// may have chosen bypass.
fn abort_untranslated<R: Registers, W: Wait>(
    registers: &R,
    wait: &W,
    timeout: Duration,
) -> Result<(), BringupError> {
    let update_is = |wanted: u32| {
        let mut got = 0;
        let updated = || {
            got = registers.read(regs::GBPA);
            (got & (gbpa::UPDATE | wanted) == wanted).then_some(())
        };
        let (register, mask) = (regs::GBPA.name(), gbpa::UPDATE | wanted);
        poll(wait, timeout, updated).map_err(|_| BringupError::NoAck {
            register,
            mask,
            wanted,
            got,
            timeout,
        })
    };
    // Software may write GBPA only while no earlier update is under way.
    update_is(0)?;
    let value = registers.read(regs::GBPA) | gbpa::ABORT | gbpa::UPDATE;
    registers.write(regs::GBPA, value);
    update_is(gbpa::ABORT)
}
