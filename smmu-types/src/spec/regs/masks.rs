//! Bits of registers as masks. [`fields`](crate::fields) has the same fields with names and
//! meanings.

/// Fields of `CR0` and `CR0ACK`.
pub mod cr0 {
    use crate::fields::cr0 as field;

    /// Translation is on.
    pub const SMMUEN: u32 = field::SMMUEN.mask() as u32;
    /// The PRI queue is on.
    pub const PRIQEN: u32 = field::PRIQEN.mask() as u32;
    /// The event queue is on.
    pub const EVENTQEN: u32 = field::EVENTQEN.mask() as u32;
    /// The command queue is on.
    pub const CMDQEN: u32 = field::CMDQEN.mask() as u32;
    /// The SMMU checks translated ATS traffic.
    pub const ATSCHK: u32 = field::ATSCHK.mask() as u32;
    /// The number of low VMID bits that an invalidation ignores.
    pub const VMW: u32 = field::VMW.mask() as u32;
    /// The SMMU walks the device permission table.
    pub const DPT_WALK_EN: u32 = field::DPT_WALK_EN.mask() as u32;
}

/// Fields of `CR1`: queue attributes in bits 5:0, table attributes in bits 11:6.
pub mod cr1 {
    use crate::fields::cr1 as field;
    use crate::{Cacheability, Shareability};

    /// Inner cacheability of queues.
    pub const QUEUE_IC: u32 = field::QUEUE_IC.mask() as u32;
    /// Outer cacheability of queues.
    pub const QUEUE_OC: u32 = field::QUEUE_OC.mask() as u32;
    /// Shareability of queues.
    pub const QUEUE_SH: u32 = field::QUEUE_SH.mask() as u32;
    /// Inner cacheability of tables.
    pub const TABLE_IC: u32 = field::TABLE_IC.mask() as u32;
    /// Outer cacheability of tables.
    pub const TABLE_OC: u32 = field::TABLE_OC.mask() as u32;
    /// Shareability of tables.
    pub const TABLE_SH: u32 = field::TABLE_SH.mask() as u32;
    /// Inner Shareable, Write-Back inside and outside, for tables and queues.
    pub const COHERENT: u32 = attributes(Shareability::Inner, Cacheability::WriteBack);
    /// Outer Shareable, Non-cacheable, for tables and queues.
    pub const NON_COHERENT: u32 = attributes(Shareability::Outer, Cacheability::NonCacheable);

    const fn attributes(shareability: Shareability, cacheability: Cacheability) -> u32 {
        let (shareability, cacheability) = (shareability as u64, cacheability as u64);
        let queues = field::QUEUE_SH.cut(shareability)
            | field::QUEUE_OC.cut(cacheability)
            | field::QUEUE_IC.cut(cacheability);
        let tables = field::TABLE_SH.cut(shareability)
            | field::TABLE_OC.cut(cacheability)
            | field::TABLE_IC.cut(cacheability);
        (queues | tables) as u32
    }
}

/// Fields of `CR2`.
pub mod cr2 {
    use crate::fields::cr2 as field;

    /// EL2 with E2H.
    pub const E2H: u32 = field::E2H.mask() as u32;
    /// The SMMU records invalid StreamIDs.
    pub const RECINVSID: u32 = field::RECINVSID.mask() as u32;
    /// The SMMU ignores broadcast TLB maintenance.
    pub const PTM: u32 = field::PTM.mask() as u32;
    /// The SMMU records configuration errors of ATS and PRI requests.
    pub const REC_CFG_ATS: u32 = field::REC_CFG_ATS.mask() as u32;
}

/// Fields of `STATUSR`.
pub mod statusr {
    use crate::fields::statusr as field;

    /// The SMMU caches nothing.
    pub const DORMANT: u32 = field::DORMANT.mask() as u32;
}

/// Fields of `GBPA`.
pub mod gbpa {
    use crate::fields::gbpa as field;

    /// The memory type that replaces the incoming one.
    pub const MEMATTR: u32 = field::MEMATTR.mask() as u32;
    /// `MEMATTR` replaces the incoming memory type.
    pub const MTCFG: u32 = field::MTCFG.mask() as u32;
    /// Allocation hints.
    pub const ALLOCCFG: u32 = field::ALLOCCFG.mask() as u32;
    /// Shareability.
    pub const SHCFG: u32 = field::SHCFG.mask() as u32;
    /// Privileged or not.
    pub const PRIVCFG: u32 = field::PRIVCFG.mask() as u32;
    /// Instruction or data.
    pub const INSTCFG: u32 = field::INSTCFG.mask() as u32;
    /// The SMMU aborts all transactions.
    pub const ABORT: u32 = field::ABORT.mask() as u32;
    /// A write takes effect when this reads 0 again.
    pub const UPDATE: u32 = field::UPDATE.mask() as u32;
}

/// Fields of `IRQ_CTRL` and `IRQ_CTRLACK`.
pub mod irq_ctrl {
    use crate::fields::irq_ctrl as field;

    /// Global errors.
    pub const GERROR: u32 = field::GERROR_IRQEN.mask() as u32;
    /// PRI queue.
    pub const PRIQ: u32 = field::PRIQ_IRQEN.mask() as u32;
    /// Event queue.
    pub const EVENTQ: u32 = field::EVENTQ_IRQEN.mask() as u32;
}

/// Fields of `GERROR` and `GERRORN`.
pub mod gerror {
    use crate::fields::gerror as field;

