//! Newtypes for the numbers of the architecture.

use core::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty), $format:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, $format, self.0)
            }
        }
    };
}

number! {
    /// One SMMU instance, as a small index that the integrator chooses. It orders invalidation
    /// arrays, so it must stay the same while the SMMU is in use.
    SmmuId(u16), "smmu{}"
}
number! {
    /// One domain, as a number that the integrator chooses. Callers lock domains in this order.
    DomainId(u32), "domain{}"
}
number! {
    /// StreamID: which device a transaction comes from.
    StreamId(u32), "{:#x}"
}
number! {
    /// Address space identifier: the tag of stage-1 translations. 0 is never given out.
    Asid(u16), "{}"
}
number! {
    /// Virtual machine identifier: the tag of stage-2 translations. Stage-1-only streams use 0.
    Vmid(u16), "{}"
}
number! {
    /// Input address of a device.
    Iova(u64), "{:#x}"
}
number! {
    /// Intermediate physical address: the input of stage 2.
    Ipa(u64), "{:#x}"
}
number! {
    /// Physical address, as the SMMU sees it.
    PhysAddr(u64), "{:#x}"
}

/// SubstreamID (a PASID, for PCIe): 20 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubstreamId(u32);

impl SubstreamId {
    /// The largest SubstreamID of the architecture.
    pub const MAX: u32 = (1 << 20) - 1;

    /// A SubstreamID, or `None` when `value` does not fit into 20 bits.
    #[must_use]
    pub const fn new(value: u32) -> Option<Self> {
        if value <= Self::MAX { Some(Self(value)) } else { None }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for SubstreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// Translation granule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Granule {
    /// 4 KiB.
    K4,
    /// 16 KiB.
    K16,
    /// 64 KiB.
    K64,
}

impl Granule {
    /// log2 of the size in bytes: 12, 14 or 16.
    #[must_use]
    pub const fn shift(self) -> u32 {
        match self {
            Granule::K4 => 12,
            Granule::K16 => 14,
            Granule::K64 => 16,
        }
    }

    /// Size in bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        1 << self.shift()
    }

    /// The granule whose size is `1 << shift` bytes.
    #[must_use]
    pub const fn from_shift(shift: u32) -> Option<Self> {
        match shift {
            12 => Some(Granule::K4),
            14 => Some(Granule::K16),
            16 => Some(Granule::K64),
            _ => None,
        }
    }

    /// The encoding that `CD.TG0` and `STE.S2TG` share (0, 2, 1).
    pub(crate) const fn tg0(self) -> u64 {
        match self {
            Granule::K4 => 0,
            Granule::K16 => 2,
            Granule::K64 => 1,
        }
    }

    pub(crate) const fn from_tg0(value: u64) -> Option<Self> {
        match value {
            0 => Some(Granule::K4),
            2 => Some(Granule::K16),
            1 => Some(Granule::K64),
            _ => None,
        }
    }
}

impl fmt::Display for Granule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Granule::K4 => "4K",
            Granule::K16 => "16K",
            Granule::K64 => "64K",
        })
    }
}

/// Size of an output address, as `IDR5.OAS`, `CD.IPS` and `STE.S2PS` encode it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum OutputSize {
    /// 32 bits.
    Bits32 = 0,
    /// 36 bits.
    Bits36 = 1,
    /// 40 bits.
    Bits40 = 2,
    /// 42 bits.
    Bits42 = 3,
    /// 44 bits.
    Bits44 = 4,
    /// 48 bits.
    Bits48 = 5,
    /// 52 bits.
    Bits52 = 6,
    /// 56 bits, which needs 128-bit descriptors (SMMUv3.4).
    Bits56 = 7,
}

impl OutputSize {
    /// Number of address bits.
    #[must_use]
    pub const fn bits(self) -> u32 {
        match self {
            OutputSize::Bits32 => 32,
            OutputSize::Bits36 => 36,
            OutputSize::Bits40 => 40,
            OutputSize::Bits42 => 42,
            OutputSize::Bits44 => 44,
            OutputSize::Bits48 => 48,
            OutputSize::Bits52 => 52,
            OutputSize::Bits56 => 56,
        }
    }

    /// The size with this 3-bit encoding; `None` for a larger value.
    #[must_use]
    pub const fn from_encoding(value: u8) -> Option<Self> {
        Some(match value {
            0 => OutputSize::Bits32,
            1 => OutputSize::Bits36,
            2 => OutputSize::Bits40,
            3 => OutputSize::Bits42,
            4 => OutputSize::Bits44,
            5 => OutputSize::Bits48,
            6 => OutputSize::Bits52,
            7 => OutputSize::Bits56,
            _ => return None,
        })
    }
}
