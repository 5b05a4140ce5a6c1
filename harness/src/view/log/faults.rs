//! Counts the faults of a log, by kind, SMMU and stream. Their size is bounded, whatever the log.

use std::collections::HashMap;

use smmu_decode::explain::topic;
use smmu_decode::{DecodeContext, FoundWords, LogSays, LogTime, reports};
use smmu_types::StreamId;

use super::class::Class;
use super::short;
use super::sightings::Sighting;

/// The maximum number of storms: of kinds of faults at a stream or an SMMU.
const STORMS: usize = 4096;
/// The maximum number of kinds, and of SMMUs with storms of their own.
const KINDS: usize = 256;
const SMMUS: usize = 64;
/// How many storms keep what their first fault means.
const EXAMPLES: usize = 512;
/// How many streams have a name.
const NAMES: usize = 4096;

/// Where in the log a fault stands.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// Its line; 0 for an argument.
    pub(super) line: usize,
    /// Its time as the log has it; empty without one.
    pub(super) text: String,
    /// Its time as a number.
    pub(super) time: Option<LogTime>,
}

impl Seen {
    pub(super) fn new(line: usize, text: &str) -> Self {
        Seen { line, text: short::name(text).to_owned(), time: LogTime::read(text) }
    }

    /// The time, or else the line.
    pub(super) fn shown(&self) -> String {
        match (self.text.as_str(), self.line) {
            ("", 0) => "-".into(),
            ("", line) => format!("line {line}"),
            (text, _) => text.to_owned(),
        }
    }
}

/// What the first fault of a storm means, and what to check.
#[derive(Clone, Debug)]
pub(super) struct Example {
    pub(super) means: String,
    pub(super) next: Vec<String>,
}

/// All faults of a kind at one stream, or at one SMMU.
#[derive(Clone, Debug)]
pub(super) struct Storm {
    /// The SMMU as the log names it; empty if the log does not say.
    pub(super) smmu: String,
    pub(super) stream: Option<StreamId>,
    /// The number of its kind.
    pub(super) kind: usize,
    pub(super) count: u64,
    pub(super) first: Seen,
    pub(super) last: Seen,
    /// The lowest and the highest input address.
    pub(super) addresses: Option<(u64, u64)>,
    /// The decoded structure of the first.
    pub(super) structure: Option<usize>,
    pub(super) example: Option<Example>,
}

/// A kind of faults.
#[derive(Clone, Debug)]
pub(super) struct Kind {
    /// Its name, or a sentence.
    pub(super) name: String,
    pub(super) class: Class,
    pub(super) count: u64,
    /// The lines of other programs just before the first of this kind.
    pub(super) before: Vec<String>,
}

impl Kind {
    /// Its name; of a sentence, what stands before its colon.
    pub(super) fn title(&self) -> &str {
        self.name.split(": ").next().unwrap_or_default()
    }

    /// What stands behind the colon of a sentence.
    pub(super) fn rest(&self) -> &str {
        self.name.split_once(": ").map_or("", |(_, rest)| rest)
    }
}

/// The faults of a log.
#[derive(Debug, Default)]
pub(super) struct Faults {
    storms: Vec<Storm>,
    places: HashMap<(usize, Option<u32>, usize), usize>,
    kinds: Vec<Kind>,
    smmus: Vec<String>,
    names: HashMap<(String, u32), String>,
    examples: usize,
    /// Faults that found no storm.
    uncounted: u64,
    /// All of them.
    count: u64,
    first: Option<Seen>,
    last: Option<Seen>,
    /// The times have one clock, and do not go back.
    timed: Option<bool>,
}

/// Log lines of several CPUs may be a little out of order.
const DISORDER: i64 = -1_000_000;

