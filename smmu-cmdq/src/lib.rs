//! The command queue of an Arm SMMUv3, without a lock: batches, `CMD_SYNC`, bounded waits, command errors.
//!
//! Implement three traits of `smmu-types` and you are running: [`Registers`] (MMIO of the SMMU),
//! [`DmaBlock`] (memory that it reads) and [`Wait`] (a clock).
//! A [`CommandQueue`] then queues commands, waits until the SMMU has carried them out, and says which one it
//! refused. It is a [`CommandSink`], as are those of several SMMUs in a
//! [`QueueSet`], and several of one SMMU (ECMDQ, CMDQV) in a [`QueueGroup`].
//!
//! It is not a driver: it does not bring the SMMU up (`smmu-hw-mmio` does), and does not choose which
//! commands an unmap needs (`smmu-invs` does; how a range becomes commands is in [`smmu_types::range`]).
//!
//! ```
//! use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::{Relaxed, SeqCst}, fence};
//! use core::{ops::Range, time::Duration};
//! use smmu_cmdq::{CommandQueue, QueueConfig};
//! use smmu_types::queue::QueueSize;
//! use smmu_types::seam::{DmaBlock, Registers, Wait};
//! use smmu_types::{Asid, Command, PhysAddr, SmmuId, Vmid};
//!
//! /// 1: the registers. This "SMMU" has carried a command out as soon as it is told of it.
//! struct Mmio(AtomicU32);
//! impl Registers for Mmio {
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
//! /// 2: memory that the SMMU reads, here 64 commands at 0x8000_0000.
//! struct Memory([AtomicU64; 128]);
//! // SAFETY: nobody but the "SMMU" above, which reads nothing, knows the address.
//! unsafe impl DmaBlock for Memory {
//!     fn words(&self) -> &[AtomicU64] { &self.0 }
//!     fn address(&self) -> PhysAddr { PhysAddr(0x8000_0000) }
//!     fn publish(&self, _: Range<usize>) { fence(SeqCst) } // at least `dmb oshst` on a board
//!     fn observe(&self, _: Range<usize>) { fence(SeqCst) } // at least `dmb oshld` on a board
//! }
//!
//! /// 3: time, from a counter that always runs.
//! struct Clock(AtomicU64);
//! impl Wait for Clock {
//!     fn now(&self) -> Duration { Duration::from_micros(self.0.load(Relaxed)) }
//!     fn relax(&self, _round: u32) { self.0.fetch_add(1, Relaxed); }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (mmio, clock) = (Mmio(AtomicU32::new(0)), Clock(AtomicU64::new(0)));
//! let memory = Memory([const { AtomicU64::new(0) }; 128]);
//! let size = QueueSize::from_log2(6).ok_or("no queue of this size")?;
//! let queue =
//!     CommandQueue::new(SmmuId(0), mmio, memory, size, clock, QueueConfig::default())?;
//!
//! // Issue on as many SMMUs as there are, then wait: the proof says that it is done.
//! let ticket = queue.issue(&[Command::TlbiNhAsid { vmid: Vmid(0), asid: Asid(5) }])?;
//! let proof = queue.wait(ticket)?;
//! assert_eq!(proof.smmu(), SmmuId(0));
//! # Ok(())
//! # }
//! ```
//!
//! # Hazard
//!
//! - A [`SyncTicket`] that is dropped proves nothing, and after [`SinkError::Timeout`] the commands are
//!   still queued: memory that they were to protect must stay where it is.
//! - [`Pushed`] commands are proven by [`prove`](CommandQueue::prove) alone. If others' commands lie between the first of
//!   them and the `CMD_SYNC`, and one of those fails, that ticket may fail as well: rather once too often.
//! - `GERRORN` has one writer at a time; see [`with_registers`](CommandQueue::with_registers).
//! - An SMMU that is reset behind the queue's back and whose `CMDQ_CONS` then happens to lie between two
//!   positions in flight cannot be told from one that works.
//!
//! # Cost
//!
//! One call: an atomic operation to reserve slots and one to hand the turn on, two stores per command, one or two
//! barriers, at most one write of `CMDQ_PROD`, and a read of
//! `CMDQ_CONS` only when the ring looks full. One look of a waiter: a read of `CMDQ_CONS`, and of `GERROR`
//! and `GERRORN` while it is not complete; of a waiter for an MSI mostly a load. Beside its ring a queue is 8 bytes for
//! each of its `CELLS` and about a kilobyte; nothing allocates.
//!
//! # Features
//!
//! - `fake` (needs `std`): `fake::Consumer`, a device that consumes a queue at a chosen pace and fails on
//!   request.
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

mod config;
mod error;
mod failures;
#[cfg(feature = "fake")]
pub mod fake;
mod gerror;
mod group;
mod opcodes;
mod port;
mod prod_owner;
mod produce;
mod queue;
mod reserve;
mod ring;
mod set;
#[cfg(not(loom))]
mod sync;
#[cfg(loom)]
#[doc(hidden)]
pub mod sync;
mod wait;

pub use config::{QueueConfig, SyncBy, layout};
pub use error::QueueError;
pub use failures::{CommandFailure, FailureCounts};
pub use group::{InQueue, Pick, QueueGroup};
pub use opcodes::Opcodes;
pub use port::Port;
pub use queue::{CommandQueue, Pushed, SyncTicket};
pub use reserve::{CompareExchange, FetchAdd, Reserve};
#[doc(hidden)]
pub use ring::Slots;
pub use set::{OfSmmu, QueueSet};
