//! A software SMMUv3: the "mock" backend.
//!
//! [`Model`] is one RAM with any number of SMMUs over it. A driver programs them through
//! [`ModelRegisters`] and the memory of [`Model::window`]; devices access memory with
//! [`Model::dma_write32`] and [`Model::dma_read32`].
//!
//! ```
//! //! use smmu_model::{Model, Profile};
//! use smmu_types::StreamId;
//!
//! let model = Model::new(0x10000, &[Profile::default()]);
//! // Translation is off, so the device's address is the address of memory.
//! let outcome = model.dma_write32(0, StreamId(8), 0x4000_1000, 7);
//! assert_eq!(outcome, Ok(()));
//! assert_eq!(model.dma_read32(0, StreamId(8), 0x4000_1000), Ok(7));
//! ```
//!
//! # Adversarial
//!
//! Whatever the architecture allows to be cached is cached, and stays until a command takes it away:
//!
//! - *Configuration*: STEs, CDs and level-1 stream table descriptors as they were fetched, **also
//!   invalid and illegal ones** (IHI 0070, 3.21.3: "whether marked as valid or not"); so a change from
//!   `V` = 0 to 1 needs `CFGI_STE`, and from `Span` = 0 to an L2 table `CFGI_STE` with `Leaf` = 0
//!   (5.1.1). Only an aborted fetch leaves nothing. `CFGI_STE` drops the stream's CDs as well (4.3.1).
//! - *Translations*: leaf and table descriptors, without limit. Leaves that deny an access are
//!   kept; faults, and leaves with a clear access flag, never. A `Leaf` = 1 command leaves table
//!   descriptors; a level hint drops leaves of that level and tables above it only; a range of
//!   another granule, or one not aligned to its level hint, drops nothing. Where several lines
//!   match, the oldest serves, even beyond a `T0SZ` that has become smaller. Turning `SMMUEN` off
//!   and on drops nothing.
//! - *Prefetch*: what a command drops is fetched again at once, while [`Profile::prefetch`] is set,
//!   from the tables and with the configuration of that moment. So an invalidation that is sent
//!   *before* the change of what it is for does not help. A fault of a prefetch leaves no event.
//!
//! It is lazy: commands are consumed a few at a time, by reads of `CMDQ_CONS`, and a change of
//! `GBPA` takes effect when the driver looks for it. A driver that waits in memory, for the MSI of a
//! `CMD_SYNC`, looks at no register: for it the SMMU acts when time passes ([`Model::tick`]).
//!
//! # Queues that misbehave
//!
//! A [`Fault`] stops a command queue or makes it slow, lets fetches abort, devices leave ATC invalidations
//! unanswered, MSIs get lost; [`Model::mend`] takes all of them back. [`Model::listen`] says afterwards what was
//! carried out, which need not be what a driver believes to have sent.
//!
//! With [`Profile::second_queue`] an SMMU has a second command queue with registers of its own
//! ([`Model::second_queue`]), whose commands act on the same caches.
//!
//! # Hazards
//!
//! Each DMA compares what it used with memory, and [`Model::audit`] compares everything that some
//! stream could reach. Each difference is a [`Hazard`] that names the missing command.
//!
//! # Not modelled
//!
//! Nested translation ([`Hazard::Unsupported`] and `C_BAD_STE`), `TTB1` (likewise, `C_BAD_CD`),
//! substreams, the ATCs of devices, PRI, stalls, hardware table updates, granules of 16 and 64 KiB, the
//! contiguous hint (each page is its own line). A read of `CMDQ_CONS` or a DMA is the only moment at
//! which the SMMU acts, so it cannot see a half-written entry unless a DMA comes in between.

mod cache;
mod command;
mod config;
mod dma;
mod hazard;
mod injected_fault;
mod judge;
mod machine;
mod model;
mod model_ram;
mod model_registers;
mod model_smmu;
mod profile;
mod queue;
mod regs;
#[cfg(test)]
mod tests;
mod violation;
mod walk;
mod word;

pub use smmu_types;

pub use hazard::{Hazard, Now, Permissions};
pub use injected_fault::InjectedFault;
pub use model::{DmaRefused, Model};
pub use model_registers::ModelRegisters;
pub use profile::{Profile, SecondQueue};
pub use violation::Violation;
