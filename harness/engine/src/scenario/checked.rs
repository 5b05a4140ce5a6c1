//! A scenario that can run.

use crate::prelude::*;

use super::check;
use super::file::ScenarioFile;
use super::names::Wrong;
use super::spanned::Spanned;
use super::steps::{Expect, Step};

/// A scenario, checked: every name in it stands for something.
#[derive(Debug)]
pub struct Scenario {
    /// The name of the file, without its ending.
    pub name: String,
    /// What errors call the text: a file's path, as a rule.
    pub path: String,
    /// The line of each step, from 1.
    pub lines: Vec<usize>,
    /// What the file says.
    pub file: ScenarioFile,
}

impl Scenario {
    /// A scenario that a program states, instead of a file. The line of a step is its number.
    ///
    /// # Errors
    ///
    /// A name stands for nothing, or a step asks for what the head of the scenario lacks.
    pub fn new(name: &str, file: ScenarioFile) -> Result<Self, String> {
        let lines = (1..=file.steps.len()).collect();
        Self::checked((name, name), lines, file).map_err(|(_, message)| message)
    }

    /// Checks what is said of `(name, path)`.
    pub(super) fn checked(
        (name, path): (&str, &str),
        lines: Vec<usize>,
        file: ScenarioFile,
    ) -> Result<Self, Wrong> {
        check::check(&file)?;
        Ok(Scenario { name: name.to_owned(), path: path.to_owned(), lines, file })
    }

    /// Whether a step checks what became of all commands. Then the run keeps them from the
    /// beginning.
    #[must_use]
    pub fn checks_commands(&self) -> bool {
        let asks = |step: &Spanned<Step>| {
            matches!(step.get_ref(), Step::Expect(Expect { commands: Some(_), .. }))
        };
        self.file.steps.iter().any(asks)
    }
}
