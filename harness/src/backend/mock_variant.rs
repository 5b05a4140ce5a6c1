//! The model with other habits.

use smmu_engine::machine::{Backend, BackendError, Machine, MachineSpec, Need};
use smmu_model::Profile;
use smmu_types::StreamId;

use super::mock::start;

/// The least helpful SMMU that the architecture allows: its caches are unknown at reset, it fetches
/// configuration and translations ahead of any need, reads the words of an entry at different times,
/// and drops nothing before a `CMD_SYNC`. With very many devices it fetches no translation ahead,
/// because each audit would walk all their tables.
pub const UNHELPFUL: MockVariant = MockVariant {
    name: "unhelpful",
    change: |profile, streams| {
        profile.ahead = streams.to_vec();
        profile.translations_ahead = streams.len() <= 16;
        profile.unknown_at_reset = true;
        profile.until_sync = true;
        profile.word_by_word = true;
    },
};

/// SMMUs that do not snoop the caches of the CPUs (`IDR0.COHACC` = 0). The caches write back, and load
/// again, only what the driver publishes and observes. An audit reports what is not published.
pub const NOT_SNOOPING: MockVariant =
    MockVariant { name: "not-snooping", change: |profile, _| profile.coherent = false };

/// SMMUs that cache nothing, as most emulators. A forgotten invalidation does no harm here, so scenarios
/// that show something stale are skipped.
pub const UNCACHED: MockVariant =
    MockVariant { name: "uncached", change: |profile, _| profile.caches = false };

/// A scenario that runs on the usual model only, because it does on purpose what [`UNHELPFUL`] refuses.
#[derive(Clone, Copy, Debug)]
pub struct UsualOnly {
    /// The scenario.
    pub scenario: &'static str,
    /// What it does.
    pub reason: &'static str,
    /// What [`UNHELPFUL`] reports.
    pub reported: &'static str,
}

/// The scenarios that [`UNHELPFUL`] does not run.
pub const USUAL_ONLY: &[UsualOnly] = &[
    UsualOnly {
        scenario: "tag-reuse-before-flush",
        reason: "its `install` replaces a valid STE past the driver, all words at once",
        reported: "several words of a STE of stream 0x8 changed between two invalidations",
    },
    UsualOnly {
        scenario: "granules",
        reason: "its `install` replaces a valid STE past the driver, all words at once",
        reported: "several words of a STE of stream 0x900 changed between two invalidations",
    },
    UsualOnly {
        scenario: "adopt-refused",
        reason: "its `spoil` writes an STE past the driver, and sends no CFGI_STE",
        reported: "stream 0x10 runs on a cached STE that differs from memory",
    },
];

/// The model with other habits: it differs from [`Mock`](super::Mock) in what no scenario asks for.
#[derive(Clone, Copy, Debug)]
pub struct MockVariant {
    /// What it is, in a few words.
    pub name: &'static str,
    /// Changes the profile of each SMMU. It also gets the streams of the devices behind that SMMU.
    /// If it makes an SMMU that is not coherent, RAM lies behind [`CpuCaches`](smmu_model::CpuCaches).
    pub change: fn(&mut Profile, &[StreamId]),
}

impl Backend for MockVariant {
    fn name(&self) -> &'static str {
        self.name
    }

    fn describe(&self) -> String {
        format!("the built-in model: {}", self.name)
    }

    fn offers(&self, need: Need) -> bool {
        need != Need::Caches || self.name != UNCACHED.name
    }

    fn start(&self, spec: &MachineSpec) -> Result<Box<dyn Machine>, BackendError> {
        let machine = start(spec, self.change);
        spec.ram.check(&machine.ram())?;
        Ok(Box::new(machine))
    }
}
