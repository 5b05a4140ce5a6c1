//! Attaches many devices, each to the domain of the same number.

use crate::prelude::*;
use crate::run::committed::committed;
use crate::run::report::RunReport;
use crate::run::rig::Rig;
use crate::run::settle::settled;
use crate::run::step_action::StepAction;
use crate::run::stop::Stop;
use crate::scenario::AttachEach;
use crate::transcript::LineKind;

impl StepAction for AttachEach {
    fn run(&self, rig: &mut Rig, _: usize, _: &mut RunReport) -> Result<(), Stop> {
        let from = rig.recorder.len();
        let mut tags = Vec::new();
        for n in 0..*self.count.get_ref() {
            let device = format!("{}{n}", self.devices.get_ref());
            let domain = format!("{}{n}", self.domains.get_ref());
            let done = rig.attach(&device, None, &domain)??;
            committed(rig, done)?;
            let smmu = rig.device(&device)?.smmu();
            tags.extend(rig.domain(&domain)?.tag_on(smmu));
        }
        // The transcript gets the counts instead of hundreds of lines alike.
        let lines = rig.recorder.drop_from(from);
        let commands = lines.iter().filter(|line| line.kind == LineKind::Command).count();
        let count = tags.len();
        if let (Some(first), Some(last)) = (tags.first(), tags.last()) {
            rig.recorder.note(LineKind::Tag, || format!("{count} tags, {first} to {last}"));
        }
        rig.recorder.note(LineKind::Check, || format!("{count} attached with {commands} commands"));
        settled(rig)
    }
}
