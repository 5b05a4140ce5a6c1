//! Lets a device fault more often than the event queue has room.

use crate::machine::DmaSource;
use crate::prelude::*;
use smmu_driver::smmu_types::{EventKind, EventRecord, Iova};

use crate::run::device_write::Ended;
use crate::run::pages::Reached;
use crate::run::report::RunReport;
use crate::run::rig::{Rig, TakenEvents};
use crate::run::step_action::StepAction;
use crate::run::stop::Stop;
use crate::scenario::{DmaDirection, FloodStep};
use crate::transcript::LineKind;

impl StepAction for FloodStep {
    fn run(&self, rig: &mut Rig, _: usize, _: &mut RunReport) -> Result<(), Stop> {
        let device = self.device.get_ref();
        for iova in self.addresses() {
            let (ended, reached) =
                rig.dma(device, None, DmaSource::default(), iova, DmaDirection::Write)?;
            if (ended, &reached) != (Ended::Refused, &Reached::Nothing) {
                let happened = format!("it did not refuse the one to {iova:#x}");
                return Err(Stop::unmet("the SMMU refuses every write", happened));
            }
        }
        let smmu = usize::from(rig.device(device)?.smmu().0);
        let stream = rig.device(device)?.streams().next();
        let TakenEvents { events, overflowed, .. } = rig.take_events()?;
        rig.interrupts();
        let wanted = *self.events.get_ref() as usize;
        // A full queue keeps the oldest records (IHI 0070, 7.2), so the first writes explain them.
        let explains = |iova: u64, event: &EventRecord| {
            event.kind() == EventKind::F_TRANSLATION
                && Some(event.stream()) == stream
                && event.address() == Iova(iova)
                && !event.is_read()
        };
        for ((at, event), iova) in events.iter().zip(self.addresses().take(wanted)) {
            if *at != smmu || !explains(iova, event) {
                let expected = format!("the next event is F_TRANSLATION of the write to {iova:#x}");
                return Err(Stop::unmet(expected, format!("the driver finds {event}")));
            }
        }
        // The overflow condition tells of a lost record (7.4): an exactly full queue has none.
        let lost = wanted < *self.writes.get_ref() as usize;
        let expected = said(wanted, lost);
        let found = said(events.len(), overflowed == [smmu]);
        if found != expected || overflowed.iter().any(|other| *other != smmu) {
            let expected = format!("the driver finds {expected}");
            return Err(Stop::unmet(expected, format!("it finds {found}")));
        }
        rig.recorder.note(LineKind::Check, || found);
        Ok(())
    }
}

/// What the driver finds in an event queue, in words.
fn said(events: usize, overflowed: bool) -> String {
    let overflow = if overflowed { "an overflow" } else { "no overflow" };
    format!("{events} events and {overflow}")
}
