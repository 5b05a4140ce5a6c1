//! What a space refuses, and why.

use core::fmt;

use smmu_types::{CacheTag, SmmuId};

/// The kind of tag that a space gives out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TagKind {
    /// The tag of stage-1 translations.
    Asid,
    /// The tag of stage-2 translations.
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

/// Why a space refuses a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TagError {
    /// A width that the architecture does not have.
    #[error(
        "{bits} bits is not a width of {kind}s; use 8, or 16 if SMMU_IDR0 says that the SMMU has it"
    )]
    BadWidth {
        /// ASID or VMID.
        kind: TagKind,
        /// The width asked for.
        bits: u8,
    },
    /// An allocation for a space failed: of its bitmap, or of what its handles and tags share.
    #[error("no memory for a space of {numbers} {kind}s ({bytes} bytes); free some and try again")]
    OutOfMemory {
        /// ASID or VMID.
        kind: TagKind,
        /// Numbers in the space, 0 included.
        numbers: u32,
        /// The size of the allocation that failed.
        bytes: usize,
    },
    /// Every number that the SMMU can use is taken.
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
        /// Numbers of the space that are reserved for firmware.
        reserved: u32,
        /// Numbers of the space that are lost because a flush was never proven.
        quarantined: u32,
    },
    /// The number to reserve or to claim is beyond the end of the space, or of what the SMMU can
    /// use.
    #[error("{kind} {number} is out of range: the last one that can be used is {last}")]
    OutOfRange {
        /// ASID or VMID.
        kind: TagKind,
        /// The number asked for.
        number: u16,
        /// The last number of the space, or the last that the SMMU can use.
        last: u32,
    },
    /// The number to claim is 0.
    #[error("{kind} 0 cannot be claimed: a space never gives it out; use 1 to {last}")]
    Zero {
        /// ASID or VMID.
        kind: TagKind,
        /// The last number that can be claimed.
        last: u32,
    },
    /// The number to claim is given out, reserved or quarantined.
    #[error(
        "{smmu}: {kind} {number} cannot be claimed: it is given out, reserved or quarantined; \
         detach the domain that has it, or use another number"
    )]
    NotFree {
        /// ASID or VMID.
        kind: TagKind,
        /// The SMMU that the tag was for.
        smmu: SmmuId,
        /// The number asked for.
        number: u16,
    },
    /// The number to reserve is given out or reserved already.
    #[error(
        "{kind} {number} cannot be reserved: it is given out or reserved already; reserve once, \
         before the first attach"
    )]
    AlreadyTaken {
        /// ASID or VMID.
        kind: TagKind,
        /// The number asked for.
        number: u16,
    },
    /// The proof is for another SMMU.
    #[error("{tag} of {want} cannot be freed: the flush was proven on {got}; flush it on {want}")]
    ProofOfOtherSmmu {
        /// The tag to free.
        tag: CacheTag,
        /// The SMMU that the tag belongs to.
        want: SmmuId,
        /// The SMMU that proved the flush.
        got: SmmuId,
    },
    /// The proof is for another tag.
    #[error("{want} of {smmu} cannot be freed: the proof is for {got}; flush {want}")]
    ProofOfOtherTag {
        /// The SMMU.
        smmu: SmmuId,
        /// The tag to free.
        want: CacheTag,
        /// The tag whose flush is proven.
        got: CacheTag,
    },
}
