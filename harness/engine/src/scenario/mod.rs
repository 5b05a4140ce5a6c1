//! Scenario files: TOML that says which machine, and what to do with it.
//!
//! ```toml
//! title = "A page is moved with the driver's invalidation"
//! needs = ["stage1"]
//!
//! [[smmu]]
//! name = "smmu0"
//!
//! [[device]]
//! name = "dev0"
//! smmu = "smmu0"
//! stream = 0x08
//!
//! [[domain]]
//! name = "D"
//! stage = "s1"
//!
//! [[step]]
//! attach = { device = "dev0", to = "D" }
//! ```
//!
//! Unknown keys are refused, and an error says where it is. The steps are the variants of [`Step`].

mod check;
mod commands;
mod queues;
mod source;

use std::time::Duration;

use serde::Deserialize;
use smmu_driver::smmu_types::StreamId;
use toml::Spanned;

use crate::machine::{Need, SecondQueueKind};
use crate::page_tables::{Access, TableStage};

pub use commands::{
    AsidArgument, AtcArguments, CommandFailure, CommandSpec, CommandStep, IpaArguments,
    NoArguments, StreamArgument, VaArguments, VmidArgument,
};
pub use queues::{Completion, Fault, FaultStep, MendStep, MsiFault, Speed};
pub use source::ScenarioError;

/// A name, and where in the file it stands.
pub type Name = Spanned<String>;

/// A scenario, checked: every name in it stands for something.
#[derive(Debug)]
pub struct Scenario {
    /// The name of the file, without its ending.
    pub name: String,
    /// What the file says.
    pub file: File,
}

impl Scenario {
    /// Whether a step asks what became of all commands, so that they must be kept from the beginning.
    #[must_use]
    pub fn checks_commands(&self) -> bool {
        let asks = |step: &Spanned<Step>| {
            matches!(step.get_ref(), Step::Expect(Expect { commands: Some(_), .. }))
        };
        self.file.steps.iter().any(asks)
    }
}

/// A scenario file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// What it shows, in one line.
    pub title: String,
    /// What the backend must be able to do.
    #[serde(default)]
    pub needs: Vec<Need>,
    /// Names of pages, each a page of memory with content of its own.
    #[serde(default)]
    pub pages: Vec<Name>,
    /// The SMMUs.
    #[serde(rename = "smmu")]
    pub smmus: Vec<SmmuSpec>,
    /// The devices.
    #[serde(rename = "device", default)]
    pub devices: Vec<DeviceSpec>,
    /// The domains.
    #[serde(rename = "domain", default)]
    pub domains: Vec<DomainSpec>,
    /// What to do.
    #[serde(rename = "step")]
    pub steps: Vec<Spanned<Step>>,
}

/// One SMMU.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SmmuSpec {
    /// Its name.
    pub name: Name,
    /// Bits of its ASIDs, where the scenario needs few: 8.
    pub asid_bits: Option<Spanned<u8>>,
    /// Whether it has ATS, which makes `ATC_INV` legal.
    pub ats: Option<Spanned<bool>>,
    /// Entries of its command queue, where the scenario needs few: a power of two from 2 to 256.
    pub queue_entries: Option<Spanned<u32>>,
    /// How the driver learns that a `CMD_SYNC` is complete; `"polling"` when it is left out.
    pub sync: Option<Spanned<Completion>>,
    /// How long the driver waits for the command queue, from 1 to 10,000 ms; 1,000 when it is left out.
    pub timeout_ms: Option<Spanned<u64>>,
    /// Whether it has a second command queue, and what that takes.
    pub second_queue: Option<Spanned<SecondQueueKind>>,
}

impl SmmuSpec {
    /// Whether it has ATS.
    #[must_use]
    pub fn has_ats(&self) -> bool {
        self.ats.as_ref().is_some_and(|ats| *ats.get_ref())
    }

    /// How the driver learns that a `CMD_SYNC` is complete.
    #[must_use]
    pub fn completion(&self) -> Completion {
        self.sync.as_ref().map_or(Completion::Polling, |sync| *sync.get_ref())
    }

    /// How long the driver waits for the command queue.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms.as_ref().map_or(1000, |ms| *ms.get_ref()))
    }
}

/// A device that can do DMA; or several, named `name0`, `name1` and so on.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceSpec {
    /// Its name.
    pub name: Name,
    /// The SMMU that it is behind.
    pub smmu: Name,
    /// Its StreamID; that of the first, where there are several.
    pub stream: Spanned<u32>,
    /// How many.
    pub count: Option<Spanned<u32>>,
}

/// The names that one entry stands for.
fn expand(name: &Name, count: &Option<Spanned<u32>>) -> Vec<String> {
    let name = name.get_ref();
    match count {
        None => vec![name.clone()],
        Some(count) => (0..*count.get_ref()).map(|n| format!("{name}{n}")).collect(),
    }
}

impl DeviceSpec {
    /// The devices that it stands for: their names and their StreamIDs.
    pub fn each(&self) -> impl Iterator<Item = (String, StreamId)> {
        let streams = (*self.stream.get_ref()..).map(StreamId);
        expand(&self.name, &self.count).into_iter().zip(streams)
    }
}

impl DomainSpec {
    /// The names of the domains that it stands for.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        expand(&self.name, &self.count)
    }
}

/// A domain; or several, named `name0`, `name1` and so on.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DomainSpec {
    /// Its name.
    pub name: Name,
    /// The stage of its tables.
    pub stage: TableStage,
    /// How many.
    pub count: Option<Spanned<u32>>,
}

