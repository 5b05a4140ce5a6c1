//! A run as one page of HTML, which needs nothing beside itself.

mod bits;
mod decoded_row;
mod steps;
mod timeline;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};

use smmu_engine::record::{Row, ScenarioRecord};
use smmu_engine::run::RunFailure;
use smmu_engine::transcript::LineKind;

use super::page::{self, Structures, Text, anchor};

/// The page of a run. `broken` says how the driver was broken on purpose.
///
/// # Errors
///
/// None: writing to a text does not fail.
pub fn report(records: &[ScenarioRecord], broken: Option<&str>) -> Result<String, fmt::Error> {
    let mut out = String::with_capacity(1 << 20);
    let mut structures = Structures::with_room(usize::MAX);
    let backend = records.first().map_or("", |record| record.backend.as_ref());
    page::begin(&mut out, &format!("SMMU run on {backend}"))?;
    // A failure comes first, then what did not run, then what passed.
    let rank = |record: &&ScenarioRecord| match record.outcome.as_ref() {
        "passed" if record.snapshot.state == "differs" => 0,
        "passed" => 2,
        "skipped" => 1,
        _ => 0,
    };
    let mut sorted: Vec<&ScenarioRecord> = records.iter().collect();
    sorted.sort_by_key(rank);
    head(&mut out, &sorted, backend, broken)?;
    write!(out, "<main>")?;
    for record in &sorted {
        let open = rank(record) == 0 || records.len() == 1;
        scenario(&mut out, record, open, &mut structures)?;
    }
    write!(out, "</main>")?;
    page::end(&mut out, structures)?;
    Ok(out)
}

/// The summary: how many ended how, the causes of failures, and a list of all.
fn head(
    out: &mut String,
    records: &[&ScenarioRecord],
    backend: &str,
    broken: Option<&str>,
) -> fmt::Result {
    let count = |outcome: &str| records.iter().filter(|record| record.outcome == outcome).count();
    let seconds: f64 = records.iter().map(|record| record.seconds).sum();
    write!(out, "<header><h1>SMMU run on {}</h1><p class=counts>", Text(backend))?;
    for outcome in ["failed", "timed-out", "broken", "passed", "skipped"] {
        match count(outcome) {
            0 => {}
            number => write!(out, "<b class={outcome}>{number} {outcome}</b> ")?,
        }
    }
    write!(out, "<span>in {seconds:.2} s</span></p>")?;
    if let Some(broken) = broken {
        write!(out, "<p class=facts>the driver is broken on purpose: {}</p>", Text(broken))?;
    }
    missing(out, records)?;
    for record in records {
        if let Some(why) = &record.failure {
            write!(out, "<section class=cause>")?;
            let name = &record.scenario;
            write!(out, "<h2><a href=\"#{}\">{}</a></h2>", anchor(name), Text(name))?;
            failure(out, why, record)?;
            write!(out, "</section>")?;
        }
    }
    write!(out, "<details class=all><summary>All scenarios</summary><table>")?;
    for record in records {
        let ScenarioRecord { scenario, title, outcome, reason, .. } = record;
        let reason = reason.as_deref().unwrap_or_default();
        write!(
            out,
            "<tr><td><b class={outcome}>{outcome}</b><td><a href=\"#{}\">{}</a><td>{} <small>{}\
             </small>",
            anchor(scenario),
            Text(scenario),
            Text(title),
            Text(reason)
        )?;
    }
    write!(out, "</table></details></header>")
}

/// The missing commands by name, those of most scenarios first. Many scenarios may fail of one cause.
fn missing(out: &mut String, records: &[&ScenarioRecord]) -> fmt::Result {
    let mut names: BTreeMap<&str, usize> = BTreeMap::new();
    let failures = records.iter().filter_map(|record| record.failure.as_ref());
    for why in failures {
        let missing = why.hazards.iter().filter_map(|hazard| hazard.missing.as_deref());
        let of_one: BTreeSet<&str> =
            missing.filter_map(|command| command.split(' ').next()).collect();
        for name in of_one {
            *names.entry(name).or_default() += 1;
        }
    }
    let mut names: Vec<(&str, usize)> = names.into_iter().collect();
    names.sort_by_key(|(_, count)| Reverse(*count));
    // One failure says it itself.
    if names.iter().map(|(_, count)| count).sum::<usize>() < 2 {
        return Ok(());
    }
    write!(out, "<p>missing: ")?;
    for (n, (name, count)) in names.iter().enumerate() {
        let (comma, s) = (if n == 0 { "" } else { ", " }, if *count == 1 { "" } else { "s" });
        let name = Text(name);
        write!(out, "{comma}<code class=missing>{name}</code> in {count} scenario{s}")?;
    }
    write!(out, "</p>")
}

