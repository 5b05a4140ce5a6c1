//! The space that a cached translation belongs to: regime, VMID and ASID.

use smmu_types::{Asid, CacheTag, Regime, Vmid};

/// The regime, VMID and ASID that a cached translation belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Space {
    Stage1 {
        regime: Regime,
        vmid: Vmid,
        /// `None` for global entries, which match every ASID, and for a regime without ASIDs.
        asid: Option<Asid>,
    },
    Stage2 {
        vmid: Vmid,
    },
}

impl Space {
    /// The space of the global entries that a lookup in this space also matches.
    pub(crate) fn global(self) -> Self {
        match self {
            Space::Stage1 { regime, vmid, .. } => Space::Stage1 { regime, vmid, asid: None },
            stage2 @ Space::Stage2 { .. } => stage2,
        }
    }

    pub(crate) fn tag(self) -> Option<CacheTag> {
        match self {
            Space::Stage1 { regime, asid, .. } => asid.map(|asid| CacheTag::Asid(regime, asid)),
            Space::Stage2 { vmid } => Some(CacheTag::Vmid(vmid)),
        }
    }

    pub(crate) fn has(self, tag: CacheTag) -> bool {
        match (self, tag) {
            (Space::Stage1 { vmid, .. } | Space::Stage2 { vmid }, CacheTag::Vmid(of)) => vmid == of,
            // A guest assigns the ASIDs under any other VMID itself.
            (space @ Space::Stage1 { vmid: Vmid(0), .. }, tag) => space.tag() == Some(tag),
            _ => false,
        }
    }
}
