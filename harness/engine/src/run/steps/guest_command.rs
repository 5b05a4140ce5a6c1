//! A guest sends commands to its virtual SMMU.

use smmu_driver::smmu_types::Command;

use super::command::typed;
use crate::prelude::*;
use crate::run::report::RunReport;
use crate::run::rig::Rig;
use crate::run::step_action::StepAction;
use crate::run::stop::Stop;
use crate::scenario::GuestCommand;
use crate::transcript::LineKind;

impl StepAction for GuestCommand {
    fn run(&self, rig: &mut Rig, _: usize, _: &mut RunReport) -> Result<(), Stop> {
        let name = self.guest.get_ref();
        let smmu = rig.guest(name)?.to.smmu();
        // The guest names its devices by its own StreamIDs.
        let commands: Vec<Command> = self
            .send
            .iter()
            .map(|spec| Ok(rig.as_guest(name, typed(rig, smmu, spec)?)))
            .chain([Ok(Command::SYNC)])
            .collect::<Result<_, Stop>>()?;
        let refused = rig.run_guest_commands(name, &commands)?;
        match (refused, self.stops_at.as_ref().map(|at| *at.get_ref() as usize)) {
            (None, None) => Ok(()),
            (Some((at, text)), Some(wanted)) if at == wanted => {
                rig.recorder.note(LineKind::Error, || text);
                Ok(())
            }
            (None, Some(wanted)) => {
                let expected = format!("the host refuses command {wanted}");
                Err(Stop::unmet(expected, "it carried out all"))
            }
            (Some((_, text)), _) => Err(Stop::failed(text)),
        }
    }
}
