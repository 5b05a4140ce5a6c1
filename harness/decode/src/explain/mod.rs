//! Why an SMMU would refuse a configuration, or take it for another one.
//!
//! The rules are those of [`smmu_types::legal`], in the order in which a transaction meets them.

pub mod build;
pub mod common;
mod events;
mod topic;

pub use topic::{Topic, names, topic};

use crate::ids::KnownIds;
use crate::judge::{Judgement, NotJudged, judge};
use smmu_types::legal::{self, Effect, Finding, SmmuView, StreamLookup};
use smmu_types::{Cd, EventKind, Ste, StreamId, SubstreamId, fields};

/// A configuration to explain.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// The StreamID, and its stream table.
    pub stream: Option<(StreamId, StreamLookup)>,
    /// The STE.
    pub ste: Option<Ste>,
    /// The SubstreamID of a transaction; `Some(None)` for a transaction without one. `None` skips
    /// these rules.
    pub substream: Option<Option<SubstreamId>>,
    /// The CD.
    pub cd: Option<Cd>,
}

/// The findings about one structure.
#[derive(Clone, Debug)]
pub struct StructureFindings {
    /// The structure: "StreamID", "STE", "SubstreamID" or "CD".
    pub name: &'static str,
    /// The findings, in the order of the structure's fields.
    pub findings: Vec<Finding>,
    /// What cannot be judged, because ID registers are unknown.
    pub not_judged: Vec<NotJudged>,
}

impl StructureFindings {
    fn new(
        name: &'static str,
        ids: &KnownIds,
        smmu: &SmmuView,
        rules: impl Fn(&SmmuView, &mut dyn FnMut(Finding)),
    ) -> Self {
        let Judgement { findings, not_judged } = judge(ids, smmu, rules);
        StructureFindings { name, findings, not_judged }
    }

    /// The event in which a transaction ends here, if the structure is refused.
    #[must_use]
    pub fn refused(&self) -> Option<EventKind> {
        self.findings.iter().find_map(|finding| match finding.effect() {
            Effect::Illegal(event) => Some(event),
            _ => None,
        })
    }
}

/// Applies the rules to an SMMU whose ID registers are all known, in the order in which a
/// transaction meets them.
#[must_use]
pub fn explain(question: &Question, smmu: &SmmuView) -> Vec<StructureFindings> {
    explain_known(question, smmu, &KnownIds::all(smmu.id))
}

/// The same for an SMMU of which some ID registers are unknown. `smmu` has its settings.
#[must_use]
pub fn explain_known(
    question: &Question,
    smmu: &SmmuView,
    ids: &KnownIds,
) -> Vec<StructureFindings> {
    let mut parts = Vec::new();
    if let Some((stream, table)) = question.stream {
        parts.push(StructureFindings::new("StreamID", ids, smmu, |smmu, report| {
            legal::stream_id(stream, table, smmu, report);
        }));
    }
    if let Some(ste) = &question.ste {
        parts.push(StructureFindings::new("STE", ids, smmu, |smmu, report| {
            legal::ste(ste, smmu, report);
        }));
        if let Some(substream) = question.substream {
            parts.push(StructureFindings::new("SubstreamID", ids, smmu, |smmu, report| {
                legal::substream_id(substream, ste, smmu, report);
            }));
        }
    }
    // An STE without stage-1 translation leads to no CD.
    let reached = question.ste.is_none_or(|ste| ste.get(fields::ste::CONFIG) & 5 == 5);
    if let Some(cd) = question.cd.as_ref().filter(|_| reached) {
        // Without an STE, the CD is judged as that of a stage-1 stream of EL1.
        let ste = question.ste.unwrap_or(Ste([0xb, 0, 0, 0, 0, 0, 0, 0]));
        parts.push(StructureFindings::new("CD", ids, smmu, |smmu, report| {
            legal::cd(cd, &ste, smmu, report);
        }));
    }
    parts
}
