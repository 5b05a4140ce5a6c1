//! The command queue of an Arm SMMUv3, without a lock: batches, `CMD_SYNC`, bounded waits, errors.
//!
//! Implement three traits of [`smmu_types`] and you are running: [`Registers`] (MMIO of the SMMU),
//! [`DmaBlock`] (memory that the SMMU reads) and [`Wait`] (a clock). A [`CommandQueue`] then queues
//! commands, waits until the SMMU has carried them out, and says which command the SMMU refused.
//!
//! A queue is a [`CommandSink`]. So are a [`QueueGroup`] of several queues of one SMMU (ECMDQ,
//! CMDQV), and a [`QueueSet`] of the queues or groups of several SMMUs.
//!
//! It is not a driver. Bring-up of the SMMU is in `smmu-hw-mmio`. The choice of commands for an
//! unmap is in `smmu-invs`, and the commands for a range in [`smmu_types::range`].
//!
//! ```
//! use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::{Relaxed, SeqCst}, fence};
//! use core::{ops::Range, time::Duration};
//! use smmu_cmdq::{CommandQueue, QueueConfig};
//! use smmu_cmdq::smmu_types::queue::QueueSize;
//! use smmu_cmdq::smmu_types::seam::{DmaBlock, Registers, Wait};
//! use smmu_cmdq::smmu_types::{Asid, Command, PhysAddr, SmmuId, Vmid};
//!
//! /// 1: the registers. This toy SMMU carries out each command at the write of `CMDQ_PROD`.
//! struct ToyMmio(AtomicU32);
//! impl Registers for ToyMmio {
//!     fn read32(&self, offset: u32) -> u32 {
//!         if offset == 0x9c { self.0.load(SeqCst) } else { 0 }
//!     }
//!     fn write32(&self, offset: u32, value: u32) {
//!         if offset == 0x98 { self.0.store(value, SeqCst) }
//!     }
//!     fn read64(&self, offset: u32) -> u64 { self.read32(offset).into() }
//!     fn write64(&self, offset: u32, value: u64) { self.write32(offset, value as u32) }
//! }
//!
//! /// 2: memory that the SMMU reads, here a ring of 64 commands at 0x8000_0000.
//! struct ToyMemory([AtomicU64; 128]);
//! // SAFETY: only the toy SMMU above uses the address, and it reads nothing.
//! unsafe impl DmaBlock for ToyMemory {
//!     fn words(&self) -> &[AtomicU64] { &self.0 }
//!     fn address(&self) -> PhysAddr { PhysAddr(0x8000_0000) }
//!     fn publish(&self, _: Range<usize>) { fence(SeqCst) } // at least `dmb oshst` on a board
//!     fn observe(&self, _: Range<usize>) { fence(SeqCst) } // at least `dmb oshld` on a board
//! }
//!
//! /// 3: a clock. This one counts the looks of waiters.
//! struct ToyClock(AtomicU64);
//! impl Wait for ToyClock {
//!     fn now(&self) -> Duration { Duration::from_micros(self.0.load(Relaxed)) }
//!     fn relax(&self, _round: u32) { self.0.fetch_add(1, Relaxed); }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (mmio, clock) = (ToyMmio(AtomicU32::new(0)), ToyClock(AtomicU64::new(0)));
//! let memory = ToyMemory([const { AtomicU64::new(0) }; 128]);
//! let size = QueueSize::from_log2(6).ok_or("no queue of this size")?;
//! let queue =
//!     CommandQueue::new(SmmuId(0), mmio, memory, size, clock, QueueConfig::default())?;
//!
//! // With several SMMUs, issue on all of them first, and then wait. The proof says that the
//! // flush is done.
//! let ticket = queue.issue(&[Command::TlbiNhAsid { vmid: Vmid(0), asid: Asid(5) }])?;
//! let proof = queue.wait(ticket)?;
//! assert_eq!(proof.smmu(), SmmuId(0));
//! # Ok(())
//! # }
//! ```
//!
//! # Hazard
//!
//! - A dropped [`SyncTicket`] proves nothing. After [`SinkError::Timeout`] the commands are still
//!   queued. In both cases, do not reuse the memory that the commands were to protect.
//! - Only [`prove`](CommandQueue::prove) proves [`Pushed`] commands. If another caller's command in
//!   between fails, the ticket of `prove` may fail as well.
//! - `GERRORN` has one writer at a time. An interrupt handler calls
//!   [`handle_global_errors`](CommandQueue::handle_global_errors); other code writes it inside
//!   [`with_registers`](CommandQueue::with_registers).
//! - Reset the SMMU only together with its queue. If `CMDQ_CONS` after the reset happens to lie
//!   between two positions in flight, the queue cannot detect the reset.
//!
//! # Cost
//!
//! - A call: one atomic operation to reserve slots, two if another caller was faster, and one to
//!   commit them, two stores per command (with encoded commands, two loads and two stores), one or two barriers, at most one write of `CMDQ_PROD`. It reads `CMDQ_CONS` if the ring looks
//!   full, and once in a quarter of the ring if no waiter does.
//! - A look of a waiter: one read of `CMDQ_CONS`; while the `CMD_SYNC` is not complete, also one of
//!   `GERROR` and one of `GERRORN`. For an MSI, 63 of 64 looks are one load instead.
//! - Memory: beside the ring, 8 bytes for each cell, and about 1.5 KiB. Nothing allocates.
//!
//! # Features
//!
//! - `fake` (needs `std`): the module `fake` with `fake::Consumer`, a fake SMMU that consumes a
//!   queue at a chosen pace and fails on request. It also enables the feature `fake` of
//!   `smmu-types`.
//!
//! The crate re-exports [`smmu_types`], so a user of the queue needs no second dependency.
//!
//! [`CommandSink`]: smmu_types::seam::CommandSink
//! [`DmaBlock`]: smmu_types::seam::DmaBlock
//! [`Registers`]: smmu_types::seam::Registers
//! [`SinkError::Timeout`]: smmu_types::seam::SinkError::Timeout
//! [`Wait`]: smmu_types::seam::Wait
#![no_std]
#![forbid(unsafe_code)]

#[cfg(any(test, feature = "fake"))]
extern crate std;

mod commands;
mod config;
mod error;
mod failures;
#[cfg(feature = "fake")]
pub mod fake;
mod gerror;
mod gerror_handler;
mod group;
mod opcodes;
mod port;
mod prod_owner;
mod produce;
mod queue;
mod repeat;
mod reserve;
mod ring;
mod set;
#[cfg(not(loom))]
mod sync;
#[cfg(loom)]
#[doc(hidden)]
pub mod sync;
mod sync_by;
mod ticket;
mod wait;

pub use smmu_types;

pub use config::{QueueConfig, layout};
pub use error::QueueError;
pub use failures::{CommandFailure, FailureCounts};
pub use gerror::GlobalErrors;
pub use group::{GroupQueue, InQueue, Pick, QueueGroup};
pub use opcodes::Opcodes;
pub use port::Port;
pub use queue::CommandQueue;
pub use repeat::{Passes, RepeatedPushed, RepeatingSink};
#[doc(hidden)]
pub use ring::Slots;
pub use set::{OfSmmu, QueueSet};
pub use sync_by::SyncBy;
pub use ticket::{Pushed, SyncTicket};

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;
