//! From the text of a scenario to a checked one, with errors that say where.

use core::ops::Range;

use crate::prelude::*;

use super::checked::Scenario;
use super::file::ScenarioFile;
use super::nearest::nearest;

/// A scenario's text that is wrong at a place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {message}")]
pub struct ScenarioError {
    /// What the caller calls the text: a file's path, as a rule.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1, in characters.
    pub column: usize,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl ScenarioError {
    fn at(file: &str, text: &str, span: Range<usize>, message: impl Into<String>) -> Self {
        let before = &text.as_bytes()[..span.start.min(text.len())];
        let line = line_of(&newlines(text), span.start);
        let start = before.iter().rposition(|&b| b == b'\n').map_or(0, |n| n + 1);
        let column = String::from_utf8_lossy(&before[start..]).chars().count() + 1;
        ScenarioError { file: file.to_owned(), line, column, message: message.into() }
    }
}

/// What an unknown key or value was probably meant to be: the parser's message names it, and what
/// it expected, between backticks.
fn meant(message: &str) -> String {
    if !message.starts_with("unknown ") {
        return String::new();
    }
    let mut quoted = message.split('`').skip(1).step_by(2);
    let near = quoted.next().and_then(|wrong| nearest(wrong, quoted));
    near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"))
}

/// Where the lines of a text end.
fn newlines(text: &str) -> Vec<usize> {
    text.match_indices('\n').map(|(at, _)| at).collect()
}

/// The line of a byte, from 1.
fn line_of(newlines: &[usize], at: usize) -> usize {
    newlines.partition_point(|newline| *newline < at) + 1
}

impl Scenario {
    /// Parse the text of a scenario. Errors call it `file`.
    ///
    /// # Errors
    ///
    /// The text is not TOML, has an unknown key, or a name that stands for nothing.
    pub fn parse(name: &str, file: &str, text: &str) -> Result<Self, ScenarioError> {
        let parsed: ScenarioFile = toml::from_str(text).map_err(|error| {
            let mut message = error.message().trim().replace('\n', "; ");
            if message.starts_with("wanted exactly 1 element") {
                message =
                    format!("{message}; a step and a command are one key each, such as `attach`");
            }
            message += &meant(&message);
            ScenarioError::at(file, text, error.span().unwrap_or(0..0), message)
        })?;
        let newlines = newlines(text);
        let lines = parsed.steps.iter().map(|step| line_of(&newlines, step.span().start)).collect();
        Self::checked((name, file), lines, parsed)
            .map_err(|(span, message)| ScenarioError::at(file, text, span, message))
    }
}
