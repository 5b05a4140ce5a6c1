//! Barriers that order this CPU's memory accesses for the SMMU as well, for implementors of
//! [`DmaMemory`](super::DmaMemory).
//!
//! The SMMU may observe memory outside the CPUs' Inner Shareable domain. On AArch64 a Rust fence is
//! `dmb ish`, which orders nothing for such an observer. These barriers are of the Outer Shareable
//! domain, which contains the Inner Shareable one: they order for CPUs too. Every AArch64 target has
//! them, bare metal included: `dmb oshst`, `dmb oshld`, `dmb osh`, chosen by the architecture alone. On
//! a 32-bit Arm CPU they are those of Armv7, the oldest one that they work on: `dmb osh` orders loads
//! too.
//!
//! On other architectures they are `SeqCst` fences, which suffice for models and for coherent DMA of
//! an x86. A platform that needs more overrides them in its [`DmaBlock`](super::DmaBlock) or its
//! window (`pool::Window`).
#![cfg_attr(
    any(target_arch = "aarch64", target_arch = "arm"),
    expect(unsafe_code, reason = "barriers for an observer that Rust's fences do not know")
)]

#[cfg(not(any(target_arch = "aarch64", target_arch = "arm")))]
use core::sync::atomic::{Ordering, fence};

#[cfg(any(target_arch = "aarch64", target_arch = "arm"))]
macro_rules! dmb {
    ($kind:literal) => {
        // SAFETY: a barrier changes no memory and no register. Without `nomem` the compiler moves no
        // access across it.
        unsafe {
            core::arch::asm!(concat!("dmb ", $kind), options(nostack, preserves_flags));
        }
    };
}

/// Every earlier store of this thread is visible to CPUs and the SMMU before every later store.
#[inline]
pub fn store_barrier() {
    #[cfg(any(target_arch = "aarch64", target_arch = "arm"))]
    dmb!("oshst");
    #[cfg(not(any(target_arch = "aarch64", target_arch = "arm")))]
    fence(Ordering::SeqCst);
}

/// Every earlier load of this thread comes before every later load and store.
#[inline]
pub fn load_barrier() {
    #[cfg(target_arch = "aarch64")]
    dmb!("oshld");
    // Armv7 has no barrier of loads alone.
    #[cfg(target_arch = "arm")]
    dmb!("osh");
    #[cfg(not(any(target_arch = "aarch64", target_arch = "arm")))]
    fence(Ordering::SeqCst);
}

/// Every earlier load and store of this thread comes before every later one, as CPUs and the SMMU
/// see them.
#[inline]
pub fn full_barrier() {
    #[cfg(any(target_arch = "aarch64", target_arch = "arm"))]
    dmb!("osh");
    #[cfg(not(any(target_arch = "aarch64", target_arch = "arm")))]
    fence(Ordering::SeqCst);
}
