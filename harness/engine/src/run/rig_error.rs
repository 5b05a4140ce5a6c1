//! Why a driver could not be set up on a machine.

use core::convert::Infallible;

use smmu_driver::DriverError;
use smmu_driver::smmu_hw_mmio::{MsiError, ProbeError};
use smmu_driver::smmu_types::FieldError;
use smmu_driver::smmu_types::seam::DmaError;
use smmu_driver::windows::ReservedError;

use crate::machine::BackendError;
use crate::page_tables::TableError;
use crate::prelude::*;

/// A driver could not be set up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RigError {
    /// The backend failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The driver cannot use the SMMU.
    #[error("{0}: {1}")]
    Probe(String, ProbeError),
    /// The SMMU cannot interrupt by MSI as the scenario wants.
    #[error("{0}: {1}")]
    Msi(String, MsiError),
    /// No MSI can have this address.
    #[error(transparent)]
    MsiAddress(#[from] FieldError),
    /// The driver did not start, or a call of it failed.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// No memory.
    #[error(transparent)]
    Dma(#[from] DmaError),
    /// A device did not get its reserved memory.
    #[error(transparent)]
    Reserved(#[from] ReservedError<Infallible, TableError>),
    /// No memory for page tables.
    #[error(transparent)]
    Table(#[from] TableError),
}
