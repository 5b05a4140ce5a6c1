//! The capabilities of an SMMU, decoded from its ID registers (IHI 0070, 6.3.1 to 6.3.8).

mod display;
mod range_support;
#[cfg(test)]
mod tests;

pub use range_support::RangeSupport;

use crate::fields::aidr::{self, Aidr};
use crate::fields::idr0::{self, Idr0};
use crate::fields::idr1::{self, Idr1};
use crate::fields::idr3::{self, Idr3};
use crate::fields::idr5::{self, Idr5};
use crate::fields::idr6::{self, Idr6};
use crate::fields::iidr::{self, Iidr};
use crate::regs::vatos;
use crate::{Granule, OutputSize};

/// The ID registers, as read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IdRegisters {
    /// `IDR0`.
    pub idr0: u32,
    /// `IDR1`.
    pub idr1: u32,
    /// `IDR2`.
    pub idr2: u32,
    /// `IDR3`.
    pub idr3: u32,
    /// `IDR4`.
    pub idr4: u32,
    /// `IDR5`.
    pub idr5: u32,
    /// `IDR6`; 0 where `IDR1.ECMDQ` is clear.
    pub idr6: u32,
    /// `IIDR`.
    pub iidr: u32,
    /// `AIDR`.
    pub aidr: u32,
}

impl IdRegisters {
    /// Each register with its name and its value.
    #[must_use]
    pub const fn named(&self) -> [(&'static str, u32); 9] {
        [
            ("IDR0", self.idr0),
            ("IDR1", self.idr1),
            ("IDR2", self.idr2),
            ("IDR3", self.idr3),
            ("IDR4", self.idr4),
            ("IDR5", self.idr5),
            ("IDR6", self.idr6),
            ("IIDR", self.iidr),
            ("AIDR", self.aidr),
        ]
    }
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

/// `IDR0.TERM_MODEL`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TerminateModel {
    /// `CD.A` chooses: abort, or read as zero and ignore writes.
    Both,
    /// Terminated transactions abort.
    AbortOnly,
}

/// `IDR0.HTTU`: which flags of a translation table the SMMU updates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TableUpdate {
    /// Nothing.
    None,
    /// The access flag.
    Access,
    /// The access flag and the dirty state.
    Dirty,
    /// The access flag and the dirty state, and the access flag of table descriptors.
    TableAccess,
}

