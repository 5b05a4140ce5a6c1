//! The seams between the parts of a driver: small traits, each with the duties of its implementor.

mod barrier;
mod dma;
pub mod dma_barrier;
mod encoded;
#[cfg(feature = "fake")]
pub mod fake;
mod observer;
#[cfg(feature = "alloc")]
pub mod pool;
mod proof;
mod registers;
mod sink;
mod sync_proof;
mod wait;

pub use dma::{DmaBlock, DmaError, DmaLayout, DmaMemory};
pub use encoded::EncodedBatch;
pub use observer::{Notice, Observer, TableEntry};
pub use proof::{CacheTag, FlushProof, GoneProof, PendingFlush, Regime};
pub use registers::{Registers, RegistersExt, Transfer};
pub use sink::{CommandSink, SinkError, Stall};
pub use sync_proof::SyncProof;
#[cfg(feature = "std")]
pub use wait::StdWait;
pub use wait::{CountingWait, Deadline, InUnits, Ticks, TimedOut, Wait, poll, poll_event};
