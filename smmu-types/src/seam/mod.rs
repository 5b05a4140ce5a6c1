//! The seams between the parts of a driver: small traits, each with the duties of its implementor.

mod barrier;
mod dma;
#[cfg(feature = "fake")]
pub mod fake;
mod observer;
#[cfg(feature = "std")]
pub mod pool;
mod proof;
mod registers;
mod sink;
mod wait;

pub use dma::{DmaBlock, DmaError, DmaLayout, DmaMemory};
pub use observer::{Notice, Observer, TableEntry};
pub use proof::{CacheTag, FlushProof, GoneProof, PendingFlush, Regime, SyncProof};
pub use registers::{Registers, RegistersExt};
pub use sink::{CommandSink, SinkError, Stall};
#[cfg(feature = "std")]
pub use wait::StdWait;
pub use wait::{CountingWait, TimedOut, Wait, poll, poll_event};
