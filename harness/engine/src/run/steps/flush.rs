//! Invalidates what deferred unmaps have left, and takes their pages back.

use smmu_driver::smmu_types::seam::Wait;

use crate::prelude::*;
use crate::run::command_failure::check_failure;
use crate::run::report::RunReport;
use crate::run::rig::Rig;
use crate::run::settle::{settled, unconfirmed};
use crate::run::step_action::StepAction;
use crate::run::stop::Stop;
use crate::scenario::Flush;
use crate::transcript::LineKind;

impl StepAction for Flush {
    fn run(&self, rig: &mut Rig, _: usize, _: &mut RunReport) -> Result<(), Stop> {
        let clock = rig.machine.clock();
        let start = clock.now();
        let flushed = rig.deferred(self.domain.get_ref())?.flush();
        let flushed = flushed.map(Iterator::collect::<Vec<String>>);
        let waited = clock.now() - start;
        let (outcome, back) = match flushed {
            Ok(back) => (Ok(()), back),
            Err(error) => (Err(error.first), Vec::new()),
        };
        let smmu = outcome.map_or_else(|error| usize::from(error.smmu().0), |()| 0);
        let name = rig.smmu_name(smmu).to_owned();
        check_failure(rig, &name, outcome, self.fails, waited)?;
        if self.fails.is_some() {
            return unconfirmed(rig);
        }
        let wanted: Vec<&str> = self.hands_back.iter().map(|p| p.get_ref().as_str()).collect();
        if back != wanted {
            let expected = format!("the flush hands back {}", wanted.join(", "));
            return Err(Stop::unmet(expected, format!("it hands back {}", back.join(", "))));
        }
        rig.recorder.note(LineKind::Check, || format!("handed back: page {}", back.join(", ")));
        settled(rig)
    }
}
