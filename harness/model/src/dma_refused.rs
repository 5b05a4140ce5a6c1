//! The end of an access that did not reach memory.

/// The SMMU refused an access, or no RAM lies at its output address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the access was refused; the event queue says why, if the stream's faults are recorded")]
pub struct DmaRefused;