impl Faults {
    /// Counts a fault. `before` tells the lines just before it.
    pub(super) fn add(
        &mut self,
        sighting: &Sighting<'_>,
        seen: &Seen,
        found: Option<(&FoundWords, &DecodeContext<'_>)>,
        structure: Option<usize>,
        before: &[String],
    ) {
        self.count += 1;
        let follows = match (seen.time, self.last.as_ref().and_then(|last| last.time)) {
            (Some(now), Some(last)) => now.since(last).is_some_and(|gap| gap >= DISORDER),
            (now, _) => now.is_some(),
        };
        self.timed = Some(self.timed.unwrap_or(true) && follows);
        self.first.get_or_insert_with(|| seen.clone());
        self.last = Some(seen.clone());
        let kind = self.kind(sighting, before);
        if let Some(kind) = kind.and_then(|kind| self.kinds.get_mut(kind)) {
            kind.count += 1;
        }
        let at = kind.and_then(|kind| self.place(sighting, kind, seen, found, structure));
        let Some(storm) = at.and_then(|at| self.storms.get_mut(at)) else {
            self.uncounted += 1;
            return;
        };
        storm.count += 1;
        storm.last.clone_from(seen);
        if let Some(address) = found.and_then(|(found, _)| found.input_address()) {
            let (low, high) = storm.addresses.unwrap_or((address, address));
            storm.addresses = Some((low.min(address), high.max(address)));
        }
    }

    /// The number of a storm, which is new if there is room.
    fn place(
        &mut self,
        sighting: &Sighting<'_>,
        kind: usize,
        seen: &Seen,
        found: Option<(&FoundWords, &DecodeContext<'_>)>,
        structure: Option<usize>,
    ) -> Option<usize> {
        let smmu = self.smmu(sighting.smmu)?;
        let key = (smmu, sighting.stream.map(|stream| stream.0), kind);
        if let Some(at) = self.places.get(&key) {
            return Some(*at);
        }
        if self.storms.len() >= STORMS {
            return None;
        }
        let example = self.example(sighting, found);
        self.storms.push(Storm {
            smmu: sighting.smmu.to_owned(),
            stream: sighting.stream,
            kind,
            count: 0,
            first: seen.clone(),
            last: seen.clone(),
            addresses: None,
            structure,
            example,
        });
        self.places.insert(key, self.storms.len() - 1);
        Some(self.storms.len() - 1)
    }

    /// The number of a kind, which is new if there is room.
    fn kind(&mut self, sighting: &Sighting<'_>, before: &[String]) -> Option<usize> {
        let known = self.kinds.iter().position(|kind| kind.name == sighting.kind);
        if known.is_some() || self.kinds.len() >= KINDS {
            return known;
        }
        let (name, class) = (sighting.kind.clone().into_owned(), sighting.class);
        let before = before.to_vec();
        self.kinds.push(Kind { name, class, count: 0, before });
        Some(self.kinds.len() - 1)
    }

    fn smmu(&mut self, name: &str) -> Option<usize> {
        let known = self.smmus.iter().position(|known| known == name);
        if known.is_some() || self.smmus.len() >= SMMUS {
            return known;
        }
        self.smmus.push(name.to_owned());
        Some(self.smmus.len() - 1)
    }

    /// What a fault means. A register tells of several, so each has the text of its own name.
    fn example(
        &mut self,
        sighting: &Sighting<'_>,
        found: Option<(&FoundWords, &DecodeContext<'_>)>,
    ) -> Option<Example> {
        let (found, context) = found?;
        if self.examples >= EXAMPLES {
            return None;
        }
        self.examples += 1;
        if let (Class::Error, Some(topic)) = (sighting.class, topic(&sighting.kind)) {
            return Some(Example { means: topic.means, next: topic.look });
        }
        let report = reports(found, context).into_iter().next()?;
        let mut next = report.findings;
        next.extend(report.advice.next);
        let means = match found.says {
            LogSays::Refused => {
                // What is wrong with its fields comes last, and is what counts here.
                next.reverse();
                let set = report.rows.iter().filter(|row| row.value != 0 && row.name != "Opcode");
                let set: Vec<String> = set
                    .map(|row| format!("{} = {} ({})", row.name, row.shown, row.meaning))
                    .collect();
                format!("the SMMU refused {} with {}", report.name, set.join(", "))
            }
            LogSays::SyncTimeout { .. } => {
                format!("a CMD_SYNC did not complete in time; {}", report.advice.means)
            }
            _ => report.advice.means,
        };
        Some(Example { means, next })
    }

    /// Keeps the name of a device.
    pub(super) fn name(&mut self, smmu: &str, stream: StreamId, name: &str) {
        if self.names.len() < NAMES {
            let key = (short::name(smmu).to_owned(), stream.0);
            self.names.entry(key).or_insert_with(|| short::name(name).to_owned());
        }
    }

    /// The device of a stream, if the log or a firmware table names it.
    pub(super) fn device(&self, smmu: &str, stream: StreamId) -> Option<&str> {
        self.names.get(&(short::name(smmu).to_owned(), stream.0)).map(String::as_str)
    }

    /// The storms, the most frequent first.
    pub(super) fn storms(&self) -> Vec<&Storm> {
        let mut storms: Vec<&Storm> = self.storms.iter().collect();
        storms.sort_by_key(|storm| std::cmp::Reverse(storm.count));
        storms
    }

    /// The kinds with their numbers, the most frequent first.
    pub(super) fn kinds(&self) -> Vec<(usize, &Kind)> {
        let mut kinds: Vec<(usize, &Kind)> = self.kinds.iter().enumerate().collect();
        kinds
            .sort_by_key(|(_, kind)| (kind.class == Class::Request, std::cmp::Reverse(kind.count)));
        kinds
    }

    pub(super) fn kind_of(&self, storm: &Storm) -> Option<&Kind> {
        self.kinds.get(storm.kind)
    }

    /// How many SMMUs have faults.
    pub(super) fn smmus(&self) -> usize {
        self.smmus.len()
    }

    /// Whether there may be more SMMUs than are told apart.
    pub(super) fn has_more_smmus(&self) -> bool {
        self.smmus.len() >= SMMUS
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Faults beyond the bounds.
    pub(super) fn uncounted(&self) -> u64 {
        self.uncounted
    }

    /// The first and the last fault in the order of the log.
    pub(super) fn span(&self) -> Option<(&Seen, &Seen)> {
        self.first.as_ref().zip(self.last.as_ref())
    }

    /// Whether times order the faults: each has one, of the same clock, and none goes back.
    pub(super) fn timed(&self) -> bool {
        self.timed == Some(true)
    }
}
