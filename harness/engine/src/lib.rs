//! Runs one scenario on one machine, over the seams, and writes down what happened.
//!
//! [`scenario`] is the file format, [`machine`] is what a backend provides, and [`run`] carries out
//! the first on the second. CONTRIBUTING.md has the map, and says how to add a step.
//!
//! # On a board
//!
//! Without `std` the crate runs on a CPU beside the SMMU. It opens no file, starts no thread and
//! installs no interrupt handler. A program for a board
//!
//! 1. implements [`Backend`](machine::Backend) and [`Machine`](machine::Machine):
//!    [`clock`](machine::Machine::clock) tells its timer,
//!    [`pattern`](machine::Machine::pattern) what its devices write,
//!    [`sees_interrupts`](machine::Machine::sees_interrupts) whether it has handlers, and
//!    [`step_begins`](machine::Machine::step_begins) prints a step, and [`offers`] says what the ID
//!    registers do;
//! 2. asks [`alloc_fault::fails`] in its global allocator;
//! 3. takes a scenario that the host has prepared ([`scenario::Scenario::from_prepared`]),
//!    [`run`](run::run)s it, and prints the
//!    [`RunReport`](run::RunReport) as a line of JSON. A host reads it without loss.
//!
//! # What needs `std`
//!
//! | | with `std` | without |
//! |---|---|---|
//! | locks of the run and of its driver | those of `parking_lot` | those of `spin`: no interrupt handler takes them |
//! | how arrays and queues reach their readers | `ArcSwapCell` | [`HazardCell`](smmu_driver::smmu_invs::HazardCell), with slots by [`Machine::cpu_number`](machine::Machine::cpu_number) |
//! | `Clock::default` | `StdWait` | absent |
//! | the countdown of [`alloc_fault`] | one for each thread | one for the program |
//!
//! # Features
//!
//! - `std`: the second column of the table above.
//! - `schema`: `scenario::schema` and `scenario::reference`, the JSON Schema of the format and its
//!   reference page.
//! - `toml`: `Scenario::parse`, which reads files. An image for a board leaves it out: the parser would
//!   be a quarter of it.
//! - `record`: a run keeps a row of values for each line, with the words of table entries and the
//!   time. `record` completes and describes them. An image for a board leaves it out.
#![no_std]
#![deny(unsafe_code)]

#[macro_use]
extern crate alloc;
#[cfg(any(feature = "std", test))]
extern crate std;

pub mod alloc_fault;
mod lock;
pub mod machine;
pub mod offers;
pub mod page_tables;
mod prelude;
#[cfg(feature = "record")]
pub mod record;
pub mod row;
pub mod run;
pub mod scenario;
pub mod transcript;
mod virtual_clock;

// The tests run on the harness's own backend, whose source names this crate from outside.
#[cfg(test)]
extern crate self as smmu_engine;
#[cfg(test)]
#[path = "../../src/backend/mock.rs"]
#[expect(unreachable_pub, reason = "the backend is public where it is at home")]
mod mock;
