//! Attaches a device, and checks how that ends and what the device reaches meanwhile.

use smmu_driver::smmu_attach::{AttachError, Outcome};
use smmu_driver::smmu_invs::InvError;
use smmu_driver::smmu_tags::TagError;
use smmu_driver::smmu_types::seam::SinkError;

use crate::machine::DmaSource;
use crate::prelude::*;
use crate::run::committed::committed;
use crate::run::pages::Reached;
use crate::run::refusal::Refusal;
use crate::run::report::RunReport;
use crate::run::rig::Rig;
use crate::run::settle::{settled, unconfirmed};
use crate::run::step_action::StepAction;
use crate::run::stop::Stop;
use crate::scenario::{Attach, AttachFailure, AttachWatch};
use crate::transcript::LineKind;

impl StepAction for Attach {
    fn run(&self, rig: &mut Rig, _: usize, _: &mut RunReport) -> Result<(), Stop> {
        match attach(rig, self)? {
            Confirmed::Yes => settled(rig),
            Confirmed::No => unconfirmed(rig),
        }
    }
}

/// Whether the SMMU has confirmed the attach. An attach that changed nothing counts as confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Confirmed {
    Yes,
    No,
}

fn attach(rig: &mut Rig, spec: &Attach) -> Result<Confirmed, Stop> {
    let device = spec.device.get_ref();
    let refusal = Refusal::expected(rig, spec)?;
    let result = match &spec.watch {
        None => rig.attach(device, spec.substream(), spec.to.get_ref())?,
        Some(watch) => {
            let substream = spec.substream();
            let source = DmaSource { substream, translated: watch.translated };
            let (result, steps) = rig.watched(device, source, watch.iova, |rig| {
                rig.attach(device, substream, spec.to.get_ref())
            })?;
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
        (Ok(Outcome::Unconfirmed(SinkError::Timeout { .. })), Some(AttachFailure::Timeout)) => {
            // The observer has put the error into the transcript.
            rig.record_arrays();
            Ok(Confirmed::No)
        }
        (Err(error), Some(want)) if kind(&error) == Some(*want) => {
            rig.recorder.note(LineKind::Error, || rig.named_domains(&error.to_string()));
            if let Some(refusal) = refusal {
                refusal.check(rig, spec)?;
            }
            match want {
                AttachFailure::Timeout => Ok(Confirmed::No),
                _ => Ok(Confirmed::Yes),
            }
        }
        (Err(error), Some(want)) => {
            Err(Stop::unmet(failure(*want), format!("it failed otherwise: {error}")))
        }
        (Err(error), None) => Err(error.into()),
        (Ok(_), Some(want)) => Err(Stop::unmet(failure(*want), "it did not")),
    }
}

/// What a step expects, in words.
pub(super) fn failure(want: AttachFailure) -> String {
    format!("the attach fails with \"{}\"", want.name())
}

/// The kind of an error, if a scenario can expect it.
pub(super) fn kind(error: &AttachError) -> Option<AttachFailure> {
    match error {
        AttachError::Tag(TagError::Exhausted { .. }) => Some(AttachFailure::TagsExhausted),
        AttachError::CannotShare { .. } => Some(AttachFailure::CannotShare),
        AttachError::Illegal { .. } => Some(AttachFailure::Illegal),
        AttachError::SubstreamBypass { .. }
        | AttachError::SubstreamStage2 { .. }
        | AttachError::SubstreamsAttached { .. }
        | AttachError::StreamStage2 { .. } => Some(AttachFailure::Refused),
        AttachError::Dma(_)
        | AttachError::Inv(InvError::OutOfMemory { .. })
        | AttachError::OutOfMemory { .. } => Some(AttachFailure::NoMemory),
        AttachError::Sink(SinkError::Timeout { .. }) => Some(AttachFailure::Timeout),
        _ => None,
    }
}

/// Every write on the way went to the old page, then perhaps nowhere, then to the new page; never
/// back.
fn check_watch(rig: &Rig, watch: &AttachWatch, steps: &[Reached]) -> Result<(), Stop> {
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
    let between = if watch.hitless { "" } else { " nothing" };
    let expected =
        format!("after each sync, the device reaches page {old},{between} or page {new}");
    let mut phase = 0;
    for reached in steps {
        let now = match reached {
            Reached::Page(name) if name == old => 0,
            Reached::Nothing if !watch.hitless => 1,
            Reached::Page(name) if name == new => 2,
            _ => return Err(Stop::unmet(expected, format!("it reached: {seen}"))),
        };
        if now < phase {
            return Err(Stop::unmet(expected, format!("it went back to something older: {seen}")));
        }
        phase = now;
    }
    if phase != 2 {
        return Err(Stop::unmet(expected, format!("it never reached page {new}: {seen}")));
    }
    rig.recorder.note(LineKind::Check, || format!("after each sync the device reached: {seen}"));
    Ok(())
}
