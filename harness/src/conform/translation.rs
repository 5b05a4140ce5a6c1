//! Table walks: where a DMA lands.

use smmu_engine::machine::DmaReadOutcome;
use smmu_types::fields::cd as cd_field;
use smmu_types::{EventKind, Granule, OutputSize};

use super::bench::Bench;
use super::check::{BOUNDED, Check, Group, K16, K64, READS, STAGE1, checks_of};
use super::ended::{Checked, not_offered, same};
use super::pages::{
    AF, AP_READ_ONLY, AP_UNPRIVILEGED, CONTIGUOUS, NOT_GLOBAL, S1_RW, TABLE_PRIVILEGED,
    TABLE_READ_ONLY, Tables, level_shift,
};
use super::tables::{ASID, IOVA, change_cd, output_size, s1, stage1, stage1_with};

checks_of!(Group::Walks);

/// Above the tops of input ranges.
const TOP_BYTE: u64 = 0xab << 56;

pub(super) const CHECKS: &[Check] = &[
    check("walks/s1-page", "3.3.2", "stage 1: a page of level 3", &[STAGE1], |b| {
        b.start(0)?;
        let (page, context) = (b.page()?, stage1(b, 0, ASID)?);
        context.tables.map(b, IOVA, page)?;
        b.lands(0, IOVA, page)?;
        b.lands(0, IOVA + 0xffc, page)
    }),
    check(
        "walks/s1-each-page-its-own",
        "3.3.2",
        "stage 1: neighbours have pages of their own",
        &[STAGE1],
        |b| {
            b.start(0)?;
            let context = stage1(b, 0, ASID)?;
            let pages = [b.page()?, b.page()?, b.page()?];
            // The last of one table, the first of the next, and one far away.
            let inputs = [0x3f_f000, 0x40_0000, 0x7f_8000_0000];
            for (input, page) in inputs.into_iter().zip(pages) {
                context.tables.map(b, input, page)?;
            }
            inputs.into_iter().zip(pages).try_for_each(|(input, page)| b.lands(0, input, page))
        },
    ),
    check(
        "walks/s1-block-2",
        "3.3.2",
        "stage 1: a block of level 2 (4 KiB granule)",
        &[STAGE1],
        |b| block(b, Granule::K4, 2),
    ),
    check(
        "walks/s1-block-1",
        "3.3.2",
        "stage 1: a block of level 1 (4 KiB granule)",
        &[STAGE1],
        |b| block(b, Granule::K4, 1),
    ),
    check("walks/s1-level-0", "3.3.2", "stage 1: a walk of four levels", &[STAGE1], |b| {
        b.start(0)?;
        let (page, tables) = (b.page()?, Tables::new(b, Granule::K4, 48)?);
        stage1_with(b, 0, ASID, tables)?;
        let input = 0x8765_4321_0000;
        tables.map(b, input, page)?;
        b.lands(0, input, page)?;
        b.faults(0, input & !(1 << 47), s1(EventKind::F_TRANSLATION, input & !(1 << 47)))
    }),
    check(
        "walks/s1-no-block-0",
        "3.3.2",
        "stage 1: level 0 has no blocks (4 KiB granule)",
        &[STAGE1],
        |b| {
            b.start(0)?;
            let tables = Tables::new(b, Granule::K4, 48)?;
            stage1_with(b, 0, ASID, tables)?;
            b.page()?;
            tables.map_at(b, IOVA, 0, 0, S1_RW)?;
            b.faults(0, IOVA, s1(EventKind::F_TRANSLATION, IOVA))
        },
    ),
    check(
        "walks/s1-reserved-descriptor",
        "3.3.2",
        "stage 1: a level-3 descriptor of kind 1 is none",
        &[STAGE1],
        |b| {
            b.start(0)?;
            let (page, context) = (b.page()?, stage1(b, 0, ASID)?);
            let slot = context.tables.slot(b, IOVA, 3)?;
            b.put(slot, page | 1 | S1_RW);
            b.faults(0, IOVA, s1(EventKind::F_TRANSLATION, IOVA))
        },
    ),
    check("walks/s1-contiguous", "3.3.2", "stage 1: pages of a contiguous run", &[STAGE1], |b| {
        b.start(0)?;
        let context = stage1(b, 0, ASID)?;
        let run = b.allocate(16 * 0x1000)?;
        for n in 0..16 {
            b.watch(run + 0x1000 * n);
            let at = run + 0x1000 * n;
            context.tables.map_at(b, IOVA + 0x1000 * n, 3, at, S1_RW | CONTIGUOUS)?;
        }
        (0..16).try_for_each(|n| b.lands(0, IOVA + 0x1000 * n, run + 0x1000 * n))
    }),
    check(
        "walks/s1-input-sizes",
        "3.4.1",
        "stage 1: each T0SZ takes its range, and nothing above",
        &[STAGE1],
        |b| {
            b.start(0)?;
            let page = b.page()?;
            for bits in [48, 44, 40, 39, 36, 32, 31, 30, 28, 25] {
                let tables = Tables::new(b, Granule::K4, bits)?;
                stage1_with(b, 0, ASID, tables)?;
                b.send(0, &[smmu_types::Command::TlbiNsnhAll])?;
                let last = (1 << bits) - 0x1000;
                tables.map(b, last, page)?;
                tables.map(b, 0, page)?;
                b.lands(0, last, page)?;
                b.lands(0, 0, page)?;
                b.faults(0, 1 << bits, s1(EventKind::F_TRANSLATION, 1 << bits))?;
                b.faults(0, last | 1 << 63, s1(EventKind::F_TRANSLATION, last | 1 << 63))?;
            }
            Ok(())
        },
    ),
    check(
        "walks/s1-ttb1",
        "3.4.1",
        "stage 1: addresses of the upper half go by TTB1",
        &[STAGE1],
        |b| {
            b.start(0)?;
            let (low, high, context) = (b.page()?, b.page()?, stage1(b, 0, ASID)?);
            let upper = Tables::new(b, Granule::K4, 39)?;
            context.tables.map(b, IOVA, low)?;
            upper.map(b, IOVA, high)?;
            change_cd(b, &context, |cd| {
                cd.with(cd_field::EPD1, 0)?
                    .with(cd_field::T1SZ, 25)?
                    .with(cd_field::TG1, 2)?
                    .with(cd_field::IR1, 1)?
                    .with(cd_field::OR1, 1)?
                    .with(cd_field::SH1, 3)?
                    .with(cd_field::TTB1, upper.root)
            })?;
            let upper_half = !0 << 39 | IOVA;
            b.lands(0, IOVA, low)?;
            b.lands(0, upper_half, high)?;
            let between = 1 << 50 | IOVA;
            b.faults(0, between, s1(EventKind::F_TRANSLATION, between))
        },
    ),
    check("walks/s1-epd1", "7.3.13", "stage 1: a disabled TTB1 faults", &[STAGE1], |b| {
        b.start(0)?;
        stage1(b, 0, ASID)?;
        let upper_half = !0 << 39 | IOVA;
        b.faults(0, upper_half, s1(EventKind::F_TRANSLATION, upper_half))
    }),
    check("walks/s1-epd0", "7.3.13", "stage 1: a disabled TTB0 faults", &[STAGE1], |b| {
        b.start(0)?;
        let (page, context) = (b.page()?, stage1(b, 0, ASID)?);
        context.tables.map(b, IOVA, page)?;
        change_cd(b, &context, |cd| cd.with(cd_field::EPD0, 1))?;
        b.faults(0, IOVA, s1(EventKind::F_TRANSLATION, IOVA))
    }),
    check("walks/s1-top-byte", "3.4.1", "stage 1: TBI0 ignores the top byte", &[STAGE1], |b| {
        b.start(0)?;
        let (page, context) = (b.page()?, stage1(b, 0, ASID)?);
        context.tables.map(b, IOVA, page)?;
        b.faults(0, TOP_BYTE | IOVA, s1(EventKind::F_TRANSLATION, TOP_BYTE | IOVA))?;
        change_cd(b, &context, |cd| cd.with(cd_field::TBI0, 1))?;
        b.lands(0, TOP_BYTE | IOVA, page)
    }),
    check(
        "walks/s1-access-flag",
        "7.3.15",
        "stage 1: a clear access flag faults, unless AFFD is set",
        &[STAGE1],
        |b| {
            b.start(0)?;
            let (page, context) = (b.page()?, stage1(b, 0, ASID)?);
            context.tables.map_at(b, IOVA, 3, page, S1_RW & !AF)?;
            b.faults(0, IOVA, s1(EventKind::F_ACCESS, IOVA))?;
            change_cd(b, &context, |cd| cd.with(cd_field::AFFD, 1))?;
            b.lands(0, IOVA, page)
        },
    ),
    check(
        "walks/s1-read-only",
        "7.3.16",
        "stage 1: a read-only page refuses a write",
        &[STAGE1],
        |b| {
            b.start(0)?;
            let (page, context) = (b.page()?, stage1(b, 0, ASID)?);
            context.tables.map_at(b, IOVA, 3, page, S1_RW | AP_READ_ONLY)?;
            b.faults(0, IOVA, s1(EventKind::F_PERMISSION, IOVA))
        },
    ),
    check(
        "walks/s1-read-only-reads",
        "7.3.16",
        "stage 1: a read-only page can be read",
        &[STAGE1, READS],
        |b| {
            b.start(0)?;
            let (page, context) = (b.page()?, stage1(b, 0, ASID)?);
            context.tables.map_at(b, IOVA, 3, page, S1_RW | AP_READ_ONLY)?;
            b.put(page, 0x8765_4321);
            let read = b.read(0, IOVA)? == DmaReadOutcome::Read(0x8765_4321);
            same("the read gets what memory has", true, read)
        },
    ),
    check(
        "walks/s1-privileged",
        "7.3.16",
        "stage 1: a privileged page refuses an unprivileged write",
        &[STAGE1],
        |b| {
            b.start(0)?;
            let (page, context) = (b.page()?, stage1(b, 0, ASID)?);
            context.tables.map_at(b, IOVA, 3, page, S1_RW & !AP_UNPRIVILEGED)?;
            b.faults(0, IOVA, s1(EventKind::F_PERMISSION, IOVA))
        },
    ),
    check(
        "walks/s1-table-read-only",
        "7.3.16",
        "stage 1: APTable takes the right to write away",
        &[STAGE1],
        |b| table_limit(b, TABLE_READ_ONLY),
    ),
    check(
        "walks/s1-table-privileged",
        "7.3.16",
        "stage 1: APTable takes unprivileged access away",
        &[STAGE1],
        |b| table_limit(b, TABLE_PRIVILEGED),
    ),
    check(
        "walks/s1-global",
        "3.3.2",
        "stage 1: a global page translates as any other",
        &[STAGE1],
        |b| {
            b.start(0)?;
            let (page, context) = (b.page()?, stage1(b, 0, ASID)?);
            context.tables.map_at(b, IOVA, 3, page, S1_RW & !NOT_GLOBAL)?;
            b.lands(0, IOVA, page)
        },
    ),
    check(
        "walks/s1-output-size",
        "7.3.14",
        "stage 1: an output address beyond IPS faults",
        &[STAGE1],
        |b| {
            b.start(0)?;
            let context = stage1(b, 0, ASID)?;
            context.tables.map(b, IOVA, 1 << 32)?;
            change_cd(b, &context, |cd| cd.with(cd_field::IPS, OutputSize::Bits32 as u64))?;
            b.faults(0, IOVA, s1(EventKind::F_ADDR_SIZE, IOVA))
        },
    ),
    check(
        "walks/s1-output-capped",
        "3.4",
        "stage 1: an IPS beyond OAS counts as OAS",
        &[STAGE1, BOUNDED],
        |b| {
            b.start(0)?;
            let (page, context) = (b.page()?, stage1(b, 0, ASID)?);
            context.tables.map(b, IOVA, page)?;
            context.tables.map(b, IOVA + 0x1000, 1 << output_size(b).bits())?;
            change_cd(b, &context, |cd| cd.with(cd_field::IPS, OutputSize::Bits48 as u64))?;
            b.lands(0, IOVA, page)?;
            b.faults(0, IOVA + 0x1000, s1(EventKind::F_ADDR_SIZE, IOVA + 0x1000))
        },
    ),
    check(
        "walks/s1-two-streams",
        "3.3.2",
        "stage 1: each stream has its own tables",
        &[STAGE1],
        |b| {
            b.start(0)?;
            let pages = [b.page()?, b.page()?];
            for (device, page) in pages.into_iter().enumerate() {
                let context = stage1(b, device, ASID + device as u16)?;
                context.tables.map(b, IOVA, page)?;
            }
            pages.into_iter().enumerate().try_for_each(|(device, page)| b.lands(device, IOVA, page))
        },
    ),
    check("walks/s1-16k-page", "3.3.2", "stage 1: a page of 16 KiB", &[STAGE1, K16], |b| {
        page_of(b, Granule::K16)
    }),
    check(
        "walks/s1-16k-block",
        "3.3.2",
        "stage 1: a block of level 2 (16 KiB granule)",
        &[STAGE1, K16],
        |b| block(b, Granule::K16, 2),
    ),
    check("walks/s1-64k-page", "3.3.2", "stage 1: a page of 64 KiB", &[STAGE1, K64], |b| {
        page_of(b, Granule::K64)
    }),
    check(
        "walks/s1-64k-block",
        "3.3.2",
        "stage 1: a block of level 2 (64 KiB granule)",
        &[STAGE1, K64],
        |b| block(b, Granule::K64, 2),
    ),
];

