//! Bits of registers as masks. The tables of [`fields`](crate::fields) have the same, with names and meanings.

/// Fields of `CR0` and `CR0ACK`.
pub mod cr0 {
    /// Translation is on.
    pub const SMMUEN: u32 = 1 << 0;
    /// The PRI queue is on.
    pub const PRIQEN: u32 = 1 << 1;
    /// The event queue is on.
    pub const EVENTQEN: u32 = 1 << 2;
    /// The command queue is on.
    pub const CMDQEN: u32 = 1 << 3;
    /// ATS behaviour is checked.
    pub const ATSCHK: u32 = 1 << 4;
    /// How many low bits of a VMID an invalidation leaves out.
    pub const VMW: u32 = 7 << 6;
    /// The device permission table is walked.
    pub const DPT_WALK_EN: u32 = 1 << 10;
}

/// Fields of `CR1`: queue attributes in bits 5:0, table attributes in bits 11:6.
pub mod cr1 {
    /// Inner cacheability of queues.
    pub const QUEUE_IC: u32 = 3;
    /// Outer cacheability of queues.
    pub const QUEUE_OC: u32 = 3 << 2;
    /// Shareability of queues.
    pub const QUEUE_SH: u32 = 3 << 4;
    /// Inner cacheability of tables.
    pub const TABLE_IC: u32 = 3 << 6;
    /// Outer cacheability of tables.
    pub const TABLE_OC: u32 = 3 << 8;
    /// Shareability of tables.
    pub const TABLE_SH: u32 = 3 << 10;
    /// Inner Shareable, Write-Back inside and outside, for tables and queues.
    pub const COHERENT: u32 = 3 << 10 | 1 << 8 | 1 << 6 | 3 << 4 | 1 << 2 | 1;
    /// Outer Shareable, Non-cacheable, for tables and queues.
    pub const NON_COHERENT: u32 = 2 << 10 | 2 << 4;
}

/// Fields of `CR2`.
pub mod cr2 {
    /// EL2 with E2H.
    pub const E2H: u32 = 1 << 0;
    /// Invalid StreamIDs are recorded.
    pub const RECINVSID: u32 = 1 << 1;
    /// Broadcast TLB maintenance is ignored.
    pub const PTM: u32 = 1 << 2;
    /// Configuration errors of ATS and PRI requests are recorded.
    pub const REC_CFG_ATS: u32 = 1 << 3;
}

/// Fields of `STATUSR`.
pub mod statusr {
    /// Nothing is cached.
    pub const DORMANT: u32 = 1 << 0;
}

/// Fields of `GBPA`.
pub mod gbpa {
    /// The memory type that replaces the incoming one.
    pub const MEMATTR: u32 = 0xf;
    /// `MEMATTR` replaces the incoming memory type.
    pub const MTCFG: u32 = 1 << 4;
    /// Allocation hints.
    pub const ALLOCCFG: u32 = 0xf << 8;
    /// Shareability.
    pub const SHCFG: u32 = 3 << 12;
    /// Privileged or not.
    pub const PRIVCFG: u32 = 3 << 16;
    /// Instruction or data.
    pub const INSTCFG: u32 = 3 << 18;
    /// All transactions are aborted.
    pub const ABORT: u32 = 1 << 20;
    /// A write takes effect when this reads 0 again.
    pub const UPDATE: u32 = 1 << 31;
}

/// Fields of `IRQ_CTRL` and `IRQ_CTRLACK`.
pub mod irq_ctrl {
    /// Global errors.
    pub const GERROR: u32 = 1 << 0;
    /// PRI queue.
    pub const PRIQ: u32 = 1 << 1;
    /// Event queue.
    pub const EVENTQ: u32 = 1 << 2;
}

