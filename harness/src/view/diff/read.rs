//! Reads runs from a record or from a transcript.

use smmu_engine::record::RecordLine;
use smmu_engine::transcript::{LineKind, TranscriptLine};

use super::{ComparedLine, ComparedRun, ComparedStep};

/// Why a text holds no runs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// A line of JSON is no line of a record.
    #[error("line {line}: no line of a record ({error}); `run --format json` writes one")]
    Json {
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        error: serde_json::Error,
    },
    /// A line is none of a transcript.
    #[error(
        "line {line}: {text:?} is no line of a transcript; give what `run --transcript` or `run \
         --format json` prints, or a .snap file"
    )]
    Line {
        /// The line, from 1.
        line: usize,
        /// Its text.
        text: String,
    },
    /// There is no run.
    #[error("it has no run: neither a record nor a transcript")]
    Empty,
}

/// Reads the runs of a text: the lines of JSON that `run --format json` prints, the transcripts that
/// `run` prints, or a snapshot.
///
/// # Errors
///
/// The text is neither, or has no run.
pub fn read(text: &str) -> Result<Vec<ComparedRun>, ReadError> {
    let is_json = text.trim_start().starts_with('{');
    let runs = if is_json { record(text)? } else { transcripts(text)? };
    if runs.is_empty() { Err(ReadError::Empty) } else { Ok(runs) }
}

fn record(text: &str) -> Result<Vec<ComparedRun>, ReadError> {
    let mut runs = Vec::new();
    for (n, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let read = serde_json::from_str(line);
        match read.map_err(|error| ReadError::Json { line: n + 1, error })? {
            RecordLine::Scenario(scenario) => {
                let mut run = ComparedRun::of(&scenario.scenario, &scenario.transcript);
                run.backend = scenario.backend.into_owned();
                run.outcome = scenario.outcome.into_owned();
                runs.push(run);
            }
            RecordLine::Summary(_) => {}
        }
    }
    Ok(runs)
}

impl ComparedRun {
    /// The run that a transcript tells.
    #[must_use]
    pub fn of(scenario: &str, transcript: &[TranscriptLine]) -> Self {
        let mut run = ComparedRun { scenario: scenario.to_owned(), ..ComparedRun::default() };
        for line in transcript {
            run.add(line.kind, &line.to_string());
        }
        run
    }

    /// Adds a line as it is printed. Says whether it has a place.
    fn add(&mut self, kind: LineKind, printed: &str) -> bool {
        if kind == LineKind::Step {
            let (number, text) = printed.split_once(' ').unwrap_or((printed, ""));
            let Ok(number) = number.parse() else { return false };
            let (text, lines) = (text.to_owned(), Vec::new());
            self.steps.push(ComparedStep { number, text, lines });
            return true;
        }
        let Some(step) = self.steps.last_mut() else { return false };
        let text = kind.text_of(printed).unwrap_or(printed).to_owned();
        step.lines.push(ComparedLine { kind, text });
        true
    }
}

/// What `run` prints beside the lines of a transcript.
fn is_beside(line: &str) -> bool {
    let first = line.split_whitespace().next().unwrap_or_default();
    let said = line.starts_with("          ")
        || line.starts_with("note: ")
        || line.starts_with("not checked: ")
        || line.starts_with("failed: ");
    said || first.is_empty() || first.ends_with(':')
}

/// How a scenario ended, and its name.
fn verdict(line: &str) -> Option<(&'static str, &str)> {
    let verdicts = [
        ("passed", "passed"),
        ("FAILED", "failed"),
        ("TIMED OUT", "timed-out"),
        ("BROKEN", "broken"),
        ("skipped", "skipped"),
    ];
    verdicts.into_iter().find_map(|(word, outcome)| {
        let name = line.strip_prefix(word)?.strip_prefix(' ')?.trim();
        (!name.is_empty() && !name.contains(' ')).then_some((outcome, name))
    })
}

fn transcripts(text: &str) -> Result<Vec<ComparedRun>, ReadError> {
    let mut runs: Vec<ComparedRun> = Vec::new();
    let mut lines = text.lines().enumerate().peekable();
    // The head of a snapshot file, between two lines of dashes.
    if lines.next_if(|(_, line)| *line == "---").is_some() {
        for (_, line) in lines.by_ref() {
            if line == "---" {
                break;
            }
        }
    }
    for (n, line) in lines {
        let wrong = || ReadError::Line { line: n + 1, text: line.to_owned() };
        let title = line.strip_prefix("--- ").and_then(|title| title.split_once(": "));
        if let Some((scenario, _)) = title {
            runs.push(ComparedRun { scenario: scenario.to_owned(), ..ComparedRun::default() });
            continue;
        }
        if let Some((outcome, name)) = verdict(line) {
            if let Some(run) = runs.last_mut().filter(|run| run.scenario == name) {
                run.outcome = outcome.to_owned();
            }
            continue;
        }
        let is_step = line.starts_with(|first: char| first.is_ascii_digit());
        let kind = LineKind::ALL.into_iter().filter(|kind| *kind != LineKind::Step);
        let kind = if is_step {
            Some(LineKind::Step)
        } else {
            kind.into_iter().find(|kind| kind.is_kind_of(line))
        };
        match kind {
            Some(kind) => {
                if runs.is_empty() {
                    runs.push(ComparedRun::default());
                }
                let has_place = runs.last_mut().is_some_and(|run| run.add(kind, line));
                if !has_place {
                    return Err(wrong());
                }
            }
            None if is_beside(line) => {}
            None => return Err(wrong()),
        }
    }
    Ok(runs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_and_the_output_of_run_give_the_same_run() {
        let lines = "0 set up\n    command   smmu0 CFGI_ALL\n1 map 0x1000 of D to page A\n    check     ok\n";
        let snapshot = read(&format!("---\nsource: x\n---\n{lines}not checked: y\n")).unwrap();
        let printed =
            format!("--- first: title: more\n{lines}FAILED    first\n          why\nmock: 0\n");
        let printed = read(&printed).unwrap();
        assert_eq!(snapshot[0].steps, printed[0].steps);
        assert_eq!((&*printed[0].scenario, &*printed[0].outcome), ("first", "failed"));
        assert_eq!(snapshot[0].steps[0].lines[0].text, "smmu0 CFGI_ALL");
        assert_eq!(snapshot[0].steps[1].text, "map 0x1000 of D to page A");
    }

    #[test]
    fn what_is_no_run_is_refused_with_its_line() {
        for (text, want) in [
            ("", "it has no run"),
            ("hello\n", "line 1: \"hello\" is no line of a transcript"),
            ("    command   smmu0 SYNC\n", "line 1: "),
            ("{\"type\":\"other\"}\n", "line 1: no line of a record"),
            ("{\n", "line 1: no line of a record"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.starts_with(want), "{text:?}: {error}");
        }
    }
}
