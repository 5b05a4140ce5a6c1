//! One token for each fault: it answers once.

use core::fmt;

use smmu_types::{EventRecord, PriRecord, PriResponse, ResumeAction, StreamId, SubstreamId};

use super::answer::{AnswerSink, Answered, FaultId, Response};
use super::slots::Ticket;
use super::table::FaultTable;

/// A fault whose answer is still open. Dropping it refuses.
struct Open<S: AnswerSink> {
    table: FaultTable<S>,
    id: FaultId,
    // `None` once it is answered.
    ticket: Option<Ticket>,
}

impl<S: AnswerSink> Open<S> {
    fn answer(&mut self, response: Response) -> Answered {
        match self.ticket.take() {
            Some(ticket) => self.table.answer(ticket, &self.id, response),
            None => Answered::Withdrawn,
        }
    }
}

impl<S: AnswerSink> Drop for Open<S> {
    fn drop(&mut self) {
        // The table keeps an answer that the queue does not take.
        let _ = self.answer(self.id.refusal());
    }
}

/// A stalled transaction. Dropping it aborts the transaction.
///
/// Answer soon: the transaction holds a buffer of the SMMU, and may hold up other traffic (3.12.2.3).
#[must_use = "dropping it aborts the transaction"]
pub struct StalledFault<S: AnswerSink> {
    open: Open<S>,
    record: EventRecord,
}

impl<S: AnswerSink> StalledFault<S> {
    pub(crate) fn new(table: FaultTable<S>, ticket: Ticket, record: EventRecord) -> Self {
        let id = FaultId {
            stream: record.stream(),
            substream: record.substream(),
            tag: super::FaultTag::Stall(record.stall_tag()),
        };
        StalledFault { open: Open { table, id, ticket: Some(ticket) }, record }
    }

    /// The event record: address, access, stage.
    #[must_use]
    pub const fn record(&self) -> &EventRecord {
        &self.record
    }

    /// The stream.
    #[must_use]
    pub const fn stream(&self) -> StreamId {
        self.open.id.stream
    }

    /// The substream, if the transaction has one.
    #[must_use]
    pub const fn substream(&self) -> Option<SubstreamId> {
        self.open.id.substream
    }

    /// Lets the transaction try again, as if it had just arrived. It may fault again, which is a new
    /// fault.
    pub fn retry(mut self) -> Answered {
        self.open.answer(Response::Resume(ResumeAction::Retry))
    }

    /// Ends the transaction with an abort.
    pub fn abort(mut self) -> Answered {
        self.open.answer(Response::Resume(ResumeAction::Abort))
    }

    /// Ends the transaction as if it had succeeded: reads give 0, and writes are ignored. An SMMU
    /// with `IDR0.TERM_MODEL` = 1 aborts it instead.
    pub fn terminate(mut self) -> Answered {
        self.open.answer(Response::Resume(ResumeAction::Terminate))
    }
}

impl<S: AnswerSink> fmt::Debug for StalledFault<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StalledFault({})", self.record)
    }
}

/// The last request of a group of page requests. Dropping it answers `InvalidRequest`.
///
/// The response is for the whole group. The reader of the PRI queue has seen its other requests
/// before.
#[must_use = "dropping it refuses the group"]
pub struct PageGroup<S: AnswerSink> {
    open: Open<S>,
    record: PriRecord,
}

impl<S: AnswerSink> PageGroup<S> {
    pub(crate) fn new(table: FaultTable<S>, ticket: Ticket, record: PriRecord) -> Self {
        let id = FaultId {
            stream: record.stream(),
            substream: record.substream(),
            tag: super::FaultTag::Group(record.group()),
        };
        PageGroup { open: Open { table, id, ticket: Some(ticket) }, record }
    }

    /// The last request: page, access, group.
    #[must_use]
    pub const fn record(&self) -> &PriRecord {
        &self.record
    }

    /// The stream.
    #[must_use]
    pub const fn stream(&self) -> StreamId {
        self.open.id.stream
    }

    /// The substream, if the requests have one.
    #[must_use]
    pub const fn substream(&self) -> Option<SubstreamId> {
        self.open.id.substream
    }

    /// All pages of the group are mapped: the device asks for their translations again.
    pub fn success(mut self) -> Answered {
        self.open.answer(Response::Group(PriResponse::Success))
    }

    /// A page of the group does not exist, or does not allow the access.
    pub fn invalid(mut self) -> Answered {
        self.open.answer(Response::Group(PriResponse::Invalid))
    }

    /// A failure for good, such as ATS that is off. The device stops sending page requests.
    pub fn failure(mut self) -> Answered {
        self.open.answer(Response::Group(PriResponse::Failure))
    }
}

impl<S: AnswerSink> fmt::Debug for PageGroup<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PageGroup({})", self.record)
    }
}
