//! ID registers.

use super::structure;

structure! {
    /// `IDR0`: features.
    idr0 Idr0 u32 32 "IDR0" "6.3.1";
    /// Whether stage 2 translates.
    S2P "S2P" 0:0 flag("no stage 2", "stage 2");
    /// Whether stage 1 translates.
    S1P "S1P" 1:1 flag("no stage 1", "stage 1");
    /// The formats of translation tables.
    TTF "TTF" 3:2 choice(
        1 => "VMSAv8-32 LPAE tables",
        2 => "VMSAv8-64 tables",
        3 => "VMSAv8-32 LPAE and VMSAv8-64 tables",
    );
    /// Whether the SMMU's accesses to tables and queues can be coherent.
    COHACC "COHACC" 4:4 flag("no coherent access", "coherent access to tables and queues");
    /// Whether the SMMU takes part in broadcast TLB maintenance.
    BTM "BTM" 5:5 flag("no broadcast TLB maintenance", "broadcast TLB maintenance");
    /// What of a translation table the hardware updates.
    HTTU "HTTU" 7:6 choice(
        0 => "no update by hardware",
        1 => "the access flag",
        2 => "the access flag and the dirty state",
        3 => "the access flag and the dirty state, and the access flag of table descriptors",
    );
    /// Whether `STATUSR.DORMANT` tells when nothing is cached.
    DORMHINT "DORMHINT" 8:8 flag("no dormant hint", "dormant hint");
    /// Whether stage 1 has EL2 regimes.
    HYP "Hyp" 9:9 flag("no EL2 regimes", "EL2 regimes");
    /// Whether PCIe ATS is supported.
    ATS "ATS" 10:10 flag("no ATS", "ATS");
    /// Whether ATS can be split so that it answers with stage 1 alone; the flag says that it
    /// cannot.
    NS1ATS "NS1ATS" 11:11 flag("split-stage ATS", "no split-stage ATS");
    /// The size of an ASID.
    ASID16 "ASID16" 12:12 flag("ASIDs of 8 bits", "ASIDs of 16 bits");
    /// Whether interrupts can be messages.
    MSI "MSI" 13:13 flag("wired interrupts only", "message-signalled interrupts");
    /// Whether the SMMU can wake a PE that waits for an event.
    SEV "SEV" 14:14 flag("no wake-up events", "wake-up events");
    /// Whether software can ask for a translation.
    ATOS "ATOS" 15:15 flag("no address translation operations", "address translation operations");
    /// Whether the page request interface is supported.
    PRI "PRI" 16:16 flag("no page request interface", "page request interface");
    /// Whether an invalidation can leave out low bits of the VMID.
    VMW "VMW" 17:17 flag("no VMID wildcards", "VMID wildcards");
    /// The size of a VMID.
    VMID16 "VMID16" 18:18 flag("VMIDs of 8 bits", "VMIDs of 16 bits");
    /// Whether tables of context descriptors can have two levels.
    CD2L "CD2L" 19:19 flag("CD tables of one level", "CD tables of one or two levels");
    /// Whether a virtual machine can have a page to ask for translations.
    VATOS "VATOS" 20:20 flag("no virtual ATOS page", "virtual ATOS page");
    /// The byte order of translation tables.
    TTENDIAN "TTENDIAN" 22:21 choice(
        0 => "tables of either endianness",
        2 => "little-endian tables",
        3 => "big-endian tables",
    );
    /// Whether more events are recorded of ATS and PRI requests, if `CR2.REC_CFG_ATS` asks for it.
    ATSRECERR "ATSRECERR" 23:23 flag("base set of events of ATS", "extended set of events of ATS");
    /// Whether a transaction that faults can wait for software.
    STALL_MODEL "STALL_MODEL" 25:24 choice(
        0 => "faults stall or terminate, as configured",
        1 => "faults terminate",
        2 => "faults stall",
    );
    /// How a transaction is terminated.
    TERM_MODEL "TERM_MODEL" 26:26 flag("abort, or read as zero and ignore writes", "always abort");
    /// Whether stream tables can have two levels.
    ST_LEVEL "ST_LEVEL" 28:27 choice(
        0 => "stream tables of one level",
        1 => "stream tables of one or two levels",
    );
    /// Whether the Non-secure interface has the features of the realm management extension.
    RME_IMPL "RME_IMPL" 30:30 flag("no granule protection", "granule protection");
}

