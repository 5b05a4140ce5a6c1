use core::fmt;

use smmu_invs::InvError;
use smmu_tags::TagError;
use smmu_types::seam::{DmaError, SinkError};
use smmu_types::{CacheTag, DomainId, FieldError, SmmuId, StreamId};

/// What a domain needs of an SMMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Requirement {
    /// TranslationStage-1 translation.
    Stage1,
    /// TranslationStage-2 translation.
    Stage2,
    /// The granule of its tables.
    Granule,
    /// Input addresses as large as its own.
    InputSize,
    /// Output addresses as large as its own.
    OutputSize,
    /// Walks that snoop the caches.
    CoherentWalk,
    /// Forced write-back at stage 2.
    ForcedWriteBack,
    /// Faults that terminate; an SMMU that always stalls needs a driver that resumes.
    Termination,
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Requirement::Stage1 => "stage 1",
            Requirement::Stage2 => "stage 2",
            Requirement::Granule => "the granule of its tables",
            Requirement::InputSize => "its input address size",
            Requirement::OutputSize => "its output address size",
            Requirement::CoherentWalk => "coherent table walks",
            Requirement::ForcedWriteBack => "forced write-back",
            Requirement::Termination => "faults that terminate",
        })
    }
}

/// Why an attach could not be prepared, or an SMMU, device or domain not be made.
///
/// Whatever the error, no stream leads anywhere else than before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// The SMMU cannot walk the domain's tables.
    #[error(
        "{smmu} cannot walk the tables of {domain}: it lacks {lacks}; build them to what every SMMU of the domain can do"
    )]
    CannotShare {
        /// The domain.
        domain: DomainId,
        /// The SMMU.
        smmu: SmmuId,
        /// What it lacks.
        lacks: Requirement,
    },
    /// The table description contradicts itself.
    #[error("{domain}: T0SZ {t0sz} is outside 12 to 39")]
    InputSize {
        /// The domain.
        domain: DomainId,
        /// `T0SZ` of the description.
        t0sz: u8,
    },
    /// No tag could be had.
    #[error(transparent)]
    Tag(#[from] TagError),
    /// The invalidation array could not be built.
    #[error(transparent)]
    Inv(#[from] InvError),
    /// No memory for a table.
    #[error(transparent)]
    Dma(#[from] DmaError),
    /// A table address does not fit its field.
    #[error(transparent)]
    Layout(#[from] FieldError),
    /// The SMMU did not take a command.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// No memory for bookkeeping.
    #[error("no memory to prepare the attach on {smmu}")]
    OutOfMemory {
        /// The SMMU.
        smmu: SmmuId,
    },
    /// The device's StreamID is beyond what the SMMU's stream table covers.
    #[error("StreamID {stream} is beyond {smmu}'s stream table of {bits} bits")]
    StreamRange {
        /// The SMMU.
        smmu: SmmuId,
        /// The StreamID.
        stream: StreamId,
        /// log2 of the size of the table.
        bits: u8,
    },
    /// Another device has this StreamID.
    #[error("StreamID {stream} of {smmu} belongs to another device; remove that one first")]
    StreamInUse {
        /// The SMMU.
        smmu: SmmuId,
        /// The StreamID.
        stream: StreamId,
    },
    /// A device without StreamIDs.
    #[error("a device behind {smmu} has no StreamID; it needs one at least")]
    NoStream {
        /// The SMMU.
        smmu: SmmuId,
    },
    /// The domain's array does not hold the tag that the device uses: its state is corrupt.
    #[error(
        "{domain} has no live tag on {smmu}, though a device is attached there; its state is corrupt"
    )]
    TagLost {
        /// The domain.
        domain: DomainId,
        /// The SMMU.
        smmu: SmmuId,
    },
    /// The domain's array holds a tag that the domain does not own: its state is corrupt.
    #[error("{domain} lists {tag} on {smmu} but does not own it; its state is corrupt")]
    TagNotOwned {
        /// The domain.
        domain: DomainId,
        /// The SMMU.
        smmu: SmmuId,
        /// The tag.
        tag: CacheTag,
    },
    /// Two different SMMUs bear one [`SmmuId`], which invalidation arrays go by.
    #[error("two SMMUs bear the number of {smmu}; numbers must differ, invalidations go by them")]
    SameSmmuId {
        /// The number.
        smmu: SmmuId,
    },
    /// Two different domains bear one [`DomainId`], which orders their locks.
    #[error("two domains bear the number of {domain}; numbers must differ, they order the locks")]
    SameDomainId {
        /// The number.
        domain: DomainId,
    },
    /// What the SMMU can do is not enough for any driver.
    #[error("{smmu} has a StreamID size of {bits} bits, the architecture has 32 at most")]
    StreamIdSize {
        /// The SMMU.
        smmu: SmmuId,
        /// `IDR1.SIDSIZE`.
        bits: u8,
    },
}
