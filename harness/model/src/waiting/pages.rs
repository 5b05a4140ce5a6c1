//! What devices know of their page requests: a group waits for one response.

use std::collections::BTreeSet;

use smmu_types::{Command, PrgIndex, PriRecord, PriResponse, StreamId, SubstreamId};

use crate::hazard::{Hazard, Waits};

/// A group of page requests, as its device knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Group {
    pub(super) stream: StreamId,
    pub(super) substream: Option<SubstreamId>,
    pub(super) group: PrgIndex,
}

impl Group {
    pub(super) fn of(request: &PriRecord) -> Self {
        let (stream, substream) = (request.stream(), request.substream());
        Group { stream, substream, group: request.group() }
    }
}

/// The response to a group of page requests, as its device gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageResponse {
    /// The stream.
    pub stream: StreamId,
    /// The substream, if the request had one.
    pub substream: Option<SubstreamId>,
    /// The group.
    pub group: PrgIndex,
    /// The response.
    pub response: PriResponse,
    /// Whether the SMMU answered by itself: its queue was full or off.
    pub automatic: bool,
}

/// What devices wait for. It survives a reset of the SMMU.
#[derive(Debug, Default)]
pub(crate) struct Pages {
    pub(super) waiting: BTreeSet<Group>,
    /// Groups that have their response, and that their device has not used again.
    pub(super) answered: BTreeSet<Group>,
    responses: Vec<PageResponse>,
}

impl Pages {
    pub(crate) fn take_responses(&mut self) -> Vec<PageResponse> {
        std::mem::take(&mut self.responses)
    }

    pub(super) fn unanswered(&self, smmu: usize) -> impl Iterator<Item = Hazard> + '_ {
        self.waiting.iter().map(move |&Group { stream, substream, group }| {
            let response = PriResponse::Invalid;
            let missing = Command::PriResp { stream, substream, group, response };
            Hazard::Unanswered { smmu, stream, waits: Waits::Group { substream, group }, missing }
        })
    }

    /// Hand a response to the device that waits for it.
    pub(super) fn answer(&mut self, of: Group, response: PriResponse, automatic: bool) -> bool {
        let waited = self.waiting.remove(&of);
        if waited {
            let Group { stream, substream, group } = of;
            self.responses.push(PageResponse { stream, substream, group, response, automatic });
            if !automatic {
                self.answered.insert(of);
            }
        }
        waited
    }
}
