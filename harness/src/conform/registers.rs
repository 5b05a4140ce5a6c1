//! Registers: reset values, access, acknowledgements.

use smmu_types::regs::{self, cr0, gbpa, irq_ctrl};
use smmu_types::seam::{Registers, RegistersExt};

use super::check::{Check, Group, RESET, SEVERAL, checks_of};
use super::ended::same_word;

checks_of!(Group::Registers);

/// A pattern in the bits of an address that every output size has.
const ADDRESS: u64 = 0x4321_8000;

pub(super) const CHECKS: &[Check] = &[
    check("registers/reset-cr0", "6.3.9", "CR0 and CR0ACK are 0 after reset", &[], |b| {
        let r = b.regs(0)?;
        same_word("CR0", 0u32, r.read(regs::CR0))?;
        same_word("CR0ACK", 0u32, r.read(regs::CR0ACK))
    }),
    check("registers/reset-irq-ctrl", "6.3.16", "interrupts are off after reset", &[], |b| {
        let r = b.regs(0)?;
        same_word("IRQ_CTRL", 0u32, r.read(regs::IRQ_CTRL))?;
        same_word("IRQ_CTRLACK", 0u32, r.read(regs::IRQ_CTRLACK))
    }),
    check("registers/reset-gerror", "6.3.19", "no error is active after reset", &[], |b| {
        let r = b.regs(0)?;
        same_word("GERROR", 0u32, r.read(regs::GERROR))?;
        same_word("GERRORN", 0u32, r.read(regs::GERRORN))
    }),
    check("registers/reset-gbpa", "6.3.14", "no update of GBPA runs after reset", &[], |b| {
        let value = b.regs(0)?.read(regs::GBPA);
        same_word("GBPA.Update", 0u32, value & gbpa::UPDATE)
    }),
    check("registers/after-reset", "6.3.9", "a reset turns everything off", &[RESET], |b| {
        b.start(0)?;
        b.reset(0)?;
        let r = b.regs(0)?;
        same_word("CR0", 0u32, r.read(regs::CR0))?;
        same_word("CR0ACK", 0u32, r.read(regs::CR0ACK))?;
        same_word("IRQ_CTRL", 0u32, r.read(regs::IRQ_CTRL))?;
        same_word("GERROR", 0u32, r.read(regs::GERROR))?;
        same_word("GERRORN", 0u32, r.read(regs::GERRORN))
    }),
    check("registers/id-read-only", "6.2", "a write of an ID register is ignored", &[], |b| {
        let r = b.regs(0)?;
        for id in IDS {
            let before = r.read(*id);
            r.write32(id.offset(), !before);
            same_word(id.name(), before, r.read(*id))?;
        }
        Ok(())
    }),
    check("registers/id-constant", "6.2", "ID registers do not change while it works", &[], |b| {
        let r = b.regs(0)?;
        let before: Vec<u32> = IDS.iter().map(|id| r.read(*id)).collect();
        b.start(0)?;
        IDS.iter().zip(before).try_for_each(|(id, value)| same_word(id.name(), value, r.read(*id)))
    }),
    check("registers/ack-read-only", "6.2", "a write of CR0ACK or GERROR is ignored", &[], |b| {
        let r = b.regs(0)?;
        r.write32(regs::CR0ACK.offset(), cr0::CMDQEN);
        same_word("CR0ACK", 0u32, r.read(regs::CR0ACK))?;
        same_word("CR0", 0u32, r.read(regs::CR0))?;
        r.write32(regs::IRQ_CTRLACK.offset(), irq_ctrl::EVENTQ);
        same_word("IRQ_CTRLACK", 0u32, r.read(regs::IRQ_CTRLACK))?;
        same_word("IRQ_CTRL", 0u32, r.read(regs::IRQ_CTRL))?;
        r.write32(regs::GERROR.offset(), 1);
        same_word("GERROR", 0u32, r.read(regs::GERROR))
    }),
    check("registers/cr0-ack", "6.3.9", "CR0ACK follows each enable bit of CR0", &[], |b| {
        b.program(0)?;
        let (queues, all) = (cr0::CMDQEN | cr0::EVENTQEN, cr0::SMMUEN);
        for bits in [cr0::CMDQEN, queues, queues | all, cr0::CMDQEN, cr0::EVENTQEN, 0] {
            b.enable(0, bits)?;
        }
        Ok(())
    }),
    check("registers/cr0-reads", "6.3.9", "CR0 shows a written value at once", &[], |b| {
        b.program(0)?;
        let r = b.regs(0)?;
        r.write(regs::CR0, cr0::CMDQEN);
        same_word("CR0", cr0::CMDQEN, r.read(regs::CR0))
    }),
    check("registers/cr0ack-reserved", "6.3.9", "CR0ACK shows no reserved bit of CR0", &[], |b| {
        let mut bits = cr0::SMMUEN | cr0::CMDQEN | cr0::EVENTQEN;
        bits |= if b.caps.pri { cr0::PRIQEN } else { 0 };
        bits |= if b.caps.ats { cr0::ATSCHK } else { 0 };
        bits |= if b.caps.vmid_wildcard { cr0::VMW } else { 0 };
        bits |= if b.caps.device_permission_table { cr0::DPT_WALK_EN } else { 0 };
        let r = b.regs(0)?;
        r.write(regs::CR0, !bits);
        same_word("CR0ACK", 0u32, r.read(regs::CR0ACK))
    }),
    check("registers/irq-ctrl-ack", "6.3.16", "IRQ_CTRLACK follows each enable bit", &[], |b| {
        let all = irq_ctrl::GERROR | irq_ctrl::EVENTQ;
        for bits in [irq_ctrl::GERROR, all, irq_ctrl::EVENTQ, 0] {
            b.enable_interrupts(0, bits)?;
        }
        Ok(())
    }),
    check("registers/irq-ack-reserved", "6.3.18", "IRQ_CTRLACK shows no reserved bit", &[], |b| {
        let priq = if b.caps.pri { irq_ctrl::PRIQ } else { 0 };
        let r = b.regs(0)?;
        r.write(regs::IRQ_CTRL, !(irq_ctrl::GERROR | irq_ctrl::EVENTQ | priq));
        same_word("IRQ_CTRLACK", 0u32, r.read(regs::IRQ_CTRLACK))
    }),
    check(
        "registers/gbpa-update",
        "6.3.14.1",
        "an update of GBPA ends, and its value stays",
        &[],
        |b| {
            for abort in [true, false, true] {
                b.abort_all(0, abort)?;
                let wanted = if abort { gbpa::ABORT } else { 0 };
                let got = b.regs(0)?.read(regs::GBPA);
                same_word("GBPA.{Update, ABORT}", wanted, got & (gbpa::UPDATE | gbpa::ABORT))?;
            }
            Ok(())
        },
    ),
    check(
        "registers/gbpa-visible",
        "6.3.14.1",
        "GBPA shows a new value before its update ends",
        &[],
        |b| {
            b.abort_all(0, false)?;
            let r = b.regs(0)?;
            r.write(regs::GBPA, gbpa::UPDATE | gbpa::ABORT);
            same_word("GBPA.ABORT", gbpa::ABORT, r.read(regs::GBPA) & gbpa::ABORT)
        },
    ),
    check(
        "registers/cr1-cr2",
        "6.2",
        "CR1 and CR2 keep what is written while all is off",
        &[],
        |b| {
            let r = b.regs(0)?;
            for value in [regs::cr1::COHERENT, regs::cr1::NON_COHERENT, 0] {
                r.write(regs::CR1, value);
                same_word("CR1", value, r.read(regs::CR1))?;
            }
            for value in [regs::cr2::RECINVSID, 0] {
                r.write(regs::CR2, value);
                same_word("CR2.RECINVSID", value, r.read(regs::CR2) & regs::cr2::RECINVSID)?;
            }
            Ok(())
        },
    ),
    check(
        "registers/reserved-read-zero",
        "6.2",
        "reserved bits of control registers read as 0",
        &[],
        |b| {
            b.start(0)?;
            let r = b.regs(0)?;
            same_word("reserved bits of CR0", 0u32, r.read(regs::CR0) & 0xffff_fa20)?;
            same_word("reserved bits of CR0ACK", 0u32, r.read(regs::CR0ACK) & 0xffff_fa20)?;
            same_word("reserved bits of CR2", 0u32, r.read(regs::CR2) & 0xffff_fff0)?;
            same_word("reserved bits of GBPA", 0u32, r.read(regs::GBPA) & 0x7fe0_c0e0)?;
            same_word("reserved bits of IRQ_CTRL", 0u32, r.read(regs::IRQ_CTRL) & 0xffff_fff8)?;
            same_word("reserved bits of GERROR", 0u32, r.read(regs::GERROR) & 0xffff_f802)
        },
    ),
    check(
        "registers/undefined-reads-zero",
        "6.2",
        "an undefined place of page 0 reads as 0",
        &[],
        |b| {
            let r = b.regs(0)?;
            for offset in [0x1c, 0x4c, 0x5c, 0x1f0, 0x300, 0x400] {
                if regs::name_of(offset).is_none() {
                    same_word(&format!("offset {offset:#x}"), 0u32, r.read32(offset))?;
                }
            }
            Ok(())
        },
    ),
    check("registers/wide", "6.2", "a 64-bit register takes a 64-bit access", &[], |b| {
        let r = b.regs(0)?;
        for (name, offset) in WIDE {
            r.write64(*offset, ADDRESS | 1 << 62 | log2_of(name));
            let (all, wanted) = (r.read64(*offset), ADDRESS | 1 << 62 | log2_of(name));
            same_word(name, wanted, all)?;
            same_word(&format!("{name}, lower half"), wanted as u32, r.read32(*offset))?;
            same_word(&format!("{name}, upper half"), (wanted >> 32) as u32, r.read32(offset + 4))?;
        }
        Ok(())
    }),
    check("registers/halves", "6.2", "a 64-bit register takes two 32-bit accesses", &[], |b| {
        let r = b.regs(0)?;
        for (name, offset) in WIDE {
            let wanted = ADDRESS | 1 << 62 | log2_of(name);
            r.write64(*offset, 0);
            r.write32(offset + 4, (wanted >> 32) as u32);
            same_word(name, wanted & !0xffff_ffff, r.read64(*offset))?;
            r.write32(*offset, wanted as u32);
            same_word(name, wanted, r.read64(*offset))?;
            r.write32(offset + 4, 0);
            same_word(name, wanted & 0xffff_ffff, r.read64(*offset))?;
        }
        Ok(())
    }),
    check(
        "registers/size-reads-back",
        "6.3.26",
        "CMDQ_BASE shows a size beyond the largest",
        &[],
        |b| {
            let r = b.regs(0)?;
            let size = u64::from(b.caps.cmdq_log2) + 1;
            r.write(regs::CMDQ_BASE, size);
            same_word("CMDQ_BASE.LOG2SIZE", size, r.read(regs::CMDQ_BASE) & 0x1f)
        },
    ),
    check(
        "registers/cons-above-wrap",
        "6.3.28",
        "CMDQ_CONS reads 0 above its wrap flag",
        &[],
        |b| {
            let r = b.regs(0)?;
            r.write(regs::CMDQ_BASE, 4);
            r.write(regs::CMDQ_CONS, 0xf_ffff);
            same_word("CMDQ_CONS.RD", 0x1fu32, r.read(regs::CMDQ_CONS) & 0xf_ffff)
        },
    ),
    check(
        "registers/pointers-keep",
        "3.5.1",
        "the pointers of a queue that is off keep a value",
        &[],
        |b| {
            let r = b.regs(0)?;
            r.write(regs::CMDQ_BASE, 4);
            r.write(regs::EVENTQ_BASE, 4);
            for value in [0x1fu32, 0x10, 0x7, 0] {
                r.write(regs::CMDQ_PROD, value);
                r.write(regs::CMDQ_CONS, value);
                r.write(regs::EVENTQ_PROD, value);
                r.write(regs::EVENTQ_CONS, value);
                same_word("CMDQ_PROD", value, r.read(regs::CMDQ_PROD) & 0x1f)?;
                same_word("CMDQ_CONS", value, r.read(regs::CMDQ_CONS) & 0x1f)?;
                same_word("EVENTQ_PROD", value, r.read(regs::EVENTQ_PROD) & 0x1f)?;
                same_word("EVENTQ_CONS", value, r.read(regs::EVENTQ_CONS) & 0x1f)?;
            }
            Ok(())
        },
    ),
    check("registers/each-smmu-its-own", "6.1", "SMMUs do not share registers", &[SEVERAL], |b| {
        let (one, other) = (b.regs(0)?, b.regs(1)?);
        one.write(regs::STRTAB_BASE, ADDRESS);
        other.write(regs::STRTAB_BASE, 2 * ADDRESS);
        same_word("STRTAB_BASE of smmu0", ADDRESS, one.read(regs::STRTAB_BASE))?;
        same_word("STRTAB_BASE of smmu1", 2 * ADDRESS, other.read(regs::STRTAB_BASE))?;
        b.start(0)?;
        same_word("CR0 of smmu1", 0u32, other.read(regs::CR0))
    }),
];

const IDS: &[regs::Reg<u32, regs::Ro>] = &[
    regs::IDR0,
    regs::IDR1,
    regs::IDR2,
    regs::IDR3,
    regs::IDR4,
    regs::IDR5,
    regs::IIDR,
    regs::AIDR,
];

const WIDE: &[(&str, u32)] = &[
    ("STRTAB_BASE", regs::STRTAB_BASE.offset()),
    ("CMDQ_BASE", regs::CMDQ_BASE.offset()),
    ("EVENTQ_BASE", regs::EVENTQ_BASE.offset()),
];

/// A size of a queue, where a base register has one.
fn log2_of(name: &str) -> u64 {
    if name == "STRTAB_BASE" { 0 } else { 5 }
}
