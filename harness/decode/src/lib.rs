//! From the words that an SMMU left somewhere to what they mean.
//!
//! [`Scanner`](formats::Scanner) finds structures in logs, dumps and plain words; [`reports`](report::reports) splits each into
//! its fields, with what it means and what to check next. The tables of fields are those of
//! [`smmu_types::fields`]; nothing here knows a bit of its own. [`explain()`](explain::explain) says why an SMMU would refuse a configuration.
#![forbid(unsafe_code)]

pub mod advice;
pub mod explain;
pub mod formats;
pub mod ids;
pub mod kind;
mod pointers;
pub mod report;
pub mod words;
