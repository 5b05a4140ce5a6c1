//! Why the program ends with something other than success.

use std::io;

use smmu_engine::machine::BackendError;
use smmu_engine::scenario::ScenarioError;

use crate::scenario_files::LoadError;

/// Why the program ends with something other than success.
#[derive(Debug)]
pub(super) enum Exit {
    Failed,
    /// Wrong input. The error is already printed.
    Complained,
    TimedOut,
    Usage(String),
    Unavailable(String),
    Output(io::Error),
}

impl From<ScenarioError> for Exit {
    fn from(error: ScenarioError) -> Self {
        Exit::Usage(error.to_string())
    }
}

impl From<LoadError> for Exit {
    fn from(error: LoadError) -> Self {
        Exit::Usage(error.to_string())
    }
}

impl From<BackendError> for Exit {
    fn from(error: BackendError) -> Self {
        Exit::Unavailable(error.to_string())
    }
}

impl From<io::Error> for Exit {
    fn from(error: io::Error) -> Self {
        Exit::Output(error)
    }
}
