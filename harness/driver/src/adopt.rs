//! Takes running SMMUs over from an old owner, without a pause for the streams that are kept.
//!
//! [`Setup::adopt`] goes through these steps. Up to step 4 nothing is written to any SMMU.
//!
//! 1. [`Setup::smmu`] has probed each SMMU. The memory of the new queues is allocated.
//! 2. [`Takeover::begin`] reads the registers of each SMMU and judges them. An SMMU that does not
//!    translate is started, as by [`Setup::start`].
//! 3. [`Survey::new`] reads the tables, and [`Adoption`] asks the [plan](AdoptPlan::new) about each stream,
//!    maps the stream table, and claims the tags of the kept streams. SMMUs whose options name one
//!    ASID space claim each ASID once: it stays taken until the last stream of all of them has left.
//! 4. The old event and PRI queues are mapped, to be kept and read on.
//! 5. For each SMMU, one after the other: interrupts go off, the old commands are carried out, and the
//!    driver's command queue takes their place.
//! 6. [`abort_others`](smmu_attach::adopt::Adopting::abort_others) ends every stream that is not kept,
//!    and flushes.
//! 7. The event queue, the PRI queue and the interrupts become the driver's.
//!
//! Then the caller
//!
//! 8. adds a device for each stream that it kept ([`Smmu::next_foreign_stream`] lists them) before it
//!    handles the first event: a stalled transaction without a device is aborted;
//! 9. handles the events and page requests once: no interrupt tells of records from before step 7;
//! 10. attaches or blocks these devices when it has domains for them;
//! 11. gives the old owner's memory back only when no device is `Foreign` any more.
//!
//! [`Smmu::next_foreign_stream`]: smmu_attach::Smmu::next_foreign_stream
//!
//! # What is not carried over
//!
//! - Answers and `ATC_INV`s among the old commands that step 5 cuts off
//!   ([`Origin::Adopted`](crate::Origin) counts them): repeat them for a kept stream with stalls, PRI or
//!   ATS.
//! - Page requests in the old PRI queue, if the driver was not asked for a PRI queue
//!   ([`SmmuOptions::pri_queue_log2`](crate::SmmuOptions::pri_queue_log2)): nothing answers them, so
//!   reset the PRI of the devices.
//! - Enhanced command queues of the old owner. Step 5 turns them off, with
//!   [`SmmuOptions::control_pages`](crate::SmmuOptions::control_pages) set to `Reachable`. Without a
//!   word about them an SMMU that has some is refused, and not reset either.
//! - An SMMU that is started or reset here has no windows of [`boot`](crate::boot).
//!
//! # On a doubt
//!
//! [`OnDoubt`] decides for each SMMU. A reset aborts every stream of that SMMU, kept ones too.

use alloc::vec::Vec;
use core::mem;

use smmu_attach::AttachError;
use smmu_attach::adopt::{
    AdoptError, AdoptMemory, Adopting, Adoption, Keep, LiveStream, PhysicalMemory, ReadBudget,
    RunningTables, StreamTableShape, Survey,
};
use smmu_hw_mmio::{
    El2, EventQueue, Occupied, OldCommands, OldQueue, PriQueue, Takeover, TakeoverError,
    event_layout, page_request_layout,
};
use smmu_invs::Counted;
use smmu_types::legal::{El2Regime, SmmuView, TranslatedTraffic};
use smmu_types::seam::{DmaLayout, SinkError, TimedOut};
use smmu_types::{SmmuId, Ste};

use crate::driver::Driver;
use crate::error::DriverError;
use crate::origin::{NotAdopted, Origin};
use crate::part::{OutputQueues, Part, Ring, RunningSmmu, rings_of};
use crate::platform::{Attach, Block, DriverQueue, Env, Platform, QueueSink, Queues, Smmu};
use crate::setup::{Prepared, Setup, Started, give_up};
use crate::slot::SlotState;

/// What to do about a running SMMU that cannot be taken over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDoubt {
    /// Return the reason. No stream that the old owner translates is interrupted by it.
    #[default]
    Refuse,
    /// Turn the SMMU off and start it with tables of its own. `GBPA.ABORT` is set first, so every
    /// stream aborts until it is attached. Enhanced command queues are turned off before that. An SMMU
    /// that has some, of which [`SmmuOptions::control_pages`](crate::SmmuOptions::control_pages) tells
    /// nothing, is refused: they would go on reading the old owner's memory.
    Reset,
}

