//! Stream tables, STEs and tables of CDs: which of them a transaction uses, and which are refused.

use smmu_types::fields::{cd as cd_field, ste as ste_field};
use smmu_types::regs;
use smmu_types::seam::RegistersExt;
use smmu_types::{
    Cd, ContextTableDescriptor, EventKind, EventRecord, Granule, OutputSize, PhysAddr, Ste,
    StreamTableDescriptor, SubstreamId,
};

use super::bench::{Bench, stream_of};
use super::check::{
    BOUNDED, Check, Group, NO_STAGE1, NO_STAGE2, Requirement, STAGE1, STAGE2, SUBSTREAMS, checks_of,
};
use super::ended::Checked;
use super::pages::Tables;
use super::tables::{
    ASID, IOVA, OTHER_ASID, VMID, cd, change_cd, s1, set_ste, stage1, stage1_ste, stage2,
    stage2_ste, ste_of,
};

checks_of!(Group::Configuration);

const TWO_LEVELS: Requirement =
    Requirement::Feature("two-level stream tables", |caps| caps.two_level_stream_table);
const TWO_LEVEL_CDS: Requirement =
    Requirement::Feature("two-level tables of CDs", |caps| caps.two_level_cd);
const SMALL_ASIDS: Requirement = Requirement::Feature("8-bit ASIDs", |caps| caps.asid_bits == 8);

/// CDs of a table of substreams.
const CDS_LOG2: u64 = 2;

