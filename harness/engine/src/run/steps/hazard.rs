//! Checks that the model named the missing command.

use crate::machine::HazardReport;
use crate::prelude::*;
use crate::run::report::RunReport;
use crate::run::rig::Rig;
use crate::run::step_action::StepAction;
use crate::run::stop::Stop;
use crate::scenario::HazardStep;

impl StepAction for HazardStep {
    fn run(&self, rig: &mut Rig, n: usize, report: &mut RunReport) -> Result<(), Stop> {
        let missing = self.missing.as_str();
        let Some(insight) = rig.machine.insight() else {
            report.unchecked.push(format!("step {n}: whether the model names {missing}"));
            return Ok(());
        };
        let hazards = insight.take_hazards();
        let named = |hazard: &HazardReport| {
            // Whole words: `asid=1` is not the beginning of `asid=10`.
            let rest = hazard.missing.as_ref().and_then(|command| command.strip_prefix(missing));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
        };
        if hazards.is_empty() || !hazards.iter().all(named) {
            let got: Vec<String> = hazards.iter().map(|hazard| rig.named(&hazard.text)).collect();
            let got = match got.as_slice() {
                [] => "it reported no hazard".to_owned(),
                some => format!("it reported: {}", some.join("; ")),
            };
            return Err(Stop::unmet(format!("the model names the missing {missing}"), got));
        }
        for hazard in &hazards {
            rig.record_hazard(hazard);
        }
        report
            .notes
            .extend(hazards.iter().map(|hazard| format!("step {n}: {}", rig.named(&hazard.text))));
        Ok(())
    }
}
