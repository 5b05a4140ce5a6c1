//! A lock of a counted object, held for as long as a value lives.
//!
//! 1. The object's lock is taken when a [`Held`] is made, and released when it is dropped, once.
//! 2. The counted reference keeps the lock and the data alive meanwhile.
//! 3. Locks are taken in ascending order of their [`Rank`]. The caller names the highest rank that
//!    it holds, and a debug build panics where a lock does not come after it.

#![expect(
    unsafe_code,
    reason = "a guard that owns a reference to its lock, which lock_api has for Arc only"
)]

use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};

use lock_api::{Mutex, RawMutex};
use smmu_invs::Counted;

use crate::sync::{Barrier, is_kept};

/// What a caller does when another holder has a lock.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contention {
    Wait,
    Refuse,
}

/// The place of a lock in the order in which a thread takes locks.
///
/// The lock of a stream table comes last. It is taken for a few stores, and no lock is taken under
/// it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rank {
    /// The caller holds no lock.
    Nothing,
    /// A device, by its SMMU, and then by the order in which devices were added: a group sends its
    /// commands in the same order in each run. Two devices share a number only after `usize::MAX`
    /// devices; then the address decides.
    Device { smmu: usize, made: usize, address: usize },
    /// A domain, by the order in which domains were made. The address decides as for devices.
    Domain { made: usize, address: usize },
}

impl Rank {
    /// For a caller that holds locks of devices, and takes none of another device.
    pub(crate) const ANY_DEVICE: Self =
        Rank::Device { smmu: usize::MAX, made: usize::MAX, address: usize::MAX };
}

/// An object with a lock.
///
/// # Safety
///
/// *Implementation safety.* [`mutex`](Self::mutex) returns the same lock each time, a part of the
/// object.
pub(crate) unsafe trait Locked {
    /// Kind of the lock.
    type Raw: RawMutex;
    /// What the lock protects.
    type Data;
    /// The lock: always the same one.
    fn mutex(&self) -> &Mutex<Self::Raw, Self::Data>;
    /// Place of the lock in the order: always the same.
    fn rank(&self) -> Rank;
}

/// The lock of an object, held.
pub(crate) struct Held<L: Locked> {
    object: Counted<L>,
    // A lock that only its own thread may release keeps the value in that thread. A shared borrow
    // of the value is a shared borrow of the data.
    marker: PhantomData<(<L::Raw as RawMutex>::GuardMarker, L::Data)>,
}

impl<L: Locked> Held<L> {
    /// Wait for the lock. `holding` is the highest rank that the caller holds.
    pub(crate) fn lock(object: &Counted<L>, holding: Rank) -> Self {
        let rank = object.rank();
        debug_assert!(holding < rank, "a thread that holds {holding:?} waits for {rank:?}");
        let object = object.clone();
        core::mem::forget(object.mutex().lock());
        Held { object, marker: PhantomData }
    }

    /// Take the lock. `None` if another holder has it and the caller does not wait.
    pub(crate) fn lock_as(
        object: &Counted<L>,
        contention: Contention,
        holding: Rank,
    ) -> Option<Self> {
        match contention {
            Contention::Refuse if !is_kept(Barrier::RefuseBeforeHold) => {
                Some(Self::lock(object, holding))
            }
            Contention::Wait => Some(Self::lock(object, holding)),
            Contention::Refuse => {
                let object = object.clone();
                core::mem::forget(object.mutex().try_lock()?);
                Some(Held { object, marker: PhantomData })
            }
        }
    }

    /// The object.
    pub(crate) fn object(&self) -> &Counted<L> {
        &self.object
    }

    /// The object, and the data that its lock protects.
    pub(crate) fn split(&mut self) -> (&Counted<L>, &mut L::Data) {
        // SAFETY: as in `deref_mut`. The lock has the data in a cell, so a shared borrow of the object
        // is no borrow of the data.
        (&self.object, unsafe { &mut *self.object.mutex().data_ptr() })
    }
}

impl<L: Locked> Deref for Held<L> {
    type Target = L::Data;

    fn deref(&self) -> &L::Data {
        // SAFETY: by invariant 1 this value has the lock, so no other reference to the data exists
        // than those borrowed from it.
        unsafe { &*self.object.mutex().data_ptr() }
    }
}

impl<L: Locked> DerefMut for Held<L> {
    fn deref_mut(&mut self) -> &mut L::Data {
        // SAFETY: as above, and the borrow of this value is exclusive.
        unsafe { &mut *self.object.mutex().data_ptr() }
    }
}

impl<L: Locked> Drop for Held<L> {
    fn drop(&mut self) {
        // SAFETY: by invariant 1 this value has the lock, and gives it up here alone.
        unsafe { self.object.mutex().force_unlock() };
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    struct Ranked(Mutex<parking_lot::RawMutex, ()>, Rank);

    // SAFETY: the lock is a field.
    unsafe impl Locked for Ranked {
        type Raw = parking_lot::RawMutex;
        type Data = ();
        fn mutex(&self) -> &Mutex<parking_lot::RawMutex, ()> {
            &self.0
        }
        fn rank(&self) -> Rank {
            self.1
        }
    }

    const NEAR: Rank = Rank::Device { smmu: 0, made: 7, address: 64 };
    const LATER: Rank = Rank::Device { smmu: 0, made: 8, address: 0 };
    const FAR: Rank = Rank::Device { smmu: 1, made: 0, address: 0 };
    const FIRST: Rank = Rank::Domain { made: 1, address: 64 };
    const SECOND: Rank = Rank::Domain { made: 2, address: 0 };

    #[rstest]
    #[case(Rank::Nothing, Rank::ANY_DEVICE)]
    #[case(NEAR, LATER)]
    #[case(LATER, FAR)]
    #[case(Rank::Nothing, FIRST)]
    #[case(Rank::ANY_DEVICE, FIRST)]
    #[case(FIRST, SECOND)]
    #[should_panic(expected = "waits for")]
    #[case(SECOND, FIRST)]
    #[should_panic(expected = "waits for")]
    #[case(FIRST, FIRST)]
    #[should_panic(expected = "waits for")]
    #[case(FIRST, Rank::ANY_DEVICE)]
    #[should_panic(expected = "waits for")]
    #[case(FAR, NEAR)]
    #[should_panic(expected = "waits for")]
    #[case(FAR, FAR)]
    fn inv_3_a_thread_waits_in_ascending_order_only(#[case] holding: Rank, #[case] rank: Rank) {
        let lock = Counted::new(Ranked(Mutex::new(()), rank)).unwrap();
        drop(Held::lock(&lock, holding));
        assert!(!lock.0.is_locked());
    }
}