pub(super) const CHECKS: &[Check] = &[
    check(
        "configuration/linear-limit",
        "7.3.3",
        "a StreamID beyond a linear table: C_BAD_STREAMID",
        &[],
        |b| {
            b.program(0)?;
            b.regs(0)?.write(regs::STRTAB_BASE_CFG, 4);
            restart(b)?;
            // 0x10 = 2^4.
            b.faults(1, IOVA, of(EventKind::C_BAD_STREAMID, 1))?;
            b.faults(0, IOVA, of(EventKind::C_BAD_STE, 0))
        },
    ),
    check(
        "configuration/silent-limit",
        "6.3.12",
        "without RECINVSID a bad StreamID records nothing",
        &[],
        |b| {
            b.program(0)?;
            let r = b.regs(0)?;
            r.write(regs::STRTAB_BASE_CFG, 4);
            r.write(regs::CR2, 0);
            restart(b)?;
            b.refused_silently(1, IOVA)
        },
    ),
    check(
        "configuration/two-levels",
        "3.3.1.2",
        "an STE of a two-level table",
        &[TWO_LEVELS, STAGE1],
        |b| {
            let (page, leaf) = (b.page()?, b.allocate(64 << 6)?);
            two_levels(b, leaf, 6)?;
            let tables = Tables::new(b, Granule::K4, 39)?;
            let words = cd(b, ASID, &tables)?;
            let at = b.allocate(64)?;
            b.put_all(at, &words.0);
            tables.map(b, IOVA, page)?;
            b.put_all(leaf + 64 * u64::from(stream_of(0).0), &stage1_ste(at)?.0);
            restart(b)?;
            b.lands(0, IOVA, page)
        },
    ),
    check(
        "configuration/two-levels-invalid",
        "7.3.3",
        "a level-1 descriptor with Span = 0: C_BAD_STREAMID",
        &[TWO_LEVELS],
        |b| {
            let table = b.allocate(0x1000)?;
            split(b, table)?;
            restart(b)?;
            b.faults(0, IOVA, of(EventKind::C_BAD_STREAMID, 0))
        },
    ),
    check(
        "configuration/two-levels-span",
        "7.3.3",
        "a StreamID beyond its Span: C_BAD_STREAMID",
        &[TWO_LEVELS],
        |b| {
            let leaf = b.allocate(0x1000)?;
            two_levels(b, leaf, 4)?;
            restart(b)?;
            // 0x10 = 2^4.
            b.faults(1, IOVA, of(EventKind::C_BAD_STREAMID, 1))?;
            b.faults(0, IOVA, of(EventKind::C_BAD_STE, 0))
        },
    ),
    check("configuration/abort", "7.3.7", "Config = 0 aborts without an event", &[], |b| {
        b.start(0)?;
        set_ste(b, 0, Ste::ABORT)?;
        b.refused_silently(0, IOVA)
    }),
    check("configuration/invalid", "7.3.5", "V = 0: C_BAD_STE", &[], |b| {
        b.start(0)?;
        b.faults(0, IOVA, of(EventKind::C_BAD_STE, 0))
    }),
    check(
        "configuration/no-stage1",
        "3.3.2",
        "stage 1 that the SMMU lacks: C_BAD_STE",
        &[NO_STAGE1],
        |b| {
            b.start(0)?;
            let cd = b.allocate(64)?;
            set_ste(b, 0, stage1_ste(cd)?)?;
            b.faults(0, IOVA, of(EventKind::C_BAD_STE, 0))
        },
    ),
    check(
        "configuration/no-stage2",
        "3.3.2",
        "stage 2 that the SMMU lacks: C_BAD_STE",
        &[NO_STAGE2],
        |b| {
            b.start(0)?;
            let tables = Tables::from_level(b, Granule::K4, 32, 1)?;
            let ste = stage2_ste(b, VMID, &tables)?;
            set_ste(b, 0, ste)?;
            b.faults(0, IOVA, of(EventKind::C_BAD_STE, 0))
        },
    ),
    check(
        "configuration/stage2-table",
        "3.4",
        "S2TTB beyond S2PS: C_BAD_STE",
        &[STAGE2, BOUNDED],
        |b| {
            b.start(0)?;
            let tables = stage2(b, 0, VMID)?;
            let beyond = 1 << super::tables::output_size(b).bits();
            let ste = stage2_ste(b, VMID, &Tables { root: beyond, ..tables })?;
            set_ste(b, 0, ste)?;
            b.faults(0, IOVA, of(EventKind::C_BAD_STE, 0))
        },
    ),
    check(
        "configuration/stage2-start",
        "7.3.5",
        "S2SL0 that does not fit S2T0SZ: C_BAD_STE",
        &[STAGE2],
        |b| {
            b.start(0)?;
            let tables = stage2(b, 0, VMID)?;
            // 39 bits from level 2: 512 tables side by side.
            let ste = stage2_ste(b, VMID, &tables)?.with(ste_field::S2SL0, 0)?;
            set_ste(b, 0, ste)?;
            b.faults(0, IOVA, of(EventKind::C_BAD_STE, 0))
        },
    ),
    check("configuration/bad-cd", "7.3.11", "a CD with V = 0: C_BAD_CD", &[STAGE1], |b| {
        b.start(0)?;
        let context = stage1(b, 0, ASID)?;
        change_cd(b, &context, |_| Ok(Cd::INVALID))?;
        b.faults(0, IOVA, of(EventKind::C_BAD_CD, 0))
    }),
    check("configuration/cd-table", "3.4", "TTB0 beyond IPS: C_BAD_CD", &[STAGE1], |b| {
        b.start(0)?;
        let context = stage1(b, 0, ASID)?;
        change_cd(b, &context, |cd| {
            cd.with(cd_field::IPS, OutputSize::Bits32 as u64)?.with(cd_field::TTB0, 1 << 32)
        })?;
        b.faults(0, IOVA, of(EventKind::C_BAD_CD, 0))
    }),
    check(
        "configuration/cd-t0sz",
        "7.3.11",
        "T0SZ below 16 or above 39: C_BAD_CD",
        &[STAGE1],
        |b| {
            b.start(0)?;
            let context = stage1(b, 0, ASID)?;
            for t0sz in [12, 15, 40, 48] {
                if t0sz < 16 || !b.caps.small_tables {
                    change_cd(b, &context, |cd| cd.with(cd_field::T0SZ, t0sz))?;
                    b.faults(0, IOVA, of(EventKind::C_BAD_CD, 0))?;
                }
            }
            Ok(())
        },
    ),
    check("configuration/cd-granule", "7.3.11", "the reserved TG0 = 3: C_BAD_CD", &[STAGE1], |b| {
        b.start(0)?;
        let context = stage1(b, 0, ASID)?;
        change_cd(b, &context, |cd| cd.with(cd_field::TG0, 3))?;
        b.faults(0, IOVA, of(EventKind::C_BAD_CD, 0))
    }),
    check(
        "configuration/cd-asid",
        "7.3.11",
        "an ASID beyond 8 bits without ASID16: C_BAD_CD",
        &[STAGE1, SMALL_ASIDS],
        |b| {
            b.start(0)?;
            let context = stage1(b, 0, ASID)?;
            change_cd(b, &context, |cd| cd.with(cd_field::ASID, 0x100))?;
            b.faults(0, IOVA, of(EventKind::C_BAD_CD, 0))
        },
    ),
    check("configuration/cd-of-two", "3.3.2", "two streams share a CD", &[STAGE1], |b| {
        b.start(0)?;
        let (page, context) = (b.page()?, stage1(b, 0, ASID)?);
        context.tables.map(b, IOVA, page)?;
        set_ste(b, 1, stage1_ste(context.cd)?)?;
        b.lands(0, IOVA, page)?;
        b.lands(1, IOVA, page)
    }),
    check(
        "configuration/ste-fetch",
        "7.3.4",
        "an STE that cannot be read: F_STE_FETCH",
        &[],
        |b| {
            b.program(0)?;
            b.regs(0)?.write(regs::STRTAB_BASE, b.hole());
            restart(b)?;
            let at = b.hole() + 64 * u64::from(stream_of(0).0);
            b.faults(0, IOVA, of(EventKind::F_STE_FETCH, 0).with_fetch(PhysAddr(at))?)
        },
    ),
    check(
        "configuration/cd-fetch",
        "7.3.10",
        "a CD that cannot be read: F_CD_FETCH",
        &[STAGE1],
        |b| {
            b.start(0)?;
            set_ste(b, 0, stage1_ste(b.hole())?)?;
            b.faults(0, IOVA, of(EventKind::F_CD_FETCH, 0).with_fetch(PhysAddr(b.hole()))?)
        },
    ),
    check(
        "configuration/walk-abort",
        "7.3.12",
        "a table that cannot be read: F_WALK_EABT",
        &[STAGE1],
        |b| {
            b.start(0)?;
            let context = stage1(b, 0, ASID)?;
            let slot = context.tables.slot(b, IOVA, 2)?;
            b.put(slot, b.hole() | 3);
            let event = s1(EventKind::F_WALK_EABT, IOVA).with_class(smmu_types::EventClass::Tt);
            let at = b.hole() + 8 * (IOVA >> 12 & 0x1ff);
            b.faults(0, IOVA, event.with_fetch(PhysAddr(at))?)
        },
    ),
    check(
        "configuration/substream",
        "3.3.2",
        "a SubstreamID selects its CD",
        &[STAGE1, SUBSTREAMS],
        |b| {
            b.start(0)?;
            let pages = substreams(b, 2)?;
            b.substream_sent = Some(1);
            b.lands(0, IOVA, pages[0])?;
            b.substream_sent = Some(2);
            b.lands(0, IOVA, pages[1])
        },
    ),
    check(
        "configuration/s1dss-0",
        "7.3.7",
        "S1DSS = 0: a DMA without SubstreamID is refused",
        &[STAGE1, SUBSTREAMS],
        |b| {
            b.start(0)?;
            substreams(b, 0)?;
            b.faults(0, IOVA, of(EventKind::F_STREAM_DISABLED, 0))
        },
    ),
    check(
        "configuration/s1dss-1",
        "3.3.2",
        "S1DSS = 1: a DMA without SubstreamID bypasses stage 1",
        &[STAGE1, SUBSTREAMS],
        |b| {
            b.start(0)?;
            let pages = substreams(b, 1)?;
            b.lands(0, pages[1], pages[1])
        },
    ),
    check(
        "configuration/s1dss-2",
        "3.3.2",
        "S1DSS = 2: a DMA without SubstreamID uses CD 0",
        &[STAGE1, SUBSTREAMS],
        |b| {
            b.start(0)?;
            let pages = substreams(b, 2)?;
            b.lands(0, IOVA, pages[2])
        },
    ),
    check(
        "configuration/s1dss-2-substream-0",
        "7.3.7",
        "S1DSS = 2: SubstreamID 0 is refused",
        &[STAGE1, SUBSTREAMS],
        |b| {
            b.start(0)?;
            substreams(b, 2)?;
            b.substream_sent = Some(0);
            b.faults(0, IOVA, of(EventKind::F_STREAM_DISABLED, 0))
        },
    ),
    check(
        "configuration/substream-limit",
        "7.3.9",
        "a SubstreamID beyond S1CDMax: C_BAD_SUBSTREAMID",
        &[STAGE1, SUBSTREAMS],
        |b| {
            b.start(0)?;
            substreams(b, 2)?;
            bad_substream(b, 1 << CDS_LOG2)
        },
    ),
    check(
        "configuration/substreams-off",
        "7.3.9",
        "a SubstreamID while S1CDMax is 0: C_BAD_SUBSTREAMID",
        &[STAGE1, SUBSTREAMS],
        |b| {
            b.start(0)?;
            stage1(b, 0, ASID)?;
            bad_substream(b, 1)
        },
    ),
    check(
        "configuration/substream-of-bypass",
        "7.3.9",
        "a SubstreamID without stage 1: C_BAD_SUBSTREAMID",
        &[SUBSTREAMS],
        |b| {
            b.start(0)?;
            set_ste(b, 0, Ste::bypass(smmu_types::ShareabilityOverride::Incoming))?;
            bad_substream(b, 1)
        },
    ),
    check(
        "configuration/two-level-cds",
        "3.3.2",
        "a CD of a two-level table, and a missing leaf",
        &[STAGE1, SUBSTREAMS, TWO_LEVEL_CDS],
        |b| {
            b.start(0)?;
            let (page, tables) = (b.page()?, Tables::new(b, Granule::K4, 39)?);
            tables.map(b, IOVA, page)?;
            let (first, leaf) = (b.allocate(0x1000)?, b.allocate(0x1000)?);
            b.put_all(first + 8, &ContextTableDescriptor::new(PhysAddr(leaf))?.0);
            let words = cd(b, OTHER_ASID, &tables)?;
            // Leaves of 4 KiB hold 64 CDs.
            b.put_all(leaf + 64 * 3, &words.0);
            let ste = stage1_ste(first)?.with(ste_field::S1FMT, 1)?.with(ste_field::S1CDMAX, 8)?;
            set_ste(b, 0, ste)?;
            b.substream_sent = Some(64 + 3);
            b.lands(0, IOVA, page)?;
            bad_substream(b, 3)
        },
    ),
];

