use core::fmt;

use smmu_types::{CacheTag, FlushProof, SmmuId};

use crate::RetiringTag;

/// What a space gives out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TagKind {
    /// Tags of stage-1 translations.
    Asid,
    /// Tags of stage-2 translations.
    Vmid,
}

impl fmt::Display for TagKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TagKind::Asid => "ASID",
            TagKind::Vmid => "VMID",
        })
    }
}

/// What is wrong with a request about tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TagError {
    /// A width that the architecture does not have.
    #[error(
        "{bits} bits is not a width of {kind}s; use 8, or 16 where IDR0 says that the SMMU has it"
    )]
    BadWidth {
        /// ASID or VMID.
        kind: TagKind,
        /// The width asked for.
        bits: u8,
    },
    /// No memory for the bitmaps of a space.
    #[error("no memory for a space of {numbers} {kind}s ({bytes} bytes); free some and try again")]
    OutOfMemory {
        /// ASID or VMID.
        kind: TagKind,
        /// Numbers in the space, 0 included.
        numbers: u32,
        /// Bytes that were asked for.
        bytes: usize,
    },
    /// Every number that the SMMU could use is taken.
    #[error(
        "{smmu}: all {limit} {kind}s that it can use are taken, {reserved} of the space by \
         firmware and {quarantined} quarantined for good; detach a domain from {smmu}"
    )]
    Exhausted {
        /// ASID or VMID.
        kind: TagKind,
        /// The SMMU that the tag was for.
        smmu: SmmuId,
        /// How many numbers this SMMU can use: 255 or 65,535.
        limit: u32,
        /// Numbers of the space that firmware uses.
        reserved: u32,
        /// Numbers of the space that are lost because a flush was never proven.
        quarantined: u32,
    },
    /// A number to reserve that the space does not have.
    #[error("{kind} {number} cannot be reserved: the space ends at {last}")]
    OutOfRange {
        /// ASID or VMID.
        kind: TagKind,
        /// The number asked for.
        number: u16,
        /// The last number of the space.
        last: u32,
    },
    /// A number to reserve that is given out, or was reserved before.
    #[error(
        "{kind} {number} cannot be reserved: it is given out, or reserved already; reserve once, \
         before the first attach"
    )]
    AlreadyTaken {
        /// ASID or VMID.
        kind: TagKind,
        /// The number asked for.
        number: u16,
    },
    /// The proof is of another SMMU.
    #[error("{tag} of {want} cannot be freed: the flush was proven on {got}; flush it on {want}")]
    ProofOfOtherSmmu {
        /// The tag to free.
        tag: CacheTag,
        /// The SMMU that the tag belongs to.
        want: SmmuId,
        /// The SMMU that the proof is of.
        got: SmmuId,
    },
    /// The proof is of another tag.
    #[error("{want} of {smmu} cannot be freed: the proven flush was of {got}; flush {want}")]
    ProofOfOtherTag {
        /// The SMMU.
        smmu: SmmuId,
        /// The tag to free.
        want: CacheTag,
        /// The tag that the proof is of.
        got: CacheTag,
    },
}

/// A tag that was not freed, the proof that was not its own, and what was wrong.
///
/// Dropping it quarantines the tag, as dropping the [`RetiringTag`] does.
#[must_use = "dropping it quarantines the tag"]
pub struct FreeError {
    pub(crate) tag: RetiringTag,
    pub(crate) proof: FlushProof,
    pub(crate) error: TagError,
}

impl FreeError {
    /// Which part of the proof was wrong.
    #[must_use]
    pub fn error(&self) -> TagError {
        self.error
    }

    /// The tag, to try again with the right proof.
    pub fn into_tag(self) -> RetiringTag {
        self.tag
    }

    /// The tag, and the proof, which may be the right one for another tag.
    pub fn into_parts(self) -> (RetiringTag, FlushProof) {
        (self.tag, self.proof)
    }
}

impl fmt::Debug for FreeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FreeError")
            .field("tag", &self.tag)
            .field("proof", &self.proof)
            .field("error", &self.error)
            .finish()
    }
}

impl fmt::Display for FreeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl core::error::Error for FreeError {}
