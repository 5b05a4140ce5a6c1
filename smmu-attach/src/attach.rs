//! The attach transaction, from `prepare` to `commit`.
//!
//! Invariants:
//!
//! 1. Before `publish` no reader and no SMMU sees a change, and dropping a [`Prepared`] leaves no
//!    trace, except that earlier changes of the device may be settled.
//! 2. From `publish` to the end of `commit` both domains invalidate for the device.
//! 3. The SMMU sees the old entry, the new entry or an invalid one, in the entries of each stream.
//!    After a change that it did not confirm, no word is stored before it has forgotten the old
//!    entries.
//! 4. `commit` drops the old domain's reference only after the SMMU has confirmed the new entry. It
//!    frees the tag only after the flush is proven; until then readers see the array entry.
//! 5. If the SMMU does not confirm the new entry, the device stays a user in the old domain's
//!    array, that domain does not free the tag, and the device keeps the domain alive. All of this
//!    ends when the SMMU confirms that it has forgotten the device's entries.
//! 6. A transaction takes the devices' locks in their order, then those of the old and the new
//!    domains, the oldest first. A call that returns with locks held never waits for one.
//! 7. The devices of a transaction are prepared together: all, or none. Each then ends on its own.

use core::slice;

use crate::ats_switch::{AtcPart, AtsState};
use crate::device::{Confirmation, Device};
use crate::held::Contention;
use crate::key::AttachKey;
use crate::outcome::Outcome;
use crate::target::Target;
use crate::transaction::{Part, Transaction};
use crate::write::{give_up, write_entries};
use crate::{AttachError, Domain, Platform};

/// An attach that can no longer fail and is not yet visible.
#[must_use = "dropping it undoes the preparation"]
pub struct Prepared<P: Platform> {
    tx: Transaction<P>,
}

/// An attach whose new domain invalidates for the device.
///
/// Dropping it removes the device from the new domain's array. If the SMMU then does not confirm
/// the flush of a new tag, the device keeps the domain until [`Device::settle`].
#[must_use = "dropping it removes the device from the domain"]
pub struct Published<P: Platform> {
    tx: Transaction<P>,
}

/// An attach whose entries are written. Dropping it commits it.
#[must_use = "call commit for the outcome of the old tag"]
pub struct Installed<P: Platform> {
    tx: Transaction<P>,
}

impl<P: Platform> Device<P> {
    /// Attach the device's transactions without a SubstreamID to a domain: all steps of the
    /// transaction.
    ///
    /// Waits for another attach of the device or of the two domains.
    ///
    /// # Errors
    ///
    /// The attach was refused, or memory or tags ran out. The device stays where it was. An SMMU
    /// that does not confirm is an [`Outcome`], not an error.
    pub fn attach(&self, domain: &Domain<P>) -> Result<Outcome, AttachError> {
        self.attach_key(AttachKey::Stream, Target::Domain(domain))
    }

    /// Let the SMMU pass transactions without a SubstreamID unchanged. Needs no memory and no tag.
    ///
    /// While no substream is attached, that includes transactions with a SubstreamID: an SMMU without
    /// stage 1 ignores it. As long as one is attached, the SMMU aborts those of all others.
    ///
    /// # Errors
    ///
    /// The SMMU still does not confirm an earlier change, or is gone; or the device was removed.
    pub fn bypass(&self) -> Result<Outcome, AttachError> {
        self.attach_key(AttachKey::Stream, Target::Bypass)
    }

    /// Let the SMMU abort the device's transactions. Needs no memory and no tag, and cannot fail.
    ///
    /// Attached substreams stay attached: [`block_all`](Self::block_all) blocks them as well.
    ///
    /// If the SMMU does not confirm ([`Outcome::Unconfirmed`]), the entries in memory are invalid.
    pub fn block(&self) -> Outcome {
        self.block_key(AttachKey::Stream)
    }

    pub(crate) fn block_key(&self, key: AttachKey) -> Outcome {
        // `Err`: the device was removed or its SMMU is gone. It is blocked.
        self.attach_key(key, Target::Blocked).unwrap_or(Outcome::Done)
    }

    /// All steps of the transaction, for the transactions of one key.
    pub(crate) fn attach_key(
        &self,
        key: AttachKey,
        target: Target<'_, P>,
    ) -> Result<Outcome, AttachError> {
        attach_all(slice::from_ref(self), key, target)
    }

    /// Let the SMMU abort all transactions of the device, those of each substream as well. Needs no
    /// memory and no tag, and cannot fail.
    ///
    /// The observer is told of each tag that is free. The outcome is never
    /// [`Outcome::Freed`]; [`Outcome::Unflushed`] names one of the tags that are not flushed.
    pub fn block_all(&self) -> Outcome {
        self.block_everything(Blocked::Quietly)
    }

