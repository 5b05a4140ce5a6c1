//! What each step does, one file for each kind.

mod adopt;
mod answer;
mod attach;
mod attach_each;
mod attach_group;
mod command;
mod defer;
mod detach;
mod dma;
mod expect;
mod fail_every_allocation;
mod fault;
mod find_unanswering;
mod flood;
mod flush;
mod gone;
#[cfg(feature = "guest")]
mod guest_attach;
#[cfg(feature = "guest")]
mod guest_command;
#[cfg(feature = "guest")]
mod guest_map;
#[cfg(feature = "guest")]
mod guest_unmap;
mod hazard;
mod install;
mod invalidate;
mod map;
mod mend;
#[cfg(not(feature = "guest"))]
mod no_guests;
mod page_request;
mod parallel;
mod poke;
mod quarantine;
mod remap;
mod reset;
mod restart;
mod resume;
mod settle;
mod spoil;
mod storm;
mod suspend;
mod unmap;

use super::report::RunReport;
use super::rig::Rig;
use super::step_action::StepAction;
use super::stop::Stop;
use crate::scenario::Step;
use crate::transcript::LineKind;

fn action(step: &Step) -> &dyn StepAction {
    match step {
        Step::Attach(step) => step,
        Step::AttachEach(step) => step,
        Step::AttachGroup(step) => step,
        Step::FailEveryAllocation(step) => step,
        Step::Map(step) => step,
        Step::Unmap(step) => step,
        Step::Defer(step) => step,
        Step::Flush(step) => step,
        Step::Invalidate(step) => step,
        Step::Remap(step) => step,
        Step::Parallel(step) => step,
        Step::Poke(step) => step,
        Step::Dma(step) => step,
        Step::Flood(step) => step,
        Step::Storm(step) => step,
        Step::PageRequest(step) => step,
        Step::Answer(step) => step,
        Step::Detach(step) => step,
        Step::Quarantine(step) => step,
        Step::FindUnanswering(step) => step,
        Step::Command(step) => step,
        Step::Fault(step) => step,
        Step::Mend(step) => step,
        Step::Settle(step) => step,
        Step::Gone(step) => step,
        Step::Reset(step) => step,
        Step::Restart(step) => step,
        Step::Suspend(step) => step,
        Step::Resume(step) => step,
        Step::Adopt(step) => step,
        Step::Spoil(step) => step,
        Step::GuestMap(step) => step,
        Step::GuestUnmap(step) => step,
        Step::GuestAttach(step) => step,
        Step::GuestCommand(step) => step,
        Step::Install(step) => step,
        Step::Expect(step) => step,
        Step::Hazard(step) => step,
    }
}

/// Carry out step number `n`.
pub(super) fn run(
    rig: &mut Rig,
    n: usize,
    step: &Step,
    report: &mut RunReport,
) -> Result<(), Stop> {
    if !matches!(step, Step::Expect(_)) {
        rig.step_began = rig.recorder.len();
    }
    #[cfg(feature = "record")]
    rig.recorder.begin_step(n);
    rig.recorder.note(LineKind::Step, || format!("{n} {}", step.text()));
    action(step).run(rig, n, report)
}