/// Enhanced command queues, as `IDR6` counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnhancedQueues {
    /// log2 of the number of control pages.
    pub pages_log2: u8,
    /// log2 of the number of queues in each page.
    pub queues_log2: u8,
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
/// Decoding cannot fail: reserved values stay visible. The driver decides in its probe whether it
/// can work with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    // IDR0.
    /// Stage 1 (`S1P`).
    pub stage1: bool,
    /// Stage 2 (`S2P`).
    pub stage2: bool,
    /// Table formats.
    pub table_formats: TableFormats,
    /// Tables and queues are snooped (`COHACC`).
    pub coherent: bool,
    /// Broadcast TLB maintenance (`BTM`).
    pub broadcast_tlb: bool,
    /// Which flags of tables the SMMU updates (`HTTU`).
    pub table_update: TableUpdate,
    /// Hardware update of the access flag (`HTTU` >= 1).
    pub access_flag_update: bool,
    /// Hardware update of the dirty state (`HTTU` >= 2).
    pub dirty_update: bool,
    /// `STATUSR.DORMANT` tells when the SMMU caches nothing (`DORMHINT`).
    pub dormant_hint: bool,
    /// EL2 regime (`HYP`).
    pub hyp: bool,
    /// Address translation services.
    pub ats: bool,
    /// ATS can answer with stage 1 alone: ATS, both stages, and no `NS1ATS`.
    pub split_stage_ats: bool,
    /// The SMMU can record more events of ATS and PRI (`ATSRECERR`).
    pub ats_errors: bool,
    /// Message-signalled interrupts.
    pub msi: bool,
    /// `CMD_SYNC` can wake `WFE`.
    pub sev: bool,
    /// Address translation operations (`ATOS`).
    pub atos: bool,
    /// The place of the virtual ATOS page (`VATOS`), in bytes from the base of page 0.
    pub vatos_page: Option<u32>,
    /// Page request interface.
    pub pri: bool,
    /// Invalidations can leave out low bits of the VMID (`VMW`).
    pub vmid_wildcard: bool,
    /// Two-level context descriptor tables (`CD2L`).
    pub two_level_cd: bool,
    /// Two-level stream tables (`ST_LEVEL`).
    pub two_level_stream_table: bool,
    /// Endianness of tables.
    pub endianness: Endianness,
    /// Stalls.
    pub stall_model: StallModel,
    /// How the SMMU terminates transactions.
    pub terminate_model: TerminateModel,
    /// Granule protection checks (`RME_IMPL`).
    pub granule_protection: bool,
    /// Bits of an ASID: 8 or 16.
    pub asid_bits: u8,
    /// Bits of a VMID: 8 or 16.
    pub vmid_bits: u8,

    // IDR1 and IDR6.
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
    /// Incoming permission attributes can be replaced (`ATTR_PERMS_OVR`).
    pub permission_override: bool,
    /// Incoming attributes can be replaced (`ATTR_TYPES_OVR`).
    pub attribute_override: bool,
    /// Table bases are fixed (`TABLES_PRESET`).
    pub tables_preset: bool,
    /// Queue bases are fixed (`QUEUES_PRESET`).
    pub queues_preset: bool,
    /// Preset bases are relative (`REL`).
    pub relative_bases: bool,
    /// Enhanced command queues (`ECMDQ`).
    pub enhanced_queues: Option<EnhancedQueues>,

    // IDR3.
    /// Hierarchical attributes can be turned off (`HAD`).
    pub hierarchical_disable: bool,
    /// Page-based hardware attributes (`PBHA`).
    pub page_attributes: bool,
    /// Stage 2 tells execution at EL0 and EL1 apart (`XNX`).
    pub execute_never_by_level: bool,
    /// Automatic answers to page requests always have the PASID (`PPS`).
    pub pri_answers_with_pasid: bool,
    /// Memory partitioning and monitoring (`MPAM`).
    pub mpam: bool,
    /// Stage 2 can force Write-Back (`FWB`).
    pub forced_write_back: bool,
    /// Small translation tables (`STT`).
    pub small_tables: bool,
    /// Range invalidation (`RIL`).
    pub range_invalidation: bool,
    /// Break-before-make level (`BBML`).
    pub bbm_level: u8,
    /// Stage 1 can keep EL0 out of half of the addresses (`E0PD`).
    pub e0pd: bool,
    /// Walks that stage 2 maps to Device memory become Non-cacheable (`PTWNNC`).
    pub device_walks_noncacheable: bool,
    /// Device permission table (`DPT`).
    pub device_permission_table: bool,
    /// Translated transactions of ATS can carry a PASID (`PASIDTT`).
    pub translated_pasid: bool,
    /// Enhanced privileged access never (`EPAN`).
    pub epan: bool,
    /// Stage 1 permission indirection (`S1PI`).
    pub stage1_indirection: bool,
    /// Stage 2 permission indirection (`S2PI`).
    pub stage2_indirection: bool,
    /// Stage 2 permission overlay (`S2PO`).
    pub stage2_overlay: bool,
    /// Translation hardening (`THE`).
    pub hardening: bool,
    /// Memory types without tag access at stage 2 (`MTEPERM`).
    pub no_tag_access: bool,
    /// Attribute index extension (`AIE`).
    pub attribute_index: bool,

    // IDR5.
    /// Output address size; `None` for a reserved value. 52 bits need SMMUv3.1; 56 bits need
    /// SMMUv3.4 and 128-bit descriptors.
    pub output_size: Option<OutputSize>,
    /// Granules.
    pub granules: Granules,
    /// 52 bits with granules of 4 KiB and 16 KiB (`DS`).
    pub wide_small_granules: bool,
    /// 128-bit descriptors (`D128`).
    pub wide_descriptors: bool,
    /// Input addresses of 52 bits or more (`VAX`).
    pub wide_input: bool,
    /// Bits of a virtual address (`VAX`): 48, 52 or, with 128-bit descriptors, 56. `None` for the
    /// reserved value.
    pub va_bits: Option<u8>,
    /// Outstanding stalls (`STALL_MAX`).
    pub stall_max: u16,

    // IIDR and AIDR.
    /// Implementer, product and revision.
    pub implementation: Implementation,
    /// Minor version of the architecture: 2 for SMMUv3.2.
    pub minor_version: u8,
}

