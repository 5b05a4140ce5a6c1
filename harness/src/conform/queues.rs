//! The command queue: pointers, what is refused, errors, completion.

use smmu_types::regs::{self, cr0, gerror};
use smmu_types::seam::RegistersExt;
use smmu_types::{
    Command, CommandErrorCode, Completion, Irq, PhysAddr, RawCommand, StallModel, SyncMsi,
};

use super::bench::{Bench, pointer, stream_of};
use super::check::{
    Check, Group, MSI, NO_STAGE1, NO_STAGE2, RANGES, Requirement, SEVERAL, STAGE1, STAGE2,
    checks_of,
};
use super::ended::{Checked, same, same_word, wrong};
use super::tables::{ASID, OTHER_VMID, VMID, nh_asid, s12_vmall};

checks_of!(Group::Queues);

const NO_EL2: Requirement = Requirement::Feature("an SMMU without EL2", |caps| !caps.hyp);
const NO_ATS: Requirement = Requirement::Feature("an SMMU without ATS", |caps| !caps.ats);
const NO_PRI: Requirement = Requirement::Feature("an SMMU without PRI", |caps| !caps.pri);
const NO_MSI: Requirement = Requirement::Feature("an SMMU without MSIs", |caps| !caps.msi);
const NO_STALLS: Requirement =
    Requirement::Feature("an SMMU without stalls", |c| c.stall_model == StallModel::TerminateOnly);

/// A command that every SMMU takes.
const HARMLESS: [u64; 2] = [0x30, 0];
const SYNC: [u64; 2] = [0x46, 0];
const SYNC_IRQ: [u64; 2] = [0x46 | 1 << 12, 0];
const ILLEGAL: [u64; 2] = [0xff, 0];

const LARGE: Requirement =
    Requirement::Feature("rings of 256 commands", |caps| caps.cmdq_log2 >= 8);

