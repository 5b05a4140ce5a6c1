//! Which faults a structure or a note tells of.

use std::borrow::Cow;

use smmu_decode::{FoundWords, LogSays, StructureKind};
use smmu_types::regs::cmdq_cons;
use smmu_types::{CommandErrorCode, EventRecord, StreamId, fields};

use super::class::Class;
use super::short;

/// A fault that the log tells of.
#[derive(Clone, Debug)]
pub(super) struct Sighting<'t> {
    /// The SMMU as the log names it; empty if the log does not say.
    pub(super) smmu: &'t str,
    /// The stream, if it is one's fault.
    pub(super) stream: Option<StreamId>,
    /// The kind by the name that `explain` knows, or a sentence of its own.
    pub(super) kind: Cow<'t, str>,
    /// What is to blame.
    pub(super) class: Class,
}

/// What earlier structures say of later ones.
#[derive(Debug, Default)]
pub(super) struct Sightings {
    /// The latest `GERRORN`, with its SMMU.
    acknowledged: Option<(String, u64)>,
}

/// The word of a structure.
fn word(found: &FoundWords, n: usize) -> u64 {
    found.words.get(n).copied().unwrap_or(0)
}

/// The stream of an event or of a page request.
pub(super) fn stream(found: &FoundWords) -> Option<StreamId> {
    match found.kind {
        StructureKind::Event => Some(record(found).stream()),
        StructureKind::Pri => Some(StreamId(word(found, 0) as u32)),
        _ => None,
    }
}

fn record(found: &FoundWords) -> EventRecord {
    EventRecord(std::array::from_fn(|n| word(found, n)))
}

/// A fault that only a sentence tells of.
pub(super) fn trouble<'t>(smmu: &'t str, text: &'t str) -> Sighting<'t> {
    let (smmu, kind) = (short::name(smmu), short::sentence(text).into());
    Sighting { smmu, stream: None, kind, class: Class::Error }
}

impl Sightings {
    /// The faults of a structure; none for what only describes.
    pub(super) fn of<'t>(&mut self, found: &'t FoundWords) -> Vec<Sighting<'t>> {
        let of_smmu = |kind: Cow<'static, str>| Sighting {
            smmu: short::name(&found.smmu),
            stream: None,
            kind,
            class: Class::Error,
        };
        match found.kind {
            StructureKind::Event => {
                let record = record(found);
                let kind = record.kind().to_string().into();
                let (stream, class) = (Some(record.stream()), Class::of(record.kind()));
                vec![Sighting { smmu: short::name(&found.smmu), stream, kind, class }]
            }
            StructureKind::Pri => {
                let kind = "page request".into();
                vec![Sighting {
                    smmu: short::name(&found.smmu),
                    stream: stream(found),
                    kind,
                    class: Class::Request,
                }]
            }
            StructureKind::Queue if matches!(found.says, LogSays::SyncTimeout { .. }) => {
                vec![of_smmu("CMD_SYNC timeout".into())]
            }
            StructureKind::Command if found.says == LogSays::Refused => {
                let name = fields::opcode_name(word(found, 0) as u8).unwrap_or("command");
                vec![of_smmu(format!("refused {name}").into())]
            }
            StructureKind::Register(layout) => match layout.name() {
                "GERRORN" => {
                    self.acknowledged = Some((found.smmu.clone(), word(found, 0)));
                    Vec::new()
                }
                // A dump of firmware may show `GERRORN` behind `GERROR`: it is no fault for certain.
                "GERROR" if !found.source.is_empty() => {
                    let active = [word(found, 0) ^ self.acknowledged(found)];
                    let bits = layout.split(&active).filter(|part| part.value != 0);
                    bits.map(|part| of_smmu(part.field.name().into())).collect()
                }
                "CMDQ_CONS" if !found.source.is_empty() => {
                    let error = cmdq_cons::error(word(found, 0) as u32);
                    let stopped = error != CommandErrorCode::NONE;
                    stopped.then(|| of_smmu(error.to_string().into())).into_iter().collect()
                }
                _ => Vec::new(),
            },
            _ => Vec::new(),
        }
    }

    /// The errors that the latest `GERRORN` has acknowledged.
    fn acknowledged(&self, found: &FoundWords) -> u64 {
        match &self.acknowledged {
            _ if found.says == LogSays::ActiveBits => 0,
            Some((smmu, value)) if *smmu == found.smmu => *value,
            _ => 0,
        }
    }
}