/// An event of a device that has a StreamID only.
fn of(kind: EventKind, device: usize) -> EventRecord {
    EventRecord::new(kind, stream_of(device))
}

/// Turns the SMMU on with what is programmed.
fn restart(b: &mut Bench) -> Checked {
    use smmu_types::regs::cr0;
    b.enable(0, cr0::CMDQEN)?;
    b.send(0, &[smmu_types::Command::CfgiAll, smmu_types::Command::TlbiNsnhAll])?;
    b.enable(0, cr0::CMDQEN | cr0::EVENTQEN | cr0::SMMUEN)
}

/// A two-level stream table whose first array of STEs is `leaf`, with 2^`log2` of them.
fn two_levels(b: &mut Bench, leaf: u64, log2: u8) -> Checked {
    let table = b.allocate(0x1000)?;
    b.put_all(table, &StreamTableDescriptor::new(PhysAddr(leaf), log2)?.0);
    split(b, table)
}

/// A two-level stream table of 2^10 StreamIDs, split at bit 6.
fn split(b: &mut Bench, table: u64) -> Checked {
    b.program(0)?;
    let r = b.regs(0)?;
    r.write(regs::STRTAB_BASE, table);
    r.write(regs::STRTAB_BASE_CFG, 10 | 6 << 6 | 1 << 16);
    Ok(())
}

