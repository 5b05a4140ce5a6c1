//! The kinds of nodes.

use core::fmt;

/// What a node of IORT describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NodeKind {
    /// A group of interrupt translation services.
    ItsGroup,
    /// A device with a name in the ACPI namespace.
    NamedComponent,
    /// A PCIe root complex.
    RootComplex,
    /// An SMMUv1 or SMMUv2.
    SmmuV2,
    /// An SMMUv3.
    SmmuV3,
    /// A performance monitor of an SMMUv3.
    Pmcg,
    /// Reserved memory ranges of streams.
    Rmr,
    /// A kind that this crate does not know.
    Other(u8),
}

impl NodeKind {
    pub(super) const fn of(number: u8) -> Self {
        match number {
            0 => Self::ItsGroup,
            1 => Self::NamedComponent,
            2 => Self::RootComplex,
            3 => Self::SmmuV2,
            4 => Self::SmmuV3,
            5 => Self::Pmcg,
            6 => Self::Rmr,
            other => Self::Other(other),
        }
    }

    /// The bytes of its oldest revision, with the header.
    pub(super) const fn least(self) -> u16 {
        match self {
            Self::ItsGroup => 20,
            Self::NamedComponent => 30,
            Self::RootComplex => 32,
            Self::SmmuV2 => 60,
            Self::SmmuV3 => 60,
            Self::Pmcg => 32,
            Self::Rmr => 28,
            Self::Other(_) => 16,
        }
    }
}

impl fmt::Display for NodeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ItsGroup => f.write_str("ITS group"),
            Self::NamedComponent => f.write_str("named component"),
            Self::RootComplex => f.write_str("root complex"),
            Self::SmmuV2 => f.write_str("SMMUv1/v2"),
            Self::SmmuV3 => f.write_str("SMMUv3"),
            Self::Pmcg => f.write_str("PMCG"),
            Self::Rmr => f.write_str("RMR"),
            Self::Other(kind) => write!(f, "node of kind {kind}"),
        }
    }
}
