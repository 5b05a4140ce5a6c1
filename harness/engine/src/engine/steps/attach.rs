//! Attaches, and attaches that are to fail.

use smmu_driver::smmu_attach::{AttachError, Committed};
use smmu_driver::smmu_invs::InvError;
use smmu_driver::smmu_tags::TagError;
use smmu_driver::smmu_types::seam::SinkError;

use crate::engine::pages::Reached;
use crate::engine::rig::Rig;
use crate::engine::run::Stop;
use crate::engine::transcript::Kind;
use crate::scenario::{Attach, AttachEach, AttachFailure, FailEveryAllocation, Watch};

/// More allocations than this in one prepare are a loop.
const MOST_ALLOCATIONS: u64 = 100;

/// The kind of an error, where a scenario can expect it.
fn kind(error: &AttachError) -> Option<AttachFailure> {
    match error {
        AttachError::Tag(TagError::Exhausted { .. }) => Some(AttachFailure::TagsExhausted),
        AttachError::CannotShare { .. } => Some(AttachFailure::CannotShare),
        AttachError::Dma(_)
        | AttachError::Inv(InvError::OutOfMemory { .. })
        | AttachError::OutOfMemory { .. } => Some(AttachFailure::NoMemory),
        AttachError::Sink(SinkError::Timeout { .. }) => Some(AttachFailure::Timeout),
        _ => None,
    }
}

/// Whether the SMMU has confirmed what a step of the driver did, or nothing had to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Confirmed {
    Yes,
    No,
}

pub(super) fn attach(rig: &mut Rig, spec: &Attach) -> Result<Confirmed, Stop> {
    let device = spec.device.get_ref();
    let result = match &spec.watch {
        None => rig.attach(device, spec.to.get_ref())?,
        Some(watch) => {
            let (result, steps) =
                rig.watched(device, watch.iova, |rig| rig.attach(device, spec.to.get_ref()))?;
            check_watch(rig, watch, &steps)?;
            result
        }
    };
    match (result, &spec.fails) {
        (Ok(done), None) => {
            committed(rig, done)?;
            rig.record_arrays();
            Ok(Confirmed::Yes)
        }
        (
            Ok(Committed { config: Err(SinkError::Timeout { .. }), freed: None, .. }),
            Some(AttachFailure::Timeout),
        ) => {
            // The observer has heard of it, and so has the transcript.
            rig.record_arrays();
            Ok(Confirmed::No)
        }
        (Err(error), Some(want)) if kind(&error) == Some(*want) => {
            rig.recorder.note(Kind::Error, || error.to_string());
            match want {
                AttachFailure::Timeout => Ok(Confirmed::No),
                _ => Ok(Confirmed::Yes),
            }
        }
        (Err(error), Some(want)) => {
            Err(format!("the attach was to fail with {want:?}, but: {error}").into())
        }
        (Err(error), None) => Err(error.into()),
        (Ok(_), Some(want)) => {
            Err(format!("the attach was to fail with {want:?}, but it did not").into())
        }
    }
}

fn committed(rig: &Rig, done: Committed) -> Result<(), Stop> {
    done.config?;
    if let Some(tag) = done.quarantined {
        return Err(format!("the flush of {tag} could not be proven").into());
    }
    if let Some(tag) = done.freed {
        rig.recorder.note(Kind::Check, || format!("the last user of {tag} is gone"));
    }
    Ok(())
}

/// Every write on the way went to the old page, then perhaps nowhere, then to the new page; never back.
fn check_watch(rig: &Rig, watch: &Watch, steps: &[Reached]) -> Result<(), Stop> {
    let (old, new) = (watch.old.get_ref(), watch.new.get_ref());
    let names: Vec<&str> = steps
        .iter()
        .map(|reached| match reached {
            Reached::Page(name) => name.as_str(),
            Reached::Nothing => "nothing",
            Reached::Damage(what) => what.as_str(),
        })
        .collect();
    let seen = names.join(", ");
    let mut phase = 0;
    for reached in steps {
        let now = match reached {
            Reached::Page(name) if name == old => 0,
            Reached::Nothing => 1,
            Reached::Page(name) if name == new => 2,
            _ => return Err(format!("the device saw a mix: {seen}").into()),
        };
        if now < phase {
            return Err(format!("the device went back to something older: {seen}").into());
        }
        phase = now;
    }
    if phase != 2 {
        return Err(format!("the device never reached page {new}: {seen}").into());
    }
    rig.recorder.note(Kind::Check, || format!("after each sync the device reached: {seen}"));
    Ok(())
}

pub(super) fn attach_each(rig: &mut Rig, spec: &AttachEach) -> Result<(), Stop> {
    let from = rig.recorder.len();
    let mut tags = Vec::new();
    for n in 0..*spec.count.get_ref() {
        let device = format!("{}{n}", spec.devices.get_ref());
        let domain = format!("{}{n}", spec.domains.get_ref());
        let done = rig.attach(&device, &domain)??;
        committed(rig, done)?;
        let smmu = rig.device(&device)?.smmu().id();
        tags.extend(rig.domain(&domain)?.tag_on(smmu));
    }
    // Hundreds of the same lines say nothing; how many there were does.
    let lines = rig.recorder.drop_from(from);
    let commands = lines.iter().filter(|line| line.kind == Kind::Command).count();
    let count = tags.len();
    if let (Some(first), Some(last)) = (tags.first(), tags.last()) {
        rig.recorder.note(Kind::Tag, || format!("{count} tags, {first} to {last}"));
    }
    rig.recorder.note(Kind::Check, || format!("{count} attached with {commands} commands"));
    Ok(())
}

pub(super) fn fail_every_allocation(rig: &mut Rig, spec: &FailEveryAllocation) -> Result<(), Stop> {
    let (name, to) = (spec.device.get_ref(), spec.to.get_ref());
    let before = rig.fingerprint(name)?;
    for n in 1..=MOST_ALLOCATIONS {
        let from = rig.recorder.len();
        let (fired, error) = rig.prepare_failing(name, to, n)?;
        let steps = rig.recorder.drop_from(from);
        let after = rig.fingerprint(name)?;
        if let Some((what, was, is)) = before.difference(&after) {
            return Err(format!("after allocation {n} failed, {what} is {is}; it was {was}").into());
        }
        match (fired, error) {
            (true, Some(error)) => {
                let given_back = steps.iter().any(|line| line.text.contains("given back"));
                let tag = if given_back { ", the new tag is given back" } else { "" };
                rig.recorder.note(Kind::Error, || format!("allocation {n} fails: {error}{tag}"));
            }
            (false, None) => {
                rig.recorder.note(Kind::Check, || {
                    format!("{} allocations, the state was as before after each", n - 1)
                });
                return Ok(());
            }
            (true, None) => {
                return Err(format!("allocation {n} failed and the prepare did not notice").into());
            }
            (false, Some(error)) => return Err(error.into()),
        }
    }
    Err(format!("a prepare with more than {MOST_ALLOCATIONS} allocations").into())
}