pub(super) const CHECKS: &[Check] = &[
    check(
        "queues/consumes",
        "4.1.2",
        "the SMMU consumes every command up to CMDQ_PROD",
        &[],
        |b| {
            b.queues(0)?;
            b.send_words(0, &[HARMLESS; 5])
        },
    ),
    check("queues/wrap", "3.5.1", "CMDQ_CONS wraps with its flag, many times", &[], |b| {
        b.queues(0)?;
        let mut wanted = b.regs(0)?.read(regs::CMDQ_PROD);
        let (_, log2) = b.command_ring(0);
        for _ in 0..20 {
            b.send_words(0, &[HARMLESS; 4])?;
            wanted = (wanted + 5) & pointer(log2);
            same_word("CMDQ_CONS.RD", wanted, b.regs(0)?.read(regs::CMDQ_CONS) & 0xf_ffff)?;
        }
        Ok(())
    }),
    check("queues/full", "3.5.1", "a ring that is full of commands is consumed whole", &[], |b| {
        b.queues(0)?;
        let (_, log2) = b.command_ring(0);
        b.send_words(0, &vec![HARMLESS; (1 << log2) - 1])?;
        b.send_words(0, &vec![HARMLESS; (1 << log2) - 1])
    }),
    check("queues/one-command", "6.3.27", "a ring of one command wraps at each", &[], |b| {
        let (ring, _) = b.command_ring(0);
        b.set_commands(0, ring, 0);
        b.program(0)?;
        b.enable(0, cr0::CMDQEN)?;
        (0..5).try_for_each(|_| b.send_words(0, &[]))
    }),
    check(
        "queues/large",
        "3.5.1",
        "a ring of 256 commands is consumed to its end",
        &[LARGE],
        |b| {
            let ring = b.allocate(16 << 8)?;
            b.set_commands(0, ring, 8);
            b.queues(0)?;
            (0..3).try_for_each(|_| b.send_words(0, &[HARMLESS; 200]))
        },
    ),
    check(
        "queues/base-is-aligned",
        "6.3.26",
        "the SMMU clears base bits below the queue's size",
        &[],
        |b| {
            let (ring, log2) = b.command_ring(0);
            b.program(0)?;
            let r = b.regs(0)?;
            r.write(regs::CMDQ_BASE, ring | 0x20 | u64::from(log2));
            b.enable(0, cr0::CMDQEN)?;
            b.send_words(0, &[HARMLESS])
        },
    ),
    check(
        "queues/off",
        "6.3.9.3",
        "a queue that is off consumes nothing, until it is on",
        &[],
        |b| {
            b.program(0)?;
            b.push(0, &[HARMLESS, SYNC])?;
            let r = b.regs(0)?;
            let looks = (0..100).map(|_| r.read(regs::CMDQ_CONS) & 0x1f).max();
            same_word("CMDQ_CONS", 0u32, looks.unwrap_or(0))?;
            b.enable(0, cr0::CMDQEN)?;
            same("refused commands", "none".to_owned(), text(b.drained(0, 0)?))
        },
    ),
    check(
        "queues/ill-unknown",
        "7.1",
        "an unknown opcode stops the queue at its command",
        &[],
        |b| refuses(b, ILLEGAL),
    ),
    check("queues/ill-zero", "4.1.1", "opcode 0 is illegal", &[], |b| refuses(b, [0, 0])),
    check("queues/ill-reserved", "4.1.1", "reserved opcodes are illegal", &[], |b| {
        for opcode in [0x08, 0x14, 0x29, 0x31, 0x47, 0x71] {
            b.queues(0)?;
            refused_as(b, [opcode, 0])?;
            b.acknowledge_all(0)?;
        }
        Ok(())
    }),
    check("queues/ill-ssec", "4.1.6", "SSec = 1 is illegal", &[], |b| {
        refuses(b, [0x3 | 1 << 10 | 8 << 32, 1])
    }),
    check("queues/ill-completion", "4.7.3", "CMD_SYNC with CS = 3 is illegal", &[], |b| {
        refuses(b, [0x46 | 3 << 12, 0])
    }),
    check(
        "queues/ill-stage1",
        "4.4.2",
        "TLBI_NH_ASID is illegal without stage 1",
        &[NO_STAGE1],
        |b| refuses(b, nh_asid(0, ASID).encode().0),
    ),
    check("queues/ill-cd", "4.3.3", "CFGI_CD is illegal without stage 1", &[NO_STAGE1], |b| {
        refuses(b, [0x5 | 8 << 32, 1])
    }),
    check(
        "queues/ill-stage2",
        "4.4.3",
        "TLBI_S12_VMALL is illegal without stage 2",
        &[NO_STAGE2],
        |b| refuses(b, s12_vmall(VMID).encode().0),
    ),
    check("queues/ill-el2", "4.4.2.7", "TLBI_EL2_ALL is illegal without EL2", &[NO_EL2], |b| {
        refuses(b, [0x20, 0])
    }),
    check("queues/ill-el3", "4.4.2.5", "TLBI_EL3_ALL is illegal in a Non-secure queue", &[], |b| {
        refuses(b, [0x18, 0])
    }),
    check("queues/ill-atc-inv", "4.5.1", "ATC_INV is illegal without ATS", &[NO_ATS], |b| {
        refuses(b, [0x40 | 8 << 32, 52])
    }),
    check("queues/ill-pri-resp", "4.5.2", "PRI_RESP is illegal without PRI", &[NO_PRI], |b| {
        refuses(b, [0x41 | 8 << 32, 2 << 12])
    }),
    check("queues/ill-resume", "4.7.1", "RESUME is illegal without stalls", &[NO_STALLS], |b| {
        refuses(b, [0x44 | 8 << 32, 0])
    }),
    check(
        "queues/ill-stall-term",
        "4.7.2",
        "STALL_TERM is illegal without stalls",
        &[NO_STALLS],
        |b| refuses(b, [0x45 | 8 << 32, 0]),
    ),
    check(
        "queues/range-of-one",
        "4.4.1.1",
        "a range of one granule with a level is carried out",
        &[STAGE1, RANGES],
        |b| {
            b.queues(0)?;
            b.send_words(0, &[[0x12 | u64::from(ASID) << 48, 1 << 10 | 3 << 8 | 1]])
        },
    ),
    check(
        "queues/ill-empty-range",
        "4.4.1.1",
        "a range with NUM, SCALE and TTL = 0 is illegal",
        &[STAGE1, RANGES],
        |b| refuses(b, [0x12 | u64::from(ASID) << 48, 1 << 10 | 1]),
    ),
    check(
        "queues/error-keeps-older",
        "7.1",
        "commands before a refused one are consumed",
        &[],
        |b| {
            b.queues(0)?;
            let refused = b.refusal(0, &[HARMLESS, HARMLESS, ILLEGAL, HARMLESS])?;
            same("the refused command", text(Some((2, CommandErrorCode::ILL))), text(refused))
        },
    ),
    check(
        "queues/error-holds-newer",
        "7.1",
        "commands after a refused one have no effect",
        &[],
        |b| {
            b.queues(0)?;
            b.interrupts();
            b.refusal(0, &[ILLEGAL, SYNC_IRQ])?;
            let r = b.regs(0)?;
            for _ in 0..100 {
                r.read(regs::CMDQ_CONS);
            }
            b.raised(&[(0, Irq::Gerror)])
        },
    ),
    check(
        "queues/error-is-acknowledged",
        "7.1",
        "the queue goes on after GERRORN, without CMDQ_PROD",
        &[],
        |b| {
            b.queues(0)?;
            let first = b.regs(0)?.read(regs::CMDQ_PROD);
            b.refusal(0, &[ILLEGAL])?;
            b.replace(0, first, SYNC);
            b.acknowledge(0)?;
            same("refused commands", "none".to_owned(), text(b.drained(0, first)?))
        },
    ),
    check("queues/error-again", "6.3.19", "each new error toggles GERROR.CMDQ_ERR", &[], |b| {
        b.queues(0)?;
        for n in 1..=3_u32 {
            b.refusal(0, &[ILLEGAL])?;
            let r = b.regs(0)?;
            same_word("GERROR.CMDQ_ERR", n & 1, r.read(regs::GERROR) & gerror::CMDQ)?;
            b.acknowledge_all(0)?;
            same_word("active errors", 0u32, b.errors(0)?)?;
        }
        Ok(())
    }),
    check(
        "queues/error-takes-back",
        "7.1",
        "CMDQ_PROD may go back to CMDQ_CONS at an error",
        &[],
        |b| {
            b.queues(0)?;
            b.refusal(0, &[ILLEGAL, ILLEGAL])?;
            let r = b.regs(0)?;
            let (_, log2) = b.command_ring(0);
            r.write(regs::CMDQ_PROD, r.read(regs::CMDQ_CONS) & pointer(log2));
            b.acknowledge(0)?;
            same_word("active errors", 0u32, b.errors(0)?)?;
            b.send_words(0, &[HARMLESS])
        },
    ),
    check(
        "queues/error-outlives-cmdqen",
        "6.3.28",
        "turning the queue off acknowledges no error",
        &[],
        |b| {
            b.queues(0)?;
            b.refusal(0, &[ILLEGAL])?;
            b.enable(0, 0)?;
            b.enable(0, cr0::CMDQEN)?;
            same_word("active errors", gerror::CMDQ, b.errors(0)?)
        },
    ),
    check("queues/abt", "7.1", "a ring that cannot be read stops with CERROR_ABT", &[], |b| {
        b.set_commands(0, b.hole(), 4);
        b.program(0)?;
        b.enable(0, cr0::CMDQEN)?;
        let refused = b.refusal(0, &[])?;
        same("the refused command", text(Some((0, CommandErrorCode::ABT))), text(refused))?;
        same_word("CMDQ_CONS.RD", 0u32, b.regs(0)?.read(regs::CMDQ_CONS) & 0x1f)
    }),
    check("queues/sync-none", "4.7.3", "CMD_SYNC with CS = 0 signals nothing", &[], |b| {
        b.queues(0)?;
        b.interrupts();
        b.send_words(0, &[HARMLESS])?;
        b.raised(&[])
    }),
    check("queues/sync-irq", "4.7.3", "CMD_SYNC with CS = 1 raises its interrupt once", &[], |b| {
        b.queues(0)?;
        b.interrupts();
        b.send_words(0, &[SYNC_IRQ])?;
        b.raised(&[(0, Irq::CmdSync)])
    }),
    check("queues/sync-sev", "4.7.3", "CMD_SYNC with CS = 2 raises no interrupt", &[], |b| {
        b.queues(0)?;
        b.interrupts();
        b.send_words(0, &[[0x46 | 2 << 12, 0]])?;
        b.raised(&[])
    }),
    check(
        "queues/sync-msi",
        "4.7.3",
        "CMD_SYNC with an MSI writes it before CMDQ_CONS moves",
        &[MSI],
        |b| {
            b.queues(0)?;
            let at = b.page()?;
            let msi = Completion::Msi(SyncMsi::new(PhysAddr(at), 0x1234_5678)?);
            b.send(0, &[Command::sync(msi)])?;
            same_word("the word of the MSI", 0x1234_5678u32, b.get(at))
        },
    ),
    check(
        "queues/sync-msi-ignored",
        "4.7.3",
        "without MSIs, MSIAddress is ignored",
        &[NO_MSI],
        |b| {
            b.queues(0)?;
            let at = b.page()?;
            b.send_words(0, &[[0x46 | 1 << 12 | 7 << 32, at]])?;
            same_word("the word at MSIAddress", 0u32, b.get(at))
        },
    ),
    check(
        "queues/each-smmu-its-own",
        "3.5",
        "an error of one SMMU leaves the other's queue alone",
        &[SEVERAL],
        |b| {
            b.queues(0)?;
            b.queues(1)?;
            b.refusal(0, &[ILLEGAL])?;
            same_word("active errors of smmu1", 0u32, b.errors(1)?)?;
            b.send_words(1, &[HARMLESS])
        },
    ),
    check(
        "queues/prefetch-is-silent",
        "7.2",
        "a prefetch of a bad STE records nothing",
        &[],
        |b| {
            b.start(0)?;
            b.send_words(0, &[[0x1 | u64::from(stream_of(0).0) << 32, 0]])?;
            same("events", 0, b.events(0)?.len())
        },
    ),
    check(
        "queues/vmid-of-nobody",
        "4.4.3.2",
        "an invalidation of an unused VMID is carried out",
        &[STAGE2],
        |b| {
            b.queues(0)?;
            b.send(0, &[s12_vmall(OTHER_VMID)])
        },
    ),
];

