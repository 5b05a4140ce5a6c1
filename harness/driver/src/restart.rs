//! Brings an SMMU up again that has lost its state.

use alloc::vec::Vec;
use core::mem;

use smmu_invs::Counted;
use smmu_types::SmmuId;
use smmu_types::seam::poll;

use crate::driver::Driver;
use crate::error::DriverError;
use crate::part::rings_of;
use crate::platform::{DriverQueue, Platform, QueueSink};
use crate::slot::{ReplacedSlot, SlotState};

/// Why an SMMU comes up again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// It lost its state.
    Restart,
    /// It slept. Its queues stay asleep until the new ones are open, so that no unmap fails.
    Resume,
}

impl<P: Platform> Driver<P> {
    /// Brings an SMMU up again: it was reset, it lost power, or its command queue has halted
    /// ([`SinkError::Lost`](smmu_types::seam::SinkError::Lost)).
    ///
    /// The stream table, the devices, the domains and their tags stay. The command queues and the
    /// event queue are new; the caches are invalidated before translation is on. Then each device
    /// is attached as before, and an entry that the SMMU had not confirmed is invalid.
    ///
    /// After `Ok`, the caller does two things:
    ///
    /// 1. [`Smmu::settle`](smmu_attach::Smmu::settle) of
    ///    [`DrivenSmmu::attach`](crate::DrivenSmmu::attach) settles what the SMMU did not confirm.
    /// 2. Each [`Domain::invalidate`](smmu_attach::Domain::invalidate) that failed is repeated.
    ///    Only its `Ok` lets the owner reuse the memory.
    ///
    /// Other threads may use the SMMU meanwhile. Their calls return
    /// [`SinkError::Lost`](smmu_types::seam::SinkError::Lost) or a time-out, and event records that
    /// no caller had drained are lost. The call waits for the calls that are under way, two times
    /// [`SmmuOptions::timeout`](crate::SmmuOptions::timeout) at most.
    ///
    /// Turning translation off ends each stalled transaction: its token answers nothing. Groups of page
    /// requests wait on. Requests that no caller had drained are lost, and so may be a response that the
    /// old command queue took: reset the PRI of the devices.
    ///
    /// # Hazard
    ///
    /// Between a reset and this call, the reset value of `GBPA` decides what a device reaches. If
    /// that is bypass, stop the devices before you reset the SMMU. The call sets `GBPA.ABORT` before
    /// anything else.
    ///
    /// # Errors
    ///
    /// - There is no such SMMU, memory ran out, or another thread restarts it: nothing has changed.
    /// - A caller does not leave the old queue, or the SMMU does not come up. Then commands fail until
    ///   a later restart succeeds, and so does each attach that needs one.
    pub fn restart(&self, smmu: SmmuId) -> Result<(), DriverError> {
        self.bring_up_again(smmu, How::Restart)
    }

    /// A restart, or the wake of an SMMU that sleeps.
    pub(crate) fn bring_up_again(&self, smmu: SmmuId, how: How) -> Result<(), DriverError> {
        let driven = self.smmu(smmu)?;
        let unknown = DriverError::UnknownSmmu { smmu, count: self.smmus().len() };
        let queues = self.sink().queues().get(smmu).ok_or(unknown)?.inner().queues();
        let (part, wait) = (&driven.part, self.wait());
        let mut life = driven.life.try_lock().ok_or(DriverError::Restarting { smmu })?;
        let asleep = life.asleep;
        if how == How::Resume && asleep.is_none() {
            return Err(DriverError::Awake { smmu });
        }
        let saved = if how == How::Resume { asleep } else { None };

        // All memory comes before the first write of a register.
        let no_memory = DriverError::OutOfMemory { smmu };
        let fresh = part.queues(self.dma(), wait)?;
        let rings = rings_of::<P>(smmu, fresh.iter())?;
        let (mut open, mut closed) = (Vec::new(), Vec::new());
        let room = open
            .try_reserve_exact(queues.len())
            .and(closed.try_reserve_exact(queues.len()))
            .and(life.leaving.try_reserve_exact(queues.len()));
        room.map_err(|_| no_memory)?;
        for queue in fresh {
            let node = |queue| DriverQueue::<P>::node(queue).map_err(|_| no_memory);
            closed.push([node(SlotState::Closed)?, node(SlotState::Closed)?]);
            let queue = Counted::new(queue).map_err(|_| no_memory)?;
            open.push(node(SlotState::Open(queue))?);
        }
        let outputs = part.outputs(self.dma())?;

        // The SMMU reads no queue from here on, so the old rings may go.
        life.running = None;
        part.turn_off(wait)?;
        life.kept.clear();
        if how == How::Restart {
            life.asleep = None;
            let closed = queues.iter().zip(closed).map(|(queue, closed)| queue.close(closed));
            life.leaving.extend(closed);
        }
        let old_events = driven.events.lock().take();
        let old_pages = driven.pages.lock().take();
        drop((old_events, old_pages));
        let patience = 2 * part.options.timeout;
        let left = || {
            queues.iter().for_each(DriverQueue::<P>::reclaim);
            life.leaving.retain(ReplacedSlot::is_in_use);
            life.leaving.is_empty().then_some(())
        };
        poll(wait, patience, left).map_err(|error| DriverError::QueueInUse { smmu, error })?;

        // The SMMU has terminated its stalled transactions. No answer to one may reach the new queue.
        let answered = || (driven.faults.outstanding().sending == 0).then_some(());
        poll(wait, patience, answered).map_err(|error| DriverError::QueueInUse { smmu, error })?;
        driven.faults.forget_stalls();

        let mut open = Some(open);
        let (env, attach) = (self.env(), driven.attach());
        let open_queues = || {
            for (queue, node) in queues.iter().zip(open.take().into_iter().flatten()) {
                queue.open(node);
            }
        };
        // The devices are attached already.
        let started =
            part.bring_up(env, attach, wait, saved, &rings, &outputs, open_queues, || Ok(()));
        match started {
            Ok(started) => {
                life.running = Some(started);
                life.asleep = None;
                *driven.events.lock() = Some(outputs.events);
                *driven.pages.lock() = outputs.pages;
                // What the new queue does not take stays kept.
                let _ = driven.faults.send_kept();
                Ok(())
            }
            Err(error) => {
                if open.is_none() {
                    // Callers have found the new queue, which only a restart takes from them.
                    life.asleep = None;
                }
                if part.turn_off(wait).is_err() {
                    // The SMMU may still use its queues.
                    mem::forget((open, outputs));
                }
                Err(error)
            }
        }
    }
}
