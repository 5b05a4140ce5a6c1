//! Descriptions of tables that CPUs use as well, from the CPU's own registers (Arm ARM, D24.2).

use smmu_types::{Cacheability, Granule, OutputSize, PhysAddr, Shareability};

use crate::table::{
    ForcedWriteBack, TableDescription, TranslationStage, WalkAttributes, WalkCoherency,
};

/// A CPU register that describes tables which no [`TableDescription`] can describe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CpuTableError {
    /// The value is reserved.
    #[error("{register}.{field} = {value:#x} is reserved; pass the register as the CPU has it")]
    Reserved {
        /// The register.
        register: &'static str,
        /// The field.
        field: &'static str,
        /// Its value.
        value: u64,
    },
    /// The tables have a format that this crate does not describe.
    #[error("{register}.{field} = {value:#x}: {what} is not supported; build tables without it")]
    Unsupported {
        /// The register.
        register: &'static str,
        /// The field.
        field: &'static str,
        /// Its value.
        value: u64,
        /// What the value turns on.
        what: &'static str,
    },
}

/// A register under its name.
#[derive(Clone, Copy)]
struct CpuRegister {
    name: &'static str,
    value: u64,
}

impl CpuRegister {
    const fn bits(self, high: u32, low: u32) -> u64 {
        self.value >> low & (u64::MAX >> (63 - (high - low)))
    }

    const fn reserved(self, field: &'static str, value: u64) -> CpuTableError {
        CpuTableError::Reserved { register: self.name, field, value }
    }

    /// `TG0`, which lies and is encoded alike in `TCR_EL1` and `VTCR_EL2`.
    const fn granule(self) -> Result<Granule, CpuTableError> {
        Ok(match self.bits(15, 14) {
            0 => Granule::K4,
            1 => Granule::K64,
            2 => Granule::K16,
            reserved => return Err(self.reserved("TG0", reserved)),
        })
    }

    /// `IRGN0`, `ORGN0` and `SH0`, alike in both registers.
    const fn walk(self) -> Result<WalkAttributes, CpuTableError> {
        let shareability = match Shareability::from_encoding(self.bits(13, 12)) {
            Shareability::Reserved => return Err(self.reserved("SH0", 1)),
            shareability => shareability,
        };
        Ok(WalkAttributes {
            inner: Cacheability::from_encoding(self.bits(9, 8)),
            outer: Cacheability::from_encoding(self.bits(11, 10)),
            shareability,
            coherency: WalkCoherency::Required,
        })
    }

    const fn output_size(
        self,
        field: &'static str,
        value: u64,
    ) -> Result<OutputSize, CpuTableError> {
        match OutputSize::from_encoding(value as u8) {
            // 56 bits belong to a format with 128-bit descriptors.
            None | Some(OutputSize::Bits56) => Err(self.reserved(field, value)),
            Some(size) => Ok(size),
        }
    }

    /// What both registers say alike. `size` is the field of the output size, and its value.
    fn table(
        self,
        stage: TranslationStage,
        base: u64,
        size: (&'static str, u64),
    ) -> Result<TableDescription, CpuTableError> {
        let (granule, walk) = (self.granule()?, self.walk()?);
        let output_size = self.output_size(size.0, size.1)?;
        Ok(TableDescription {
            stage,
            root: table_address(base, output_size),
            t0sz: self.bits(5, 0) as u8,
            granule,
            output_size,
            walk,
            forced_write_back: ForcedWriteBack::Off,
        })
    }

    /// A bit that changes the format.
    const fn without(
        self,
        field: &'static str,
        bit: u32,
        what: &'static str,
    ) -> Result<(), CpuTableError> {
        match self.bits(bit, bit) {
            0 => Ok(()),
            value => Err(CpuTableError::Unsupported { register: self.name, field, value, what }),
        }
    }
}

/// `BADDR` of a base register. With 52-bit addresses its bits 5 to 2 hold bits 51 to 48.
const fn table_address(base: u64, output: OutputSize) -> PhysAddr {
    match output {
        OutputSize::Bits52 => PhysAddr(base & 0xffff_ffff_ffc0 | (base >> 2 & 0xf) << 48),
        _ => PhysAddr(base & 0xffff_ffff_fffe),
    }
}

impl TableDescription {
    /// The stage-2 tables of a CPU, from its `VTCR_EL2` and `VTTBR_EL2`.
    ///
    /// The VMID in `VTTBR_EL2` is the CPU's. An attach uses one of the SMMU, or the CPU's if the
    /// domain asks for it ([`DomainConfig::with_vmid`](crate::DomainConfig::with_vmid)). Set
    /// [`forced_write_back`](Self::forced_write_back) if `HCR_EL2.FWB` is set, and
    /// [`walk`](Self::walk) if the owner cleans its changes to memory.
    ///
    /// # Errors
    ///
    /// A field is reserved, or turns on a format that this crate does not describe. An attach checks
    /// what is left against the SMMU.
    pub fn from_vtcr(vtcr_el2: u64, vttbr_el2: u64) -> Result<Self, CpuTableError> {
        let register = CpuRegister { name: "VTCR_EL2", value: vtcr_el2 };
        register.without("DS", 32, "a 52-bit format of small granules")?;
        register.without("HA", 21, "hardware update of the access flag")?;
        register.without("HD", 22, "hardware update of the dirty state")?;
        let stage = TranslationStage::Stage2 { start_level: register.bits(7, 6) as u8 };
        register.table(stage, vttbr_el2, ("PS", register.bits(18, 16)))
    }

