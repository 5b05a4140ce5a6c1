//! What a scenario checks of the driver and of the model.

use smmu_driver::smmu_types::SmmuId;

use super::queues;
use crate::engine::rig::Rig;
use crate::engine::run::{Report, Stop};
use crate::engine::transcript::Kind;
use crate::machine::HazardReport;
use crate::scenario::{CommandsExpected, Expect};

pub(super) fn expect(rig: &Rig, n: usize, spec: &Expect, report: &mut Report) -> Result<(), Stop> {
    let smmu_name = spec.smmu.get_ref();
    let index = rig.smmu_index(smmu_name)?;
    let id = SmmuId(index as u16);
    let mut checks: Vec<(String, String, String)> = Vec::new();
    if let Some(domain) = &spec.domain {
        let name = domain.get_ref();
        let domain = rig.domain(name)?;
        if let Some(want) = &spec.tag {
            let tag = domain.tag_on(id).map_or("none".to_owned(), |tag| tag.to_string());
            checks.push((format!("the tag of {name}"), want.clone(), tag));
        }
        if let Some(want) = spec.users {
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
        ("ASIDs in use", spec.asids_in_use, smmu.asids().stats()),
        ("VMIDs in use", spec.vmids_in_use, smmu.vmids().stats()),
    ];
    for (what, want, stats) in stats {
        if let Some(want) = want {
            checks.push((what.to_owned(), want.to_string(), stats.in_use.to_string()));
            let lost = stats.quarantined + stats.fresh + stats.retiring;
            if lost > 0 {
                return Err(format!(
                    "{lost} tags of {smmu_name} are neither free nor in use: {stats:?}"
                )
                .into());
            }
        }
    }
    for (what, want, got) in checks {
        if want != got {
            return Err(format!("{what} on {smmu_name} was to be {want}, but it is {got}").into());
        }
        rig.recorder.about(Kind::Check, smmu_name, || format!("{what}: {got}"));
    }
    if let Some(want) = spec.consumer_reads {
        queues::consumer_reads(rig, smmu_name, want)?;
    }
    match spec.commands {
        Some(CommandsExpected::InOrder) => queues::in_order(rig, n, smmu_name, report),
        None => Ok(()),
    }
}

pub(super) fn hazard(rig: &Rig, n: usize, missing: &str, report: &mut Report) -> Result<(), Stop> {
    let Some(insight) = rig.machine.insight() else {
        report.unchecked.push(format!("step {n}: whether the model names {missing}"));
        return Ok(());
    };
    let hazards = insight.take_hazards();
    let named = |hazard: &HazardReport| {
        // Whole words: `asid=1` is not the beginning of `asid=10`.
        let rest = hazard.missing.as_ref().and_then(|command| command.strip_prefix(missing));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
    };
    if hazards.is_empty() || !hazards.iter().all(named) {
        let got: Vec<String> = hazards.iter().map(|hazard| rig.named(&hazard.text)).collect();
        return Err(format!("the model was to name {missing}, but: [{}]", got.join("; ")).into());
    }
    report
        .notes
        .extend(hazards.iter().map(|hazard| format!("step {n}: {}", rig.named(&hazard.text))));
    Ok(())
}
