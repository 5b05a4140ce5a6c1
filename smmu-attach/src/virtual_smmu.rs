//! A guest's SMMU, in front of devices behind one SMMU of the host.

use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};

use smmu_invs::{Counted, OutOfMemory};
use smmu_tags::VsmmuVmid;
use smmu_types::seam::{CommandSink, Notice, Observer, SinkError};
use smmu_types::{CacheTag, Command, FlushProof, GoneProof, RawCommand, SmmuId, Ste, Vmid};

use crate::Platform;
use crate::domain::Domain;
use crate::guest::GuestSmmu;
use crate::held::Rank;
use crate::outcome::Outcome;
use crate::smmu_core::SmmuCore;

/// One guest's SMMU: its devices behind one SMMU of the host, with the guest's stage 1 nested over
/// the stage 2 of a parent domain. A clone is another reference to the same virtual SMMU.
///
/// It owns its VMID from its creation to its [`end`](Self::end). Every translation of its devices is
/// cached with that VMID, so a guest's ASIDs never meet those of another guest. Several virtual SMMUs
/// may share a parent: one unmap of the parent reaches the VMID of each, on each SMMU, and clears what
/// their guests' stage 1 has cached.
///
/// [`policy`](Self::policy) decides what of the guest's entries and commands reaches the host.
/// [`reread`](Self::reread) carries out a guest's `CFGI_STE`.
///
/// Dropping the last reference without [`end`](Self::end) puts the VMID out of use for ever, unless
/// no device has used it.
pub struct VirtualSmmu<P: Platform>(Counted<VirtualSmmuParts<P>>);

pub(crate) struct VirtualSmmuParts<P: Platform> {
    pub(crate) smmu: SmmuCore<P>,
    parent: Domain<P>,
    /// `None` at the end.
    owned: Option<VsmmuVmid>,
    vmid: Vmid,
    used: AtomicBool,
    policy: GuestSmmu,
    /// Stage 2 alone, with the VMID.
    parent_entry: Ste,
}

/// Free a VMID that no entry has ever named, so no SMMU has cached anything with it.
pub(crate) fn free_unused<P: Platform>(vmid: VsmmuVmid, smmu: &SmmuCore<P>) {
    let (id, tag) = (smmu.id, vmid.tag());
    let _ = vmid.end().free(GoneProof::vouch(id).flush(tag));
    smmu.env.observer().notice(Notice::TagAborted { smmu: id, tag });
}

impl<P: Platform> Drop for VirtualSmmuParts<P> {
    fn drop(&mut self) {
        // No lock: a transaction that holds the parent's may drop the last reference.
        self.parent.release_virtual_smmu();
        if let Some(vmid) = self.owned.take() {
            if self.used.load(Ordering::Relaxed) {
                // Dropping it quarantines the number.
                drop(vmid);
            } else {
                free_unused(vmid, &self.smmu);
            }
        }
    }
}

impl<P: Platform> VirtualSmmu<P> {
    /// `parent_entry` is the STE of stage 2 alone, with the VMID.
    pub(crate) fn new(
        smmu: SmmuCore<P>,
        parent: Domain<P>,
        owned: Option<VsmmuVmid>,
        policy: GuestSmmu,
        parent_entry: Ste,
    ) -> Result<Self, OutOfMemory> {
        let vmid = policy.vmid();
        let used = AtomicBool::new(false);
        let parts = VirtualSmmuParts { smmu, parent, owned, vmid, used, policy, parent_entry };
        Counted::new(parts).map(VirtualSmmu)
    }

    /// The SMMU of the host.
    #[must_use]
    pub fn smmu(&self) -> SmmuId {
        self.0.smmu.id
    }

    /// The VMID, from creation to end.
    #[must_use]
    pub fn vmid(&self) -> Vmid {
        self.0.vmid
    }

