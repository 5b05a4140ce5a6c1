//! An Arm SMMUv3 driver, composed: from registers, DMA memory and a clock to running SMMUs.
//!
//! The crates of this workspace each do one thing and meet through traits. This one puts them
//! together in the order that is safe, so that an integrator names its types once and calls five
//! functions.
//!
//! | step | call |
//! |---|---|
//! | 1. describe the SMMUs | [`Setup::new`], [`Setup::smmu`] for each, [`Setup::virtual_queue`] where there are any |
//! | 2. start them | [`Setup::start`]: queues, bring-up, event queues; every stream is blocked |
//! | or with windows of firmware | [`Setup::start_with`], [`Boot::attach_reserved`]: devices that run already are attached before translation; [`boot`] has the steps |
//! | or take them over | [`Setup::adopt`]: chosen streams of an old owner run on; [`adopt`] has the steps |
//! | 3. attach | [`Driver::add_device`], [`Driver::domain`], [`Device::attach`](smmu_attach::Device::attach) |
//! | 4. unmap | change the tables, then [`Domain::invalidate`](smmu_attach::Domain::invalidate) before the memory is reused |
//! | 5. handle interrupts | [`Driver::handle_events`] (or [`Driver::drain_events`]), [`Driver::handle_page_requests`], [`Driver::handle_gerror`] |
//! | | when a device with stalls or page requests leaves its domain: [`Driver::withdraw_faults`] |
//! | 6. after a reset | [`Driver::restart`], then [`Smmu::settle`](smmu_attach::Smmu::settle) |
//! | 7. stop | [`Driver::shutdown`], then [`Domain::into_tables`](smmu_attach::Domain::into_tables) |
//!
//! `examples/hypervisor.rs` does all of it in 60 lines, on the SMMU model. The docs of
//! [`Platform`] say what each step needs.
//!
//! # Interrupt handlers
//!
//! An SMMU has two, by wire or by MSI ([`Interrupts`](smmu_hw_mmio::Interrupts)), and a third for page
//! requests. [`Platform`] says
//! which locks they take, and what an edge-triggered interrupt asks of the integrator.
//!
//! ```
//! use smmu_driver::smmu_types::{EventRecord, SmmuId};
//! use smmu_driver::{Driver, DriverError, Platform};
//!
//! fn on_event_interrupt<P: Platform>(
//!     driver: &Driver<P>,
//!     smmu: SmmuId,
//!     report: impl FnMut(EventRecord),
//! ) -> Result<bool, DriverError> {
//!     let drained = driver.drain_events(smmu, report)?;
//!     Ok(drained.overflowed) // records were lost
//! }
//!
//! fn on_gerror_interrupt<P: Platform>(
//!     driver: &Driver<P>,
//!     smmu: SmmuId,
//!     mut report: impl FnMut(&dyn core::fmt::Display),
//! ) -> Result<(), DriverError> {
//!     let found = driver.handle_gerror(smmu)?;
//!     if let Some(failure) = found.command {
//!         report(&failure.error()); // its waiter gets the same error
//!     }
//!     // `None`: a thread inside the error handler acknowledges them; the next call reports them.
//!     if let Some(errors) = found.others.filter(|errors| !errors.is_empty()) {
//!         report(&errors);
//!     }
//!     Ok(())
//! }
//! ```
//!
//! # What it is not
//!
//! It has no page tables (they are the integrator's, through
//! [`TranslationTable`](smmu_attach::TranslationTable)), no parser of firmware tables and no
//! scheduler of interrupts. It has no global state: two drivers can run side by side.
//!
//! # Hazard
//!
//! - [`Driver`] owns memory that SMMUs read and write. Dropping it without
//!   [`shutdown`](Driver::shutdown) keeps that memory allocated for ever, because the SMMUs go on
//!   using it.
//! - Memory that the tables no longer map may be reused only after
//!   [`Domain::invalidate`](smmu_attach::Domain::invalidate) has returned `Ok`.
//!
//! # Cost
//!
//! Setting up and a restart allocate. [`Domain::invalidate`](smmu_attach::Domain::invalidate)
//! neither locks nor allocates, unless [`Platform::Cell`] or [`Platform::QueueCell`] does: those of
//! [`HazardParts`] do not, those of [`Parts`] lock.
//!
//! # Features
//!
//! - `std`: a publication of invalidation arrays that readers read without a lock
//!   (`smmu_invs::ArcSwapCell`); the clock of `std` and a default lock for the pool of `smmu-types`.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod adopt;
pub mod boot;
mod driver;
mod error;
mod faults;
mod origin;
mod part;
mod platform;
mod queue_slot;
mod restart;
mod setup;
#[cfg(loom)]
pub mod slot;
#[cfg(not(loom))]
mod slot;
mod smmu_options;
mod suspend;
#[cfg(loom)]
pub mod sync;
#[cfg(not(loom))]
mod sync;
mod virtual_queue;
pub mod windows;

pub use {lock_api, smmu_attach, smmu_cmdq, smmu_hw_mmio, smmu_invs, smmu_tags, smmu_types};

pub use adopt::{AdoptPlan, OldEvents, OnDoubt};
pub use boot::Boot;
pub use driver::{DrivenSmmu, Driver, GerrorReport};
pub use error::DriverError;
pub use faults::{FaultHandler, HandledFaults, PageRequestGroup, Stalled};
pub use origin::{NotAdopted, Origin};
pub use platform::{
    Attach, Block, Device, Domain, DriverQueue, Env, Group, HazardParts, Parts, PickQueue,
    Platform, Queue, QueueSink, Queues, Slot, Smmu, SmmuQueues, Substream,
};
pub use queue_slot::{ReplaceableQueue, Sent};
pub use setup::Setup;
pub use slot::QueueSlot;
pub use smmu_options::SmmuOptions;

/// The example of the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
