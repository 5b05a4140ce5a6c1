//! A guest's `CFGI_STE`: the device follows the STE that the guest has in memory.

use smmu_types::Ste;
use smmu_types::seam::SinkError;

use crate::batch::SyncBatch;
use crate::device::{Confirmation, Device, DeviceGuard, State, forget_ste};
use crate::guest::{AtsPermission, GuestConfig, HostEntry, SteRefusal};
use crate::outcome::Outcome;
use crate::virtual_smmu::VirtualSmmu;
use crate::{AttachError, Platform};

/// What [`VirtualSmmu::reread`] found and did.
#[derive(Clone, Copy, Debug)]
#[must_use = "the guest's CFGI_STE is not complete without the host's confirmation"]
pub struct Reread {
    /// The entry that the policy made of the guest's STE.
    pub entry: HostEntry,
    /// Why the policy refused the guest's STE. The device is blocked then.
    pub refusal: Option<SteRefusal>,
    /// What became of the entries of the device.
    pub change: SteChange,
}

/// What [`VirtualSmmu::reread`] did with the entries of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SteChange {
    /// The device was blocked and stays so: no command was needed.
    StaysBlocked,
    /// The entries stay. The SMMU has forgotten what it had cached of them, with the CDs behind, by
    /// one `CFGI_STE` for each stream.
    Forgotten,
    /// The entries changed, by an attach that ended so. The SMMU has forgotten the CDs as well.
    Attached(Outcome),
}

impl Reread {
    /// Whether the guest's `CFGI_STE` is complete, so that a `CMD_SYNC` behind it may complete.
    ///
    /// # Errors
    ///
    /// The SMMU did not confirm the new entries, and may still use the old ones.
    pub const fn confirmed(&self) -> Result<(), SinkError> {
        match self.change {
            SteChange::StaysBlocked | SteChange::Forgotten => Ok(()),
            SteChange::Attached(outcome) => outcome.confirmed(),
        }
    }
}

impl<P: Platform> VirtualSmmu<P> {
    /// Carry out a guest's `CFGI_STE` for one of its devices. `guest` is the STE that the guest has in
    /// memory now.
    ///
    /// Call it for each device of [`Stop::Reread`](crate::guest::Stop::Reread). The call compares what
    /// the [`policy`](Self::policy) makes of the STE with what the device has:
    ///
    /// | the STE of the host | the call |
    /// |---|---|
    /// | changes | attaches the device ([`Device::attach_nested`]), hitless where the architecture allows it |
    /// | stays, and lets transactions in | sends `CFGI_STE` for each stream and waits: the guest may have changed a CD |
    /// | stays, and aborts | sends nothing: the SMMU has no CD of a stream that aborts |
    ///
    /// In each case the SMMU has confirmed what it forgot before the call returns, unless
    /// [`Reread::confirmed`] says otherwise. A refused STE blocks the device, as the architecture does
    /// with an invalid one.
    ///
    /// # Errors
    ///
    /// The errors of [`Device::attach_nested`]; the device then stays where it was.
    /// [`AttachError::Sink`] if the entries stay and the SMMU does not confirm that it forgot the CDs.
    pub fn reread(
        &self,
        device: &Device<P>,
        guest: &Ste,
        ats: AtsPermission,
    ) -> Result<Reread, AttachError> {
        let (entry, refusal) = match self.policy().entry(guest, ats) {
            Ok(entry) => (entry, None),
            Err(refusal) => (refusal.entry(), Some(refusal)),
        };
        // The lock is free again before the attach takes it.
        let unchanged = stays(&device.lock(), self, &entry);
        let change = match unchanged {
            Some(change) => change?,
            None => SteChange::Attached(device.attach_nested(self, &entry)?),
        };
        Ok(Reread { entry, refusal, change })
    }
}

/// `None` if the entries of the device change.
fn stays<P: Platform>(
    device: &DeviceGuard<P>,
    to: &VirtualSmmu<P>,
    entry: &HostEntry,
) -> Option<Result<SteChange, SinkError>> {
    let parts = device.object();
    if device.confirmation != Confirmation::Confirmed || device.removed || parts.smmu.is_gone() {
        return None;
    }
    // All streams have the same entry, unless a device of another owner was taken over.
    if parts.slots().any(|(_, slot)| slot.read::<Ste>() != entry.entry()) {
        return None;
    }
    match (&device.state, entry.config()) {
        (State::Blocked, GuestConfig::Invalid | GuestConfig::Abort) => {
            Some(Ok(SteChange::StaysBlocked))
        }
        (State::Member(member), GuestConfig::Bypass | GuestConfig::Stage1)
            if member.via.as_ref().is_some_and(|via| via.is_same(to)) =>
        {
            let mut batch = SyncBatch::new(parts.smmu.env.sink(), parts.smmu.id);
            let added = parts.slots().try_for_each(|(stream, _)| batch.add(forget_ste(stream)));
            Some(added.and_then(|()| batch.sync()).map(|()| SteChange::Forgotten))
        }
        _ => None,
    }
}
