//! What runs whole scenarios: a backend in this process, or a machine with an engine of its own.

use super::{RunOptions, RunReport, run};
use crate::machine::Backend;
use crate::prelude::*;
use crate::scenario::Scenario;

/// Something that takes a whole scenario and returns a report. Every [`Backend`] is one.
pub trait Runner: Send + Sync {
    /// Its name on the command line.
    fn name(&self) -> &'static str;

    /// What it is, in one line.
    fn describe(&self) -> String;

    /// Runs a scenario.
    fn run(&self, scenario: &Scenario, options: RunOptions) -> RunReport;
}

impl<B: Backend> Runner for B {
    fn name(&self) -> &'static str {
        Backend::name(self)
    }

    fn describe(&self) -> String {
        Backend::describe(self)
    }

    fn run(&self, scenario: &Scenario, options: RunOptions) -> RunReport {
        run(scenario, self, options)
    }
}
