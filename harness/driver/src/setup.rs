//! From registers to running SMMUs.

use alloc::vec::Vec;
use core::mem;
use core::time::Duration;

use lock_api::Mutex;
use smmu_attach::{AttachError, SmmuConfig};
use smmu_cmdq::{CommandQueue, Opcodes, Port, QueueConfig, QueueGroup, QueueSet, SyncBy, layout};
use smmu_hw_mmio::{
    Bringup, BringupConfig, Coherency, EventQueue, Interrupts, Probe, StreamTableBase,
    event_layout, probe,
};
use smmu_types::queue::QueueSize;
use smmu_types::regs::vcmdq;
use smmu_types::seam::{DmaError, DmaLayout, DmaMemory, Registers, poll};
use smmu_types::{PhysAddr, SmmuId};

use crate::driver::{DrivenSmmu, Driver, Events, RunningSmmu};
use crate::driver_queue::DriverQueue;
use crate::error::DriverError;
use crate::platform::{Block, Env, Group, PickQueue, Platform, Queue, QueueSink, Queues, Smmu};
use crate::virtual_queue::{VirtualQueue, stop_virtual_queue};

/// What an integrator may choose of one SMMU. The defaults suit every SMMU.
#[derive(Clone, Debug)]
pub struct SmmuOptions {
    /// How long one wait may last: for a register to acknowledge, for room in a queue, for a
    /// `CMD_SYNC`. 1 s by default.
    pub timeout: Duration,
    /// log2 of the entries of the command queues; 8 by default. The driver takes less where the
    /// SMMU has less.
    pub command_queue_log2: u8,
    /// log2 of the entries of the event queue; 8 by default. The driver takes less where the SMMU
    /// has less.
    pub event_queue_log2: u8,
    /// How a `CMD_SYNC` completes; by default the cheapest way the SMMU has
    /// ([`QueueConfig::suited_to`]).
    pub sync_by: Option<SyncBy>,
    /// Whether the SMMU snoops the caches, where firmware tables know it better than `IDR0.COHACC`.
    pub coherency: Option<Coherency>,
    /// Which interrupts the SMMU raises; [`Interrupts::Polled`] by default.
    pub interrupts: Interrupts,
    /// The stream table and the tag spaces.
    pub attach: SmmuConfig,
    /// Chooses between virtual queues; the first by default. No effect without virtual queues.
    pub pick: PickQueue,
}

impl Default for SmmuOptions {
    fn default() -> Self {
        SmmuOptions {
            timeout: Duration::from_secs(1),
            command_queue_log2: 8,
            event_queue_log2: 8,
            sync_by: None,
            coherency: None,
            interrupts: Interrupts::Polled,
            attach: SmmuConfig::default(),
            pick: |_| 0,
        }
    }
}

/// One SMMU that is to be started: what a start and each restart need.
pub(crate) struct Part<P: Platform> {
    pub(crate) id: SmmuId,
    pub(crate) registers: P::Registers,
    pub(crate) probe: Probe,
    pub(crate) options: SmmuOptions,
    pub(crate) virtual_queues: Vec<VirtualQueue<P::Registers>>,
}

/// The SMMUs of a driver before they run.
///
/// Nothing is written to an SMMU before [`start`](Self::start).
pub struct Setup<P: Platform> {
    dma: P::Dma,
    wait: P::Wait,
    observer: P::Observer,
    parts: Vec<Part<P>>,
}

impl<P: Platform> Setup<P> {
    /// A driver without SMMUs yet.
    pub const fn new(dma: P::Dma, wait: P::Wait, observer: P::Observer) -> Self {
        Setup { dma, wait, observer, parts: Vec::new() }
    }

    /// Adds the SMMU behind `registers`. SMMUs are numbered from 0 in the order of these calls.
    ///
    /// Reads the ID registers; writes no register.
    ///
    /// # Errors
    ///
    /// The driver cannot use this SMMU, or memory ran out. The setup stays as it was.
    pub fn smmu(
        &mut self,
        registers: P::Registers,
        options: SmmuOptions,
    ) -> Result<SmmuId, DriverError> {
        let id = SmmuId(u16::try_from(self.parts.len()).map_err(|_| DriverError::TooManySmmus)?);
        self.parts.try_reserve(1).map_err(|_| DriverError::OutOfMemory { smmu: id })?;
        let mut probe =
            probe(&registers).map_err(|error| DriverError::Probe { smmu: id, error })?;
        if let Some(coherency) = options.coherency {
            probe.caps.coherent = coherency == Coherency::Coherent;
        }
        self.parts.push(Part { id, registers, probe, options, virtual_queues: Vec::new() });
        Ok(id)
    }

