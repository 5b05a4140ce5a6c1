//! Why a running SMMU is not taken over, and what became of its old commands.

use smmu_types::seam::InUnits;
use smmu_types::{CommandErrorCode, PhysAddr};

use crate::bringup::BringupError;
use crate::{EventQueueError, Gerror, PriQueueError};

/// Why the queues of a running SMMU are not taken over.
///
/// The remedy of each is the same, unless its text names a better one: turn the SMMU off with
/// [`Bringup::begin`](crate::Bringup::begin), which sets `GBPA.ABORT` first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TakeoverError {
    /// `CR0` and `GERROR` read as all ones.
    #[error(
        "CR0 and GERROR read as all ones: no device answers; check the base address and the power"
    )]
    NoDevice,
    /// The SMMU does not translate, so there is nothing to take over.
    #[error("CR0 = {cr0:#x}: the SMMU does not translate (SMMUEN = 0); start it with a bring-up")]
    Off {
        /// `CR0`.
        cr0: u32,
    },
    /// The SMMU lets translated ATS transactions pass without a look at the STE.
    #[error(
        "CR0 = {cr0:#x}: translated ATS transactions are not checked (ATSCHK = 0), so no stream can be aborted; reset the SMMU"
    )]
    UncheckedAts {
        /// `CR0`.
        cr0: u32,
    },
    /// The SMMU checks accesses against a device permission table, which this driver does not write.
    #[error(
        "CR0 = {cr0:#x}: a device permission table is in use (DPT_WALK_EN = 1); reset the SMMU"
    )]
    DevicePermissionTable {
        /// `CR0`.
        cr0: u32,
    },
    /// The SMMU reads tables or queues past the caches, and the driver does not clean them.
    #[error(
        "CR1 = {cr1:#x}: tables and queues are not Write-Back and shareable, as a coherent SMMU needs; reset the SMMU, or say that it is not coherent"
    )]
    Attributes {
        /// `CR1`.
        cr1: u32,
    },
    /// A global error is active that the old owner's queues or tables have caused.
    #[error("global errors are active: {errors}; reset the SMMU")]
    GlobalErrors {
        /// The active errors.
        errors: Gerror,
    },
    /// `CMDQ_PROD` and `CMDQ_CONS` have impossible values.
    #[error(
        "CMDQ_PROD = {producer:#x} is not within one queue of CMDQ_CONS = {consumer:#x}; reset the SMMU"
    )]
    CommandPointers {
        /// `CMDQ_PROD`.
        producer: u32,
        /// `CMDQ_CONS`.
        consumer: u32,
    },
    /// The SMMU does not carry out the commands of the old queue. The queue is on, as it was.
    #[error(
        "CMDQ_PROD = {producer:#x}, CMDQ_CONS = {consumer:#x} after {}: the SMMU does not carry out the old owner's commands; wait longer, or reset the SMMU",
        InUnits(*timeout)
    )]
    CommandsLeft {
        /// `CMDQ_PROD`.
        producer: u32,
        /// `CMDQ_CONS`.
        consumer: u32,
        /// The configured limit.
        timeout: core::time::Duration,
    },
    /// A register has changed since [`Takeover::begin`](crate::Takeover::begin). Nothing was written.
    #[error(
        "{register} was {was:#x} and is {is:#x}: another owner still writes it; stop that owner, then begin again"
    )]
    Changed {
        /// The register, by the architecture's name.
        register: &'static str,
        /// Its value at the beginning.
        was: u64,
        /// Its value now.
        is: u64,
    },
    /// The SMMU has enhanced command queues, and nothing is known of them.
    #[error(
        "the SMMU has {pages} control pages of {queues} enhanced command queues each, which may be on; set `control_pages` to Reachable if the registers reach them, or to Unused if all are off"
    )]
    ControlPagesUnknown {
        /// Control pages.
        pages: u16,
        /// Queues in each.
        queues: u16,
    },
    /// A control page of enhanced command queues is not where registers can be.
    #[error(
        "CMDQ_CONTROL_PAGE_BASE{page} = {base:#x}: no offset reaches the page, or it has not that many queues; reset the SMMU"
    )]
    ControlPage {
        /// The number of the page.
        page: u16,
        /// Its base register.
        base: u64,
    },
    /// An enhanced command queue does not stop.
    #[error(
        "ECMDQ {queue} of control page {page}: ECMDQ_PROD = {producer:#x}, ECMDQ_CONS = {consumer:#x} after {}: it is neither empty nor off; wait longer, or reset the SMMU",
        InUnits(*timeout)
    )]
    EnhancedQueue {
        /// The number of the control page.
        page: u16,
        /// The number of the queue in it.
        queue: u8,
        /// `ECMDQ_PROD`.
        producer: u32,
        /// `ECMDQ_CONS`.
        consumer: u32,
        /// The configured limit.
        timeout: core::time::Duration,
    },
    /// The queue that shall be kept is not the one that the SMMU fills.
    #[error(
        "the queue at {address} with 2^{log2} entries is not the one in {register}; make it from what `Occupied` tells"
    )]
    AnotherQueue {
        /// The base register.
        register: &'static str,
        /// The address of the queue that was given.
        address: PhysAddr,
        /// Its size.
        log2: u8,
    },
    /// A register gets no acknowledgement or cannot hold a value.
    #[error(transparent)]
    Register(#[from] BringupError),
    /// The old event queue cannot be read.
    #[error(transparent)]
    EventQueue(#[from] EventQueueError),
    /// The old PRI queue cannot be read.
    #[error(transparent)]
    PriQueue(#[from] PriQueueError),
}

/// What became of the old owner's commands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OldCommands {
    /// Commands that the SMMU did not carry out, of all queues. The first of a queue is the one that it
    /// refused.
    pub cut_off: u32,
    /// Why the SMMU stopped, if it did: in the command queue, or in the first enhanced one.
    pub error: Option<CommandErrorCode>,
}
