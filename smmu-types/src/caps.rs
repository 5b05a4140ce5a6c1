//! What an SMMU can do, decoded from its ID registers (IHI 0070, 6.3.1 to 6.3.8).

use core::fmt;

use crate::range::RangeSupport;
use crate::{Granule, OutputSize};

/// The ID registers as they were read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IdRegisters {
    /// `IDR0`.
    pub idr0: u32,
    /// `IDR1`.
    pub idr1: u32,
    /// `IDR3`.
    pub idr3: u32,
    /// `IDR5`.
    pub idr5: u32,
    /// `IIDR`.
    pub iidr: u32,
    /// `AIDR`.
    pub aidr: u32,
}

/// `IDR0.TTF`: translation table formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableFormats {
    /// VMSAv8-32 only.
    AArch32,
    /// VMSAv8-64 only.
    AArch64,
    /// Both.
    Both,
    /// The reserved value 0.
    Reserved,
}

/// `IDR0.TTENDIAN`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endianness {
    /// Each table chooses.
    Mixed,
    /// Little-endian tables only.
    Little,
    /// Big-endian tables only.
    Big,
    /// The reserved value 1.
    Reserved,
}

/// `IDR0.STALL_MODEL`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StallModel {
    /// Faults stall or terminate, as configured.
    Both,
    /// Faults terminate.
    TerminateOnly,
    /// Faults stall.
    Forced,
    /// The reserved value 3.
    Reserved,
}

/// `IDR5.GRAN*`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Granules {
    k4: bool,
    k16: bool,
    k64: bool,
}

impl Granules {
    /// Whether a granule is supported.
    #[must_use]
    pub const fn contains(self, granule: Granule) -> bool {
        match granule {
            Granule::K4 => self.k4,
            Granule::K16 => self.k16,
            Granule::K64 => self.k64,
        }
    }
}

/// `IIDR`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Implementation {
    /// JEP106 code of the implementer.
    pub implementer: u16,
    /// Product.
    pub product: u16,
    /// Major revision (`rN`).
    pub variant: u8,
    /// Minor revision (`pN`).
    pub revision: u8,
}

/// Capabilities of one SMMU.
///
/// Decoding is total: values that are reserved stay visible, and whether a driver can work with
/// them is for its probe to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// Stage 1 (`S1P`).
    pub stage1: bool,
    /// Stage 2 (`S2P`).
    pub stage2: bool,
    /// Table formats.
    pub table_formats: TableFormats,
    /// Tables and queues are snooped (`COHACC`).
    pub coherent: bool,
    /// Hardware update of the access flag (`HTTU` >= 1).
    pub access_flag_update: bool,
    /// Hardware update of the dirty state (`HTTU` = 2).
    pub dirty_update: bool,
    /// EL2 regime (`HYP`).
    pub hyp: bool,
    /// Address translation services.
    pub ats: bool,
    /// Message-signalled interrupts.
    pub msi: bool,
    /// `CMD_SYNC` can wake `WFE`.
    pub sev: bool,
    /// Page request interface.
    pub pri: bool,
    /// Two-level context descriptor tables (`CD2L`).
    pub two_level_cd: bool,
    /// Two-level stream tables (`ST_LEVEL`).
    pub two_level_stream_table: bool,
    /// Endianness of tables.
    pub endianness: Endianness,
    /// Stalls.
    pub stall_model: StallModel,
    /// Bits of an ASID: 8 or 16.
    pub asid_bits: u8,
    /// Bits of a VMID: 8 or 16.
    pub vmid_bits: u8,
    /// Bits of a StreamID.
    pub sid_bits: u8,
    /// Bits of a SubstreamID; 0 without substreams.
    pub ssid_bits: u8,
    /// log2 of the largest command queue.
    pub cmdq_log2: u8,
    /// log2 of the largest event queue.
    pub eventq_log2: u8,
    /// log2 of the largest PRI queue.
    pub priq_log2: u8,
    /// Incoming attributes can be replaced (`ATTR_TYPES_OVR`).
    pub attribute_override: bool,
    /// Table bases are fixed (`TABLES_PRESET`).
    pub tables_preset: bool,
    /// Queue bases are fixed (`QUEUES_PRESET`).
    pub queues_preset: bool,
    /// Preset bases are relative (`REL`).
    pub relative_bases: bool,
    /// Stage 2 can force Write-Back (`FWB`).
    pub forced_write_back: bool,
    /// Range invalidation (`RIL`).
    pub range_invalidation: bool,
    /// Break-before-make level (`BBML`).
    pub bbm_level: u8,
    /// Output address size; `None` for a reserved value.
    pub output_size: Option<OutputSize>,
    /// Granules.
    pub granules: Granules,
    /// Input addresses of 52 bits (`VAX`).
    pub wide_input: bool,
    /// Outstanding stalls (`STALL_MAX`).
    pub stall_max: u16,
    /// Who made it.
    pub implementation: Implementation,
    /// Minor version of the architecture: 2 for SMMUv3.2.
    pub minor_version: u8,
}

