//! Events: their kinds, their fields, and when none is recorded.

use smmu_engine::machine::{DmaReadOutcome, DmaWriteOutcome};
use smmu_types::fields::{cd as cd_field, ste as ste_field};
use smmu_types::{Command, EventClass, EventKind, EventRecord, Iova, ResumeAction};

use super::bench::{Bench, stream_of};
use super::check::{Check, Group, NESTING, READS, SEVERAL, STAGE1, STAGE2, STALLS, checks_of};
use super::ended::{Checked, same, same_word, wrong};
use super::pages::{S1_RW, S2_READ, S2_RW};
use super::tables::{
    ALIAS, ASID, IOVA, VMID, change_cd, nested, s1, s2, s2_at, set_ste, stage1, stage1_ste, stage2,
    stage2_ste,
};

checks_of!(Group::Faults);

pub(super) const CHECKS: &[Check] = &[
    check(
        "faults/translation-each-level",
        "7.3.13",
        "stage 1: an invalid descriptor of each level faults",
        &[STAGE1],
        |b| {
            b.start(0)?;
            let (page, context) = (b.page()?, stage1(b, 0, ASID)?);
            let of = s1(EventKind::F_TRANSLATION, IOVA);
            b.faults(0, IOVA, of)?;
            for level in [2, 3] {
                context.tables.slot(b, IOVA, level)?;
                b.faults(0, IOVA, of)?;
            }
            context.tables.map(b, IOVA, page)?;
            b.lands(0, IOVA, page)
        },
    ),
    check(
        "faults/whole-address",
        "7.3",
        "an event has the input address unmodified",
        &[STAGE1],
        |b| {
            b.start(0)?;
            stage1(b, 0, ASID)?;
            for iova in [IOVA + 0xabc, 0x7f_ffff_fffc, 0xffff_ffff_ffff_fff8] {
                b.faults(0, iova, s1(EventKind::F_TRANSLATION, iova))?;
            }
            Ok(())
        },
    ),
    check("faults/each-stream", "7.3", "an event names the stream of its transaction", &[], |b| {
        b.start(0)?;
        for device in [1, 0, 1] {
            b.faults(device, IOVA, EventRecord::new(EventKind::C_BAD_STE, stream_of(device)))?;
        }
        Ok(())
    }),
    check(
        "faults/one-each",
        "7.2",
        "a transaction records one event at most, and each its own",
        &[STAGE1],
        |b| {
            b.start(0)?;
            stage1(b, 0, ASID)?;
            for n in 0..4 {
                b.dma(0, IOVA + 0x1000 * n)?;
            }
            let addresses: Vec<String> =
                b.events(0)?.iter().map(|event| event.address().to_string()).collect();
            let wanted: Vec<String> = (0..4).map(|n| Iova(IOVA + 0x1000 * n).to_string()).collect();
            same("addresses of events", wanted.join(" "), addresses.join(" "))
        },
    ),
    check("faults/reserved-bits", "7.3", "the reserved bits of a record are 0", &[STAGE1], |b| {
        b.start(0)?;
        b.dma(0, IOVA)?;
        stage1(b, 0, ASID)?;
        b.dma(0, IOVA)?;
        let (bad_ste, translation) = (b.record(0, 0), b.record(0, 1));
        same_word("C_BAD_STE, bits 10:8", 0u64, bad_ste.0[0] & 0x700)?;
        for (n, word) in bad_ste.0.iter().enumerate().skip(1) {
            same_word(&format!("C_BAD_STE, word {n}"), 0u64, *word)?;
        }
        same_word("F_TRANSLATION, bits 10:8", 0u64, translation.0[0] & 0x700)?;
        // Between STAG and Stall; beside InD, RnW; above the class.
        same_word("F_TRANSLATION, bits 94:80", 0u64, translation.0[1] & 0x7fff_0000)
    }),
    check(
        "faults/unprivileged-data",
        "7.3",
        "a plain write counts as unprivileged and as data",
        &[STAGE1],
        |b| {
            b.start(0)?;
            stage1(b, 0, ASID)?;
            b.dma(0, IOVA)?;
            let event = b.record(0, 0);
            let bits = [event.is_privileged(), event.is_instruction(), event.is_read()];
            same("PnU, InD and RnW", format!("{:?}", [false; 3]), format!("{bits:?}"))
        },
    ),
    check("faults/read", "7.3", "the event of a read has RnW = 1", &[STAGE1, READS], |b| {
        b.start(0)?;
        stage1(b, 0, ASID)?;
        let refused = b.read(0, IOVA)? == DmaReadOutcome::Refused;
        same("the read is refused", true, refused)?;
        let event = EventRecord::new(EventKind::F_TRANSLATION, stream_of(0));
        let event = event.with_access(Iova(IOVA), true).with_class(EventClass::In);
        let got: Vec<String> = b.events(0)?.iter().map(ToString::to_string).collect();
        same("events", event.to_string(), got.join(", "))
    }),
    check("faults/unrecorded-s1", "5.5", "stage 1: CD.R = 0 records nothing", &[STAGE1], |b| {
        b.start(0)?;
        let context = stage1(b, 0, ASID)?;
        change_cd(b, &context, |cd| cd.with(cd_field::R, 0))?;
        b.refused_silently(0, IOVA)
    }),
    check("faults/unrecorded-s2", "5.5", "stage 2: S2R = 0 records nothing", &[STAGE2], |b| {
        b.start(0)?;
        let tables = stage2(b, 0, VMID)?;
        let ste = stage2_ste(b, VMID, &tables)?.with(ste_field::S2R, 0)?;
        set_ste(b, 0, ste)?;
        b.refused_silently(0, IOVA)
    }),
    check(
        "faults/s2-translation",
        "7.3.13",
        "stage 2: a fault has S2 = 1, and the IPA of its page",
        &[STAGE2],
        |b| {
            b.start(0)?;
            let tables = stage2(b, 0, VMID)?;
            b.faults(0, IOVA, s2(EventKind::F_TRANSLATION, IOVA))?;
            tables.slot(b, IOVA, 3)?;
            b.faults(0, IOVA, s2(EventKind::F_TRANSLATION, IOVA))
        },
    ),
    check(
        "faults/s2-ipa-is-a-page",
        "7.3.13",
        "stage 2: bits 11:0 of an IPA are 0",
        &[STAGE2],
        |b| {
            b.start(0)?;
            stage2(b, 0, VMID)?;
            b.faults(0, IOVA + 0xabc, s2_at(EventKind::F_TRANSLATION, IOVA + 0xabc, IOVA))?;
            same_word("bits 11:0 of the IPA", 0u64, b.record(0, 0).0[3] & 0xfff)
        },
    ),
    check(
        "faults/nested-data",
        "7.3.13",
        "both stages: a fault of the output has class IN and its IPA",
        &[NESTING],
        |b| {
            b.start(0)?;
            let both = nested(b, 0, ASID, VMID)?;
            both.one.tables.map(b, IOVA, ALIAS)?;
            b.faults(0, IOVA, s2_at(EventKind::F_TRANSLATION, IOVA, ALIAS))
        },
    ),
    check(
        "faults/nested-stage1",
        "7.3.13",
        "both stages: a fault of stage 1 has S2 = 0",
        &[NESTING],
        |b| {
            b.start(0)?;
            nested(b, 0, ASID, VMID)?;
            b.faults(0, IOVA, s1(EventKind::F_TRANSLATION, IOVA))
        },
    ),
    check(
        "faults/nested-table",
        "7.3.13",
        "both stages: a table that stage 2 lacks has class TT and its IPA",
        &[NESTING],
        |b| {
            b.start(0)?;
            let both = nested(b, 0, ASID, VMID)?;
            let slot = both.one.tables.slot(b, IOVA, 2)?;
            b.put(slot, ALIAS | 3);
            let event = s2_at(EventKind::F_TRANSLATION, IOVA, ALIAS).with_class(EventClass::Tt);
            b.faults(0, IOVA, event)
        },
    ),
    check(
        "faults/nested-table-read",
        "7.3.16",
        "both stages: a table that stage 2 does not let be read",
        &[NESTING],
        |b| {
            b.start(0)?;
            let (table, both) = (b.allocate(0x1000)?, nested(b, 0, ASID, VMID)?);
            let slot = both.one.tables.slot(b, IOVA, 2)?;
            b.put(slot, ALIAS | 3);
            both.two.map_at(b, ALIAS, 3, table, S2_RW & !S2_READ)?;
            // TTRnW: a read of the table faulted.
            let event = s2_at(EventKind::F_PERMISSION, IOVA, ALIAS).with_class(EventClass::Tt);
            let [w0, w1, w2, w3] = event.0;
            b.faults(0, IOVA, EventRecord([w0, w1 | 1 << 44, w2, w3]))
        },
    ),
    check(
        "faults/nested-cd",
        "7.3.13",
        "both stages: a CD that stage 2 lacks has class CD and its IPA",
        &[NESTING],
        |b| {
            b.start(0)?;
            let both = nested(b, 0, ASID, VMID)?;
            let ste =
                super::tables::nested_ste(stage1_ste(ALIAS)?, stage2_ste(b, VMID, &both.two)?);
            set_ste(b, 0, ste)?;
            let event = s2_at(EventKind::F_TRANSLATION, IOVA, ALIAS).with_class(EventClass::Cd);
            b.faults(0, IOVA, event)
        },
    ),
    check(
        "faults/nested-unrecorded",
        "5.5",
        "both stages: S2R = 0 records no fault of stage 2",
        &[NESTING],
        |b| {
            b.start(0)?;
            let both = nested(b, 0, ASID, VMID)?;
            both.one.tables.map(b, IOVA, ALIAS)?;
            let two = stage2_ste(b, VMID, &both.two)?;
            let ste = super::tables::nested_ste(stage1_ste(both.one.cd)?, two);
            set_ste(b, 0, ste.with(ste_field::S2R, 0)?)?;
            b.refused_silently(0, IOVA)
        },
    ),
    check(
        "faults/order-size-before-flag",
        "3.3.2",
        "an address beyond IPS faults before a clear access flag",
        &[STAGE1],
        |b| {
            b.start(0)?;
            let context = stage1(b, 0, ASID)?;
            context.tables.map_at(b, IOVA, 3, 1 << 32, S1_RW & !super::pages::AF)?;
            change_cd(b, &context, |cd| cd.with(cd_field::IPS, 0))?;
            b.faults(0, IOVA, s1(EventKind::F_ADDR_SIZE, IOVA))
        },
    ),
    check(
        "faults/order-flag-before-permission",
        "3.3.2",
        "a clear access flag faults before a permission",
        &[STAGE1],
        |b| {
            b.start(0)?;
            let (page, context) = (b.page()?, stage1(b, 0, ASID)?);
            let attributes = S1_RW & !super::pages::AF | super::pages::AP_READ_ONLY;
            context.tables.map_at(b, IOVA, 3, page, attributes)?;
            b.faults(0, IOVA, s1(EventKind::F_ACCESS, IOVA))
        },
    ),
    check(
        "faults/none-while-off",
        "7.2.1",
        "an SMMU that is off records no translation fault",
        &[],
        |b| {
            b.queues(0)?;
            b.enable(0, smmu_types::regs::cr0::CMDQEN | smmu_types::regs::cr0::EVENTQEN)?;
            b.abort_all(0, true)?;
            b.refused_silently(0, IOVA)
        },
    ),
    check(
        "faults/of-its-own-smmu",
        "7.3",
        "an event is recorded by the SMMU of its stream alone",
        &[SEVERAL],
        |b| {
            b.start(0)?;
            b.start(1)?;
            b.dma(2, IOVA)?;
            same("events of smmu0", 0, b.events(0)?.len())?;
            let events = b.events(1)?;
            let wanted = EventRecord::new(EventKind::C_BAD_STE, stream_of(2)).to_string();
            let got: Vec<String> = events.iter().map(ToString::to_string).collect();
            same("events of smmu1", wanted, got.join(", "))
        },
    ),
    check(
        "faults/stall",
        "7.3.13",
        "a stalled write waits, and its event has Stall = 1",
        &[STAGE1, STALLS],
        |b| stalled(b).map(drop),
    ),
    check(
        "faults/stall-retried",
        "4.7.1",
        "RESUME with retry carries a write out that can now pass",
        &[STAGE1, STALLS],
        |b| {
            let (tables, tag) = stalled(b)?;
            let page = b.page()?;
            tables.map(b, IOVA, page)?;
            resume(b, tag, ResumeAction::Retry)?;
            same("the write", "Some(Written)".to_owned(), format!("{:?}", b.ended_write(0)?))?;
            same("events", 0, b.events(0)?.len())
        },
    ),
    check(
        "faults/stall-terminated",
        "4.7.1",
        "RESUME with termination refuses the write",
        &[STAGE1, STALLS],
        |b| {
            let (_, tag) = stalled(b)?;
            resume(b, tag, ResumeAction::Abort)?;
            same("the write", "Some(Refused)".to_owned(), format!("{:?}", b.ended_write(0)?))
        },
    ),
    check(
        "faults/stall-of-another",
        "4.7.1",
        "RESUME of another stream has no effect",
        &[STAGE1, STALLS],
        |b| {
            let (_, tag) = stalled(b)?;
            let stream = stream_of(1);
            b.send(0, &[Command::Resume { stream, tag, action: ResumeAction::Abort }])?;
            same("the write", "None".to_owned(), format!("{:?}", b.ended_write(0)?))
        },
    ),
];

/// A write of device 0 that waits, with the tag of its event.
fn stalled(b: &mut Bench) -> Checked<(super::pages::Tables, u16)> {
    b.start(0)?;
    let context = stage1(b, 0, ASID)?;
    change_cd(b, &context, |cd| cd.with(cd_field::S, 1))?;
    let outcome = b.write(0, IOVA)?;
    if outcome != DmaWriteOutcome::Stalled {
        return wrong("a write that waits", format_args!("a write that ended: {outcome:?}"));
    }
    let events = b.events(0)?;
    let [event] = &events[..] else {
        return wrong("one event", format_args!("{} events", events.len()));
    };
    let tag = event.stall_tag();
    let wanted = s1(EventKind::F_TRANSLATION, IOVA).with_stall(tag);
    same("the event", wanted.to_string(), event.to_string())?;
    Ok((context.tables, tag))
}

fn resume(b: &mut Bench, tag: u16, action: ResumeAction) -> Checked {
    b.send(0, &[Command::Resume { stream: stream_of(0), tag, action }])
}
