//! Registers of tables and queues: bases, producers and consumers.

use super::structure;

structure! {
    /// `STRTAB_BASE`: where the stream table is.
    strtab_base StrtabBase u64 64 "STRTAB_BASE" "6.3.24";
    /// Its address, which the SMMU aligns to its size.
    ADDR "ADDR" 55:6 address;
    /// Whether its accesses hint to allocate cache lines.
    RA "RA" 62:62 flag("no read-allocate", "read-allocate");
}

structure! {
    /// `STRTAB_BASE_CFG`: size and format of the stream table.
    strtab_base_cfg StrtabBaseCfg u32 32 "STRTAB_BASE_CFG" "6.3.25";
    /// The StreamIDs that it covers, as log2.
    LOG2SIZE "LOG2SIZE" 5:0 log2;
    /// How many low bits of a StreamID the second level indexes. Reserved values behave as 6.
    SPLIT "SPLIT" 10:6 choice(
        6 => "second level of 4 KiB", 8 => "second level of 16 KiB", 10 => "second level of 64 KiB",
    );
    /// How many levels it has. Reserved values behave as 0.
    FMT "FMT" 17:16 choice(0 => "one level", 1 => "two levels");
}

macro_rules! queue_base {
    (
        $(#[doc = $doc:literal])+
        $module:ident $structure:ident $name:literal $section:literal $hint:ident $hint_name:literal
        $clear:literal $set:literal
    ) => {
        structure! {
            $(#[doc = $doc])+
            $module $structure u64 64 $name $section;
            /// The number of entries, as log2.
            LOG2SIZE "LOG2SIZE" 4:0 log2;
            /// Its address, which the SMMU aligns to its size.
            ADDR "ADDR" 55:5 address;
            /// Whether its accesses hint to allocate cache lines.
            $hint $hint_name 62:62 flag($clear, $set);
        }
    };
}

queue_base! {
    /// `CMDQ_BASE`: where the command queue is.
    cmdq_base CmdqBase "CMDQ_BASE" "6.3.26" RA "RA" "no read-allocate" "read-allocate"
}
queue_base! {
    /// `EVENTQ_BASE`: where the event queue is.
    eventq_base EventqBase "EVENTQ_BASE" "6.3.29" WA "WA" "no write-allocate" "write-allocate"
}
queue_base! {
    /// `PRIQ_BASE`: where the PRI queue is.
    priq_base PriqBase "PRIQ_BASE" "6.3.33" WA "WA" "no write-allocate" "write-allocate"
}
queue_base! {
    /// `ECMDQ_BASE`: where an enhanced command queue is.
    ecmdq_base EcmdqBase "ECMDQ_BASE" "6.3.107" RA "RA" "no read-allocate" "read-allocate"
}

structure! {
    /// `CMDQ_PROD`: where the next command goes.
    cmdq_prod CmdqProd u32 32 "CMDQ_PROD" "6.3.27";
    /// Write index, with the wrap flag in the bit above it; the queue's size says where that is.
    WR "WR" 19:0 hex;
}

structure! {
    /// `CMDQ_CONS`: where the SMMU takes the next command, and why it stopped.
    cmdq_cons CmdqCons u32 32 "CMDQ_CONS" "6.3.28";
    /// Read index, with the wrap flag in the bit above it.
    RD "RD" 19:0 hex;
    /// Why the SMMU stopped; only meaningful while `GERROR.CMDQ_ERR` is active.
    ERR "ERR" 30:24 choice(
        0 => "no error",
        1 => "illegal command",
        2 => "abort on command fetch",
        3 => "an ATC invalidation before this CMD_SYNC did not complete",
    );
}

macro_rules! output_queue {
    (
        $producer_module:ident $producer:ident $producer_name:literal $producer_section:literal,
        $consumer_module:ident $consumer:ident $consumer_name:literal $consumer_section:literal
    ) => {
        structure! {
            /// Where the SMMU writes the next record.
            $producer_module $producer u32 32 $producer_name $producer_section;
            /// Write index, with the wrap flag in the bit above it; the queue's size says where
            /// that is.
            WR "WR" 19:0 hex;
            /// Toggles when records are lost; an overflow is active while it differs from
            /// `OVACKFLG`.
            OVFLG "OVFLG" 31:31 number;
        }
        structure! {
            /// Where software reads the next record.
            $consumer_module $consumer u32 32 $consumer_name $consumer_section;
            /// Read index, with the wrap flag in the bit above it.
            RD "RD" 19:0 hex;
            /// Made equal to `OVFLG`, it acknowledges an overflow.
            OVACKFLG "OVACKFLG" 31:31 number;
        }
    };
}

output_queue! {
    eventq_prod EventqProd "EVENTQ_PROD" "6.3.95",
    eventq_cons EventqCons "EVENTQ_CONS" "6.3.96"
}
output_queue! {
    priq_prod PriqProd "PRIQ_PROD" "6.3.97",
    priq_cons PriqCons "PRIQ_CONS" "6.3.98"
}

structure! {
    /// `ECMDQ_PROD`: where the next command goes.
    ecmdq_prod EcmdqProd u32 32 "ECMDQ_PROD" "6.3.108";
    /// Write index, with the wrap flag in the bit above it; the queue's size says where that is.
    WR "WR" 19:0 hex;
    /// Made equal to `ECMDQ_CONS.ERR`, it acknowledges an error.
    ERRACK "ERRACK" 23:23 number;
    /// Whether the queue is on.
    EN "EN" 31:31 flag("the queue is off", "the queue is on");
}

structure! {
    /// `ECMDQ_CONS`: where the SMMU takes the next command, and why it stopped.
    ecmdq_cons EcmdqCons u32 32 "ECMDQ_CONS" "6.3.109";
    /// Read index, with the wrap flag in the bit above it.
    RD "RD" 19:0 hex;
    /// Toggles when an error occurs; it is active while it differs from `ECMDQ_PROD.ERRACK`.
    ERR "ERR" 23:23 number;
    /// Why the SMMU stopped; only meaningful while an error is active.
    ERR_REASON "ERR_REASON" 26:24 choice(
        0 => "no error",
        1 => "illegal command",
        2 => "abort on command fetch",
        3 => "an ATC invalidation before this CMD_SYNC did not complete",
    );
    /// Whether the queue's being on or off has taken effect.
    ENACK "ENACK" 31:31 flag("the queue is off", "the queue is on");
}

structure! {
    /// `CMDQ_CONTROL_PAGE_BASE<n>`: where a command queue control page is.
    cmdq_control_page_base CmdqControlPageBase u64 64 "CMDQ_CONTROL_PAGE_BASE" "6.3.49";
    /// Whether the page's queues are controlled by registers; they always are.
    CMDQ_CONTROL_PAGE_PRESET "CMDQ_CONTROL_PAGE_PRESET" 0:0 flag("controls in memory", "controls in registers");
    /// The page's granule.
    CMDQGS "CMDQGS" 2:1 choice(1 => "64 KiB");
    /// Bytes from the base of page 0 to the page.
    ADDR "ADDR" 55:16 address;
}

structure! {
    /// `CMDQ_CONTROL_PAGE_CFG<n>`: whether a command queue control page is enabled.
    cmdq_control_page_cfg CmdqControlPageCfg u32 32 "CMDQ_CONTROL_PAGE_CFG" "6.3.50";
    /// Whether it is enabled; it always is.
    EN "EN" 0:0 flag("not enabled", "enabled");
}

structure! {
    /// `CMDQ_CONTROL_PAGE_STATUS<n>`: whether that has taken effect.
    cmdq_control_page_status CmdqControlPageStatus u32 32 "CMDQ_CONTROL_PAGE_STATUS" "6.3.51";
    /// Whether it is enabled; it always is.
    ENACK "ENACK" 0:0 flag("not enabled", "enabled");
}

structure! {
    /// `DPT_BASE`: where the device permission table is.
    dpt_base DptBase u64 64 "DPT_BASE" "6.3.46";
    /// Its address, which the SMMU aligns to its size.
    BADDR "BADDR" 55:12 address;
    /// Whether its accesses hint to allocate cache lines.
    RA "RA" 62:62 flag("no read-allocate", "read-allocate");
}

structure! {
    /// `DPT_BASE_CFG`: size and granule of the device permission table.
    dpt_base_cfg DptBaseCfg u32 32 "DPT_BASE_CFG" "6.3.47";
    /// How much memory the table protects.
    DPTPS "DPTPS" 2:0 choice(
        0 => "4 GiB", 1 => "64 GiB", 2 => "1 TiB", 3 => "4 TiB", 4 => "16 TiB", 5 => "256 TiB", 6 => "4 PiB",
    );
    /// The granule.
    DPTGS "DPTGS" 15:14 choice(0 => "4 KiB", 1 => "64 KiB", 2 => "16 KiB");
    /// How much memory an entry of level 0 protects.
    L0DPTSZ "L0DPTSZ" 23:20 choice(0 => "1 GiB", 4 => "16 GiB", 6 => "64 GiB", 9 => "512 GiB");
}

structure! {
    /// `DPT_CFG_FAR`: the last fault of a device permission table lookup.
    dpt_cfg_far DptCfgFar u64 64 "DPT_CFG_FAR" "6.3.48";
    /// Whether a lookup failed since this was last cleared.
    FAULT "FAULT" 0:0 flag("no fault", "a lookup failed");
    /// The level at which it failed.
    LEVEL "LEVEL" 1:1 number;
    /// Why it failed.
    DPT_FAULTCODE "DPT_FAULTCODE" 7:4 choice(
        0 => "DPT_DISABLED: walks are off",
        1 => "DPT_WALK_FAULT: invalid configuration or descriptor",
        2 => "DPT_GPC_FAULT: granule protection check of the fetch",
        3 => "DPT_EABT: external abort of the fetch",
    );
    /// The physical address that was looked up.
    FADDR "FADDR" 55:12 address;
}
