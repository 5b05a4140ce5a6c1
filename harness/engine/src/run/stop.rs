//! Why a run stops before its last step has held.

use smmu_driver::smmu_attach::AttachError;
use smmu_driver::smmu_types::seam::{DmaError, SinkError};

use crate::machine::BackendError;
use crate::page_tables::TableError;

/// What stops a run.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The driver, or an expectation, failed.
    Failed(String),
    /// An SMMU did not answer.
    TimedOut(String),
    /// The backend broke.
    Broken(String),
    /// The backend cannot do what the scenario needs.
    Skipped(String),
}

impl From<String> for Stop {
    fn from(message: String) -> Self {
        Stop::Failed(message)
    }
}

impl From<SinkError> for Stop {
    fn from(error: SinkError) -> Self {
        match error {
            SinkError::Timeout { .. } => Stop::TimedOut(error.to_string()),
            _ => Stop::Failed(error.to_string()),
        }
    }
}

impl From<AttachError> for Stop {
    fn from(error: AttachError) -> Self {
        match error {
            AttachError::Sink(error) => error.into(),
            _ => Stop::Failed(error.to_string()),
        }
    }
}

impl From<BackendError> for Stop {
    fn from(error: BackendError) -> Self {
        match error {
            BackendError::Impossible(_) => Stop::Skipped(error.to_string()),
            _ => Stop::Broken(error.to_string()),
        }
    }
}

impl From<TableError> for Stop {
    fn from(error: TableError) -> Self {
        Stop::Failed(error.to_string())
    }
}

impl From<DmaError> for Stop {
    fn from(error: DmaError) -> Self {
        Stop::Failed(error.to_string())
    }
}
