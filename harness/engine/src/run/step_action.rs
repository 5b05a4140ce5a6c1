//! What every kind of step does on a machine.

use super::report::RunReport;
use super::rig::Rig;
use super::stop::Stop;

/// One kind of step, carried out.
pub(crate) trait StepAction {
    /// Carries out the step, which has number `n`.
    ///
    /// `report` takes what this backend alone can tell, and what it cannot check.
    fn run(&self, rig: &mut Rig, n: usize, report: &mut RunReport) -> Result<(), Stop>;
}
