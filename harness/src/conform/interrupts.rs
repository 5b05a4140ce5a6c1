//! Interrupts: when each is raised, how often, and when not.

use smmu_types::regs::{self, cr0, irq_cfg2, irq_ctrl};
use smmu_types::seam::RegistersExt;
use smmu_types::{Command, Completion, Irq};

use super::check::{Check, Group, MSI, SEVERAL, checks_of};
use super::ended::same_word;

checks_of!(Group::Interrupts);

const ILLEGAL: [u64; 2] = [0xff, 0];

pub(super) const CHECKS: &[Check] = &[
    check(
        "interrupts/event",
        "3.18.2",
        "an event in an empty queue raises one interrupt",
        &[],
        |b| {
            b.start(0)?;
            b.dma(0, 0x1000)?;
            b.raised(&[(0, Irq::EventQueue)])
        },
    ),
    check(
        "interrupts/event-in-a-used-queue",
        "3.18.2",
        "an event in a queue that is not empty raises none",
        &[],
        |b| {
            b.start(0)?;
            b.dma(0, 0x1000)?;
            b.interrupts();
            b.dma(0, 0x2000)?;
            b.raised(&[])
        },
    ),
    check(
        "interrupts/event-again",
        "3.18.2",
        "the next event in an emptied queue raises one again",
        &[],
        |b| {
            b.start(0)?;
            for n in 0..3 {
                b.dma(0, 0x1000 * n)?;
                b.raised(&[(0, Irq::EventQueue)])?;
                b.events(0)?;
            }
            Ok(())
        },
    ),
    check(
        "interrupts/event-is-visible",
        "3.18",
        "EVENTQ_PROD has moved when the interrupt is there",
        &[],
        |b| {
            b.start(0)?;
            b.dma(0, 0x1000)?;
            b.raised(&[(0, Irq::EventQueue)])?;
            same_word("EVENTQ_PROD", 1u32, b.regs(0)?.read(regs::EVENTQ_PROD))
        },
    ),
    check(
        "interrupts/event-off",
        "6.3.16",
        "without EVENTQ_IRQEN an event raises none",
        &[],
        |b| {
            b.start(0)?;
            b.enable_interrupts(0, irq_ctrl::GERROR)?;
            b.dma(0, 0x1000)?;
            b.raised(&[])
        },
    ),
    check(
        "interrupts/event-before-its-enable",
        "6.3.16",
        "an event from before EVENTQ_IRQEN raises none later",
        &[],
        |b| {
            b.start(0)?;
            b.enable_interrupts(0, 0)?;
            b.dma(0, 0x1000)?;
            b.enable_interrupts(0, irq_ctrl::EVENTQ)?;
            b.raised(&[])
        },
    ),
    check("interrupts/no-event", "3.18.2", "a DMA that lands raises none", &[], |b| {
        b.queues(0)?;
        let page = b.page()?;
        b.enable(0, cr0::CMDQEN | cr0::EVENTQEN)?;
        b.interrupts();
        b.lands(0, page, page)?;
        b.raised(&[])
    }),
    check("interrupts/gerror", "7.5.1", "an error raises one interrupt", &[], |b| {
        b.queues(0)?;
        b.interrupts();
        b.refusal(0, &[ILLEGAL])?;
        b.raised(&[(0, Irq::Gerror)])
    }),
    check(
        "interrupts/gerror-off",
        "7.5.1",
        "without GERROR_IRQEN an error raises none",
        &[],
        |b| {
            b.queues(0)?;
            b.enable_interrupts(0, irq_ctrl::EVENTQ)?;
            b.interrupts();
            b.refusal(0, &[ILLEGAL])?;
            b.raised(&[])
        },
    ),
    check(
        "interrupts/gerror-again",
        "7.5.1",
        "an error after an acknowledgement raises one again",
        &[],
        |b| {
            b.queues(0)?;
            b.interrupts();
            for _ in 0..3 {
                b.refusal(0, &[ILLEGAL])?;
                b.raised(&[(0, Irq::Gerror)])?;
                let r = b.regs(0)?;
                r.write(regs::CMDQ_PROD, r.read(regs::CMDQ_CONS) & 0x1f);
                b.acknowledge(0)?;
                b.raised(&[])?;
            }
            Ok(())
        },
    ),
    check(
        "interrupts/sync-without-irq-ctrl",
        "6.3.16",
        "IRQ_CTRL does not gate the interrupt of CMD_SYNC",
        &[],
        |b| {
            b.queues(0)?;
            b.enable_interrupts(0, 0)?;
            b.interrupts();
            b.send(0, &[Command::sync(Completion::Interrupt)])?;
            b.raised(&[(0, Irq::CmdSync)])
        },
    ),
    check(
        "interrupts/sync-each",
        "4.7.3",
        "each CMD_SYNC with an interrupt raises its own",
        &[],
        |b| {
            b.queues(0)?;
            b.interrupts();
            for _ in 0..3 {
                b.send(0, &[Command::sync(Completion::Interrupt)])?;
                b.raised(&[(0, Irq::CmdSync)])?;
            }
            Ok(())
        },
    ),
    check(
        "interrupts/of-its-own-smmu",
        "3.18.2",
        "an SMMU raises interrupts of its own alone",
        &[SEVERAL],
        |b| {
            b.start(0)?;
            b.start(1)?;
            b.interrupts();
            b.dma(2, 0x1000)?;
            b.raised(&[(1, Irq::EventQueue)])?;
            b.refusal(0, &[ILLEGAL])?;
            b.raised(&[(0, Irq::Gerror)])?;
            b.send(1, &[Command::sync(Completion::Interrupt)])?;
            b.raised(&[(1, Irq::CmdSync)])
        },
    ),
    check(
        "interrupts/event-msi",
        "3.18",
        "an MSI of the event queue is written instead",
        &[MSI],
        |b| {
            b.queues(0)?;
            let at = b.page()?;
            b.enable_interrupts(0, 0)?;
            let r = b.regs(0)?;
            r.write(regs::EVENTQ_IRQ_CFG0, at);
            r.write(regs::EVENTQ_IRQ_CFG1, 0x55);
            r.write(regs::EVENTQ_IRQ_CFG2, irq_cfg2::MEMATTR);
            b.enable_interrupts(0, irq_ctrl::EVENTQ)?;
            b.enable(0, cr0::CMDQEN | cr0::EVENTQEN | cr0::SMMUEN)?;
            b.dma(0, 0x1000)?;
            same_word("the word of the MSI", 0x55u32, b.get(at))
        },
    ),
    check("interrupts/gerror-msi", "7.5.1", "an MSI of an error is written", &[MSI], |b| {
        b.queues(0)?;
        let at = b.page()?;
        b.enable_interrupts(0, 0)?;
        let r = b.regs(0)?;
        r.write(regs::GERROR_IRQ_CFG0, at);
        r.write(regs::GERROR_IRQ_CFG1, 0x66);
        r.write(regs::GERROR_IRQ_CFG2, irq_cfg2::MEMATTR);
        b.enable_interrupts(0, irq_ctrl::GERROR)?;
        b.refusal(0, &[ILLEGAL])?;
        same_word("the word of the MSI", 0x66u32, b.get(at))
    }),
    check("interrupts/msi-off", "6.3.16", "a disabled source sends no MSI", &[MSI], |b| {
        b.queues(0)?;
        let at = b.page()?;
        b.enable_interrupts(0, 0)?;
        let r = b.regs(0)?;
        r.write(regs::GERROR_IRQ_CFG0, at);
        r.write(regs::GERROR_IRQ_CFG1, 0x77);
        b.refusal(0, &[ILLEGAL])?;
        same_word("the word of the MSI", 0u32, b.get(at))
    }),
];
