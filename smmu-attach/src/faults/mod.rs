//! Faults that wait for an answer: stalled transactions and groups of page requests.
//!
//! A stalled transaction waits for a `CMD_RESUME`, and a group of page requests for a
//! `CMD_PRI_RESP`. A [`FaultTable`] has a slot for each of them. The reader of the queues
//! [takes](FaultTable::take_event) each record, and gets a token: [`StalledFault`] or [`PageGroup`].
//! The token goes to any thread, which answers with it.
//!
//! ```
//! use smmu_attach::faults::{FaultTable, Taken};
//! use smmu_attach::smmu_types::fake::{RecordingSink, SinkCall};
//! use smmu_attach::smmu_types::{Command, EventKind, EventRecord, ResumeAction, SmmuId, StreamId};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let sink = RecordingSink::new();
//! let faults = FaultTable::new(&sink, SmmuId(0), 16)?;
//! // In the event handler: a record of a transaction that stalls with tag 7.
//! let record = EventRecord::new(EventKind::F_TRANSLATION, StreamId(8)).with_stall(7);
//! let Taken::Fault(fault) = faults.take_event(record)? else { return Err("no stall".into()) };
//! // In a thread: map the page of `fault.record().address()`, then let the transaction try again.
//! assert!(fault.retry().is_sent());
//! let action = ResumeAction::Retry;
//! let resume = Command::Resume { stream: StreamId(8), tag: 7, action };
//! assert_eq!(sink.take(), [SinkCall::Push(SmmuId(0), vec![resume])]);
//! # Ok(()) }
//! ```
//!
//! A fault is answered once:
//!
//! ```compile_fail,E0382
//! # use smmu_attach::faults::*;
//! fn twice<S: AnswerSink>(fault: StalledFault<S>) {
//!     let _ = fault.retry();
//!     let _ = fault.abort(); // the token is gone
//! }
//! ```
//!
//! # Invariants
//!
//! 1. Each fault that was taken is answered exactly once, or its SMMU was reset. That holds for every
//!    interleaving of its token, of [`FaultTable::withdraw`] and of
//!    [`FaultTable::send_kept`]: one compare-and-swap of the slot decides who answers.
//! 2. Dropping a token answers: a stalled transaction with an abort, a group with `InvalidRequest`.
//!    So does a withdrawal. A token that is leaked ([`core::mem::forget`]) waits for a withdrawal.
//! 3. An answer that the command queue did not take is kept. [`FaultTable::send_kept`] sends it, and
//!    each later `take_event`, `take_request` and `withdraw` tries first.
//! 4. Nothing allocates after [`FaultTable::new`], nothing locks, and each call looks at each slot
//!    once at most. A call that sends waits at most as long as the sink does, once.
//! 5. No record is lost for want of a slot: the table answers at once, a stalled transaction with an
//!    abort and a group with `Success`, as an SMMU whose PRI queue is full does (8.1). If the command
//!    queue does not take that answer, the reader leaves the record in its queue.
//!
//! Each answer is one command of its own. A `CMD_SYNC` would prove nothing about it: a `CMD_RESUME`
//! is complete once it is consumed, and no SMMU confirms a `CMD_PRI_RESP` (4.7.3).
//!
//! # When a device leaves its domain
//!
//! 1. The attach or block is confirmed: no further transaction of the device stalls (4.7.2).
//! 2. The owner of the queues drains them, so that each record from before has its slot.
//! 3. [`FaultTable::withdraw`] answers what still waits. The tokens then answer
//!    [`Answered::Withdrawn`] and send nothing.
//!
//! A stalled transaction that is retried after step 1 sees the new configuration.
//!
//! A substream that leaves goes the same way, with [`FaultTable::withdraw_substream`]. A `CMD_RESUME`
//! names no substream, so the table keeps the one of the record beside the tag.
//!
//! # When an SMMU is reset
//!
//! Turning translation off ends each stalled transaction and frees its tag (3.12.2). While the
//! command queue is closed, the owner waits until [`FaultTable::outstanding`] says that no thread is
//! sending, and calls [`FaultTable::forget_stalls`]. Page requests are the devices': their groups
//! stay, and are answered through the new queue. A response that the old queue took and the SMMU did
//! not consume is lost, so the owner also resets the PRI of the devices.

mod answer;
mod sieve;
mod slots;
mod storm;
mod table;
mod token;

pub use answer::{AnswerSink, Answered, FaultId, FaultTag};
pub use sieve::{EventSieve, SieveConfig, SieveCounts, Sieved};
pub use slots::Outstanding;
pub use storm::{Admission, Storm, StormConfig, StormMeter};
pub use table::{FaultTable, Taken, Withdrawn};
pub use token::{PageGroup, StalledFault};
