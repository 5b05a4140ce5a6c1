//! What an entry of the array invalidates, and the order of entries.

use core::fmt;

use smmu_types::range::RangeSupport;
use smmu_types::{Asid, CacheTag, Regime, SmmuId, StreamId, SubstreamId, Vmid};

/// What an entry invalidates. Commands go out in the numeric order of their kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum InvKind {
    /// Stage-1 translations of an ASID.
    S1Asid = 0,
    /// Stage-2 translations of a VMID.
    S2Vmid = 1,
    /// Stage-2 translations of a virtual SMMU's VMID.
    S2VmidVsmmu = 2,
    /// All stage-1 translations of a VMID. The guest's ASIDs are not known.
    S2VmidS1Clear = 3,
    /// Translations in a device's own cache.
    Ats = 4,
    /// Everything in a device's own cache. Its addresses are a guest's, and not known.
    AtsFull = 5,
}

impl InvKind {
    /// Whether the id is a StreamID. Otherwise it is an ASID or a VMID.
    #[must_use]
    pub const fn is_ats(self) -> bool {
        matches!(self, InvKind::Ats | InvKind::AtsFull)
    }

    pub(crate) const fn has_range(self) -> bool {
        matches!(self, InvKind::S1Asid | InvKind::S2Vmid | InvKind::S2VmidVsmmu)
    }
}

impl fmt::Display for InvKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            InvKind::S1Asid => "S1_ASID",
            InvKind::S2Vmid => "S2_VMID",
            InvKind::S2VmidVsmmu => "S2_VMID_VSMMU",
            InvKind::S2VmidS1Clear => "S2_VMID_S1_CLEAR",
            InvKind::Ats => "ATS",
            InvKind::AtsFull => "ATS_FULL",
        })
    }
}

/// The identity of an entry. Keys sort by their fields, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InvKey {
    /// The SMMU whose queue gets the command.
    pub smmu: SmmuId,
    /// What is invalidated.
    pub kind: InvKind,
    /// ASID, VMID or StreamID.
    pub id: u32,
    /// SubstreamID of an ATS kind, or [`InvKey::NO_SSID`]. 0 for other kinds.
    pub ssid: u32,
}

impl InvKey {
    /// The `ssid` of an ATS entry without a substream.
    pub const NO_SSID: u32 = u32::MAX;

    pub(crate) fn is_well_formed(&self) -> bool {
        if self.kind.is_ats() {
            self.ssid == Self::NO_SSID || self.ssid <= SubstreamId::MAX
        } else {
            self.ssid == 0 && self.id <= u16::MAX.into()
        }
    }
}

impl fmt::Display for InvKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ", self.smmu, self.kind)?;
        if !self.kind.is_ats() {
            return write!(f, "{}", self.id);
        }
        write!(f, "{:#x}", self.id)?;
        match self.ssid {
            Self::NO_SSID => Ok(()),
            ssid => write!(f, " ssid={ssid:#x}"),
        }
    }
}

/// One entry of a request: what the SMMU must invalidate for a device.
///
/// ```
/// use smmu_invs::InvSpec;
/// use smmu_types::range::RangeSupport;
/// use smmu_types::{Asid, CacheTag, Regime, SmmuId, StreamId};
///
/// let tag = CacheTag::Asid(Regime::El1, Asid(7));
/// let spec = InvSpec::tagged(SmmuId(0), tag, RangeSupport::Ril);
/// assert_eq!(spec.tag(), Some(tag));
/// assert_eq!(spec.to_string(), "smmu0 S1_ASID 7");
/// assert!(spec.key < InvSpec::ats(SmmuId(0), StreamId(1), None).key);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct InvSpec {
    /// The identity of the entry.
    pub key: InvKey,
    /// Regime of [`InvKind::S1Asid`]. Other kinds have [`Regime::El1`], without a meaning.
    pub regime: Regime,
    /// Whether the SMMU takes range commands (`IDR3.RIL`). Only for [`InvKind::S1Asid`],
    /// [`InvKind::S2Vmid`] and [`InvKind::S2VmidVsmmu`].
    pub range: RangeSupport,
}

impl InvSpec {
    const fn new(smmu: SmmuId, kind: InvKind, id: u32, ssid: u32) -> Self {
        InvSpec {
            key: InvKey { smmu, kind, id, ssid },
            regime: Regime::El1,
            range: RangeSupport::Single,
        }
    }

    /// The entry of a tag: [`InvKind::S1Asid`] or [`InvKind::S2Vmid`].
    #[must_use]
    pub const fn tagged(smmu: SmmuId, tag: CacheTag, range: RangeSupport) -> Self {
        match tag {
            CacheTag::Asid(regime, asid) => {
                let spec = Self::new(smmu, InvKind::S1Asid, asid.0 as u32, 0);
                InvSpec { regime, range, ..spec }
            }
            CacheTag::Vmid(vmid) => {
                InvSpec { range, ..Self::new(smmu, InvKind::S2Vmid, vmid.0 as u32, 0) }
            }
        }
    }

    /// The entry of a virtual SMMU's VMID.
    #[must_use]
    pub const fn vsmmu(smmu: SmmuId, vmid: Vmid, range: RangeSupport) -> Self {
        InvSpec { range, ..Self::new(smmu, InvKind::S2VmidVsmmu, vmid.0 as u32, 0) }
    }

    /// The entry of all stage-1 translations of a VMID.
    #[must_use]
    pub const fn s1_clear(smmu: SmmuId, vmid: Vmid) -> Self {
        Self::new(smmu, InvKind::S2VmidS1Clear, vmid.0 as u32, 0)
    }

    /// The entry of a substream in a device's own cache.
    #[must_use]
    pub const fn ats(smmu: SmmuId, stream: StreamId, substream: Option<SubstreamId>) -> Self {
        let ssid = match substream {
            Some(substream) => substream.get(),
            None => InvKey::NO_SSID,
        };
        Self::new(smmu, InvKind::Ats, stream.0, ssid)
    }

    /// The entry of a whole stream in a device's own cache.
    #[must_use]
    pub const fn ats_full(smmu: SmmuId, stream: StreamId) -> Self {
        Self::new(smmu, InvKind::AtsFull, stream.0, InvKey::NO_SSID)
    }

    /// The tag of the entry. The caller must flush it when the last user is gone.
    ///
    /// `None` for ATS kinds. `None` for [`InvKind::S2VmidS1Clear`] as well: the entry of the VMID
    /// beside it has the tag, and the flush of a VMID includes its stage-1 translations.
    #[must_use]
    pub const fn tag(&self) -> Option<CacheTag> {
        let id = self.key.id as u16;
        match self.key.kind {
            InvKind::S1Asid => Some(CacheTag::Asid(self.regime, Asid(id))),
            InvKind::S2Vmid | InvKind::S2VmidVsmmu => Some(CacheTag::Vmid(Vmid(id))),
            InvKind::S2VmidS1Clear | InvKind::Ats | InvKind::AtsFull => None,
        }
    }
}

impl fmt::Display for InvSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.key.fmt(f)?;
        match (self.key.kind, self.regime) {
            (InvKind::S1Asid, Regime::El2) => f.write_str(" EL2"),
            _ => Ok(()),
        }
    }
}
