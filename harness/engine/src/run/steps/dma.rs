//! Lets a device write or read 4 bytes, and checks where they went or came from.

use smmu_driver::smmu_types::{EventKind, EventRecord, Iova, StreamId, SubstreamId};

use crate::prelude::*;
use crate::row::Facts;
use crate::run::device_write::Ended;
use crate::run::pages::Reached;
use crate::run::report::RunReport;
use crate::run::rig::Rig;
use crate::run::step_action::StepAction;
use crate::run::stop::Stop;
use crate::scenario::{DmaDirection, DmaStep};
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
        let (outcome, reached) =
            rig.dma(device, chosen, self.source(), address, self.direction())?;
        let events = rig.drain_events()?;
        rig.interrupts();
        let at = usize::from(rig.device(device)?.smmu().0);
        let facts = || Facts {
            smmu: Some(rig.smmu_name(at).to_owned()),
            device: Some(device.clone()),
            stream: chosen.or_else(|| rig.device(device).ok()?.streams().next()),
            substream: self.source().substream,
            iova: Some(address),
            detail: Some(outcome.detail(self.direction().name(), &reached)),
            ..Facts::default()
        };
        rig.recorder.typed(LineKind::Dma, None, &[], facts, || match (&reached, outcome) {
            (Reached::Page(page), _) => rig.described(page),
            (Reached::Nothing, Ended::Refused) => "refused".into(),
            (Reached::Nothing, Ended::CarriedOut) => "somewhere unknown".into(),
            (Reached::Nothing, Ended::Stalled) => "stalled".into(),
            (Reached::Damage(what), _) => what.clone(),
        });
        let smmu = rig.device(device)?.smmu();
        let first = rig.device(device)?.streams().next();
        let stream = chosen.or(first).unwrap_or_default();
        let access = self.direction().name();
        let got = || happened(rig, &reached, outcome, events.iter().map(|(_, event)| event));
        let wrong = |expected: String| Err(Stop::unmet(expected, got()));
        if let Some(page) = &self.reaches {
            let page = page.get_ref();
            let right = reached == Reached::Page(page.clone())
                && outcome == Ended::CarriedOut
                && events.is_empty();
            return if right {
                Ok(())
            } else {
                wrong(format!("the {access} reaches {}", rig.described(page)))
            };
        }
        if self.stalls {
            let waits = reached == Reached::Nothing && outcome == Ended::Stalled;
            let told = matches!(&events[..], [(at, event)]
                if *at == usize::from(smmu.0)
                    && event.is_stalled()
                    && event.stream() == stream
                    && names_substream(event, self.source().substream)
                    && event.address() == Iova(address));
            return if waits && told {
                Ok(())
            } else {
                wrong(format!("the {access} stalls, with one event"))
            };
        }
        let refused = reached == Reached::Nothing && outcome == Ended::Refused;
        let Some(kind) = &self.faults else {
            return if refused && events.is_empty() {
                Ok(())
            } else {
                wrong(format!("the SMMU refuses the {access} without an event"))
            };
        };
        let kind = EventKind::from_name(kind.get_ref());
        let right = match &events[..] {
            [(at, event)] => {
                *at == usize::from(smmu.0)
                    && Some(event.kind()) == kind
                    && event.stream() == stream
                    && names_substream(event, self.source().substream)
                    && (!event.kind().is_translation_fault()
                        || event.is_read() == (self.direction() == DmaDirection::Read))
                    && (!event.kind().is_translation_fault() || event.address() == Iova(address))
            }
            _ => false,
        };
        if refused && right {
            return Ok(());
        }
        let want = kind.map_or(String::new(), |kind| kind.to_string());
        wrong(format!("the SMMU refuses the {access} with one {want}"))
    }
}

/// Whether an event tells the SubstreamID of the transaction, as far as events of its kind do.
fn names_substream(event: &EventRecord, sent: Option<SubstreamId>) -> bool {
    match event.kind() {
        EventKind::F_STREAM_DISABLED => event.substream().is_none(),
        _ => event.substream() == sent,
    }
}

/// What became of a DMA, in words.
fn happened<'e>(
    rig: &Rig,
    reached: &Reached,
    outcome: Ended,
    events: impl Iterator<Item = &'e EventRecord>,
) -> String {
    let end = match (reached, outcome) {
        (Reached::Page(page), Ended::CarriedOut) => {
            format!("it reached {}", rig.described(page))
        }
        (Reached::Page(page), Ended::Stalled) => {
            format!("it reached {}, although it stalls", rig.described(page))
        }
        (Reached::Nothing, Ended::Stalled) => "it stalls".to_owned(),
        (Reached::Page(page), Ended::Refused) => {
            format!("it reached {}, although the SMMU refused it", rig.described(page))
        }
        (Reached::Nothing, Ended::Refused) => "the SMMU refused it".to_owned(),
        (Reached::Nothing, Ended::CarriedOut) => {
            "it was carried out, and reached no page".to_owned()
        }
        (Reached::Damage(what), _) => format!("it did what no DMA may do: {what}"),
    };
    let events: Vec<String> = events.map(ToString::to_string).collect();
    match events.as_slice() {
        [] => format!("{end}, without an event"),
        events => format!("{end}, with {}", events.join(" and ")),
    }
}