/// Device 0 has a table of CDs. Those of substreams 1, 2 and 0 lead `IOVA` to the pages.
fn substreams(b: &mut Bench, s1dss: u64) -> Checked<[u64; 3]> {
    let pages = [b.page()?, b.page()?, b.page()?];
    let table = b.allocate(64 << CDS_LOG2)?;
    for (index, page) in [1, 2, 0].into_iter().zip(pages) {
        let tables = Tables::new(b, Granule::K4, 39)?;
        tables.map(b, IOVA, page)?;
        let words = cd(b, ASID + index as u16, &tables)?;
        b.put_all(table + 64 * index, &words.0);
    }
    let ste = stage1_ste(table)?;
    let ste = ste.with(ste_field::S1CDMAX, CDS_LOG2)?.with(ste_field::S1DSS, s1dss)?;
    b.put_all(ste_of(b, 0), &ste.0);
    set_ste(b, 0, ste)?;
    Ok(pages)
}

/// A DMA with a SubstreamID that has no CD.
fn bad_substream(b: &mut Bench, substream: u32) -> Checked {
    b.substream_sent = Some(substream);
    let event = of(EventKind::C_BAD_SUBSTREAMID, 0);
    let event = SubstreamId::new(substream).map_or(event, |id| event.with_substream(id));
    b.faults(0, IOVA, event)
}
