//! A lock of a counted object, held for as long as a value lives.
//!
//! 1. The object's lock is taken when a [`Held`] is made, and released when it is dropped, once.
//! 2. The counted reference keeps the lock and the data alive meanwhile.

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
}

/// The lock of an object, held.
pub(crate) struct Held<L: Locked> {
    object: Counted<L>,
    // A lock that only its own thread may release keeps the value in that thread. A shared borrow
    // of the value is a shared borrow of the data.
    marker: PhantomData<(<L::Raw as RawMutex>::GuardMarker, L::Data)>,
}

impl<L: Locked> Held<L> {
    /// Wait for the lock.
    pub(crate) fn lock(object: &Counted<L>) -> Self {
        let object = object.clone();
        core::mem::forget(object.mutex().lock());
        Held { object, marker: PhantomData }
    }

    /// Take the lock. `None` if another holder has it and the caller does not wait.
    pub(crate) fn lock_as(object: &Counted<L>, contention: Contention) -> Option<Self> {
        match contention {
            Contention::Refuse if !is_kept(Barrier::RefuseBeforeHold) => Some(Self::lock(object)),
            Contention::Wait => Some(Self::lock(object)),
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
