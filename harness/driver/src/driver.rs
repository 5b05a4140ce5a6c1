//! Running SMMUs: devices, domains, unmaps, interrupts, shutdown.

use alloc::vec::Vec;
use core::fmt;
use core::mem::ManuallyDrop;
use core::sync::atomic::AtomicU32;

use lock_api::Mutex;
use smmu_attach::DeviceConfig;
use smmu_attach::faults::{EventSieve, FaultTable};
use smmu_cmdq::CommandFailure;
use smmu_hw_mmio::{Bringup, DrainedEvents, Gerror, Probe, SavedRegisters};
use smmu_invs::Counted;
use smmu_types::{EventRecord, GoneProof, SmmuId, StreamId};

use crate::boot::numbered;
use crate::error::DriverError;
use crate::origin::Origin;
use crate::part::{Events, Pages, Part, RunningSmmu};
use crate::platform::{Device, Domain, Env, Platform, Queue, QueueSink, Smmu};
use crate::slot::ReplacedSlot;
use crate::virtual_queue::stop_virtual_queue;

/// What a restart and a shutdown change.
pub(crate) struct Life<P: Platform> {
    // `None` while `restart` or `shutdown` runs, and after a restart that failed.
    pub(crate) running: Option<RunningSmmu<P>>,
    // What its registers lost, while the SMMU sleeps.
    pub(crate) asleep: Option<SavedRegisters>,
    // Old command queues that callers may still use, of this restart and of those that failed.
    pub(crate) leaving: Vec<ReplacedSlot>,
    // Command queues whose memory the SMMU may still write, although no caller uses them.
    pub(crate) kept: Vec<Counted<Queue<P>>>,
}

/// One SMMU of a [`Driver`], while it runs.
pub struct DrivenSmmu<P: Platform> {
    pub(crate) smmu: Smmu<P>,
    pub(crate) part: Part<P>,
    pub(crate) life: Mutex<P::SleepLock, Life<P>>,
    // `None` while `restart` runs, and after a restart that failed.
    pub(crate) events: Mutex<P::Lock, Option<Events<P>>>,
    // `None` also without a PRI queue.
    pub(crate) pages: Mutex<P::Lock, Option<Pages<P>>>,
    pub(crate) faults: FaultTable<Env<P>>,
    // Taken by the reader of the event queue, under the lock of that queue.
    pub(crate) sieve: Mutex<P::Lock, EventSieve>,
    pub(crate) origin: Origin,
}

impl<P: Platform> DrivenSmmu<P> {
    /// What its ID registers say.
    #[must_use]
    pub const fn probe(&self) -> &Probe {
        &self.part.probe
    }

    /// Its stream table and tag spaces.
    #[must_use]
    pub const fn attach(&self) -> &Smmu<P> {
        &self.smmu
    }

    /// How it came to this driver: started, or taken over ([`Setup::adopt`](crate::Setup::adopt)).
    #[must_use]
    pub const fn origin(&self) -> Origin {
        self.origin
    }

    /// Whether it sleeps ([`Driver::suspend`]). Its queues can then be neither used nor drained.
    #[must_use]
    pub fn is_asleep(&self) -> bool {
        self.life.try_lock().is_some_and(|life| life.asleep.is_some())
    }

    /// The faults that wait for an answer.
    #[must_use]
    pub const fn faults(&self) -> &FaultTable<Env<P>> {
        &self.faults
    }

    /// Its registers. The caller writes none that the driver uses.
    #[must_use]
    pub const fn registers(&self) -> &P::Registers {
        &self.part.registers
    }

    /// Turns the SMMU and its virtual queues off. Both are told, also if one does not answer.
    fn stop(&mut self, wait: &P::Wait) -> Result<(), DriverError> {
        let (smmu, timeout) = (self.smmu.id(), self.part.options.timeout);
        let life = self.life.get_mut();
        if life.asleep.is_some() {
            // It has confirmed that it is off, and its registers may have no power.
            return Ok(());
        }
        let disabled = match life.running.take() {
            Some(running) => running.disable(),
            None => {
                self.part.turn_off(wait)?;
                Bringup::begin(self.part.registers.clone(), wait.clone(), self.part.config())
            }
        };
        let disabled = disabled.and_then(|smmu| smmu.leave(self.part.options.exit));
        let mut stopped = Ok(());
        for queue in &self.part.virtual_queues {
            stopped = stopped.and(stop_virtual_queue(&queue.registers, wait, timeout));
        }
        disabled.map_err(|error| DriverError::Bringup { smmu, error })?;
        stopped.map_err(|error| DriverError::VirtualQueueRuns { smmu, error })
    }
}

