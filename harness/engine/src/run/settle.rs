//! What must hold after each step of the driver, and at the end.

use smmu_driver::smmu_types::{CacheTag, SmmuId};

use super::memory::{memory_is_as_told, note_unconfirmed};
use super::rig::Rig;
use super::stop::{Cause, Stop};
use crate::machine::{HazardPlace, HazardReport};
use crate::prelude::*;

/// The model has found something wrong.
const STALE: &str = "the model reports a hazard";

/// More than this hide the first.
const MOST_HAZARDS: usize = 4;

/// Hazards in which pages and root tables have their names.
fn named(rig: &Rig, hazards: Vec<HazardReport>) -> Vec<HazardReport> {
    let mut named: Vec<HazardReport> = Vec::new();
    for found in hazards {
        let hazard = HazardReport { text: rig.named(&found.text), ..found };
        if named.len() < MOST_HAZARDS && !named.contains(&hazard) {
            named.push(hazard);
        }
    }
    named
}

/// A failure with what the model sees at that moment.
pub(super) fn with_hazards(rig: &Rig, stop: Stop) -> Stop {
    let more = || {
        let insight = rig.machine.insight()?;
        let mut hazards = insight.take_hazards();
        hazards.extend(insight.audit());
        Some(named(rig, hazards))
    };
    match stop {
        Stop::Failed(cause) if cause.hazards.is_empty() => {
            Stop::Failed(Cause { hazards: more().unwrap_or_default(), ..cause })
        }
        other => other,
    }
}

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
    nothing_stale(rig, freed)?;
    memory_is_as_told(rig)
}

/// After callers of the driver that ran at the same time: as [`settled`]. A tag that one caller
/// freed may be another domain's by now.
pub(super) fn settled_beside(rig: &mut Rig) -> Result<(), Stop> {
    no_event(rig)?;
    let mut freed = rig.observer().take_freed();
    freed.retain(|(smmu, tag)| !rig.uses_tag(*smmu, *tag));
    nothing_stale(rig, freed)?;
    memory_is_as_told(rig)
}

fn nothing_stale(rig: &Rig, freed: Vec<(SmmuId, CacheTag)>) -> Result<(), Stop> {
    let Some(insight) = rig.machine.insight() else { return Ok(()) };
    let mut hazards = insight.take_hazards();
    hazards.extend(insight.audit());
    if !hazards.is_empty() {
        return Err(Stop::hazards(STALE, named(rig, hazards)));
    }
    for (smmu, tag) in freed {
        let lines = insight.lines_with_tag(usize::from(smmu.0), tag);
        if lines > 0 {
            let (name, missing) = (rig.smmu_name(usize::from(smmu.0)), tag.flush_command());
            let text = format!("{name}: {lines} cached lines carry {tag}; missing: {missing}");
            let happened = format!("{tag} of {name} was freed while it is cached");
            let place = HazardPlace { smmu: Some(smmu.0.into()), ..HazardPlace::default() };
            let hazard = HazardReport::new(text, Some(missing.to_string())).at(place);
            return Err(Stop::hazards(happened, vec![hazard]));
        }
    }
    Ok(())
}

/// After a step of the driver that an SMMU has not confirmed: devices may still reach what the
/// driver took away, so the driver must have freed none of it.
pub(super) fn unconfirmed(rig: &mut Rig) -> Result<(), Stop> {
    no_event(rig)?;
    note_unconfirmed(rig);
    if let Some((smmu, tag)) = rig.observer().take_freed().first() {
        let name = rig.smmu_name(usize::from(smmu.0));
        return Err(format!("{tag} of {name} was freed, but nothing was confirmed").into());
    }
    // No DMA came in between, so this is about registers.
    match rig.machine.insight().map(|insight| insight.take_hazards()).unwrap_or_default() {
        hazards if hazards.is_empty() => Ok(()),
        hazards => Err(Stop::hazards(STALE, named(rig, hazards))),
    }
}

/// At the end of a scenario: every hazard was expected by a step, and every fault is answered.
pub(super) fn finish(rig: &Rig) -> Result<(), Stop> {
    let Some(insight) = rig.machine.insight() else { return Ok(()) };
    let mut hazards = insight.take_hazards();
    hazards.extend(insight.unanswered());
    match hazards {
        hazards if hazards.is_empty() => Ok(()),
        hazards => {
            let happened = "the scenario ended with a hazard that no step expects";
            Err(Stop::hazards(happened, named(rig, hazards)))
        }
    }
}
