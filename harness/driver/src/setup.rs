//! From registers to running SMMUs.

use alloc::vec::Vec;
use core::mem;

use lock_api::Mutex;
use smmu_attach::AttachError;
use smmu_attach::faults::{EventSieve, FaultTable};
use smmu_cmdq::{Opcodes, QueueSet};
use smmu_hw_mmio::{Bringup, Probe, probe};
use smmu_types::SmmuId;

use crate::driver::{DrivenSmmu, Driver, Life};
use crate::error::DriverError;
use crate::part::{OutputQueues, Part, rings_of};
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
        let Setup { dma, wait, observer, ats, parts } = self;
        let last = SmmuId(u16::try_from(parts.len()).unwrap_or(u16::MAX));
        let (mut groups, mut running, mut smmus) = (Vec::new(), Vec::new(), Vec::new());
        let (mut attach, mut rings, mut faults) = (Vec::new(), Vec::new(), Vec::new());
        // All lists and tables have their room before the first SMMU is touched.
        let room = groups
            .try_reserve_exact(parts.len())
            .and(running.try_reserve_exact(parts.len()))
            .and(attach.try_reserve_exact(parts.len()))
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
        for Part { id, probe, options, .. } in &parts {
            let config = options.attach.clone();
            attach.push(Smmu::<P>::new(&env, *id, probe.id, probe.caps, config)?);
            faults.push(FaultTable::new(env.clone(), *id, options.waiting_faults.into())?);
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
        let all = parts.into_iter().zip(attach).zip(faults).zip(running);
        for (((part, smmu), faults), (running, outputs)) in all {
            let OutputQueues { events, pages } = outputs;
            let (events, pages) = (Mutex::new(Some(events)), Mutex::new(pages));
            let sieve = Mutex::new(EventSieve::new(part.options.sieve));
            let (leaving, kept) = (Vec::new(), Vec::new());
            let life = Life { running: Some(running), asleep: None, leaving, kept };
            let life = Mutex::new(life);
            smmus.push(DrivenSmmu { smmu, part, life, events, pages, faults, sieve });
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
