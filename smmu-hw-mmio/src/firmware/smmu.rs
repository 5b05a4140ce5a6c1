//! What a firmware table tells about one SMMU.

use core::fmt;

use smmu_types::{PhysAddr, Quirk, Quirks, SmmuId};

use crate::Coherency;

/// Bytes of the registers of an SMMUv3: page 0 and page 1, of 64 KiB each.
pub const REGISTERS_SIZE: u64 = 0x2_0000;
/// Bytes of the registers where page 1 lies inside page 0.
pub const PAGE0_ONLY_SIZE: u64 = 0x1_0000;

/// An SMMUv3, as its firmware table describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FirmwareSmmu {
    /// Its place among the SMMUv3s of the table, from 0.
    pub id: SmmuId,
    /// The address of its registers.
    pub base: PhysAddr,
    /// The bytes of its registers that the table gives. `None` for IORT, which gives none.
    pub size: Option<u64>,
    /// Whether the SMMU snoops caches. It overrides `IDR0.COHACC`.
    pub coherency: Coherency,
    /// `false` if the table says that software must leave the SMMU alone.
    pub enabled: bool,
    /// Its wired interrupts.
    pub interrupts: SmmuInterrupts,
    /// The DeviceID of its MSIs, if it can send MSIs.
    pub msi_device_id: Option<u32>,
    /// What it does otherwise than its ID registers say.
    pub quirks: FirmwareQuirks,
    /// The NUMA node or the proximity domain.
    pub numa_node: Option<u32>,
    /// The byte of the table at which its description begins.
    pub at: u32,
}

impl FirmwareSmmu {
    /// Bytes of the registers: those of the table, otherwise those of the architecture.
    #[must_use]
    pub const fn registers_size(&self) -> u64 {
        match (self.size, self.quirks.page0_only) {
            (Some(size), _) => size,
            (None, true) => PAGE0_ONLY_SIZE,
            (None, false) => REGISTERS_SIZE,
        }
    }
}

/// The wired interrupts of an SMMU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SmmuInterrupts {
    /// The event queue is not empty.
    pub eventq: Option<Interrupt>,
    /// The PRI queue is not empty.
    pub priq: Option<Interrupt>,
    /// A `CMD_SYNC` is complete.
    pub cmdq_sync: Option<Interrupt>,
    /// A bit of `GERROR` has changed.
    pub gerror: Option<Interrupt>,
    /// One line for all of these.
    pub combined: Option<Interrupt>,
}

impl SmmuInterrupts {
    /// Each interrupt, with the name that the device tree binding gives it.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, Interrupt)> + use<> {
        let all = [
            ("eventq", self.eventq),
            ("priq", self.priq),
            ("cmdq-sync", self.cmdq_sync),
            ("gerror", self.gerror),
            ("combined", self.combined),
        ];
        all.into_iter().filter_map(|(name, interrupt)| Some((name, interrupt?)))
    }
}

/// An interrupt of the GIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupt {
    /// The INTID. ACPI calls it GSIV.
    pub intid: u32,
    /// The trigger, if the table tells it.
    pub trigger: Option<Trigger>,
}

/// How the GIC sees an interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// A pulse: it does not come again.
    Edge,
    /// A level: it comes until its cause is gone.
    Level,
}

/// What an SMMU does otherwise than its ID registers say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FirmwareQuirks {
    /// The driver must not send `CMD_PREFETCH_CONFIG` (HiSilicon Hi161x).
    pub broken_prefetch: bool,
    /// The registers of page 1 lie in page 0, at the same offsets less 64 KiB (Cavium CN99xx).
    pub page0_only: bool,
    /// The driver must send each `CFGI_*` and `TLBI_*` twice (NVIDIA Tegra264).
    pub repeat_invalidations: bool,
}

impl FirmwareQuirks {
    /// Those of the quirks that the parts of a driver follow, for
    /// [`Probe::with_quirks`](crate::Probe::with_quirks).
    ///
    /// No part of this driver sends `CMD_PREFETCH_CONFIG` by itself, and the place of page 1 is a
    /// matter of the integrator's [`Registers`](smmu_types::seam::Registers).
    #[must_use]
    pub const fn driver_quirks(&self) -> Quirks {
        let none = Quirks::NONE;
        if self.repeat_invalidations { none.with(Quirk::RepeatInvalidations) } else { none }
    }
}

impl fmt::Display for FirmwareQuirks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = [
            (self.broken_prefetch, "no CMD_PREFETCH_CONFIG"),
            (self.page0_only, "page 1 in page 0"),
            (self.repeat_invalidations, "CFGI and TLBI sent twice"),
        ];
        let mut between = "";
        for (_, text) in all.into_iter().filter(|(set, _)| *set) {
            write!(f, "{between}{text}")?;
            between = ", ";
        }
        Ok(())
    }
}
