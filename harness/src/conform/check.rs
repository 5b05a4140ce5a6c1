//! A check: its name, the section that it is from, and what it needs.

use smmu_engine::machine::{Backend, Need};
use smmu_engine::offers::offered_by_id_registers;
use smmu_types::{Capabilities, Granule, StallModel};

use super::bench::Bench;
use super::ended::Checked;

/// What a check is about. The part of its name before the slash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Registers: reset values, access, acknowledgements.
    Registers,
    /// The command queue and the event queue.
    Queues,
    /// Table walks of both stages.
    Walks,
    /// Stream tables, STEs, tables of CDs.
    Configuration,
    /// What an invalidation must remove, and what it must not.
    Caches,
    /// Events and their fields.
    Faults,
    /// Interrupts.
    Interrupts,
}

impl Group {
    /// As it stands in names.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Group::Registers => "registers",
            Group::Queues => "queues",
            Group::Walks => "walks",
            Group::Configuration => "configuration",
            Group::Caches => "caches",
            Group::Faults => "faults",
            Group::Interrupts => "interrupts",
        }
    }
}

/// Defines `check`, which makes a [`Check`] of a group.
macro_rules! checks_of {
    ($group:expr) => {
        const fn check(
            name: &'static str,
            section: &'static str,
            title: &'static str,
            needs: &'static [$crate::conform::Requirement],
            body: fn(&mut $crate::conform::bench::Bench) -> $crate::conform::ended::Checked,
        ) -> Check {
            Check::new($group, name, section, title, needs, body)
        }
    };
}
pub(super) use checks_of;

/// What a check needs of a machine.
#[derive(Clone, Copy, Debug)]
pub enum Requirement {
    /// An ability that scenarios know, too.
    Need(Need),
    /// Something that ID registers tell.
    Feature(&'static str, fn(&Capabilities) -> bool),
}

impl Requirement {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Requirement::Need(need) => need.name(),
            Requirement::Feature(name, _) => name,
        }
    }
}

pub(super) const STAGE1: Requirement = Requirement::Need(Need::Stage1);
pub(super) const STAGE2: Requirement = Requirement::Need(Need::Stage2);
pub(super) const NESTING: Requirement = Requirement::Need(Need::Nesting);
pub(super) const CACHES: Requirement = Requirement::Need(Need::Caches);
pub(super) const SEVERAL: Requirement = Requirement::Need(Need::SeveralSmmus);
pub(super) const READS: Requirement = Requirement::Need(Need::DmaReads);
pub(super) const MSI: Requirement = Requirement::Need(Need::Msi);
pub(super) const STALLS: Requirement = Requirement::Need(Need::Stalls);
pub(super) const SUBSTREAMS: Requirement = Requirement::Need(Need::Substreams);
pub(super) const RESET: Requirement = Requirement::Need(Need::Reset);

pub(super) const BOUNDED: Requirement =
    Requirement::Feature("an output size below 48 bits", |caps| {
        caps.output_size.is_some_and(|size| size.bits() < 48)
    });
pub(super) const RANGES: Requirement =
    Requirement::Feature("ranges", |caps| caps.range_invalidation);
pub(super) const K16: Requirement =
    Requirement::Feature("granules of 16 KiB", |caps| caps.granules.contains(Granule::K16));
pub(super) const K64: Requirement =
    Requirement::Feature("granules of 64 KiB", |caps| caps.granules.contains(Granule::K64));
pub(super) const NO_STAGE1: Requirement =
    Requirement::Feature("an SMMU without stage 1", |c| !c.stage1);
pub(super) const NO_STAGE2: Requirement =
    Requirement::Feature("an SMMU without stage 2", |c| !c.stage2);

/// What a check does to a machine.
pub(super) type Body = fn(&mut Bench) -> Checked;

/// One demand on a machine.
#[derive(Clone, Copy, Debug)]
pub struct Check {
    /// Its name, which stays the same: the group, a slash and a few words.
    pub name: &'static str,
    /// Its group.
    pub group: Group,
    /// The section of IHI 0070 that demands it.
    pub section: &'static str,
    /// What it demands, in one sentence.
    pub title: &'static str,
    /// What it needs.
    pub needs: &'static [Requirement],
    body: Body,
}

impl Check {
    pub(super) const fn new(
        group: Group,
        name: &'static str,
        section: &'static str,
        title: &'static str,
        needs: &'static [Requirement],
        body: Body,
    ) -> Self {
        Check { name, group, section, title, needs, body }
    }

    fn has(&self, need: Need) -> bool {
        self.needs.iter().any(|one| matches!(one, Requirement::Need(of) if *of == need))
    }

    /// How many SMMUs its machine has.
    pub(super) fn smmus(&self) -> usize {
        if self.has(Need::SeveralSmmus) { 2 } else { 1 }
    }

    /// The first need that only the backend can answer, and denies.
    pub(super) fn missing_need(&self, backend: &dyn Backend) -> Option<String> {
        let several = self.has(Need::SeveralSmmus) && !backend.offers(Need::SeveralSmmus);
        several.then(|| Need::SeveralSmmus.name().to_owned())
    }

    /// The first thing that an SMMU with these capabilities, or its machine, lacks.
    pub(super) fn missing_feature(
        &self,
        caps: &Capabilities,
        backend: &dyn Backend,
    ) -> Option<String> {
        let offered = |requirement: &Requirement| match requirement {
            // Known already.
            Requirement::Need(Need::SeveralSmmus) => true,
            // The SMMU and the devices must be able to.
            Requirement::Need(need @ Need::Stalls) => {
                caps.stall_model == StallModel::Both && backend.offers(*need)
            }
            Requirement::Need(need @ Need::Substreams) => {
                caps.ssid_bits > 0 && backend.offers(*need)
            }
            Requirement::Need(need) => {
                offered_by_id_registers(*need, &[*caps]).unwrap_or_else(|| backend.offers(*need))
            }
            Requirement::Feature(_, has) => has(caps),
        };
        let missing = self.needs.iter().find(|requirement| !offered(requirement));
        missing.map(|requirement| requirement.name().to_owned())
    }

    pub(super) fn carry_out(&self, bench: &mut Bench) -> Checked {
        (self.body)(bench)
    }
}
