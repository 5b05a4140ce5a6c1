//! Faults that wait, as the handler of a scenario holds them.

use smmu_driver::smmu_attach::faults::Answered;
use smmu_driver::smmu_types::{EventRecord, PriRecord, SmmuId, StreamId, SubstreamId};
use smmu_driver::{Device, FaultHandler, PageRequestGroup, Stalled};

use super::platform::Harness;
use crate::prelude::*;
use crate::row::Facts;
use crate::scenario::AnswerWith;
use crate::transcript::{LineKind, Recorder};

/// A fault that waits for a step to answer it.
pub(crate) enum HeldFault {
    Stall(Stalled<Harness>),
    Group(PageRequestGroup<Harness>),
}

impl HeldFault {
    pub(crate) fn smmu_stream(&self) -> StreamId {
        match self {
            HeldFault::Stall(fault) => fault.stream(),
            HeldFault::Group(group) => group.stream(),
        }
    }

    pub(crate) fn substream(&self) -> Option<SubstreamId> {
        match self {
            HeldFault::Stall(fault) => fault.substream(),
            HeldFault::Group(group) => group.substream(),
        }
    }

    /// Answer, or `None` if this answer is for the other kind of fault.
    pub(crate) fn answer(self, with: AnswerWith) -> Option<Answered> {
        Some(match (self, with) {
            (HeldFault::Stall(fault), AnswerWith::Retry) => fault.retry(),
            (HeldFault::Stall(fault), AnswerWith::Terminate) => fault.terminate(),
            (HeldFault::Stall(fault), AnswerWith::Abort) => fault.abort(),
            (HeldFault::Group(group), AnswerWith::Success) => group.success(),
            (HeldFault::Group(group), AnswerWith::Invalid) => group.invalid(),
            (HeldFault::Group(group), AnswerWith::Failure) => group.failure(),
            (fault, AnswerWith::Drop) => {
                drop(fault);
                Answered::Sent
            }
            _ => return None,
        })
    }
}

/// The handler of a scenario: it records what comes, and keeps what waits.
pub(crate) struct Listener<'r> {
    pub(crate) recorder: &'r Recorder,
    pub(crate) name: String,
    pub(crate) smmu: SmmuId,
    /// How many events of one kind and stream it takes; what is more is left out.
    pub(crate) most_alike: usize,
    pub(crate) events: Vec<EventRecord>,
    pub(crate) requests: Vec<PriRecord>,
    pub(crate) held: Vec<(SmmuId, HeldFault)>,
}

impl<'r> Listener<'r> {
    pub(crate) fn new(recorder: &'r Recorder, name: &str, smmu: SmmuId) -> Self {
        let name = name.to_owned();
        let (events, requests, held) = (Vec::new(), Vec::new(), Vec::new());
        Listener { recorder, name, smmu, most_alike: usize::MAX, events, requests, held }
    }

    fn record(&mut self, record: EventRecord) {
        let who = |event: &EventRecord| (event.kind(), event.stream(), event.substream());
        let alike = self.events.iter().filter(|event| who(event) == who(&record));
        if alike.count() >= self.most_alike {
            return;
        }
        let (name, text) = (Some(self.name.as_str()), || record.to_string());
        self.recorder.typed(LineKind::Event, name, &record.0, Facts::default, text);
        self.events.push(record);
    }

    fn request(&mut self, record: PriRecord) {
        self.recorder.about(LineKind::Event, &self.name, || record.to_string());
        self.requests.push(record);
    }
}

impl FaultHandler<Harness> for Listener<'_> {
    fn event(&mut self, record: EventRecord, _: u64) {
        self.record(record);
    }

    fn stalled(&mut self, _: Device<Harness>, fault: Stalled<Harness>) {
        self.record(*fault.record());
        self.held.push((self.smmu, HeldFault::Stall(fault)));
    }

    fn page_request(&mut self, _: Device<Harness>, record: PriRecord) {
        self.request(record);
    }

    fn page_group(&mut self, _: Device<Harness>, group: PageRequestGroup<Harness>) {
        self.request(*group.record());
        self.held.push((self.smmu, HeldFault::Group(group)));
    }

    fn groups_lost(&mut self) {
        self.recorder.about(LineKind::Event, &self.name, || "the PRI queue overflowed".into());
    }
}
