//! Which fault waits, how it can be answered, and through what.

use smmu_types::seam::{CommandSink, SinkError};
use smmu_types::{
    Command, EventRecord, PrgIndex, PriRecord, PriResponse, ResumeAction, SmmuId, StreamId,
    SubstreamId,
};

use crate::{Env, Platform};

/// What the SMMU or the device knows a fault by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FaultTag {
    /// `STAG` of a stalled transaction.
    Stall(u16),
    /// Number of a group of page requests.
    Group(PrgIndex),
}

/// A fault that waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FaultId {
    /// The stream.
    pub stream: StreamId,
    /// The substream, if the transaction or the request had one.
    pub substream: Option<SubstreamId>,
    /// The tag.
    pub tag: FaultTag,
}

impl FaultId {
    /// The fault of an event record; `None` if no transaction waits.
    #[must_use]
    pub const fn of_event(record: &EventRecord) -> Option<Self> {
        if !record.is_stalled() {
            return None;
        }
        let (stream, substream) = (record.stream(), record.substream());
        Some(FaultId { stream, substream, tag: FaultTag::Stall(record.stall_tag()) })
    }

    /// The fault of a page request; `None` if no group waits: it is not the last of its group, or
    /// the marker that a device has stopped using a PASID.
    #[must_use]
    pub const fn of_request(record: &PriRecord) -> Option<Self> {
        if !record.is_last() || record.is_stop() {
            return None;
        }
        let (stream, substream) = (record.stream(), record.substream());
        Some(FaultId { stream, substream, tag: FaultTag::Group(record.group()) })
    }

    /// Whether both wait for the same answer. A `CMD_RESUME` names no substream.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let tags = self.stream == other.stream && self.tag == other.tag;
        tags && (matches!(self.tag, FaultTag::Stall(_)) || self.substream == other.substream)
    }

    /// The answer of a fault that its handler does not answer.
    pub(crate) const fn refusal(&self) -> Response {
        match self.tag {
            FaultTag::Stall(_) => Response::Resume(ResumeAction::Abort),
            FaultTag::Group(_) => Response::Group(PriResponse::Invalid),
        }
    }

    /// The answer of a fault that has no room in the table.
    pub(crate) const fn no_room(&self) -> Response {
        match self.tag {
            FaultTag::Stall(_) => Response::Resume(ResumeAction::Abort),
            // The device asks again, as after an overflow of the PRI queue.
            FaultTag::Group(_) => Response::Group(PriResponse::Success),
        }
    }

    /// The command of an answer. A response of the other kind cannot come: tokens are typed.
    pub(crate) const fn command(&self, response: Response) -> Command {
        let FaultId { stream, substream, .. } = *self;
        match (self.tag, response) {
            (FaultTag::Stall(tag), Response::Resume(action)) => {
                Command::Resume { stream, tag, action }
            }
            (FaultTag::Stall(tag), Response::Group(_)) => {
                Command::Resume { stream, tag, action: ResumeAction::Abort }
            }
            (FaultTag::Group(group), Response::Group(response)) => {
                Command::PriResp { stream, substream, group, response }
            }
            (FaultTag::Group(group), Response::Resume(_)) => {
                Command::PriResp { stream, substream, group, response: PriResponse::Invalid }
            }
        }
    }
}

/// An answer that is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Response {
    Resume(ResumeAction),
    Group(PriResponse),
}

/// What became of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "an answer that is kept waits for `FaultTable::send_kept`"]
pub enum Answered {
    /// The command queue took it.
    Sent,
    /// The command queue did not take it. The table keeps it for
    /// [`FaultTable::send_kept`](super::FaultTable::send_kept).
    Kept(SinkError),
    /// The fault had its answer already: its device was withdrawn, or the SMMU was reset.
    Withdrawn,
}

impl Answered {
    /// Whether the command queue took this answer.
    #[must_use]
    pub const fn is_sent(&self) -> bool {
        matches!(self, Answered::Sent)
    }
}

/// Where answers go: a handle to a [`CommandSink`], which each token has a clone of.
///
/// [`Env`] is one, and so is a reference to any sink.
pub trait AnswerSink: Clone {
    /// Queues one command without a `CMD_SYNC`.
    ///
    /// # Errors
    ///
    /// The command was not queued. (An `Err` of [`CommandSink::push`] never means that all commands
    /// of the call were queued, and this call has one.)
    fn answer(&self, smmu: SmmuId, command: Command) -> Result<(), SinkError>;
}

impl<S: CommandSink> AnswerSink for &S {
    fn answer(&self, smmu: SmmuId, command: Command) -> Result<(), SinkError> {
        self.push(smmu, None, &[command]).map(drop)
    }
}

impl<P: Platform> AnswerSink for Env<P> {
    fn answer(&self, smmu: SmmuId, command: Command) -> Result<(), SinkError> {
        self.sink().push(smmu, None, &[command]).map(drop)
    }
}
