//! Fields of [`Ste`].
//!
//! The architecture gives implementation defined fields no name. They are called `IMPDEF_<hi>_<lo>`
//! here.

use crate::Ste;

crate::layout::fields! {
    Ste, "STE", "5.2", 512;
    /// Whether the entry is valid.
    V "V" 0:0 flag("invalid: transactions end in C_BAD_STE", "valid");
    /// Which stages translate.
    CONFIG "Config" 3:1 choice(
        0 => "abort, without an event",
        4 => "both stages are bypassed",
        5 => "stage 1 translates, stage 2 is bypassed",
        6 => "stage 2 translates, stage 1 is bypassed",
        7 => "both stages translate",
    );
    /// How the table of context descriptors is built, where there are substreams.
    S1FMT "S1Fmt" 5:4 choice(
        0 => "linear",
        1 => "two levels, the second of 4 KiB",
        2 => "two levels, the second of 64 KiB",
    );
    /// Where the context descriptor, or the table of them, is.
    S1CONTEXTPTR "S1ContextPtr" 55:6 address;
    /// How many context descriptors there are; 0 turns substreams off.
    S1CDMAX "S1CDMax" 63:59 log2;
    /// What happens to a transaction without a SubstreamID while substreams are on.
    S1DSS "S1DSS" 65:64 choice(
        0 => "terminate",
        1 => "bypass stage 1",
        2 => "use the context descriptor of substream 0",
    );
    /// Inner cacheability of fetches of context descriptors.
    S1CIR "S1CIR" 67:66 choice(
        0 => "non-cacheable",
        1 => "write-back, read-allocate",
        2 => "write-through, read-allocate",
        3 => "write-back, no read-allocate",
    );
    /// Outer cacheability of fetches of context descriptors.
    S1COR "S1COR" 69:68 choice(
        0 => "non-cacheable",
        1 => "write-back, read-allocate",
        2 => "write-through, read-allocate",
        3 => "write-back, no read-allocate",
    );
    /// Shareability of fetches of context descriptors.
    S1CSH "S1CSH" 71:70 choice(
        0 => "non-shareable", 2 => "outer shareable", 3 => "inner shareable",
    );
    /// Whether hardware uses bit 59 of a last-level descriptor of stage 2.
    S2HWU59 "S2HWU59" 72:72 flag("hardware does not use bit 59", "hardware may use bit 59");
    /// Whether hardware uses bit 60 of a last-level descriptor of stage 2.
    S2HWU60 "S2HWU60" 73:73 flag("hardware does not use bit 60", "hardware may use bit 60");
    /// Whether hardware uses bit 61 of a last-level descriptor of stage 2.
    S2HWU61 "S2HWU61" 74:74 flag("hardware does not use bit 61", "hardware may use bit 61");
    /// Whether hardware uses bit 62 of a last-level descriptor of stage 2.
    S2HWU62 "S2HWU62" 75:75 flag("hardware does not use bit 62", "hardware may use bit 62");
    /// Whether reads that destroy what they read are allowed.
    DRE "DRE" 76:76 flag("destructive reads become plain reads", "destructive reads are allowed");
    /// How many neighbouring entries are the same as this one.
    CONT "CONT" 80:77 log2;
    /// Whether directed cache prefetches are allowed.
    DCP "DCP" 81:81 flag("directed prefetches do nothing", "directed prefetches are allowed");
    /// Whether an automatic answer to a page request carries the PASID.
    PPAR "PPAR" 82:82 flag("automatic answers carry no PASID", "automatic answers carry the PASID");
    /// Whether events of this stream may be merged.
    MEV "MEV" 83:83 flag("events are not merged", "similar events may be merged");
    /// Left to software.
    SW_RESERVED "SW_RESERVED" 87:84 ignored;
    /// Whether context descriptors of this stream may turn on permission indirection.
    S1PIE "S1PIE" 88:88 flag("no permission indirection at stage 1", "a CD may use permission indirection");
    /// How stage 2 combines memory attributes.
    S2FWB "S2FWB" 89:89 flag("attributes of both stages combine", "stage 2 forces the memory type");
    /// Where the MPAM identifiers of transactions come from.
    S1MPAM "S1MPAM" 90:90 flag("from the STE", "from the CD");
    /// Whether faults of stage 1 may stall.
    S1STALLD "S1STALLD" 91:91 flag("a CD may let faults stall", "faults of stage 1 never stall");
    /// What ATS requests and translated traffic of this stream get.
    EATS "EATS" 93:92 choice(
        0 => "ATS is refused",
        1 => "full ATS",
        2 => "split-stage ATS",
        3 => "full ATS with checks against the DPT",
    );
    /// The translation regime of a stream that only stage 1 translates.
    STRW "STRW" 95:94 choice(0 => "EL1", 2 => "EL2, or EL2-E2H with CR2.E2H");
    /// The memory type that replaces the incoming one, encoded as in a stage-2 descriptor.
    MEMATTR "MemAttr" 99:96 hex;
    /// Whether the incoming memory type is replaced.
    MTCFG "MTCFG" 100:100 flag("the memory type is the incoming one", "MemAttr replaces the memory type");
    /// Allocation hints: bit 3 replaces the incoming ones by read, write and transient in bits 2, 1
    /// and 0.
    ALLOCCFG "ALLOCCFG" 104:101 hex;
    /// Shareability of the transactions themselves.
    SHCFG "SHCFG" 109:108 choice(
        0 => "non-shareable", 1 => "as the transaction came", 2 => "outer shareable", 3 => "inner shareable",
    );
    /// The NS attribute, for Secure and Realm streams; a Non-secure stream ignores it.
    NSCFG "NSCFG" 111:110 choice(0 => "as the transaction came", 2 => "secure", 3 => "non-secure");
    /// Privilege of the transactions.
    PRIVCFG "PRIVCFG" 113:112 choice(
        0 => "as the transaction came", 2 => "unprivileged", 3 => "privileged",
    );
    /// Whether reads count as data or as instruction fetches.
    INSTCFG "INSTCFG" 115:114 choice(0 => "as the transaction came", 2 => "data", 3 => "instruction");
    /// Left to the implementation.
    IMPDEF_127_116 "IMPDEF_127_116" 127:116 impdef;
    /// The VMID that tags what is cached of this stream.
    S2VMID "S2VMID" 143:128 number;
    /// Left to the implementation.
    IMPDEF_159_144 "IMPDEF_159_144" 159:144 impdef;
    /// 64 minus the bits of an input address of stage 2.
    S2T0SZ "S2T0SZ" 165:160 number;
    /// The level at which a walk of stage 2 starts; what a value means depends on S2TG.
    S2SL0 "S2SL0" 167:166 number;
    /// Inner cacheability of stage-2 walks.
    S2IR0 "S2IR0" 169:168 choice(
        0 => "non-cacheable",
        1 => "write-back, read- and write-allocate",
        2 => "write-through, read-allocate",
        3 => "write-back, read-allocate only",
    );
    /// Outer cacheability of stage-2 walks.
    S2OR0 "S2OR0" 171:170 choice(
        0 => "non-cacheable",
        1 => "write-back, read- and write-allocate",
        2 => "write-through, read-allocate",
        3 => "write-back, read-allocate only",
    );
    /// Shareability of stage-2 walks.
    S2SH0 "S2SH0" 173:172 choice(
        0 => "non-shareable", 2 => "outer shareable", 3 => "inner shareable",
    );
    /// Granule of stage 2.
    S2TG "S2TG" 175:174 choice(0 => "4 KiB", 1 => "64 KiB", 2 => "16 KiB");
    /// Size of an output address of stage 2.
    S2PS "S2PS" 178:176 choice(
        0 => "32 bits", 1 => "36 bits", 2 => "40 bits", 3 => "42 bits",
        4 => "44 bits", 5 => "48 bits", 6 => "52 bits", 7 => "56 bits",
    );
    /// Format of the tables of stage 2.
    S2AA64 "S2AA64" 179:179 flag("VMSAv8-32 LPAE, or VMSAv9-128 with IDR5.D128", "VMSAv8-64");
    /// Endianness of the tables of stage 2.
    S2ENDI "S2ENDI" 180:180 flag("little-endian", "big-endian");
    /// What a clear access flag does at stage 2.
    S2AFFD "S2AFFD" 181:181 flag("a clear access flag faults", "the access flag counts as set");
    /// What a stage-1 walk or CD fetch through Device memory does.
    S2PTW "S2PTW" 182:182 flag("walks through device memory are allowed", "walks through device memory fault");
    /// Whether hardware updates the dirty state at stage 2.
    S2HD "S2HD" 183:183 flag("hardware leaves the dirty state", "hardware updates the dirty state");
    /// Whether hardware updates the access flag at stage 2.
    S2HA "S2HA" 184:184 flag("hardware leaves the access flag", "hardware updates the access flag");
    /// Whether faults of stage 2 stall.
    S2S "S2S" 185:185 flag("faults terminate", "faults stall");
    /// Whether faults of stage 2 are recorded.
    S2R "S2R" 186:186 flag("faults are silent", "faults are recorded");
    /// Whether hardware updates the access flag of table descriptors at stage 2.
    S2HAFT "S2HAFT" 187:187 flag("table descriptors are left", "table descriptors get their access flag");
    /// Whether stage 2 uses permission indirection.
    S2PIE "S2PIE" 188:188 flag("direct permissions", "indirect permissions");
    /// Whether stage 2 applies permission overlays.
    S2POE "S2POE" 189:189 flag("no overlay", "overlay permissions of S2POI apply");
    /// How a check against the DPT looks at the VMID.
    DPT_VMATCH "DPT_VMATCH" 191:190 choice(
        0 => "the VMID must match unless AC is 0b10",
        1 => "the VMID must match unless AC is 0b01 or 0b10",
        2 => "the VMID need not match",
    );
    /// Bit 2 of S2SL0, for 52-bit addresses with 4 KiB pages.
    S2SL0_2 "S2SL0_2" 194:194 number;
    /// Whether stage 2 has 52-bit addresses with 4 KiB and 16 KiB pages.
    S2DS "S2DS" 195:195 flag("48-bit addresses with small pages", "52-bit addresses with small pages");
    /// Where the tables of stage 2 are; bits 55:52 count for VMSAv9-128 only.
    S2TTB "S2TTB" 247:196 address;
    /// How many levels a walk of stage 2 skips, for VMSAv9-128.
    S2SKL "S2SKL" 254:253 number;
    /// Left to the implementation.
    IMPDEF_271_256 "IMPDEF_271_256" 271:256 impdef;
    /// MPAM partition of accesses of this stream.
    PARTID "PARTID" 287:272 number;
    /// MPAM performance group of accesses of this stream.
    PMG "PMG" 327:320 number;
    /// Whether stage 2 checks AssuredOnly permissions.
    ASSUREDONLY "AssuredOnly" 329:329 flag("not checked", "AssuredOnly permissions are checked");
    /// Whether stage 2 checks the TopLevel 0 permission.
    TL0 "TL0" 330:330 flag("not checked", "TopLevel 0 is checked");
    /// Whether stage 2 checks the TopLevel 1 permission.
    TL1 "TL1" 331:331 flag("not checked", "TopLevel 1 is checked");
    /// Where the Virtual Machine Structure is.
    VMSPTR "VMSPtr" 375:332 address;
    /// Sixteen overlay permissions of stage 2, of four bits each.
    S2POI "S2POI" 511:448 hex;
}
