//! Tags of cached translations, and the proof that one is flushed.

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

/// The tag that cached translations carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CacheTag {
    /// Stage 1.
    Asid(Regime, Asid),
    /// Stage 2.
    Vmid(Vmid),
}

impl CacheTag {
    /// The command that removes what is cached with this tag.
    ///
    /// Of stage 1 these are the *non-global* entries: `CMD_TLBI_NH_ASID` and `CMD_TLBI_EL2_ASID` keep global ones
    /// (4.4.2.2, 4.4.2.10), which match every ASID. A stage-1 table whose ASID is flushed this way has `nG` = 1 in
    /// each of its leaf entries; one that has not needs [`Command::TlbiNhAll`] or [`Command::TlbiEl2All`].
    ///
    /// Of stage 2 it is everything of the VMID, with what stage 1 cached under it.
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

/// A tag's flush that is queued and not yet known to be complete.
///
/// Splitting issue from wait lets a caller flush on many SMMUs at once.
#[derive(Debug)]
#[must_use = "the tag is not flushed until the wait returns"]
pub struct PendingFlush<T> {
    smmu: SmmuId,
    tag: CacheTag,
    ticket: T,
}

impl<T> PendingFlush<T> {
    /// Queue the flush of `tag` on `smmu`, and a `CMD_SYNC`.
    pub fn issue<S>(sink: &S, smmu: SmmuId, tag: CacheTag) -> Result<Self, SinkError>
    where
        S: CommandSink<Ticket = T> + ?Sized,
    {
        let ticket = sink.issue(smmu, &[tag.flush_command()])?;
        Ok(PendingFlush { smmu, tag, ticket })
    }

    /// Wait until the hardware has confirmed it.
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

/// Proof that no cached translation of one SMMU carries a tag any more, which global entries of stage 1 do not do.
///
/// Only a completed [`PendingFlush`] makes one. It holds for as long as no STE or CD that the SMMU
/// can see names the tag.
///
/// A *global* entry of stage 1 (`nG` = 0) survives the flush of an ASID, and translates for the next owner of the ASID
/// as it did for the last. Tables whose ASIDs are given out on the strength of this proof have non-global leaf entries
/// only; see [`CacheTag::flush_command`].
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct FlushProof {
    smmu: SmmuId,
    tag: CacheTag,
}

impl FlushProof {
    /// Flush `tag` on `smmu` and wait for it.
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
