//! Decodes the words that an SMMU left in a log or a dump, and says what to check next.
//!
//! The path of a log line:
//!
//! 1. [`Scanner::line`] tries the log formats in turn, and returns each [`ScanItem`] when it is
//!    complete.
//! 2. [`ScanItem::Found`] holds [`FoundWords`]: the kind of a structure, its words, and its lines.
//! 3. [`reports`] splits the words into fields, by the tables of [`smmu_types::fields`].
//! 4. A [`StructureReport`] holds the fields, and the [`Advice`]: what it means and what to check
//!    next.
//!
//! ```
//! use smmu_decode::{DecodeContext, ScanItem, Scanner, reports};
//!
//! let line = b"arm-smmu-v3 arm-smmu-v3.0.auto: CMDQ error (cons 0x01000004): Illegal command";
//! let mut scanner = Scanner::default();
//! let mut items = scanner.line(1, line);
//! items.extend(scanner.finish());
//!
//! let Some(ScanItem::Found(found)) = items.first() else { panic!("the line has a register") };
//! let report = &reports(found, &DecodeContext::default())[0];
//! assert_eq!(report.name, "CMDQ_CONS");
//! assert!(report.rows.iter().any(|row| row.name == "ERR" && row.value == 1));
//! ```
//!
//! [`DecodeContext`] holds what else is known: the ID registers, and the latest STE and CD.
//! [`explain()`](explain::explain) says why an SMMU would refuse a configuration.
#![forbid(unsafe_code)]

mod advice;
mod block;
mod context;
pub mod explain;
mod formats;
pub mod ids;
mod interpret;
mod item;
mod judge;
mod kind;
mod line;
mod nearest;
mod partial;
mod queue_pointers;
mod report;
mod resolver;
mod scanner;
mod storm;
pub mod structures;
mod text;
mod time;
pub mod words;

pub use advice::Advice;
pub use context::DecodeContext;
pub use ids::KnownIds;
pub use interpret::reports;
pub use item::{FoundWords, LogSays, NoteSays, ScanError, ScanItem};
pub use judge::NotJudged;
pub use kind::{KindError, StructureKind};
pub use line::LogLine;
pub use report::{BitView, FieldRow, RowChoice, StructureReport, TextView};
pub use resolver::{NoResolver, StreamResolver, requester};
pub use scanner::Scanner;
pub use smmu_types;
pub use storm::{Occurrence, StormRow, StormTable};
pub use time::{LogClock, LogTime};
pub use words::{InputPlace, Word, WordError, WordWidth};

/// The example of the README compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct DecodeReadme;
