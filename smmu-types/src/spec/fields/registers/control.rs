//! Registers of control: enables and attributes.

use super::structure;

macro_rules! enables {
    ($(#[doc = $doc:literal])+ $module:ident $structure:ident $name:literal $section:literal) => {
        structure! {
            $(#[doc = $doc])+
            $module $structure u32 32 $name $section;
            /// Whether the SMMU translates; `GBPA` says what happens otherwise.
            SMMUEN "SMMUEN" 0:0 flag("streams pass by as GBPA says", "streams are looked up");
            /// Whether the SMMU writes page requests.
            PRIQEN "PRIQEN" 1:1 flag("the PRI queue is off", "the PRI queue is on");
            /// Whether the SMMU writes events.
            EVENTQEN "EVENTQEN" 2:2 flag("the event queue is off", "the event queue is on");
            /// Whether the SMMU takes commands.
            CMDQEN "CMDQEN" 3:3 flag("the command queue is off", "the command queue is on");
            /// Whether translated transactions of ATS are checked against their STE.
            ATSCHK "ATSCHK" 4:4 flag("translated transactions pass unchecked", "translated transactions are checked");
            /// Which low bits of a VMID an invalidation leaves out.
            VMW "VMW" 8:6 choice(
                0 => "VMIDs match exactly",
                1 => "VMIDs match but for bit 0",
                2 => "VMIDs match but for bits 1:0",
                3 => "VMIDs match but for bits 2:0",
                4 => "VMIDs match but for bits 3:0",
            );
            /// Whether the SMMU walks the device permission table.
            DPT_WALK_EN "DPT_WALK_EN" 10:10 flag("no walks of the device permission table",
                "walks of the device permission table");
        }
    };
}

enables! {
    /// `CR0`: enables.
    cr0 Cr0 "CR0" "6.3.9"
}
enables! {
    /// `CR0ACK`: which enables have taken effect.
    cr0ack Cr0ack "CR0ACK" "6.3.10"
}

structure! {
    /// `CR1`: memory attributes of tables and queues.
    cr1 Cr1 u32 32 "CR1" "6.3.11";
    /// Inner cacheability of the SMMU's accesses to queues.
    QUEUE_IC "QUEUE_IC" 1:0 choice(0 => "Non-cacheable", 1 => "Write-Back", 2 => "Write-Through");
    /// Outer cacheability of the SMMU's accesses to queues.
    QUEUE_OC "QUEUE_OC" 3:2 choice(0 => "Non-cacheable", 1 => "Write-Back", 2 => "Write-Through");
    /// Shareability of the SMMU's accesses to queues.
    QUEUE_SH "QUEUE_SH" 5:4 choice(0 => "Non-shareable", 2 => "Outer Shareable", 3 => "Inner Shareable");
    /// Inner cacheability of the SMMU's accesses to the stream table.
    TABLE_IC "TABLE_IC" 7:6 choice(0 => "Non-cacheable", 1 => "Write-Back", 2 => "Write-Through");
    /// Outer cacheability of the SMMU's accesses to the stream table.
    TABLE_OC "TABLE_OC" 9:8 choice(0 => "Non-cacheable", 1 => "Write-Back", 2 => "Write-Through");
    /// Shareability of the SMMU's accesses to the stream table.
    TABLE_SH "TABLE_SH" 11:10 choice(0 => "Non-shareable", 2 => "Outer Shareable", 3 => "Inner Shareable");
}

structure! {
    /// `CR2`: regimes, broadcast maintenance and what is recorded.
    cr2 Cr2 u32 32 "CR2" "6.3.12";
    /// Which EL2 regime `STE.STRW` selects.
    E2H "E2H" 0:0 flag("EL2, without ASIDs", "EL2 with E2H, with ASIDs");
    /// Whether StreamIDs beyond the stream table are recorded.
    RECINVSID "RECINVSID" 1:1 flag("C_BAD_STREAMID is not recorded", "C_BAD_STREAMID is recorded");
    /// Whether the SMMU may ignore broadcast TLB maintenance.
    PTM "PTM" 2:2 flag("broadcast TLB maintenance is followed", "broadcast TLB maintenance may be ignored");
    /// Whether more events are recorded of ATS and PRI requests.
    REC_CFG_ATS "REC_CFG_ATS" 3:3 flag("base set of events of ATS", "extended set of events of ATS");
}

macro_rules! indirections {
    ($($(#[doc = $doc:literal])+ $ident:ident $field:literal $hi:literal : $lo:literal;)*) => {
        structure! {
            /// `S2PII`: what the permission indices of stage 2 mean.
            s2pii S2pii u64 64 "S2PII" "6.3.17";
            $(
                $(#[doc = $doc])+
                $ident $field $hi : $lo choice(
                    0 => "no access",
                    2 => "MRO",
                    3 => "MRO-TL1",
                    4 => "write only",
                    6 => "MRO-TL0",
                    7 => "MRO-TL01",
                    8 => "read only",
                    9 => "read, and execute unprivileged",
                    10 => "read, and execute privileged",
                    11 => "read, and execute",
                    12 => "read and write",
                    13 => "read, write, and execute unprivileged",
                    14 => "read, write, and execute privileged",
                    15 => "read, write, and execute",
                );
            )*
        }
    };
}

indirections! {
    /// What index 0 permits.
    S2PII0 "S2PII0" 3:0;
    /// What index 1 permits.
    S2PII1 "S2PII1" 7:4;
    /// What index 2 permits.
    S2PII2 "S2PII2" 11:8;
    /// What index 3 permits.
    S2PII3 "S2PII3" 15:12;
    /// What index 4 permits.
    S2PII4 "S2PII4" 19:16;
    /// What index 5 permits.
    S2PII5 "S2PII5" 23:20;
    /// What index 6 permits.
    S2PII6 "S2PII6" 27:24;
    /// What index 7 permits.
    S2PII7 "S2PII7" 31:28;
    /// What index 8 permits.
    S2PII8 "S2PII8" 35:32;
    /// What index 9 permits.
    S2PII9 "S2PII9" 39:36;
    /// What index 10 permits.
    S2PII10 "S2PII10" 43:40;
    /// What index 11 permits.
    S2PII11 "S2PII11" 47:44;
    /// What index 12 permits.
    S2PII12 "S2PII12" 51:48;
    /// What index 13 permits.
    S2PII13 "S2PII13" 55:52;
    /// What index 14 permits.
    S2PII14 "S2PII14" 59:56;
    /// What index 15 permits.
    S2PII15 "S2PII15" 63:60;
}

structure! {
    /// `STATUSR`: whether the SMMU is dormant.
    statusr Statusr u32 32 "STATUSR" "6.3.13";
    /// Whether the SMMU promises that it caches nothing.
    DORMANT "DORMANT" 0:0 flag("something may be cached", "nothing is cached");
}

structure! {
    /// `GBPA`: what happens to transactions while translation is off.
    gbpa Gbpa u32 32 "GBPA" "6.3.14";
    /// The memory type that replaces the incoming one if `MTCFG` says so.
    MEMATTR "MemAttr" 3:0 choice(
        0 => "Device-nGnRnE",
        1 => "Device-nGnRE",
        2 => "Device-nGRE",
        3 => "Device-GRE",
        5 => "Normal, Non-cacheable",
        6 => "Normal, outer Non-cacheable, inner Write-Through",
        7 => "Normal, outer Non-cacheable, inner Write-Back",
        9 => "Normal, outer Write-Through, inner Non-cacheable",
        10 => "Normal, Write-Through",
        11 => "Normal, outer Write-Through, inner Write-Back",
        13 => "Normal, outer Write-Back, inner Non-cacheable",
        14 => "Normal, outer Write-Back, inner Write-Through",
        15 => "Normal, Write-Back",
    );
    /// Whether the incoming memory type is replaced.
    MTCFG "MTCFG" 4:4 flag("incoming memory type", "memory type of MemAttr");
    /// Allocation and transient hints.
    ALLOCCFG "ALLOCCFG" 11:8 choice(
        0 => "incoming hints", 1 => "incoming hints", 2 => "incoming hints", 3 => "incoming hints",
        4 => "incoming hints", 5 => "incoming hints", 6 => "incoming hints", 7 => "incoming hints",
        8 => "no allocation",
        9 => "no allocation, transient",
        10 => "write-allocate",
        11 => "write-allocate, transient",
        12 => "read-allocate",
        13 => "read-allocate, transient",
        14 => "read- and write-allocate",
        15 => "read- and write-allocate, transient",
    );
    /// Shareability.
    SHCFG "SHCFG" 13:12 choice(
        0 => "Non-shareable", 1 => "incoming shareability", 2 => "Outer Shareable", 3 => "Inner Shareable",
    );
    /// Privileged or not.
    PRIVCFG "PRIVCFG" 17:16 choice(0 => "incoming privilege", 2 => "unprivileged", 3 => "privileged");
    /// Instruction or data, for reads.
    INSTCFG "INSTCFG" 19:18 choice(0 => "incoming kind", 2 => "data", 3 => "instruction");
    /// Whether all transactions are aborted.
    ABORT "ABORT" 20:20 flag("transactions pass", "transactions are aborted");
    /// Whether a write is still to take effect.
    UPDATE "Update" 31:31 flag("in effect", "update under way");
}

structure! {
    /// `AGBPA`: more attributes while translation is off, implementation defined.
    agbpa Agbpa u32 32 "AGBPA" "6.3.15";
    /// What the implementation makes of it.
    IMPLEMENTATION_DEFINED "IMPLEMENTATION_DEFINED" 31:0 impdef;
}

structure! {
    /// `GMPAM`: MPAM numbers of the SMMU's own accesses.
    gmpam Gmpam u32 32 "GMPAM" "6.3.42";
    /// PARTID of accesses to the stream table and to queues, and of MSIs.
    SO_PARTID "SO_PARTID" 15:0 number;
    /// PMG of the same accesses.
    SO_PMG "SO_PMG" 23:16 number;
    /// Whether a write is still to take effect.
    UPDATE "Update" 31:31 flag("in effect", "update under way");
}

structure! {
    /// `GBPMPAM`: MPAM numbers of transactions while translation is off.
    gbpmpam Gbpmpam u32 32 "GBPMPAM" "6.3.43";
    /// PARTID of transactions that pass by.
    GBP_PARTID "GBP_PARTID" 15:0 number;
    /// PMG of transactions that pass by.
    GBP_PMG "GBP_PMG" 23:16 number;
    /// Whether a write is still to take effect.
    UPDATE "Update" 31:31 flag("in effect", "update under way");
}
