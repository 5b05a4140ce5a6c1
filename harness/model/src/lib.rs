//! A software SMMUv3 that tests a driver: it keeps stale state as long as the architecture allows.
//!
//! [`Model`] is one RAM with any number of SMMUs over it. A driver programs an SMMU through
//! [`ModelRegisters`] and the memory of [`Model::window`]. Devices access memory with
//! [`Model::dma_write32`] and [`Model::dma_read32`].
//!
//! ```
//! use smmu_model::smmu_types::StreamId;
//! use smmu_model::{Model, Profile};
//!
//! let model = Model::new(0x10000, &[Profile::default()]);
//! // Translation is off, so the device's address is the address of memory.
//! let outcome = model.dma_write32(0, StreamId(8), 0x4000_1000, 7);
//! assert_eq!(outcome, Ok(()));
//! assert_eq!(model.dma_read32(0, StreamId(8), 0x4000_1000), Ok(7));
//! ```
//!
//! # What it caches
//!
//! The SMMU caches all that the architecture allows, and keeps it until a command drops it:
//!
//! - *Configuration*: STEs, CDs and level-1 stream table descriptors as it fetched them, **also
//!   invalid and illegal ones** (IHI 0070, 3.21.3: "whether marked as valid or not"). So a change
//!   of `V` from 0 to 1 needs `CFGI_STE`, and a change of `Span` from 0 to an L2 table needs
//!   `CFGI_STE` with `Leaf` = 0 (5.1.1). Only an aborted fetch leaves nothing. `CFGI_STE` drops
//!   the stream's CDs as well (4.3.1).
//! - *Translations*: leaf and table descriptors, without limit. The SMMU caches leaves that deny an
//!   access. It never caches faults, nor leaves with a clear access flag.
//! - *Prefetch*: while [`Profile::prefetch`] is set, the SMMU fetches at once again what a command
//!   drops, with the tables and the configuration of that moment. So an invalidation *before* the
//!   change that it is for has no effect. The fault of a prefetch records no event.
//!
//! # What a command drops
//!
//! - A command with `Leaf` = 1 keeps table descriptors.
//! - A level hint drops only leaves of that level, and table descriptors above it.
//! - A range of another granule drops nothing. Nor does a range that is not aligned to its level
//!   hint.
//! - Where several lines match, the oldest serves, even beyond a `T0SZ` that has become smaller.
//! - Clearing and setting `SMMUEN` drops nothing.
//!
//! # When it acts
//!
//! The SMMU consumes a few commands at each read of `CMDQ_CONS`. A change of `GBPA` takes effect
//! when the driver reads `GBPA`. A driver that waits in memory for the MSI of a `CMD_SYNC` reads no
//! register: it calls [`Model::tick`], and the SMMU acts then.
//!
//! The SMMU acts only at a register access, a DMA or a call of [`Model`]. So it sees a half-written
//! entry only if such a call comes in between.
//!
//! # Faults that wait
//!
//! With [`Profile::stall_model`] a fault stalls its transaction, where the CD or the STE says so.
//! [`Model::start_write32`] then returns [`DmaProgress::Stalled`], and [`Model::progress`] says what
//! became of it. A stall is not lost in a full event queue: the SMMU retries the transaction when the
//! queue has room (7.4). With [`Profile::pri`] a device sends [page requests](Model::page_request);
//! a full PRI queue makes the SMMU answer `Success` by itself (8.1).
//!
//! An answer to nothing is a [`Hazard::WrongAnswer`]. [`Model::unanswered`] names what the driver was
//! told of and did not answer.
//!
//! # Faults on request
//!
//! An [`InjectedFault`] stops a command queue or makes it slow, aborts fetches, leaves ATC
//! invalidations unanswered, or loses MSIs. [`Model::mend`] removes all of them. [`Model::listen`]
//! records the commands that the SMMU carried out, which may differ from those that the driver
//! believes it sent.
//!
//! With [`Profile::second_queue`] an SMMU has a second command queue with its own registers
//! ([`Model::second_queue`]). Its commands act on the same caches.
//!
//! # Hazards
//!
//! Each DMA compares the entries that it used with memory. [`Model::audit`] compares every entry
//! that a stream can reach. Each difference is a [`Hazard`]; [`Hazard::missing`] is the command
//! that the driver left out.
//!
//! # Not modelled
//!
//! - Nested translation ([`Hazard::Unsupported`] and `C_BAD_STE`) and `TTB1` (likewise, with
//!   `C_BAD_CD`).
//! - Substreams, the ATCs of devices, hardware table updates.
//! - Granules of 16 and 64 KiB, and the contiguous hint: each page is its own line.

mod cache;
mod command;
mod config;
mod dma;
mod hazard;
mod injected_fault;
mod judge;
mod machine;
mod model;
mod model_device;
mod model_ram;
mod model_registers;
mod model_smmu;
mod profile;
mod queue;
mod regs;
mod requester;
#[cfg(test)]
mod tests;
mod violation;
mod waiting;
mod walk;
mod word;

// A driver's tests need no dependency line of their own for the types in this crate's API.
pub use smmu_types;

pub use hazard::{Hazard, Now, Permissions, Waits};
pub use injected_fault::InjectedFault;
pub use model::{DmaRefused, Model};
pub use model_device::{AtsDmaFailure, AtsRequestFailure, AtsSwitch, AtsTranslation, ModelDevice};
pub use model_registers::ModelRegisters;
pub use profile::{Profile, SecondQueue, WhileAtsOff};
pub use violation::Violation;
pub use waiting::pages::PageResponse;
pub use waiting::stalls::{DmaProgress, StallId};

/// The examples of the README compile and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