/// Where it failed, what was expected, what happened, and which command was missing.
fn failure(out: &mut String, why: &RunFailure, record: &ScenarioRecord) -> fmt::Result {
    let RunFailure { step, file, line, text, expected, happened, hazards } = why;
    write!(out, "<p>Step {step}: {} <small>{}:{line}</small></p>", Text(text), Text(file))?;
    write!(out, "<dl>")?;
    if let Some(expected) = expected {
        write!(out, "<dt>expected<dd>{}", Text(expected))?;
    }
    write!(out, "<dt>happened<dd>{}", Text(happened))?;
    for hazard in hazards {
        // The missing command has a line of its own.
        let text = hazard.text.split("; missing: ").next().unwrap_or_default();
        write!(out, "<dt class=hazard>hazard<dd>{}", Text(text))?;
        if let Some(missing) = &hazard.missing {
            write!(
                out,
                "<dt class=hazard>missing<dd><code class=missing>{}</code>",
                Text(missing)
            )?;
        }
    }
    if hazards.iter().any(|hazard| hazard.missing.is_some()) {
        sent(out, record, *step)?;
    }
    write!(out, "</dl>")
}

/// The commands of the failed step: beside a missing one, they show whether it was forgotten, or had
/// another tag, address or SMMU.
fn sent(out: &mut String, record: &ScenarioRecord, step: usize) -> fmt::Result {
    let is_sent = |row: &&Row| row.step == step && row.kind == LineKind::Command;
    let sent: Vec<&Row> = record.rows.iter().filter(is_sent).collect();
    write!(out, "<dt>sent<dd>")?;
    if sent.is_empty() {
        write!(out, "nothing")?;
    }
    for (n, row) in sent.iter().take(SENT).enumerate() {
        let comma = if n == 0 { "" } else { ", " };
        let smmu = row.smmu.as_deref().unwrap_or_default();
        write!(out, "{comma}<code>{} {}</code>", Text(smmu), Text(&row.text))?;
    }
    if sent.len() > SENT {
        write!(out, " and {} more", sent.len() - SENT)?;
    }
    Ok(())
}

/// How many commands of a failed step the summary has.
const SENT: usize = 8;

fn scenario(
    out: &mut String,
    record: &ScenarioRecord,
    open: bool,
    structures: &mut Structures,
) -> fmt::Result {
    let ScenarioRecord { scenario, title, outcome, .. } = record;
    let open = if open { " open" } else { "" };
    write!(
        out,
        "<details class=scenario id=\"{}\"{open}><summary><b class={outcome}>{outcome}</b> \
         <strong>{}</strong> <span>{}</span></summary>",
        anchor(scenario),
        Text(scenario),
        Text(title)
    )?;
    if let Some(reason) = &record.reason {
        write!(out, "<p>{}</p>", Text(reason))?;
    }
    if let Some(difference) = &record.snapshot.difference {
        write!(out, "<p>The snapshot:</p><pre>{}</pre>", Text(difference))?;
    }
    let of = |kind: LineKind| {
        let is_it = move |row: &&Row| row.kind == kind;
        record.rows.iter().filter(is_it).count()
    };
    if !record.rows.is_empty() {
        let (steps, commands) = (of(LineKind::Step).saturating_sub(1), of(LineKind::Command));
        write!(
            out,
            "<p class=facts>{steps} steps, {commands} commands, {} DMAs</p>",
            of(LineKind::Dma)
        )?;
        timeline::timeline(out, record, structures)?;
        if of(LineKind::Command) > 0 {
            write!(out, "{LEGEND}")?;
        }
        steps::steps(out, record, structures)?;
    }
    for note in record.unchecked.iter() {
        write!(out, "<p class=facts>not checked: {}</p>", Text(note))?;
    }
    write!(out, "</details>")
}

const LEGEND: &str = "<p class=legend><span class=\"k tlbi\"></span>TLBI <span class=\"k \
cfgi\"></span>CFGI <span class=\"k atc\"></span>ATC_INV <span class=\"k sync\"></span>SYNC <span \
class=\"k more\"></span>others <span class=\"k dma page\"></span>DMA reaches a page <span class=\"k \
dma refused\"></span>refused <span class=\"k event\"></span>event <span class=\"k \
hazard\"></span>hazard; tags: <span class=\"k fresh\"></span>fresh <span class=\"k \
used\"></span>in use <span class=\"k retiring\"></span>retiring <span class=\"k \
quarantined\"></span>quarantined</p>";
