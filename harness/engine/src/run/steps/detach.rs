//! Blocks a device, and checks that the driver answers what the device waits for.

use crate::machine::DmaWriteOutcome;
use crate::prelude::*;
use crate::row::Facts;
use crate::run::committed::committed;
use crate::run::device_write::Ended;
use crate::run::pages::Reached;
use crate::run::report::RunReport;
use crate::run::rig::Rig;
use crate::run::settle::settled;
use crate::run::step_action::StepAction;
use crate::run::stop::Stop;
use crate::scenario::{DetachStep, DmaDirection};
use crate::transcript::LineKind;

impl StepAction for DetachStep {
    fn run(&self, rig: &mut Rig, _: usize, _: &mut RunReport) -> Result<(), Stop> {
        let name = self.device.get_ref();
        let smmu = usize::from(rig.device(name)?.smmu().0);
        let substream = self.substream();
        let outcome = rig.attach(name, substream, "blocked")??;
        committed(rig, outcome)?;
        let answered = rig.withdraw(name, substream)?;
        rig.consume(smmu)?;
        let wanted = *self.withdrawn.get_ref();
        if answered != wanted {
            let expected = format!("{wanted} faults of {name} are withdrawn");
            return Err(Stop::unmet(expected, format!("{answered} are")));
        }
        let index = rig.device_index(name)?;
        for write in rig.take_stalled_writes(name, substream) {
            match rig.machine.ended_write(index)? {
                Some(DmaWriteOutcome::Refused) => {
                    let facts = || Facts {
                        smmu: Some(rig.smmu_name(smmu).to_owned()),
                        device: Some(name.clone()),
                        iova: Some(write.iova()),
                        detail: Some(
                            Ended::Refused.detail(DmaDirection::Write.name(), &Reached::Nothing),
                        ),
                        ..Facts::default()
                    };
                    rig.recorder.typed(LineKind::Dma, None, &[], facts, || "refused".into());
                }
                other => {
                    let expected = "each stalled write ends and reaches nothing";
                    return Err(Stop::unmet(expected, format!("one ends so: {other:?}")));
                }
            }
        }
        for answer in rig.machine.take_page_answers(smmu)? {
            rig.recorder.note(LineKind::Check, || {
                format!("{name} gets {} for group {}", answer.response, answer.group)
            });
        }
        settled(rig)
    }
}
