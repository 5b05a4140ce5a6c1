//! Fails each allocation of a preparation in turn.

use crate::run::report::RunReport;
use crate::run::rig::Rig;
use crate::run::settle::settled;
use crate::run::step_action::StepAction;
use crate::run::stop::Stop;
use crate::scenario::FailEveryAllocation;
use crate::transcript::LineKind;

/// A preparation with more allocations than this is taken for a loop.
const MOST_ALLOCATIONS: u64 = 100;

impl StepAction for FailEveryAllocation {
    fn run(&self, rig: &mut Rig, _: usize, _: &mut RunReport) -> Result<(), Stop> {
        let (name, to) = (self.device.get_ref(), self.to.get_ref());
        let before = rig.fingerprint(name)?;
        for n in 1..=MOST_ALLOCATIONS {
            let from = rig.recorder.len();
            let (fired, error) = rig.prepare_failing(name, to, n)?;
            let steps = rig.recorder.drop_from(from);
            let after = rig.fingerprint(name)?;
            if let Some((what, was, is)) = before.difference(&after) {
                return Err(
                    format!("after allocation {n} failed, {what} is {is}; it was {was}").into()
                );
            }
            match (fired, error) {
                (true, Some(error)) => {
                    let given_back = steps.iter().any(|line| line.text.contains("given back"));
                    let tag = if given_back { ", the new tag is given back" } else { "" };
                    rig.recorder
                        .note(LineKind::Error, || format!("allocation {n} fails: {error}{tag}"));
                }
                (false, None) => {
                    rig.recorder.note(LineKind::Check, || {
                        format!("{} allocations, the state was as before after each", n - 1)
                    });
                    return settled(rig);
                }
                (true, None) => {
                    return Err(
                        format!("allocation {n} failed and the prepare did not notice").into()
                    );
                }
                (false, Some(error)) => return Err(error.into()),
            }
        }
        Err(format!("a prepare with more than {MOST_ALLOCATIONS} allocations").into())
    }
}