structure! {
    /// `IDR1`: sizes.
    idr1 Idr1 u32 32 "IDR1" "6.3.2";
    /// Bits of a StreamID, 0 to 32.
    SIDSIZE "SIDSIZE" 5:0 number;
    /// Bits of a SubstreamID, 0 to 20; 0 without substreams.
    SSIDSIZE "SSIDSIZE" 10:6 number;
    /// The largest PRI queue, as log2 of its entries.
    PRIQS "PRIQS" 15:11 log2;
    /// The largest event queue, as log2 of its entries.
    EVENTQS "EVENTQS" 20:16 log2;
    /// The largest command queue, as log2 of its entries.
    CMDQS "CMDQS" 25:21 log2;
    /// Whether incoming permission attributes can be replaced.
    ATTR_PERMS_OVR "ATTR_PERMS_OVR" 26:26 flag(
        "permission attributes as they come", "permission attributes can be replaced");
    /// Whether incoming memory types, shareability and hints can be replaced.
    ATTR_TYPES_OVR "ATTR_TYPES_OVR" 27:27 flag(
        "memory types as they come", "memory types can be replaced");
    /// Whether preset bases count from the base of page 0.
    REL "REL" 28:28 flag("preset bases are absolute", "preset bases are relative");
    /// Whether the bases of queues are fixed.
    QUEUES_PRESET "QUEUES_PRESET" 29:29 flag("queues are free to place", "queues are preset");
    /// Whether the base of the stream table is fixed.
    TABLES_PRESET "TABLES_PRESET" 30:30 flag("tables are free to place", "tables are preset");
    /// Whether there are enhanced command queues; see `IDR6`.
    ECMDQ "ECMDQ" 31:31 flag("no enhanced command queues", "enhanced command queues");
}

structure! {
    /// `IDR2`: where the page of virtual ATOS is.
    idr2 Idr2 u32 32 "IDR2" "6.3.3";
    /// The page of virtual ATOS, in pages of 64 KiB above 0x20000; only with `IDR0.VATOS`.
    BA_VATOS "BA_VATOS" 9:0 hex;
}

structure! {
    /// `IDR3`: features.
    idr3 Idr3 u32 32 "IDR3" "6.3.4";
    /// Whether hierarchical attributes of stage 1 can be turned off.
    HAD "HAD" 2:2 flag("no hierarchical attribute disable", "hierarchical attribute disable");
    /// Whether descriptors have page-based hardware attributes.
    PBHA "PBHA" 3:3 flag("no page-based hardware attributes", "page-based hardware attributes");
    /// Whether stage 2 tells execution at EL0 and EL1 apart.
    XNX "XNX" 4:4 flag("one execute-never at stage 2", "execute-never by exception level at stage 2");
    /// Whether answers that the SMMU makes to overflowing page requests always carry the PASID.
    PPS "PPS" 5:5 flag("STE.PPAR says whether automatic answers have a PASID", "automatic answers have the PASID");
    /// Whether memory partitioning and monitoring is supported; see `MPAMIDR`.
    MPAM "MPAM" 7:7 flag("no MPAM", "MPAM");
    /// Whether stage 2 can decide memory types alone.
    FWB "FWB" 8:8 flag("no stage 2 control of memory types", "stage 2 control of memory types");
    /// Whether translation tables can be smaller than VMSAv8-64 once allowed.
    STT "STT" 9:9 flag("no small translation tables", "small translation tables");
    /// Whether TLB invalidations can have a range and a level hint.
    RIL "RIL" 10:10 flag("no range invalidation", "range invalidation and level hints");
    /// How much of break-before-make software may leave out.
    BBML "BBML" 12:11 choice(0 => "level 0", 1 => "level 1", 2 => "level 2");
    /// Whether stage 1 can keep EL0 out of half of the addresses.
    E0PD "E0PD" 13:13 flag("no E0PD", "E0PD");
    /// What becomes of table walks that stage 2 maps to Device memory while `STE.S2PTW` is 0.
    PTWNNC "PTWNNC" 14:14 flag(
        "walks of Device memory stay as they are", "walks of Device memory become Non-cacheable");
    /// Whether there is a device permission table.
    DPT "DPT" 15:15 flag("no device permission table", "device permission table");
    /// Whether translated transactions of ATS can carry a PASID.
    PASIDTT "PASIDTT" 16:16 flag("no PASID on translated transactions", "PASID on translated transactions");
    /// Whether privileged access never also looks at execution at EL0.
    EPAN "EPAN" 17:17 flag("no enhanced PAN", "enhanced PAN");
    /// Whether stage 1 permissions can be indirect.
    S1PI "S1PI" 18:18 flag("no stage 1 permission indirection", "stage 1 permission indirection");
    /// Whether stage 2 permissions can be indirect.
    S2PI "S2PI" 19:19 flag("no stage 2 permission indirection", "stage 2 permission indirection");
    /// Whether stage 2 permissions can be overlaid.
    S2PO "S2PO" 20:20 flag("no stage 2 permission overlay", "stage 2 permission overlay");
    /// Whether translation tables can be hardened.
    THE "THE" 21:21 flag("no translation hardening", "translation hardening");
    /// Whether stage 2 has memory types without tag access.
    MTEPERM "MTEPERM" 22:22 flag("no NoTagAccess types", "NoTagAccess types at stage 2");
    /// Whether stage 1 has 16 memory attributes.
    AIE "AIE" 23:23 flag("no attribute index extension", "attribute index extension");
}

