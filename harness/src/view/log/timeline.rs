//! The timeline: a lane for each device and SMMU, and a bar for each bin of time with faults.

use std::fmt::{self, Write};

use smmu_decode::LogTime;

use super::class::Class;
use super::faults::Faults;
use super::lanes::{BINS, Bin, Drawn, Lane, Lanes, Owner};
use super::number::{Counted, Grouped};
use crate::view::page::Text;

/// Pixels of a bin, of a lane, of the names of lanes, and of the numbers above.
const BIN_X: usize = 8;
const LANE_Y: usize = 26;
const LEFT: usize = 168;
const TOP: usize = 22;
/// How many lanes are drawn.
const LANES: usize = 24;
/// Bins between two numbers above.
const TICKS: usize = 16;

/// Writes the timeline; nothing for a single fault, or for words without lines.
pub(super) fn timeline(out: &mut String, faults: &Faults, lanes: &Lanes) -> fmt::Result {
    let lined = faults.span().is_some_and(|(_, last)| last.line > 0);
    if faults.count() < 2 || !(faults.timed() || lined) {
        return Ok(());
    }
    let drawn = lanes.drawn(faults.timed());
    let shown = drawn.lanes.len().min(LANES);
    let last = |lane: &Lane<'_>| lane.bins.iter().rposition(|bin| bin.count > 0).unwrap_or(0);
    let bins = drawn.lanes.iter().map(last).max().unwrap_or(0) + 1;
    // A short log fills the width as well.
    let bin_x = BIN_X * BINS / bins.clamp(BINS / 2, BINS);
    let (width, height) = (LEFT + bins.max(BINS / 4) * bin_x + 60, TOP + shown * LANE_Y + 4);
    let what = if faults.timed() { "time" } else { "line of the log" };
    write!(
        out,
        "<section><h2>When</h2><div class=scroll tabindex=0 role=group aria-label=\"Timeline: arrow \
         keys move between faults, Enter shows one\"><svg class=timeline data-left={LEFT} width={width} \
         height={height} viewBox=\"0 0 {width} {height}\"><text x=6 y=14>{what}</text>"
    )?;
    let x = |bin: usize| LEFT + bin * bin_x;
    for bin in (0..bins).step_by(TICKS) {
        let at = x(bin);
        write!(out, "<path class=lane d=\"M{at} {TOP}V{height}\"/>")?;
        write!(out, "<text x={at} y=14>{}</text>", Text(&position(faults, &drawn, bin)))?;
    }
    // The marks of all lanes have one scale, of logarithms: a storm does not hide a single fault.
    let most = drawn.lanes.iter().flat_map(|lane| lane.bins).map(|bin| bin.count).max();
    for (n, lane) in drawn.lanes.iter().take(LANES).enumerate() {
        let bottom = TOP + n * LANE_Y + LANE_Y - 3;
        write!(out, "<path class=lane d=\"M{LEFT} {bottom}H{width}\"/>")?;
        for (at, bin) in lane.bins.iter().enumerate().filter(|(_, bin)| bin.count > 0) {
            let start = position(faults, &drawn, at);
            bar(out, bin, (x(at), bottom, bin_x), most.unwrap_or(1), &start)?;
        }
    }
    write!(out, "</svg><div class=names aria-hidden=true>")?;
    for lane in drawn.lanes.iter().take(LANES) {
        write!(out, "<span>{}</span>", Text(&name(faults, &lane.owner)))?;
    }
    write!(out, "</div></div>")?;
    let hidden: Vec<&Lane<'_>> = drawn.lanes.iter().skip(LANES).collect();
    if !hidden.is_empty() {
        let count: u64 = hidden.iter().map(|lane| lane.count).sum();
        let (lanes, count) = (Counted(hidden.len() as u64, "more lane"), Counted(count, "fault"));
        write!(out, "<p class=facts>{lanes}, with {count}</p>")?;
    }
    if !faults.timed() {
        write!(
            out,
            "<p class=facts>By the lines: times are missing, differ in form, or go back.</p>"
        )?;
    }
    legend(out, &drawn)?;
    write!(out, "</section>")
}

/// A bin as a bar.
fn bar(
    out: &mut String,
    bin: &Bin,
    (x, bottom, width): (usize, usize, usize),
    most: u64,
    start: &str,
) -> fmt::Result {
    let full = (LANE_Y - 10) as f64;
    let part = (bin.count as f64 + 1.0).ln() / (most as f64 + 1.0).ln();
    let high = (full * part).round().clamp(5.0, full) as usize;
    let class = bin.class.map_or("request", Class::style);
    let data = bin.structure.map_or_else(String::new, |number| format!(" data-s={number}"));
    let (y, wide) = (bottom - high, width - 1);
    write!(
        out,
        "<rect class=\"c {class}\"{data} x={x} y={y} width={wide} height={high}><title>{} from {}\
         </title></rect>",
        Counted(bin.count, "fault"),
        Text(start)
    )
}

/// Where a bin begins.
fn position(faults: &Faults, drawn: &Drawn<'_>, bin: usize) -> String {
    let at = drawn.first.saturating_add(drawn.width.saturating_mul(bin as i64));
    let clock = faults.span().and_then(|(first, _)| first.time).map(|time| time.clock);
    match clock.filter(|_| faults.timed()) {
        Some(clock) => LogTime { clock, micros: at }.to_string(),
        None => Grouped(at.unsigned_abs()).to_string(),
    }
}

/// The name of a lane: the device if it is known, or else the stream.
fn name(faults: &Faults, owner: &Owner) -> String {
    match owner {
        Owner::Others => "others".into(),
        Owner::Smmu(smmu) if smmu.is_empty() => "SMMU".into(),
        Owner::Smmu(smmu) => smmu.clone(),
        Owner::Stream(smmu, stream) => match faults.device(smmu, *stream) {
            Some(device) => format!("{stream} {device}"),
            None if faults.smmus() > 1 => format!("{stream} {smmu}"),
            None => format!("stream {stream}"),
        },
    }
}

/// The classes that the timeline has.
fn legend(out: &mut String, drawn: &Drawn<'_>) -> fmt::Result {
    let all = || drawn.lanes.iter().flat_map(|lane| lane.bins);
    write!(out, "<p class=legend>")?;
    for class in Class::ALL.into_iter().filter(|class| all().any(|bin| bin.class == Some(*class))) {
        write!(out, "<span class=\"k {}\"></span>{}", class.style(), class.text())?;
    }
    write!(out, "; a bar is higher with more faults, by the logarithm</p>")
}