fn text(refused: Option<(u32, CommandErrorCode)>) -> String {
    refused.map_or_else(|| "none".into(), |(n, code)| format!("command {n}, {code}"))
}

/// The SMMU refuses a command as illegal, and stays at it.
fn refuses(b: &mut Bench, words: [u64; 2]) -> Checked {
    b.queues(0)?;
    refused_as(b, words)
}

fn refused_as(b: &Bench, words: [u64; 2]) -> Checked {
    let command = Command::decode(RawCommand(words));
    match b.refusal(0, &[HARMLESS, words])? {
        Some((1, CommandErrorCode::ILL)) => Ok(()),
        got => wrong(
            format_args!("{command} is refused: {}", text(Some((1, CommandErrorCode::ILL)))),
            format_args!("refused: {}", text(got)),
        ),
    }
}

impl Bench {
    /// Replaces the command at a pointer.
    fn replace(&self, smmu: usize, at: u32, words: [u64; 2]) {
        let (ring, log2) = self.command_ring(smmu);
        self.put_all(ring + 16 * u64::from(at & (pointer(log2) >> 1)), &words);
    }

    /// Replaces each refused command by a `CMD_SYNC` until the queue is empty.
    fn acknowledge_all(&self, smmu: usize) -> Checked {
        let r = self.regs(smmu)?;
        for _ in 0..16 {
            if self.drained(smmu, 0)?.is_none() {
                return Ok(());
            }
            self.replace(smmu, r.read(regs::CMDQ_CONS), SYNC);
            self.acknowledge(smmu)?;
        }
        wrong("a queue that goes on", "a queue that stops at each CMD_SYNC")
    }
}
