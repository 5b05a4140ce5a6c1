//! Asks the devices of a domain which of them do not answer.

use smmu_driver::smmu_types::SmmuId;

use crate::prelude::*;
use crate::run::report::RunReport;
use crate::run::rig::Rig;
use crate::run::step_action::StepAction;
use crate::run::stop::Stop;
use crate::scenario::FindUnanswering;
use crate::transcript::LineKind;

impl StepAction for FindUnanswering {
    fn run(&self, rig: &mut Rig, _: usize, _: &mut RunReport) -> Result<(), Stop> {
        let index = rig.smmu_index(self.smmu.get_ref())?;
        let domain = rig.domain(self.domain.get_ref())?;
        let mut found = Vec::new();
        rig.smmu(index)?.find_unanswering(domain, |device, _| {
            found.extend(rig.device_name(SmmuId(index as u16), device.streams().next()));
        });
        let wanted: Vec<&str> = self.finds.iter().map(|name| name.get_ref().as_str()).collect();
        if found != wanted {
            let list = |names: &[&str]| match names {
                [] => "no device".to_owned(),
                names => names.join(", "),
            };
            let found: Vec<&str> = found.iter().map(String::as_str).collect();
            let expected = format!("these do not answer: {}", list(&wanted));
            return Err(Stop::unmet(expected, format!("these do not: {}", list(&found))));
        }
        rig.recorder.note(LineKind::Check, || format!("no answer from: {}", found.join(", ")));
        Ok(())
    }
}