/// What the handler of a `GERROR` interrupt found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GerrorReport {
    /// The command that stopped the main command queue, if one did. The queue goes on.
    pub command: Option<CommandFailure>,
    /// The other errors since the last report, which the driver has acknowledged. `None` if another
    /// thread or CPU was inside the error handler: it acknowledges them before it leaves, and a
    /// later call reports them. `None` also while the SMMU restarts.
    pub others: Option<Gerror>,
}

/// What the SMMUs use: it goes back only after they have confirmed that they are off.
struct InUse<P: Platform> {
    env: Env<P>,
    smmus: Vec<DrivenSmmu<P>>,
}

/// Running SMMUs.
///
/// Every call takes `&self`, so CPUs share a driver by reference. Dropping it leaves the SMMUs
/// running and keeps their memory for ever; [`shutdown`](Self::shutdown) ends them.
pub struct Driver<P: Platform> {
    wait: P::Wait,
    domains: AtomicU32,
    used: ManuallyDrop<InUse<P>>,
}

impl<P: Platform> Driver<P> {
    pub(crate) const fn new(
        env: Env<P>,
        wait: P::Wait,
        domains: AtomicU32,
        smmus: Vec<DrivenSmmu<P>>,
    ) -> Self {
        let used = ManuallyDrop::new(InUse { env, smmus });
        Driver { wait, domains, used }
    }

    /// Its SMMUs, in the order of their numbers.
    #[must_use]
    pub fn smmus(&self) -> &[DrivenSmmu<P>] {
        &self.used.smmus
    }

    /// One of its SMMUs.
    ///
    /// # Errors
    ///
    /// There is no such SMMU.
    pub fn smmu(&self, smmu: SmmuId) -> Result<&DrivenSmmu<P>, DriverError> {
        let unknown = DriverError::UnknownSmmu { smmu, count: self.used.smmus.len() };
        self.used.smmus.get(usize::from(smmu.0)).ok_or(unknown)
    }

    pub(crate) const fn wait(&self) -> &P::Wait {
        &self.wait
    }

    /// The command sink over all queues.
    #[must_use]
    pub fn sink(&self) -> &P::Sink {
        self.env().sink()
    }

    /// The DMA memory.
    #[must_use]
    pub fn dma(&self) -> &P::Dma {
        self.env().dma()
    }

    /// The observer.
    #[must_use]
    pub fn observer(&self) -> &P::Observer {
        self.env().observer()
    }

    /// The seams, as devices and domains share them.
    #[must_use]
    pub fn env(&self) -> &Env<P> {
        &self.used.env
    }

    /// Adds a device that masters with these StreamIDs. It is blocked until it is attached
    /// ([`Device::attach`](smmu_attach::Device::attach)). The driver keeps it until it is removed.
    ///
    /// # Errors
    ///
    /// There is no such SMMU, the SMMU has no room for a StreamID, another device has that
    /// StreamID, memory ran out, or the SMMU does not answer.
    pub fn add_device(&self, smmu: SmmuId, streams: &[StreamId]) -> Result<Device<P>, DriverError> {
        Ok(self.smmu(smmu)?.smmu.add_device(streams)?)
    }

    /// [`add_device`](Self::add_device) for a device with substreams, or whose transactions stall.
    ///
    /// # Errors
    ///
    /// As of [`add_device`](Self::add_device).
    pub fn add_device_with(
        &self,
        smmu: SmmuId,
        streams: &[StreamId],
        config: DeviceConfig,
    ) -> Result<Device<P>, DriverError> {
        Ok(self.smmu(smmu)?.smmu.add_device_with(streams, config)?)
    }

