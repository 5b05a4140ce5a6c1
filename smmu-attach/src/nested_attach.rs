//! Makes virtual SMMUs, and attaches devices through them.

use smmu_tags::VsmmuVmid;
use smmu_types::seam::{Notice, Observer};
use smmu_types::{AtsMode, CacheTag, IdRegisters, Vmid};

use crate::device::Device;
use crate::fault_model::FaultModel;
use crate::guest::{GuestSmmu, HostEntry};
use crate::key::AttachKey;
use crate::membership::Leads;
use crate::outcome::Outcome;
use crate::smmu::Smmu;
use crate::smmu_core::SmmuCore;
use crate::table::TranslationStage;
use crate::target::{Target, entry_of};
use crate::virtual_smmu::{VirtualSmmu, free_unused};
use crate::{AttachError, Domain, Platform};

impl<P: Platform> Smmu<P> {
    /// A virtual SMMU on this SMMU, over the stage 2 of `parent`.
    ///
    /// `guest` are the ID registers that the guest sees, from [`guest_ids`](crate::guest::guest_ids).
    ///
    /// # Errors
    ///
    /// [`AttachError::Guest`] if the guest would see what this SMMU does not have, or the parent has
    /// no stage 2; [`AttachError::CannotShare`]; no VMID is free; no memory.
    pub fn virtual_smmu(
        &self,
        parent: &Domain<P>,
        guest: IdRegisters,
    ) -> Result<VirtualSmmu<P>, AttachError> {
        let core = self.core();
        let smmu = core.id;
        if core.is_gone() {
            return Err(AttachError::Gone { smmu });
        }
        if !parent.env().is_same(&core.env) {
            return Err(AttachError::ForeignEnv { domain: parent.id(), smmu });
        }
        if let TranslationStage::Stage1 { .. } = parent.description().stage {
            return Err(AttachError::ParentStage1 { domain: parent.id(), smmu });
        }
        if let Some(lacks) = parent.description().lacks(&core.caps) {
            return Err(AttachError::CannotShare { domain: parent.id(), smmu, lacks });
        }
        let vmid = core.vmids.allocate_for_vsmmu()?;
        let owned = OwnedVmid { owned: Some(vmid), smmu: core };
        let tag = CacheTag::Vmid(owned.vmid());
        let entry = match entry_of(core, parent, tag, AtsMode::Off, FaultModel::Terminate)? {
            Leads::Stage2(entry) => entry,
            Leads::Context(_) => {
                return Err(AttachError::ParentStage1 { domain: parent.id(), smmu });
            }
        };
        let policy = GuestSmmu::new(core.rules, guest, entry)?;
        // Room for a VMID whose flush stays unproven.
        parent.reserve_virtual_smmu().map_err(|_| AttachError::OutOfMemory { smmu })?;
        core.env.observer().notice(Notice::TagAllocated { domain: parent.id(), smmu, tag });
        Ok(VirtualSmmu::new(core.clone(), parent.clone(), owned.keep(), policy, entry)?)
    }
}

/// A VMID with which no SMMU has cached anything. Dropping it frees the number.
struct OwnedVmid<'s, P: Platform> {
    owned: Option<VsmmuVmid>,
    smmu: &'s SmmuCore<P>,
}

impl<P: Platform> OwnedVmid<'_, P> {
    fn vmid(&self) -> Vmid {
        self.owned.as_ref().map_or(Vmid(0), VsmmuVmid::vmid)
    }

    fn keep(mut self) -> Option<VsmmuVmid> {
        self.owned.take()
    }
}

impl<P: Platform> Drop for OwnedVmid<'_, P> {
    fn drop(&mut self) {
        if let Some(vmid) = self.owned.take() {
            free_unused(vmid, self.smmu);
        }
    }
}

impl<P: Platform> Device<P> {
    /// Attach the device's transactions through a virtual SMMU, with an entry that its
    /// [`policy`](VirtualSmmu::policy) made of the guest's STE. An entry that lets no transaction in
    /// blocks the device.
    ///
    /// Call it again after each change of the guest's STE. The device then stays attached, and the
    /// change is hitless where the architecture allows it. An entry that is the same sends no command:
    /// [`VirtualSmmu::reread`] also lets the SMMU forget the guest's CDs then.
    ///
    /// # Errors
    ///
    /// As of [`attach`](Self::attach); [`AttachError::ForeignVirtualSmmu`] and
    /// [`AttachError::GuestAts`].
    pub fn attach_nested(
        &self,
        to: &VirtualSmmu<P>,
        entry: &HostEntry,
    ) -> Result<Outcome, AttachError> {
        self.attach_key(AttachKey::Stream, Target::Nested(to, *entry))
    }
}
