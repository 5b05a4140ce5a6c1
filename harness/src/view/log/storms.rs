//! The table of storms: a row for each kind of fault at a device or an SMMU.

use std::fmt::{self, Write};

use smmu_decode::requester;

use super::faults::{Faults, Storm};
use super::number::{Counted, Grouped, rate};
use crate::view::page::Text;

/// How many rows the table has.
const ROWS: usize = 200;

/// Writes the table.
pub(super) fn storms(out: &mut String, faults: &Faults) -> fmt::Result {
    let storms = faults.storms();
    if storms.is_empty() {
        return Ok(());
    }
    write!(
        out,
        "<section id=storms><h2>Storms</h2><div class=wide tabindex=0><table class=storms>\
         <tr><th>count<th>kind<th>stream<th>device<th>SMMU<th>addresses<th>first<th>last<th>rate"
    )?;
    for storm in storms.iter().take(ROWS) {
        let Some(kind) = faults.kind_of(storm) else { continue };
        write!(out, "<tr><td class=n>{}<td class=text>", Grouped(storm.count))?;
        write!(out, "<span class=\"k {}\"></span>", kind.class.style())?;
        match storm.structure {
            Some(number) => write!(out, "<button data-s={number}>{}</button>", Text(kind.title()))?,
            None => write!(out, "{}", Text(kind.title()))?,
        }
        let stream = storm.stream.map_or("-".into(), |stream| stream.to_string());
        let device = storm.stream.and_then(|stream| faults.device(&storm.smmu, stream));
        let known = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
        write!(out, "<td>{stream}<td>{}", Text(&known(device.unwrap_or_default())))?;
        write!(out, "<td>{}<td>{}", Text(&known(&storm.smmu)), known(&addresses(storm)))?;
        for seen in [&storm.first, &storm.last] {
            write!(out, "<td title=\"line {}\">{}", seen.line, Text(&seen.shown()))?;
        }
        write!(out, "<td>{}", known(&storm_rate(faults, storm)))?;
    }
    write!(out, "</table></div>")?;
    let hidden = storms.iter().skip(ROWS);
    let (rows, count) = hidden.fold((0, 0), |(rows, count), storm| (rows + 1, count + storm.count));
    if rows > 0 {
        write!(
            out,
            "<p class=facts>{} more, with {}</p>",
            Counted(rows, "row"),
            Counted(count, "fault")
        )?;
    }
    if faults.uncounted() > 0 {
        write!(
            out,
            "<p class=facts>{} of other kinds, SMMUs and streams are in no row</p>",
            Counted(faults.uncounted(), "fault")
        )?;
    }
    write!(out, "</section>")
}

/// The device or the SMMU of a storm; empty if the log names none.
pub(super) fn who(faults: &Faults, storm: &Storm) -> String {
    match storm.stream {
        None => storm.smmu.clone(),
        Some(stream) => {
            let device = faults.device(&storm.smmu, stream);
            let device = match device {
                Some(device) => format!(" ({device})"),
                None => format!(" (as a PCI requester ID {})", requester(stream)),
            };
            let smmu = if storm.smmu.is_empty() { "" } else { " at " }.to_owned() + &storm.smmu;
            format!("stream {stream}{device}{smmu}")
        }
    }
}

/// The input addresses of a storm; empty without any.
pub(super) fn addresses(storm: &Storm) -> String {
    match storm.addresses {
        None => String::new(),
        Some((low, high)) if low == high => format!("{low:#x}"),
        Some((low, high)) => format!("{low:#x} to {high:#x}"),
    }
}

/// How fast a storm came; empty without times.
pub(super) fn storm_rate(faults: &Faults, storm: &Storm) -> String {
    let span = storm.first.time.zip(storm.last.time);
    let span = span.and_then(|(first, last)| last.since(first)).filter(|_| faults.timed());
    span.map_or_else(String::new, |micros| rate(storm.count, micros))
}
