//! A scenario file as TOML: SMMUs, devices, domains, pages and steps.

use core::time::Duration;

use crate::prelude::*;
use crate::scenario::spanned::Spanned;
use serde::{Deserialize, Serialize};
use smmu_driver::smmu_attach::{AtsUse, DeviceConfig};
use smmu_driver::smmu_types::{OutputSize, StreamId};

use super::names::SpannedName;
use super::steps::Step;
use crate::machine::{AtsPower, Granules, MachineDevice, Need, SecondQueueKind};
use crate::page_tables::TableStage;

/// A scenario file.
#[derive(Debug, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ScenarioFile {
    /// What it shows, in one line.
    pub title: String,
    /// What the backend must be able to do.
    #[serde(default)]
    pub needs: Vec<Need>,
    /// Names of pages, each a page of memory with content of its own.
    #[serde(default)]
    pub pages: Vec<SpannedName>,
    /// Names of blocks, each 2 MiB of memory with content of its own; 2 at most.
    #[serde(default)]
    pub blocks: Vec<SpannedName>,
    /// The SMMUs.
    #[serde(rename = "smmu")]
    pub smmus: Vec<SmmuSpec>,
    /// The devices.
    #[serde(rename = "device", default)]
    pub devices: Vec<DeviceSpec>,
    /// The domains.
    #[serde(rename = "domain", default)]
    pub domains: Vec<DomainSpec>,
    /// Memory that firmware reserved for devices which run already.
    #[serde(default)]
    pub reserved: Vec<ReservedSpec>,
    /// The guests.
    #[serde(rename = "guest", default)]
    pub guests: Vec<GuestSpec>,
    /// The stage-1 tables of the guests.
    #[serde(rename = "guest_table", default)]
    pub guest_tables: Vec<GuestTableSpec>,
    /// What to do.
    #[serde(rename = "step")]
    pub steps: Vec<Spanned<Step>>,
}

/// One SMMU.
#[derive(Debug, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SmmuSpec {
    /// Its name.
    pub name: SpannedName,
    /// Bits of its ASIDs, where the scenario needs few: 8.
    pub asid_bits: Option<Spanned<u8>>,
    /// Bits of its VMIDs: 8 or 16; 16 by default.
    pub vmid_bits: Option<Spanned<u8>>,
    /// Bits of its output addresses: 32, 36, 40, 42, 44 or 48; 44 by default.
    pub oas: Option<Spanned<u8>>,
    /// The stages that it has: both by default.
    pub stages: Option<Spanned<Vec<TableStage>>>,
    /// The granules that its ID registers name; `["4k"]` by default. The tables of a scenario have
    /// the granule of 4 KiB, so an SMMU without it refuses every domain.
    pub granules: Option<Spanned<Vec<GranuleName>>>,
    /// Whether a TLBI command can name a range of pages; `true` by default.
    pub range: Option<Spanned<bool>>,
    /// The stream tables that it can have; `"two-level"` by default.
    pub stream_table: Option<Spanned<StreamTableKind>>,
    /// Whether it has ATS, which makes `ATC_INV` legal.
    pub ats: Option<Spanned<bool>>,
    /// Entries of its command queue, where the scenario needs few: a power of two from 2 to 256.
    pub queue_entries: Option<Spanned<u32>>,
    /// Entries of its event queue, where the scenario needs few: a power of two from 2 to 128.
    pub event_entries: Option<Spanned<u32>>,
    /// Whether its faults can stall; `false` by default.
    pub stalls: Option<Spanned<bool>>,
    /// Entries of its PRI queue: a power of two from 2 to 32. Without it, the SMMU has no PRI.
    pub page_entries: Option<Spanned<u32>>,
    /// Bits of its SubstreamIDs, 1 to 20; it has no substreams by default.
    pub substream_bits: Option<Spanned<u8>>,
    /// The tables of context descriptors that it can have; `"two-level"` by default.
    pub cd_table: Option<Spanned<StreamTableKind>>,
    /// How many events of a stream and kind the driver reports in a second; all by default.
    pub event_burst: Option<Spanned<u32>>,
    /// How the driver learns that a `CMD_SYNC` is complete; `"polling"` by default.
    pub sync: Option<Spanned<SyncMethod>>,
    /// Whether the SMMU interrupts by MSIs to memory of the driver: events, page requests and global
    /// errors. A transcript says `msi` behind the interrupt. By wires by default.
    pub msi_interrupts: Option<Spanned<bool>>,
    /// How long the driver waits for the command queue, from 1 to 10,000 ms; 1,000 by default.
    pub timeout_ms: Option<Spanned<u64>>,
    /// The commands that its second command queue accepts; no second queue by default.
    pub second_queue: Option<Spanned<SecondQueueKind>>,
}