/// Stage 1: a block is mapped, and a page in it is reached.
fn block(b: &mut Bench, granule: Granule, level: u32) -> Checked {
    b.start(0)?;
    let bytes = 1 << level_shift(granule, level);
    // Not at its first page.
    let page = b.page_at_multiple(bytes, 0x3000)?;
    let tables = Tables::new(b, granule, 39)?;
    stage1_with(b, 0, ASID, tables)?;
    let input = 4 * bytes;
    if input >> 39 != 0 {
        return not_offered("addresses of such blocks");
    }
    let output = page & !(bytes - 1);
    tables.map_at(b, input, level, output, S1_RW)?;
    b.lands(0, input + (page - output), page)
}

/// Stage 1: a page of another granule.
fn page_of(b: &mut Bench, granule: Granule) -> Checked {
    b.start(0)?;
    let block = b.allocate(granule.bytes())?;
    let (page, tables) = (block + 0x2000, Tables::new(b, granule, 39)?);
    b.watch(page);
    stage1_with(b, 0, ASID, tables)?;
    tables.map(b, IOVA, block)?;
    b.lands(0, IOVA + 0x2000, page)?;
    let next = IOVA + granule.bytes();
    b.faults(0, next, s1(EventKind::F_TRANSLATION, next))
}

/// Stage 1: a limit in the level-2 descriptor.
fn table_limit(b: &mut Bench, limit: u64) -> Checked {
    b.start(0)?;
    let (page, context) = (b.page()?, stage1(b, 0, ASID)?);
    context.tables.map(b, IOVA, page)?;
    let slot = context.tables.slot(b, IOVA, 2)?;
    b.put(slot, b.get(slot) | limit);
    b.faults(0, IOVA, s1(EventKind::F_PERMISSION, IOVA))
}
