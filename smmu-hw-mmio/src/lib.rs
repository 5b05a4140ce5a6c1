//! Arm SMMUv3 registers over real or modelled MMIO: probe, bring-up, event queue, global errors.
//!
//! - [`VolatileRegisters`]: registers at an address of this program; everything else here also works over
//!   any other [`Registers`];
//! - [`probe`](fn@probe): can this driver work with what is there, and which errata does it have;
//! - [`bringup`]: from any state to translation, in the one safe order, each step a type;
//! - [`EventQueue`]: bounded draining of event records;
//! - [`Gerror`]: the global errors, by name.
//!
//! It is not a driver: stream tables come from elsewhere, and commands go through any [`CommandSink`]
//! (`smmu-cmdq` has one). There is no PRI queue, no ATS, no MSI, no secure side, and no support of tables
//! or queues at preset places.
//!
//! ```
//! # #[cfg(feature = "fake")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use smmu_hw_mmio::{Bringup, BringupConfig, EventQueue, Interrupts, StreamTable, event_layout, probe};
//! use smmu_types::fake::{RecordingSink, heap_pool};
//! use smmu_types::regs::strtab::Format;
//! use smmu_types::seam::{CountingWait, DmaBlock, DmaLayout, DmaMemory};
//! use smmu_types::{SmmuId, queue::QueueSize};
//!
//! // On a board: `unsafe { VolatileRegisters::new(base) }`, a timer, and memory that the SMMU sees.
//! let registers = smmu_hw_mmio::fake::smmu();
//! let (wait, memory) = (CountingWait::new(), heap_pool(0x1_0000));
//! // On a board: a command queue in this block.
//! let sink = RecordingSink::new();
//! let commands = memory.allocate(DmaLayout::naturally_aligned(16 << 6).ok_or("layout")?)?;
//! let table = memory.allocate(DmaLayout::naturally_aligned(64 << 4).ok_or("layout")?)?;
//!
//! let probe = probe(&registers)?;
//! let size = QueueSize::from_log2(probe.caps.cmdq_log2.min(6)).ok_or("queue size")?;
//! let mut events = EventQueue::new(&registers, memory.allocate(event_layout(size))?, size)?;
//!
//! let running = Bringup::begin(&registers, &wait, BringupConfig::new(&probe.caps))?
//!     .set_tables(StreamTable { address: table.address(), format: Format::Linear { log2: 4 } })?
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
//! A wrong order does not compile; here translation would begin with whatever an earlier owner left
//! in the caches:
//!
//! ```compile_fail,E0599
//! use smmu_hw_mmio::{Bringup, BringupConfig, BringupError, StreamTable};
//! use smmu_types::{PhysAddr, queue::QueueSize, seam::{Registers, Wait}};
//!
//! fn hasty<R: Registers, W: Wait>(
//!     registers: R, wait: W, config: BringupConfig, table: StreamTable, size: QueueSize,
//! ) -> Result<(), BringupError> {
//!     Bringup::begin(registers, wait, config)?
//!         .set_tables(table)?
//!         .enable_commands(PhysAddr(0x8000_0000), size)?
//!         .enable_translation()?; // no such method before everything is invalidated
//!     Ok(())
//! }
//! ```
//!
//! # Hazard
//!
//! - [`VolatileRegisters::new`] believes its caller: a wrong address writes over whatever is there.
//! - From [`enable_translation`](InterruptsSet::enable_translation) on, devices reach memory as the stream
//!   table says; until then as `GBPA` says, which the bring-up changes only where translation was on.
//! - `GERRORN` has one writer at a time; see [`Gerror::acknowledge`].
//!
//! # Cost
//!
//! Nothing allocates. A bring-up is about twenty register accesses and two `CMD_SYNC`s; a drain reads
//! `EVENTQ_PROD` once more than it writes `EVENTQ_CONS`.
//!
//! # Features
//!
//! - `fake` (needs `std`): the `fake` module with the device's side of a bring-up and of an event queue.
//!
//! [`CommandSink`]: smmu_types::seam::CommandSink
//! [`Registers`]: smmu_types::seam::Registers
#![no_std]
#![deny(unsafe_code)]

#[cfg(any(test, feature = "fake"))]
extern crate std;

pub mod bringup;
mod events;
#[cfg(feature = "fake")]
pub mod fake;
mod gerror;
mod probe;
mod volatile;

pub use bringup::{
    Ats, Bringup, BringupConfig, BringupError, Coherency, CommandsEnabled, Disabled, El2,
    EventsEnabled, Interrupts, InterruptsSet, Invalidated, Running, StreamTable, TablesSet,
};
pub use events::{Drained, EventQueue, EventQueueError, event_layout};
pub use gerror::Gerror;
pub use probe::{Probe, ProbeError, judge, probe};
pub use smmu_types::{Quirk, Quirks};
pub use volatile::VolatileRegisters;
