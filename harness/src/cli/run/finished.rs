//! A scenario that has run, with all that is printed about it.

use std::time::Duration;

use smmu_engine::run::RunReport;

use super::own_snapshot::Compared;

/// A scenario that has run.
#[derive(Debug)]
pub(super) struct Finished<'a> {
    pub(super) report: &'a RunReport,
    pub(super) title: &'a str,
    pub(super) compared: Compared,
    pub(super) took: Duration,
    pub(super) named: bool,
}
