//! Tags of cached translations, and the proof that a tag is flushed.

use core::fmt;

use crate::seam::{CommandSink, SinkError};
use crate::{Asid, Command, SmmuId, Vmid};

/// Translation regime of stage-1 entries (`STE.STRW`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Regime {
    /// Non-secure EL1: `TLBI_NH_*`.
    El1,
    /// EL2 with E2H: `TLBI_EL2_*`.
    El2,
}

/// The tag of cached translations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CacheTag {
    /// Stage 1.
    Asid(Regime, Asid),
    /// Stage 2.
    Vmid(Vmid),
}

impl CacheTag {
    /// The command that flushes the tag.
    ///
    /// Stage 1: the *non-global* entries only. `CMD_TLBI_NH_ASID` and `CMD_TLBI_EL2_ASID` keep
    /// global entries (4.4.2.2, 4.4.2.10), which match every ASID. So each leaf entry of the table
    /// must have `nG` = 1. A table with global entries needs [`Command::TlbiNhAll`] or
    /// [`Command::TlbiEl2All`].
    ///
    /// Stage 2: all entries of the VMID, with the stage-1 entries under it.
    #[must_use]
    pub const fn flush_command(self) -> Command {
        match self {
            CacheTag::Asid(Regime::El1, asid) => Command::TlbiNhAsid { vmid: Vmid(0), asid },
            CacheTag::Asid(Regime::El2, asid) => Command::TlbiEl2Asid { asid },
            CacheTag::Vmid(vmid) => Command::TlbiS12Vmall { vmid },
        }
    }
}

impl fmt::Display for CacheTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CacheTag::Asid(Regime::El1, asid) => write!(f, "ASID {asid}"),
            CacheTag::Asid(Regime::El2, asid) => write!(f, "EL2 ASID {asid}"),
            CacheTag::Vmid(vmid) => write!(f, "VMID {vmid}"),
        }
    }
}

/// The flush of a tag, queued and not yet confirmed.
///
/// A caller queues flushes on many SMMUs first, and then waits for each.
#[derive(Debug)]
#[must_use = "the tag is not flushed until the wait returns"]
pub struct PendingFlush<T> {
    smmu: SmmuId,
    tag: CacheTag,
    ticket: T,
}

impl<T> PendingFlush<T> {
    /// Queues the flush of `tag` on `smmu`, and a `CMD_SYNC`.
    pub fn issue<S>(sink: &S, smmu: SmmuId, tag: CacheTag) -> Result<Self, SinkError>
    where
        S: CommandSink<Ticket = T> + ?Sized,
    {
        let ticket = sink.issue(smmu, &[tag.flush_command()])?;
        Ok(PendingFlush { smmu, tag, ticket })
    }

    /// Waits until the SMMU has confirmed the flush.
    pub fn wait<S>(self, sink: &S) -> Result<FlushProof, SinkError>
    where
        S: CommandSink<Ticket = T> + ?Sized,
    {
        let proof = sink.wait(self.ticket)?;
        if proof.smmu() != self.smmu {
            return Err(SinkError::ForeignProof { want: self.smmu, got: proof.smmu() });
        }
        Ok(FlushProof { smmu: self.smmu, tag: self.tag })
    }
}

/// Proof that one SMMU holds no cached translation with a tag, except global entries of stage 1.
///
/// Only a completed [`PendingFlush`] makes one. It is valid as long as no STE or CD that the SMMU
/// can read has the tag.
///
/// *Global* entries of stage 1 (`nG` = 0) survive the flush of an ASID, and translate for its next
/// owner as well. Tables whose ASIDs are reused with this proof must have non-global leaf entries
/// only; see [`CacheTag::flush_command`].
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct FlushProof {
    smmu: SmmuId,
    tag: CacheTag,
}

impl FlushProof {
    /// Flushes `tag` on `smmu`, and waits for the flush.
    pub fn obtain<S>(sink: &S, smmu: SmmuId, tag: CacheTag) -> Result<Self, SinkError>
    where
        S: CommandSink + ?Sized,
    {
        PendingFlush::issue(sink, smmu, tag)?.wait(sink)
    }

    /// The SMMU that was flushed.
    #[must_use]
    pub const fn smmu(&self) -> SmmuId {
        self.smmu
    }

    /// The tag that was flushed.
    #[must_use]
    pub const fn tag(&self) -> CacheTag {
        self.tag
    }
}

/// The owner's word that an SMMU translates no more: it is off and aborts, or its power is off. So
/// nothing that it has cached is of any consequence.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct GoneProof {
    smmu: SmmuId,
}

impl GoneProof {
    /// Vouch that `smmu` translates no more.
    ///
    /// Tags are reused on the strength of this. A wrong word lets a device reach memory through a
    /// translation that was taken away.
    pub const fn vouch(smmu: SmmuId) -> Self {
        GoneProof { smmu }
    }

    /// The SMMU.
    #[must_use]
    pub const fn smmu(&self) -> SmmuId {
        self.smmu
    }

    /// A tag counts as flushed on an SMMU that caches nothing.
    pub const fn flush(&self, tag: CacheTag) -> FlushProof {
        FlushProof { smmu: self.smmu, tag }
    }
}
