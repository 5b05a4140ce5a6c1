//! Faults: events and page requests reach a handler, and each fault that waits is answered once.

use core::ops::ControlFlow;

use smmu_attach::faults::{EventSieve, FaultId, PageGroup, Sieved, StalledFault, Taken, Withdrawn};
use smmu_types::seam::{SinkError, poll};
use smmu_types::{EventRecord, PriRecord, SmmuId};

use crate::driver::{DrivenSmmu, Driver};
use crate::error::DriverError;
use crate::part::{Events, Pages};
use crate::platform::{Device, Env, Platform, Substream};

/// A stalled transaction of this driver. Dropping it aborts the transaction.
pub type Stalled<P> = StalledFault<Env<P>>;

/// A group of page requests of this driver. Dropping it refuses the group.
pub type PageRequestGroup<P> = PageGroup<Env<P>>;

/// What hears of events and page requests.
///
/// The driver calls it with the lock of that queue held, perhaps in an interrupt handler. It takes no
/// lock that an attach holds over a wait. A token may go to another thread, which answers there.
pub trait FaultHandler<P: Platform> {
    /// An event of a transaction that the SMMU has terminated. `left_out` events of the same stream
    /// and kind came before, and were not reported ([`SieveConfig`](smmu_attach::faults::SieveConfig)).
    fn event(&mut self, record: EventRecord, left_out: u64) {
        let _ = (record, left_out);
    }

    /// A transaction of a device waits. [`StalledFault::substream`] says of which substream.
    fn stalled(&mut self, device: Device<P>, fault: Stalled<P>) {
        drop((device, fault));
    }

    /// A request that waits for no answer by itself: more of its group may come, or it is the marker
    /// that a device has stopped using a PASID.
    fn page_request(&mut self, device: Device<P>, record: PriRecord) {
        let _ = (device, record);
    }

    /// The last request of a group: the group waits.
    fn page_group(&mut self, device: Device<P>, group: PageRequestGroup<P>) {
        drop((device, group));
    }

    /// The PRI queue overflowed: forget every group whose last request has not come. The SMMU has
    /// answered it (8.1.1).
    fn groups_lost(&mut self) {}
}

/// What one look at a queue of faults found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HandledFaults {
    /// Records taken from the queue. If they are as many as the queue has entries, call again.
    pub records: u32,
    /// Whether the queue overflowed. After an overflow of the PRI queue, call again.
    pub overflowed: bool,
    /// Faults that wait, and were handed to the handler.
    pub handed: u32,
    /// Faults that the driver answered itself: no device owns the stream, or the table of waiting
    /// faults was full.
    pub refused: u32,
    /// Faults that an SMMU or a device reported twice.
    pub repeated: u32,
    /// Events that were left out: known noise, and those of a storm.
    pub left_out: u32,
}

impl HandledFaults {
    /// Hands a fault to the device that owns its stream.
    fn hand<P: Platform, F>(
        &mut self,
        taken: Taken<F>,
        device: Option<Device<P>>,
        hand: impl FnOnce(Device<P>, F),
    ) {
        match (taken, device) {
            (Taken::Fault(fault), Some(device)) => {
                self.handed += 1;
                hand(device, fault);
            }
            // The token is dropped, which answers.
            (Taken::Fault(_), None) | (Taken::NoRoom, _) => self.refused += 1,
            (Taken::Repeated, _) => self.repeated += 1,
            (Taken::NoAnswer, _) => {}
        }
    }
}