/// A granule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum GranuleName {
    /// `"4k"`: 4 KiB.
    #[serde(rename = "4k")]
    K4,
    /// `"16k"`: 16 KiB.
    #[serde(rename = "16k")]
    K16,
    /// `"64k"`: 64 KiB.
    #[serde(rename = "64k")]
    K64,
}

/// The stream tables, or the tables of context descriptors, that an SMMU can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum StreamTableKind {
    /// `"linear"`: linear tables only.
    Linear,
    /// `"two-level"`: linear and two-level tables.
    TwoLevel,
}

/// How the driver learns that a `CMD_SYNC` is complete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum SyncMethod {
    /// `"polling"`: it reads `CMDQ_CONS`.
    #[default]
    Polling,
    /// `"event"`: the SMMU sends an event, and the driver then reads `CMDQ_CONS`.
    Event,
    /// `"msi"`: the SMMU writes to memory, and the driver reads that memory.
    Msi,
}

impl SmmuSpec {
    /// Whether it has ATS.
    #[must_use]
    pub fn has_ats(&self) -> bool {
        self.ats.as_ref().is_some_and(|ats| *ats.get_ref())
    }

    /// Whether its faults can stall.
    #[must_use]
    pub fn has_stalls(&self) -> bool {
        self.stalls.as_ref().is_some_and(|stalls| *stalls.get_ref())
    }

    /// Whether its tables of context descriptors can have two levels.
    #[must_use]
    pub fn has_two_level_cds(&self) -> bool {
        let linear = |kind: &Spanned<StreamTableKind>| *kind.get_ref() == StreamTableKind::Linear;
        self.substream_bits.is_some() && !self.cd_table.as_ref().is_some_and(linear)
    }

    /// Whether it has a stage.
    #[must_use]
    pub fn has_stage(&self, stage: TableStage) -> bool {
        self.stages.as_ref().is_none_or(|stages| stages.get_ref().contains(&stage))
    }

    /// The granules that its ID registers name.
    #[must_use]
    pub fn granules(&self) -> Granules {
        let has = |granule| match &self.granules {
            Some(granules) => granules.get_ref().contains(&granule),
            None => granule == GranuleName::K4,
        };
        let (k4, k16, k64) = (has(GranuleName::K4), has(GranuleName::K16), has(GranuleName::K64));
        Granules { k4, k16, k64 }
    }

    /// Its output address size, or `None` if there is no such size.
    #[must_use]
    pub fn output_size(&self) -> Option<OutputSize> {
        let sizes = [
            OutputSize::Bits32,
            OutputSize::Bits36,
            OutputSize::Bits40,
            OutputSize::Bits42,
            OutputSize::Bits44,
            OutputSize::Bits48,
        ];
        let bits = self.oas.as_ref().map_or(44, |bits| u32::from(*bits.get_ref()));
        sizes.into_iter().find(|size| size.bits() == bits)
    }

    /// How the driver learns that a `CMD_SYNC` is complete.
    #[must_use]
    pub fn completion(&self) -> SyncMethod {
        self.sync.as_ref().map_or(SyncMethod::Polling, |sync| *sync.get_ref())
    }

    /// Whether it interrupts by MSIs.
    #[must_use]
    pub fn interrupts_by_msi(&self) -> bool {
        self.msi_interrupts.as_ref().is_some_and(|by_msi| *by_msi.get_ref())
    }

    /// Whether it has MSIs.
    #[must_use]
    pub fn has_msis(&self) -> bool {
        self.completion() == SyncMethod::Msi || self.interrupts_by_msi()
    }

    /// How long the driver waits for the command queue.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms.as_ref().map_or(1000, |ms| *ms.get_ref()))
    }
}

/// A device that can do DMA; or several, named `name0`, `name1` and so on.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct DeviceSpec {
    /// Its name.
    pub name: SpannedName,
    /// The SMMU that it is behind.
    pub smmu: SpannedName,
    /// Its StreamID. Several devices take this one and those after it.
    pub stream: Spanned<u32>,
    /// How many devices.
    pub count: Option<Spanned<u32>>,
    /// Further StreamIDs of one device: it masters with all of them.
    #[serde(default)]
    pub more_streams: Vec<Spanned<u32>>,
    /// Its faults stall, if its SMMU has `stalls`.
    #[serde(default)]
    pub stalls: bool,
    /// Bits of the SubstreamIDs that it sends, 1 to 20; it sends none by default.
    pub substream_bits: Option<Spanned<u8>>,
    /// Its ATS; it has none by default.
    pub ats: Option<Spanned<DeviceAts>>,
    /// Whether the driver turns its page requests (PRI) on while its ATS is on. They are off at
    /// power-on. Without this key a device asks for pages at any time.
    pub page_requests: Option<Spanned<bool>>,
}

