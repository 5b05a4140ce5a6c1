//! The granule of a ranged TLB invalidation.

use crate::Granule;

/// The `TG` field of a ranged command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RangeGranule {
    /// 0: one address, without a range and without a level hint.
    Single,
    /// 4 KiB pages.
    K4,
    /// 16 KiB pages.
    K16,
    /// 64 KiB pages.
    K64,
}

impl RangeGranule {
    pub(crate) const fn encoding(self) -> u64 {
        match self {
            RangeGranule::Single => 0,
            RangeGranule::K4 => 1,
            RangeGranule::K16 => 2,
            RangeGranule::K64 => 3,
        }
    }

    pub(crate) const fn from_encoding(value: u64) -> Self {
        match value & 3 {
            1 => RangeGranule::K4,
            2 => RangeGranule::K16,
            3 => RangeGranule::K64,
            _ => RangeGranule::Single,
        }
    }

    pub(crate) const fn from_granule(granule: Granule) -> Self {
        match granule {
            Granule::K4 => RangeGranule::K4,
            Granule::K16 => RangeGranule::K16,
            Granule::K64 => RangeGranule::K64,
        }
    }

    /// The page size that `NUM` and `SCALE` count in, or `None` for a single address.
    #[must_use]
    pub const fn granule(self) -> Option<Granule> {
        match self {
            RangeGranule::Single => None,
            RangeGranule::K4 => Some(Granule::K4),
            RangeGranule::K16 => Some(Granule::K16),
            RangeGranule::K64 => Some(Granule::K64),
        }
    }
}

impl From<Granule> for RangeGranule {
    fn from(granule: Granule) -> Self {
        Self::from_granule(granule)
    }
}