    /// The command queue stopped at a command: see `CMDQ_CONS.ERR`.
    pub const CMDQ: u32 = field::CMDQ_ERR.mask() as u32;
    /// A write to the event queue was aborted.
    pub const EVENTQ_ABT: u32 = field::EVENTQ_ABT_ERR.mask() as u32;
    /// A write to the PRI queue was aborted.
    pub const PRIQ_ABT: u32 = field::PRIQ_ABT_ERR.mask() as u32;
    /// A `CMD_SYNC` MSI was aborted.
    pub const MSI_CMDQ_ABT: u32 = field::MSI_CMDQ_ABT_ERR.mask() as u32;
    /// An event queue MSI was aborted.
    pub const MSI_EVENTQ_ABT: u32 = field::MSI_EVENTQ_ABT_ERR.mask() as u32;
    /// A PRI queue MSI was aborted.
    pub const MSI_PRIQ_ABT: u32 = field::MSI_PRIQ_ABT_ERR.mask() as u32;
    /// A global error MSI was aborted.
    pub const MSI_GERROR_ABT: u32 = field::MSI_GERROR_ABT_ERR.mask() as u32;
    /// The SMMU is in service failure mode.
    pub const SFM: u32 = field::SFM_ERR.mask() as u32;
    /// An enhanced command queue has an error.
    pub const CMDQP: u32 = field::CMDQP_ERR.mask() as u32;
    /// A lookup in the device permission table failed: see `DPT_CFG_FAR`.
    pub const DPT: u32 = field::DPT_ERR.mask() as u32;
    /// Every bit of an SMMU that uses neither enhanced command queues nor a device permission
    /// table.
    pub const ALL: u32 = CMDQ
        | EVENTQ_ABT
        | PRIQ_ABT
        | MSI_CMDQ_ABT
        | MSI_EVENTQ_ABT
        | MSI_PRIQ_ABT
        | MSI_GERROR_ABT
        | SFM;
    /// Every bit that is defined.
    pub const DEFINED: u32 = ALL | CMDQP | DPT;
}

/// Fields of `GERROR_IRQ_CFG2`, `EVENTQ_IRQ_CFG2` and `PRIQ_IRQ_CFG2`.
pub mod irq_cfg2 {
    use crate::fields::gerror_irq_cfg2 as field;

    /// Memory type of the MSI.
    pub const MEMATTR: u32 = field::MEMATTR.mask() as u32;
    /// Shareability of the MSI.
    pub const SH: u32 = field::SH.mask() as u32;
}

/// The field that only `PRIQ_IRQ_CFG2` has.
pub mod priq_irq_cfg2 {
    use crate::fields::priq_irq_cfg2 as field;

    /// Only the last page request of a group interrupts.
    pub const LO: u32 = field::LO.mask() as u32;
}

/// Fields of `CMDQ_CONS`.
pub mod cmdq_cons {
    use crate::CommandErrorCode;
    use crate::fields::cmdq_cons as field;

    /// The error code, in place.
    pub const ERR: u32 = field::ERR.mask() as u32;

    /// The error code, bits 30:24. Only meaningful while `GERROR.CMDQ` is active.
    #[must_use]
    pub const fn error(cons: u32) -> CommandErrorCode {
        CommandErrorCode(field::ERR.get(&[cons as u64]) as u8)
    }
}

/// Fields of the producer and consumer registers; see [`queue`](crate::queue) for types.
pub mod queue_pointer {
    use crate::fields::{cmdq_prod, eventq_prod};

    /// Index and wrap flag of the largest queue.
    pub const POINTER: u32 = cmdq_prod::WR.mask() as u32;
    /// `OVFLG` of `EVENTQ_PROD` and `PRIQ_PROD`, `OVACKFLG` of `EVENTQ_CONS` and `PRIQ_CONS`.
    pub const OVERFLOW: u32 = eventq_prod::OVFLG.mask() as u32;
}

/// Fields of `GATOS_CTRL` and `VATOS_CTRL`.
pub mod gatos_ctrl {
    use crate::fields::gatos_ctrl as field;

    /// The operation runs. It is complete when this reads 0 again.
    pub const RUN: u32 = field::RUN.mask() as u32;
}

/// Fields of `GMPAM`.
pub mod gmpam {
    use crate::fields::gmpam as field;

    /// PARTID of the SMMU's own accesses.
    pub const SO_PARTID: u32 = field::SO_PARTID.mask() as u32;
    /// PMG of the SMMU's own accesses.
    pub const SO_PMG: u32 = field::SO_PMG.mask() as u32;
    /// A write takes effect when this reads 0 again.
    pub const UPDATE: u32 = field::UPDATE.mask() as u32;
}

/// Fields of `GBPMPAM`.
pub mod gbpmpam {
    use crate::fields::gbpmpam as field;

    /// PARTID of transactions while translation is off.
    pub const GBP_PARTID: u32 = field::GBP_PARTID.mask() as u32;
    /// PMG of transactions while translation is off.
    pub const GBP_PMG: u32 = field::GBP_PMG.mask() as u32;
    /// A write takes effect when this reads 0 again.
    pub const UPDATE: u32 = field::UPDATE.mask() as u32;
}

/// Fields of `DPT_CFG_FAR`.
pub mod dpt_cfg_far {
    use crate::fields::dpt_cfg_far as field;

    /// A lookup failed since software last cleared this. A write of 0 clears the register.
    pub const FAULT: u64 = field::FAULT.mask();
    /// The level of the failed lookup.
    pub const LEVEL: u64 = field::LEVEL.mask();
    /// The cause.
    pub const DPT_FAULTCODE: u64 = field::DPT_FAULTCODE.mask();
}
