//! Fills in what a row does not say itself: fields of its words, and whose they are.

use alloc::collections::BTreeMap;

use smmu_driver::smmu_types::fields;
use smmu_driver::smmu_types::layout::{FieldValue, Layout};
use smmu_driver::smmu_types::{
    AtcSpan, CacheTag, Command, EventRecord, RawCommand, Regime, StreamId, SubstreamId,
};

use crate::machine::{HazardPlace, HazardReport};
use crate::prelude::*;
use crate::row::{Detail, Facts, Field, Hex, Queue};
use crate::run::RunReport;
use crate::scenario::{Scenario, Step};
use crate::transcript::{LineKind, Row, TranscriptLine};

/// Completes the rows of a report. A report of a machine that keeps no rows gets those of its
/// transcript: steps, commands and events with all that their words say.
pub fn complete(scenario: &Scenario, report: &mut RunReport) {
    if report.rows.is_empty() {
        report.rows = of_transcript(report);
    }
    hazards_of_failure(scenario, report);
    let mut owners = Owners::of(scenario);
    for row in &mut report.rows {
        decode(row);
        owners.name(row);
        if row.kind == LineKind::Step {
            step(row, scenario);
        }
    }
}

fn of_transcript(report: &RunReport) -> Vec<Row> {
    let mut step = 0;
    let row = |(time, line): (usize, &TranscriptLine)| {
        if line.kind == LineKind::Step {
            let number = line.text.split(' ').next().and_then(|number| number.parse().ok());
            step = number.unwrap_or(step);
        }
        Row::of_line(line.clone(), step, time as u64)
    };
    report.transcript.iter().enumerate().map(row).collect()
}

/// The hazards that ended a run are its last rows.
fn hazards_of_failure(scenario: &Scenario, report: &mut RunReport) {
    let Some(failure) = report.outcome.failure() else { return };
    let step = failure.step;
    let time = report.rows.last().map_or(0, |row| row.time + 1);
    let rows: Vec<Row> =
        failure.hazards.iter().map(|hazard| hazard_row(scenario, hazard, step, time)).collect();
    report.rows.extend(rows);
}

fn hazard_row(scenario: &Scenario, hazard: &HazardReport, step: usize, time: u64) -> Row {
    let HazardReport { text, missing, place } = hazard.clone();
    let HazardPlace { smmu, stream, substream, iova } = place;
    let smmu = smmu.and_then(|smmu| scenario.file.smmus.get(smmu));
    let smmu = smmu.map(|spec| spec.name.get_ref().clone());
    let detail = Some(Detail::Hazard { missing, expected: false });
    let facts = Facts { stream, substream, iova, detail, ..Facts::default() };
    let line = TranscriptLine { kind: LineKind::Hazard, smmu, text, raw: None };
    Row::new(line, step, time, facts)
}

/// The fields of a command or of an event, with what they name.
fn decode(row: &mut Row) {
    let words: Vec<u64> = row.raw.iter().flatten().map(|word| word.0).collect();
    match (row.kind, words.as_slice()) {
        (LineKind::Command, &[w0, w1]) => {
            let command = RawCommand([w0, w1]);
            let found =
                fields::command(w0 as u8).map_or(Vec::new(), |layout| split(layout, &words));
            match &mut row.detail {
                Some(Detail::Command { fields, .. }) => *fields = found,
                _ => {
                    let (queue, position, batch) = (Queue::Main, 0, 0);
                    let fields = found;
                    row.detail =
                        Some(Detail::Command { queue, position, consumed: None, batch, fields });
                }
            }
            about_command(row, &Command::decode(command));
        }
        (LineKind::Event, &[w0, w1, w2, w3]) => {
            let record = EventRecord([w0, w1, w2, w3]);
            let kind = record.kind();
            let fields = split(fields::event(kind), &words);
            row.detail = Some(Detail::Event { name: kind.to_string(), fields });
            row.stream = Some(record.stream().0);
            row.substream = record.substream().map(SubstreamId::get);
            if kind.is_translation_fault() {
                row.iova = Some(Hex(record.address().0));
            }
        }
        _ => {}
    }
}

fn split(layout: &'static Layout, words: &[u64]) -> Vec<Field> {
    let field = |part: FieldValue| Field {
        name: part.field.name().to_owned(),
        hi: part.field.hi(),
        lo: part.field.lo(),
        value: Hex(part.value),
        meaning: part.meaning().map(|meaning| meaning.to_string()),
    };
    layout.split(words).map(field).collect()
}