impl<P: Platform> DrivenSmmu<P> {
    fn take_events(
        &self,
        events: &mut Events<P>,
        wait: &P::Wait,
        handler: &mut impl FaultHandler<P>,
    ) -> Result<HandledFaults, DriverError> {
        use smmu_types::seam::Wait;

        let smmu = self.smmu.id();
        let mut sieve = self.sieve.lock();
        let (mut found, mut failed) = (HandledFaults::default(), None);
        let take = |record: EventRecord| {
            match self.faults.take_event(record) {
                Ok(Taken::NoAnswer) => {
                    self.report(&mut sieve, record, wait.now(), handler, &mut found);
                }
                Ok(taken) => {
                    let device = self.smmu.device_of(record.stream());
                    found.hand(taken, device, |device, fault| handler.stalled(device, fault));
                }
                Err(error) => return stop(&mut failed, error),
            }
            ControlFlow::Continue(())
        };
        let drained = events.drain_while(take);
        let drained = drained.map_err(|error| DriverError::EventQueue { smmu, error })?;
        (found.records, found.overflowed) = (drained.records, drained.overflowed);
        failed.map_or(Ok(found), |error| Err(DriverError::Answer { smmu, error }))
    }

    fn report(
        &self,
        sieve: &mut EventSieve,
        record: EventRecord,
        now: core::time::Duration,
        handler: &mut impl FaultHandler<P>,
        found: &mut HandledFaults,
    ) {
        match sieve.sieve(&record, now) {
            Sieved::Report { left_out } => handler.event(record, left_out),
            Sieved::Storm | Sieved::Spurious => found.left_out += 1,
        }
    }

    fn take_requests(
        &self,
        pages: &mut Pages<P>,
        handler: &mut impl FaultHandler<P>,
    ) -> Result<HandledFaults, DriverError> {
        let smmu = self.smmu.id();
        let (mut found, mut failed) = (HandledFaults::default(), None);
        let take = |record: PriRecord| {
            let device = self.smmu.device_of(record.stream());
            match (self.faults.take_request(record), device) {
                (Ok(Taken::NoAnswer), Some(device)) => handler.page_request(device, record),
                (Ok(taken), device) => {
                    found.hand(taken, device, |device, group| handler.page_group(device, group));
                }
                (Err(error), _) => return stop(&mut failed, error),
            }
            ControlFlow::Continue(())
        };
        let drained = pages.drain_while(take);
        let drained = drained.map_err(|error| DriverError::PriQueue { smmu, error })?;
        (found.records, found.overflowed) = (drained.records, drained.overflowed);
        if found.overflowed {
            handler.groups_lost();
        }
        failed.map_or(Ok(found), |error| Err(DriverError::Answer { smmu, error }))
    }
}

/// Leaves a record in its queue.
fn stop(failed: &mut Option<SinkError>, error: SinkError) -> ControlFlow<()> {
    *failed = Some(error);
    ControlFlow::Break(())
}

impl<P: Platform> Driver<P> {
    /// Hands every new event of an SMMU to a handler: stalled transactions with a token that answers,
    /// and the others as far as they are neither noise nor a storm. First sends the answers that the
    /// command queue did not take before.
    ///
    /// Holds the lock of the event queue meanwhile; the handler must not call this for the same SMMU.
    ///
    /// # Errors
    ///
    /// There is no such SMMU, another CPU drains this queue, the SMMU restarts, `EVENTQ_PROD` cannot
    /// be right, or the table of waiting faults is full and the command queue takes no answer. In the
    /// last case the record stays in the event queue.
    pub fn handle_events(
        &self,
        smmu: SmmuId,
        handler: &mut impl FaultHandler<P>,
    ) -> Result<HandledFaults, DriverError> {
        let driven = self.smmu(smmu)?;
        // An error means that the answers stay kept; the records come first.
        let _ = driven.faults.send_kept();
        let mut events = driven.events.try_lock().ok_or(DriverError::Busy { smmu })?;
        let events = events.as_mut().ok_or(DriverError::Restarting { smmu })?;
        driven.take_events(events, self.wait(), handler)
    }

    /// Hands every new page request of an SMMU to a handler, as
    /// [`handle_events`](Self::handle_events) does with events.
    ///
    /// # Errors
    ///
    /// As of [`handle_events`](Self::handle_events), about the PRI queue. The driver was not asked for a
    /// PRI queue ([`SmmuOptions::pri_queue_log2`](crate::SmmuOptions::pri_queue_log2)), or the SMMU has
    /// none.
    pub fn handle_page_requests(
        &self,
        smmu: SmmuId,
        handler: &mut impl FaultHandler<P>,
    ) -> Result<HandledFaults, DriverError> {
        let driven = self.smmu(smmu)?;
        if !driven.part.takes_page_requests() {
            return Err(DriverError::NoPriQueue { smmu });
        }
        let _ = driven.faults.send_kept();
        let mut pages = driven.pages.try_lock().ok_or(DriverError::Busy { smmu })?;
        let pages = pages.as_mut().ok_or(DriverError::Restarting { smmu })?;
        driven.take_requests(pages, handler)
    }