impl Capabilities {
    /// What the ID registers say.
    #[must_use]
    pub const fn decode(id: IdRegisters) -> Self {
        let IdRegisters { idr0, idr1, idr3, idr5, iidr, aidr } = id;
        const fn bit(word: u32, n: u32) -> bool {
            word >> n & 1 != 0
        }
        const fn field(word: u32, hi: u32, lo: u32) -> u32 {
            word >> lo & (u32::MAX >> (31 - (hi - lo)))
        }
        Capabilities {
            stage2: bit(idr0, 0),
            stage1: bit(idr0, 1),
            table_formats: match field(idr0, 3, 2) {
                1 => TableFormats::AArch32,
                2 => TableFormats::AArch64,
                3 => TableFormats::Both,
                _ => TableFormats::Reserved,
            },
            coherent: bit(idr0, 4),
            access_flag_update: field(idr0, 7, 6) >= 1,
            dirty_update: field(idr0, 7, 6) == 2,
            hyp: bit(idr0, 9),
            ats: bit(idr0, 10),
            asid_bits: if bit(idr0, 12) { 16 } else { 8 },
            msi: bit(idr0, 13),
            sev: bit(idr0, 14),
            pri: bit(idr0, 16),
            vmid_bits: if bit(idr0, 18) { 16 } else { 8 },
            two_level_cd: bit(idr0, 19),
            endianness: match field(idr0, 22, 21) {
                0 => Endianness::Mixed,
                2 => Endianness::Little,
                3 => Endianness::Big,
                _ => Endianness::Reserved,
            },
            stall_model: match field(idr0, 25, 24) {
                0 => StallModel::Both,
                1 => StallModel::TerminateOnly,
                2 => StallModel::Forced,
                _ => StallModel::Reserved,
            },
            two_level_stream_table: field(idr0, 28, 27) == 1,
            sid_bits: field(idr1, 5, 0) as u8,
            ssid_bits: field(idr1, 10, 6) as u8,
            priq_log2: field(idr1, 15, 11) as u8,
            eventq_log2: field(idr1, 20, 16) as u8,
            cmdq_log2: field(idr1, 25, 21) as u8,
            attribute_override: bit(idr1, 27),
            relative_bases: bit(idr1, 28),
            queues_preset: bit(idr1, 29),
            tables_preset: bit(idr1, 30),
            forced_write_back: bit(idr3, 8),
            range_invalidation: bit(idr3, 10),
            bbm_level: field(idr3, 12, 11) as u8,
            output_size: OutputSize::from_encoding(field(idr5, 2, 0) as u8),
            granules: Granules { k4: bit(idr5, 4), k16: bit(idr5, 5), k64: bit(idr5, 6) },
            wide_input: field(idr5, 11, 10) == 1,
            stall_max: field(idr5, 31, 16) as u16,
            implementation: Implementation {
                implementer: field(iidr, 11, 0) as u16,
                revision: field(iidr, 15, 12) as u8,
                variant: field(iidr, 19, 16) as u8,
                product: field(iidr, 31, 20) as u16,
            },
            minor_version: field(aidr, 3, 0) as u8,
        }
    }

    /// Whether TLB invalidations may be ranged.
    #[must_use]
    pub const fn range_support(&self) -> RangeSupport {
        if self.range_invalidation { RangeSupport::Ril } else { RangeSupport::Single }
    }

    /// Largest input address of stage 1, in bits.
    #[must_use]
    pub const fn input_bits(&self) -> u32 {
        if self.wide_input { 52 } else { 48 }
    }
}

impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stages = match (self.stage1, self.stage2) {
            (true, true) => "stage 1, stage 2",
            (true, false) => "stage 1",
            (false, true) => "stage 2",
            (false, false) => "none",
        };
        let yes = |b| if b { "yes" } else { "no" };
        writeln!(f, "architecture     SMMUv3.{}", self.minor_version)?;
        writeln!(f, "translation      {stages}")?;
        let formats = match self.table_formats {
            TableFormats::AArch32 => "AArch32",
            TableFormats::AArch64 => "AArch64",
            TableFormats::Both => "AArch32 and AArch64",
            TableFormats::Reserved => "reserved encoding",
        };
        let endianness = match self.endianness {
            Endianness::Mixed => "of either endianness",
            Endianness::Little => "little-endian",
            Endianness::Big => "big-endian",
            Endianness::Reserved => "of a reserved endianness",
        };
        writeln!(f, "table formats    {formats}, {endianness}")?;
        write!(f, "granules        ")?;
        for granule in [Granule::K4, Granule::K16, Granule::K64] {
            if self.granules.contains(granule) {
                write!(f, " {granule}")?;
            }
        }
        writeln!(f)?;
        match self.output_size {
            Some(size) => writeln!(f, "output address   {} bits", size.bits())?,
            None => writeln!(f, "output address   reserved encoding")?,
        }
        writeln!(f, "ASID / VMID      {} / {} bits", self.asid_bits, self.vmid_bits)?;
        writeln!(
            f,
            "StreamID         {} bits, {} stream table",
            self.sid_bits,
            if self.two_level_stream_table { "1- or 2-level" } else { "1-level" }
        )?;
        writeln!(f, "SubstreamID      {} bits", self.ssid_bits)?;
        writeln!(
            f,
            "largest queues   commands 2^{}, events 2^{}",
            self.cmdq_log2, self.eventq_log2
        )?;
        writeln!(f, "coherent         {}", yes(self.coherent))?;
        writeln!(f, "range commands   {}", yes(self.range_invalidation))?;
        writeln!(f, "ATS / PRI        {} / {}", yes(self.ats), yes(self.pri))?;
        let stalls = match self.stall_model {
            StallModel::Both => "by configuration",
            StallModel::TerminateOnly => "no",
            StallModel::Forced => "always",
            StallModel::Reserved => "reserved encoding",
        };
        writeln!(f, "stalls           {stalls}")?;
        write!(f, "SYNC signals     MSI {}, SEV {}", yes(self.msi), yes(self.sev))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_what_qemu_says() {
        // ID registers read from QEMU 11.1.3.
        let caps = Capabilities::decode(IdRegisters {
            idr0: 0x0d44_101b,
            idr1: 0x0273_0010,
            idr3: 0x1414,
            idr5: 0x74,
            iidr: 0,
            aidr: 1,
        });
        assert!(caps.stage1 && caps.stage2 && caps.coherent && caps.two_level_stream_table);
        assert_eq!(caps.table_formats, TableFormats::AArch64);
        assert_eq!(caps.endianness, Endianness::Little);
        assert_eq!(caps.stall_model, StallModel::TerminateOnly);
        assert_eq!((caps.asid_bits, caps.vmid_bits), (16, 16));
        assert_eq!((caps.cmdq_log2, caps.eventq_log2), (19, 19));
        assert_eq!((caps.sid_bits, caps.ssid_bits), (16, 0));
        assert!(!caps.msi && !caps.sev && !caps.ats && !caps.pri);
        assert!(caps.range_invalidation && !caps.forced_write_back);
        assert_eq!(caps.bbm_level, 2);
        assert_eq!(caps.output_size, Some(OutputSize::Bits44));
        for granule in [Granule::K4, Granule::K16, Granule::K64] {
            assert!(caps.granules.contains(granule));
        }
        assert_eq!(caps.minor_version, 1);
    }

    #[test]
    fn reserved_values_stay_visible() {
        let caps = Capabilities::decode(IdRegisters {
            idr0: 3 << 24 | 1 << 21,
            idr5: 7,
            ..IdRegisters::default()
        });
        assert_eq!(caps.output_size, None);
        assert_eq!(caps.stall_model, StallModel::Reserved);
        assert_eq!(caps.endianness, Endianness::Reserved);
        assert_eq!(caps.table_formats, TableFormats::Reserved);
    }
}
