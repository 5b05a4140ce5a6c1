//! Lets a device write 4 bytes, and checks where they went.

use smmu_driver::smmu_types::{EventKind, Iova, StreamId};

use crate::machine::DmaWriteOutcome;
use crate::run::pages::Reached;
use crate::run::report::RunReport;
use crate::run::rig::Rig;
use crate::run::step_action::StepAction;
use crate::run::stop::Stop;
use crate::scenario::DmaStep;
use crate::transcript::LineKind;

impl StepAction for DmaStep {
    fn run(&self, rig: &mut Rig, _: usize, _: &mut RunReport) -> Result<(), Stop> {
        let address = match (&self.iova, &self.at) {
            (Some(iova), _) => *iova.get_ref(),
            (None, Some(page)) => rig.page(page.get_ref())?.0,
            (None, None) => return Err("a dma without an address".to_owned().into()),
        };
        let device = self.device.get_ref();
        let chosen = self.stream.as_ref().map(|stream| StreamId(*stream.get_ref()));
        let (outcome, reached) = rig.dma(device, chosen, address)?;
        let events = rig.drain_events()?;
        rig.interrupts();
        rig.recorder.note(LineKind::Dma, || match (&reached, outcome) {
            (Reached::Page(page), _) => format!("page {page}"),
            (Reached::Nothing, DmaWriteOutcome::Refused) => "refused".into(),
            (Reached::Nothing, DmaWriteOutcome::Written) => "somewhere unknown".into(),
            (Reached::Damage(what), _) => what.clone(),
        });
        let smmu = rig.device(device)?.smmu();
        let first = rig.device(device)?.streams().next();
        let stream = chosen.or(first).unwrap_or_default();
        let got = || {
            let events: Vec<String> = events.iter().map(|(_, event)| event.to_string()).collect();
            format!("{reached:?}, {outcome:?}, events: [{}]", events.join(", "))
        };
        if let Some(page) = &self.reaches {
            let page = page.get_ref();
            let right = reached == Reached::Page(page.clone())
                && outcome == DmaWriteOutcome::Written
                && events.is_empty();
            return if right {
                Ok(())
            } else {
                Err(format!("the DMA was to reach page {page}, but: {}", got()).into())
            };
        }
        if reached != Reached::Nothing || outcome != DmaWriteOutcome::Refused {
            return Err(format!("the DMA was to be refused, but: {}", got()).into());
        }
        match &self.faults {
            None if events.is_empty() => Ok(()),
            None => {
                Err(format!("the DMA was to be refused without an event, but: {}", got()).into())
            }
            Some(kind) => {
                let kind = EventKind::from_name(kind.get_ref());
                let right = match &events[..] {
                    [(at, event)] => {
                        *at == usize::from(smmu.0)
                            && Some(event.kind()) == kind
                            && event.stream() == stream
                            && (!event.kind().is_translation_fault()
                                || event.address() == Iova(address))
                    }
                    _ => false,
                };
                let want = kind.map_or(String::new(), |kind| kind.to_string());
                if right {
                    Ok(())
                } else {
                    Err(format!("the DMA was to end in one {want}, but: {}", got()).into())
                }
            }
        }
    }
}
