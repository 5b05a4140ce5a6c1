//! The event queue: pointers, overflow, writes that abort.

use smmu_types::EventKind;
use smmu_types::regs::{self, cr0, gerror, queue_pointer};
use smmu_types::seam::RegistersExt;

use super::bench::{Bench, pointer, stream_of};
use super::check::{Check, Group, checks_of};
use super::ended::{Checked, not_offered, same, same_word};
use super::traffic::Landed;

checks_of!(Group::Queues);

pub(super) const CHECKS: &[Check] = &[
    check("queues/events-wrap", "3.5.1", "EVENTQ_PROD wraps with its flag, many times", &[], |b| {
        b.start(0)?;
        let (_, log2) = b.event_ring(0);
        let r = b.regs(0)?;
        for n in 1..=(4 << log2) {
            b.dma(0, 0x1000)?;
            same_word("EVENTQ_PROD.WR", n & pointer(log2), r.read(regs::EVENTQ_PROD) & 0xf_ffff)?;
            b.events(0)?;
        }
        Ok(())
    }),
    check(
        "queues/events-full",
        "7.4",
        "a full event queue keeps its records and its pointer",
        &[],
        |b| {
            b.start(0)?;
            let records = fill(b, 2)?;
            let (_, log2) = b.event_ring(0);
            let prod = b.regs(0)?.read(regs::EVENTQ_PROD) & pointer(log2);
            same_word("EVENTQ_PROD.WR", 1u32 << log2, prod)?;
            same("records", 1 << log2, records)
        },
    ),
    check("queues/events-overflow", "7.4", "a lost event toggles OVFLG once", &[], |b| {
        b.start(0)?;
        fill(b, 0)?;
        let r = b.regs(0)?;
        let flag = |r: u32| r & queue_pointer::OVERFLOW;
        same_word("OVFLG of a full queue", 0u32, flag(r.read(regs::EVENTQ_PROD)))?;
        for _ in 0..3 {
            b.dma(0, 0x1000)?;
            let got = flag(r.read(regs::EVENTQ_PROD));
            same_word("OVFLG", queue_pointer::OVERFLOW, got)?;
        }
        Ok(())
    }),
    check(
        "queues/events-overflow-twice",
        "7.4",
        "an acknowledged overflow can happen again",
        &[],
        |b| {
            b.start(0)?;
            let r = b.regs(0)?;
            for wanted in [queue_pointer::OVERFLOW, 0, queue_pointer::OVERFLOW] {
                fill(b, 1)?;
                let prod = r.read(regs::EVENTQ_PROD);
                same_word("OVFLG", wanted, prod & queue_pointer::OVERFLOW)?;
                r.write(regs::EVENTQ_CONS, prod);
            }
            Ok(())
        },
    ),
    check(
        "queues/events-after-overflow",
        "7.4",
        "events come while an overflow is unacknowledged",
        &[],
        |b| {
            b.start(0)?;
            fill(b, 1)?;
            b.events(0)?;
            b.dma(0, 0x1000)?;
            same("events", 1, b.events(0)?.len())
        },
    ),
    check("queues/events-off", "7.2.1", "events are discarded while the queue is off", &[], |b| {
        b.start(0)?;
        b.enable(0, cr0::CMDQEN | cr0::SMMUEN)?;
        same("a DMA", Landed::Nowhere, b.dma(0, 0x1000)?)?;
        same_word("EVENTQ_PROD", 0u32, b.regs(0)?.read(regs::EVENTQ_PROD))?;
        b.enable(0, cr0::CMDQEN | cr0::SMMUEN | cr0::EVENTQEN)?;
        same_word("EVENTQ_PROD", 0u32, b.regs(0)?.read(regs::EVENTQ_PROD))?;
        b.dma(0, 0x1000)?;
        same("events", 1, b.events(0)?.len())
    }),
    check(
        "queues/events-abort",
        "7.2.2",
        "a record that cannot be written activates EVENTQ_ABT_ERR",
        &[],
        aborted_event,
    ),
    check(
        "queues/events-abort-stops",
        "7.2.1",
        "no event is recorded while EVENTQ_ABT_ERR is active",
        &[],
        |b| {
            aborted_event(b)?;
            // The queue lies in memory again, and the error still waits.
            let (ring, log2) = (b.allocate(0x1000)?, 3);
            b.set_events(0, ring, log2);
            b.enable(0, cr0::CMDQEN | cr0::SMMUEN)?;
            let r = b.regs(0)?;
            r.write(regs::EVENTQ_BASE, ring | u64::from(log2));
            r.write(regs::EVENTQ_PROD, 0);
            r.write(regs::EVENTQ_CONS, 0);
            b.enable(0, cr0::CMDQEN | cr0::SMMUEN | cr0::EVENTQEN)?;
            b.dma(0, 0x1000)?;
            same("events while the error is active", 0, b.events(0)?.len())?;
            b.acknowledge(0)?;
            b.dma(0, 0x1000)?;
            same("events after its acknowledgement", 1, b.events(0)?.len())
        },
    ),
];

/// Fills the event queue, and `more` beyond. Counts the records of it that are good.
fn fill(b: &Bench, more: u32) -> Checked<u32> {
    let (_, log2) = b.event_ring(0);
    for _ in 0..(1 << log2) + more {
        b.dma(0, 0x1000)?;
    }
    let good = |n: &u32| {
        let record = b.record(0, *n);
        record.kind() == EventKind::C_BAD_STE && record.stream() == stream_of(0)
    };
    Ok((0..1 << log2).filter(good).count() as u32)
}

/// An event whose record cannot be written.
fn aborted_event(b: &mut Bench) -> Checked {
    b.set_events(0, b.hole(), 3);
    b.start(0)?;
    b.dma(0, 0x1000)?;
    if b.errors(0)? == 0 {
        // 7.2.2: whether the interconnect reports it is up to the implementation.
        return not_offered("writes that abort");
    }
    same_word("active errors", gerror::EVENTQ_ABT, b.errors(0)?)
}
