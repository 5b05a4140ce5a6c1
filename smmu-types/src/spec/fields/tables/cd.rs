//! Fields of [`Cd`].
//!
//! Where the SMMU has VMSAv9-128 tables (`IDR5.D128`), `HAD0` and `HAD1` are called `DisCH0` and
//! `DisCH1`, the pair `HWU062`:`HWU061` is `SKL0`, and `HWU162`:`HWU161` is `SKL1`.

use crate::Cd;

crate::layout::fields! {
    Cd, "CD", "5.4", 512;
    /// 64 minus the bits of an input address of TTB0.
    T0SZ "T0SZ" 5:0 number;
    /// Granule of TTB0.
    TG0 "TG0" 7:6 choice(0 => "4 KiB", 1 => "64 KiB", 2 => "16 KiB");
    /// Inner cacheability of walks of TTB0.
    IR0 "IR0" 9:8 choice(
        0 => "non-cacheable",
        1 => "write-back, read- and write-allocate",
        2 => "write-through, read-allocate",
        3 => "write-back, read-allocate only",
    );
    /// Outer cacheability of walks of TTB0.
    OR0 "OR0" 11:10 choice(
        0 => "non-cacheable",
        1 => "write-back, read- and write-allocate",
        2 => "write-through, read-allocate",
        3 => "write-back, read-allocate only",
    );
    /// Shareability of walks of TTB0.
    SH0 "SH0" 13:12 choice(
        0 => "non-shareable", 2 => "outer shareable", 3 => "inner shareable",
    );
    /// Whether walks of TTB0 are off.
    EPD0 "EPD0" 14:14 flag("TTB0 is walked", "what TTB0 would translate faults");
    /// Endianness of both tables.
    ENDI "ENDI" 15:15 flag("little-endian", "big-endian");
    /// 64 minus the bits of an input address of TTB1.
    T1SZ "T1SZ" 21:16 number;
    /// Granule of TTB1, encoded differently from TG0.
    TG1 "TG1" 23:22 choice(1 => "16 KiB", 2 => "4 KiB", 3 => "64 KiB");
    /// Inner cacheability of walks of TTB1.
    IR1 "IR1" 25:24 choice(
        0 => "non-cacheable",
        1 => "write-back, read- and write-allocate",
        2 => "write-through, read-allocate",
        3 => "write-back, read-allocate only",
    );
    /// Outer cacheability of walks of TTB1.
    OR1 "OR1" 27:26 choice(
        0 => "non-cacheable",
        1 => "write-back, read- and write-allocate",
        2 => "write-through, read-allocate",
        3 => "write-back, read-allocate only",
    );
    /// Shareability of walks of TTB1.
    SH1 "SH1" 29:28 choice(
        0 => "non-shareable", 2 => "outer shareable", 3 => "inner shareable",
    );
    /// Whether walks of TTB1 are off.
    EPD1 "EPD1" 30:30 flag("TTB1 is walked", "what TTB1 would translate faults");
    /// Whether the descriptor is valid.
    V "V" 31:31 flag("invalid: transactions end in C_BAD_CD", "valid");
    /// Size of an output address of stage 1.
    IPS "IPS" 34:32 choice(
        0 => "32 bits", 1 => "36 bits", 2 => "40 bits", 3 => "42 bits",
        4 => "44 bits", 5 => "48 bits", 6 => "52 bits", 7 => "56 bits",
    );
    /// What a clear access flag does at stage 1.
    AFFD "AFFD" 35:35 flag("a clear access flag faults", "the access flag counts as set");
    /// Whether instructions can be fetched from writable pages.
    WXN "WXN" 36:36 flag("writable pages can be executable", "writable pages are not executable");
    /// Whether privileged instructions can be fetched from pages that user software can write
    /// (AArch32).
    UWXN "UWXN" 37:37 flag("user-writable pages can be executable", "user-writable pages are not executable");
    /// Whether the top byte of an address of TTB0 is ignored.
    TBI0 "TBI0" 38:38 flag("the top byte counts", "the top byte is ignored");
    /// Whether the top byte of an address of TTB1 is ignored.
    TBI1 "TBI1" 39:39 flag("the top byte counts", "the top byte is ignored");
    /// Whether privileged data accesses to user pages fault.
    PAN "PAN" 40:40 flag("privileged accesses reach user pages", "privileged accesses to user pages fault");
    /// Format of both tables.
    AA64 "AA64" 41:41 flag("VMSAv8-32 LPAE, or VMSAv9-128 with IDR5.D128", "VMSAv8-64");
    /// Whether hardware updates the dirty state.
    HD "HD" 42:42 flag("hardware leaves the dirty state", "hardware updates the dirty state");
    /// Whether hardware updates the access flag.
    HA "HA" 43:43 flag("hardware leaves the access flag", "hardware updates the access flag");
    /// Whether faults stall.
    S "S" 44:44 flag("faults terminate", "faults stall");
    /// Whether faults are recorded.
    R "R" 45:45 flag("faults are silent", "faults are recorded");
    /// What the device sees of a terminated transaction.
    A "A" 46:46 flag("reads give zero, writes vanish", "the device gets an abort");
    /// Whether the ASID is shared with the processors.
    ASET "ASET" 47:47 flag("the ASID is shared with processors", "the ASID is the SMMU's own");
    /// The ASID that tags what is cached.
    ASID "ASID" 63:48 number;
    /// The NS attribute of the first walk step of TTB0; a Non-secure stream ignores it.
    NSCFG0 "NSCFG0" 64:64 flag("secure", "non-secure");
    /// Whether permissions of table descriptors of TTB0 count.
    HAD0 "HAD0" 65:65 flag("hierarchical attributes count", "hierarchical attributes are off");
    /// Whether unprivileged accesses through TTB0 fault.
    E0PD0 "E0PD0" 66:66 flag("unprivileged accesses are translated", "unprivileged accesses fault");
    /// Whether hardware updates the access flag of table descriptors.
    HAFT "HAFT" 67:67 flag("table descriptors are left", "table descriptors get their access flag");
    /// Where the tables of the lower addresses are; bits 55:52 count for VMSAv9-128 only.
    TTB0 "TTB0" 119:68 address;
    /// Whether the Protected attribute is on.
    PNCH "PnCH" 122:122 flag("no Protected attribute", "the Protected attribute is on");
    /// Whether PAN also looks at unprivileged execute permission.
    EPAN "EPAN" 123:123 flag("PAN looks at data permission", "PAN looks at execute permission too");
    /// Whether hardware uses bit 59 of a last-level descriptor of TTB0.
    HWU059 "HWU059" 124:124 flag("hardware does not use bit 59", "hardware may use bit 59");
    /// Whether hardware uses bit 60 of a last-level descriptor of TTB0.
    HWU060 "HWU060" 125:125 flag("hardware does not use bit 60", "hardware may use bit 60");
    /// Whether hardware uses bit 61 of a last-level descriptor of TTB0.
    HWU061 "HWU061" 126:126 flag("hardware does not use bit 61", "hardware may use bit 61");
    /// Whether hardware uses bit 62 of a last-level descriptor of TTB0.
    HWU062 "HWU062" 127:127 flag("hardware does not use bit 62", "hardware may use bit 62");
    /// The NS attribute of the first walk step of TTB1; a Non-secure stream ignores it.
    NSCFG1 "NSCFG1" 128:128 flag("secure", "non-secure");
    /// Whether permissions of table descriptors of TTB1 count.
    HAD1 "HAD1" 129:129 flag("hierarchical attributes count", "hierarchical attributes are off");
    /// Whether unprivileged accesses through TTB1 fault.
    E0PD1 "E0PD1" 130:130 flag("unprivileged accesses are translated", "unprivileged accesses fault");
    /// Whether memory attributes have four index bits.
    AIE "AIE" 131:131 flag("AttrIndx has three bits", "AttrIndx has four bits");
    /// Where the tables of the upper addresses are; bits 55:52 count for VMSAv9-128 only.
    TTB1 "TTB1" 183:132 address;
    /// Whether 4 KiB and 16 KiB pages have 52-bit addresses.
    DS "DS" 186:186 flag("48-bit addresses with small pages", "52-bit addresses with small pages");
    /// Whether permission indirection is on.
    PIE "PIE" 187:187 flag("direct permissions", "indirect permissions");
    /// Whether hardware uses bit 59 of a last-level descriptor of TTB1.
    HWU159 "HWU159" 188:188 flag("hardware does not use bit 59", "hardware may use bit 59");
    /// Whether hardware uses bit 60 of a last-level descriptor of TTB1.
    HWU160 "HWU160" 189:189 flag("hardware does not use bit 60", "hardware may use bit 60");
    /// Whether hardware uses bit 61 of a last-level descriptor of TTB1.
    HWU161 "HWU161" 190:190 flag("hardware does not use bit 61", "hardware may use bit 61");
    /// Whether hardware uses bit 62 of a last-level descriptor of TTB1.
    HWU162 "HWU162" 191:191 flag("hardware does not use bit 62", "hardware may use bit 62");
    /// Memory attributes 0 to 3, of eight bits each.
    MAIR0 "MAIR0" 223:192 hex;
    /// Memory attributes 4 to 7, of eight bits each.
    MAIR1 "MAIR1" 255:224 hex;
    /// Auxiliary memory attributes 0 to 3.
    AMAIR0 "AMAIR0" 287:256 impdef;
    /// Auxiliary memory attributes 4 to 7.
    AMAIR1 "AMAIR1" 319:288 impdef;
    /// Left to the implementation.
    IMPDEF_351_320 "IMPDEF_351_320" 351:320 impdef;
    /// MPAM partition of transactions, where STE.S1MPAM says so.
    PARTID "PARTID" 367:352 number;
    /// MPAM performance group of transactions, where STE.S1MPAM says so.
    PMG "PMG" 375:368 number;
    /// Sixteen unprivileged permissions, of three bits each.
    PIIU "PIIU" 431:384 hex;
    /// Sixteen privileged permissions, of three bits each.
    PIIP "PIIP" 495:448 hex;
}
