//! The crate's only source of atomics and barriers, so that loom can replace them, and tests can
//! leave a barrier out.

#[cfg(not(loom))]
pub(crate) use core::sync::atomic::{AtomicUsize, Ordering};
#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicUsize, Ordering};

#[cfg(not(loom))]
use core::sync::atomic::fence;
#[cfg(loom)]
use loom::sync::atomic::fence;

crate::barriers! {
    /// The release with which a reference to a counted value is dropped.
    CountRelease,
    /// The acquire before the last reference drops the value.
    CountAcquire,
}
