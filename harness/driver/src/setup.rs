//! From registers to running SMMUs.

use alloc::vec::Vec;
use core::mem;
use core::sync::atomic::AtomicU32;

use lock_api::Mutex;
use smmu_attach::AttachError;
use smmu_attach::faults::{EventSieve, FaultTable};
use smmu_cmdq::{Opcodes, QueueSet};
use smmu_hw_mmio::{Bringup, Probe, probe};
use smmu_types::SmmuId;

use crate::boot::Boot;
use crate::driver::{DrivenSmmu, Driver, Life};
use crate::error::DriverError;
use crate::origin::Origin;
use crate::part::{OutputQueues, Part, Ring, RunningSmmu, rings_of};
use crate::platform::{Env, Platform, Queues, Smmu};
use crate::smmu_options::SmmuOptions;
use crate::virtual_queue::VirtualQueue;

/// The SMMUs of a driver before they run.
///
/// Nothing is written to an SMMU before [`start`](Self::start).
pub struct Setup<P: Platform> {
    dma: P::Dma,
    wait: P::Wait,
    observer: P::Observer,
    ats: P::Ats,
    parts: Vec<Part<P>>,
}

impl<P: Platform> Setup<P> {
    /// A driver without SMMUs yet.
    pub fn new(dma: P::Dma, wait: P::Wait, observer: P::Observer) -> Self
    where
        P::Ats: Default,
    {
        Self::with_ats(dma, wait, observer, P::Ats::default())
    }

    /// [`new`](Self::new), with the ATS switches of the devices.
    pub const fn with_ats(dma: P::Dma, wait: P::Wait, observer: P::Observer, ats: P::Ats) -> Self {
        Setup { dma, wait, observer, ats, parts: Vec::new() }
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
        let probe = probe(&registers).map_err(|error| DriverError::Probe { smmu: id, error })?;
        let probe = options.coherency.map_or(probe, |coherency| probe.with_coherency(coherency));
        let probe = probe.with_quirks(options.quirks);
        if let Some(wanted) = options.sync_by
            && let Some(lacks) = wanted.lacks(&probe.caps, probe.quirks)
        {
            return Err(DriverError::SyncBy { smmu: id, lacks });
        }
        self.parts.push(Part {
            id,
            registers,
            probe,
            options,
            virtual_queues: Vec::new(),
            el2: None,
        });
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
        self.start_with(over, |_| Ok(()))
    }

    /// [`start_through`](Self::start_through), where `before` attaches what must not fault when
    /// translation begins. It is called for each SMMU, when all is on except translation; the module
    /// [`boot`](crate::boot) has the steps.
    ///
    /// # Errors
    ///
    /// As of [`start_through`](Self::start_through), or the error of `before`.
    pub fn start_with<X: From<DriverError>>(
        self,
        over: impl FnOnce(Queues<P>) -> P::Sink,
        mut before: impl FnMut(&Boot<'_, P>) -> Result<(), X>,
    ) -> Result<Driver<P>, X> {
        let mut prepared = self.prepare(over)?;
        let Prepared { env, wait, domains, parts, rings, .. } = &mut prepared;
        let (mut smmus, mut started) = (Vec::new(), Vec::new());
        let last = parts.last().map_or(SmmuId(0), |part| part.id);
        let room = smmus.try_reserve_exact(parts.len());
        room.and(started.try_reserve_exact(parts.len()))
            .map_err(|_| DriverError::OutOfMemory { smmu: last })?;
        for part in parts.iter() {
            smmus.push(part.attach(env)?);
        }
        let mut failed = Ok(());
        for ((part, smmu), rings) in parts.iter().zip(smmus).zip(rings.iter()) {
            let boot = Boot { smmu: &smmu, env, domains };
            match part.start(env, &smmu, wait, rings, || before(&boot)) {
                Ok((running, outputs)) => {
                    started.push(Started { smmu, running, outputs, origin: Origin::Started });
                }
                Err(error) => {
                    failed = Err((error, smmu));
                    break;
                }
            }
        }
        match failed {
            Ok(()) => Ok(prepared.finish(started)),
            Err((error, smmu)) => {
                let Prepared { env, wait, parts, .. } = prepared;
                give_up(parts, (env, smmu, started), &wait);
                Err(error)
            }
        }
    }

    /// All queues, lists and tables have their memory before the first SMMU is touched.
    pub(crate) fn prepare(
        self,
        over: impl FnOnce(Queues<P>) -> P::Sink,
    ) -> Result<Prepared<P>, DriverError> {
        let Setup { dma, wait, observer, ats, parts } = self;
        let last = SmmuId(u16::try_from(parts.len()).unwrap_or(u16::MAX));
        let (mut groups, mut rings) = (Vec::new(), Vec::new());
        let (mut faults, mut smmus) = (Vec::new(), Vec::new());
        let room = groups
            .try_reserve_exact(parts.len())
            .and(rings.try_reserve_exact(parts.len()))
            .and(faults.try_reserve_exact(parts.len()))
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
        let env =
            Env::<P>::with_ats(dma, over(queues), observer, ats).map_err(AttachError::from)?;
        for Part { id, options, .. } in &parts {
            faults.push(FaultTable::new(env.clone(), *id, options.waiting_faults.into())?);
        }
        let domains = AtomicU32::new(0);
        Ok(Prepared { env, wait, domains, parts, rings, faults, smmus })
    }
}

/// An SMMU that runs.
pub(crate) struct Started<P: Platform> {
    pub(crate) smmu: Smmu<P>,
    pub(crate) running: RunningSmmu<P>,
    pub(crate) outputs: OutputQueues<P>,
    pub(crate) origin: Origin,
}

/// SMMUs that may be started. Nothing is written to one yet.
pub(crate) struct Prepared<P: Platform> {
    pub(crate) env: Env<P>,
    pub(crate) wait: P::Wait,
    /// How many domain numbers are given.
    domains: AtomicU32,
    pub(crate) parts: Vec<Part<P>>,
    /// The rings of the command queues, by SMMU.
    pub(crate) rings: Vec<Vec<Ring>>,
    faults: Vec<FaultTable<Env<P>>>,
    // Empty, with room for all.
    smmus: Vec<DrivenSmmu<P>>,
}

impl<P: Platform> Prepared<P> {
    /// The driver of SMMUs that run. Cannot fail.
    pub(crate) fn finish(self, started: Vec<Started<P>>) -> Driver<P> {
        let Prepared { env, wait, domains, parts, faults, mut smmus, .. } = self;
        let all = parts.into_iter().zip(faults).zip(started);
        for ((part, faults), Started { smmu, running, outputs, origin }) in all {
            let OutputQueues { events, pages } = outputs;
            let (events, pages) = (Mutex::new(Some(events)), Mutex::new(pages));
            let sieve = Mutex::new(EventSieve::new(part.options.sieve));
            let (leaving, kept) = (Vec::new(), Vec::new());
            let life = Life { running: Some(running), asleep: None, leaving, kept };
            let life = Mutex::new(life);
            smmus.push(DrivenSmmu { smmu, part, life, events, pages, faults, sieve, origin });
        }
        Driver::new(env, wait, domains, smmus)
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
pub(crate) fn give_up<P: Platform, U>(parts: Vec<Part<P>>, used: U, wait: &P::Wait) {
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
