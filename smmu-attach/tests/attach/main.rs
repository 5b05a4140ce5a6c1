//! The promises of an attach, on fakes of every seam.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod adopt;
mod adopt_bytes;
mod ats;
mod common;
mod deferred;
mod every_step;
mod groups;
mod kinds;
mod legality;
mod locks;
#[cfg(feature = "guest")]
mod nested;
mod ordering;
mod spinning;
mod stalls;
mod stream_tables;
mod substreams;
mod transaction;
mod unconfirmed;
mod watched_cell;
mod watched_memory;
mod words;
