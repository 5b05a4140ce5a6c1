//! The record of a run: every row of it with its values under their names. A transcript is a view of
//! it, and so are a trace and a report.

mod complete;
mod document;
#[cfg(feature = "schema")]
mod schema;

pub use complete::complete;
pub use document::{RECORD_SCHEMA, RecordLine, ScenarioRecord, SnapshotRecord, SummaryRecord};
#[cfg(feature = "schema")]
pub use schema::record_schema;

pub use crate::row::{Detail, Facts, Field, Hex, Queue, TagChange, TimeUnit};
pub use crate::transcript::Row;