/// Which event queue a taken-over SMMU fills.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OldEvents {
    /// The old owner's, in its memory and of its size. No event is lost.
    #[default]
    Keep,
    /// One of the driver's. The old events are dropped, and a few may be lost while the queues change:
    /// only where no kept stream stalls.
    Drop,
}

/// How running SMMUs are taken over.
pub struct AdoptPlan<'a> {
    memory: &'a dyn PhysicalMemory,
    keep: &'a mut dyn FnMut(SmmuId, &LiveStream<'_>) -> Keep,
    budget: ReadBudget,
    on_doubt: OnDoubt,
    events: OldEvents,
}

impl<'a> AdoptPlan<'a> {
    /// Reads the tables through `memory`. `keep` decides about each stream that the old owner left.
    ///
    /// On a doubt, it refuses. It keeps the old event queues.
    pub fn new(
        memory: &'a dyn PhysicalMemory,
        keep: &'a mut dyn FnMut(SmmuId, &LiveStream<'_>) -> Keep,
    ) -> Self {
        let (budget, on_doubt) = (ReadBudget::default(), OnDoubt::default());
        AdoptPlan { memory, keep, budget, on_doubt, events: OldEvents::default() }
    }

    /// With another policy on a doubt.
    #[must_use]
    pub fn on_doubt(self, on_doubt: OnDoubt) -> Self {
        AdoptPlan { on_doubt, ..self }
    }

    /// With another choice of event queues.
    #[must_use]
    pub fn events(self, events: OldEvents) -> Self {
        AdoptPlan { events, ..self }
    }

    /// With another limit on what is read of the tables of each SMMU.
    #[must_use]
    pub fn budget(self, budget: ReadBudget) -> Self {
        AdoptPlan { budget, ..self }
    }
}

impl core::fmt::Debug for AdoptPlan<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let AdoptPlan { budget, on_doubt, events, .. } = self;
        f.debug_struct("AdoptPlan")
            .field("budget", budget)
            .field("on_doubt", on_doubt)
            .field("events", events)
            .finish_non_exhaustive()
    }
}

/// What was found of an SMMU. Nothing was written.
enum Found<P: Platform> {
    /// It does not translate, or is to be reset. Its tables have their memory.
    Start { smmu: Smmu<P>, origin: Origin },
    Running {
        occupied: Occupied<P::Registers, P::Wait>,
        adopting: Adopting<Attach<P>>,
        outputs: OutputQueues<P>,
        kept: usize,
    },
}

/// One SMMU that changes hands.
struct Handover<'a, P: Platform> {
    part: &'a mut Part<P>,
    env: &'a Env<P>,
    wait: &'a P::Wait,
}

