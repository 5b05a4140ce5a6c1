//! A guest writes an STE, and sends `CFGI_STE`.

use smmu_driver::smmu_types::{ShareabilityOverride, Ste};

use crate::run::report::RunReport;
use crate::run::rig::Rig;
use crate::run::settle::settled;
use crate::run::step_action::StepAction;
use crate::run::stop::Stop;
use crate::scenario::GuestAttach;
use crate::transcript::LineKind;

impl StepAction for GuestAttach {
    fn run(&self, rig: &mut Rig, _: usize, _: &mut RunReport) -> Result<(), Stop> {
        let device = self.device.get_ref();
        let ste = match (&self.ste, self.to.as_ref().map(|to| to.get_ref().as_str())) {
            (Some(ste), _) => Ste(*ste.get_ref()),
            (None, Some("bypass")) => Ste::bypass(ShareabilityOverride::NonShareable),
            (None, Some("blocked") | None) => Ste::ABORT,
            (None, Some(table)) => rig.guest_table(table)?.ste,
        };
        let refusal = rig.write_guest_ste(device, ste)?;
        match (refusal, &self.refused) {
            (None, None) => {}
            (Some(refusal), Some(wanted)) if refusal.starts_with(wanted) => {
                rig.recorder.note(LineKind::Error, || refusal);
            }
            (None, Some(wanted)) => {
                return Err(Stop::unmet(
                    format!("the host refuses the STE: {wanted}"),
                    "it did not",
                ));
            }
            (Some(refusal), Some(wanted)) => {
                return Err(Stop::unmet(format!("the host refuses the STE: {wanted}"), refusal));
            }
            (Some(refusal), None) => return Err(Stop::failed(refusal)),
        }
        rig.record_arrays();
        settled(rig)
    }
}
