//! The first screen: what is wrong, in words, the most frequent first.

use std::fmt::{self, Write};

use super::class::Class;
use super::faults::{Faults, Kind, Storm};
use super::kinds::explained;
use super::lines::Lines;
use super::number::{Counted, Grouped};
use super::storms::{addresses, storm_rate, who};
use crate::view::page::{Text, anchor};

/// How many kinds are told in full. Errors of an SMMU are always, since they may cause the others.
const CAUSES: usize = 4;
/// How many devices a cause names, and how many things to check.
const DEVICES: usize = 3;
const CHECKS: usize = 2;

/// Writes the first screen.
pub(super) fn summary(out: &mut String, faults: &Faults, lines: &Lines) -> fmt::Result {
    write!(out, "<p class=counts>")?;
    let kinds = faults.kinds();
    let mut separate = false;
    for class in Class::ALL {
        let of_class = kinds.iter().filter(|(_, kind)| kind.class == class);
        let count: u64 = of_class.map(|(_, kind)| kind.count).sum();
        if count > 0 {
            let comma = if separate { ", " } else { "" };
            separate = true;
            let bad = if class == Class::Request { "skipped" } else { "failed" };
            write!(out, "{comma}<b class={bad}>{} × {}</b>", Grouped(count), class.text())?;
        }
    }
    if faults.count() == 0 {
        let (class, said) = match (lines.broken_count(), lines.says_something()) {
            (0, true) => ("passed", "no fault of an SMMU"),
            (0, false) => ("skipped", "nothing of an SMMUv3"),
            (1.., _) => ("failed", "records that cannot be decoded, and no other fault"),
        };
        write!(out, "<b class={class}>{said}</b>")?;
    }
    write!(out, " <span>in <a href=#lines>{}</a>", Counted(lines.count(), "line"))?;
    if let Some((first, last)) = faults.span() {
        write!(out, ", {} to {}", Text(&first.shown()), Text(&last.shown()))?;
        let span = first.time.zip(last.time).and_then(|(first, last)| last.since(first));
        if let Some(micros) = span.filter(|micros| faults.timed() && *micros > 0) {
            write!(out, " ({:.1} s)", micros as f64 / 1e6)?;
        }
    }
    if faults.smmus() > 1 {
        let or_more = if faults.has_more_smmus() { " or more" } else { "" };
        write!(out, ", {}{or_more}", Counted(faults.smmus() as u64, "SMMU"))?;
    }
    write!(out, "</span></p>")?;
    let storms = faults.storms();
    let mut told = 0;
    // The register says that the queue has stopped; another register says why.
    let known = kinds.iter().any(|(_, kind)| kind.name.starts_with("CERROR_"));
    let kinds: Vec<_> =
        kinds.into_iter().filter(|(_, kind)| !(known && kind.name == "CMDQ_ERR")).collect();
    for (number, kind) in &kinds {
        // Page requests are no fault while others are there.
        let request = kind.class == Class::Request && told > 0;
        if kind.class != Class::Error && told >= CAUSES || request || told >= 2 * CAUSES {
            continue;
        }
        told += 1;
        let of_kind: Vec<&Storm> =
            storms.iter().filter(|storm| storm.kind == *number).copied().collect();
        cause(out, faults, kind, &of_kind)?;
    }
    if kinds.len() > told {
        let more = (kinds.len() - told) as u64;
        write!(out, "<p><a href=#storms>{} more</a></p>", Counted(more, "kind"))?;
    }
    Ok(())
}

/// A kind: what it means, who, when, and what to check.
fn cause(out: &mut String, faults: &Faults, kind: &Kind, storms: &[&Storm]) -> fmt::Result {
    write!(out, "<section class=\"cause {}\"><h2>{} × ", kind.class.style(), Grouped(kind.count))?;
    let title = Text(kind.title());
    match explained(&kind.name) {
        Some(topic) => write!(out, "<a href=\"#kind-{}\">{title}</a>", anchor(&topic.name))?,
        None => write!(out, "{title}")?,
    }
    write!(out, "</h2>")?;
    let example = storms.iter().find_map(|storm| storm.example.as_ref());
    if let Some(example) = example {
        write!(out, "<p>{}</p>", Text(&example.means))?;
    } else if !kind.rest().is_empty() {
        write!(out, "<p>{}</p>", Text(kind.rest()))?;
    }
    write!(out, "<dl>")?;
    for (n, storm) in storms.iter().take(DEVICES).enumerate() {
        write!(out, "<dt>{}<dd>", if n == 0 { "who" } else { "" })?;
        if storms.len() > 1 {
            write!(out, "{} × ", Grouped(storm.count))?;
        }
        let parts = [who(faults, storm), addresses(storm), when(faults, storm)];
        let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        write!(out, "{}", Text(&parts.join(", ")))?;
    }
    if storms.len() > DEVICES {
        let more = Grouped((storms.len() - DEVICES) as u64);
        write!(out, "<dt><dd><a href=#storms>{more} more</a>")?;
    }
    let checks = example.map_or(&[][..], |example| &example.next);
    for (n, check) in checks.iter().take(CHECKS).enumerate() {
        write!(out, "<dt>{}<dd>{}", if n == 0 { "check" } else { "" }, Text(check))?;
    }
    if !kind.before.is_empty() {
        write!(out, "<dt>just before<dd><pre>{}</pre>", Text(&kind.before.join("\n")))?;
    }
    write!(out, "</dl></section>")
}

/// When a storm came, and how fast.
fn when(faults: &Faults, storm: &Storm) -> String {
    let (first, last) = (storm.first.shown(), storm.last.shown());
    if storm.count == 1 {
        return first;
    }
    let rate = storm_rate(faults, storm);
    let rate = if rate.is_empty() { rate } else { format!(" ({rate})") };
    format!("{first} to {last}{rate}")
}