    /// What the ID registers of an SMMU say.
    ///
    /// # Errors
    ///
    /// There is no such SMMU.
    pub fn probed(&self, smmu: SmmuId) -> Result<&Probe, DriverError> {
        let unknown = DriverError::UnknownSmmu { smmu, count: self.parts.len() };
        self.parts.get(usize::from(smmu.0)).map(|part| &part.probe).ok_or(unknown)
    }

    /// Adds a virtual command queue (VCMDQ of Tegra241's CMDQV) to an SMMU.
    ///
    /// `registers` are the queue's, at the offsets of [`regs::vcmdq`](smmu_types::regs::vcmdq).
    /// `takes` are the opcodes it accepts; the driver sends all others to the main queue. Such a
    /// queue has neither MSIs nor events, so the driver polls.
    ///
    /// # Errors
    ///
    /// There is no such SMMU, or memory ran out.
    pub fn virtual_queue(
        &mut self,
        smmu: SmmuId,
        registers: P::Registers,
        takes: Opcodes,
    ) -> Result<(), DriverError> {
        let unknown = DriverError::UnknownSmmu { smmu, count: self.parts.len() };
        let part = self.parts.get_mut(usize::from(smmu.0)).ok_or(unknown)?;
        let room = part.virtual_queues.try_reserve(1);
        room.map_err(|_| DriverError::OutOfMemory { smmu })?;
        part.virtual_queues.push(VirtualQueue { registers, takes });
        Ok(())
    }

    /// Starts every SMMU: command queues, bring-up, event queue. Afterwards each SMMU
    /// translates, and every stream is blocked.
    ///
    /// `over` makes the command sink from the queues. The bring-up already sends its commands
    /// through this sink.
    ///
    /// # Errors
    ///
    /// An SMMU did not start. The driver has then turned every SMMU off again and given its memory
    /// back. The memory of an SMMU that does not confirm that it is off stays allocated for ever,
    /// because the SMMU may still use it.
    pub fn start_through(
        self,
        over: impl FnOnce(Queues<P>) -> P::Sink,
    ) -> Result<Driver<P>, DriverError> {
        let Setup { dma, wait, observer, parts } = self;
        let last = SmmuId(u16::try_from(parts.len()).unwrap_or(u16::MAX));
        let (mut groups, mut running, mut smmus) = (Vec::new(), Vec::new(), Vec::new());
        let (mut attach, mut rings) = (Vec::new(), Vec::new());
        // All lists and tables have their room before the first SMMU is touched.
        let room = groups
            .try_reserve_exact(parts.len())
            .and(running.try_reserve_exact(parts.len()))
            .and(attach.try_reserve_exact(parts.len()))
            .and(rings.try_reserve_exact(parts.len()))
            .and(smmus.try_reserve_exact(parts.len()));
        room.map_err(|_| DriverError::OutOfMemory { smmu: last })?;
        for part in &parts {
            let queues = part.queues(&dma, &wait)?;
            rings.push(rings_of::<P>(part.id, queues.iter())?);
            groups.push(part.group(queues)?);
        }
        // Each group has the number of its place, so this does not fail.
        let queues = QueueSet::new(groups)
            .map_err(|error| DriverError::CommandQueue { smmu: last, error })?;
        let env = Env::<P>::new(dma, over(queues), observer).map_err(AttachError::from)?;
        for Part { id, probe, options, .. } in &parts {
            let config = options.attach.clone();
            attach.push(Smmu::<P>::new(&env, *id, probe.id, probe.caps, config)?);
        }

        for ((part, smmu), rings) in parts.iter().zip(&attach).zip(&rings) {
            match part.start(&env, smmu, &wait, rings) {
                Ok(one) => running.push(one),
                Err(error) => {
                    give_up(parts, (env, attach, running), &wait);
                    return Err(error);
                }
            }
        }
        for ((part, smmu), (running, events)) in parts.into_iter().zip(attach).zip(running) {
            let (running, events) = (Mutex::new(Some(running)), Mutex::new(Some(events)));
            smmus.push(DrivenSmmu { smmu, part, running, events });
        }
        Ok(Driver::new(env, wait, smmus))
    }
}

