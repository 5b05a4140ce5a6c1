//! Views of the record of a run: a difference, a trace, and a report.

pub mod diff;
pub mod report;
pub mod trace;