/// Fields of `GERROR` and `GERRORN`.
pub mod gerror {
    /// The command queue stopped at a command; see `CMDQ_CONS.ERR`.
    pub const CMDQ: u32 = 1 << 0;
    /// A write to the event queue was aborted.
    pub const EVENTQ_ABT: u32 = 1 << 2;
    /// A write to the PRI queue was aborted.
    pub const PRIQ_ABT: u32 = 1 << 3;
    /// A `CMD_SYNC` MSI was aborted.
    pub const MSI_CMDQ_ABT: u32 = 1 << 4;
    /// An event queue MSI was aborted.
    pub const MSI_EVENTQ_ABT: u32 = 1 << 5;
    /// A PRI queue MSI was aborted.
    pub const MSI_PRIQ_ABT: u32 = 1 << 6;
    /// A global error MSI was aborted.
    pub const MSI_GERROR_ABT: u32 = 1 << 7;
    /// The SMMU is in service failure mode.
    pub const SFM: u32 = 1 << 8;
    /// An enhanced command queue has an error.
    pub const CMDQP: u32 = 1 << 9;
    /// A lookup in the device permission table failed; see `DPT_CFG_FAR`.
    pub const DPT: u32 = 1 << 10;
    /// Every bit of an SMMU whose enhanced command queues and device permission table are not in use.
    pub const ALL: u32 = 0x1fd;
    /// Every bit that is defined.
    pub const DEFINED: u32 = ALL | CMDQP | DPT;
}

/// Fields of `GERROR_IRQ_CFG2`, `EVENTQ_IRQ_CFG2` and `PRIQ_IRQ_CFG2`.
pub mod irq_cfg2 {
    /// Memory type of the MSI.
    pub const MEMATTR: u32 = 0xf;
    /// Shareability of the MSI.
    pub const SH: u32 = 3 << 4;
}

/// The field that only `PRIQ_IRQ_CFG2` has.
pub mod priq_irq_cfg2 {
    /// Only the last page request of a group interrupts.
    pub const LO: u32 = 1 << 31;
}

/// Fields of `CMDQ_CONS`.
pub mod cmdq_cons {
    use crate::CommandErrorCode;

    /// The error code, where it lies.
    pub const ERR: u32 = 0x7f << 24;

    /// The error code, bits 30:24. Only meaningful while `GERROR.CMDQ` is active.
    #[must_use]
    pub const fn error(cons: u32) -> CommandErrorCode {
        CommandErrorCode((cons >> 24 & 0x7f) as u8)
    }
}

/// Fields of the producer and consumer registers; see [`queue`](crate::queue) for types.
pub mod queue_pointer {
    /// Index and wrap flag of the largest queue.
    pub const POINTER: u32 = 0xf_ffff;
    /// `OVFLG` of `EVENTQ_PROD` and `PRIQ_PROD`, `OVACKFLG` of `EVENTQ_CONS` and `PRIQ_CONS`.
    pub const OVERFLOW: u32 = 1 << 31;
}

/// Fields of `GATOS_CTRL` and `VATOS_CTRL`.
pub mod gatos_ctrl {
    /// The operation runs; it is done when this reads 0 again.
    pub const RUN: u32 = 1 << 0;
}

/// Fields of `GMPAM`.
pub mod gmpam {
    /// PARTID of the SMMU's own accesses.
    pub const SO_PARTID: u32 = 0xffff;
    /// PMG of the SMMU's own accesses.
    pub const SO_PMG: u32 = 0xff << 16;
    /// A write takes effect when this reads 0 again.
    pub const UPDATE: u32 = 1 << 31;
}

/// Fields of `GBPMPAM`.
pub mod gbpmpam {
    /// PARTID of transactions while translation is off.
    pub const GBP_PARTID: u32 = 0xffff;
    /// PMG of transactions while translation is off.
    pub const GBP_PMG: u32 = 0xff << 16;
    /// A write takes effect when this reads 0 again.
    pub const UPDATE: u32 = 1 << 31;
}

/// Fields of `DPT_CFG_FAR`.
pub mod dpt_cfg_far {
    /// A lookup failed since this was last cleared; writing 0 clears the register.
    pub const FAULT: u64 = 1 << 0;
    /// The level at which it failed.
    pub const LEVEL: u64 = 1 << 1;
    /// Why it failed.
    pub const DPT_FAULTCODE: u64 = 0xf << 4;
}
