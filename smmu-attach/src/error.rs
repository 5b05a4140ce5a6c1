//! Errors of an attach, and what a domain requires of an SMMU.

use core::fmt;

use smmu_invs::{InvError, OutOfMemory};
use smmu_tags::TagError;
use smmu_types::legal::{Finding, Rule};
use smmu_types::seam::{DmaError, SinkError};
use smmu_types::{CacheTag, DomainId, FieldError, SmmuId, StreamId, SubstreamId};

use crate::domain_config::TagNumber;
#[cfg(feature = "guest")]
use crate::guest::GuestSmmuError;

/// A property of an SMMU that a domain requires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Requirement {
    /// TranslationStage-1 translation.
    Stage1,
    /// TranslationStage-2 translation.
    Stage2,
    /// The granule of the domain's tables.
    Granule,
    /// Input addresses of the domain's size.
    InputSize,
    /// Output addresses of the domain's size.
    OutputSize,
    /// Table walks that snoop caches.
    CoherentWalk,
    /// Forced write-back at stage 2.
    ForcedWriteBack,
    /// Faults that terminate. An SMMU that always stalls needs a driver that resumes.
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

/// A field of an STE or CD that the SMMU would not take as it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokenRule {
    /// The structure: `STE` or `CD`.
    pub structure: &'static str,
    /// The field.
    pub field: &'static str,
    /// Its value.
    pub value: u64,
    /// The rule, with its section and its remedy.
    pub rule: Rule,
}

impl BrokenRule {
    pub(crate) fn of(finding: &Finding) -> Self {
        BrokenRule {
            structure: finding.structure(),
            field: finding.name(),
            value: finding.value(),
            rule: finding.rule(),
        }
    }
}

/// `STE.S2TTB = 0x80000040: `, the rule, what the SMMU does and what helps.
impl fmt::Display for BrokenRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BrokenRule { structure, field, value, rule } = self;
        let (effect, remedy) = (rule.effect(), rule.remedy());
        write!(f, "{structure}.{field} = {value:#x}: {rule} ({effect}); {remedy}")
    }
}

