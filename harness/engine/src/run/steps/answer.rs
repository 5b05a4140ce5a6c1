//! Answers the oldest fault of a device, and checks what becomes of it.

use smmu_driver::smmu_attach::faults::Answered;
use smmu_driver::smmu_types::PriResponse;

use crate::machine::DmaWriteOutcome;
use crate::prelude::*;
use crate::row::Facts;
use crate::run::device_write::Ended;
use crate::run::held_fault::HeldFault;
use crate::run::pages::Reached;
use crate::run::report::RunReport;
use crate::run::rig::Rig;
use crate::run::step_action::StepAction;
use crate::run::stop::Stop;
use crate::scenario::{AnswerStep, AnswerWith, DmaDirection};
use crate::transcript::LineKind;

impl StepAction for AnswerStep {
    fn run(&self, rig: &mut Rig, _: usize, _: &mut RunReport) -> Result<(), Stop> {
        let name = self.device.get_ref();
        let smmu = usize::from(rig.device(name)?.smmu().0);
        let with = *self.with.get_ref();
        let Some(fault) = rig.take_fault(name, self.substream())? else {
            return Err(Stop::unmet("a fault of the device waits", "none does"));
        };
        let write = match &fault {
            HeldFault::Stall(stall) => rig.take_stalled_write(name, stall)?,
            HeldFault::Group(_) => None,
        };
        if let Some(write) = &write {
            rig.pages.expect(write);
        }
        let group = match &fault {
            HeldFault::Stall(_) => None,
            HeldFault::Group(group) => Some(group.record().group()),
        };
        let answered = fault.answer(with).ok_or_else(|| {
            Stop::unmet("the fault can be answered so", "it is of the other kind")
        })?;
        rig.consume(smmu)?;
        match (answered, self.withdrawn) {
            // A handler that drops a fault hears nothing. The model notices a second answer.
            (_, true) if with == AnswerWith::Drop => return Ok(()),
            (Answered::Kept(error), _) => return Err(error.into()),
            (Answered::Withdrawn, true) => {
                rig.recorder.note(LineKind::Check, || "it was answered before".into());
                return Ok(());
            }
            (Answered::Withdrawn, false) => {
                let happened = "it says that the fault was answered before";
                return Err(Stop::unmet("the driver sends the answer", happened));
            }
            (Answered::Sent, true) => {
                let expected = "the driver sends nothing, because it has answered before";
                return Err(Stop::unmet(expected, "it sends a second answer"));
            }
            (Answered::Sent, false) => {}
        }
        if let Some(group) = group {
            let answers = rig.machine.take_page_answers(smmu)?;
            let want = match with {
                AnswerWith::Success => PriResponse::Success,
                AnswerWith::Failure => PriResponse::Failure,
                _ => PriResponse::Invalid,
            };
            let right = matches!(&answers[..], [answer]
                if answer.group == group && answer.response == want && !answer.automatic);
            if !right {
                let expected = format!("{name} gets {want} for group {group}");
                return Err(Stop::unmet(expected, format!("it gets {} answers", answers.len())));
            }
            rig.recorder.note(LineKind::Check, || format!("{name} gets {want} for group {group}"));
            return Ok(());
        }
        let index = rig.device_index(name)?;
        let events = rig.drain_events()?;
        rig.interrupts();
        let Some(write) = write else {
            return Err("no write of the device stalls".to_owned().into());
        };
        let reached = rig.pages.reached(&write);
        let ended = rig.machine.ended_write(index)?;
        let as_seen = match ended {
            Some(DmaWriteOutcome::Refused) => Ended::Refused,
            Some(DmaWriteOutcome::Written) => Ended::CarriedOut,
            Some(DmaWriteOutcome::Stalled) | None => Ended::Stalled,
        };
        let facts = || Facts {
            smmu: Some(rig.smmu_name(smmu).to_owned()),
            device: Some(name.clone()),
            iova: Some(write.iova()),
            detail: Some(as_seen.detail(DmaDirection::Write.name(), &reached)),
            ..Facts::default()
        };
        rig.recorder.typed(LineKind::Dma, None, &[], facts, || match (&reached, ended) {
            (Reached::Page(page), _) => rig.described(page),
            (_, Some(DmaWriteOutcome::Refused)) => "refused".into(),
            (_, None) => "stalled".into(),
            _ => "somewhere unknown".into(),
        });
        let right = match &self.reaches {
            Some(page) => {
                reached == Reached::Page(page.get_ref().clone())
                    && ended == Some(DmaWriteOutcome::Written)
                    && events.is_empty()
            }
            None if self.stalls => {
                reached == Reached::Nothing && ended.is_none() && events.len() == 1
            }
            None => {
                reached == Reached::Nothing
                    && ended == Some(DmaWriteOutcome::Refused)
                    && events.is_empty()
            }
        };
        if ended.is_none() {
            rig.hold_stalled_write(name, write);
        }
        if right {
            return Ok(());
        }
        let expected = match &self.reaches {
            Some(page) => format!("the write reaches {}", rig.described(page.get_ref())),
            None if self.stalls => "the write stalls again".into(),
            None => "the write ends and reaches nothing".into(),
        };
        let happened = match ended {
            None => "it stalls".to_owned(),
            Some(ended) => format!("it ends: {ended:?}, {} events", events.len()),
        };
        Err(Stop::unmet(expected, happened))
    }
}
