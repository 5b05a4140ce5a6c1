//! The promises of an attach, on fakes of every seam.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;
mod ordering;
mod transaction;
mod unconfirmed;
