//! Table walks of stage 2 and of both stages, and DMA past both.

use smmu_types::fields::ste as ste_field;
use smmu_types::regs::cr0;
use smmu_types::{EventKind, Granule, OutputSize, Ste};

use super::bench::Bench;
use super::check::{BOUNDED, Check, Group, K16, K64, NESTING, Requirement, STAGE2, checks_of};
use super::ended::{Checked, same};
use super::pages::{AF, AP_READ_ONLY, CONTIGUOUS, S1_RW, S2_READ, S2_RW, S2_WRITE, Tables};
use super::tables::{
    ALIAS, ASID, IOVA, VMID, nested, output_size, s1, s2, s2_at, set_ste, stage2, stage2_ste,
    stage2_with,
};
use super::traffic::Landed;

checks_of!(Group::Walks);

const WIDE: Requirement = Requirement::Feature("an output size of 40 bits or more", |caps| {
    caps.output_size.is_some_and(|size| size.bits() >= 40)
});
const WIDER: Requirement = Requirement::Feature("an output size of 44 bits or more", |caps| {
    caps.output_size.is_some_and(|size| size.bits() >= 44)
});

pub(super) const CHECKS: &[Check] = &[
    check("walks/s2-page", "3.3.2", "stage 2: a page of level 3", &[STAGE2], |b| {
        b.start(0)?;
        let (page, tables) = (b.page()?, stage2(b, 0, VMID)?);
        tables.map2(b, IOVA, page)?;
        b.lands(0, IOVA, page)
    }),
    check("walks/s2-block", "3.3.2", "stage 2: a block of level 2", &[STAGE2], |b| {
        b.start(0)?;
        let (page, tables) = (b.page_at_multiple(2 << 20, 0x1000)?, stage2(b, 0, VMID)?);
        tables.map_at(b, 0x4000_0000, 2, page - 0x1000, S2_RW)?;
        b.lands(0, 0x4000_1000, page)
    }),
    check("walks/s2-block-1", "3.3.2", "stage 2: a block of level 1", &[STAGE2], |b| {
        b.start(0)?;
        let bytes = 1 << 30;
        let (page, tables) = (b.page_at_multiple(bytes, 0x3000)?, stage2(b, 0, VMID)?);
        let output = page & !(bytes - 1);
        tables.map_at(b, 4 * bytes, 1, output, S2_RW)?;
        b.lands(0, 4 * bytes + (page - output), page)
    }),
    check("walks/s2-contiguous", "3.3.2", "stage 2: pages of a contiguous run", &[STAGE2], |b| {
        b.start(0)?;
        let (tables, run) = (stage2(b, 0, VMID)?, b.allocate(16 * 0x1000)?);
        for n in 0..16 {
            let at = run + 0x1000 * n;
            b.watch(at);
            tables.map_at(b, IOVA + 0x1000 * n, 3, at, S2_RW | CONTIGUOUS)?;
        }
        (0..16).try_for_each(|n| b.lands(0, IOVA + 0x1000 * n, run + 0x1000 * n))
    }),
    check("walks/s2-16k-page", "3.3.2", "stage 2: a page of 16 KiB", &[STAGE2, K16], |b| {
        page2_of(b, Granule::K16)
    }),
    check("walks/s2-64k-page", "3.3.2", "stage 2: a page of 64 KiB", &[STAGE2, K64], |b| {
        page2_of(b, Granule::K64)
    }),
    check(
        "walks/s2-concatenated",
        "3.3.2",
        "stage 2: a walk begins with two tables side by side",
        &[STAGE2, WIDE],
        |b| {
            b.start(0)?;
            let (page, other) = (b.page()?, b.page()?);
            let tables = Tables::from_level(b, Granule::K4, 40, 1)?;
            stage2_with(b, 0, VMID, tables)?;
            let upper = 0x80_0000_0000 + IOVA;
            tables.map2(b, IOVA, page)?;
            tables.map2(b, upper, other)?;
            b.lands(0, IOVA, page)?;
            b.lands(0, upper, other)
        },
    ),
    check("walks/s2-level-2", "3.3.2", "stage 2: a walk that begins at level 2", &[STAGE2], |b| {
        b.start(0)?;
        let page = b.page()?;
        let tables = Tables::from_level(b, Granule::K4, 32, 2)?;
        stage2_with(b, 0, VMID, tables)?;
        tables.map2(b, 0xc000_0000 + IOVA / 4, page)?;
        b.lands(0, 0xc000_0000 + IOVA / 4, page)
    }),
    check("walks/s2-level-0", "3.3.2", "stage 2: a walk of four levels", &[STAGE2, WIDER], |b| {
        b.start(0)?;
        let (page, tables) = (b.page()?, Tables::from_level(b, Granule::K4, 44, 0)?);
        stage2_with(b, 0, VMID, tables)?;
        let input = 0xf87_6543_2000;
        tables.map2(b, input, page)?;
        b.lands(0, input, page)
    }),
    check(
        "walks/s2-input-size",
        "3.4",
        "stage 2: an address beyond S2T0SZ faults",
        &[STAGE2],
        |b| {
            b.start(0)?;
            stage2(b, 0, VMID)?;
            let beyond = 1 << 39 | IOVA;
            b.faults(0, beyond, s2(EventKind::F_TRANSLATION, beyond))
        },
    ),
    check(
        "walks/s2-access-flag",
        "7.3.15",
        "stage 2: a clear access flag faults, unless S2AFFD is set",
        &[STAGE2],
        |b| {
            b.start(0)?;
            let (page, tables) = (b.page()?, stage2(b, 0, VMID)?);
            tables.map_at(b, IOVA, 3, page, S2_RW & !AF)?;
            b.faults(0, IOVA, s2(EventKind::F_ACCESS, IOVA))?;
            let ste = stage2_ste(b, VMID, &tables)?.with(ste_field::S2AFFD, 1)?;
            set_ste(b, 0, ste)?;
            b.lands(0, IOVA, page)
        },
    ),
    check(
        "walks/s2-read-only",
        "7.3.16",
        "stage 2: a page without S2AP[1] refuses a write",
        &[STAGE2],
        |b| {
            b.start(0)?;
            let (page, tables) = (b.page()?, stage2(b, 0, VMID)?);
            tables.map_at(b, IOVA, 3, page, S2_RW & !S2_WRITE)?;
            b.faults(0, IOVA, s2(EventKind::F_PERMISSION, IOVA))
        },
    ),
    check(
        "walks/s2-write-only",
        "7.3.16",
        "stage 2: a page without S2AP[0] can be written",
        &[STAGE2],
        |b| {
            b.start(0)?;
            let (page, tables) = (b.page()?, stage2(b, 0, VMID)?);
            tables.map_at(b, IOVA, 3, page, S2_RW & !S2_READ)?;
            b.lands(0, IOVA, page)
        },
    ),
    check(
        "walks/s2-output-size",
        "7.3.14",
        "stage 2: an output address beyond S2PS faults",
        &[STAGE2],
        |b| {
            b.start(0)?;
            let tables = Tables::from_level(b, Granule::K4, 32, 1)?;
            tables.map2(b, IOVA, 1 << 32)?;
            let ste = stage2_ste(b, VMID, &tables)?;
            set_ste(b, 0, ste.with(ste_field::S2PS, OutputSize::Bits32 as u64)?)?;
            b.faults(0, IOVA, s2(EventKind::F_ADDR_SIZE, IOVA))
        },
    ),
    check(
        "walks/s2-input-beyond-output",
        "3.4",
        "stage 2: S2T0SZ is bounded by IAS, and not by S2PS",
        &[STAGE2],
        |b| {
            b.start(0)?;
            let (page, tables) = (b.page()?, stage2(b, 0, VMID)?);
            tables.map2(b, IOVA, page)?;
            let ste = stage2_ste(b, VMID, &tables)?;
            set_ste(b, 0, ste.with(ste_field::S2PS, OutputSize::Bits36 as u64)?)?;
            b.lands(0, IOVA, page)
        },
    ),
    check(
        "walks/nested",
        "3.3.2",
        "both stages: the output of stage 1 goes through stage 2",
        &[NESTING],
        |b| {
            b.start(0)?;
            let (page, both) = (b.page()?, nested(b, 0, ASID, VMID)?);
            both.one.tables.map(b, IOVA, ALIAS)?;
            both.two.map2(b, ALIAS, page)?;
            b.lands(0, IOVA, page)
        },
    ),
    check(
        "walks/nested-tables",
        "3.3.2",
        "both stages: CD and tables of stage 1 lie at IPAs",
        &[NESTING],
        |b| {
            b.start(0)?;
            let (page, wrong_page) = (b.page()?, b.page()?);
            let both = nested(b, 0, ASID, VMID)?;
            // The level-3 table that the SMMU must use, and one at the address that the IPA has.
            let ipa = ALIAS + 0x20_0000;
            let (table, slot) = (b.allocate(0x1000)?, both.one.tables.slot(b, IOVA, 2)?);
            both.two.map2(b, ipa, table)?;
            b.put(slot, ipa | 3);
            both.one.tables.map(b, IOVA + 0x20_0000, wrong_page)?;
            b.put(table + 8 * (IOVA >> 12 & 0x1ff), page | 3 | S1_RW);
            b.lands(0, IOVA, page)
        },
    ),
    check(
        "walks/nested-blocks",
        "3.3.2",
        "both stages: a block of one over pages of the other",
        &[NESTING],
        |b| {
            b.start(0)?;
            let (first, second, both) = (b.page()?, b.page()?, nested(b, 0, ASID, VMID)?);
            both.one.tables.map_at(b, IOVA, 2, ALIAS, S1_RW)?;
            both.two.map2(b, ALIAS, first)?;
            both.two.map2(b, ALIAS + 0x1000, second)?;
            b.lands(0, IOVA, first)?;
            b.lands(0, IOVA + 0x1000, second)?;
            b.faults(
                0,
                IOVA + 0x2000,
                s2_at(EventKind::F_TRANSLATION, IOVA + 0x2000, ALIAS + 0x2000),
            )
        },
    ),
    check(
        "walks/nested-allows-what-both-do",
        "7.3.16",
        "both stages: a write needs the right of each",
        &[NESTING],
        |b| {
            b.start(0)?;
            let (page, both) = (b.page()?, nested(b, 0, ASID, VMID)?);
            both.one.tables.map_at(b, IOVA, 3, ALIAS, S1_RW | AP_READ_ONLY)?;
            both.two.map2(b, ALIAS, page)?;
            b.faults(0, IOVA, s1(EventKind::F_PERMISSION, IOVA))?;
            both.one.tables.map(b, IOVA + 0x1000, ALIAS + 0x1000)?;
            both.two.map_at(b, ALIAS + 0x1000, 3, page, S2_RW & !S2_WRITE)?;
            b.faults(
                0,
                IOVA + 0x1000,
                s2_at(EventKind::F_PERMISSION, IOVA + 0x1000, ALIAS + 0x1000),
            )
        },
    ),
    check(
        "walks/off",
        "6.3.9.6",
        "an SMMU that is off lets DMA pass, or aborts it by GBPA",
        &[],
        |b| {
            b.queues(0)?;
            let page = b.page()?;
            same("a DMA while the SMMU is off", Landed::Page(page), b.dma(0, page)?)?;
            b.abort_all(0, true)?;
            same("a DMA with GBPA.ABORT", Landed::Nowhere, b.dma(0, page)?)?;
            b.abort_all(0, false)?;
            same("a DMA without GBPA.ABORT", Landed::Page(page), b.dma(0, page)?)?;
            b.enable(0, cr0::CMDQEN | cr0::EVENTQEN)?;
            let landed = b.dma(0, page)?;
            same("a DMA while only queues are on", Landed::Page(page), landed)
        },
    ),
    check(
        "walks/off-beyond-output",
        "3.4",
        "an SMMU that is off aborts addresses beyond OAS, silently",
        &[BOUNDED],
        |b| {
            b.queues(0)?;
            b.enable(0, cr0::CMDQEN | cr0::EVENTQEN)?;
            b.refused_silently(0, 1 << output_size(b).bits())
        },
    ),
    check("walks/bypass", "3.3.2", "an STE that bypasses lets DMA pass", &[], |b| {
        b.start(0)?;
        let page = b.page()?;
        set_ste(b, 0, Ste::bypass(smmu_types::ShareabilityOverride::Incoming))?;
        b.lands(0, page, page)
    }),
    check(
        "walks/bypass-beyond-output",
        "3.4",
        "an STE that bypasses faults beyond OAS",
        &[BOUNDED],
        |b| {
            b.start(0)?;
            set_ste(b, 0, Ste::bypass(smmu_types::ShareabilityOverride::Incoming))?;
            let beyond = 1 << output_size(b).bits();
            b.faults(0, beyond, s1(EventKind::F_ADDR_SIZE, beyond))
        },
    ),
];

/// Stage 2: a page of another granule.
fn page2_of(b: &mut Bench, granule: Granule) -> Checked {
    b.start(0)?;
    let block = b.allocate(granule.bytes())?;
    let (page, tables) = (block + 0x2000, Tables::from_level(b, granule, 36, 2)?);
    b.watch(page);
    stage2_with(b, 0, VMID, tables)?;
    tables.map2(b, IOVA, block)?;
    b.lands(0, IOVA + 0x2000, page)
}
