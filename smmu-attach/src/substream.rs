//! One substream of a device: transactions with one SubstreamID (a PASID, for PCIe).

use core::slice;

use smmu_types::{Cd, SubstreamId};

use crate::attach::Prepared;
use crate::device::{Attachment, Device};
use crate::image::is_attachable;
use crate::key::AttachKey;
use crate::outcome::Outcome;
use crate::target::Target;
use crate::{AttachError, Domain, Platform};

/// One substream of a device, from [`Device::substream`].
///
/// Each substream has an attachment of its own, beside that of the transactions without a
/// SubstreamID. An attach of one interrupts no other. All calls for one device wait for each other.
///
/// If the SMMU does not confirm a change, the STE is invalid, so it aborts *all* transactions of the
/// device. The next confirmed attach, of whatever substream, writes all entries again.
pub struct Substream<P: Platform> {
    device: Device<P>,
    id: SubstreamId,
}

impl<P: Platform> Device<P> {
    /// A substream of the device.
    ///
    /// # Errors
    ///
    /// [`AttachError::SubstreamRange`], also for SubstreamID 0: transactions without a SubstreamID
    /// use its CD. [`AttachError::ForeignAttached`] while the device is
    /// [foreign](Attachment::Foreign): attach, bypass or block it first.
    pub fn substream(&self, id: SubstreamId) -> Result<Substream<P>, AttachError> {
        let bits = self.0.substream_bits;
        // A device never becomes foreign again.
        if self.lock().is_foreign() {
            return Err(self.0.foreign_attached());
        }
        if is_attachable(id, bits) {
            return Ok(Substream { device: self.clone(), id });
        }
        let stream = self.first_stream();
        Err(AttachError::SubstreamRange { smmu: self.smmu(), stream, substream: id, bits })
    }
}

impl<P: Platform> Substream<P> {
    /// The device.
    #[must_use]
    pub const fn device(&self) -> &Device<P> {
        &self.device
    }

    /// The SubstreamID.
    #[must_use]
    pub const fn id(&self) -> SubstreamId {
        self.id
    }

    /// What the substream is attached to: nothing, or a domain.
    #[must_use]
    pub fn attachment(&self) -> Attachment<P> {
        let device = self.device.lock();
        match device.member(AttachKey::Substream(self.id)) {
            Some(member) => Attachment::Domain(member.domain.clone()),
            None => Attachment::Blocked,
        }
    }

    /// Attach the substream to a domain of stage 1, as [`Device::attach`] does for the device.
    ///
    /// # Errors
    ///
    /// As of [`Device::attach`]. [`AttachError::SubstreamStage2`], [`AttachError::StreamStage2`].
    pub fn attach(&self, domain: &Domain<P>) -> Result<Outcome, AttachError> {
        self.device.attach_key(AttachKey::Substream(self.id), Target::Domain(domain))
    }

    /// Let the SMMU abort the substream's transactions, as [`Device::block`] does for those without
    /// a SubstreamID. Needs no memory and cannot fail.
    pub fn block(&self) -> Outcome {
        self.device.block_key(AttachKey::Substream(self.id))
    }

    /// Prepare to attach the substream, as [`Device::prepare`] does for the device.
    ///
    /// # Errors
    ///
    /// As of [`Device::prepare`]. [`AttachError::SubstreamBypass`].
    pub fn prepare(&self, target: Target<'_, P>) -> Result<Prepared<P>, AttachError> {
        let key = AttachKey::Substream(self.id);
        Prepared::new(slice::from_ref(&self.device), key, target)
    }

    /// The CD in memory now; `None` if the STE leads to no table that has one.
    #[must_use]
    pub fn read_cd(&self) -> Option<Cd> {
        self.device.cd_of(self.id)
    }
}

impl<P: Platform> Clone for Substream<P> {
    fn clone(&self) -> Self {
        Substream { device: self.device.clone(), id: self.id }
    }
}

impl<P: Platform> core::fmt::Debug for Substream<P> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Substream").field("device", &self.device).field("id", &self.id).finish()
    }
}