impl<P: Platform<Sink = Queues<P>>> Setup<P> {
    /// Starts every SMMU, with the command queues themselves as the sink.
    ///
    /// # Errors
    ///
    /// As of [`start_through`](Self::start_through).
    pub fn start(self) -> Result<Driver<P>, DriverError> {
        self.start_through(|queues| queues)
    }
}

/// Turns every SMMU off, and drops what they used only if all confirm it.
fn give_up<P: Platform, U>(parts: Vec<Part<P>>, used: U, wait: &P::Wait) {
    // Every SMMU is told, also after one that does not answer.
    let mut off = true;
    for part in &parts {
        off &= part.stop_virtual_queues(wait);
        off &= Bringup::begin(&part.registers, wait, part.config()).is_ok();
    }
    if !off {
        mem::forget((parts, used));
    }
}

/// An SMMU that translates, and its event queue.
type Started<P> = (RunningSmmu<P>, Events<P>);

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
    pub(crate) fn config(&self) -> BringupConfig {
        BringupConfig { timeout: self.options.timeout, ..BringupConfig::new(&self.probe.caps) }
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
    fn group(&self, queues: Vec<Queue<P>>) -> Result<Group<P>, DriverError> {
        let (smmu, mut slots) = (self.id, Vec::new());
        let no_memory = DriverError::OutOfMemory { smmu };
        slots.try_reserve_exact(queues.len()).map_err(|_| no_memory)?;
        for queue in queues {
            slots.push(DriverQueue::new(queue).map_err(|_| no_memory)?);
        }
        QueueGroup::new(slots, self.options.pick)
            .map_err(|error| DriverError::CommandQueue { smmu, error })
    }

    /// A new event queue, which the SMMU does not know yet.
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

    fn start(
        &self,
        env: &Env<P>,
        attach: &Smmu<P>,
        wait: &P::Wait,
        rings: &[Ring],
    ) -> Result<Started<P>, DriverError> {
        let events = self.events(env.dma())?;
        match self.bring_up(env, attach, wait, rings, &events, || ()) {
            Ok(running) => Ok((running, events)),
            Err(error) => {
                // The SMMU may know the event queue already.
                if Bringup::begin(&self.registers, wait, self.config()).is_err() {
                    mem::forget(events);
                }
                Err(error)
            }
        }
    }

    /// From any state to translation, with empty queues in `rings`. Calls `open` as soon as the
    /// command queues accept commands.
    pub(crate) fn bring_up(
        &self,
        env: &Env<P>,
        attach: &Smmu<P>,
        wait: &P::Wait,
        rings: &[Ring],
        events: &Events<P>,
        open: impl FnOnce(),
    ) -> Result<RunningSmmu<P>, DriverError> {
        let (smmu, sink) = (self.id, env.sink());
        let unknown = DriverError::UnknownSmmu { smmu, count: sink.queues().queues().len() };
        let (&(base, size), others) = rings.split_first().ok_or(unknown)?;
        for (&(base, size), of) in others.iter().zip(&self.virtual_queues) {
            self.enable(base, size, &of.registers, wait)?;
        }
        let (address, format) = attach.stream_table();
        Bringup::begin(self.registers.clone(), wait.clone(), self.config())
            .and_then(|smmu| smmu.set_tables(StreamTableBase { address, format }))
            .and_then(|smmu| smmu.enable_commands(base, size))
            .inspect(|_| open())
            .and_then(|off| off.invalidate_all(sink, smmu))
            .and_then(|smmu| smmu.enable_events(events.base(), events.size()))
            .and_then(|smmu| smmu.enable_interrupts(self.options.interrupts))
            .and_then(|smmu| smmu.enable_translation())
            .map_err(|error| DriverError::Bringup { smmu, error })
    }
}

fn size(wanted: u8, largest: u8) -> QueueSize {
    QueueSize::from_log2(wanted.min(largest)).unwrap_or(SMALLEST)
}

const SMALLEST: QueueSize = match QueueSize::from_log2(0) {
    Some(size) => size,
    None => unreachable!(),
};