structure! {
    /// `IDR4`: implementation defined.
    idr4 Idr4 u32 32 "IDR4" "6.3.5";
    /// What the implementation says.
    IMPLEMENTATION_DEFINED "IMPLEMENTATION_DEFINED" 31:0 impdef;
}

structure! {
    /// `IDR5`: address sizes and granules.
    idr5 Idr5 u32 32 "IDR5" "6.3.6";
    /// The size of an output address. 56 bits come with 128-bit descriptors only.
    OAS "OAS" 2:0 choice(
        0 => "32 bits", 1 => "36 bits", 2 => "40 bits", 3 => "42 bits", 4 => "44 bits", 5 => "48 bits",
        6 => "52 bits", 7 => "56 bits",
    );
    /// Whether tables can have the 4 KiB granule.
    GRAN4K "GRAN4K" 4:4 flag("no 4 KiB granule", "4 KiB granule");
    /// Whether tables can have the 16 KiB granule.
    GRAN16K "GRAN16K" 5:5 flag("no 16 KiB granule", "16 KiB granule");
    /// Whether tables can have the 64 KiB granule.
    GRAN64K "GRAN64K" 6:6 flag("no 64 KiB granule", "64 KiB granule");
    /// Whether the small granules reach 52 bits.
    DS "DS" 7:7 flag("48 bits with small granules", "52 bits with small granules");
    /// Whether descriptors can have 128 bits.
    D128 "D128" 8:8 flag("no 128-bit descriptors", "128-bit descriptors");
    /// The size of a virtual address.
    VAX "VAX" 11:10 choice(0 => "48 bits", 1 => "52 bits", 2 => "56 bits");
    /// The largest number of stalled transactions at a time.
    STALL_MAX "STALL_MAX" 31:16 number;
}

structure! {
    /// `IDR6`: pages and queues of the enhanced command queue interface.
    idr6 Idr6 u32 32 "IDR6" "6.3.45";
    /// Queues in each control page, as log2, 0 to 8.
    CMDQ_CONTROL_PAGE_LOG2NUMQ "CMDQ_CONTROL_PAGE_LOG2NUMQ" 19:16 log2;
    /// Control pages, as log2, 0 to 8.
    CMDQ_CONTROL_PAGE_LOG2NUMP "CMDQ_CONTROL_PAGE_LOG2NUMP" 27:24 log2;
}

structure! {
    /// `IIDR`: implementer, product and revision.
    iidr Iidr u32 32 "IIDR" "6.3.7";
    /// JEP106 code of the implementer, 0x43b for Arm.
    IMPLEMENTER "Implementer" 11:0 hex;
    /// The minor revision.
    REVISION "Revision" 15:12 number;
    /// The major revision, or the variant.
    VARIANT "Variant" 19:16 number;
    /// The product.
    PRODUCTID "ProductID" 31:20 hex;
}

