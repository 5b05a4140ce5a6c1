//! What must hold after each step of the driver, and at the end.

use super::rig::Rig;
use super::stop::Stop;
use crate::machine::HazardReport;

/// Only a DMA explains an event, and the DMA step takes its own.
fn no_event(rig: &mut Rig) -> Result<(), Stop> {
    let events = rig.drain_events()?;
    rig.interrupts();
    if let Some((smmu, event)) = events.first() {
        return Err(format!(
            "{} recorded an event that no DMA explains: {event}",
            rig.smmu_name(*smmu)
        )
        .into());
    }
    Ok(())
}

/// After a step of the driver: no event came, and devices reach nothing through stale cached
/// entries.
pub(super) fn settled(rig: &mut Rig) -> Result<(), Stop> {
    no_event(rig)?;
    let freed = rig.observer().take_freed();
    let Some(insight) = rig.machine.insight() else { return Ok(()) };
    let mut hazards = insight.take_hazards();
    hazards.extend(insight.audit());
    if let Some(HazardReport { text, .. }) = hazards.first() {
        return Err(format!("the model reports a hazard: {}", rig.named(text)).into());
    }
    for (smmu, tag) in freed {
        let lines = insight.lines_with_tag(usize::from(smmu.0), tag);
        if lines > 0 {
            return Err(format!(
                "{tag} of {} was freed, but {lines} cached lines carry it; missing: {}",
                rig.smmu_name(usize::from(smmu.0)),
                tag.flush_command()
            )
            .into());
        }
    }
    Ok(())
}

/// After a step of the driver that an SMMU has not confirmed: devices may still reach what the
/// driver took away, so the driver must have freed none of it.
pub(super) fn unconfirmed(rig: &mut Rig) -> Result<(), Stop> {
    no_event(rig)?;
    if let Some((smmu, tag)) = rig.observer().take_freed().first() {
        let name = rig.smmu_name(usize::from(smmu.0));
        return Err(format!("{tag} of {name} was freed, but nothing was confirmed").into());
    }
    // No DMA came in between, so this is about registers.
    match rig.machine.insight().map(|insight| insight.take_hazards()).unwrap_or_default().first() {
        Some(hazard) => {
            Err(format!("the model reports a hazard: {}", rig.named(&hazard.text)).into())
        }
        None => Ok(()),
    }
}

/// At the end of a scenario: every hazard was expected by a step.
pub(super) fn finish(rig: &Rig) -> Result<(), Stop> {
    let Some(insight) = rig.machine.insight() else { return Ok(()) };
    match insight.take_hazards().first() {
        Some(hazard) => {
            Err(format!("a hazard that no step expects: {}", rig.named(&hazard.text)).into())
        }
        None => Ok(()),
    }
}
