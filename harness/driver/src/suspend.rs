//! Puts an SMMU to sleep and wakes it.

use alloc::vec::Vec;
use smmu_types::seam::{TimedOut, poll};
use smmu_types::{EventRecord, SmmuId};

use crate::driver::Driver;
use crate::error::DriverError;
use crate::platform::{DriverQueue, Platform, QueueSink};
use crate::restart::How;
use crate::slot::{ReplacedSlot, SlotState};

impl<P: Platform> Driver<P> {
    /// Puts an SMMU to sleep: turns translation off, drains its queues into `take`, and keeps what its
    /// registers lose. After `Ok` the SMMU may lose its power, and the driver touches no register of
    /// it before [`resume`](Self::resume).
    ///
    /// Other threads may go on. While the SMMU sleeps,
    ///
    /// - unmaps, attaches and detaches return `Ok`: the SMMU translates nothing, and it flushes its
    ///   caches before it translates again. The numbered argument is in
    ///   [`smmu_hw_mmio::suspend`];
    /// - other commands return [`SinkError::Asleep`](smmu_types::seam::SinkError::Asleep): an `ATC_INV`,
    ///   an answer to a page request. A kept answer is sent after the wake;
    /// - interrupts of the SMMU find nothing.
    ///
    /// A caller that queued other commands before the sleep, and waits for them in it, gets
    /// [`SinkError::Asleep`](smmu_types::seam::SinkError::Asleep). A caller whose wait lasts from before the sleep to after the
    /// wake gets [`SinkError::Lost`](smmu_types::seam::SinkError::Lost), and repeats its call.
    ///
    /// Before the call, stop the devices: every transaction aborts from now on. Turn ATS off at each,
    /// since the flush at the wake does not reach their caches. Page requests that no caller has
    /// drained are lost.
    ///
    /// # Errors
    ///
    /// - There is no such SMMU, it sleeps already, memory ran out, or it restarts: nothing has changed.
    /// - The SMMU does not answer, or a caller does not leave its command queue. Then
    ///   [`restart`](Self::restart) brings it up again; until then it may abort every transaction.
    /// - [`DriverError::EventQueue`]: the event queue cannot be read. The SMMU sleeps all the same.
    pub fn suspend(&self, smmu: SmmuId, take: impl FnMut(EventRecord)) -> Result<(), DriverError> {
        let driven = self.smmu(smmu)?;
        let unknown = DriverError::UnknownSmmu { smmu, count: self.smmus().len() };
        let queues = self.sink().queues().get(smmu).ok_or(unknown)?.inner().queues();
        let (part, wait) = (&driven.part, self.wait());
        let failed = |error| DriverError::Bringup { smmu, error };
        let mut life = driven.life.try_lock().ok_or(DriverError::Restarting { smmu })?;
        if life.asleep.is_some() {
            return Err(DriverError::Asleep { smmu });
        }

        // All memory comes before the first write of a register.
        let no_memory = DriverError::OutOfMemory { smmu };
        let mut asleep = Vec::new();
        let room = asleep
            .try_reserve_exact(queues.len())
            .and(life.kept.try_reserve_exact(queues.len()))
            .and(life.leaving.try_reserve_exact(queues.len()));
        room.map_err(|_| no_memory)?;
        for _ in queues {
            let node = || DriverQueue::<P>::node(SlotState::Asleep).map_err(|_| no_memory);
            asleep.push([node()?, node()?]);
        }
        let running = life.running.take().ok_or(DriverError::Restarting { smmu })?;

        // Callers go on using the queues: nothing is owed before the caches are empty.
        let quiescent = running.quiesce(self.sink(), smmu).map_err(failed)?;
        // A CMD_SYNC may write its MSI late, so the rings stay until the queues are off.
        life.kept.extend(queues.iter().filter_map(DriverQueue::<P>::keep));
        life.leaving.extend(queues.iter().zip(asleep).map(|(queue, asleep)| queue.close(asleep)));
        let left = || {
            queues.iter().for_each(DriverQueue::<P>::reclaim);
            life.leaving.retain(ReplacedSlot::is_in_use);
            let sending = driven.faults.outstanding().sending;
            (life.leaving.is_empty() && sending == 0).then_some(())
        };
        poll(wait, 2 * part.options.timeout, left)
            .map_err(|error| DriverError::QueueInUse { smmu, error })?;
        driven.faults.forget_stalls();

        let mut events = driven.events.lock().take();
        let pages = driven.pages.lock().take();
        let drained = match &mut events {
            Some(events) => events.drain(take).map(drop),
            None => Ok(()),
        };
        let virtual_off = part.stop_virtual_queues(wait);
        let suspended = quiescent.suspend().map_err(failed).and_then(|suspended| {
            let error = TimedOut { timeout: part.options.timeout };
            if virtual_off {
                Ok(suspended)
            } else {
                Err(DriverError::VirtualQueueRuns { smmu, error })
            }
        });
        match suspended {
            Ok(suspended) => life.asleep = Some(suspended.saved()),
            Err(error) => {
                // The SMMU may still write to its queues; a restart drops them.
                *driven.events.lock() = events;
                *driven.pages.lock() = pages;
                return Err(error);
            }
        }
        life.kept.clear();
        drained.map_err(|error| DriverError::EventQueue { smmu, error })
    }

    /// Wakes an SMMU that [sleeps](Self::suspend), whether it lost its power or not.
    ///
    /// The stream table, the devices, the domains and their tags are as the driver left them, with
    /// all changes since. The queues are new, the interrupts are those from before, MSIs included.
    /// The caches are invalidated before translation is on.
    ///
    /// # Hazard
    ///
    /// Between the return of power and this call, the reset value of `GBPA` decides what a device
    /// reaches. The call sets `GBPA.ABORT` before anything else.
    ///
    /// # Errors
    ///
    /// - There is no such SMMU, it does not sleep, memory ran out, or another thread restarts it:
    ///   nothing has changed.
    /// - The SMMU does not come up. Then [`restart`](Self::restart) brings it up.
    pub fn resume(&self, smmu: SmmuId) -> Result<(), DriverError> {
        self.bring_up_again(smmu, How::Resume)
    }
}
