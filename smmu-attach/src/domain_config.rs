//! What the caller chooses of a domain.

use core::fmt;

use smmu_types::{Asid, Vmid};

/// How a domain gets its tag on an SMMU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DomainConfig {
    /// The number of its tag on every SMMU. `None`: the first attach behind an SMMU takes a free
    /// number of that SMMU.
    pub number: Option<TagNumber>,
}

/// An ASID or a VMID that the caller chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TagNumber {
    /// For stage 1.
    Asid(Asid),
    /// For stage 2.
    Vmid(Vmid),
}

impl fmt::Display for TagNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TagNumber::Asid(asid) => write!(f, "ASID {asid}"),
            TagNumber::Vmid(vmid) => write!(f, "VMID {vmid}"),
        }
    }
}

impl DomainConfig {
    /// A domain with this VMID on every SMMU, such as the one that the CPUs use for a guest.
    ///
    /// With `IDR0.BTM`, an SMMU takes part in the CPUs' broadcast TLB invalidations by VMID. An
    /// unmap still calls [`Domain::invalidate`](crate::Domain::invalidate): the broadcast does not
    /// reach the caches of every SMMU.
    ///
    /// An attach behind an SMMU where the number is not free is refused. A domain without a chosen
    /// number may take it first: choose the numbers of all stage-2 domains, or of none.
    #[must_use]
    pub const fn with_vmid(self, vmid: Vmid) -> Self {
        DomainConfig { number: Some(TagNumber::Vmid(vmid)) }
    }

    /// A domain with this ASID on every SMMU, such as the one that the CPUs use for a process.
    #[must_use]
    pub const fn with_asid(self, asid: Asid) -> Self {
        DomainConfig { number: Some(TagNumber::Asid(asid)) }
    }
}
