//! Ways to break the driver; `platform::Sink` applies them.

use smmu_driver::smmu_types::{Asid, Command, SmmuId, Vmid};

/// One way to break the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// Unmap leaves the TLB alone: `TLBI_NH_VA` and `TLBI_S2_IPA` are left out.
    UnmapWithoutTlbi,
    /// Unmap flushes the next tag instead of its own.
    UnmapWrongTag,
    /// Unmap flushes the first SMMU only.
    UnmapFirstSmmuOnly,
    /// Devices keep what they have cached: `ATC_INV` is left out.
    UnmapWithoutAtcInv,
    /// The driver frees a tag without its flush: `TLBI_NH_ASID` and `TLBI_S12_VMALL` are left out.
    FreeBeforeFlush,
    /// The configuration cache is not invalidated: `CFGI_STE`, `CFGI_CD` and
    /// `CFGI_CD_ALL` are left out.
    ReplaceWithoutCfgi,
    /// A sync counts as done the moment it is queued.
    SyncWithoutWait,
    /// A sync that is not done in time counts as done.
    TimeoutCountsAsDone,
}

impl Sabotage {
    /// All of them.
    pub const ALL: [Sabotage; 8] = [
        Sabotage::UnmapWithoutTlbi,
        Sabotage::UnmapWrongTag,
        Sabotage::UnmapFirstSmmuOnly,
        Sabotage::UnmapWithoutAtcInv,
        Sabotage::FreeBeforeFlush,
        Sabotage::ReplaceWithoutCfgi,
        Sabotage::SyncWithoutWait,
        Sabotage::TimeoutCountsAsDone,
    ];

    /// Its name on a command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Sabotage::UnmapWithoutTlbi => "unmap-without-tlbi",
            Sabotage::UnmapWrongTag => "unmap-wrong-tag",
            Sabotage::UnmapFirstSmmuOnly => "unmap-first-smmu-only",
            Sabotage::UnmapWithoutAtcInv => "unmap-without-atc-inv",
            Sabotage::FreeBeforeFlush => "free-before-flush",
            Sabotage::ReplaceWithoutCfgi => "replace-without-cfgi",
            Sabotage::SyncWithoutWait => "sync-without-wait",
            Sabotage::TimeoutCountsAsDone => "timeout-counts-as-done",
        }
    }

    /// The one with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|sabotage| sabotage.name() == name)
    }

    /// What is broken, in one line.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Sabotage::UnmapWithoutTlbi => {
                "Unmap leaves the TLB alone: `TLBI_NH_VA` and `TLBI_S2_IPA` are left out"
            }
            Sabotage::UnmapWrongTag => "Unmap flushes the next tag instead of its own",
            Sabotage::UnmapFirstSmmuOnly => "Unmap flushes the first SMMU only",
            Sabotage::UnmapWithoutAtcInv => {
                "Devices keep what they have cached: `ATC_INV` is left out"
            }
            Sabotage::FreeBeforeFlush => {
                "A tag is freed though its flush never happens: `TLBI_NH_ASID` and `TLBI_S12_VMALL` are left out"
            }
            Sabotage::ReplaceWithoutCfgi => {
                "The configuration cache is not invalidated: `CFGI_STE`, `CFGI_CD` and `CFGI_CD_ALL` are left out"
            }
            Sabotage::SyncWithoutWait => "A sync counts as done the moment it is queued",
            Sabotage::TimeoutCountsAsDone => "A sync that is not done in time counts as done",
        }
    }

    /// What reaches the queue instead of `command`.
    pub(crate) fn apply(self, smmu: SmmuId, command: Command) -> Option<Command> {
        let unmap = matches!(command, Command::TlbiNhVa { .. } | Command::TlbiS2Ipa { .. });
        let dropped = match self {
            Sabotage::UnmapWithoutTlbi => unmap,
            Sabotage::UnmapFirstSmmuOnly => unmap && smmu != SmmuId(0),
            Sabotage::UnmapWithoutAtcInv => matches!(command, Command::AtcInv { .. }),
            Sabotage::FreeBeforeFlush => {
                matches!(command, Command::TlbiNhAsid { .. } | Command::TlbiS12Vmall { .. })
            }
            Sabotage::ReplaceWithoutCfgi => {
                matches!(
                    command,
                    Command::CfgiSte { .. } | Command::CfgiCd { .. } | Command::CfgiCdAll { .. }
                )
            }
            Sabotage::UnmapWrongTag | Sabotage::SyncWithoutWait | Sabotage::TimeoutCountsAsDone => {
                false
            }
        };
        match command {
            _ if dropped => None,
            Command::TlbiNhVa { vmid, asid, span } if self == Sabotage::UnmapWrongTag => {
                Some(Command::TlbiNhVa { vmid, asid: Asid(asid.0.wrapping_add(1)), span })
            }
            Command::TlbiS2Ipa { vmid, span } if self == Sabotage::UnmapWrongTag => {
                Some(Command::TlbiS2Ipa { vmid: Vmid(vmid.0.wrapping_add(1)), span })
            }
            _ => Some(command),
        }
    }
}
