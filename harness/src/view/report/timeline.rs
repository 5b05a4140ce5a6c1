//! The timeline of a scenario: an SVG with a lane for each queue, device and tag.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use smmu_engine::record::{Detail, Queue, Row, ScenarioRecord, TagChange};
use smmu_engine::transcript::LineKind;

use super::decoded_row::number_of;
use crate::view::page::{Structures, Text};

/// Pixels of a row of the record, and of a lane.
const STEP_X: usize = 14;
const LANE_Y: usize = 26;
/// Pixels of the names of lanes, and of the numbers of steps.
const LEFT: usize = 118;
const TOP: usize = 22;
/// Pixels of a digit.
const DIGIT_X: usize = 7;

/// What a lane shows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Lane {
    Queue(String, bool),
    Device(String),
    Tag(String, String),
}

impl Lane {
    fn name(&self) -> String {
        match self {
            Lane::Queue(smmu, false) => smmu.clone(),
            Lane::Queue(smmu, true) => format!("{smmu} 2nd"),
            Lane::Device(device) => device.clone(),
            Lane::Tag(smmu, tag) => format!("{smmu} {tag}"),
        }
    }
}

/// Rows that a timeline shows, each in its column.
fn is_shown(row: &Row) -> bool {
    matches!(
        row.kind,
        LineKind::Step
            | LineKind::Command
            | LineKind::Dma
            | LineKind::Event
            | LineKind::Tag
            | LineKind::Hazard
    )
}

/// The lane of a row. A hazard without a device stands in the queue of its SMMU.
fn lane(row: &Row) -> Option<Lane> {
    let smmu = || row.smmu.clone();
    match (row.kind, &row.detail) {
        (LineKind::Command, Some(Detail::Command { queue, .. })) => {
            Some(Lane::Queue(smmu()?, *queue == Queue::Second))
        }
        (LineKind::Tag, Some(Detail::Tag { tag, .. })) => Some(Lane::Tag(smmu()?, tag.clone())),
        (LineKind::Dma | LineKind::Event | LineKind::Hazard, _) => match &row.device {
            Some(device) => Some(Lane::Device(device.clone())),
            None => Some(Lane::Queue(smmu()?, false)),
        },
        _ => None,
    }
}

/// Writes the timeline of a scenario; nothing without rows.
pub(super) fn timeline(
    out: &mut String,
    record: &ScenarioRecord,
    structures: &mut Structures,
) -> fmt::Result {
    let rows: Vec<&Row> = record.rows.iter().filter(|row| is_shown(row)).collect();
    let mut lanes: BTreeMap<Lane, usize> = BTreeMap::new();
    for lane in rows.iter().filter_map(|row| lane(row)) {
        lanes.insert(lane, 0);
    }
    if lanes.is_empty() {
        return Ok(());
    }
    for (at, y) in lanes.values_mut().enumerate() {
        *y = TOP + at * LANE_Y;
    }
    let width = LEFT + rows.len() * STEP_X + STEP_X;
    let height = TOP + lanes.len() * LANE_Y + 4;
    write!(
        out,
        "<div class=scroll tabindex=0 role=group aria-label=\"Timeline: arrow keys move between \
         commands, Enter shows one\"><svg class=timeline data-left={LEFT} width={width} height={height} viewBox=\"0 \
         0 {width} {height}\">"
    )?;
    let x = |at: usize| LEFT + at * STEP_X;
    bands(out, &rows, x, height)?;
    for (lane, y) in &lanes {
        let line = y + LANE_Y - 3;
        write!(out, "<path class=lane d=\"M{LEFT} {line}H{width}\"/>")?;
        if let Lane::Tag(smmu, tag) = lane {
            tag_bar(out, &rows, (smmu, tag), *y, x)?;
        }
    }
    for (at, row) in rows.iter().enumerate() {
        let Some(y) = lane(row).and_then(|lane| lanes.get(&lane).copied()) else { continue };
        mark(out, row, (x(at), y), height, structures)?;
    }
    // The names stay in place while the rest scrolls.
    write!(out, "</svg><div class=names aria-hidden=true>")?;
    for lane in lanes.keys() {
        write!(out, "<span>{}</span>", Text(&lane.name()))?;
    }
    write!(out, "</div></div>")
}

