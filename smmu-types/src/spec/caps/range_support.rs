//! Whether an SMMU takes ranged TLB invalidations.

/// Whether an SMMU takes ranged commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RangeSupport {
    /// `IDR3.RIL` = 1 and `IDR5.DS` = 0: `SCALE` up to 31.
    Ril,
    /// `IDR3.RIL` = 0: one command per granule.
    Single,
    /// `IDR3.RIL` = 1 and `IDR5.DS` = 1: `SCALE` up to 39.
    RilDs,
}
