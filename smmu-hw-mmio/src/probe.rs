//! Reads the ID registers and judges whether this driver supports the SMMU.

use smmu_types::fields::idr1::{self, Idr1};
use smmu_types::regs;
use smmu_types::seam::{Registers, RegistersExt};
use smmu_types::{Capabilities, Endianness, IdRegisters, OutputSize, Quirk, Quirks, TableFormats};

use crate::Coherency;

/// log2 of the smallest useful command queue: one command and its `CMD_SYNC`.
const MIN_CMDQ_LOG2: u8 = 1;
/// A StreamID has at most 32 bits.
const MAX_SID_BITS: u8 = 32;

/// An SMMU that this driver supports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Probe {
    /// The ID registers as read.
    pub id: IdRegisters,
    /// The decoded capabilities, without those that a quirk removes. A reserved output size becomes
    /// 48 bits.
    pub caps: Capabilities,
    /// Errata and assumptions that the ID registers do not tell.
    pub quirks: Quirks,
}

impl Probe {
    /// The same SMMU, whose coherency a firmware table (IORT, device tree) tells better than
    /// `IDR0.COHACC`.
    ///
    /// Call it at once after [`probe`]: [`BringupConfig::new`](crate::BringupConfig::new),
    /// `QueueConfig::suited_to` of `smmu-cmdq` and `Smmu::new` of `smmu-attach` all follow
    /// `caps.coherent`. They must agree, because the SMMU reads tables, queues and page tables with
    /// the attributes that they choose.
    #[must_use]
    pub const fn with_coherency(mut self, coherency: Coherency) -> Self {
        self.caps.coherent = matches!(coherency, Coherency::Coherent);
        self
    }

    /// The same SMMU with quirks that its ID registers do not tell: a firmware table does
    /// (`FirmwareQuirks::driver_quirks`), or the integrator.
    ///
    /// Pass [`quirks`](Self::quirks) on to what sends commands: `QueueConfig::suited_to` and
    /// `Passes::suited_to` of `smmu-cmdq`.
    #[must_use]
    pub const fn with_quirks(mut self, told: Quirks) -> Self {
        self.quirks = self.quirks.and(told);
        if self.quirks.contains(Quirk::NoSev) {
            self.caps.sev = false;
        }
        self
    }

    /// Whether the SMMU may nest stage 1 over stage 2.
    #[must_use]
    pub const fn nesting(&self) -> bool {
        self.caps.stage1 && self.caps.stage2 && !self.quirks.contains(Quirk::NoNesting)
    }
}

/// Why this driver refuses an SMMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// The ID registers read as all ones.
    #[error(
        "IDR0 and IDR1 read as {0:#x}: no device answers; check the base address and the power",
        u32::MAX
    )]
    NoDevice,
    /// The SMMU implements neither stage.
    #[error("IDR0 = {idr0:#x} has neither stage 1 nor stage 2; check the base address")]
    NoTranslation {
        /// `IDR0`.
        idr0: u32,
    },
    /// The SMMU walks no AArch64 tables.
    #[error("IDR0 = {idr0:#x}: table format {got:?}; this driver needs AArch64 tables")]
    TableFormat {
        /// `IDR0`.
        idr0: u32,
        /// `IDR0.TTF`.
        got: TableFormats,
    },
    /// The SMMU reads no little-endian tables.
    #[error("IDR0 = {idr0:#x}: {got:?}-endian tables; this driver writes little-endian ones")]
    Endianness {
        /// `IDR0`.
        idr0: u32,
        /// `IDR0.TTENDIAN`.
        got: Endianness,
    },
    /// The implementation fixes the addresses of tables or queues.
    #[error(
        "IDR1 = {idr1:#x}: {field} is set; tables and queues at preset addresses are not supported"
    )]
    Preset {
        /// `IDR1`.
        idr1: u32,
        /// The field, by the architecture's name.
        field: &'static str,
    },
    /// The command queue cannot hold a command and a `CMD_SYNC`.
    #[error("IDR1.CMDQS = {log2}: the command queue needs at least 2^{min} entries")]
    CommandQueueTooSmall {
        /// log2 of the largest queue.
        log2: u8,
        /// log2 of the smallest supported queue.
        min: u8,
    },
    /// `IDR1.SIDSIZE` is above 32.
    #[error("IDR1.SIDSIZE = {bits} is reserved; a StreamID has at most 32 bits")]
    StreamIdBits {
        /// `IDR1.SIDSIZE`.
        bits: u8,
    },
    /// The SMMU supports no translation granule.
    #[error("IDR5 = {idr5:#x}: no translation granule of 4K, 16K or 64K; check the base address")]
    NoGranule {
        /// `IDR5`.
        idr5: u32,
    },
}