    /// The stage-1 tables of a CPU, from its `TCR_EL1`, `TTBR0_EL1` and `MAIR_EL1`.
    ///
    /// The ASID in `TTBR0_EL1` is the CPU's: an attach uses one of the SMMU. Leaves must be non-global
    /// (`nG` = 1). Set [`walk`](Self::walk) if the owner cleans its changes to memory.
    ///
    /// # Errors
    ///
    /// As of [`from_vtcr`](Self::from_vtcr).
    pub fn from_tcr(tcr_el1: u64, ttbr0_el1: u64, mair_el1: u64) -> Result<Self, CpuTableError> {
        let register = CpuRegister { name: "TCR_EL1", value: tcr_el1 };
        register.without("EPD0", 7, "a translation table without walks")?;
        register.without("DS", 59, "a 52-bit format of small granules")?;
        register.without("HA", 39, "hardware update of the access flag")?;
        register.without("HD", 40, "hardware update of the dirty state")?;
        let stage = TranslationStage::Stage1 { mair: mair_el1 };
        register.table(stage, ttbr0_el1, ("IPS", register.bits(34, 32)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    /// What a Linux host programs for a guest of 40 address bits with 4 KiB pages, VMID 3.
    const VTCR: u64 = 0x8002_3558;
    const VTTBR: u64 = 0x0003_0000_4a5e_0001;
    /// What a Linux host programs for a process: 48 bits, 4 KiB, ASID 0x15.
    const TCR: u64 = 0x0000_00f5_3510_3510 & !(3 << 39);
    const TTBR0: u64 = 0x0015_0000_8123_4000;

    #[test]
    fn a_guests_tables() {
        let table = TableDescription::from_vtcr(VTCR, VTTBR).unwrap();
        let expected = TableDescription {
            stage: TranslationStage::Stage2 { start_level: 1 },
            root: PhysAddr(0x4a5e_0000),
            t0sz: 24,
            granule: Granule::K4,
            output_size: OutputSize::Bits40,
            walk: WalkAttributes::COHERENT,
            forced_write_back: ForcedWriteBack::Off,
        };
        assert_eq!(table, expected);
    }

    #[test]
    fn a_processs_tables() {
        let table = TableDescription::from_tcr(TCR, TTBR0, 0x44_ff).unwrap();
        let expected = TableDescription {
            stage: TranslationStage::Stage1 { mair: 0x44_ff },
            root: PhysAddr(0x8123_4000),
            t0sz: 16,
            granule: Granule::K4,
            output_size: OutputSize::Bits48,
            walk: WalkAttributes::COHERENT,
            forced_write_back: ForcedWriteBack::Off,
        };
        assert_eq!(table, expected);
    }

    #[rstest]
    #[case::k64(1, Granule::K64)]
    #[case::k16(2, Granule::K16)]
    fn granules(#[case] tg0: u64, #[case] granule: Granule) {
        let stage2 = TableDescription::from_vtcr(VTCR | tg0 << 14, VTTBR).unwrap();
        let stage1 = TableDescription::from_tcr(TCR | tg0 << 14, TTBR0, 0).unwrap();
        assert_eq!((stage2.granule, stage1.granule), (granule, granule));
    }

    #[test]
    fn the_high_bits_of_a_52_bit_base() {
        let vtcr = VTCR & !(7 << 16) | 6 << 16 | 1 << 14;
        let table = TableDescription::from_vtcr(vtcr, 0x0003_1234_5670_0028).unwrap();
        assert_eq!(table.root, PhysAddr(0x000a_1234_5670_0000));
    }

    #[rstest]
    #[case::tg0(VTCR | 3 << 14, "TG0", 3)]
    #[case::sh0(VTCR & !(3 << 12) | 1 << 12, "SH0", 1)]
    #[case::ps(VTCR | 7 << 16, "PS", 7)]
    fn reserved_values(#[case] vtcr: u64, #[case] field: &'static str, #[case] value: u64) {
        let error = TableDescription::from_vtcr(vtcr, VTTBR).unwrap_err();
        assert_eq!(error, CpuTableError::Reserved { register: "VTCR_EL2", field, value });
    }

    #[rstest]
    #[case::ds(1 << 59, "DS")]
    #[case::epd0(1 << 7, "EPD0")]
    #[case::ha(1 << 39, "HA")]
    #[case::hd(1 << 40, "HD")]
    fn formats_that_are_not_described(#[case] bit: u64, #[case] name: &'static str) {
        let error = TableDescription::from_tcr(TCR | bit, TTBR0, 0).unwrap_err();
        let named = matches!(error, CpuTableError::Unsupported { register: "TCR_EL1", field, .. } if field == name);
        assert!(named, "{error}");
    }

    #[rstest]
    #[case::ds(1 << 32, "DS")]
    #[case::ha(1 << 21, "HA")]
    #[case::hd(1 << 22, "HD")]
    fn stage_2_formats_that_are_not_described(#[case] bit: u64, #[case] name: &'static str) {
        let error = TableDescription::from_vtcr(VTCR | bit, VTTBR).unwrap_err();
        let named = matches!(error, CpuTableError::Unsupported { register: "VTCR_EL2", field, .. } if field == name);
        assert!(named, "{error}");
    }
}
