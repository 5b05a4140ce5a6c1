//! The form of a scenario for a machine that parses no TOML.
//!
//! A host parses a file, checks it and sends this form. It is the serialisation of the file's values
//! by `postcard`, written in hexadecimal, so that no line takes a byte of it for a control character.
//! It has no names of keys, so both ends must be built from the same types: a number at its start
//! says of which.

use crate::prelude::*;
use serde::{Deserialize, Serialize};

use super::checked::Scenario;
use super::file::ScenarioFile;

/// The number of the types that a scenario consists of. A test says which one it must be.
const FORM: u32 = 0x92fe_53b6;

/// What a prepared scenario has after its number.
#[derive(Debug, Serialize)]
struct Sent<'a> {
    lines: &'a [usize],
    file: &'a ScenarioFile,
}

/// The same, as it is received.
#[derive(Debug, Deserialize)]
struct Received {
    lines: Vec<usize>,
    file: ScenarioFile,
}

/// Why a text is no prepared scenario.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PreparedError {
    /// The text is not hexadecimal.
    #[error("character {at} is not one of a pair of hexadecimal digits")]
    NotHexadecimal {
        /// The character, from 1.
        at: usize,
    },
    /// The text ends before its first number.
    #[error("it has {bytes} bytes, fewer than the 4 of its form")]
    Short {
        /// How many.
        bytes: usize,
    },
    /// The scenario was prepared by a program that is built from other types.
    #[error(
        "it has the form {found:#010x}, and this program takes {known:#010x}: build both from the same sources"
    )]
    OtherForm {
        /// The number that it begins with.
        found: u32,
        /// The number that it should begin with.
        known: u32,
    },
    /// The bytes after the number stand for no scenario.
    #[error("it is damaged: {0}")]
    Damaged(postcard::Error),
    /// Bytes follow the scenario.
    #[error("{bytes} bytes follow its end")]
    Longer {
        /// How many.
        bytes: usize,
    },
    /// The scenario has not one line for each step.
    #[error("it has {steps} steps and the lines of {lines}")]
    Lines {
        /// The steps.
        steps: usize,
        /// The lines.
        lines: usize,
    },
    /// The scenario is wrong, as a file would be.
    #[error("{0}")]
    Wrong(String),
}

impl Scenario {
    /// The scenario for a machine that parses no TOML: lower-case hexadecimal digits.
    ///
    /// [`Scenario::from_prepared`] reads it. Neither the name nor the places of values are in it,
    /// but for the line of each step.
    #[must_use]
    pub fn prepare(&self) -> String {
        let sent = Sent { lines: &self.lines, file: &self.file };
        // Fails only for values without a length, and every value here has one.
        let bytes = postcard::to_allocvec(&sent).unwrap_or_default();
        FORM.to_be_bytes().iter().chain(&bytes).map(|byte| format!("{byte:02x}")).collect()
    }

    /// Takes the text of [`Scenario::prepare`], and checks it as a file is checked.
    ///
    /// # Errors
    ///
    /// The text is damaged, was made by a program of other types, or a name in it stands for nothing.
    pub fn from_prepared(name: &str, text: &str) -> Result<Self, PreparedError> {
        let bytes = bytes(text)?;
        let (form, rest) =
            bytes.split_first_chunk().ok_or(PreparedError::Short { bytes: bytes.len() })?;
        let found = u32::from_be_bytes(*form);
        if found != FORM {
            return Err(PreparedError::OtherForm { found, known: FORM });
        }
        let (Received { lines, file }, rest) =
            postcard::take_from_bytes(rest).map_err(PreparedError::Damaged)?;
        if !rest.is_empty() {
            return Err(PreparedError::Longer { bytes: rest.len() });
        }
        if lines.len() != file.steps.len() {
            let (steps, lines) = (file.steps.len(), lines.len());
            return Err(PreparedError::Lines { steps, lines });
        }
        Self::checked((name, name), lines, file)
            .map_err(|(_, message)| PreparedError::Wrong(message))
    }
}

fn bytes(text: &str) -> Result<Vec<u8>, PreparedError> {
    let digit = |(at, byte): (usize, &u8)| {
        let digit = char::from(*byte).to_digit(16);
        digit.and_then(|digit| u8::try_from(digit).ok()).ok_or(at + 1)
    };
    let wrong = |at| PreparedError::NotHexadecimal { at };
    let digits: Result<Vec<u8>, usize> = text.as_bytes().iter().enumerate().map(digit).collect();
    let digits = digits.map_err(wrong)?;
    match digits.as_chunks() {
        (pairs, []) => Ok(pairs.iter().map(|[high, low]| (high << 4) | low).collect()),
        _ => Err(wrong(digits.len())),
    }
}

#[cfg(test)]
mod tests;
