//! The SMMU as the rules see it: ID registers and settings.

use crate::fields::ste;
use crate::spec::caps::output_size;
use crate::{IdRegisters, OutputSize, Ste};

/// `CR2.E2H`: what `STE.STRW` = 2 means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum El2Regime {
    /// EL2: one table and no ASIDs.
    #[default]
    El2,
    /// EL2-E2H: two tables and ASIDs, as EL1.
    El2E2h,
}

/// `CR0.ATSCHK`: what the SMMU does with translated traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TranslatedTraffic {
    /// It passes.
    #[default]
    Passes,
    /// It is checked against the STE.
    Checked,
}

/// The part of an SMMU that the rules need: its ID registers, and the settings that change the
/// meaning of a structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SmmuView {
    /// The ID registers.
    pub id: IdRegisters,
    /// `CR2.E2H`.
    pub el2: El2Regime,
    /// `CR0.ATSCHK`.
    pub translated: TranslatedTraffic,
    /// `MPAMIDR`. `None` if it is unknown; the rules then ignore partitions.
    pub partitions: Option<Partitions>,
}

/// `MPAMIDR`: the largest partition and performance monitoring group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Partitions {
    /// `PARTID_MAX`. 0 means one partition.
    pub partid: u16,
    /// `PMG_MAX`.
    pub pmg: u8,
}

/// The regime of a stream (3.3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum World {
    El1,
    El2,
    El2E2h,
}

/// The format of translation tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TableFormat {
    /// VMSAv8-32 LPAE.
    Short,
    /// VMSAv8-64.
    Long,
    /// VMSAv9-128.
    Wide,
}

const fn bits(word: u32, hi: u32, lo: u32) -> u8 {
    (word >> lo & (u32::MAX >> (31 - (hi - lo)))) as u8
}

macro_rules! id_fields {
    ($($name:ident: $register:ident $hi:literal : $lo:literal;)*) => {
        impl SmmuView {
            $(pub(super) const fn $name(&self) -> u8 {
                bits(self.id.$register, $hi, $lo)
            })*
        }
    };
}

id_fields! {
    s2p: idr0 0:0; s1p: idr0 1:1; ttf: idr0 3:2; httu: idr0 7:6; hyp: idr0 9:9; ats: idr0 10:10;
    ns1ats: idr0 11:11; asid16: idr0 12:12; pri: idr0 16:16; vmid16: idr0 18:18; cd2l: idr0 19:19;
    ttendian: idr0 22:21; stall_model: idr0 25:24; term_model: idr0 26:26; st_level: idr0 28:27;
    sidsize: idr1 5:0; ssidsize: idr1 10:6; attr_perms_ovr: idr1 26:26; attr_types_ovr: idr1 27:27;
    had: idr3 2:2; pbha: idr3 3:3; pps: idr3 5:5; mpam: idr3 7:7; fwb: idr3 8:8; stt: idr3 9:9;
    e0pd: idr3 13:13; dpt: idr3 15:15; epan: idr3 17:17; s1pi: idr3 18:18; s2pi: idr3 19:19;
    s2po: idr3 20:20; the: idr3 21:21; aie: idr3 23:23;
    gran: idr5 6:4; ds: idr5 7:7; d128: idr5 8:8; vax: idr5 11:10;
    minor: aidr 3:0;
}

impl SmmuView {
    /// An SMMU with these ID registers after reset: no E2H, no check of translated traffic. Its
    /// MPAM partitions are unknown.
    #[must_use]
    pub const fn new(id: IdRegisters) -> Self {
        let (el2, translated) = (El2Regime::El2, TranslatedTraffic::Passes);
        SmmuView { id, el2, translated, partitions: None }
    }

    /// With another `CR2.E2H`.
    #[must_use]
    pub const fn with_el2(mut self, el2: El2Regime) -> Self {
        self.el2 = el2;
        self
    }

    /// With another `CR0.ATSCHK`.
    #[must_use]
    pub const fn with_translated(mut self, translated: TranslatedTraffic) -> Self {
        self.translated = translated;
        self
    }

    /// With this `MPAMIDR`.
    #[must_use]
    pub const fn with_partitions(mut self, partitions: Partitions) -> Self {
        self.partitions = Some(partitions);
        self
    }

    /// The size of an output address (`OAS`). A reserved value counts as 48 bits, as in the probe.
    const fn output_size(&self) -> OutputSize {
        match output_size(&self.id) {
            Some(size) => size,
            None => OutputSize::Bits48,
        }
    }

    /// `OAS` as `IPS` and `S2PS` encode it.
    pub(super) const fn oas_encoding(&self) -> u8 {
        self.output_size() as u8
    }

    /// Bits of an output address (`OAS`).
    pub(super) const fn output_bits(&self) -> u8 {
        self.output_size().bits() as u8
    }

    /// Bits of an intermediate address (`IAS`, 3.4).
    pub(super) const fn intermediate_bits(&self) -> u8 {
        let long = if self.ttf() & 2 != 0 { self.output_bits() } else { 0 };
        if self.ttf() & 1 != 0 && long < 40 { 40 } else { long }
    }

    /// Bits of an address size as `IPS` and `S2PS` encode it. A value that this version reserves
    /// behaves as its largest size.
    pub(super) const fn size_bits(&self, encoding: u8) -> u8 {
        match encoding {
            0 => 32,
            1 => 36,
            2 => 40,
            3 => 42,
            4 => 44,
            6 if self.minor() >= 1 => 52,
            7 if self.minor() >= 4 => 56,
            7 if self.minor() >= 1 => 52,
            _ => 48,
        }
    }

    /// The table format that a clear or set `AA64` bit selects.
    pub(super) const fn format(&self, aa64: u64) -> TableFormat {
        if aa64 != 0 {
            TableFormat::Long
        } else if self.d128() != 0 {
            TableFormat::Wide
        } else {
            TableFormat::Short
        }
    }

    /// Bits of the address in `TTB0`, `TTB1` and `S2TTB`; the field's bits above them are RES0.
    pub(super) const fn table_address_bits(&self, format: TableFormat) -> u8 {
        match format {
            TableFormat::Wide => 56,
            _ if self.minor() == 0 => 48,
            _ => 52,
        }
    }

    /// Whether the SMMU has a granule of 2^`shift` bytes.
    pub(super) const fn has_granule(&self, shift: u8) -> bool {
        match shift {
            12 => self.gran() & 1 != 0,
            14 => self.gran() & 2 != 0,
            16 => self.gran() & 4 != 0,
            _ => false,
        }
    }

    /// Whether `STRW` has a meaning.
    pub(super) const fn uses_strw(&self, entry: &Ste) -> bool {
        self.s1p() != 0 && self.hyp() != 0 && entry.get(ste::CONFIG) == 5
    }

    /// The regime of a stream.
    pub(super) const fn world(&self, entry: &Ste) -> World {
        match (self.uses_strw(entry), entry.get(ste::STRW), self.el2) {
            (true, 2, El2Regime::El2) => World::El2,
            (true, 2, El2Regime::El2E2h) => World::El2E2h,
            _ => World::El1,
        }
    }
}