    fn block_everything(&self, how: Blocked) -> Outcome {
        let mut device = self.lock();
        let parts = &self.0;
        if device.removed || parts.smmu.is_gone() {
            return Outcome::Done;
        }
        parts.stop_page_requests(&mut device.ats);
        if how == Blocked::ByForce {
            parts.disable_ats(&mut device.ats);
        }
        let mut part = Part::new(device);
        match part.device.confirm(parts, Contention::Wait) {
            Ok(()) => {
                // A panic of a seam leaves the change unconfirmed.
                part.device.confirmation = Confirmation::Unconfirmed;
                write_entries(slice::from_ref(&part));
            }
            Err(error) => part.path.fail(error),
        }
        let written = part.result();
        let mut device = part.device;
        match written {
            Ok(()) => device.confirmation = Confirmation::Confirmed,
            Err(error) => give_up(parts, error),
        }
        if device.ats.entry {
            // While the entries are invalid or abort, the SMMU refuses what the ATC still has.
            let clean = how == Blocked::Quietly
                && written.is_ok()
                && parts.flush_atc(AtcPart::Everything).is_ok();
            device.ats = AtsState { entry: false, dirty: !clean, ..device.ats };
        }
        device.unsettle_all();
        match written {
            Err(error) => Outcome::Unconfirmed(error),
            Ok(()) => match device.leave_domains(parts, Contention::Wait) {
                Some((tag, error)) => Outcome::Unflushed(tag, error),
                None => {
                    device.switch_ats_off(parts).map_or_else(Outcome::AtsOn, |()| Outcome::Done)
                }
            },
        }
    }

    /// [`block_all`](Self::block_all) for a device that does not answer `ATC_INV`. It sends none, and
    /// turns ATS off at the device first of all.
    ///
    /// From then on no unmap waits for the device. The SMMU refuses its requests, translated ones
    /// included. An attach with ATS first makes its cache empty, so it fails while the device does
    /// not answer; [`DeviceConfig`](crate::DeviceConfig) without ATS needs a new
    /// [`add_device`](crate::Smmu::add_device).
    pub fn quarantine(&self) -> Outcome {
        self.block_everything(Blocked::ByForce)
    }

    /// Prepare to attach the device. Neither the SMMU nor an invalidation sees a change before
    /// [`publish`](Prepared::publish). Dropping the result leaves everything as it was.
    ///
    /// The result holds the locks of the device and of the old and the new domain to the end of the
    /// transaction. This call does not wait for them, so a thread may hold several transactions.
    /// While it holds one, it makes no call that waits: see the crate's section on locks. A result
    /// that is leaked ([`core::mem::forget`]) keeps the locks for ever.
    ///
    /// First settles what the SMMU did not confirm of the device, as far as no domain is busy.
    ///
    /// # Errors
    ///
    /// [`AttachError::DeviceBusy`] or [`AttachError::DomainBusy`] if another transaction has a
    /// lock. Otherwise the errors of [`attach`](Self::attach).
    pub fn prepare(&self, target: Target<'_, P>) -> Result<Prepared<P>, AttachError> {
        Prepared::new(slice::from_ref(self), AttachKey::Stream, target)
    }
}

/// All steps of the transaction, for the transactions of one key of these devices.
pub(crate) fn attach_all<P: Platform>(
    devices: &[Device<P>],
    key: AttachKey,
    target: Target<'_, P>,
) -> Result<Outcome, AttachError> {
    // In place: the states of a transaction are large, and a move of one costs as much as a step.
    let mut tx = Transaction::new(key);
    tx.prepare(devices, target, Contention::Wait)?;
    tx.publish();
    tx.install();
    Ok(tx.commit(|_, _| {}))
}

/// How a device leaves everything.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Blocked {
    /// Its ATC is emptied.
    Quietly,
    /// Its ATC is not trusted to answer.
    ByForce,
}

impl<P: Platform> Prepared<P> {
    /// Prepare the transactions of one key of these devices. `devices` ascend by rank.
    pub(crate) fn new(
        devices: &[Device<P>],
        key: AttachKey,
        target: Target<'_, P>,
    ) -> Result<Self, AttachError> {
        let mut tx = Transaction::new(key);
        tx.prepare(devices, target, Contention::Refuse)?;
        Ok(Prepared { tx })
    }

    /// Make the new domain's array visible: from now on it invalidates for the device.
    pub fn publish(mut self) -> Published<P> {
        self.tx.publish();
        Published { tx: self.tx }
    }
}

impl<P: Platform> Published<P> {
    /// Write the entries, and invalidate the SMMU's configuration cache.
    ///
    /// An SMMU that does not confirm does not stop the attach; [`Installed::commit`] reports it.
    pub fn install(mut self) -> Installed<P> {
        self.tx.install();
        Installed { tx: self.tx }
    }
}

impl<P: Platform> Installed<P> {
    /// Drop the old domain's reference. If the device was the last user of the tag on the SMMU,
    /// flush the tag, and free it once the flush is proven.
    ///
    /// For a [`Group`](crate::Group), the outcome that leaves the most to settle.
    pub fn commit(mut self) -> Outcome {
        self.tx.commit(|_, _| {})
    }

    /// [`commit`](Self::commit), with the outcome of each device of a [`Group`](crate::Group).
    pub fn commit_each(mut self, mut each: impl FnMut(&Device<P>, Outcome)) -> Outcome {
        self.tx.commit(|device, outcome| each(&Device(device.object().clone()), outcome))
    }
}
