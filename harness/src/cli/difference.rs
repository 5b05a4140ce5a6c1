//! Prints the difference of runs, for people and as JSON.

use std::io::{self, Write};

use anstream::AutoStream;
use serde_json::json;

use super::output_format::{OutputFormat, json_line};
use crate::view::diff::{Change, ComparedLine, ComparedRun, RunDifference, StepDifference};

const GREEN: &str = "\x1b[32m";
const RED: &str = "\x1b[31m";
const YELLOW: &str = "\x1b[33m";
const BOLD: &str = "\x1b[1m";
const PLAIN: &str = "\x1b[0m";

/// How lines of two runs stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// One below the other, with a mark before each.
    Lines,
    /// Side by side.
    SideBySide,
}

/// Prints differences, and counts them.
pub(super) struct DifferencePrinter {
    format: OutputFormat,
    layout: Layout,
    out: AutoStream<io::StdoutLock<'static>>,
    equal: usize,
    different: usize,
}

/// The widest left column.
const WIDEST: usize = 72;

impl DifferencePrinter {
    pub(super) fn new(format: OutputFormat, layout: Layout) -> Self {
        DifferencePrinter { format, layout, out: anstream::stdout().lock(), equal: 0, different: 0 }
    }

    /// Two runs of one scenario.
    pub(super) fn both(
        &mut self,
        first: &ComparedRun,
        second: &ComparedRun,
        difference: &RunDifference,
    ) -> io::Result<()> {
        if !difference.differs() {
            self.equal += 1;
            return Ok(());
        }
        self.different += 1;
        let name = [&first.scenario, &second.scenario].into_iter().find(|name| !name.is_empty());
        let name = name.map_or("the run", String::as_str);
        match self.format {
            OutputFormat::Json => {
                for step in difference.steps.iter().filter(|step| step.differs()) {
                    writeln!(self.out, "{}", step_json(name, step))?;
                }
                writeln!(self.out, "{}", run_json(name, difference))
            }
            OutputFormat::Human => self.human(name, [first, second], difference),
        }
    }

    /// A scenario that only the first or only the second file has.
    pub(super) fn alone(&mut self, run: &ComparedRun, is_first: bool) -> io::Result<()> {
        self.different += 1;
        let (name, which) = (&run.scenario, if is_first { "first" } else { "second" });
        match self.format {
            OutputFormat::Json => {
                let fields = json!({ "scenario": name, "only": which });
                writeln!(self.out, "{}", json_line("missing run", fields))
            }
            OutputFormat::Human => {
                writeln!(self.out, "{BOLD}{name}{PLAIN}: only the {which} file has it")
            }
        }
    }

    /// How much differed. Says whether anything did.
    pub(super) fn end(&mut self) -> io::Result<bool> {
        let (equal, different) = (self.equal, self.different);
        match self.format {
            OutputFormat::Json => {
                let fields = json!({ "equal": equal, "different": different });
                writeln!(self.out, "{}", json_line("difference summary", fields))?;
            }
            OutputFormat::Human => writeln!(self.out, "{equal} equal, {different} different")?,
        }
        self.out.flush()?;
        Ok(different > 0)
    }

    fn human(
        &mut self,
        name: &str,
        [first, second]: [&ComparedRun; 2],
        difference: &RunDifference,
    ) -> io::Result<()> {
        let [added, removed, moved] = difference.commands();
        writeln!(
            self.out,
            "{BOLD}{name}{PLAIN}: {added} commands added, {removed} removed, {moved} moved"
        )?;
        if let Some((was, is)) = &difference.outcomes {
            writeln!(self.out, "  outcome: {RED}- {was}{PLAIN}  {GREEN}+ {is}{PLAIN}")?;
        }
        if self.layout == Layout::SideBySide {
            let or = |name: &str, other: &str| {
                if name.is_empty() { other.to_owned() } else { name.to_owned() }
            };
            let (left, right) = (or(&first.backend, "first"), or(&second.backend, "second"));
            writeln!(self.out, "    {left:WIDEST$} | {right}")?;
        }
        for step in difference.steps.iter().filter(|step| step.differs()) {
            let number = match (step.first, step.second) {
                (Some(first), Some(second)) if first == second => first.to_string(),
                (Some(first), Some(second)) => format!("{first} (now {second})"),
                (Some(first), None) => format!("{first} (first run alone)"),
                (None, second) => format!("{} (second run alone)", second.unwrap_or(0)),
            };
            writeln!(self.out, "  step {number}: {}", step.text)?;
            for (line, change) in &step.lines {
                match self.layout {
                    Layout::Lines => one(&mut self.out, line, *change)?,
                    Layout::SideBySide => side(&mut self.out, line, *change)?,
                }
            }
        }
        Ok(())
    }
}

fn said(line: &ComparedLine) -> String {
    let kind = serde_json::to_value(line.kind).ok();
    let kind = kind.as_ref().and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
    format!("{kind:11} {}", line.text)
}

fn mark(change: Change) -> (char, &'static str, String) {
    match change {
        Change::Same => (' ', PLAIN, String::new()),
        Change::Removed => ('-', RED, String::new()),
        Change::Added => ('+', GREEN, String::new()),
        Change::MovedTo(step) => ('<', YELLOW, format!("  (moved to step {step})")),
        Change::MovedFrom(step) => ('>', YELLOW, format!("  (moved from step {step})")),
    }
}

fn one(out: &mut impl Write, line: &ComparedLine, change: Change) -> io::Result<()> {
    let (mark, colour, note) = mark(change);
    writeln!(out, "  {colour}{mark} {}{note}{PLAIN}", said(line))
}

fn side(out: &mut impl Write, line: &ComparedLine, change: Change) -> io::Result<()> {
    let (mark, colour, note) = mark(change);
    let text = format!("{}{note}", said(line));
    match change {
        Change::Same => writeln!(out, "    {text:WIDEST$} | {text}"),
        Change::Removed | Change::MovedTo(_) => {
            writeln!(out, "  {colour}{mark} {text:WIDEST$}{PLAIN} |")
        }
        Change::Added | Change::MovedFrom(_) => {
            writeln!(out, "    {:WIDEST$} | {colour}{mark} {text}{PLAIN}", "")
        }
    }
}

fn step_json(name: &str, step: &StepDifference) -> serde_json::Value {
    let line = |(line, change): &(ComparedLine, Change)| {
        let (what, step) = match change {
            Change::Same => return None,
            Change::Removed => ("removed", None),
            Change::Added => ("added", None),
            Change::MovedTo(step) => ("moved to", Some(step)),
            Change::MovedFrom(step) => ("moved from", Some(step)),
        };
        let (kind, text) = (line.kind, &line.text);
        Some(json!({ "type": "change", "change": what, "step": step, "kind": kind, "text": text }))
    };
    let changes: Vec<_> = step.lines.iter().filter_map(line).collect();
    let fields = json!({
        "scenario": name,
        "first": step.first,
        "second": step.second,
        "text": step.text,
        "changes": changes,
    });
    json_line("step difference", fields)
}

fn run_json(name: &str, difference: &RunDifference) -> serde_json::Value {
    let [added, removed, moved] = difference.commands();
    let outcomes = difference.outcomes.as_ref();
    let fields = json!({
        "scenario": name,
        "commands_added": added,
        "commands_removed": removed,
        "commands_moved": moved,
        "first_outcome": outcomes.map(|(first, _)| first),
        "second_outcome": outcomes.map(|(_, second)| second),
    });
    json_line("run difference", fields)
}