impl<P: Platform> Setup<P>
where
    P::Dma: AdoptMemory,
{
    /// Takes over the SMMUs that run, and starts the others. The module [`adopt`](crate::adopt) has
    /// the steps.
    ///
    /// `over` makes the command sink from the queues, as for [`start_through`](Self::start_through).
    /// [`DrivenSmmu::origin`](crate::DrivenSmmu::origin) tells what became of each SMMU.
    ///
    /// [`SmmuOptions::attach`](crate::SmmuOptions::attach): the stream table of a taken-over SMMU is as
    /// large as it is. SMMUs that share an ASID space there
    /// ([`SmmuConfig::with_asids`](smmu_attach::SmmuConfig::with_asids)) may run with the same ASIDs.
    ///
    /// # Errors
    ///
    /// - [`DriverError::NotAdopted`], with [`OnDoubt::Refuse`]. If an SMMU is refused in steps 2 to 4,
    ///   nothing has changed. Later, the streams that are kept run on; the SMMUs that this call has
    ///   started are off again; those that it has taken over run with queues whose memory stays
    ///   allocated for ever. Call again with [`OnDoubt::Reset`], or with the same plan.
    /// - Any other error: as of [`start_through`](Self::start_through), for SMMUs that are started.
    pub fn adopt_through(
        self,
        plan: AdoptPlan<'_>,
        over: impl FnOnce(Queues<P>) -> P::Sink,
    ) -> Result<Driver<P>, DriverError> {
        let mut prepared = self.prepare(over)?;
        let AdoptPlan { memory, keep, budget, on_doubt, events } = plan;
        let Prepared { env, wait, parts, rings, .. } = &mut prepared;
        let last = parts.last().map_or(SmmuId(0), |part| part.id);
        let mut found = Vec::new();
        let room = found.try_reserve_exact(parts.len());
        room.map_err(|_| DriverError::OutOfMemory { smmu: last })?;
        for part in parts.iter() {
            let look = Look { memory, budget, events };
            let beside = beside(part, parts, &found);
            let one = look.at(part, env, wait, beside, |live| keep(part.id, live));
            found.push(match one {
                Ok(running) => running,
                Err(off) if off == OFF => {
                    Found::Start { smmu: part.attach(env)?, origin: Origin::Started }
                }
                // A reset does not stop enhanced queues that nothing is known of.
                Err(error) if on_doubt == OnDoubt::Refuse || part.may_have_enhanced() => {
                    return Err(DriverError::NotAdopted { smmu: part.id, error });
                }
                Err(error) => {
                    Found::Start { smmu: part.attach(env)?, origin: Origin::Reset(error) }
                }
            });
        }

        let mut started: Vec<Started<P>> = Vec::new();
        started
            .try_reserve_exact(parts.len())
            .map_err(|_| DriverError::OutOfMemory { smmu: last })?;
        let mut failed = Ok(());
        for ((part, rings), one) in parts.iter_mut().zip(rings).zip(found) {
            let mut new = Handover { part, env, wait };
            let one = match one {
                Found::Running { occupied, adopting, outputs, kept } => {
                    new.take(occupied, adopting, outputs, kept, rings, on_doubt)
                }
                Found::Start { smmu, origin } => new.start(smmu, rings, origin),
            };
            match one {
                Ok(one) => started.push(one),
                Err(error) => {
                    failed = Err(error);
                    break;
                }
            }
        }
        match failed {
            Ok(()) => Ok(prepared.finish(started)),
            Err(error) => {
                let Prepared { env, wait, parts, .. } = prepared;
                // The streams that are kept run on, on queues that stay where they are.
                let adopted = |one: &Started<P>| matches!(one.origin, Origin::Adopted { .. });
                if started.iter().any(adopted) || matches!(error, DriverError::NotAdopted { .. }) {
                    for (part, _) in parts.iter().zip(&started).filter(|(_, one)| !adopted(one)) {
                        let _told = part.turn_off(&wait);
                    }
                    mem::forget((parts, env, started));
                } else {
                    give_up(parts, (env, started), &wait);
                }
                Err(error)
            }
        }
    }
}

impl<P: Platform<Sink = Queues<P>>> Setup<P>
where
    P::Dma: AdoptMemory,
{
    /// [`adopt_through`](Self::adopt_through), with the command queues themselves as the sink.
    ///
    /// # Errors
    ///
    /// As of [`adopt_through`](Self::adopt_through).
    pub fn adopt(self, plan: AdoptPlan<'_>) -> Result<Driver<P>, DriverError> {
        self.adopt_through(plan, |queues| queues)
    }
}

/// No doubt: there is nothing to take over.
const OFF: NotAdopted = NotAdopted::Registers(TakeoverError::Off { cr0: 0 });

/// How an SMMU is looked at.
struct Look<'a> {
    memory: &'a dyn PhysicalMemory,
    budget: ReadBudget,
    events: OldEvents,
}