/// Why `prepare` failed, or the construction of an SMMU, device or domain.
///
/// After any of these errors, no stream reaches memory that it did not reach before. A failed
/// [`Smmu::add_device`](crate::Smmu::add_device) may leave a second-level table whose streams all
/// abort.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// The SMMU cannot walk the domain's tables.
    #[error(
        "{smmu} cannot walk the tables of {domain}: it lacks {lacks}; build tables that every SMMU of the domain supports"
    )]
    CannotShare {
        /// The domain.
        domain: DomainId,
        /// The SMMU.
        smmu: SmmuId,
        /// The missing property.
        lacks: Requirement,
    },
    /// The SMMU would refuse the entries of the domain, or take a field for another value.
    #[error("{smmu} does not take the tables of {domain} as described: {broken}")]
    Illegal {
        /// The domain.
        domain: DomainId,
        /// The SMMU.
        smmu: SmmuId,
        /// The field and the rule.
        broken: BrokenRule,
    },
    /// A device with ATS was to use a domain whose cell has no gate.
    #[error(
        "{domain} cannot serve a device with ATS behind {smmu}: its cell has no gate; use smmu_invs::GatedCell as Platform::Cell"
    )]
    NoAtsGate {
        /// The domain.
        domain: DomainId,
        /// The SMMU.
        smmu: SmmuId,
    },
    #[cfg(feature = "guest")]
    /// The virtual SMMU cannot be as asked.
    #[error(transparent)]
    Guest(#[from] GuestSmmuError),
    #[cfg(feature = "guest")]
    /// A virtual SMMU was to lie over a domain of stage 1.
    #[error(
        "{smmu}: a virtual SMMU cannot lie over {domain}, whose tables are stage 1; use stage 2"
    )]
    ParentStage1 {
        /// The domain.
        domain: DomainId,
        /// The SMMU.
        smmu: SmmuId,
    },
    #[cfg(feature = "guest")]
    /// A device was to use a virtual SMMU on another SMMU, or an entry of another virtual SMMU.
    #[error(
        "the device with StreamID {stream} of {smmu} cannot use this virtual SMMU with this entry; make a virtual SMMU on {smmu}, and the entry by its policy"
    )]
    ForeignVirtualSmmu {
        /// The SMMU of the device.
        smmu: SmmuId,
        /// The first StreamID.
        stream: StreamId,
    },
    #[cfg(feature = "guest")]
    /// A guest's entry turns ATS on for a device that uses none.
    #[error(
        "the guest's entry has EATS for the device with StreamID {stream} of {smmu}, which uses no ATS; deny it in the policy (AtsPermission::Denied)"
    )]
    GuestAts {
        /// The SMMU.
        smmu: SmmuId,
        /// The first StreamID.
        stream: StreamId,
    },
    /// A group has no device.
    #[error("a group without a device cannot be attached; name at least one device")]
    EmptyGroup,
    /// A stream runs on another owner's entries, which have `EATS`, and its device uses no ATS.
    #[error(
        "StreamID {stream} of {smmu} runs with ATS; give its device a DeviceConfig with ATS, so that its cache is emptied"
    )]
    ForeignAts {
        /// The SMMU.
        smmu: SmmuId,
        /// The stream.
        stream: StreamId,
    },
    /// The device runs on another owner's entries, which may have substreams.
    #[error(
        "the device with StreamID {stream} of {smmu} still runs on another owner's tables; attach, bypass or block it before its substreams"
    )]
    ForeignAttached {
        /// The SMMU.
        smmu: SmmuId,
        /// The first StreamID.
        stream: StreamId,
    },
    /// A SubstreamID is not one that device and SMMU can attach.
    #[error(
        "SubstreamID {substream} of the device with StreamID {stream} behind {smmu} cannot be attached: the device has {bits} bits of SubstreamIDs, without 0; see DeviceConfig::substream_bits"
    )]
    SubstreamRange {
        /// The SMMU.
        smmu: SmmuId,
        /// The first StreamID.
        stream: StreamId,
        /// The SubstreamID.
        substream: SubstreamId,
        /// Bits that device, SMMU and this crate allow.
        bits: u8,
    },
    /// A substream was to bypass translation.
    #[error("{smmu}: SubstreamID {substream} cannot bypass translation; attach it to a domain")]
    SubstreamBypass {
        /// The SMMU.
        smmu: SmmuId,
        /// The SubstreamID.
        substream: SubstreamId,
    },
    /// A substream was to use a domain of stage 2.
    #[error("{smmu}: a substream cannot use {domain}, whose tables are stage 2; use stage 1")]
    SubstreamStage2 {
        /// The SMMU.
        smmu: SmmuId,
        /// The domain.
        domain: DomainId,
    },
    /// The device uses a domain of stage 2, beside which no substream can be attached.
    #[error(
        "{smmu}: SubstreamID {substream} cannot be attached while the device uses {domain}, whose tables are stage 2; block the device first"
    )]
    StreamStage2 {
        /// The SMMU.
        smmu: SmmuId,
        /// The SubstreamID.
        substream: SubstreamId,
        /// The device's domain.
        domain: DomainId,
    },
    /// The device has attached substreams, beside which it cannot use a domain of stage 2.
    #[error(
        "{smmu}: a device with attached substreams cannot use {domain}, whose tables are stage 2; block the substreams first"
    )]
    SubstreamsAttached {
        /// The SMMU.
        smmu: SmmuId,
        /// The domain.
        domain: DomainId,
    },
    /// The caller chose a tag of the other stage.
    #[error("{domain}: {number} is not a tag of its stage; stage 1 has ASIDs, stage 2 VMIDs")]
    WrongTag {
        /// The domain.
        domain: DomainId,
        /// The chosen tag.
        number: TagNumber,
    },
    /// `T0SZ` of the table description is out of range.
    #[error("{domain}: T0SZ = {t0sz} is outside 12 to 39")]
    InputSize {
        /// The domain.
        domain: DomainId,
        /// `T0SZ` of the description.
        t0sz: u8,
    },
    /// The tag space gave no tag.
    #[error(transparent)]
    Tag(#[from] TagError),
    /// The new invalidation array was not built.
    #[error(transparent)]
    Inv(#[from] InvError),
    /// No DMA memory for a table.
    #[error(transparent)]
    Dma(#[from] DmaError),
    /// A value does not fit its field of an STE, CD or level-1 descriptor.
    #[error(transparent)]
    Layout(#[from] FieldError),
    /// The SMMU did not confirm a command.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// No memory for a shared object.
    #[error(transparent)]
    Memory(#[from] OutOfMemory),
    /// No memory for bookkeeping.
    #[error("no memory to prepare the attach on {smmu}")]
    OutOfMemory {
        /// The SMMU.
        smmu: SmmuId,
    },
    /// A StreamID is outside the stream table.
    #[error("StreamID {stream} is outside the {bits}-bit stream table of {smmu}")]
    StreamRange {
        /// The SMMU.
        smmu: SmmuId,
        /// The StreamID.
        stream: StreamId,
        /// log2 of the number of entries.
        bits: u8,
    },
    /// The old owner of a table that was taken over gave the second level of this StreamID fewer STEs.
    #[error(
        "StreamID {stream} is beyond the {stes} STEs of its second level, which {smmu} had when it was taken over; reset the SMMU to use this stream"
    )]
    ShortArray {
        /// The SMMU.
        smmu: SmmuId,
        /// The StreamID.
        stream: StreamId,
        /// STEs that the second level has.
        stes: usize,
    },
    /// Another device owns this StreamID.
    #[error("StreamID {stream} of {smmu} belongs to another device; drop that device first")]
    StreamInUse {
        /// The SMMU.
        smmu: SmmuId,
        /// The StreamID.
        stream: StreamId,
    },
    /// The device has no StreamID.
    #[error("a device behind {smmu} has no StreamID; it needs at least one")]
    NoStream {
        /// The SMMU.
        smmu: SmmuId,
    },
    /// The DMA memory gave a block that is too short.
    #[error(
        "{smmu}: the DMA memory gave a block of {got:#x} bytes where {wanted:#x} were asked for; mend its `allocate`"
    )]
    ShortBlock {
        /// The SMMU that the block was for.
        smmu: SmmuId,
        /// Bytes asked for.
        wanted: u64,
        /// Bytes of the block.
        got: u64,
    },
    /// The domain's array has a tag that the domain does not own: the domain is corrupt.
    #[error("{domain} lists {tag} on {smmu} but does not own it; the domain is corrupt")]
    TagNotOwned {
        /// The domain.
        domain: DomainId,
        /// The SMMU.
        smmu: SmmuId,
        /// The tag.
        tag: CacheTag,
    },
    /// Two SMMUs have the same [`SmmuId`]. Invalidation arrays name an SMMU by it.
    #[error("two SMMUs have the number {smmu}; give each its own, because invalidations go by it")]
    SameSmmuId {
        /// The number.
        smmu: SmmuId,
    },
    /// The domain was made with another [`Env`](crate::Env) than the SMMU.
    #[error("{domain} and {smmu} have different environments; make both from clones of one")]
    ForeignEnv {
        /// The domain.
        domain: DomainId,
        /// The SMMU.
        smmu: SmmuId,
    },
    /// A transaction of the device is in progress.
    #[error(
        "a transaction of the device with StreamID {stream} of {smmu} is in progress; finish it first"
    )]
    DeviceBusy {
        /// The SMMU.
        smmu: SmmuId,
        /// The first StreamID.
        stream: StreamId,
    },
    /// Another transaction has the domain's lock.
    #[error("a transaction of another device with {domain} is in progress; try again after it")]
    DomainBusy {
        /// The domain.
        domain: DomainId,
    },
    /// The device was removed from its SMMU, or belongs to another one.
    #[error("the device with StreamID {stream} is not a device of {smmu} (any more)")]
    Removed {
        /// The SMMU.
        smmu: SmmuId,
        /// The first StreamID.
        stream: StreamId,
    },
    /// The device is attached, so it cannot be removed.
    #[error("the device with StreamID {stream} of {smmu} is attached; block it first")]
    StillAttached {
        /// The SMMU.
        smmu: SmmuId,
        /// The first StreamID.
        stream: StreamId,
    },
    /// The SMMU did not confirm a change of the device, so it cannot be removed.
    #[error(
        "{smmu} has not confirmed that it forgot the device with StreamID {stream}; settle it first"
    )]
    Unsettled {
        /// The SMMU.
        smmu: SmmuId,
        /// The first StreamID.
        stream: StreamId,
    },
    /// The owner has said that the SMMU is gone.
    #[error("{smmu} is gone; its devices stay blocked")]
    Gone {
        /// The SMMU.
        smmu: SmmuId,
    },
    /// The SMMU reports an impossible StreamID size.
    #[error("{smmu} reports StreamIDs of {bits} bits; the architecture allows at most 32")]
    StreamIdSize {
        /// The SMMU.
        smmu: SmmuId,
        /// `IDR1.SIDSIZE`.
        bits: u8,
    },
}