    /// The domain whose stage 2 lies below the guest's stage 1.
    #[must_use]
    pub fn parent(&self) -> &Domain<P> {
        &self.0.parent
    }

    /// What of the guest's entries, commands and events passes.
    #[must_use]
    pub fn policy(&self) -> &GuestSmmu {
        &self.0.policy
    }

    /// Whether both are references to the same virtual SMMU.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Counted::ptr_eq(&self.0, &other.0)
    }

    /// Send commands that [`GuestSmmu::commands`] made from a guest's, and wait until the SMMU has
    /// carried them out.
    ///
    /// # Errors
    ///
    /// The SMMU does not confirm. The guest's `CMD_SYNC` is then not complete.
    pub fn run(&self, commands: &[RawCommand]) -> Result<(), SinkError> {
        let (smmu, sink) = (self.smmu(), self.0.smmu.env.sink());
        for chunk in commands.chunks(16) {
            let mut batch = [Command::SYNC; 16];
            for (command, raw) in batch.iter_mut().zip(chunk) {
                *command = Command::decode(*raw);
            }
            let proof = sink.run(smmu, &batch[..chunk.len()])?;
            if proof.smmu() != smmu {
                return Err(SinkError::ForeignProof { want: smmu, got: proof.smmu() });
            }
        }
        Ok(())
    }

    /// Flush the VMID and free it. No device may be attached through the virtual SMMU.
    ///
    /// [`Outcome::Unflushed`]: the number is not free; [`Domain::retry_flushes`] of the parent tries
    /// again.
    ///
    /// # Errors
    ///
    /// The virtual SMMU itself, if another reference to it exists: the caller's, or that of a device
    /// whose SMMU may still use it.
    pub fn end(self) -> Result<Outcome, Self> {
        // A device that an SMMU may lead here has a reference.
        let mut parts = Counted::into_inner(self.0).map_err(VirtualSmmu)?;
        let Some(vmid) = parts.owned.take() else { return Ok(Outcome::Done) };
        let (smmu, parent, tag) = (&parts.smmu, &parts.parent, vmid.tag());
        let notice = Notice::TagRetired { domain: parent.id(), smmu: smmu.id, tag };
        smmu.env.observer().notice(notice);
        let mut state = parent.lock(Rank::Nothing);
        let proof = if smmu.is_gone() {
            Ok(GoneProof::vouch(smmu.id).flush(tag))
        } else {
            FlushProof::obtain(smmu.env.sink(), smmu.id, tag)
        };
        Ok(match proof {
            Ok(proof) => parent.free(vmid.end(), proof).map_or(Outcome::Done, Outcome::Freed),
            Err(error) => {
                // The creation reserved this room.
                state.retiring.push(vmid.end());
                smmu.env.observer().notice(Notice::TagQuarantined { smmu: smmu.id, tag, error });
                Outcome::Unflushed(tag, error)
            }
        })
    }

    pub(crate) fn parts(&self) -> &VirtualSmmuParts<P> {
        &self.0
    }

    /// The VMID as the tag of an entry, which an SMMU may use from now on.
    pub(crate) fn use_tag(&self) -> CacheTag {
        self.0.used.store(true, Ordering::Relaxed);
        CacheTag::Vmid(self.0.vmid)
    }

    /// Whether an entry of the policy is one of this virtual SMMU: with its VMID, over its parent.
    pub(crate) fn owns(&self, entry: &Ste) -> bool {
        entry.0[2..4] == self.0.parent_entry.0[2..4]
    }
}

impl<P: Platform> Clone for VirtualSmmu<P> {
    fn clone(&self) -> Self {
        VirtualSmmu(self.0.clone())
    }
}

impl<P: Platform> fmt::Debug for VirtualSmmu<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VirtualSmmu")
            .field("smmu", &self.smmu())
            .field("vmid", &self.vmid())
            .field("parent", &self.0.parent.id())
            .finish_non_exhaustive()
    }
}
