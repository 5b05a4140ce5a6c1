//! Lets a device ask for a page, and the driver look at its PRI queue.

use smmu_driver::smmu_types::{Iova, PrgIndex, PriRecord, PriResponse, RequestedAccess};

use crate::prelude::*;
use crate::run::report::RunReport;
use crate::run::rig::Rig;
use crate::run::step_action::StepAction;
use crate::run::stop::Stop;
use crate::scenario::{GroupAnswer, PageRequestStep};
use crate::transcript::LineKind;

impl StepAction for PageRequestStep {
    fn run(&self, rig: &mut Rig, _: usize, _: &mut RunReport) -> Result<(), Stop> {
        let device = rig.device(self.device.get_ref())?.clone();
        let smmu = usize::from(device.smmu().0);
        let stream = device.streams().next().unwrap_or_default();
        let group = PrgIndex::new(*self.group.get_ref()).unwrap_or_default();
        let access = RequestedAccess { write: true, ..RequestedAccess::default() };
        let record = PriRecord::new(stream, group, Iova(*self.iova.get_ref()), access);
        let record = record.map_err(Stop::failed)?;
        let record = if self.more { record } else { record.with_last() };
        rig.machine.page_request(smmu, record)?;
        if self.off {
            let found = rig.take_requests(smmu)?.len();
            if found > 0 {
                let expected = "a device whose page requests are off sends none".to_owned();
                return Err(Stop::unmet(expected, format!("the driver finds {found} requests")));
            }
            let device = self.device.get_ref();
            rig.recorder.note(LineKind::Check, || format!("{device} sends no request"));
        } else if !self.unread {
            let found = rig.take_requests(smmu)?;
            if !found.contains(&record) {
                let expected = format!("the driver finds {record}");
                return Err(Stop::unmet(expected, format!("it finds {} requests", found.len())));
            }
        }
        rig.interrupts();
        let answers = rig.machine.take_page_answers(smmu)?;
        let wanted = self.answered.as_ref().map(|answer| response(*answer.get_ref()));
        let mut heard = answers.iter().map(|answer| {
            (answer.stream, answer.group, answer.automatic.then_some(answer.response))
        });
        let right = match wanted {
            None => answers.is_empty(),
            Some(wanted) => {
                heard.next() == Some((stream, group, Some(wanted))) && heard.next().is_none()
            }
        };
        match (right, wanted) {
            (true, None) => Ok(()),
            (true, Some(wanted)) => {
                let smmu = rig.smmu_name(smmu).to_owned();
                rig.recorder.note(LineKind::Check, || {
                    format!("{smmu} answers group {group} with {wanted} by itself")
                });
                Ok(())
            }
            (false, wanted) => {
                let expected = wanted.map_or_else(
                    || "the SMMU answers nothing by itself".to_owned(),
                    |wanted| format!("the SMMU answers the group with {wanted} by itself"),
                );
                Err(Stop::unmet(expected, format!("the device gets {} answers", answers.len())))
            }
        }
    }
}

const fn response(answer: GroupAnswer) -> PriResponse {
    match answer {
        GroupAnswer::Success => PriResponse::Success,
        GroupAnswer::Invalid => PriResponse::Invalid,
        GroupAnswer::Failure => PriResponse::Failure,
    }
}
