//! Checks what the driver says of a domain, of a tag space or of a command queue.

use smmu_driver::smmu_tags::TagStats;
use smmu_driver::smmu_types::{Command, RawCommand, SmmuId};

use crate::prelude::*;
use crate::run::report::RunReport;
use crate::run::rig::Rig;
use crate::run::step_action::StepAction;
use crate::run::stop::Stop;
use crate::scenario::{CommandsExpected, Expect, ReadsExpected};
use crate::transcript::LineKind;

impl StepAction for Expect {
    fn run(&self, rig: &mut Rig, n: usize, report: &mut RunReport) -> Result<(), Stop> {
        let smmu_name = self.smmu.get_ref();
        let index = rig.smmu_index(smmu_name)?;
        let id = SmmuId(index as u16);
        let mut checks: Vec<(String, String, String)> = Vec::new();
        if let Some(domain) = &self.domain {
            let name = domain.get_ref();
            let domain = rig.domain(name)?;
            if let Some(want) = &self.tag {
                let tag = domain.tag_on(id).map_or("none".to_owned(), |tag| tag.to_string());
                checks.push((format!("the tag of {name}"), want.get_ref().clone(), tag));
            }
            if let Some(want) = self.users {
                let users = rig.users(domain, id);
                checks.push((
                    format!("users of the tag of {name}"),
                    want.to_string(),
                    users.to_string(),
                ));
            }
        }
        let smmu = rig.smmu(index)?;
        let stats = [
            ("ASIDs in use", self.asids_in_use, smmu.asids().stats()),
            ("VMIDs in use", self.vmids_in_use, smmu.vmids().stats()),
        ];
        for (what, want, stats) in stats {
            if let Some(want) = want {
                checks.push((what.to_owned(), want.to_string(), stats.in_use.to_string()));
                let lost = stats.quarantined + stats.fresh + stats.retiring;
                if lost > 0 {
                    let TagStats { fresh, retiring, quarantined, .. } = stats;
                    return Err(Stop::unmet(
                        format!("each tag of {smmu_name} is free or in use"),
                        format!(
                            "{fresh} are fresh, {retiring} retire, {quarantined} are quarantined"
                        ),
                    ));
                }
            }
        }
        for (what, want, got) in checks {
            if want != got {
                return Err(Stop::unmet(
                    format!("{what} on {smmu_name} is {want}"),
                    format!("it is {got}"),
                ));
            }
            rig.recorder.about(LineKind::Check, smmu_name, || format!("{what}: {got}"));
        }
        if let Some(want) = &self.sent {
            sent(rig, smmu_name, want.get_ref())?;
        }
        if let Some(want) = self.consumer_reads {
            consumer_reads(rig, smmu_name, want)?;
        }
        match self.commands {
            Some(CommandsExpected::InOrder) => in_order(rig, n, smmu_name, report),
            None => Ok(()),
        }
    }
}

/// Whether the SMMU carried out each command once, as it was shown and in that order.
fn in_order(rig: &Rig, n: usize, name: &str, report: &mut RunReport) -> Result<(), Stop> {
    let Some(insight) = rig.machine.insight() else {
        report
            .unchecked
            .push(format!("step {n}: whether {name} carried out all commands in order"));
        return Ok(());
    };
    let smmu = rig.smmu_index(name)?;
    let ((main, second), [main_done, second_done]) =
        (rig.take_shown(smmu), insight.take_carried_out(smmu));
    compare(n, name, &main, &main_done, report)?;
    match second {
        None => Ok(()),
        Some(second) => compare(n, &format!("{name}/second"), &second, &second_done, report),
    }
}

fn compare(
    n: usize,
    queue: &str,
    shown: &[RawCommand],
    carried_out: &[RawCommand],
    report: &mut RunReport,
) -> Result<(), Stop> {
    if shown == carried_out {
        let count = shown.len();
        report.notes.push(format!("step {n}: {queue} carried out {count} commands in order"));
        return Ok(());
    }
    let at = shown.iter().zip(carried_out).take_while(|(shown, done)| shown == done).count();
    let command = |commands: &[RawCommand]| {
        let command = commands.get(at).map(|raw| Command::decode(*raw).to_string());
        command.unwrap_or_else(|| "nothing".into())
    };
    let (shown, carried_out) = (command(shown), command(carried_out));
    Err(Stop::unmet(
        format!("{queue} carries out command {at}, {shown}"),
        format!("it carried out {carried_out}"),
    ))
}

/// The last step sent these commands, and no other.
fn sent(rig: &Rig, name: &str, want: &[String]) -> Result<(), Stop> {
    let got = rig.recorder.commands_since(rig.step_began, name);
    // Whole words: `asid=1` is not the beginning of `asid=10`.
    let is = |got: &String, want: &String| {
        let rest = got.strip_prefix(want.as_str());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
    };
    if got.len() == want.len() && got.iter().zip(want).all(|(got, want)| is(got, want)) {
        let count = got.len();
        rig.recorder.about(LineKind::Check, name, || format!("commands of the last step: {count}"));
        return Ok(());
    }
    let list = |commands: &[String]| match commands {
        [] => "nothing".to_owned(),
        some => some.join("; "),
    };
    let (want, got) = (list(want), list(&got));
    Err(Stop::unmet(format!("{name} gets {want}"), format!("it got {got}")))
}

/// How often the driver has looked at the registers to learn what its queue has left.
fn consumer_reads(rig: &Rig, name: &str, want: ReadsExpected) -> Result<(), Stop> {
    let reads = rig.take_consumer_reads(rig.smmu_index(name)?);
    let text = match (want, reads) {
        (ReadsExpected::None, 0) => "CMDQ_CONS was not read",
        (ReadsExpected::Some, 1..) => "CMDQ_CONS was read",
        (ReadsExpected::None, _) => {
            return Err(Stop::unmet(
                format!("the driver does not read CMDQ_CONS of {name}"),
                format!("it read it {reads} times"),
            ));
        }
        (ReadsExpected::Some, _) => {
            return Err(Stop::unmet(format!("the driver reads CMDQ_CONS of {name}"), "it did not"));
        }
    };
    rig.recorder.about(LineKind::Check, name, || text.into());
    Ok(())
}
