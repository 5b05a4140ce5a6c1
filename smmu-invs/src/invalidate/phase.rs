//! The phases of an invalidation, in their order.

use crate::InvKind;
use crate::inv_entry::Contents;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Tags,
    NestedStage1,
    DeviceCaches,
}

impl Phase {
    pub(super) const fn of(kind: InvKind) -> Self {
        match kind {
            InvKind::S1Asid | InvKind::S2Vmid | InvKind::S2VmidVsmmu => Phase::Tags,
            InvKind::S2VmidS1Clear => Phase::NestedStage1,
            InvKind::Ats | InvKind::AtsFull => Phase::DeviceCaches,
        }
    }

    pub(super) const fn contents(self) -> Contents {
        match self {
            Phase::Tags => Contents::TAGS,
            Phase::NestedStage1 => Contents::NESTED_STAGE_1,
            Phase::DeviceCaches => Contents::DEVICE_CACHES,
        }
    }
}
