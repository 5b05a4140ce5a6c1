//! The promises of an attach, on fakes of every seam.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;
mod every_step;
mod kinds;
mod legality;
mod locks;
mod ordering;
mod spinning;
mod stalls;
mod substreams;
mod transaction;
mod unconfirmed;
mod watched_cell;
