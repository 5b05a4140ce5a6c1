//! The values of a row of a record. The types are always there; a run fills them in with the feature
//! `record` alone.

mod detail;
mod hex;

pub use detail::{Detail, Facts, Field, Queue, TagChange, TimeUnit};
pub use hex::Hex;