    /// Answers all that waits of a device, after the device has left its domain.
    ///
    /// 1. The caller has blocked the device or attached it elsewhere, and the SMMU has confirmed it. For
    ///    a device with PRI, its page requests are off: the change has turned them off
    ///    ([`DeviceConfig::page_requests`](smmu_attach::DeviceConfig::page_requests)), or the caller has.
    /// 2. This call drains both queues, so that each fault from before has its token: the handler gets
    ///    them, those of other devices too.
    /// 3. It answers what still waits of the device: a stalled transaction with an abort, a group with
    ///    `InvalidRequest`. Tokens of the device that come later answer nothing
    ///    ([`Answered::Withdrawn`](smmu_attach::faults::Answered::Withdrawn)).
    /// 4. It waits until no other thread is sending an answer of the device, as long as
    ///    [`SmmuOptions::timeout`](crate::SmmuOptions::timeout) at most.
    ///
    /// Waits for the locks of the queues, so do not call it from their handlers.
    ///
    /// # Errors
    ///
    /// A queue cannot be read, or an answer is not sent: it is kept, and the next
    /// [`handle_events`](Self::handle_events) or this call sends it.
    pub fn withdraw_faults(
        &self,
        device: &Device<P>,
        handler: &mut impl FaultHandler<P>,
    ) -> Result<Withdrawn, DriverError> {
        self.withdraw_where(device, |_| true, handler)
    }

    /// Answers all that waits of one substream of a device, after the substream has left its domain.
    ///
    /// The steps are those of [`withdraw_faults`](Self::withdraw_faults), for the faults whose record
    /// has this SubstreamID. Those of other substreams, and of transactions without a SubstreamID, wait
    /// on for their handler.
    ///
    /// # Errors
    ///
    /// As of [`withdraw_faults`](Self::withdraw_faults).
    pub fn withdraw_substream_faults(
        &self,
        substream: &Substream<P>,
        handler: &mut impl FaultHandler<P>,
    ) -> Result<Withdrawn, DriverError> {
        let of = Some(substream.id());
        self.withdraw_where(substream.device(), |id| id.substream == of, handler)
    }

    fn withdraw_where(
        &self,
        device: &Device<P>,
        wanted: impl Fn(&FaultId) -> bool,
        handler: &mut impl FaultHandler<P>,
    ) -> Result<Withdrawn, DriverError> {
        let smmu = device.smmu();
        let driven = self.smmu(smmu)?;
        // One drain takes a whole queue, so it takes each record from before this call. A queue that
        // restarts is empty.
        if let Some(events) = driven.events.lock().as_mut() {
            driven.take_events(events, self.wait(), handler)?;
        }
        if let Some(pages) = driven.pages.lock().as_mut() {
            driven.take_requests(pages, handler)?;
        }
        let of_device = |stream| device.streams().any(|own| own == stream);
        let wanted = |id: &FaultId| of_device(id.stream) && wanted(id);
        let mut withdrawn = driven.faults.withdraw(wanted);
        let timeout = driven.part.options.timeout;
        let sent = poll(self.wait(), timeout, || {
            withdrawn.left = driven.faults.outstanding_of(wanted);
            (withdrawn.left.sending == 0).then_some(())
        });
        match (withdrawn.error, sent) {
            (Some(error), _) => Err(DriverError::Answer { smmu, error }),
            (None, Err(_)) => Err(DriverError::Answer { smmu, error: SinkError::timeout(smmu) }),
            (None, Ok(())) => Ok(withdrawn),
        }
    }
}
