//! Why a run stops before its last step has held.

use smmu_driver::smmu_attach::AttachError;
use smmu_driver::smmu_types::seam::{DmaError, SinkError};

use crate::machine::{BackendError, HazardReport};
use crate::page_tables::TableError;
use crate::prelude::*;

/// What went wrong, in words.
#[derive(Debug, Default)]
pub(crate) struct Cause {
    /// What was expected, if a step said it.
    pub(crate) expected: Option<String>,
    pub(crate) happened: String,
    pub(crate) hazards: Vec<HazardReport>,
}

impl Cause {
    fn new(happened: impl ToString) -> Self {
        Cause { happened: happened.to_string(), ..Cause::default() }
    }
}

/// What stops a run.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The driver, or an expectation, failed.
    Failed(Cause),
    /// An SMMU did not answer.
    TimedOut(Cause),
    /// The backend broke.
    Broken(Cause),
    /// The backend cannot do what the scenario needs.
    Skipped(String),
}

impl Stop {
    /// The driver did something wrong.
    pub(crate) fn failed(happened: impl ToString) -> Self {
        Stop::Failed(Cause::new(happened))
    }

    /// An SMMU did not answer.
    pub(crate) fn timed_out(happened: impl ToString) -> Self {
        Stop::TimedOut(Cause::new(happened))
    }

    /// An expectation does not hold.
    pub(crate) fn unmet(expected: impl ToString, happened: impl ToString) -> Self {
        let expected = Some(expected.to_string());
        Stop::Failed(Cause { expected, ..Cause::new(happened) })
    }

    /// The model found something wrong.
    pub(crate) fn hazards(happened: impl ToString, hazards: Vec<HazardReport>) -> Self {
        Stop::Failed(Cause { hazards, ..Cause::new(happened) })
    }
}

impl From<String> for Stop {
    fn from(message: String) -> Self {
        Stop::failed(message)
    }
}

impl From<SinkError> for Stop {
    fn from(error: SinkError) -> Self {
        match error {
            SinkError::Timeout { .. } => Stop::timed_out(error),
            _ => Stop::failed(error),
        }
    }
}

impl From<AttachError> for Stop {
    fn from(error: AttachError) -> Self {
        match error {
            AttachError::Sink(error) => error.into(),
            _ => Stop::failed(error),
        }
    }
}

impl From<BackendError> for Stop {
    fn from(error: BackendError) -> Self {
        match error {
            BackendError::Impossible(_) => Stop::Skipped(error.to_string()),
            _ => Stop::Broken(Cause::new(error)),
        }
    }
}

impl From<TableError> for Stop {
    fn from(error: TableError) -> Self {
        Stop::failed(error)
    }
}

impl From<DmaError> for Stop {
    fn from(error: DmaError) -> Self {
        Stop::failed(error)
    }
}