/// The ATS of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum DeviceAts {
    /// `"switched"`: the driver turns it on and off.
    Switched,
    /// `"always"`: it is always on.
    Always,
}

/// A domain; or several, named `name0`, `name1` and so on.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct DomainSpec {
    /// Its name.
    pub name: SpannedName,
    /// The stage of its tables.
    pub stage: TableStage,
    /// How many domains.
    pub count: Option<Spanned<u32>>,
    /// The start level that the description of stage-2 tables claims, 0 to 3; 1 by default, which
    /// is right. Any other value is a mistake that the driver must refuse.
    pub start_level: Option<Spanned<u8>>,
}

impl ScenarioFile {
    /// The devices of the machine: the first stream of each device, then all further ones.
    #[must_use]
    pub fn places(&self) -> Vec<MachineDevice> {
        // `Scenario::parse` has checked that the SMMU exists.
        let smmu_of = |device: &DeviceSpec| {
            let named = |smmu: &SmmuSpec| smmu.name.get_ref() == device.smmu.get_ref();
            self.smmus.iter().position(named).unwrap_or(0)
        };
        let first = self.devices.iter().flat_map(|device| {
            let (smmu, ats) = (smmu_of(device), device.ats_at_power_on());
            device.each().map(move |(_, stream)| MachineDevice { smmu, stream, ats })
        });
        let further = self.devices.iter().flat_map(|device| {
            let (smmu, ats) = (smmu_of(device), device.ats_at_power_on());
            device.further().map(move |stream| MachineDevice { smmu, stream, ats })
        });
        first.chain(further).collect()
    }
}

/// Memory that firmware reserved for a device which runs already. Firmware lets the SMMUs pass all
/// transactions. Before translation begins, the driver attaches the device to a domain that maps each
/// page to itself. The device writes to each page after each change of `CR0`.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ReservedSpec {
    /// The device.
    pub device: SpannedName,
    /// The domain. Its tables map nothing else.
    pub domain: SpannedName,
    /// The pages.
    pub pages: Vec<SpannedName>,
}

/// A guest with a virtual SMMU: the SMMU nests its stage 1 over the stage 2 of a domain.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct GuestSpec {
    /// Its name.
    pub name: SpannedName,
    /// The SMMU that carries out its commands.
    pub smmu: SpannedName,
    /// The domain below its stage 1: a domain of stage 2.
    pub parent: SpannedName,
    /// Its devices. The StreamID that the guest sees of each is its place in this list, from 0.
    pub devices: Vec<SpannedName>,
}

/// Tables of stage 1 in a guest's memory, with a context descriptor. The parent maps this memory at
/// its own addresses, and nothing else of the host.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct GuestTableSpec {
    /// Its name.
    pub name: SpannedName,
    /// The guest.
    pub guest: SpannedName,
    /// The ASID in the context descriptor. Guests need not choose different ones.
    pub asid: u16,
}

/// The names that one entry stands for.
fn expand(name: &SpannedName, count: &Option<Spanned<u32>>) -> Vec<String> {
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

impl DeviceSpec {
    /// The ATS switch of each device at power-on.
    fn ats_at_power_on(&self) -> AtsPower {
        match self.ats.as_ref().map(Spanned::get_ref) {
            Some(DeviceAts::Always) => AtsPower::On,
            Some(DeviceAts::Switched) | None => AtsPower::Off,
        }
    }

    /// Whether the driver switches its page requests.
    #[must_use]
    pub fn has_page_requests(&self) -> bool {
        self.page_requests.as_ref().is_some_and(|has| *has.get_ref())
    }

    /// What the driver is told of each device.
    #[must_use]
    pub fn config(&self) -> DeviceConfig {
        let bits = self.substream_bits.as_ref().map_or(0, |bits| *bits.get_ref());
        let ats = match self.ats.as_ref().map(Spanned::get_ref) {
            None => AtsUse::Never,
            Some(DeviceAts::Switched) => AtsUse::Switched,
            Some(DeviceAts::Always) => AtsUse::Always,
        };
        let config = DeviceConfig::default().with_substream_bits(bits).with_ats(ats);
        let config = if self.stalls { config.with_stalls() } else { config };
        if self.has_page_requests() { config.with_page_requests() } else { config }
    }

    /// The StreamIDs that one device has beside its first.
    pub fn further(&self) -> impl Iterator<Item = StreamId> {
        self.more_streams.iter().map(|stream| StreamId(*stream.get_ref()))
    }
}

impl DomainSpec {
    /// The names of the domains that it stands for.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        expand(&self.name, &self.count)
    }
}
