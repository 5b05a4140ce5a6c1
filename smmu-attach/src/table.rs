//! Description of a domain's page tables, and what an SMMU lacks to walk them.

use smmu_types::{
    Asid, Cacheability, Capabilities, Granule, OutputSize, PhysAddr, Shareability, Stage1Config,
    Stage2Config, StallModel, StreamWorld, SubstreamDefault, TableConfig, Vmid,
};

use crate::Requirement;
use crate::smmu::FaultModel;

/// The translation stage of a table, with the fields of that stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TranslationStage {
    /// Stage 1: device addresses to physical ones, tagged by ASID.
    ///
    /// Leaves must be non-global (`nG` = 1). Global leaves match every ASID and survive an ASID
    /// flush.
    Stage1 {
        /// Memory attributes by index (`CD.MAIR`).
        mair: u64,
    },
    /// Stage 2: intermediate addresses to physical ones, tagged by VMID.
    Stage2 {
        /// `STE.S2SL0`. With 4 KiB granules, 0 starts at level 2, 1 at level 1, and 2 at level 0.
        start_level: u8,
    },
}

/// Whether the SMMU must snoop caches when it walks the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WalkCoherency {
    /// Required: the owner does not clean the cache after a change.
    Required,
    /// Not required: the owner cleans every change to memory.
    NotRequired,
}

/// Memory attributes of table walks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalkAttributes {
    /// Inner cacheability.
    pub inner: Cacheability,
    /// Outer cacheability.
    pub outer: Cacheability,
    /// Shareability.
    pub shareability: Shareability,
    /// Whether the owner relies on snooping.
    pub coherency: WalkCoherency,
}

impl WalkAttributes {
    /// Inner Shareable, Write-Back, snooped.
    pub const COHERENT: Self = WalkAttributes {
        inner: Cacheability::WriteBack,
        outer: Cacheability::WriteBack,
        shareability: Shareability::Inner,
        coherency: WalkCoherency::Required,
    };

    /// Outer Shareable, Non-cacheable; the owner cleans its changes.
    pub const NON_COHERENT: Self = WalkAttributes {
        inner: Cacheability::NonCacheable,
        outer: Cacheability::NonCacheable,
        shareability: Shareability::Outer,
        coherency: WalkCoherency::NotRequired,
    };
}

/// Whether a stage-2 table relies on forced write-back (`S2FWB`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForcedWriteBack {
    /// It does not.
    Off,
    /// It does: memory attributes use the `S2FWB` encoding.
    On,
}

/// Root, format and sizes of a domain's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableDescription {
    /// The stage, with the fields of that stage.
    pub stage: TranslationStage,
    /// Physical address of the root table, aligned as its level requires.
    pub root: PhysAddr,
    /// 64 minus the number of input address bits.
    pub t0sz: u8,
    /// The granule.
    pub granule: Granule,
    /// Size of output addresses.
    pub output_size: OutputSize,
    /// Memory attributes of table walks.
    pub walk: WalkAttributes,
    /// Whether the tables rely on forced write-back.
    pub forced_write_back: ForcedWriteBack,
}

/// A domain's page tables.
///
/// # What an implementor owes
///
/// - [`describe`](Self::describe) always returns the same description.
/// - The owner writes each descriptor as one 64-bit store and publishes it to the SMMU.
/// - The tables stay at the same address until the value is dropped. A
///   [`Domain`](crate::Domain) drops it, or gives it back, only when no SMMU can use it.
///
/// A [`TableDescription`] is a value of this trait, for tables with another owner, such as those
/// that CPUs use as well. Then that owner keeps them until the domain gives the description back.
pub trait TranslationTable {
    /// Root, format and sizes of the tables.
    fn describe(&self) -> TableDescription;
}

impl TranslationTable for TableDescription {
    fn describe(&self) -> TableDescription {
        *self
    }
}

impl TableDescription {
    /// Tables of 4 KiB granules with 39 bits of input and 40 bits of output addresses, which the
    /// SMMU walks through the caches. Set the fields in which yours differ.
    #[must_use]
    pub const fn new(stage: TranslationStage, root: PhysAddr) -> Self {
        TableDescription {
            stage,
            root,
            t0sz: 64 - 39,
            granule: Granule::K4,
            output_size: OutputSize::Bits40,
            walk: WalkAttributes::COHERENT,
            forced_write_back: ForcedWriteBack::Off,
        }
    }

    /// The first property that the SMMU lacks to walk these tables, if any.
    ///
    /// This checks each property alone, by the capabilities that the driver relies on. An attach
    /// also checks the entries by the rules of [`smmu_types::legal`], such as the alignment of the
    /// root.
    #[must_use]
    pub fn lacks(&self, caps: &Capabilities) -> Option<Requirement> {
        self.lacks_with(caps, FaultModel::Terminate)
    }

