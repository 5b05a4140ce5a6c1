//! TLB invalidation (IHI 0070, 4.4).

/// `CMD_TLBI_NH_ALL`: all stage-1 entries of a VMID.
pub mod tlbi_nh_all {
    use crate::RawCommand;

    crate::layout::fields! {
        RawCommand, "CMD_TLBI_NH_ALL", "4.4.2.1", 128;
        /// The opcode.
        OPCODE "Opcode" 7:0 hex;
        /// The VMID; 0 where stage 2 is not in use.
        VMID "VMID" 47:32 number;
    }
}

/// `CMD_TLBI_NH_ASID`: non-global stage-1 entries of an ASID.
pub mod tlbi_nh_asid {
    use crate::RawCommand;

    crate::layout::fields! {
        RawCommand, "CMD_TLBI_NH_ASID", "4.4.2.2", 128;
        /// The opcode.
        OPCODE "Opcode" 7:0 hex;
        /// The VMID; 0 where stage 2 is not in use.
        VMID "VMID" 47:32 number;
        /// The ASID.
        ASID "ASID" 63:48 number;
    }
}

/// `CMD_TLBI_NH_VAA`: stage-1 entries of addresses, for every ASID.
pub mod tlbi_nh_vaa {
    use crate::RawCommand;

    crate::layout::fields! {
        RawCommand, "CMD_TLBI_NH_VAA", "4.4.2.3", 128;
        /// The opcode.
        OPCODE "Opcode" 7:0 hex;
        /// Chunks of the range, less one.
        NUM "NUM" 16:12 number;
        /// A chunk is 2 to this many granules; bit 25 needs `IDR5.DS`, and values above 39 count as
        /// 39.
        SCALE "SCALE" 25:20 log2;
        /// The VMID; 0 where stage 2 is not in use.
        VMID "VMID" 47:32 number;
        /// What may have changed.
        LEAF "Leaf" 64:64 flag("entries of all levels", "entries of the last level only");
        /// Which descriptors the level is of.
        TTL128 "TTL128" 71:71 flag("64-bit descriptors", "128-bit descriptors");
        /// The level that holds the leaf entries.
        TTL "TTL" 73:72 choice(0 => "any level", 1 => "level 1", 2 => "level 2", 3 => "level 3");
        /// The granule of the entries; 0 for one address, without a range or a level.
        TG "TG" 75:74 choice(
            0 => "any granule, one address",
            1 => "4 KiB",
            2 => "16 KiB",
            3 => "64 KiB",
        );
        /// The first address.
        ADDRESS "Address" 127:76 address;
    }
}

/// `CMD_TLBI_NH_VA`: stage-1 entries of addresses and an ASID.
pub mod tlbi_nh_va {
    use crate::RawCommand;

    crate::layout::fields! {
        RawCommand, "CMD_TLBI_NH_VA", "4.4.2.4", 128;
        /// The opcode.
        OPCODE "Opcode" 7:0 hex;
        /// Chunks of the range, less one.
        NUM "NUM" 16:12 number;
        /// A chunk is 2 to this many granules; bit 25 needs `IDR5.DS`, and values above 39 count as
        /// 39.
        SCALE "SCALE" 25:20 log2;
        /// The VMID; 0 where stage 2 is not in use.
        VMID "VMID" 47:32 number;
        /// The ASID.
        ASID "ASID" 63:48 number;
        /// What may have changed.
        LEAF "Leaf" 64:64 flag("entries of all levels", "entries of the last level only");
        /// Which descriptors the level is of.
        TTL128 "TTL128" 71:71 flag("64-bit descriptors", "128-bit descriptors");
        /// The level that holds the leaf entries.
        TTL "TTL" 73:72 choice(0 => "any level", 1 => "level 1", 2 => "level 2", 3 => "level 3");
        /// The granule of the entries; 0 for one address, without a range or a level.
        TG "TG" 75:74 choice(
            0 => "any granule, one address",
            1 => "4 KiB",
            2 => "16 KiB",
            3 => "64 KiB",
        );
        /// The first address.
        ADDRESS "Address" 127:76 address;
    }
}

/// `CMD_TLBI_EL2_ALL`: all EL2 entries.
pub mod tlbi_el2_all {
    use crate::RawCommand;

    crate::layout::fields! {
        RawCommand, "CMD_TLBI_EL2_ALL", "4.4.2.7", 128;
        /// The opcode.
        OPCODE "Opcode" 7:0 hex;
    }
}

/// `CMD_TLBI_EL2_VA`: EL2 entries of addresses and an ASID.
pub mod tlbi_el2_va {
    use crate::RawCommand;