/// Read the ID registers and judge them. Writes no register.
///
/// If a firmware table (IORT, device tree) says whether the SMMU is coherent, pass its word to
/// [`Probe::with_coherency`].
pub fn probe<R: Registers + ?Sized>(registers: &R) -> Result<Probe, ProbeError> {
    let idr1 = registers.read(regs::IDR1);
    judge(IdRegisters {
        idr0: registers.read(regs::IDR0),
        idr1,
        idr2: registers.read(regs::IDR2),
        idr3: registers.read(regs::IDR3),
        idr4: registers.read(regs::IDR4),
        idr5: registers.read(regs::IDR5),
        // IDR6 exists only with enhanced command queues.
        idr6: if Idr1::from_bits(idr1).get(idr1::ECMDQ) != 0 {
            registers.read(regs::IDR6)
        } else {
            0
        },
        iidr: registers.read(regs::IIDR),
        aidr: registers.read(regs::AIDR),
    })
}

/// Judge ID registers that the caller has read.
pub fn judge(id: IdRegisters) -> Result<Probe, ProbeError> {
    let IdRegisters { idr0, idr1, idr5, .. } = id;
    if idr0 == u32::MAX && idr1 == u32::MAX {
        return Err(ProbeError::NoDevice);
    }
    let mut caps = Capabilities::decode(id);
    if !caps.stage1 && !caps.stage2 {
        return Err(ProbeError::NoTranslation { idr0 });
    }
    if !matches!(caps.table_formats, TableFormats::AArch64 | TableFormats::Both) {
        return Err(ProbeError::TableFormat { idr0, got: caps.table_formats });
    }
    if !matches!(caps.endianness, Endianness::Little | Endianness::Mixed) {
        return Err(ProbeError::Endianness { idr0, got: caps.endianness });
    }
    let preset = [
        (caps.tables_preset, "TABLES_PRESET"),
        (caps.queues_preset, "QUEUES_PRESET"),
        (caps.relative_bases, "REL"),
    ];
    if let Some((_, field)) = preset.into_iter().find(|(set, _)| *set) {
        return Err(ProbeError::Preset { idr1, field });
    }
    if caps.cmdq_log2 < MIN_CMDQ_LOG2 {
        return Err(ProbeError::CommandQueueTooSmall { log2: caps.cmdq_log2, min: MIN_CMDQ_LOG2 });
    }
    if caps.sid_bits > MAX_SID_BITS {
        return Err(ProbeError::StreamIdBits { bits: caps.sid_bits });
    }
    // GRAN4K, GRAN16K, GRAN64K: bits 6:4.
    if idr5 & 0x70 == 0 {
        return Err(ProbeError::NoGranule { idr5 });
    }
    let mut quirks = Quirks::of(caps.implementation);
    if quirks.contains(Quirk::NoSev) {
        caps.sev = false;
    }
    if caps.output_size.is_none() {
        // 56 bits need 128-bit descriptors, which this driver does not write. Should a later
        // architecture define the value otherwise, 48 bits still fit.
        caps.output_size = Some(OutputSize::Bits48);
        quirks = quirks.with(Quirk::AssumedOutputSize);
    }
    Ok(Probe { id, caps, quirks })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use smmu_types::fake::{FakeRegisters, ID_REGISTERS as GOOD};

    #[test]
    fn reads_the_id_registers_and_writes_nothing() {
        let registers = FakeRegisters::new();
        for (offset, value) in
            [(0, GOOD.idr0), (4, GOOD.idr1), (0xc, GOOD.idr3), (0x14, GOOD.idr5), (0x1c, 1)]
        {
            registers.set(offset, value.into());
        }
        let probe = probe(&registers).unwrap();
        assert_eq!(probe.id, GOOD);
        assert_eq!(probe.caps, Capabilities::decode(GOOD));
        assert!(probe.quirks.is_empty() && probe.nesting());
        assert!(registers.take_writes().is_empty());
    }

    #[rstest]
    #[case::nothing_there(
        IdRegisters { idr0: u32::MAX, idr1: u32::MAX, ..GOOD },
        ProbeError::NoDevice
    )]
    #[case::all_zero(IdRegisters::default(), ProbeError::NoTranslation { idr0: 0 })]
    #[case::no_stage(
        IdRegisters { idr0: 0x0d44_1018, ..GOOD },
        ProbeError::NoTranslation { idr0: 0x0d44_1018 }
    )]
    #[case::aarch32(
        IdRegisters { idr0: 0x0d44_1017, ..GOOD },
        ProbeError::TableFormat { idr0: 0x0d44_1017, got: TableFormats::AArch32 }
    )]
    #[case::big_endian(
        IdRegisters { idr0: 0x0d64_101b, ..GOOD },
        ProbeError::Endianness { idr0: 0x0d64_101b, got: Endianness::Big }
    )]
    #[case::tables_preset(
        IdRegisters { idr1: 0x4273_0010, ..GOOD },
        ProbeError::Preset { idr1: 0x4273_0010, field: "TABLES_PRESET" }
    )]
    #[case::queues_preset(
        IdRegisters { idr1: 0x2273_0010, ..GOOD },
        ProbeError::Preset { idr1: 0x2273_0010, field: "QUEUES_PRESET" }
    )]
    #[case::relative(
        IdRegisters { idr1: 0x1273_0010, ..GOOD },
        ProbeError::Preset { idr1: 0x1273_0010, field: "REL" }
    )]
    #[case::tiny_queue(
        IdRegisters { idr1: 0x0013_0010, ..GOOD },
        ProbeError::CommandQueueTooSmall { log2: 0, min: 1 }
    )]
    #[case::too_many_streams(
        IdRegisters { idr1: 0x0273_0021, ..GOOD },
        ProbeError::StreamIdBits { bits: 33 }
    )]
    #[case::no_granule(IdRegisters { idr5: 4, ..GOOD }, ProbeError::NoGranule { idr5: 4 })]
    fn refuses(#[case] id: IdRegisters, #[case] error: ProbeError) {
        assert_eq!(judge(id), Err(error));
    }

    const fn iidr(product: u32, variant: u32, revision: u32) -> u32 {
        product << 20 | variant << 16 | revision << 12 | 0x43b
    }

    #[rstest]
    #[case::mmu600_r0p2(iidr(0x483, 0, 2), &[Quirk::NoSev, Quirk::NoNesting])]
    #[case::mmu600_r0p3(iidr(0x483, 0, 3), &[Quirk::NoNesting])]
    #[case::mmu600_r1p0(iidr(0x483, 1, 0), &[Quirk::NoNesting])]
    #[case::mmu600_r2p0(iidr(0x483, 2, 0), &[])]
    #[case::mmu700_r0p1(
        iidr(0x487, 0, 1),
        &[Quirk::NoNesting, Quirk::NoBroadcast, Quirk::ForceSync]
    )]
    #[case::mmu700_r1p0(
        iidr(0x487, 1, 0),
        &[Quirk::NoNesting, Quirk::NoBroadcast, Quirk::ForceSync]
    )]
    #[case::mmu700_r1p1(iidr(0x487, 1, 1), &[Quirk::NoBroadcast])]
    #[case::mmu_l1(iidr(0x48a, 0, 0), &[Quirk::NoBroadcast])]
    #[case::mmu_s3(iidr(0x498, 0, 0), &[Quirk::NoBroadcast])]
    #[case::other_implementer(iidr(0x483, 0, 0) ^ 1, &[])]
    fn knows_errata(#[case] iidr: u32, #[case] want: &[Quirk]) {
        let id = IdRegisters { idr0: GOOD.idr0 | 1 << 14, iidr, ..GOOD };
        let probe = judge(id).unwrap();
        assert!(probe.quirks.iter().eq(want.iter().copied()), "{:?}", probe.quirks);
        assert_eq!(probe.caps.sev, !want.contains(&Quirk::NoSev));
        assert_eq!(probe.nesting(), !want.contains(&Quirk::NoNesting));
    }

    #[rstest]
    fn firmware_knows_coherency_better_and_changes_nothing_else(
        #[values(Coherency::Coherent, Coherency::NonCoherent)] coherency: Coherency,
        #[values(0, 1 << 4)] cohacc: u32,
    ) {
        let found = judge(IdRegisters { idr0: GOOD.idr0 & !(1 << 4) | cohacc, ..GOOD }).unwrap();
        let told = found.with_coherency(coherency);
        assert_eq!(told.caps.coherent, coherency == Coherency::Coherent);
        assert_eq!(crate::BringupConfig::new(&told.caps).coherency, coherency);
        let mut back = told;
        back.caps.coherent = found.caps.coherent;
        assert_eq!(back, found);
    }

    #[test]
    fn told_quirks_join_those_of_the_id_registers() {
        let id = IdRegisters { idr0: GOOD.idr0 | 1 << 14, iidr: iidr(0x487, 1, 1), ..GOOD };
        let found = judge(id).unwrap();
        let told = found.with_quirks(Quirks::NONE.with(Quirk::RepeatInvalidations));
        assert!(told.quirks.iter().eq([Quirk::NoBroadcast, Quirk::RepeatInvalidations]));
        assert_eq!(told.caps, found.caps);
        assert!(!found.with_quirks(Quirks::NONE.with(Quirk::NoSev)).caps.sev);
        assert_eq!(found.with_quirks(Quirks::NONE), found);
    }

    #[test]
    fn a_reserved_output_size_becomes_48_bits_with_a_quirk() {
        let probe = judge(IdRegisters { idr5: 0x77, ..GOOD }).unwrap();
        assert_eq!(probe.caps.output_size, Some(OutputSize::Bits48));
        assert!(probe.quirks.contains(Quirk::AssumedOutputSize));
    }
}