    /// [`lacks`](Self::lacks) for a device with this fault model.
    #[must_use]
    pub fn lacks_with(&self, caps: &Capabilities, faults: FaultModel) -> Option<Requirement> {
        let input_bits = 64u32.saturating_sub(self.t0sz.into());
        // Addresses above 48 bits need the 64 KiB granule.
        let most = if self.granule == Granule::K64 { 52 } else { 48 };
        let output = caps.output_size.unwrap_or(OutputSize::Bits48).bits().min(most);
        let (stage, requirement, input_limit) = match self.stage {
            TranslationStage::Stage1 { .. } => {
                (caps.stage1, Requirement::Stage1, caps.input_bits().min(most))
            }
            // Stage-2 input is at most the output size.
            TranslationStage::Stage2 { .. } => (caps.stage2, Requirement::Stage2, output),
        };
        let checks = [
            (stage, requirement),
            (caps.granules.contains(self.granule), Requirement::Granule),
            (input_bits <= input_limit, Requirement::InputSize),
            (self.output_size.bits() <= output, Requirement::OutputSize),
            (
                caps.stall_model != StallModel::Forced || faults == FaultModel::Stall,
                Requirement::Termination,
            ),
            (
                caps.coherent || self.walk.coherency == WalkCoherency::NotRequired,
                Requirement::CoherentWalk,
            ),
            (
                caps.forced_write_back || self.forced_write_back == ForcedWriteBack::Off,
                Requirement::ForcedWriteBack,
            ),
        ];
        checks.into_iter().find(|(holds, _)| !holds).map(|(_, lacks)| lacks)
    }

    /// Fields of a CD that leads to these tables.
    #[must_use]
    pub fn stage1(&self, mair: u64, asid: Asid) -> Stage1Config {
        Stage1Config {
            asid,
            t0sz: self.t0sz,
            granule: self.granule,
            inner: self.walk.inner,
            outer: self.walk.outer,
            shareability: self.walk.shareability,
            output_size: self.output_size,
            table: self.root,
            mair,
            stall: false,
        }
    }

    /// Fields of an STE that leads to these tables.
    #[must_use]
    pub fn stage2(&self, start_level: u8, vmid: Vmid) -> Stage2Config {
        Stage2Config {
            vmid,
            t0sz: self.t0sz,
            start_level,
            inner: self.walk.inner,
            outer: self.walk.outer,
            shareability: self.walk.shareability,
            granule: self.granule,
            output_size: self.output_size,
            table: self.root,
            forced_write_back: self.forced_write_back == ForcedWriteBack::On,
            protected_walk: true,
            stall: false,
            record: true,
        }
    }
}

/// Fields of an STE that leads to one CD. `context` is aligned to 64 bytes.
#[must_use]
pub fn single_context(caps: &Capabilities, context: PhysAddr) -> TableConfig {
    let (cache, shareability) = if caps.coherent {
        (Cacheability::WriteBack, Shareability::Inner)
    } else {
        (Cacheability::NonCacheable, Shareability::Outer)
    };
    TableConfig {
        format: 0,
        context,
        cd_max: 0,
        substream_default: SubstreamDefault::Substream0,
        inner: cache,
        outer: cache,
        shareability,
        stall_disable: caps.stall_model == StallModel::Both,
        world: StreamWorld::El1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use smmu_types::fake::ID_REGISTERS;

    fn caps() -> Capabilities {
        Capabilities::decode(ID_REGISTERS)
    }

    fn table(stage: TranslationStage) -> TableDescription {
        TableDescription {
            t0sz: 20,
            output_size: OutputSize::Bits44,
            ..TableDescription::new(stage, PhysAddr(0x4000_0000))
        }
    }

    const S1: TranslationStage = TranslationStage::Stage1 { mair: 0xff };
    const S2: TranslationStage = TranslationStage::Stage2 { start_level: 2 };

    #[rstest]
    #[case(table(S1), None)]
    #[case(table(S2), None)]
    #[case(TableDescription { t0sz: 16, ..table(S1) }, None)]
    #[case(TableDescription { t0sz: 12, ..table(S1) }, Some(Requirement::InputSize))]
    #[case(TableDescription { output_size: OutputSize::Bits52, ..table(S1) }, Some(Requirement::OutputSize))]
    #[case(TableDescription { t0sz: 16, ..table(S2) }, Some(Requirement::InputSize))]
    #[case(TableDescription { output_size: OutputSize::Bits48, ..table(S1) }, Some(Requirement::OutputSize))]
    #[case(
        TableDescription { forced_write_back: ForcedWriteBack::On, ..table(S2) },
        Some(Requirement::ForcedWriteBack)
    )]
    fn sharing(#[case] table: TableDescription, #[case] lacks: Option<Requirement>) {
        assert_eq!(table.lacks(&caps()), lacks);
    }

    #[test]
    fn each_capability_counts() {
        let without = |change: fn(&mut Capabilities)| {
            let mut caps = caps();
            change(&mut caps);
            caps
        };
        assert_eq!(table(S1).lacks(&without(|c| c.stage1 = false)), Some(Requirement::Stage1));
        assert_eq!(table(S2).lacks(&without(|c| c.stage2 = false)), Some(Requirement::Stage2));
        let non_coherent = without(|c| c.coherent = false);
        assert_eq!(table(S1).lacks(&non_coherent), Some(Requirement::CoherentWalk));
        let cleaned = TableDescription { walk: WalkAttributes::NON_COHERENT, ..table(S1) };
        assert_eq!(cleaned.lacks(&non_coherent), None);
        let forced = without(|c| c.stall_model = StallModel::Forced);
        assert_eq!(table(S1).lacks(&forced), Some(Requirement::Termination));
        let wide = without(|c| c.wide_input = true);
        let input52 = TableDescription { t0sz: 12, ..table(S1) };
        assert_eq!(input52.lacks(&wide), Some(Requirement::InputSize));
        assert_eq!(TableDescription { granule: Granule::K64, ..input52 }.lacks(&wide), None);
        let no_granule = without(|c| c.granules = Default::default());
        assert_eq!(table(S1).lacks(&no_granule), Some(Requirement::Granule));
        assert_eq!(
            table(S1).lacks(&without(|c| c.output_size = Some(OutputSize::Bits42))),
            Some(Requirement::OutputSize)
        );
    }
}
