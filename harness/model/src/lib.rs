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
//! - *CDs of substreams*: by StreamID and index, beside the level-1 descriptors of their table. With
//!   [`Profile::prefetch`] the fetch of a CD also fetches the CDs of its 4 KiB, and the fetch of a
//!   level-1 descriptor those of its 64 bytes. So a new CD or leaf beside a live one needs its
//!   `CFGI_CD`, without a DMA.
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
//! - `CFGI_CD` drops one CD, and with `Leaf` = 0 the level-1 descriptor that leads to it.
//!   `CFGI_CD_ALL` drops all of one stream (4.3.3, 4.3.4).
//! - `ATC_INV` without a SubstreamID drops the span of every substream; with one, of that substream
//!   alone, also with `Global`. No completion has the Global bit (3.9.1).
//!
//! # Substreams and ATS
//!
//! [`Model::device`] is a device: [`ModelDevice::with_substream`] gives its transactions a
//! SubstreamID, and [`ModelDevice::switch_ats`] turns on its ATS. `ats_write32` and `ats_read32` go
//! through its ATC alone; see the example at [`ModelDevice`].
//!
//! A device keeps each translation until an `ATC_INV` drops it, also while its ATS is off. With
//! [`Profile::prefetch`] it asks again at once for what an `ATC_INV` dropped. Until the `CMD_SYNC`
//! after a TLBI, the answer may come from a line that the TLBI dropped (4.5.1).
//!
//! # Nested translation
//!
//! With `STE.Config` = 7 the CDs, the tables of stage 1 and its output lie behind stage 2. The SMMU
//! keeps three kinds of entries:
//!
//! - *Combined entries*: from a VA to the physical address of a page, or of the next table of
//!   stage 1. They carry VMID and ASID. `TLBI_NH_*` of the VMID and `TLBI_S12_VMALL` drop them.
//!   `TLBI_S2_IPA` keeps all of them, as it may (4.4.3): after a change of stage 2 the driver also
//!   sends `TLBI_NH_ALL` or `TLBI_NH_VAA`.
//! - *Entries of stage 2*: from an IPA, with the VMID alone. `TLBI_S2_IPA` and `TLBI_S12_VMALL`
//!   drop them. The SMMU fills combined entries from them, so with [`Profile::prefetch`] a
//!   `TLBI_NH_ALL` before the `TLBI_S2_IPA` has no effect.
//! - *CDs and level-1 descriptors*, from the page that stage 2 gave at the fetch. No TLBI drops
//!   them: a hypervisor that moves the page also sends `CFGI_CD`.
//!
//! [`Hazard::missing`] names the command for the entries of stage 2 first. It names the one for the
//! combined entries once memory agrees with what stage 2 has cached.
//!
//! A block of stage 1 that stage 2 splits has a combined entry per piece. A TLBI of any address in
//! the block drops every piece; a level hint is the level of the block.
//!
//! Each combined entry knows the root tables of both stages. Two roots of stage 2 under one VMID are
//! a [`Hazard::TagClash`]. So is a stream of stage 1 alone that has the VMID of a guest.
//!
//! An IPA out of range in `S1ContextPtr` or a level-1 descriptor is a Translation fault of stage 2;
//! 3.4.3 leaves the choice. Full ATS (`EATS` = 1) returns physical addresses. Split-stage ATS
//! (`EATS` = 2) returns IPAs, and stage 2 translates the transactions that use them.
//!
//! # When it acts
//!
//! The SMMU consumes a few commands at each read of `CMDQ_CONS`. A change of `GBPA` takes effect
//! when the driver reads `GBPA`. A driver that waits in memory for the MSI of a `CMD_SYNC` reads no
//! register: it calls [`Model::tick`], and the SMMU acts then.
//!
//! The SMMU acts only at a register access, a DMA or a call of [`Model`]. So it sees a half-written
//! entry only if such a call comes in between, or with [`Profile::word_by_word`]. With
//! [`Profile::until_sync`] an invalidation drops nothing before the `CMD_SYNC` behind it, and with
//! [`Profile::ahead`] the SMMU has the configuration of a stream in its cache before any DMA.
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
//! With [`Profile::enhanced_queues`] it has control pages of enhanced command queues (ECMDQ, 3.5.6) in
//! the window of its own registers, from 0x2_0000. The SMMU consumes such a queue when its `ECMDQ_CONS`
//! is read. The first read after a change of `EN` still shows the old `ENACK`, and until then the SMMU
//! may consume. [`Model::listen`] does not record these commands.
//!
//! # Hazards
//!
//! Each DMA compares the entries that it used with memory. [`Model::audit`] compares every entry
//! that a stream can reach. Each difference is a [`Hazard`]; [`Hazard::missing`] is the command
//! that the driver left out.
//!
//! The audit covers ATCs as well. An entry counts while its device can use it: the device's ATS is
//! on, and the SMMU lets translated transactions of the stream pass. With
//! [`Profile::word_by_word`] each invalidation checks what the driver has changed since the last one:
//! the SMMU could have read a mix of the words. A mix that the driver itself had in memory, when it
//! showed commands in between, is no mistake. After [`Model::memory_freed`] the audit reports
//! tables of CDs that an SMMU can still read there.
//!
//! # Not modelled
//!
//! - `TTB1` ([`Hazard::Unsupported`] and `C_BAD_CD`).
//! - Memory attributes, and so `S2PTW` and `S2FWB`.
//! - Commands that complete out of order before a `CMD_SYNC`: a `TLBI_S2_IPA` and the `TLBI_NH_ALL`
//!   after it need none in between here.
//! - ATS with a device permission table (`EATS` = 3).
//! - SubstreamIDs of translated transactions (`IDR3.PASIDTT` = 0); requests of ATS for reading only,
//!   and privileged or executing accesses.
//! - Hardware table updates.
//! - The contiguous hint: each page is its own line.

mod cache;
mod command;
mod config;
mod cpu_caches;
mod dma;
mod dma_refused;
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

pub use cpu_caches::{CachedStore, CpuCaches, Lapse};
pub use dma_refused::DmaRefused;
pub use hazard::{Hazard, Now, Permissions, Waits};
pub use injected_fault::InjectedFault;
pub use model::Model;
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
