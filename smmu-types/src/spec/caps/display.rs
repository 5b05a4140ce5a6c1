//! Capabilities in words.

use core::fmt;

use super::{Capabilities, Endianness, StallModel, TableFormats, TableUpdate};
use crate::Granule;

impl Capabilities {
    /// The features without a line of their own, by the architecture's names.
    const fn more(&self) -> [(bool, &'static str); 26] {
        [
            (self.hyp, "Hyp"),
            (self.broadcast_tlb, "BTM"),
            (self.dormant_hint, "DORMHINT"),
            (self.atos, "ATOS"),
            (self.vatos_page.is_some(), "VATOS"),
            (self.vmid_wildcard, "VMW"),
            (self.two_level_cd, "CD2L"),
            (self.granule_protection, "RME_IMPL"),
            (self.enhanced_queues.is_some(), "ECMDQ"),
            (self.hierarchical_disable, "HAD"),
            (self.page_attributes, "PBHA"),
            (self.execute_never_by_level, "XNX"),
            (self.pri_answers_with_pasid, "PPS"),
            (self.mpam, "MPAM"),
            (self.forced_write_back, "FWB"),
            (self.small_tables, "STT"),
            (self.e0pd, "E0PD"),
            (self.device_permission_table, "DPT"),
            (self.translated_pasid, "PASIDTT"),
            (self.epan, "EPAN"),
            (self.stage1_indirection, "S1PI"),
            (self.stage2_indirection, "S2PI"),
            (self.hardening, "THE"),
            (self.no_tag_access, "MTEPERM"),
            (self.wide_small_granules, "DS"),
            (self.wide_descriptors, "D128"),
        ]
    }
}

/// The capabilities that a driver needs first, in words, a line each.
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
        match self.va_bits {
            Some(bits) => writeln!(f, "virtual address  {bits} bits")?,
            None => writeln!(f, "virtual address  reserved encoding")?,
        }
        let update = match self.table_update {
            TableUpdate::None => "none",
            TableUpdate::Access => "access flag",
            TableUpdate::Dirty => "access flag, dirty state",
            TableUpdate::TableAccess => "access flag, also of table descriptors, dirty state",
        };
        writeln!(f, "table updates    {update}")?;
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
        writeln!(f, "SYNC signals     MSI {}, SEV {}", yes(self.msi), yes(self.sev))?;
        write!(f, "more            ")?;
        let mut none = true;
        for (has, name) in self.more() {
            if has {
                write!(f, " {name}")?;
                none = false;
            }
        }
        if none { f.write_str(" none") } else { Ok(()) }
    }
}
