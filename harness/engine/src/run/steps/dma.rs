//! Lets a device write 4 bytes, and checks where they went.

use smmu_driver::smmu_types::{EventKind, EventRecord, Iova, StreamId};

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
            (Reached::Page(page), _) => rig.described(page),
            (Reached::Nothing, DmaWriteOutcome::Refused) => "refused".into(),
            (Reached::Nothing, DmaWriteOutcome::Written) => "somewhere unknown".into(),
            (Reached::Damage(what), _) => what.clone(),
        });
        let smmu = rig.device(device)?.smmu();
        let first = rig.device(device)?.streams().next();
        let stream = chosen.or(first).unwrap_or_default();
        let got = || happened(rig, &reached, outcome, events.iter().map(|(_, event)| event));
        let wrong = |expected: String| Err(Stop::unmet(expected, got()));
        if let Some(page) = &self.reaches {
            let page = page.get_ref();
            let right = reached == Reached::Page(page.clone())
                && outcome == DmaWriteOutcome::Written
                && events.is_empty();
            return if right {
                Ok(())
            } else {
                wrong(format!("the write reaches {}", rig.described(page)))
            };
        }
        let refused = reached == Reached::Nothing && outcome == DmaWriteOutcome::Refused;
        let Some(kind) = &self.faults else {
            return if refused && events.is_empty() {
                Ok(())
            } else {
                wrong("the SMMU refuses the write without an event".into())
            };
        };
        let kind = EventKind::from_name(kind.get_ref());
        let right = match &events[..] {
            [(at, event)] => {
                *at == usize::from(smmu.0)
                    && Some(event.kind()) == kind
                    && event.stream() == stream
                    && (!event.kind().is_translation_fault() || event.address() == Iova(address))
            }
            _ => false,
        };
        if refused && right {
            return Ok(());
        }
        let want = kind.map_or(String::new(), |kind| kind.to_string());
        wrong(format!("the SMMU refuses the write with one {want}"))
    }
}

/// What became of a DMA, in words.
fn happened<'e>(
    rig: &Rig,
    reached: &Reached,
    outcome: DmaWriteOutcome,
    events: impl Iterator<Item = &'e EventRecord>,
) -> String {
    let end = match (reached, outcome) {
        (Reached::Page(page), DmaWriteOutcome::Written) => {
            format!("it reached {}", rig.described(page))
        }
        (Reached::Page(page), DmaWriteOutcome::Refused) => {
            format!("it reached {}, although the SMMU refused it", rig.described(page))
        }
        (Reached::Nothing, DmaWriteOutcome::Refused) => "the SMMU refused it".to_owned(),
        (Reached::Nothing, DmaWriteOutcome::Written) => {
            "it was carried out, and reached no page".to_owned()
        }
        (Reached::Damage(what), _) => format!("it damaged memory: {what}"),
    };
    let events: Vec<String> = events.map(ToString::to_string).collect();
    match events.as_slice() {
        [] => format!("{end}, without an event"),
        events => format!("{end}, with {}", events.join(" and ")),
    }
}