impl Look<'_> {
    /// Steps 2 to 4 of the module.
    fn at<P: Platform>(
        &self,
        part: &Part<P>,
        env: &Env<P>,
        wait: &P::Wait,
        beside: Option<&Adopting<Attach<P>>>,
        mut keep: impl FnMut(&LiveStream<'_>) -> Keep,
    ) -> Result<Found<P>, NotAdopted>
    where
        P::Dma: AdoptMemory,
    {
        let (id, caps) = (part.id, &part.probe.caps);
        let occupied = Takeover::begin(part.registers.clone(), wait.clone(), part.config(), caps);
        let occupied = occupied.map_err(|error| match error {
            TakeoverError::Off { .. } => OFF,
            error => error.into(),
        })?;
        let el2 = match occupied.el2() {
            El2::PresentWithAsids => El2Regime::El2E2h,
            El2::Absent | El2::Present => El2Regime::El2,
        };
        // `begin` refuses an SMMU with ATS that does not check.
        let translated =
            if caps.ats { TranslatedTraffic::Checked } else { TranslatedTraffic::Passes };
        let view = SmmuView::new(part.probe.id).with_el2(el2).with_translated(translated);
        let tables = RunningTables::new(occupied.strtab_base(), occupied.strtab_base_cfg(), view);
        let survey = Survey::new(tables, self.memory, self.budget)?;
        let mut kept = 0;
        let config = part.options.attach.clone();
        let adoption = Adoption::new(&survey);
        let adoption = match beside {
            Some(first) => adoption.beside_adopting(first),
            None => adoption,
        };
        let adopting = Smmu::<P>::adopt(env, id, *caps, config, adoption, |live| {
            let choice = keep(live);
            kept += usize::from(choice == Keep::Running);
            choice
        })?;
        let outputs = self.outputs(part, env, &occupied, survey.shape())?;
        Ok(Found::Running { occupied, adopting, outputs, kept })
    }

    /// The queues that the SMMU fills: the old ones, or new ones that it does not know yet.
    fn outputs<P: Platform>(
        &self,
        part: &Part<P>,
        env: &Env<P>,
        occupied: &Occupied<P::Registers, P::Wait>,
        shape: &StreamTableShape,
    ) -> Result<OutputQueues<P>, NotAdopted>
    where
        P::Dma: AdoptMemory,
    {
        let (dma, smmu) = (env.dma(), part.id);
        let map = |queue: OldQueue, layout: DmaLayout| -> Result<Block<P>, NotAdopted> {
            let address = queue.address;
            if overlaps(shape, address.0, layout.bytes()) {
                return Err(NotAdopted::QueueOverTable { queue: address });
            }
            let block = dma.adopt(address, layout);
            Ok(block.map_err(|error| AdoptError::Map { smmu, address, error })?)
        };
        let no_memory = |_| NotAdopted::Adopt(AttachError::OutOfMemory { smmu }.into());
        let registers = || part.registers.clone();
        let events = match (occupied.events(), self.events) {
            (Some(old), OldEvents::Keep) => {
                let block = map(old, event_layout(old.size))?;
                let events = EventQueue::of_running(registers(), block, old.size);
                events.map_err(TakeoverError::from)?
            }
            (None, _) | (_, OldEvents::Drop) => part.events(dma).map_err(no_memory)?,
        };
        let pages = match (part.options.pri_queue_log2, occupied.page_requests()) {
            (Some(_), Some(old)) if part.takes_page_requests() => {
                let block = map(old, page_request_layout(old.size))?;
                let pages = PriQueue::of_running(registers(), block, old.size);
                Some(pages.map_err(TakeoverError::from)?)
            }
            (Some(log2), None) if part.takes_page_requests() => {
                Some(part.pages(dma, log2).map_err(no_memory)?)
            }
            _ => None,
        };
        Ok(OutputQueues { events, pages })
    }
}

/// The last SMMU before this one that is to be taken over and has the same ASID space.
fn beside<'a, P: Platform>(
    part: &Part<P>,
    parts: &[Part<P>],
    found: &'a [Found<P>],
) -> Option<&'a Adopting<Attach<P>>> {
    let space = part.options.attach.asids.as_ref()?;
    let mut before = parts.iter().zip(found).rev();
    before.find_map(|(other, one)| match one {
        Found::Running { adopting, .. } => {
            let asids = other.options.attach.asids.as_ref()?;
            asids.is_same(space).then_some(adopting)
        }
        Found::Start { .. } => None,
    })
}

/// Whether a range shares memory with a stream table.
fn overlaps(shape: &StreamTableShape, first: u64, bytes: u64) -> bool {
    let end = first.saturating_add(bytes);
    let ste = Ste::BYTES as u64;
    let level1 = match shape.split {
        None => ste.checked_shl(shape.log2.into()),
        Some(split) => 8u64.checked_shl(shape.log2.saturating_sub(split.bits()).into()),
    };
    let meets = |base: u64, bytes: u64| base < end && first < base.saturating_add(bytes);
    let mut arrays = shape.arrays.iter().filter_map(|array| shape.stes(array));
    meets(shape.base.0, level1.unwrap_or(u64::MAX))
        || arrays.any(|(address, stes)| meets(address.0, ste * stes))
}