    crate::layout::fields! {
        RawCommand, "CMD_TLBI_EL2_VA", "4.4.2.8", 128;
        /// The opcode.
        OPCODE "Opcode" 7:0 hex;
        /// Chunks of the range, less one.
        NUM "NUM" 16:12 number;
        /// A chunk is 2 to this many granules; bit 25 needs `IDR5.DS`, and values above 39 count as
        /// 39.
        SCALE "SCALE" 25:20 log2;
        /// The ASID; ignored unless `CR2.E2H` is set.
        ASID "ASID" 63:48 number;
        /// What may have changed.
        LEAF "Leaf" 64:64 flag("entries of all levels", "entries of the last level only");
        /// Which descriptors the level is of.
        TTL128 "TTL128" 71:71 flag("64-bit descriptors", "128-bit descriptors");
        /// The level that holds the leaf entries.
        TTL "TTL" 73:72 choice(0 => "any level", 1 => "level 1", 2 => "level 2", 3 => "level 3");
        /// The granule of the entries; 0 for one address, without a range or a level.
        TG "TG" 75:74 choice(
            0 => "any granule, one address",
            1 => "4 KiB",
            2 => "16 KiB",
            3 => "64 KiB",
        );
        /// The first address.
        ADDRESS "Address" 127:76 address;
    }
}

/// `CMD_TLBI_EL2_VAA`: EL2 entries of addresses, for every ASID.
pub mod tlbi_el2_vaa {
    use crate::RawCommand;

    crate::layout::fields! {
        RawCommand, "CMD_TLBI_EL2_VAA", "4.4.2.9", 128;
        /// The opcode.
        OPCODE "Opcode" 7:0 hex;
        /// Chunks of the range, less one.
        NUM "NUM" 16:12 number;
        /// A chunk is 2 to this many granules; bit 25 needs `IDR5.DS`, and values above 39 count as
        /// 39.
        SCALE "SCALE" 25:20 log2;
        /// What may have changed.
        LEAF "Leaf" 64:64 flag("entries of all levels", "entries of the last level only");
        /// Which descriptors the level is of.
        TTL128 "TTL128" 71:71 flag("64-bit descriptors", "128-bit descriptors");
        /// The level that holds the leaf entries.
        TTL "TTL" 73:72 choice(0 => "any level", 1 => "level 1", 2 => "level 2", 3 => "level 3");
        /// The granule of the entries; 0 for one address, without a range or a level.
        TG "TG" 75:74 choice(
            0 => "any granule, one address",
            1 => "4 KiB",
            2 => "16 KiB",
            3 => "64 KiB",
        );
        /// The first address.
        ADDRESS "Address" 127:76 address;
    }
}

/// `CMD_TLBI_EL2_ASID`: non-global EL2-E2H entries of an ASID.
pub mod tlbi_el2_asid {
    use crate::RawCommand;

    crate::layout::fields! {
        RawCommand, "CMD_TLBI_EL2_ASID", "4.4.2.10", 128;
        /// The opcode.
        OPCODE "Opcode" 7:0 hex;
        /// The ASID.
        ASID "ASID" 63:48 number;
    }
}

/// `CMD_TLBI_S2_IPA`: stage-2 entries of intermediate addresses.
pub mod tlbi_s2_ipa {
    use crate::RawCommand;

    crate::layout::fields! {
        RawCommand, "CMD_TLBI_S2_IPA", "4.4.3.1", 128;
        /// The opcode.
        OPCODE "Opcode" 7:0 hex;
        /// Chunks of the range, less one.
        NUM "NUM" 16:12 number;
        /// A chunk is 2 to this many granules; bit 25 needs `IDR5.DS`, and values above 39 count as
        /// 39.
        SCALE "SCALE" 25:20 log2;
        /// The VMID.
        VMID "VMID" 47:32 number;
        /// What may have changed.
        LEAF "Leaf" 64:64 flag("entries of all levels", "entries of the last level only");
        /// Which descriptors the level is of.
        TTL128 "TTL128" 71:71 flag("64-bit descriptors", "128-bit descriptors");
        /// The level that holds the leaf entries.
        TTL "TTL" 73:72 choice(0 => "any level", 1 => "level 1", 2 => "level 2", 3 => "level 3");
        /// The granule of the entries; 0 for one address, without a range or a level.
        TG "TG" 75:74 choice(
            0 => "any granule, one address",
            1 => "4 KiB",
            2 => "16 KiB",
            3 => "64 KiB",
        );
        /// The first address.
        ADDRESS "Address" 119:76 address;
    }
}

/// `CMD_TLBI_S12_VMALL`: all entries of a VMID, both stages.
pub mod tlbi_s12_vmall {
    use crate::RawCommand;

    crate::layout::fields! {
        RawCommand, "CMD_TLBI_S12_VMALL", "4.4.3.2", 128;
        /// The opcode.
        OPCODE "Opcode" 7:0 hex;
        /// The VMID.
        VMID "VMID" 47:32 number;
    }
}

/// `CMD_TLBI_NSNH_ALL`: all Non-secure entries outside EL2.
pub mod tlbi_nsnh_all {
    use crate::RawCommand;

    crate::layout::fields! {
        RawCommand, "CMD_TLBI_NSNH_ALL", "4.4.4.1", 128;
        /// The opcode.
        OPCODE "Opcode" 7:0 hex;
    }
}
