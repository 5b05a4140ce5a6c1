//! Whether the transactions of a device stall when they fault.

/// What becomes of a transaction whose translation faults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FaultModel {
    /// The SMMU aborts it.
    #[default]
    Terminate,
    /// It stalls until software answers ([`faults`](crate::faults)). An SMMU without stalls aborts it.
    Stall,
}
