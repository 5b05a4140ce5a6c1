//! The steps of a scenario as text, with arrays before and after, and with table entries as bits.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use smmu_engine::record::{Detail, Row, ScenarioRecord};
use smmu_engine::transcript::LineKind;

use super::bits;
use super::decoded_row::number_of;
use crate::view::page::{Structures, Text};

/// The entries of each domain's array, as the last change has left them.
type Arrays<'r> = BTreeMap<&'r str, Vec<&'r Row>>;

/// Writes all steps.
pub(super) fn steps(
    out: &mut String,
    record: &ScenarioRecord,
    structures: &mut Structures,
) -> fmt::Result {
    let failed = record.failure.as_ref().map(|why| why.step);
    let mut arrays = Arrays::new();
    write!(out, "<ol class=steps>")?;
    for rows in record.rows.chunk_by(|a, b| a.step == b.step) {
        let Some(first) = rows.first() else { continue };
        let bad = if failed == Some(first.step) { " class=bad" } else { "" };
        write!(out, "<li{bad}><h4>{}</h4>", Text(&first.text))?;
        let rest: Vec<&Row> = rows.iter().filter(|row| row.kind != LineKind::Step).collect();
        if !rest.is_empty() {
            write!(out, "<ul>")?;
            for row in rest.iter().filter(|row| row.kind != LineKind::Array) {
                line(out, row, structures)?;
            }
            write!(out, "</ul>")?;
        }
        array(out, &rest, &mut arrays)?;
        write!(out, "</li>")?;
    }
    write!(out, "</ol>")
}

fn kind_name(kind: LineKind) -> &'static str {
    match kind {
        LineKind::Step => "step",
        LineKind::Command => "command",
        LineKind::Acknowledge => "ack",
        LineKind::Tag => "tag",
        LineKind::Entry => "entry",
        LineKind::Array => "array",
        LineKind::Dma => "dma",
        LineKind::Event => "event",
        LineKind::Interrupt => "interrupt",
        LineKind::Error => "error",
        LineKind::Check => "check",
        LineKind::Store => "store",
        LineKind::Hazard => "hazard",
    }
}

fn line(out: &mut String, row: &Row, structures: &mut Structures) -> fmt::Result {
    let kind = kind_name(row.kind);
    let smmu = row.smmu.as_deref().filter(|_| row.kind != LineKind::Dma).unwrap_or_default();
    write!(out, "<li class={kind}><i>{kind}</i> ")?;
    if row.kind != LineKind::Hazard && !smmu.is_empty() {
        write!(out, "<span>{}</span> ", Text(smmu))?;
    }
    let owner = row.domain.as_deref().or(row.device.as_deref());
    match (number_of(row, structures), &row.detail) {
        (Some(number), _) => {
            write!(out, "<button data-s={number}>{}</button>", Text(&row.text))?;
            if let Some(owner) = owner {
                write!(out, " <small>of {}</small>", Text(owner))?;
            }
        }
        (None, Some(Detail::Store { entry, before, after })) => {
            write!(out, "<details><summary>{}</summary>", Text(&row.text))?;
            bits::entry(out, entry, before, after)?;
            write!(out, "</details>")?;
        }
        (None, Some(Detail::Hazard { expected: true, .. })) => {
            write!(out, "{} <small>(the step expects it)</small>", Text(&row.text))?;
        }
        (None, Some(Detail::Dma { access, .. })) => {
            let at = row.iova.unwrap_or_default();
            let device = row.device.as_deref().unwrap_or("?");
            write!(out, "{} {access} at {at}: {}", Text(device), Text(&row.text))?;
        }
        _ => write!(out, "{}", Text(&row.text))?,
    }
    write!(out, "</li>")
}

/// The arrays before and after a step that changed one.
fn array<'r>(out: &mut String, rows: &[&'r Row], arrays: &mut Arrays<'r>) -> fmt::Result {
    if !rows.iter().any(|row| row.kind == LineKind::Array) {
        return Ok(());
    }
    let mut now = Arrays::new();
    for row in rows.iter().filter(|row| row.kind == LineKind::Array) {
        now.entry(row.domain.as_deref().unwrap_or("?")).or_default().push(row);
    }
    let before = std::mem::replace(arrays, now);
    write!(out, "<div class=arrays>")?;
    for (title, these, others) in [("before", &before, &*arrays), ("after", arrays, &before)] {
        write!(out, "<table><caption>arrays {title}</caption>")?;
        if these.is_empty() {
            write!(out, "<tr><td>all empty")?;
        }
        for (domain, entries) in these {
            for row in entries {
                let other = others.get(domain).into_iter().flatten();
                let same = other.into_iter().any(|other| other.text == row.text);
                let text = row.text.split_once(": ").map_or(row.text.as_str(), |(_, text)| text);
                let (open, close) = if same { ("", "") } else { ("<mark>", "</mark>") };
                let (domain, text) = (Text(domain), Text(text));
                write!(out, "<tr><th scope=row>{domain}<td>{open}{text}{close}")?;
            }
        }
        write!(out, "</table>")?;
    }
    write!(out, "</div>")
}
