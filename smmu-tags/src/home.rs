//! What the tags of a space share: its numbers, and a reference that keeps them alive.

use alloc::sync::Arc;
use core::ops::Deref;

use smmu_types::seam::{Notice, Observer};
use smmu_types::{CacheTag, Counted, SmmuId};

use crate::error::{TagError, TagKind};
use crate::numbers::Numbers;

/// Is told of each number that is lost because its tag was dropped.
pub type Listener = Arc<dyn Observer + Send + Sync>;

/// The bitmap has words of 2^6 = 64 bits.
const SHIFT: u32 = 6;

/// The numbers of a space. Its handles and all tags that it gave out share them.
pub(crate) struct SpaceInner {
    pub(crate) numbers: Numbers<SHIFT>,
    pub(crate) kind: TagKind,
    pub(crate) listener: Option<Listener>,
}

/// The reference count for the tags of one part of the numbers, so that CPUs with rounds of their
/// own do not write one count. The count lies behind the pointer. The block is so long that the
/// counts of two blocks never share a cache line.
#[repr(C)]
pub(crate) struct Anchor {
    pub(crate) _apart: [u64; 9],
    pub(crate) shared: Counted<SpaceInner>,
}

/// A tag's reference to its space.
#[derive(Clone)]
pub(crate) enum Home {
    Counted(Counted<SpaceInner>),
    CountedApart(Counted<Anchor>),
    Forever(&'static SpaceInner),
}

impl Deref for Home {
    type Target = SpaceInner;

    fn deref(&self) -> &SpaceInner {
        match self {
            Home::Counted(shared) => shared,
            Home::CountedApart(anchor) => &anchor.shared,
            Home::Forever(shared) => shared,
        }
    }
}

impl SpaceInner {
    pub(crate) fn reserve(&self, number: u16) -> Result<(), TagError> {
        let kind = self.kind;
        if u32::from(number) >= self.numbers.numbers() {
            return Err(TagError::OutOfRange { kind, number, last: self.numbers.numbers() - 1 });
        }
        match self.numbers.reserve(number) {
            true => Ok(()),
            false => Err(TagError::AlreadyTaken { kind, number }),
        }
    }

    #[cold]
    pub(crate) fn exhausted(&self, smmu: SmmuId, limit: u32) -> TagError {
        TagError::Exhausted {
            kind: self.kind,
            smmu,
            limit: limit - 1,
            reserved: self.numbers.reserved(),
            quarantined: self.numbers.quarantined(),
        }
    }

    /// Reports a dropped tag that the hardware may know.
    pub(crate) fn lost(&self, smmu: SmmuId, tag: CacheTag) {
        if let Some(listener) = &self.listener {
            listener.notice(Notice::TagDropped { smmu, tag });
        }
    }
}
