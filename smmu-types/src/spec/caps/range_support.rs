//! Whether an SMMU takes ranged TLB invalidations.

/// Whether an SMMU takes ranged commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RangeSupport {
    /// `IDR3.RIL` = 1.
    Ril,
    /// `IDR3.RIL` = 0: one command per granule.
    Single,
}