structure! {
    /// `AIDR`: architecture version.
    aidr Aidr u32 32 "AIDR" "6.3.8";
    /// The minor version.
    ARCHMINORREV "ArchMinorRev" 3:0 choice(
        0 => "SMMUv3.0", 1 => "SMMUv3.1", 2 => "SMMUv3.2", 3 => "SMMUv3.3", 4 => "SMMUv3.4",
    );
    /// The major version.
    ARCHMAJORREV "ArchMajorRev" 7:4 choice(0 => "SMMUv3");
}

structure! {
    /// `MPAMIDR`: the largest MPAM numbers.
    mpamidr Mpamidr u32 32 "MPAMIDR" "6.3.41";
    /// The largest PARTID.
    PARTID_MAX "PARTID_MAX" 15:0 number;
    /// The largest PMG.
    PMG_MAX "PMG_MAX" 23:16 number;
}

structure! {
    /// `PIDR0`: the part number's low bits.
    pidr0 Pidr0 u32 32 "PIDR0" "6.3.170";
    /// Bits 7:0 of the part number.
    PART_0 "PART_0" 7:0 hex;
}

structure! {
    /// `PIDR1`: the part number's high bits and the designer's low ones.
    pidr1 Pidr1 u32 32 "PIDR1" "6.3.170";
    /// Bits 11:8 of the part number.
    PART_1 "PART_1" 3:0 hex;
    /// Bits 3:0 of the designer's JEP106 code.
    DES_0 "DES_0" 7:4 hex;
}

structure! {
    /// `PIDR2`: revision, and the designer's high bits.
    pidr2 Pidr2 u32 32 "PIDR2" "6.3.170";
    /// Bits 6:4 of the designer's JEP106 code.
    DES_1 "DES_1" 2:0 hex;
    /// Whether the designer's code is a JEDEC one; it always is.
    JEDEC "JEDEC" 3:3 flag("not a JEDEC code", "a JEDEC code");
    /// The revision of the part.
    REVISION "REVISION" 7:4 number;
}

structure! {
    /// `PIDR3`: what was changed since.
    pidr3 Pidr3 u32 32 "PIDR3" "6.3.170";
    /// What a customer modified.
    CMOD "CMOD" 3:0 impdef;
    /// What was fixed late in the part's life.
    REVAND "REVAND" 7:4 impdef;
}

structure! {
    /// `PIDR4`: the designer's continuation code.
    pidr4 Pidr4 u32 32 "PIDR4" "6.3.170";
    /// The designer's JEP106 continuation code.
    DES_2 "DES_2" 3:0 hex;
    /// log2 of the 4 KiB blocks of the component; 0.
    SIZE "SIZE" 7:4 log2;
}

structure! {
    /// `PIDR5`: reserved, it reads as zero.
    pidr5 Pidr5 u32 32 "PIDR5" "6.3.170";
}

structure! {
    /// `PIDR6`: reserved, it reads as zero.
    pidr6 Pidr6 u32 32 "PIDR6" "6.3.170";
}

structure! {
    /// `PIDR7`: reserved, it reads as zero.
    pidr7 Pidr7 u32 32 "PIDR7" "6.3.170";
}

structure! {
    /// `CIDR0`: the first part of the preamble.
    cidr0 Cidr0 u32 32 "CIDR0" "6.3.170";
    /// Always 0x0d.
    PREAMBLE "PREAMBLE" 7:0 hex;
}

structure! {
    /// `CIDR1`: the second part of the preamble, and the class.
    cidr1 Cidr1 u32 32 "CIDR1" "6.3.170";
    /// Always 0.
    PREAMBLE "PREAMBLE" 3:0 hex;
    /// The class of the component.
    CLASS "CLASS" 7:4 choice(15 => "a component of CoreLink, PrimeCell or a system");
}

structure! {
    /// `CIDR2`: the third part of the preamble.
    cidr2 Cidr2 u32 32 "CIDR2" "6.3.170";
    /// Always 0x05.
    PREAMBLE "PREAMBLE" 7:0 hex;
}

structure! {
    /// `CIDR3`: the last part of the preamble.
    cidr3 Cidr3 u32 32 "CIDR3" "6.3.170";
    /// Always 0xb1.
    PREAMBLE "PREAMBLE" 7:0 hex;
}
