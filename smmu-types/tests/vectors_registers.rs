//! Registers against other definitions: the place of each register, and of its fields.
//!
//! The numbers are literal, taken from the sources that each list names. Most are older than
//! addresses of 56 bits and than 128-bit descriptors: an address field may end higher here.

#![expect(clippy::panic, clippy::unwrap_used, reason = "helpers of tests")]

use smmu_types::fields::{self, RegisterInfo};
use smmu_types::layout::{Field, Layout, Meaning};
use smmu_types::{Capabilities, IdRegisters, OutputSize, TableFormats, regs};

/// A register's name; of each field the name, the highest and the lowest bit. A `!` behind the
/// register's name means the fields of a failed operation.
type Register = (&'static str, &'static [(&'static str, u16, u16)]);

/// `SmmuV3Registers.h` of EDK2's SMMUv3 driver (BSD-2-Clause-Patent).
#[rustfmt::skip]
const EDK2: &[Register] = &[
    ("IDR0", &[("S2P", 0, 0), ("S1P", 1, 1), ("TTF", 3, 2), ("COHACC", 4, 4), ("BTM", 5, 5), ("HTTU", 7, 6),
        ("DORMHINT", 8, 8), ("Hyp", 9, 9), ("ATS", 10, 10), ("NS1ATS", 11, 11), ("ASID16", 12, 12),
        ("MSI", 13, 13), ("SEV", 14, 14), ("ATOS", 15, 15), ("PRI", 16, 16), ("VMW", 17, 17),
        ("VMID16", 18, 18), ("CD2L", 19, 19), ("VATOS", 20, 20), ("TTENDIAN", 22, 21), ("STALL_MODEL", 25, 24),
        ("TERM_MODEL", 26, 26), ("ST_LEVEL", 28, 27)]),
    ("IDR1", &[("SIDSIZE", 5, 0), ("SSIDSIZE", 10, 6), ("PRIQS", 15, 11), ("EVENTQS", 20, 16),
        ("CMDQS", 25, 21), ("ATTR_PERMS_OVR", 26, 26), ("ATTR_TYPES_OVR", 27, 27), ("REL", 28, 28),
        ("QUEUES_PRESET", 29, 29), ("TABLES_PRESET", 30, 30), ("ECMDQ", 31, 31)]),
    ("IDR2", &[("BA_VATOS", 9, 0)]),
    ("IDR3", &[("HAD", 2, 2), ("PBHA", 3, 3), ("XNX", 4, 4), ("PPS", 5, 5), ("MPAM", 7, 7), ("FWB", 8, 8),
        ("STT", 9, 9), ("RIL", 10, 10), ("BBML", 12, 11)]),
    ("IDR5", &[("OAS", 2, 0), ("GRAN4K", 4, 4), ("GRAN16K", 5, 5), ("GRAN64K", 6, 6), ("VAX", 11, 10),
        ("STALL_MAX", 31, 16)]),
    ("IIDR", &[("Implementer", 11, 0), ("Revision", 15, 12), ("Variant", 19, 16), ("ProductID", 31, 20)]),
    ("AIDR", &[("ArchMinorRev", 3, 0), ("ArchMajorRev", 7, 4)]),
    ("CR0", &[("SMMUEN", 0, 0), ("PRIQEN", 1, 1), ("EVENTQEN", 2, 2), ("CMDQEN", 3, 3), ("ATSCHK", 4, 4),
        ("VMW", 8, 6)]),
    ("CR1", &[("QUEUE_IC", 1, 0), ("QUEUE_OC", 3, 2), ("QUEUE_SH", 5, 4), ("TABLE_IC", 7, 6),
        ("TABLE_OC", 9, 8), ("TABLE_SH", 11, 10)]),
    ("CR2", &[("E2H", 0, 0), ("RECINVSID", 1, 1), ("PTM", 2, 2)]),
    ("STATUSR", &[("DORMANT", 0, 0)]),
    ("GBPA", &[("MemAttr", 3, 0), ("MTCFG", 4, 4), ("ALLOCCFG", 11, 8), ("SHCFG", 13, 12), ("PRIVCFG", 17, 16),
        ("INSTCFG", 19, 18), ("ABORT", 20, 20), ("Update", 31, 31)]),
    ("IRQ_CTRL", &[("GERROR_IRQEN", 0, 0), ("PRIQ_IRQEN", 1, 1), ("EVENTQ_IRQEN", 2, 2)]),
    ("GERROR", &[("CMDQ_ERR", 0, 0), ("EVENTQ_ABT_ERR", 2, 2), ("PRIQ_ABT_ERR", 3, 3),
        ("MSI_CMDQ_ABT_ERR", 4, 4), ("MSI_EVENTQ_ABT_ERR", 5, 5), ("MSI_PRIQ_ABT_ERR", 6, 6),
        ("MSI_GERROR_ABT_ERR", 7, 7), ("SFM_ERR", 8, 8)]),
    ("GERROR_IRQ_CFG0", &[("ADDR", 51, 2)]),
    ("GERROR_IRQ_CFG2", &[("MemAttr", 3, 0), ("SH", 5, 4)]),
    ("STRTAB_BASE", &[("ADDR", 51, 6), ("RA", 62, 62)]),
    ("STRTAB_BASE_CFG", &[("LOG2SIZE", 5, 0), ("SPLIT", 10, 6), ("FMT", 17, 16)]),
    ("CMDQ_BASE", &[("LOG2SIZE", 4, 0), ("ADDR", 51, 5), ("RA", 62, 62)]),
    ("CMDQ_CONS", &[("RD", 19, 0), ("ERR", 30, 24)]),
    ("CMDQ_PROD", &[("WR", 19, 0)]),
    ("EVENTQ_BASE", &[("LOG2SIZE", 4, 0), ("ADDR", 51, 5), ("WA", 62, 62)]),
    ("EVENTQ_CONS", &[("RD", 19, 0), ("OVACKFLG", 31, 31)]),
    ("EVENTQ_PROD", &[("WR", 19, 0), ("OVFLG", 31, 31)]),
    ("EVENTQ_IRQ_CFG0", &[("ADDR", 51, 2)]),
    ("EVENTQ_IRQ_CFG2", &[("MemAttr", 3, 0), ("SH", 5, 4)]),
    ("PRIQ_BASE", &[("LOG2SIZE", 4, 0), ("ADDR", 51, 5), ("WA", 62, 62)]),
    ("PRIQ_CONS", &[("RD", 19, 0), ("OVACKFLG", 31, 31)]),
    ("PRIQ_PROD", &[("WR", 19, 0), ("OVFLG", 31, 31)]),
    ("PRIQ_IRQ_CFG0", &[("ADDR", 51, 2)]),
    ("PRIQ_IRQ_CFG2", &[("MemAttr", 3, 0), ("SH", 5, 4)]),
    ("GATOS_CTRL", &[("RUN", 0, 0)]),
    ("GATOS_SID", &[("STREAMID", 31, 0), ("SUBSTREAMID", 51, 32), ("SSID_VALID", 52, 52)]),
    ("GATOS_ADDR", &[("HTTUI", 6, 6), ("InD", 7, 7), ("RnW", 8, 8), ("PnU", 9, 9), ("TYPE", 11, 10),
        ("ADDR", 63, 12)]),
    ("GATOS_PAR", &[("FAULT", 0, 0), ("SH", 9, 8), ("Size", 11, 11), ("ADDR", 51, 12), ("ATTR", 63, 56)]),
    ("GATOS_PAR!", &[("FAULT", 0, 0), ("REASON", 2, 1), ("FAULTCODE", 11, 4), ("FADDR", 51, 12),
        ("IMPLEMENTATION_DEFINED", 63, 60)]),
    ("MPAMIDR", &[("PARTID_MAX", 15, 0), ("PMG_MAX", 23, 16)]),
    ("GMPAM", &[("SO_PARTID", 15, 0), ("SO_PMG", 23, 16), ("Update", 31, 31)]),
    ("GBPMPAM", &[("GBP_PARTID", 15, 0), ("GBP_PMG", 23, 16), ("Update", 31, 31)]),
    ("VATOS_SEL", &[("VMID", 15, 0)]),
    ("PIDR4", &[("DES_2", 3, 0), ("SIZE", 7, 4)]),
    ("PIDR0", &[("PART_0", 7, 0)]),
    ("PIDR1", &[("PART_1", 3, 0), ("DES_0", 7, 4)]),
    ("PIDR2", &[("DES_1", 2, 0), ("JEDEC", 3, 3), ("REVISION", 7, 4)]),
    ("PIDR3", &[("CMOD", 3, 0), ("REVAND", 7, 4)]),
];

/// Marvell's register definitions of the SMMU of Odyssey in Trusted Firmware (BSD-3-Clause).
#[rustfmt::skip]
const MARVELL: &[Register] = &[
    ("IDR0", &[("S2P", 0, 0), ("S1P", 1, 1), ("TTF", 3, 2), ("COHACC", 4, 4), ("BTM", 5, 5), ("HTTU", 7, 6),
        ("DORMHINT", 8, 8), ("Hyp", 9, 9), ("ATS", 10, 10), ("NS1ATS", 11, 11), ("ASID16", 12, 12),
        ("MSI", 13, 13), ("SEV", 14, 14), ("ATOS", 15, 15), ("PRI", 16, 16), ("VMW", 17, 17),
        ("VMID16", 18, 18), ("CD2L", 19, 19), ("VATOS", 20, 20), ("TTENDIAN", 22, 21), ("ATSRECERR", 23, 23),
        ("STALL_MODEL", 25, 24), ("TERM_MODEL", 26, 26), ("ST_LEVEL", 28, 27)]),
    ("IDR1", &[("SIDSIZE", 5, 0), ("SSIDSIZE", 10, 6), ("PRIQS", 15, 11), ("EVENTQS", 20, 16),
        ("CMDQS", 25, 21), ("ATTR_PERMS_OVR", 26, 26), ("ATTR_TYPES_OVR", 27, 27), ("REL", 28, 28),
        ("QUEUES_PRESET", 29, 29), ("TABLES_PRESET", 30, 30), ("ECMDQ", 31, 31)]),
    ("IDR2", &[("BA_VATOS", 9, 0)]),
    ("IDR3", &[("HAD", 2, 2), ("PBHA", 3, 3), ("XNX", 4, 4), ("PPS", 5, 5), ("MPAM", 7, 7), ("FWB", 8, 8),
        ("STT", 9, 9), ("RIL", 10, 10), ("BBML", 12, 11), ("E0PD", 13, 13), ("PTWNNC", 14, 14)]),
    ("IDR5", &[("OAS", 2, 0), ("GRAN4K", 4, 4), ("GRAN16K", 5, 5), ("GRAN64K", 6, 6), ("VAX", 11, 10),
        ("STALL_MAX", 31, 16)]),
    ("IIDR", &[("Implementer", 11, 0), ("Revision", 15, 12), ("Variant", 19, 16), ("ProductID", 31, 20)]),
    ("AIDR", &[("ArchMinorRev", 3, 0), ("ArchMajorRev", 7, 4)]),
    ("CR0", &[("SMMUEN", 0, 0), ("PRIQEN", 1, 1), ("EVENTQEN", 2, 2), ("CMDQEN", 3, 3), ("ATSCHK", 4, 4),
        ("VMW", 8, 6)]),
    ("CR1", &[("QUEUE_IC", 1, 0), ("QUEUE_OC", 3, 2), ("QUEUE_SH", 5, 4), ("TABLE_IC", 7, 6),
        ("TABLE_OC", 9, 8), ("TABLE_SH", 11, 10)]),
    ("CR2", &[("E2H", 0, 0), ("RECINVSID", 1, 1), ("PTM", 2, 2)]),
    ("GBPA", &[("MemAttr", 3, 0), ("MTCFG", 4, 4), ("ALLOCCFG", 11, 8), ("SHCFG", 13, 12), ("PRIVCFG", 17, 16),
        ("INSTCFG", 19, 18), ("ABORT", 20, 20), ("Update", 31, 31)]),
    ("IRQ_CTRL", &[("GERROR_IRQEN", 0, 0), ("PRIQ_IRQEN", 1, 1), ("EVENTQ_IRQEN", 2, 2)]),
    ("GERROR", &[("CMDQ_ERR", 0, 0), ("EVENTQ_ABT_ERR", 2, 2), ("PRIQ_ABT_ERR", 3, 3),
        ("MSI_CMDQ_ABT_ERR", 4, 4), ("MSI_EVENTQ_ABT_ERR", 5, 5), ("MSI_PRIQ_ABT_ERR", 6, 6),
        ("MSI_GERROR_ABT_ERR", 7, 7), ("SFM_ERR", 8, 8), ("CMDQP_ERR", 9, 9)]),
    ("GERROR_IRQ_CFG0", &[("ADDR", 51, 2)]),
    ("GERROR_IRQ_CFG2", &[("MemAttr", 3, 0), ("SH", 5, 4)]),
    ("CMDQ_BASE", &[("LOG2SIZE", 4, 0), ("ADDR", 51, 5), ("RA", 62, 62)]),
    ("CMDQ_CONS", &[("RD", 19, 0), ("ERR", 30, 24)]),
    ("CMDQ_PROD", &[("WR", 19, 0)]),
    ("EVENTQ_BASE", &[("LOG2SIZE", 4, 0), ("ADDR", 51, 5), ("WA", 62, 62)]),
    ("EVENTQ_CONS", &[("RD", 19, 0), ("OVACKFLG", 31, 31)]),
    ("EVENTQ_PROD", &[("WR", 19, 0), ("OVFLG", 31, 31)]),
    ("EVENTQ_IRQ_CFG0", &[("ADDR", 51, 2)]),
    ("EVENTQ_IRQ_CFG2", &[("MemAttr", 3, 0), ("SH", 5, 4)]),
    ("PRIQ_BASE", &[("LOG2SIZE", 4, 0), ("ADDR", 51, 5), ("WA", 62, 62)]),
    ("PRIQ_CONS", &[("RD", 19, 0), ("OVACKFLG", 31, 31)]),
    ("PRIQ_PROD", &[("WR", 19, 0), ("OVFLG", 31, 31)]),
    ("PRIQ_IRQ_CFG0", &[("ADDR", 51, 2)]),
    ("PRIQ_IRQ_CFG2", &[("MemAttr", 3, 0), ("SH", 5, 4), ("LO", 31, 31)]),
    ("GATOS_CTRL", &[("RUN", 0, 0)]),
    ("MPAMIDR", &[("PARTID_MAX", 15, 0), ("PMG_MAX", 23, 16)]),
    ("PIDR4", &[("DES_2", 3, 0), ("SIZE", 7, 4)]),
    ("PIDR0", &[("PART_0", 7, 0)]),
    ("PIDR1", &[("PART_1", 3, 0), ("DES_0", 7, 4)]),
    ("PIDR2", &[("DES_1", 2, 0), ("JEDEC", 3, 3), ("REVISION", 7, 4)]),
    ("PIDR3", &[("CMOD", 3, 0), ("REVAND", 7, 4)]),
    ("IDR6", &[("CMDQ_CONTROL_PAGE_LOG2NUMQ", 19, 16), ("CMDQ_CONTROL_PAGE_LOG2NUMP", 27, 24)]),
    ("CR0ACK", &[("SMMUEN", 0, 0), ("PRIQEN", 1, 1), ("EVENTQEN", 2, 2), ("CMDQEN", 3, 3), ("ATSCHK", 4, 4),
        ("VMW", 8, 6)]),
    ("IRQ_CTRLACK", &[("GERROR_IRQEN", 0, 0), ("PRIQ_IRQEN", 1, 1), ("EVENTQ_IRQEN", 2, 2)]),
    ("EVENTQ_IRQ_CFG1", &[("DATA", 31, 0)]),
    ("GERROR_IRQ_CFG1", &[("DATA", 31, 0)]),
    ("PRIQ_IRQ_CFG1", &[("DATA", 31, 0)]),
    ("CMDQ_CONTROL_PAGE_BASE", &[("CMDQ_CONTROL_PAGE_PRESET", 0, 0), ("CMDQGS", 2, 1), ("ADDR", 51, 16)]),
    ("CMDQ_CONTROL_PAGE_CFG", &[("EN", 0, 0)]),
    ("CMDQ_CONTROL_PAGE_STATUS", &[("ENACK", 0, 0)]),
    ("ECMDQ_BASE", &[("LOG2SIZE", 4, 0), ("ADDR", 51, 5), ("RA", 62, 62)]),
    ("ECMDQ_CONS", &[("RD", 19, 0), ("ERR", 23, 23), ("ERR_REASON", 26, 24), ("ENACK", 31, 31)]),
    ("ECMDQ_PROD", &[("WR", 19, 0), ("ERRACK", 23, 23), ("EN", 31, 31)]),
    ("CIDR0", &[("PREAMBLE", 7, 0)]),
    ("CIDR1", &[("PREAMBLE", 3, 0), ("CLASS", 7, 4)]),
    ("CIDR2", &[("PREAMBLE", 7, 0)]),
    ("CIDR3", &[("PREAMBLE", 7, 0)]),
    ("GERRORN", &[("CMDQ_ERR", 0, 0), ("EVENTQ_ABT_ERR", 2, 2), ("PRIQ_ABT_ERR", 3, 3),
        ("MSI_CMDQ_ABT_ERR", 4, 4), ("MSI_EVENTQ_ABT_ERR", 5, 5), ("MSI_PRIQ_ABT_ERR", 6, 6),
        ("MSI_GERROR_ABT_ERR", 7, 7), ("SFM_ERR", 8, 8), ("CMDQP_ERR", 9, 9)]),
    ("GATOS_ADDR", &[("HTTUI", 6, 6), ("InD", 7, 7), ("RnW", 8, 8), ("PnU", 9, 9), ("TYPE", 11, 10),
        ("ADDR", 63, 12)]),
];

/// FreeBSD's `smmureg.h` (BSD-2-Clause).
#[rustfmt::skip]
const FREEBSD: &[Register] = &[
    ("IDR0", &[("S2P", 0, 0), ("S1P", 1, 1), ("TTF", 3, 2), ("COHACC", 4, 4), ("BTM", 5, 5), ("HTTU", 7, 6),
        ("DORMHINT", 8, 8), ("Hyp", 9, 9), ("ATS", 10, 10), ("NS1ATS", 11, 11), ("ASID16", 12, 12),
        ("MSI", 13, 13), ("SEV", 14, 14), ("ATOS", 15, 15), ("PRI", 16, 16), ("VMW", 17, 17),
        ("VMID16", 18, 18), ("CD2L", 19, 19), ("VATOS", 20, 20), ("TTENDIAN", 22, 21), ("STALL_MODEL", 25, 24),
        ("TERM_MODEL", 26, 26), ("ST_LEVEL", 28, 27)]),
    ("IDR1", &[("SIDSIZE", 5, 0), ("SSIDSIZE", 10, 6), ("PRIQS", 15, 11), ("EVENTQS", 20, 16),
        ("CMDQS", 25, 21), ("ATTR_PERMS_OVR", 26, 26), ("ATTR_TYPES_OVR", 27, 27), ("REL", 28, 28),
        ("QUEUES_PRESET", 29, 29), ("TABLES_PRESET", 30, 30)]),
    ("IDR3", &[("RIL", 10, 10)]),
    ("IDR5", &[("OAS", 2, 0), ("GRAN4K", 4, 4), ("GRAN16K", 5, 5), ("GRAN64K", 6, 6), ("VAX", 11, 10),
        ("STALL_MAX", 31, 16)]),
    ("IIDR", &[("Implementer", 11, 0), ("Revision", 15, 12), ("Variant", 19, 16), ("ProductID", 31, 20)]),
    ("CR0", &[("SMMUEN", 0, 0), ("PRIQEN", 1, 1), ("EVENTQEN", 2, 2), ("CMDQEN", 3, 3), ("ATSCHK", 4, 4),
        ("VMW", 8, 6)]),
    ("CR1", &[("QUEUE_IC", 1, 0), ("QUEUE_OC", 3, 2), ("QUEUE_SH", 5, 4), ("TABLE_IC", 7, 6),
        ("TABLE_OC", 9, 8), ("TABLE_SH", 11, 10)]),
    ("CR2", &[("E2H", 0, 0), ("RECINVSID", 1, 1), ("PTM", 2, 2)]),
    ("IRQ_CTRL", &[("GERROR_IRQEN", 0, 0), ("PRIQ_IRQEN", 1, 1), ("EVENTQ_IRQEN", 2, 2)]),
    ("STRTAB_BASE", &[("ADDR", 51, 6), ("RA", 62, 62)]),
    ("STRTAB_BASE_CFG", &[("LOG2SIZE", 5, 0), ("SPLIT", 10, 6), ("FMT", 17, 16)]),
    ("CMDQ_BASE", &[("LOG2SIZE", 4, 0), ("ADDR", 51, 5), ("RA", 62, 62)]),
    ("EVENTQ_BASE", &[("WA", 62, 62)]),
    ("CMDQ_CONS", &[("ERR", 30, 24)]),
];

/// TF-RMM's `smmuv3_priv.h` (BSD-3-Clause); the Realm registers have the same fields.
#[rustfmt::skip]
const TF_RMM: &[Register] = &[
    ("IDR0", &[("S2P", 0, 0), ("S1P", 1, 1), ("TTF", 3, 2), ("BTM", 5, 5), ("ASID16", 12, 12), ("SEV", 14, 14),
        ("VMW", 17, 17), ("VMID16", 18, 18), ("TTENDIAN", 22, 21), ("ST_LEVEL", 28, 27)]),
    ("IDR1", &[("SIDSIZE", 5, 0), ("SSIDSIZE", 10, 6), ("PRIQS", 15, 11), ("EVENTQS", 20, 16),
        ("CMDQS", 25, 21), ("QUEUES_PRESET", 29, 29), ("TABLES_PRESET", 30, 30)]),
    ("IDR3", &[("RIL", 10, 10), ("DPT", 15, 15)]),
    ("IDR5", &[("OAS", 2, 0), ("GRAN4K", 4, 4), ("DS", 7, 7), ("D128", 8, 8), ("VAX", 11, 10)]),
    ("AIDR", &[("ArchMinorRev", 3, 0), ("ArchMajorRev", 7, 4)]),
    ("CR0", &[("SMMUEN", 0, 0), ("PRIQEN", 1, 1), ("EVENTQEN", 2, 2), ("CMDQEN", 3, 3), ("ATSCHK", 4, 4),
        ("DPT_WALK_EN", 10, 10)]),
    ("CR2", &[("E2H", 0, 0), ("RECINVSID", 1, 1), ("PTM", 2, 2), ("REC_CFG_ATS", 3, 3)]),
    ("CMDQ_CONS", &[("ERR", 30, 24)]),
    ("GERROR", &[("CMDQ_ERR", 0, 0), ("SFM_ERR", 8, 8)]),
    ("GBPA", &[("ABORT", 20, 20)]),
    ("STRTAB_BASE", &[("RA", 62, 62)]),
    ("CMDQ_BASE", &[("RA", 62, 62)]),
    ("EVENTQ_BASE", &[("WA", 62, 62)]),
];

/// FreeBSD's `smmureg.h` and gem5's `smmu_v3_defs.hh` (BSD-3-Clause) agree on all of these.
#[rustfmt::skip]
const COMMON_OFFSETS: &[(&str, u32)] = &[
    ("IDR0", 0x0), ("IDR1", 0x4), ("IDR2", 0x8), ("IDR3", 0xc), ("IDR4", 0x10), ("IDR5", 0x14), ("IIDR", 0x18),
    ("AIDR", 0x1c), ("CR0", 0x20), ("CR0ACK", 0x24), ("CR1", 0x28), ("CR2", 0x2c), ("STATUSR", 0x40),
    ("GBPA", 0x44), ("AGBPA", 0x48), ("IRQ_CTRL", 0x50), ("IRQ_CTRLACK", 0x54), ("GERROR", 0x60),
    ("GERRORN", 0x64), ("GERROR_IRQ_CFG0", 0x68), ("GERROR_IRQ_CFG1", 0x70), ("GERROR_IRQ_CFG2", 0x74),
    ("STRTAB_BASE", 0x80), ("STRTAB_BASE_CFG", 0x88), ("CMDQ_BASE", 0x90), ("CMDQ_PROD", 0x98),
    ("CMDQ_CONS", 0x9c), ("EVENTQ_BASE", 0xa0), ("EVENTQ_IRQ_CFG0", 0xb0), ("EVENTQ_IRQ_CFG1", 0xb8),
    ("EVENTQ_IRQ_CFG2", 0xbc), ("PRIQ_BASE", 0xc0), ("PRIQ_IRQ_CFG0", 0xd0), ("PRIQ_IRQ_CFG1", 0xd8),
    ("PRIQ_IRQ_CFG2", 0xdc), ("GATOS_CTRL", 0x100), ("GATOS_SID", 0x108), ("GATOS_ADDR", 0x110),
    ("GATOS_PAR", 0x118), ("VATOS_SEL", 0x180), ("EVENTQ_PROD", 0x100a8), ("EVENTQ_CONS", 0x100ac),
    ("PRIQ_PROD", 0x100c8), ("PRIQ_CONS", 0x100cc),
];

/// Registers that only Marvell's definitions have.
#[rustfmt::skip]
const MARVELL_OFFSETS: &[(&str, u32)] = &[
    ("MPAMIDR", 0x130), ("GMPAM", 0x138), ("GBPMPAM", 0x13c), ("IDR6", 0x190), ("PIDR4", 0xfd0),
    ("PIDR5", 0xfd4), ("PIDR6", 0xfd8), ("PIDR7", 0xfdc), ("PIDR0", 0xfe0), ("PIDR1", 0xfe4), ("PIDR2", 0xfe8),
    ("PIDR3", 0xfec), ("CIDR0", 0xff0), ("CIDR1", 0xff4), ("CIDR2", 0xff8), ("CIDR3", 0xffc),
    ("CMDQ_CONTROL_PAGE_BASE", 0x4000), ("CMDQ_CONTROL_PAGE_CFG", 0x4008), ("CMDQ_CONTROL_PAGE_STATUS", 0x400c),
];

/// TF-RMM's, of Realm page 0, which mirrors page 0.
#[rustfmt::skip]
const TF_RMM_OFFSETS: &[(&str, u32)] = &[
    ("MPAMIDR", 0x130), ("GMPAM", 0x138), ("IDR6", 0x190), ("DPT_BASE", 0x200), ("DPT_BASE_CFG", 0x208),
    ("DPT_CFG_FAR", 0x210),
];

fn info(name: &str) -> &'static RegisterInfo {
    fields::register_info(name).unwrap_or_else(|| panic!("{name} is not known"))
}

fn layout(name: &str) -> &'static Layout {
    match name.strip_suffix('!') {
        Some(name) => info(name).layout_of(1),
        None => info(name).layout,
    }
}

fn agrees(field: &Field, hi: u16, lo: u16) -> bool {
    let hi_agrees = match field.meaning() {
        Meaning::Address => hi <= field.hi() && hi >= 51,
        _ => hi == field.hi(),
    };
    hi_agrees && lo == field.lo()
}

fn check(source: &str, registers: &[Register]) {
    for (name, expected) in registers {
        for (field, hi, lo) in *expected {
            let found = layout(name).field(field);
            let found =
                found.unwrap_or_else(|| panic!("{name} has no {field}, which {source} has"));
            assert!(
                agrees(found, *hi, *lo),
                "{name}.{field} is {}:{} here and {hi}:{lo} in {source}",
                found.hi(),
                found.lo()
            );
        }
    }
}

#[test]
fn fields_are_where_edk2_has_them() {
    check("EDK2", EDK2);
}

#[test]
fn fields_are_where_marvell_has_them() {
    check("Marvell's definitions", MARVELL);
}

#[test]
fn fields_are_where_freebsd_has_them() {
    check("FreeBSD", FREEBSD);
}

#[test]
fn fields_are_where_tf_rmm_has_them() {
    check("TF-RMM", TF_RMM);
}

#[test]
fn registers_are_where_others_have_them() {
    for (name, offset) in COMMON_OFFSETS.iter().chain(MARVELL_OFFSETS).chain(TF_RMM_OFFSETS) {
        assert_eq!(info(name).offset, *offset, "{name}");
        assert_eq!(regs::name_of(*offset), Some(*name));
    }
}

/// The fields that no source here has: each is newer than all sources, or all leave it out. Every
/// other field has an outside vector.
const ALONE: &[(&str, &[&str])] = &[
    ("IDR0", &["RME_IMPL"]),
    ("IDR3", &["PASIDTT", "EPAN", "S1PI", "S2PI", "S2PO", "THE", "MTEPERM", "AIE"]),
    ("CR0ACK", &["DPT_WALK_EN"]),
    ("GERROR", &["DPT_ERR"]),
    ("GERRORN", &["DPT_ERR"]),
];

#[test]
fn what_has_no_outside_vector_is_said() {
    // Registers that no source describes, or whose only field is the whole register.
    let untold = ["S2PII", "IDR4", "AGBPA", "DPT_BASE", "DPT_BASE_CFG", "DPT_CFG_FAR"];
    for register in fields::REGISTERS.iter().chain(fields::ECMDQ_REGISTERS) {
        if untold.contains(&register.name) {
            continue;
        }
        let alone = ALONE.iter().find(|(name, _)| *name == register.name).map_or(&[][..], |a| a.1);
        for field in register.layout.fields() {
            let told =
                [EDK2, MARVELL, FREEBSD, TF_RMM].into_iter().flatten().any(|(name, told)| {
                    *name == register.name && told.iter().any(|(name, ..)| *name == field.name())
                });
            let place = format!("{}.{}", register.name, field.name());
            assert_eq!(told, !alone.contains(&field.name()), "{place}");
        }
    }
}

fn meaning(register: &str, bits: u64, field: &str) -> String {
    let value = layout(register).field(field).unwrap().of(&[bits]);
    value.meaning().unwrap().to_string()
}

#[test]
fn values_mean_what_others_say() {
    // FreeBSD's IDR0_TTF_AA64, IDR0_TTENDIAN_LITTLE, IDR0_STALL_MODEL_FORCE, IDR0_HTTU_AD,
    // IDR0_ST_LVL_2.
    assert_eq!(meaning("IDR0", 0x8, "TTF"), "VMSAv8-64 tables");
    assert_eq!(meaning("IDR0", 0x40_0000, "TTENDIAN"), "little-endian tables");
    assert_eq!(meaning("IDR0", 0x200_0000, "STALL_MODEL"), "faults stall");
    assert_eq!(meaning("IDR0", 0x80, "HTTU"), "the access flag and the dirty state");
    assert_eq!(meaning("IDR0", 0x800_0000, "ST_LEVEL"), "stream tables of one or two levels");
    // FreeBSD's IDR5_OAS_44 and IDR5_VAX_52, TF-RMM's IDR5_OAS_56 and IDR5_VAX_56_MAX.
    assert_eq!(meaning("IDR5", 0x4, "OAS"), "44 bits");
    assert_eq!(meaning("IDR5", 0x400, "VAX"), "52 bits");
    assert_eq!(meaning("IDR5", 0x7, "OAS"), "56 bits");
    assert_eq!(meaning("IDR5", 0x800, "VAX"), "56 bits");
    // FreeBSD's CR1_TABLE_SH_IS, CR1_TABLE_OC_WBC, CR1_QUEUE_IC_WTC.
    assert_eq!(meaning("CR1", 0xc00, "TABLE_SH"), "Inner Shareable");
    assert_eq!(meaning("CR1", 0x100, "TABLE_OC"), "Write-Back");
    assert_eq!(meaning("CR1", 0x2, "QUEUE_IC"), "Write-Through");
    // FreeBSD's STRTAB_BASE_CFG_FMT_2LVL and STRTAB_BASE_CFG_SPLIT_16KB.
    assert_eq!(meaning("STRTAB_BASE_CFG", 0x1_0200, "FMT"), "two levels");
    assert_eq!(meaning("STRTAB_BASE_CFG", 0x1_0200, "SPLIT"), "second level of 16 KiB");
    // TF-RMM's CERROR_ILL, CERROR_ABT and CERROR_ATC_INV_SYNC.
    assert_eq!(meaning("CMDQ_CONS", 0x100_0000, "ERR"), "illegal command");
    assert_eq!(meaning("CMDQ_CONS", 0x200_0000, "ERR"), "abort on command fetch");
    assert!(meaning("CMDQ_CONS", 0x300_0000, "ERR").starts_with("an ATC invalidation"));
    // Marvell's C_BAD_STE (4) and INV_REQ (0xff) in a failed ATOS_PAR.
    assert_eq!(meaning("GATOS_PAR!", 0x041, "FAULTCODE"), "C_BAD_STE");
    assert_eq!(meaning("GATOS_PAR!", 0xff1, "FAULTCODE"), "INV_REQ: malformed request");
    // The value of CR1 that Linux, FreeBSD and TF-RMM write, and that QEMU took: all inner
    // shareable, write-back.
    assert_eq!(regs::cr1::COHERENT, 0xd75);
    // Linux's mask of global errors, and EDK2's SMMUV3_GERROR_VALID_MASK.
    assert_eq!(regs::gerror::ALL, 0x1fd);
}

/// The ID registers that QEMU 11.1.3 shows.
#[test]
fn the_id_registers_of_qemu() {
    let id = IdRegisters {
        idr0: 0x0d44_101b,
        idr1: 0x0273_0010,
        idr3: 0x1414,
        idr5: 0x74,
        aidr: 1,
        ..IdRegisters::default()
    };
    for (name, value) in id.named() {
        let residue = layout(name).residue(&[value.into()]).count();
        assert_eq!(residue, 0, "{name} = {value:#x} has bits without a name");
    }
    let caps = Capabilities::decode(id);
    assert_eq!(caps.table_formats, TableFormats::AArch64);
    assert_eq!(caps.output_size, Some(OutputSize::Bits44));
    assert!(caps.execute_never_by_level && caps.hierarchical_disable && caps.range_invalidation);
}