/// `IDR5.OAS`. `None` for a value that is reserved in this version or without 128-bit descriptors
/// (6.3.6).
pub(crate) const fn output_size(id: &IdRegisters) -> Option<OutputSize> {
    let minor = Aidr::from_bits(id.aidr).get(aidr::ARCHMINORREV);
    let idr5 = Idr5::from_bits(id.idr5);
    let d128 = idr5.get(idr5::D128);
    match OutputSize::from_encoding(idr5.get(idr5::OAS) as u8) {
        Some(OutputSize::Bits52) if minor < 1 => None,
        Some(OutputSize::Bits56) if minor < 4 || d128 == 0 => None,
        size => size,
    }
}

impl Capabilities {
    /// Decodes the ID registers.
    #[must_use]
    pub const fn decode(id: IdRegisters) -> Self {
        let IdRegisters { idr0, idr1, idr2, idr3, idr4: _, idr5, idr6, iidr, aidr } = id;
        let (r0, r1) = (Idr0::from_bits(idr0), Idr1::from_bits(idr1));
        let (r3, r5, r6) = (Idr3::from_bits(idr3), Idr5::from_bits(idr5), Idr6::from_bits(idr6));
        let made = Iidr::from_bits(iidr);
        let httu = r0.get(idr0::HTTU);
        let wide_descriptors = r5.get(idr5::D128) != 0;
        let (stage1, stage2) = (r0.get(idr0::S1P) != 0, r0.get(idr0::S2P) != 0);
        let ats = r0.get(idr0::ATS) != 0;
        Capabilities {
            stage1,
            stage2,
            table_formats: match r0.get(idr0::TTF) {
                1 => TableFormats::AArch32,
                2 => TableFormats::AArch64,
                3 => TableFormats::Both,
                _ => TableFormats::Reserved,
            },
            coherent: r0.get(idr0::COHACC) != 0,
            broadcast_tlb: r0.get(idr0::BTM) != 0,
            table_update: match httu {
                0 => TableUpdate::None,
                1 => TableUpdate::Access,
                2 => TableUpdate::Dirty,
                _ => TableUpdate::TableAccess,
            },
            access_flag_update: httu >= 1,
            dirty_update: httu >= 2,
            dormant_hint: r0.get(idr0::DORMHINT) != 0,
            hyp: r0.get(idr0::HYP) != 0,
            ats,
            split_stage_ats: ats && stage1 && stage2 && r0.get(idr0::NS1ATS) == 0,
            ats_errors: r0.get(idr0::ATSRECERR) != 0,
            asid_bits: if r0.get(idr0::ASID16) != 0 { 16 } else { 8 },
            msi: r0.get(idr0::MSI) != 0,
            sev: r0.get(idr0::SEV) != 0,
            atos: r0.get(idr0::ATOS) != 0,
            vatos_page: if r0.get(idr0::VATOS) != 0 { Some(vatos::page(idr2)) } else { None },
            pri: r0.get(idr0::PRI) != 0,
            vmid_wildcard: r0.get(idr0::VMW) != 0,
            vmid_bits: if r0.get(idr0::VMID16) != 0 { 16 } else { 8 },
            two_level_cd: r0.get(idr0::CD2L) != 0,
            endianness: match r0.get(idr0::TTENDIAN) {
                0 => Endianness::Mixed,
                2 => Endianness::Little,
                3 => Endianness::Big,
                _ => Endianness::Reserved,
            },
            stall_model: match r0.get(idr0::STALL_MODEL) {
                0 => StallModel::Both,
                1 => StallModel::TerminateOnly,
                2 => StallModel::Forced,
                _ => StallModel::Reserved,
            },
            terminate_model: match r0.get(idr0::TERM_MODEL) {
                0 => TerminateModel::Both,
                _ => TerminateModel::AbortOnly,
            },
            two_level_stream_table: r0.get(idr0::ST_LEVEL) == 1,
            granule_protection: r0.get(idr0::RME_IMPL) != 0,
            sid_bits: r1.get(idr1::SIDSIZE) as u8,
            ssid_bits: r1.get(idr1::SSIDSIZE) as u8,
            priq_log2: r1.get(idr1::PRIQS) as u8,
            eventq_log2: r1.get(idr1::EVENTQS) as u8,
            cmdq_log2: r1.get(idr1::CMDQS) as u8,
            permission_override: r1.get(idr1::ATTR_PERMS_OVR) != 0,
            attribute_override: r1.get(idr1::ATTR_TYPES_OVR) != 0,
            relative_bases: r1.get(idr1::REL) != 0,
            queues_preset: r1.get(idr1::QUEUES_PRESET) != 0,
            tables_preset: r1.get(idr1::TABLES_PRESET) != 0,
            enhanced_queues: if r1.get(idr1::ECMDQ) != 0 {
                Some(EnhancedQueues {
                    pages_log2: r6.get(idr6::CMDQ_CONTROL_PAGE_LOG2NUMP) as u8,
                    queues_log2: r6.get(idr6::CMDQ_CONTROL_PAGE_LOG2NUMQ) as u8,
                })
            } else {
                None
            },
            hierarchical_disable: r3.get(idr3::HAD) != 0,
            page_attributes: r3.get(idr3::PBHA) != 0,
            execute_never_by_level: r3.get(idr3::XNX) != 0,
            pri_answers_with_pasid: r3.get(idr3::PPS) != 0,
            mpam: r3.get(idr3::MPAM) != 0,
            forced_write_back: r3.get(idr3::FWB) != 0,
            small_tables: r3.get(idr3::STT) != 0,
            range_invalidation: r3.get(idr3::RIL) != 0,
            bbm_level: r3.get(idr3::BBML) as u8,
            e0pd: r3.get(idr3::E0PD) != 0,
            device_walks_noncacheable: r3.get(idr3::PTWNNC) != 0,
            device_permission_table: r3.get(idr3::DPT) != 0,
            translated_pasid: r3.get(idr3::PASIDTT) != 0,
            epan: r3.get(idr3::EPAN) != 0,
            stage1_indirection: r3.get(idr3::S1PI) != 0,
            stage2_indirection: r3.get(idr3::S2PI) != 0,
            stage2_overlay: r3.get(idr3::S2PO) != 0,
            hardening: r3.get(idr3::THE) != 0,
            no_tag_access: r3.get(idr3::MTEPERM) != 0,
            attribute_index: r3.get(idr3::AIE) != 0,
            output_size: output_size(&id),
            granules: Granules {
                k4: r5.get(idr5::GRAN4K) != 0,
                k16: r5.get(idr5::GRAN16K) != 0,
                k64: r5.get(idr5::GRAN64K) != 0,
            },
            wide_small_granules: r5.get(idr5::DS) != 0,
            wide_descriptors,
            wide_input: matches!(r5.get(idr5::VAX), 1 | 2),
            va_bits: match r5.get(idr5::VAX) {
                0 => Some(48),
                1 => Some(52),
                2 => Some(56),
                _ => None,
            },
            stall_max: r5.get(idr5::STALL_MAX) as u16,
            implementation: Implementation {
                implementer: made.get(iidr::IMPLEMENTER) as u16,
                revision: made.get(iidr::REVISION) as u8,
                variant: made.get(iidr::VARIANT) as u8,
                product: made.get(iidr::PRODUCTID) as u16,
            },
            minor_version: Aidr::from_bits(aidr).get(aidr::ARCHMINORREV) as u8,
        }
    }

    /// Whether TLB invalidations may have a range, and how large its `SCALE` may be.
    #[must_use]
    pub const fn range_support(&self) -> RangeSupport {
        match (self.range_invalidation, self.wide_small_granules) {
            (false, _) => RangeSupport::Single,
            (true, false) => RangeSupport::Ril,
            (true, true) => RangeSupport::RilDs,
        }
    }

    /// Bits of the largest stage-1 input address, for tables of 64-bit descriptors.
    #[must_use]
    pub const fn input_bits(&self) -> u32 {
        if self.wide_input { 52 } else { 48 }
    }
}