    /// A domain over `tables`, with a number of its own. No device is attached to it.
    ///
    /// # Errors
    ///
    /// The tables' description contradicts itself, memory ran out, or all domain numbers are given.
    pub fn domain(&self, tables: P::Tables) -> Result<Domain<P>, DriverError> {
        numbered(&self.domains, self.env(), tables)
    }

    /// Hands every new event record of an SMMU to `take`, storms and all.
    ///
    /// It answers nothing: where devices stall, call [`handle_events`](Self::handle_events) instead.
    ///
    /// Holds the SMMU's event lock meanwhile; `take` must not call this for the same SMMU.
    ///
    /// # Errors
    ///
    /// There is no such SMMU, another CPU drains this queue, the SMMU restarts, or `EVENTQ_PROD`
    /// cannot be right.
    pub fn drain_events(
        &self,
        smmu: SmmuId,
        take: impl FnMut(EventRecord),
    ) -> Result<DrainedEvents, DriverError> {
        let mut events = self.smmu(smmu)?.events.try_lock().ok_or(DriverError::Busy { smmu })?;
        let events = events.as_mut().ok_or(DriverError::Restarting { smmu })?;
        events.drain(take).map_err(|error| DriverError::EventQueue { smmu, error })
    }

    /// The device that a StreamID of an event belongs to.
    ///
    /// # Errors
    ///
    /// There is no such SMMU.
    pub fn device_of(
        &self,
        smmu: SmmuId,
        stream: StreamId,
    ) -> Result<Option<Device<P>>, DriverError> {
        Ok(self.smmu(smmu)?.smmu.device_of(stream))
    }

    /// Handles a `GERROR` interrupt: mends the main command queue if a command stopped it, and
    /// acknowledges all other errors.
    ///
    /// It never waits. No interrupt is lost, also if the SMMU signals it only once (an edge): a
    /// caller that is inside the error handler does the work before it leaves. Waits never depend
    /// on this interrupt: each looks for the error itself.
    ///
    /// # Errors
    ///
    /// There is no such SMMU.
    pub fn handle_gerror(&self, smmu: SmmuId) -> Result<GerrorReport, DriverError> {
        let unknown = DriverError::UnknownSmmu { smmu, count: self.used.smmus.len() };
        let group = self.sink().queues().get(smmu).ok_or(unknown)?;
        let main = group.inner().queues().first().ok_or(unknown)?;
        let report = main.with(|main| {
            let found = main.handle_global_errors();
            // Only the active bits count, so `GERRORN` may be 0 here.
            let others = found.active.map(|active| Gerror::decode(active, 0));
            GerrorReport { command: found.command, others }
        });
        // A restart acknowledges the errors of the time before it.
        Ok(report.unwrap_or(GerrorReport { command: None, others: None }))
    }

    /// Turns every SMMU off, and gives back the queues. Transactions abort or pass, as
    /// [`SmmuOptions::exit`](crate::SmmuOptions::exit) says.
    ///
    /// An SMMU that [sleeps](Self::suspend) stays as it is: resume it first if the choice matters.
    ///
    /// An SMMU that is off uses no domain: its devices count as blocked, and
    /// [`Domain::into_tables`](smmu_attach::Domain::into_tables) gives the page tables back.
    ///
    /// # Errors
    ///
    /// An SMMU did not confirm that it is off. The error names the first such SMMU. The driver has
    /// tried all of them, and keeps all their memory for ever.
    pub fn shutdown(self) -> Result<(), DriverError> {
        let Driver { used, wait, .. } = self;
        let mut used = ManuallyDrop::into_inner(used);
        let mut outcome = Ok(());
        for smmu in &mut used.smmus {
            // Every SMMU is told, also after one that does not answer.
            let stopped = smmu.stop(&wait);
            if stopped.is_ok() {
                // The SMMU has confirmed that it is off. The proof has its number, so this is `Ok`.
                let _ = smmu.smmu.gone(&GoneProof::vouch(smmu.smmu.id()));
                // Tokens that are left answer nothing.
                smmu.faults.forget_all();
            }
            outcome = outcome.and(stopped);
        }
        if outcome.is_err() {
            core::mem::forget(used);
        }
        outcome
    }
}

impl<P: Platform> fmt::Debug for Driver<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").field("smmus", &self.used.smmus.len()).finish_non_exhaustive()
    }
}
