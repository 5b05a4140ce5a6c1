//! The atomics of the fault table, from `core` or from loom, and the barriers and orders of steps that
//! a loom test can leave out.

#[cfg(not(loom))]
pub(crate) use core::sync::atomic::AtomicU64;
pub(crate) use core::sync::atomic::Ordering;
use core::sync::atomic::fence;
#[cfg(loom)]
pub(crate) use loom::sync::atomic::AtomicU64;

smmu_types::barriers! {
    /// `publish` of each STE before its first store.
    TablesBeforeSte,
    /// `publish` at the start of [`entry::write`](crate::entry::write()).
    TablesBeforeWrite,
    /// `publish` behind the stores of one step of an entry.
    StepBeforeCommand,
    /// `publish` behind the store that makes an entry invalid.
    InvalidBeforeCommand,
    /// `publish` of a new second-level table before its level-1 descriptor.
    AbortBeforeLink,
    /// `publish` of a level-1 descriptor before its `CFGI_STE`.
    LinkBeforeCommand,
    /// The CD before the STE that leads to it.
    CdBeforeSte,
    /// The `CMD_SYNC` of a new level-1 descriptor before other threads count on it.
    AnnounceBeforeKnown,
    /// `CFGI_STE` and `CMD_SYNC` before the first store after an unconfirmed change.
    ForgetBeforeStore,
    /// The SMMU's confirmation before the device leaves the old domain's array.
    ConfirmBeforeLeave,
    /// The proven flush before the tag is free.
    FlushBeforeFree,
    /// The readers that may have sent `ATC_INV` end before the device's own ATS switch goes off.
    DrainBeforeOff,
    /// The locks of a group's devices in one order for all threads.
    DeviceOrder,
    /// The locks of two domains in the order in which the domains were made.
    DomainOrder,
    /// A refusal instead of a wait, in a call that returns with locks held.
    RefuseBeforeHold,
    /// The mark of an SMMU that is gone before the sweep over its devices.
    GoneBeforeSweep,
    /// Step 2 of a fault table, the release of a slot that is filled.
    FillBeforeWaiting,
    /// Step 2 of a fault table, the acquire of a thread that looks at a slot.
    SeeAcquire,
    /// Step 3 of a fault table, the swap by which one thread takes a slot.
    TakeBySwap,
    /// Step 3 of a fault table, the release of a slot whose answer is kept.
    KeepRelease,
}
