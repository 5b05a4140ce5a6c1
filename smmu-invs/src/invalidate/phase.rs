//! The phases of an invalidation, in their order.

use core::ops::RangeInclusive;

use crate::InvKind;
use crate::inv_entry::{Contents, Head};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Tags,
    NestedStage1,
    DeviceCaches,
}

/// Where an entry stands to a phase.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    Earlier,
    Now,
    Later,
}

impl Phase {
    /// The kinds whose entries are sent in the phase.
    const fn kinds(self) -> RangeInclusive<InvKind> {
        match self {
            Phase::Tags => InvKind::S1Asid..=InvKind::S2VmidVsmmu,
            Phase::NestedStage1 => InvKind::S2VmidS1Clear..=InvKind::S2VmidS1Clear,
            Phase::DeviceCaches => InvKind::Ats..=InvKind::AtsFull,
        }
    }

    /// When an entry is sent, seen from this phase.
    #[inline]
    pub(super) fn turn(self, head: Head) -> Turn {
        let (kinds, kind) = (self.kinds(), head.kind_number());
        if kind > *kinds.end() as u8 {
            Turn::Later
        } else if kind < *kinds.start() as u8 {
            Turn::Earlier
        } else {
            Turn::Now
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