/// One step.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// `attach`: a device to a domain, to `bypass` or to `blocked`.
    Attach(Attach),
    /// `attach_each`: `name0` to `domain0`, `name1` to `domain1` and so on.
    AttachEach(AttachEach),
    /// `fail_every_allocation`: fail the first, the second, ... allocation of a preparation, until one needs no more; then drop it.
    FailEveryAllocation(FailEveryAllocation),
    /// `map`: map a page.
    Map(Map),
    /// `unmap`: take a mapping away and invalidate, as a driver does.
    Unmap(Unmap),
    /// `invalidate`: invalidate again, as a driver does whose invalidation was not confirmed.
    Invalidate(Unmap),
    /// `remap`: move a mapping to another page as a driver does: break, invalidate, make.
    Remap(Map),
    /// `poke`: change a descriptor without any invalidation.
    Poke(Poke),
    /// `dma`: let a device write 4 bytes.
    Dma(Dma),
    /// `command`: put commands into a queue, past the driver, and a `CMD_SYNC` behind them.
    Command(CommandStep),
    /// `fault`: let a command queue misbehave from now on.
    Fault(FaultStep),
    /// `mend`: take back every fault of an SMMU.
    Mend(MendStep),
    /// `install`: write a context descriptor and an STE past the driver, with an ASID of the scenario's choice.
    Install(Install),
    /// `expect`: check what the driver says of a domain or of a tag space.
    Expect(Expect),
    /// `hazard`: check that the model noticed a cached translation that should not be there.
    Hazard(HazardStep),
}

/// See [`Step::Attach`].
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attach {
    /// The device.
    pub device: Name,
    /// A domain, `bypass` or `blocked`.
    pub to: Name,
    /// The kind of error that it must end with.
    pub fails: Option<AttachFailure>,
    /// Let the device write after each sync on the way, and check what it reaches.
    pub watch: Option<Watch>,
}

/// Why an attach may be expected to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttachFailure {
    /// `"tags-exhausted"`: every tag of the SMMU is taken.
    TagsExhausted,
    /// `"cannot-share"`: the SMMU cannot walk the domain's tables.
    CannotShare,
    /// `"no-memory"`: there is none.
    NoMemory,
    /// `"timeout"`: the SMMU does not confirm it, so nothing that the device used before is given away.
    Timeout,
}

/// What a device may reach while it is being attached.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watch {
    /// The address that it writes to.
    pub iova: u64,
    /// The page that it reaches before.
    pub old: Name,
    /// The page that it reaches afterwards. Nothing may be reached on the way, and nothing else.
    pub new: Name,
}

/// See [`Step::AttachEach`].
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttachEach {
    /// The devices' common name.
    pub devices: Name,
    /// The domains' common name.
    pub domains: Name,
    /// How many.
    pub count: Spanned<u32>,
}

/// See [`Step::FailEveryAllocation`].
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FailEveryAllocation {
    /// The device.
    pub device: Name,
    /// A domain, `bypass` or `blocked`.
    pub to: Name,
}

/// See [`Step::Map`].
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Map {
    /// The domain.
    pub domain: Name,
    /// The input address.
    pub iova: u64,
    /// The page.
    pub page: Name,
    /// What it permits.
    #[serde(default)]
    pub access: Access,
}

/// See [`Step::Unmap`] and [`Step::Invalidate`].
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unmap {
    /// The domain.
    pub domain: Name,
    /// The input address.
    pub iova: u64,
    /// How the invalidation must fail.
    pub fails: Option<CommandFailure>,
}

/// See [`Step::Poke`].
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Poke {
    /// The domain.
    pub domain: Name,
    /// The input address.
    pub iova: u64,
    /// The page; nothing is mapped there afterwards when it is left out.
    pub page: Option<Name>,
}

/// See [`Step::Dma`].
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dma {
    /// The device.
    pub device: Name,
    /// The address that the device writes to.
    pub iova: Option<Spanned<u64>>,
    /// Instead of `iova`: the physical address of this page.
    pub at: Option<Name>,
    /// The page that it must reach.
    pub reaches: Option<Name>,
    /// The event that it must end with.
    pub faults: Option<Name>,
    /// It must be refused without an event.
    #[serde(default)]
    pub refused: bool,
}

/// See [`Step::Install`].
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Install {
    /// The device.
    pub device: Name,
    /// The domain whose tables it gets; of stage 1.
    pub domain: Name,
    /// The ASID.
    pub asid: u16,
}

/// See [`Step::Expect`].
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// The SMMU.
    pub smmu: Name,
    /// The domain whose tag is looked at.
    pub domain: Option<Name>,
    /// Its tag there, such as `ASID 1`, or `none`.
    pub tag: Option<String>,
    /// The number of users of the tag.
    pub users: Option<u32>,
    /// How many ASIDs of the SMMU are in use.
    pub asids_in_use: Option<u32>,
    /// How many VMIDs of the SMMU are in use.
    pub vmids_in_use: Option<u32>,
    /// What has become of all commands that the SMMU was shown so far.
    pub commands: Option<CommandsExpected>,
    /// How often the driver has read the consumer of the command queue since the last step that asked.
    pub consumer_reads: Option<ReadsExpected>,
}

/// What may be expected of how often something was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReadsExpected {
    /// `"none"`: never.
    None,
    /// `"some"`: at least once.
    Some,
}

/// What may be expected of all commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CommandsExpected {
    /// `"in-order"`: each was carried out once, as it was shown and in that order, and none is left. A queue
    /// that replaced an illegal command does not keep this.
    InOrder,
}

/// See [`Step::Hazard`].
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HazardStep {
    /// The command that is missing, by its name and, if given, its operands: the beginning of what is printed.
    pub missing: String,
}
