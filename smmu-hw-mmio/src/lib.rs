//! Arm SMMUv3 registers over real or modelled MMIO: probe, bring-up, event and PRI queues, global
//! errors.
//!
//! - [`VolatileRegisters`]: registers at an address of this program. All else in this crate works
//!   over any implementation of [`Registers`];
//! - [`probe`](fn@probe): whether this driver supports the SMMU, and which errata the SMMU has;
//! - [`bringup`]: from any state to translation, in the one safe order, each step a type;
//! - [`suspend`]: from translation to sleep and back, over the same tables;
//! - [`takeover`]: from an old owner's queues to one's own, while the SMMU translates;
//! - [`ExitPolicy`]: the state in which a driver leaves the SMMU;
//! - [`EventQueue`] and [`PriQueue`]: a bounded drain of event records and of page requests;
//! - [`Gerror`]: the global errors, by name;
//! - [`firmware`]: from a device tree (feature `fdt`) or from ACPI's IORT (feature `iort`) to SMMUs,
//!   from a Requester ID to a StreamID, and to the memory that firmware reserved for a stream.
//!
//! This crate is not a driver. Stream tables come from elsewhere, and commands go through any
//! [`CommandSink`] (`smmu-cmdq` has one). It supports no ATS, no MSI, no Secure state, and no tables
//! or queues at preset addresses.
//!
//! ```
//! # #[cfg(feature = "fake")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use smmu_hw_mmio::{Bringup, BringupConfig, EventQueue, Interrupts};
//! use smmu_hw_mmio::{StreamTableBase, event_layout, probe};
//! use smmu_hw_mmio::smmu_types::fake::{RecordingSink, heap_pool};
//! use smmu_hw_mmio::smmu_types::regs::strtab::StreamTableFormat;
//! use smmu_hw_mmio::smmu_types::seam::{CountingWait, DmaBlock, DmaLayout, DmaMemory};
//! use smmu_hw_mmio::smmu_types::{SmmuId, queue::QueueSize};
//!
//! // On a board: `unsafe { VolatileRegisters::new(base) }`, a timer, memory that the SMMU reads.
//! let registers = smmu_hw_mmio::fake::smmu();
//! let (wait, memory) = (CountingWait::new(), heap_pool(0x1_0000));
//! // On a board: a command queue in the block `commands`.
//! let sink = RecordingSink::new();
//! let commands = memory.allocate(DmaLayout::naturally_aligned(16 << 6).ok_or("layout")?)?;
//! let table = memory.allocate(DmaLayout::naturally_aligned(64 << 4).ok_or("layout")?)?;
//!
//! let probe = probe(&registers)?;
//! let size = QueueSize::from_log2(probe.caps.cmdq_log2.min(6)).ok_or("queue size")?;
//! let mut events = EventQueue::new(&registers, memory.allocate(event_layout(size))?, size)?;
//!
//! let running = Bringup::begin(&registers, &wait, BringupConfig::new(&probe.caps))?
//!     .set_tables(StreamTableBase {
//!         address: table.address(),
//!         format: StreamTableFormat::Linear { log2: 4 },
//!     })?
//!     .enable_commands(commands.address(), size)?
//!     .invalidate_all(&sink, SmmuId(0))?
//!     .enable_events(events.base(), size)?
//!     .enable_interrupts(Interrupts::Polled)?
//!     .enable_translation()?;
//!
//! let drained = events.drain(|event| println!("{event}"))?;
//! assert_eq!((drained.records, drained.overflowed), (0, false));
//! # let _disabled = running.disable()?;
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "fake"))]
//! # fn main() {}
//! ```
//!
//! A wrong order does not compile. Here translation would begin with the caches of an earlier
//! owner:
//!
//! ```compile_fail,E0599
//! use smmu_hw_mmio::{Bringup, BringupConfig, BringupError, StreamTableBase};
//! use smmu_hw_mmio::smmu_types::{PhysAddr, queue::QueueSize, seam::{Registers, Wait}};
//!
//! fn hasty<R: Registers, W: Wait>(
//!     registers: R, wait: W, config: BringupConfig, table: StreamTableBase, size: QueueSize,
//! ) -> Result<(), BringupError> {
//!     Bringup::begin(registers, wait, config)?
//!         .set_tables(table)?
//!         .enable_commands(PhysAddr(0x8000_0000), size)?
//!         .enable_translation()?; // no such method before `invalidate_all`
//!     Ok(())
//! }
//! ```
//!
//! Up to that call it compiles:
//!
//! ```
//! use smmu_hw_mmio::{Bringup, BringupConfig, BringupError, StreamTableBase};
//! use smmu_hw_mmio::smmu_types::{PhysAddr, queue::QueueSize, seam::{Registers, Wait}};
//!
//! fn begun<R: Registers, W: Wait>(
//!     registers: R, wait: W, config: BringupConfig, table: StreamTableBase, size: QueueSize,
//! ) -> Result<(), BringupError> {
//!     let _ready_for_commands = Bringup::begin(registers, wait, config)?
//!         .set_tables(table)?
//!         .enable_commands(PhysAddr(0x8000_0000), size)?;
//!     Ok(())
//! }
//! ```
//!
//! # Hazard
//!
//! - [`VolatileRegisters::new`] trusts its caller: a wrong address overwrites whatever is mapped
//!   there.
//! - From [`enable_translation`](InterruptsSet::enable_translation) on, devices reach memory as the
//!   stream table says. Until then they follow `GBPA`. The bring-up changes `GBPA` only if
//!   translation was on: see [`bringup`].
//! - Only one thread at a time may write `GERRORN`; see [`Gerror::acknowledge`].
//!
//! # Cost
//!
//! Nothing allocates. A bring-up takes about twenty register accesses and two `CMD_SYNC`s. A drain
//! reads `EVENTQ_PROD` once more than it writes `EVENTQ_CONS`.
//!
//! # Features
//!
//! - `fake` (needs `std`): the module `fake`, with fake registers of an SMMU and a writer of
//!   events and page requests.
//! - `fdt`: the module `firmware::fdt`, a reader of flattened device trees.
//! - `iort`: the module `firmware::iort`, a reader of the ACPI table IORT.
//!
//! This crate re-exports [`smmu_types`], whose types are part of its API.
//!
//! [`CommandSink`]: smmu_types::seam::CommandSink
//! [`Registers`]: smmu_types::seam::Registers
#![no_std]
#![deny(unsafe_code)]

