//! Views of the record of a run, a difference, a trace and a report; and the report of a log.

pub mod diff;
pub mod log;
mod page;
pub mod report;
pub mod trace;
