//! Where implementations differ from their ID registers.

use core::fmt;

use crate::Implementation;

/// One difference between an implementation and its ID registers, or one assumption about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Quirk {
    /// The driver must not send a `CMD_SYNC` with `SIG_SEV` (MMU-600 r0p0 to r0p2, erratum
    /// 1076982).
    NoSev,
    /// Stage 1 over stage 2 does not work (MMU-600 before r2, erratum 1209401; MMU-700 before r1p1,
    /// erratum 2268618).
    NoNesting,
    /// Broadcast TLB maintenance does not work (MMU-700, many errata; MMU-L1, erratum 3878312;
    /// MMU-S3, erratum 3995052).
    NoBroadcast,
    /// A batch must not fill the queue without a `CMD_SYNC` (MMU-700 before r1p1, erratum 2812531).
    ForceSync,
    /// `IDR5.OAS` is reserved; the crate assumes 48 bits.
    AssumedOutputSize,
    /// The driver must send each `CFGI_*` and `TLBI_*` twice, with a `CMD_SYNC` behind each: the
    /// first may leave an entry in a cache (Tegra264). `ATC_INV` is not repeated.
    ///
    /// `IIDR` does not tell it. A device tree does, by the compatible string
    /// `nvidia,tegra264-smmu`; otherwise the integrator does.
    RepeatInvalidations,
}

impl Quirk {
    const ALL: [Quirk; 6] = [
        Quirk::NoSev,
        Quirk::NoNesting,
        Quirk::NoBroadcast,
        Quirk::ForceSync,
        Quirk::AssumedOutputSize,
        Quirk::RepeatInvalidations,
    ];

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl fmt::Display for Quirk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Quirk::NoSev => "no SEV on CMD_SYNC",
            Quirk::NoNesting => "no nested translation",
            Quirk::NoBroadcast => "no broadcast TLB maintenance",
            Quirk::ForceSync => "CMD_SYNC forced into full batches",
            Quirk::AssumedOutputSize => "output size assumed to be 48 bits",
            Quirk::RepeatInvalidations => "CFGI and TLBI sent twice",
        })
    }
}

/// A set of [`Quirk`]s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quirks(u8);

impl Quirks {
    /// No quirk.
    pub const NONE: Quirks = Quirks(0);

    /// The quirks of an implementation.
    #[must_use]
    pub const fn of(made: Implementation) -> Self {
        const ARM: u16 = 0x43b;
        const MMU_600: u16 = 0x483;
        const MMU_700: u16 = 0x487;
        const MMU_L1: u16 = 0x48a;
        const MMU_S3: u16 = 0x498;

        let none = Quirks(0);
        if made.implementer != ARM {
            return none;
        }
        match (made.product, made.variant, made.revision) {
            (MMU_600, 0, 0..=2) => none.with(Quirk::NoSev).with(Quirk::NoNesting),
            (MMU_600, 0 | 1, _) => none.with(Quirk::NoNesting),
            (MMU_700, 0, _) | (MMU_700, _, 0) => {
                none.with(Quirk::NoBroadcast).with(Quirk::ForceSync).with(Quirk::NoNesting)
            }
            (MMU_700 | MMU_L1 | MMU_S3, ..) => none.with(Quirk::NoBroadcast),
            _ => none,
        }
    }

    /// Whether a quirk is in the set.
    #[must_use]
    pub const fn contains(self, quirk: Quirk) -> bool {
        self.0 & quirk.bit() != 0
    }

    /// Whether the set is empty.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// All quirks of the set.
    pub fn iter(self) -> impl Iterator<Item = Quirk> {
        Quirk::ALL.into_iter().filter(move |quirk| self.contains(*quirk))
    }

    /// The set with one more quirk.
    #[must_use]
    pub const fn with(self, quirk: Quirk) -> Self {
        Quirks(self.0 | quirk.bit())
    }

    /// The quirks of both sets.
    #[must_use]
    pub const fn and(self, others: Quirks) -> Self {
        Quirks(self.0 | others.0)
    }
}