#[cfg(any(test, feature = "fake"))]
extern crate std;

pub mod bringup;
mod enhanced;
mod events;
mod exit;
#[cfg(feature = "fake")]
pub mod fake;
pub mod firmware;
mod gerror;
mod interrupts;
mod page_requests;
mod probe;
mod ring;
pub mod suspend;
pub mod takeover;
mod takeover_error;
mod volatile;

pub use bringup::{
    Ats, Bringup, BringupConfig, BringupError, Coherency, CommandsEnabled, ControlPages, Disabled,
    El2, EventsEnabled, InterruptsSet, Invalidated, PageRequests, Running, StreamTableBase,
    TablesSet,
};
pub use events::{DrainedEvents, EventQueue, EventQueueError, event_layout};
pub use exit::ExitPolicy;
pub use gerror::Gerror;
pub use interrupts::{CheckedMsis, Interrupts, Msi, MsiError, Msis, SavedInterrupts};
pub use page_requests::{DrainedRequests, PriQueue, PriQueueError, page_request_layout};
pub use probe::{Probe, ProbeError, judge, probe};
pub use smmu_types;
pub use smmu_types::{Quirk, Quirks};
pub use suspend::{Quiescent, SavedRegisters, Suspended};
pub use takeover::{
    CommandsStopped, CommandsTaken, EventsTaken, Occupied, OldCommands, OldQueue, QueuesTaken,
    Takeover, TakeoverError,
};
pub use volatile::VolatileRegisters;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
