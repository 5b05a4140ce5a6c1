//! Devices that one transaction attaches together.

use alloc::vec::Vec;

use smmu_types::SubstreamId;

use crate::attach::{Prepared, attach_all};
use crate::device::Device;
use crate::key::AttachKey;
use crate::outcome::Outcome;
use crate::sync::{Barrier, is_kept};
use crate::target::Target;
use crate::{AttachError, Domain, Platform};

/// Devices that one transaction attaches together, such as functions of one card that reach each
/// other without the SMMU, or all devices of a guest.
///
/// The devices may be behind different SMMUs. They are prepared together: all of them, or none. The
/// domain's array is merged once. In each step, one `CMD_SYNC` for each SMMU confirms the entries of
/// all its devices, and the SMMUs work at the same time.
///
/// A member of a group stays a device: it may also be attached, blocked or removed alone. An SMMU
/// that does not confirm leaves its own devices unconfirmed, and no others:
/// [`Installed::commit_each`](crate::Installed::commit_each) tells the outcome of each.
pub struct Group<P: Platform> {
    // In the order of the devices' locks, each once.
    devices: Vec<Device<P>>,
}

/// One substream of each device of a group, from [`Group::substream`].
pub struct GroupSubstream<'g, P: Platform> {
    group: &'g Group<P>,
    id: SubstreamId,
}

impl<P: Platform> Group<P> {
    /// A group of these devices. A device that is named twice counts once.
    ///
    /// # Errors
    ///
    /// [`AttachError::EmptyGroup`], or no memory.
    pub fn new(devices: &[Device<P>]) -> Result<Self, AttachError> {
        let Some(first) = devices.first() else { return Err(AttachError::EmptyGroup) };
        let mut sorted = Vec::new();
        let out_of_memory = AttachError::OutOfMemory { smmu: first.smmu() };
        sorted.try_reserve_exact(devices.len()).map_err(|_| out_of_memory)?;
        sorted.extend_from_slice(devices);
        if is_kept(Barrier::DeviceOrder) {
            sorted.sort_unstable_by_key(Device::rank);
        }
        sorted.dedup_by(|a, b| a.is_same(b));
        Ok(Group { devices: sorted })
    }

    /// The devices: those of one SMMU are neighbours.
    #[must_use]
    pub fn devices(&self) -> &[Device<P>] {
        &self.devices
    }

    /// Attach the devices' transactions without a SubstreamID, as [`Device::attach`] does for one
    /// device. Returns the outcome that leaves the most to settle.
    ///
    /// # Errors
    ///
    /// One of the devices cannot be attached. Then all stay where they were.
    pub fn attach(&self, domain: &Domain<P>) -> Result<Outcome, AttachError> {
        attach_all(&self.devices, AttachKey::Stream, Target::Domain(domain))
    }

    /// Let the SMMUs pass the devices' transactions without a SubstreamID unchanged, as
    /// [`Device::bypass`] does.
    ///
    /// # Errors
    ///
    /// As of [`Device::bypass`], for one of the devices; or no memory for the list of their locks.
    /// Then all stay where they were.
    pub fn bypass(&self) -> Result<Outcome, AttachError> {
        attach_all(&self.devices, AttachKey::Stream, Target::Bypass)
    }

    /// Let the SMMUs abort the devices' transactions without a SubstreamID. Cannot fail: without
    /// memory for one transaction, each device is blocked by its own.
    pub fn block(&self) -> Outcome {
        self.block_key(AttachKey::Stream)
    }

    /// Prepare to attach the devices, as [`Device::prepare`] does for one device. The result holds
    /// the locks of all devices, of the new domain, and of each old one.
    ///
    /// # Errors
    ///
    /// As of [`Device::prepare`], for one of the devices.
    pub fn prepare(&self, target: Target<'_, P>) -> Result<Prepared<P>, AttachError> {
        Prepared::new(&self.devices, AttachKey::Stream, target)
    }

    /// The same substream of each device.
    ///
    /// # Errors
    ///
    /// [`AttachError::SubstreamRange`] names the first device that cannot have it.
    pub fn substream(&self, id: SubstreamId) -> Result<GroupSubstream<'_, P>, AttachError> {
        for device in &self.devices {
            device.substream(id)?;
        }
        Ok(GroupSubstream { group: self, id })
    }

    fn block_key(&self, key: AttachKey) -> Outcome {
        attach_all(&self.devices, key, Target::Blocked).unwrap_or_else(|_| {
            // No memory, or a device that was removed or whose SMMU is gone.
            let each = self.devices.iter().map(|device| device.block_key(key));
            each.fold(Outcome::Done, Outcome::or_worse)
        })
    }
}

impl<P: Platform> GroupSubstream<'_, P> {
    /// Attach the substream of each device, as [`Group::attach`] does for the devices.
    ///
    /// # Errors
    ///
    /// As of [`Substream::attach`](crate::Substream::attach), for one of the devices.
    pub fn attach(&self, domain: &Domain<P>) -> Result<Outcome, AttachError> {
        attach_all(&self.group.devices, AttachKey::Substream(self.id), Target::Domain(domain))
    }

    /// Let the SMMUs abort the transactions of the substream. Cannot fail.
    pub fn block(&self) -> Outcome {
        self.group.block_key(AttachKey::Substream(self.id))
    }

    /// Prepare to attach the substream of each device.
    ///
    /// # Errors
    ///
    /// As of [`Substream::prepare`](crate::Substream::prepare), for one of the devices.
    pub fn prepare(&self, target: Target<'_, P>) -> Result<Prepared<P>, AttachError> {
        let key = AttachKey::Substream(self.id);
        Prepared::new(&self.group.devices, key, target)
    }
}

impl<P: Platform> core::fmt::Debug for Group<P> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Group").field("devices", &self.devices).finish()
    }
}

impl<P: Platform> core::fmt::Debug for GroupSubstream<'_, P> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("GroupSubstream").field("group", self.group).field("id", &self.id).finish()
    }
}
