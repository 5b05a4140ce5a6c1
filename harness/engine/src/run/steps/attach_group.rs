//! Attaches several devices in one transaction, and checks how that ends.

use crate::prelude::*;
use crate::run::committed::committed;
use crate::run::report::RunReport;
use crate::run::rig::Rig;
use crate::run::settle::settled;
use crate::run::step_action::StepAction;
use crate::run::steps::attach::{failure, kind};
use crate::run::stop::Stop;
use crate::scenario::AttachGroup;
use crate::transcript::LineKind;

impl StepAction for AttachGroup {
    fn run(&self, rig: &mut Rig, _: usize, _: &mut RunReport) -> Result<(), Stop> {
        let names = || self.devices.iter().map(|device| device.get_ref());
        let before = names().map(|name| rig.fingerprint(name)).collect::<Result<Vec<_>, _>>()?;
        let result = rig.attach_group(&self.devices, self.substream(), self.to.get_ref())?;
        match (result, self.fails) {
            (Ok(outcome), None) => {
                committed(rig, outcome)?;
                rig.record_arrays();
            }
            (Err(error), Some(want)) if kind(&error) == Some(want) => {
                rig.recorder.note(LineKind::Error, || rig.named_domains(&error.to_string()));
                for (name, before) in names().zip(before) {
                    if let Some((what, was, is)) = before.difference(&rig.fingerprint(name)?) {
                        let expected = format!("{what} stays {was}, because the group was refused");
                        return Err(Stop::unmet(expected, format!("it is {is}")));
                    }
                }
            }
            (Err(error), Some(want)) => {
                return Err(Stop::unmet(failure(want), format!("it failed otherwise: {error}")));
            }
            (Err(error), None) => return Err(error.into()),
            (Ok(_), Some(want)) => return Err(Stop::unmet(failure(want), "it did not")),
        }
        settled(rig)
    }
}
