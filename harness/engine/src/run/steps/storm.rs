//! Lets a device fault again and again, and counts what the driver reports.

use smmu_driver::smmu_types::{EventKind, Iova};

use crate::machine::DmaSource;
use crate::run::device_write::Ended;
use crate::run::pages::Reached;
use crate::run::report::RunReport;
use crate::run::rig::Rig;
use crate::run::step_action::StepAction;
use crate::run::stop::Stop;
use crate::scenario::{DmaDirection, StormStep};
use crate::transcript::LineKind;

impl StepAction for StormStep {
    fn run(&self, rig: &mut Rig, _: usize, _: &mut RunReport) -> Result<(), Stop> {
        let (device, iova) = (self.device.get_ref(), *self.iova.get_ref());
        let (mut reported, mut left_out) = (0, 0);
        for _ in 0..*self.writes.get_ref() {
            let (ended, reached) =
                rig.dma(device, None, DmaSource::default(), iova, DmaDirection::Write)?;
            if (ended, &reached) != (Ended::Refused, &Reached::Nothing) {
                return Err(Stop::unmet("the SMMU refuses every write", "it did not refuse one"));
            }
            let taken = rig.take_events()?;
            for (_, event) in &taken.events {
                if event.kind() != EventKind::F_TRANSLATION || event.address() != Iova(iova) {
                    let expected = format!("each event is F_TRANSLATION of {iova:#x}");
                    return Err(Stop::unmet(expected, format!("the driver finds {event}")));
                }
            }
            if !taken.overflowed.is_empty() {
                return Err(Stop::unmet("no event is lost", "an event queue overflowed"));
            }
            reported += taken.events.len();
            left_out += taken.left_out as usize;
        }
        rig.interrupts();
        let wanted = *self.reports.get_ref() as usize;
        let rest = *self.writes.get_ref() as usize - wanted;
        if (reported, left_out) != (wanted, rest) {
            let expected = format!("the driver reports {wanted} events and counts {rest}");
            let happened = format!("it reports {reported} and counts {left_out}");
            return Err(Stop::unmet(expected, happened));
        }
        rig.recorder.note(LineKind::Check, || {
            format!("{reported} events are reported, and {left_out} counted")
        });
        Ok(())
    }
}
