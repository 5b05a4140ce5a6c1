//! How an attach ended.

use smmu_types::CacheTag;
use smmu_types::seam::SinkError;

/// How an attach ended, and what became of the domain that the device left.
///
/// The device is attached as asked in each case. No case lets the caller free page tables:
/// [`Domain::into_tables`](crate::Domain::into_tables) gives them back once no SMMU can use them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "an SMMU that did not confirm may still use the old entries"]
pub enum Outcome {
    /// The SMMU confirmed the new entries. The device left no domain, or one that other devices
    /// still use on this SMMU.
    Done,
    /// As [`Done`](Self::Done), and the device was the old domain's last one on this SMMU: the tag
    /// is flushed and free.
    Freed(CacheTag),
    /// As [`Done`](Self::Done), and ATS is still on at the device, which is blocked: an unmap still
    /// waits for an `ATC_INV` to it. Do not reset the device before
    /// [`Device::settle`](crate::Device::settle) has turned ATS off. A tag may be free as well.
    AtsOn(SinkError),
    /// The SMMU confirmed the new entries, but not the flush of the old domain's tag.
    ///
    /// The tag is not given out, and its entry stays in the old domain's array. The device keeps
    /// the domain alive until [`Device::settle`](crate::Device::settle) proves the flush.
    Unflushed(CacheTag, SinkError),
    /// The SMMU did not confirm the new entries, and may still use the old ones.
    ///
    /// The entries are invalid in memory: the SMMU aborts the device's transactions once it reads
    /// them. The device stays a user of the old domain and keeps it alive.
    /// [`Device::settle`](crate::Device::settle) and the next attach ask the SMMU again.
    Unconfirmed(SinkError),
}

impl Outcome {
    /// The outcome that leaves more to settle, for several devices.
    pub(crate) const fn or_worse(self, other: Self) -> Self {
        if other.weight() > self.weight() { other } else { self }
    }

    const fn weight(&self) -> u8 {
        match self {
            Outcome::Done => 0,
            Outcome::Freed(_) => 1,
            Outcome::AtsOn(_) => 2,
            Outcome::Unflushed(..) => 3,
            Outcome::Unconfirmed(_) => 4,
        }
    }

    /// The tag that is free again.
    #[must_use]
    pub const fn freed(&self) -> Option<CacheTag> {
        match *self {
            Outcome::Freed(tag) => Some(tag),
            _ => None,
        }
    }

    /// Whether the SMMU confirmed the new entries.
    ///
    /// # Errors
    ///
    /// Why it did not.
    pub const fn confirmed(&self) -> Result<(), SinkError> {
        match *self {
            Outcome::Unconfirmed(error) => Err(error),
            _ => Ok(()),
        }
    }

    /// Whether this attach leaves nothing to settle: the new entries and the flush are confirmed.
    ///
    /// [`Device::is_settled`](crate::Device::is_settled) says it of earlier changes too.
    ///
    /// # Errors
    ///
    /// What the SMMU did not confirm.
    pub const fn settled(&self) -> Result<(), SinkError> {
        match *self {
            Outcome::AtsOn(error) | Outcome::Unflushed(_, error) | Outcome::Unconfirmed(error) => {
                Err(error)
            }
            _ => Ok(()),
        }
    }
}