fn about_command(row: &mut Row, command: &Command) {
    let (stream, substream) = match *command {
        Command::CfgiCd { stream, substream, .. } => (Some(stream), Some(substream)),
        Command::PrefetchConfig { stream, substream }
        | Command::PrefetchAddr { stream, substream, .. }
        | Command::AtcInv { stream, substream, .. }
        | Command::PriResp { stream, substream, .. } => (Some(stream), substream),
        Command::CfgiSte { stream, .. }
        | Command::CfgiSteRange { stream, .. }
        | Command::CfgiCdAll { stream }
        | Command::Resume { stream, .. }
        | Command::StallTerm { stream } => (Some(stream), None),
        _ => (None, None),
    };
    row.stream = stream.map(|stream| stream.0);
    row.substream = substream.map(SubstreamId::get);
    row.iova = match *command {
        Command::TlbiNhVa { span, .. } | Command::TlbiNhVaa { span, .. } => Some(Hex(span.start())),
        Command::TlbiS2Ipa { span, .. } => Some(Hex(span.start())),
        Command::AtcInv { span, .. } if span != AtcSpan::EVERYTHING => Some(Hex(span.address().0)),
        _ => None,
    };
}

/// What a command names of a domain.
fn tag_of(command: &Command) -> Option<CacheTag> {
    Some(match *command {
        Command::TlbiNhAsid { asid, .. } | Command::TlbiNhVa { asid, .. } => {
            CacheTag::Asid(Regime::El1, asid)
        }
        Command::TlbiEl2Asid { asid } | Command::TlbiEl2Va { asid, .. } => {
            CacheTag::Asid(Regime::El2, asid)
        }
        Command::TlbiS12Vmall { vmid }
        | Command::TlbiS2Ipa { vmid, .. }
        | Command::TlbiNhAll { vmid } => CacheTag::Vmid(vmid),
        _ => return None,
    })
}

/// Which names stand for which streams and tags.
struct Owners {
    devices: BTreeMap<(String, u32), String>,
    tags: BTreeMap<(String, String), String>,
}

impl Owners {
    fn of(scenario: &Scenario) -> Self {
        let mut devices = BTreeMap::new();
        for spec in &scenario.file.devices {
            let smmu = spec.smmu.get_ref();
            for (name, StreamId(stream)) in spec.each() {
                devices.insert((smmu.clone(), stream), name);
            }
            for StreamId(stream) in spec.further() {
                devices.insert((smmu.clone(), stream), spec.name.get_ref().clone());
            }
        }
        Owners { devices, tags: BTreeMap::new() }
    }

    /// Names the device of a stream, and the domain of a tag.
    fn name(&mut self, row: &mut Row) {
        let Some(smmu) = row.smmu.clone() else { return };
        if let (None, Some(stream)) = (&row.device, row.stream) {
            row.device = self.devices.get(&(smmu.clone(), stream)).cloned();
        }
        let tag = match (&row.detail, row.raw.as_deref()) {
            (Some(Detail::Tag { tag, .. }), _) => Some(tag.clone()),
            (Some(Detail::Command { .. }), Some(&[Hex(w0), Hex(w1)])) => {
                tag_of(&Command::decode(RawCommand([w0, w1]))).map(|tag| tag.to_string())
            }
            _ => None,
        };
        let Some(tag) = tag else { return };
        match &row.domain {
            Some(domain) => {
                self.tags.insert((smmu, tag), domain.clone());
            }
            None => row.domain = self.tags.get(&(smmu, tag)).cloned(),
        }
    }
}

/// What a step of the scenario is about.
fn step(row: &mut Row, scenario: &Scenario) {
    let at = row.step.checked_sub(1);
    let line = at.and_then(|at| scenario.lines.get(at)).copied().unwrap_or(1);
    let spec = at.and_then(|at| scenario.file.steps.get(at)).map(|spec| spec.get_ref());
    let text = spec.map_or_else(String::new, |spec| spec.text());
    let (mut device, mut domain, mut iova) = (None, None, None);
    let verb = match spec {
        None => "",
        Some(Step::Attach(step)) => {
            device = Some(step.device.get_ref().clone());
            domain = Some(step.to.get_ref().clone());
            "attach"
        }
        Some(Step::Detach(step)) => {
            device = Some(step.device.get_ref().clone());
            "detach"
        }
        Some(Step::Map(step)) => {
            domain = Some(step.domain.get_ref().clone());
            iova = step.each().next().map(|(iova, _)| iova);
            "map"
        }
        Some(Step::Unmap(step)) => {
            domain = Some(step.domain.get_ref().clone());
            iova = Some(step.iova);
            "unmap"
        }
        Some(Step::Invalidate(step)) => {
            domain = Some(step.0.domain.get_ref().clone());
            iova = Some(step.0.iova);
            "invalidate"
        }
        Some(Step::Dma(step)) => {
            device = Some(step.device.get_ref().clone());
            iova = step.iova.as_ref().map(|iova| *iova.get_ref());
            "dma"
        }
        Some(_) => text.split(' ').next().unwrap_or_default(),
    };
    row.detail = Some(Detail::Step { verb: verb.to_owned(), line });
    (row.device, row.domain) = (device, domain);
    row.iova = iova.map(Hex);
}
