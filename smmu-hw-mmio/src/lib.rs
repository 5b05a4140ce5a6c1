//! Arm SMMUv3 registers over real or modelled MMIO: probe, reset, event queue.
#![no_std]
#![deny(unsafe_code)]

#[cfg(any(test, feature = "fake"))]
extern crate std;

pub mod bringup;
mod events;
mod gerror;
mod probe;
mod volatile;

pub use bringup::{
    Bringup, BringupConfig, BringupError, Coherency, CommandsEnabled, Disabled, El2, EventsEnabled,
    Interrupts, InterruptsSet, Invalidated, Running, StreamTable, TablesSet,
};
pub use events::{Drained, EventQueue, EventQueueError};
pub use gerror::Gerror;
pub use probe::{Probe, ProbeError, Quirk, Quirks, judge, probe};
pub use volatile::VolatileRegisters;