impl<P: Platform> Handover<'_, P> {
    /// Before a reset. `CR0` does not stop enhanced queues.
    fn turn_off(&self) -> Result<(), DriverError> {
        self.part.cut_off_enhanced(self.wait)?;
        self.part.turn_off(self.wait)
    }

    /// From off, or after a doubt before anything was written.
    fn start(
        &self,
        smmu: Smmu<P>,
        rings: &[Ring],
        origin: Origin,
    ) -> Result<Started<P>, DriverError> {
        if let Origin::Reset(_) = origin {
            self.turn_off()?;
        }
        let (running, outputs) =
            self.part.start(self.env, &smmu, self.wait, rings, || Ok::<_, DriverError>(()))?;
        Ok(Started { smmu, running, outputs, origin })
    }

    /// Steps 5 to 7 of the module, or a reset.
    fn take(
        &mut self,
        occupied: Occupied<P::Registers, P::Wait>,
        adopting: Adopting<Attach<P>>,
        outputs: OutputQueues<P>,
        kept: usize,
        rings: &[Ring],
        on_doubt: OnDoubt,
    ) -> Result<Started<P>, DriverError> {
        let id = self.part.id;
        self.part.el2 = Some(occupied.el2());
        let error = match self.change_hands(occupied, adopting, &outputs, rings) {
            Ok((smmu, running, commands)) => {
                let origin = Origin::Adopted { kept, commands };
                return Ok(Started { smmu, running, outputs, origin });
            }
            Err(error) => error,
        };
        if on_doubt == OnDoubt::Refuse {
            // The SMMU may fill these queues.
            mem::forget(outputs);
            return Err(DriverError::NotAdopted { smmu: id, error });
        }
        self.part.el2 = None;
        if let Err(off) = self.turn_off() {
            mem::forget(outputs);
            return Err(off);
        }
        drop(outputs);
        // The command queues have a history, and the SMMU begins at 0.
        let rings = self.renew_queues()?;
        self.start(self.part.attach(self.env)?, &rings, Origin::Reset(error))
    }

    fn change_hands(
        &self,
        occupied: Occupied<P::Registers, P::Wait>,
        adopting: Adopting<Attach<P>>,
        outputs: &OutputQueues<P>,
        rings: &[Ring],
    ) -> Result<(Smmu<P>, RunningSmmu<P>, OldCommands), NotAdopted> {
        let Handover { part, wait, .. } = self;
        let (old_events, old_pages) = (occupied.events(), occupied.page_requests());
        let dead = NotAdopted::VirtualQueue(TimedOut { timeout: part.options.timeout });
        let stopped = occupied.stop_commands()?;
        if !part.stop_virtual_queues(wait) {
            return Err(dead);
        }
        let commands = stopped.old_commands();
        let unknown = SinkError::UnknownSmmu { smmu: part.id };
        let (&(base, size), others) =
            rings.split_first().ok_or(NotAdopted::Unconfirmed(unknown))?;
        let taken = stopped.enable_commands(base, size)?;
        part.enable_virtual_queues(others, wait).map_err(|_| dead)?;
        let aborted = adopting.abort_others();
        let smmu = aborted.map_err(|error| NotAdopted::Unconfirmed(error.error()))?;

        let OutputQueues { events, pages } = outputs;
        let kept = |old: Option<OldQueue>, base| old.is_some_and(|old| old.address == base);
        let taken = if kept(old_events, events.base()) {
            taken.keep_events(events)?
        } else {
            taken.replace_events(events.base(), events.size(), || Ok(()))?
        };
        let taken = match pages {
            Some(pages) if kept(old_pages, pages.base()) => taken.keep_page_requests(pages)?,
            Some(pages) => taken.replace_page_requests(pages.base(), pages.size(), || Ok(()))?,
            None => taken.stop_page_requests(|| Ok(()))?,
        };
        let running = taken.enable_interrupts(part.options.interrupts)?;
        Ok((smmu, running, commands))
    }

    /// New command queues in the slots of the sink. The SMMU is off, and no caller uses the old ones.
    fn renew_queues(&self) -> Result<Vec<Ring>, DriverError> {
        let Handover { part, env, wait } = self;
        let smmu = part.id;
        let no_memory = DriverError::OutOfMemory { smmu };
        let fresh = part.queues(env.dma(), wait)?;
        let rings = rings_of::<P>(smmu, fresh.iter())?;
        let unknown = DriverError::UnknownSmmu { smmu, count: env.sink().queues().queues().len() };
        let slots = env.sink().queues().get(smmu).ok_or(unknown)?.inner().queues();
        for (slot, queue) in slots.iter().zip(fresh) {
            let node = |state| DriverQueue::<P>::node(state).map_err(|_| no_memory);
            let queue = Counted::new(queue).map_err(|_| no_memory)?;
            let open = node(SlotState::Open(queue))?;
            let _replaced = slot.close([node(SlotState::Closed)?, node(SlotState::Closed)?]);
            slot.open(open);
        }
        Ok(rings)
    }
}
