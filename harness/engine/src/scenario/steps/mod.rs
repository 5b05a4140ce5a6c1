//! The steps of a scenario, one file for each kind: its keys, its check and its text.

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
mod guest_attach;
mod guest_command;
mod guest_map;
mod guest_unmap;
mod hazard;
mod install;
mod invalidate;
mod map;
mod mend;
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

use core::ops::Range;

use serde::{Deserialize, Serialize};

use super::names::{Declared, Wrong};
use super::step_spec::StepSpec;

pub use adopt::{AdoptDoubt, AdoptStep, AdoptWatch};
pub use answer::{AnswerStep, AnswerWith};
pub use attach::{Attach, AttachFailure, AttachWatch};
pub use attach_each::AttachEach;
pub use attach_group::AttachGroup;
pub use command::{
    AsidArgument, AtcArguments, CommandSpec, CommandStep, IpaArguments, NoArguments,
    StreamArgument, VaArguments, VmidArgument, WantedFailure,
};
pub use defer::Defer;
pub use detach::DetachStep;
pub use dma::{DmaDirection, DmaStep};
pub use expect::{CommandsExpected, Expect, ReadsExpected};
pub use fail_every_allocation::FailEveryAllocation;
pub use fault::{FaultStep, MsiFault, QueueBehaviour, WantedFault};
pub use find_unanswering::FindUnanswering;
pub use flood::FloodStep;
pub use flush::Flush;
pub use gone::GoneStep;
pub use guest_attach::GuestAttach;
pub use guest_command::GuestCommand;
pub use guest_map::GuestMap;
pub use guest_unmap::GuestUnmap;
pub use hazard::HazardStep;
pub use install::Install;
pub use invalidate::Invalidate;
pub use map::{Map, MapFailure};
pub use mend::MendStep;
pub use page_request::{GroupAnswer, PageRequestStep};
pub use parallel::{AttachCaller, ParallelStep, UnmapCaller};
pub use poke::Poke;
pub use quarantine::QuarantineStep;
pub use remap::Remap;
pub use reset::ResetStep;
pub use restart::RestartStep;
pub use resume::ResumeStep;
pub use settle::{SettleFailure, SettleStep};
pub use spoil::{SpoilStep, SpoiltSte};
pub use storm::StormStep;
pub use suspend::SuspendStep;
pub use unmap::Unmap;

use crate::prelude::*;

/// One step.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// `attach`: a device to a domain, to `bypass` or to `blocked`.
    Attach(Attach),
    /// `attach_each`: `name0` to `domain0`, `name1` to `domain1` and so on.
    AttachEach(AttachEach),
    /// `attach_group`: several devices in one transaction, all or none of them.
    AttachGroup(AttachGroup),
    /// `fail_every_allocation`: fail the first, the second, ... allocation of a preparation, until
    /// one needs no more; then drop it.
    FailEveryAllocation(FailEveryAllocation),
    /// `map`: map a page, several pages or a block.
    Map(Map),
    /// `unmap`: take a mapping away and invalidate, as a driver does.
    Unmap(Unmap),
    /// `defer`: take a mapping away, and leave the invalidation to a later `flush`. Until then devices
    /// may reach the page.
    Defer(Defer),
    /// `flush`: invalidate what `defer` has left, at once, and take its pages back.
    Flush(Flush),
    /// `invalidate`: invalidate again, as a driver does after an invalidation that no SMMU
    /// confirmed.
    Invalidate(Invalidate),
    /// `remap`: move a mapping to another page as a driver does: break, invalidate, make.
    Remap(Remap),
    /// `poke`: change a descriptor without any invalidation.
    Poke(Poke),
    /// `dma`: let a device write or read 4 bytes.
    Dma(DmaStep),
    /// `flood`: let a device fault on several pages before the driver looks at the event queue. The
    /// SMMU loses the events for which the queue has no room.
    Flood(FloodStep),
    /// `storm`: let a device fault on one page again and again. The driver looks at each event, and
    /// reports the first ones only.
    Storm(StormStep),
    /// `page_request`: let a device ask for a page.
    PageRequest(PageRequestStep),
    /// `answer`: answer the oldest fault of a device that waits: a stalled write, or a group of page
    /// requests.
    Answer(AnswerStep),
    /// `detach`: block a device as `attach` to `blocked` does, and answer its faults that still wait.
    Detach(DetachStep),
    /// `quarantine`: block a device with ATS whose cache does not answer. Its ATS goes off first, and the
    /// driver sends it no `ATC_INV`.
    Quarantine(QuarantineStep),
    /// `find_unanswering`: send `ATC_INV` to each device of a domain behind an SMMU, one by one.
    FindUnanswering(FindUnanswering),
    /// `parallel`: let callers of the driver run at the same time: some map and unmap, some attach.
    Parallel(ParallelStep),
    /// `command`: put commands into a queue, past the driver, and a `CMD_SYNC` behind them.
    Command(CommandStep),
    /// `fault`: let a command queue misbehave from now on.
    Fault(FaultStep),
    /// `mend`: take back every fault of an SMMU.
    Mend(MendStep),
    /// `settle`: ask an SMMU again for all that it did not confirm.
    Settle(SettleStep),
    /// `gone`: turn an SMMU off past the driver, and tell the driver.
    Gone(GoneStep),
    /// `reset`: reset an SMMU past the driver. It loses its registers, its caches and its faults.
    Reset(ResetStep),
    /// `restart`: let the driver bring an SMMU up again over the same tables, as an integrator does
    /// after a reset.
    Restart(RestartStep),
    /// `suspend`: let the driver put an SMMU to sleep. It translates nothing, and the driver sends it no
    /// command.
    Suspend(SuspendStep),
    /// `resume`: let the driver wake an SMMU over the same tables. A `reset` between is a sleep
    /// without power.
    Resume(ResumeStep),
    /// `adopt`: the driver vanishes without a word, and a new one takes over the SMMUs that it has left
    /// running. The names of domains stand for new, empty ones.
    Adopt(AdoptStep),
    /// `spoil`: break the STE of a device past the driver, and do not tell the SMMU.
    Spoil(SpoilStep),
    /// `guest_map`: a guest maps a page in its stage-1 tables.
    GuestMap(GuestMap),
    /// `guest_unmap`: a guest takes a mapping away, and sends no command yet.
    GuestUnmap(GuestUnmap),
    /// `guest_attach`: a guest writes the STE of a device, and sends `CFGI_STE` and `SYNC`. The host
    /// installs what its policy makes of the STE.
    GuestAttach(GuestAttach),
    /// `guest_command`: a guest sends commands and a `SYNC` to its virtual SMMU. The host translates
    /// them.
    GuestCommand(GuestCommand),
    /// `install`: write a context descriptor and an STE past the driver, with an ASID of the
    /// scenario's choice.
    Install(Install),
    /// `expect`: check what the driver says of a domain or of a tag space.
    Expect(Expect),
    /// `hazard`: check that the model noticed a cached translation that should not be there.
    Hazard(HazardStep),
}

impl Step {
    fn spec(&self) -> &dyn StepSpec {
        match self {
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

    /// Checks the step against the head of the file. `span` is the whole step.
    pub(super) fn check(&self, span: Range<usize>, names: &Declared) -> Result<(), Wrong> {
        self.spec().check(span, names)
    }

    /// The step's line of the transcript, without its number.
    pub(crate) fn text(&self) -> String {
        self.spec().text()
    }
}