/// A band for each step, with its number.
fn bands(
    out: &mut String,
    rows: &[&Row],
    x: impl Fn(usize) -> usize,
    height: usize,
) -> fmt::Result {
    let mut starts: Vec<(usize, &Row)> = Vec::new();
    for (at, row) in rows.iter().enumerate() {
        if row.kind == LineKind::Step {
            starts.push((at, row));
        }
    }
    // Numbers of short steps would overlap: one that has no room is left out, and its title stays.
    let mut free = 0;
    for (n, (at, row)) in starts.iter().enumerate() {
        let end = starts.get(n + 1).map_or(rows.len(), |(end, _)| *end);
        let (left, wide) = (x(*at), (end - at) * STEP_X);
        let class = if n % 2 == 0 { "even" } else { "odd" };
        write!(
            out,
            "<g><title>{}</title><rect class={class} x={left} y=0 width={wide} \
             height={height} />",
            Text(&row.text)
        )?;
        let number = row.step.to_string();
        if left >= free {
            write!(out, "<text x={} y=14>{number}</text>", left + 2)?;
            free = left + 2 + number.len() * DIGIT_X + 3;
        }
        write!(out, "</g>")?;
    }
    Ok(())
}

/// The life of a tag: fresh, in use, retiring, or quarantined.
fn tag_bar(
    out: &mut String,
    rows: &[&Row],
    (smmu, tag): (&str, &str),
    y: usize,
    x: impl Fn(usize) -> usize,
) -> fmt::Result {
    let mut since: Option<(usize, &str)> = None;
    let part = |out: &mut String, from: usize, to: usize, class: &str| {
        let (left, wide) = (x(from), ((to - from) * STEP_X).max(3));
        let (top, high) = (y + 6, LANE_Y - 14);
        write!(
            out,
            "<rect class=\"tag {class}\" x={left} y={top} width={wide} height={high}><title>{} \
             {}: {class}</title></rect>",
            Text(smmu),
            Text(tag)
        )
    };
    for (at, row) in rows.iter().enumerate() {
        let Some(Detail::Tag { tag: of, change, .. }) = &row.detail else {
            // A fresh tag is in use from the first command behind it: hardware may see it.
            if let (Some((from, "fresh")), LineKind::Command) = (since, row.kind) {
                part(out, from, at, "fresh")?;
                since = Some((at, "used"));
            }
            continue;
        };
        if of != tag || row.smmu.as_deref() != Some(smmu) {
            continue;
        }
        let next = match change {
            TagChange::Allocated => Some("fresh"),
            TagChange::Found => Some("used"),
            TagChange::Retired => Some("retiring"),
            TagChange::Quarantined => Some("quarantined"),
            TagChange::Freed | TagChange::Aborted | TagChange::Forgotten => None,
        };
        if let Some((from, class)) = since {
            part(out, from, at, class)?;
        }
        since = next.map(|class| (at, class));
    }
    match since {
        Some((from, class)) => part(out, from, rows.len(), class),
        None => Ok(()),
    }
}

/// The colour of a command.
fn class(text: &str) -> &'static str {
    match text.split(['_', ' ']).next() {
        Some("SYNC") => "sync",
        Some("TLBI") => "tlbi",
        Some("CFGI") => "cfgi",
        Some("ATC") => "atc",
        _ => "more",
    }
}

fn mark(
    out: &mut String,
    row: &Row,
    (x, y): (usize, usize),
    height: usize,
    structures: &mut Structures,
) -> fmt::Result {
    let (middle_x, middle_y) = (x + STEP_X / 2, y + LANE_Y / 2);
    let title = Text(&row.text);
    let number = number_of(row, structures);
    let data = number.map_or(String::new(), |number| format!(" data-s={number}"));
    match row.kind {
        LineKind::Command => write!(
            out,
            "<rect class=\"c {}\"{data} x={} y={} width={} height={}><title>{title}</title></rect>",
            class(&row.text),
            x + 1,
            y + 4,
            STEP_X - 2,
            LANE_Y - 10,
        ),
        LineKind::Event => write!(
            out,
            "<path class=\"c event\"{data} d=\"M{x} {}h12l-6 -12z\"><title>{title}</title></path>",
            y + 20
        ),
        LineKind::Dma => {
            let outcome = match &row.detail {
                Some(Detail::Dma { outcome, .. }) => outcome.as_str(),
                _ => "unknown",
            };
            write!(
                out,
                "<circle class=\"dma {}\" cx={middle_x} cy={middle_y} r=5><title>DMA at {}: \
                 {title}</title></circle>",
                Text(outcome),
                row.iova.unwrap_or_default()
            )
        }
        LineKind::Hazard => {
            let expected = matches!(&row.detail, Some(Detail::Hazard { expected: true, .. }));
            let class = if expected { "hazard expected" } else { "hazard" };
            write!(
                out,
                "<g class=\"{class}\"><title>{title}</title><path d=\"M{middle_x} {TOP}V{height}\"/>\
                 <path d=\"M{x} {}l12 12m0 -12l-12 12\"/></g>",
                y + 7
            )
        }
        _ => Ok(()),
    }
}
