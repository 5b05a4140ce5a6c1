//! A log as one page of HTML: what is wrong, in words, and each storm of faults once.
//!
//! The page has a bound, whatever the log: what is beyond the bound of a list is counted there.

mod class;
mod faults;
mod kinds;
mod lanes;
mod lines;
mod number;
mod short;
mod sightings;
mod storms;
mod summary;
mod timeline;

use std::fmt::{self, Write};

use smmu_decode::{DecodeContext, FoundWords, NoteSays, ScanItem};
use smmu_types::StreamId;

use super::page::{self, Structures, Text};
use faults::{Faults, Seen};
use lanes::Lanes;
use lines::Lines;
use sightings::Sightings;

/// How many bytes of decoded structures a page has.
const STRUCTURES: usize = 700_000;

/// Collects what a log has, for its page.
#[derive(Debug)]
pub struct LogReport {
    input: String,
    structures: Structures,
    sightings: Sightings,
    faults: Faults,
    lanes: Lanes,
    lines: Lines,
}

impl LogReport {
    /// The report of an input, with the name of it.
    #[must_use]
    pub fn new(input: &str) -> Self {
        LogReport {
            input: input.to_owned(),
            structures: Structures::with_room(STRUCTURES),
            sightings: Sightings::default(),
            faults: Faults::default(),
            lanes: Lanes::default(),
            lines: Lines::default(),
        }
    }

    /// Takes what a scanner has found.
    pub fn item(&mut self, item: &ScanItem, context: &DecodeContext<'_>) {
        match item {
            ScanItem::Found(found) => {
                self.lines.decoded(&found.lines);
                let seen = Seen::new(found.line, &found.time);
                let sightings = self.sightings.of(found);
                let number = self.structures.of(found, context);
                if sightings.is_empty() {
                    self.lines.structure(found, number);
                }
                let before = self.lines.before(!sightings.is_empty());
                for sighting in sightings {
                    self.faults.add(&sighting, &seen, Some((found, context)), number, &before);
                    self.lanes.add(&sighting, &seen, number);
                }
                if let Some(stream) = sightings::stream(found) {
                    self.name(found, stream, context);
                }
            }
            ScanItem::Note { line, source, text, time, says } => {
                self.lines.decoded(&[*line]);
                match says {
                    NoteSays::Trouble { smmu } => {
                        let seen = Seen::new(*line, time);
                        let sighting = sightings::trouble(smmu, text);
                        let before = self.lines.before(true);
                        self.faults.add(&sighting, &seen, None, None, &before);
                        self.lanes.add(&sighting, &seen, None);
                    }
                    NoteSays::Device { smmu, stream, name } => {
                        let name = if name.is_empty() { "no device of the system" } else { name };
                        self.faults.name(smmu, *stream, name);
                    }
                    _ => self.lines.note(*line, source, text),
                }
            }
            ScanItem::Again { line } => self.lines.decoded(&[*line]),
            ScanItem::Other(line) => self.lines.other(line),
            ScanItem::Broken(error) => self.lines.broken(error.to_string()),
        }
    }

    /// Keeps the device of a stream: as the log names it, or else as firmware tables do.
    fn name(&mut self, found: &FoundWords, stream: StreamId, context: &DecodeContext<'_>) {
        if self.faults.device(&found.smmu, stream).is_some() {
            return;
        }
        let named = (!found.device.is_empty()).then(|| found.device.clone());
        if let Some(device) = named.or_else(|| context.resolver.device(&found.smmu, stream)) {
            self.faults.name(&found.smmu, stream, &device);
        }
    }

    /// The page.
    ///
    /// # Errors
    ///
    /// None: writing to a text does not fail.
    pub fn page(self) -> Result<String, fmt::Error> {
        let LogReport { input, structures, sightings: _, faults, lanes, lines } = self;
        let mut out = String::with_capacity(1 << 18);
        page::begin(&mut out, &format!("SMMU faults in {input}"))?;
        write!(out, "<header><h1>SMMU faults in {}</h1>", Text(&input))?;
        summary::summary(&mut out, &faults, &lines)?;
        write!(out, "</header><main class=log>")?;
        storms::storms(&mut out, &faults)?;
        timeline::timeline(&mut out, &faults, &lanes)?;
        kinds::kinds(&mut out, &faults)?;
        lines.write(&mut out)?;
        write!(out, "</main>")?;
        page::end(&mut out, structures)?;
        Ok(out)
    }
}
