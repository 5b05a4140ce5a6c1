//! What an invalidation must remove. An SMMU may remove more, or cache nothing.

use smmu_types::fields::cd as cd_field;
use smmu_types::regs::cr0;
use smmu_types::{Cd, Command, EventKind, EventRecord, Leaf, SteRange, StreamId};

use super::bench::{Bench, smmu_of, stream_of};
use super::check::{Check, Group, NESTING, RANGES, SEVERAL, STAGE1, STAGE2, checks_of};
use super::ended::Checked;
use super::pages::{AP_READ_ONLY, NOT_GLOBAL, S1_RW, S2_RW, Tables};
use super::tables::{
    ALIAS, ASID, Context, IOVA, OTHER_ASID, VMID, cd, cfgi_cd, cfgi_ste, nested, nh_all, nh_asid,
    nh_va, nh_vaa, s1, s2_ipa, s12_vmall, set_ste, stage1, stage1_ste, stage2, ste_of,
};

/// The block of 2 MiB behind [`ALIAS`].
const OTHER_ALIAS: u64 = ALIAS + (2 << 20);

checks_of!(Group::Caches);

pub(super) const CHECKS: &[Check] = &[
    check(
        "caches/faults-are-not-cached",
        "3.21.1",
        "a page that becomes valid needs no invalidation",
        &[STAGE1],
        |b| {
            b.start(0)?;
            let (page, context) = (b.page()?, stage1(b, 0, ASID)?);
            b.faults(0, IOVA, s1(EventKind::F_TRANSLATION, IOVA))?;
            context.tables.map(b, IOVA, page)?;
            b.lands(0, IOVA, page)
        },
    ),
    check("caches/drop-nh-va", "4.4.2.4", "TLBI_NH_VA drops a page", &[STAGE1], |b| {
        drops(b, &[nh_va(0, ASID, IOVA, Leaf::All)?])
    }),
    check(
        "caches/drop-nh-va-leaf",
        "4.4.2.4",
        "TLBI_NH_VA with Leaf = 1 drops a page",
        &[STAGE1],
        |b| drops(b, &[nh_va(0, ASID, IOVA, Leaf::Last)?]),
    ),
    check(
        "caches/drop-nh-vaa",
        "4.4.2.3",
        "TLBI_NH_VAA drops a page of every ASID",
        &[STAGE1],
        |b| drops(b, &[nh_vaa(0, IOVA, Leaf::All)?]),
    ),
    check(
        "caches/drop-nh-vaa-leaf",
        "4.4.2.3",
        "TLBI_NH_VAA with Leaf = 1 drops a page",
        &[STAGE1],
        |b| drops(b, &[nh_vaa(0, IOVA, Leaf::Last)?]),
    ),
    check("caches/drop-nh-asid", "4.4.2.2", "TLBI_NH_ASID drops a page", &[STAGE1], |b| {
        drops(b, &[nh_asid(0, ASID)])
    }),
    check("caches/drop-nh-all", "4.4.2.1", "TLBI_NH_ALL drops a page", &[STAGE1], |b| {
        drops(b, &[nh_all(0)])
    }),
    check("caches/drop-nsnh-all", "4.4.4.1", "TLBI_NSNH_ALL drops a page", &[STAGE1], |b| {
        drops(b, &[Command::TlbiNsnhAll])
    }),
    check(
        "caches/drop-s12-vmall",
        "4.4.3.2",
        "TLBI_S12_VMALL drops a page of stage 1",
        &[NESTING],
        |b| drops(b, &[s12_vmall(0)]),
    ),
    check(
        "caches/drop-unmapped",
        "4.4.2.4",
        "after TLBI_NH_VA a page that was unmapped faults",
        &[STAGE1],
        |b| {
            let context = cached(b)?;
            let slot = context.tables.slot(b, IOVA, 3)?;
            b.put(slot, 0);
            b.send(0, &[nh_va(0, ASID, IOVA, Leaf::Last)?])?;
            b.faults(0, IOVA, s1(EventKind::F_TRANSLATION, IOVA))
        },
    ),
    check(
        "caches/drop-permission",
        "4.4.2.4",
        "after TLBI_NH_VA a page that became read-only refuses, and one that became writable does not",
        &[STAGE1],
        |b| {
            b.start(0)?;
            let (page, context) = (b.page()?, stage1(b, 0, ASID)?);
            for (attributes, writes) in
                [(S1_RW, true), (S1_RW | AP_READ_ONLY, false), (S1_RW, true)]
            {
                context.tables.map_at(b, IOVA, 3, page, attributes)?;
                b.send(0, &[nh_va(0, ASID, IOVA, Leaf::Last)?])?;
                match writes {
                    true => b.lands(0, IOVA, page)?,
                    false => b.faults(0, IOVA, s1(EventKind::F_PERMISSION, IOVA))?,
                }
            }
            Ok(())
        },
    ),
    check(
        "caches/drop-global-by-va",
        "4.4.2.4",
        "TLBI_NH_VA of any ASID drops a global page",
        &[STAGE1],
        |b| drops_global(b, nh_va(0, OTHER_ASID, IOVA, Leaf::Last)?),
    ),
    check(
        "caches/drop-global-by-all",
        "4.4.2.1",
        "TLBI_NH_ALL drops a global page",
        &[STAGE1],
        |b| drops_global(b, nh_all(0)),
    ),
    check(
        "caches/drop-global-by-vaa",
        "4.4.2.3",
        "TLBI_NH_VAA drops a global page",
        &[STAGE1],
        |b| drops_global(b, nh_vaa(0, IOVA, Leaf::Last)?),
    ),
    check(
        "caches/drop-block-by-any-page",
        "4.4",
        "the low bits of an address do not count for a block",
        &[STAGE1],
        |b| {
            b.start(0)?;
            let context = stage1(b, 0, ASID)?;
            let (old, new) = (b.page_at_multiple(2 << 20, 0)?, b.page()?);
            context.tables.map_at(b, IOVA, 2, old, S1_RW)?;
            b.lands(0, IOVA, old)?;
            let slot = context.tables.slot(b, IOVA, 2)?;
            b.put(slot, 0);
            context.tables.map(b, IOVA, new)?;
            b.send(0, &[nh_va(0, ASID, IOVA + 0x12_3000, Leaf::All)?])?;
            b.lands(0, IOVA, new)
        },
    ),
    check(
        "caches/drop-tables",
        "4.4.1.1",
        "Leaf = 0 drops the tables on the way",
        &[STAGE1],
        |b| {
            let context = cached(b)?;
            let (table, new) = (b.allocate(0x1000)?, b.page()?);
            b.put(table + 8 * (IOVA >> 12 & 0x1ff), new | 3 | S1_RW);
            let slot = context.tables.slot(b, IOVA, 2)?;
            b.put(slot, table | 3);
            b.send(0, &[nh_va(0, ASID, IOVA, Leaf::All)?])?;
            b.lands(0, IOVA, new)
        },
    ),
    check(
        "caches/drop-range",
        "4.4.1.1",
        "a range drops each page of it",
        &[STAGE1, RANGES],
        |b| {
            // (3 + 1) * 2^1 pages.
            ranged(b, 8, 3, 1, 0)
        },
    ),
    check(
        "caches/drop-range-one-scale",
        "4.4.1.1",
        "a range without SCALE drops NUM + 1 pages",
        &[STAGE1, RANGES],
        |b| ranged(b, 5, 4, 0, 0),
    ),
    check(
        "caches/drop-range-hint",
        "4.4.1.1",
        "a range with the level of its pages drops them",
        &[STAGE1, RANGES],
        |b| ranged(b, 4, 3, 0, 3),
    ),
    check(
        "caches/drop-range-s2",
        "4.4.1.1",
        "a range of TLBI_S2_IPA drops each page of it",
        &[STAGE2, RANGES],
        |b| {
            b.start(0)?;
            let (tables, old, new) = (stage2(b, 0, VMID)?, b.page()?, b.page()?);
            for n in 0..8 {
                tables.map2(b, IOVA + 0x1000 * n, old)?;
                b.lands(0, IOVA + 0x1000 * n, old)?;
                tables.map2(b, IOVA + 0x1000 * n, new)?;
            }
            b.send_words(
                0,
                &[[0x2a | 3 << 12 | 1 << 20 | u64::from(VMID) << 32, IOVA | 1 << 10 | 1]],
            )?;
            (0..8).try_for_each(|n| b.lands(0, IOVA + 0x1000 * n, new))
        },
    ),
    check("caches/drop-s2-ipa", "4.4.3.1", "TLBI_S2_IPA drops a page of stage 2", &[STAGE2], |b| {
        drops2(b, &[s2_ipa(VMID, IOVA, Leaf::All)?])
    }),
    check(
        "caches/drop-s2-ipa-leaf",
        "4.4.3.1",
        "TLBI_S2_IPA with Leaf = 1 drops a page of stage 2",
        &[STAGE2],
        |b| drops2(b, &[s2_ipa(VMID, IOVA, Leaf::Last)?]),
    ),
    check(
        "caches/drop-s2-vmall",
        "4.4.3.2",
        "TLBI_S12_VMALL drops a page of stage 2",
        &[STAGE2],
        |b| drops2(b, &[s12_vmall(VMID)]),
    ),
    check(
        "caches/drop-s2-nsnh-all",
        "4.4.4.1",
        "TLBI_NSNH_ALL drops a page of stage 2",
        &[STAGE2],
        |b| drops2(b, &[Command::TlbiNsnhAll]),
    ),
    check(
        "caches/drop-nested-s1",
        "4.4.2.4",
        "both stages: TLBI_NH_VA drops a changed stage 1",
        &[NESTING],
        |b| {
            b.start(0)?;
            let (old, new, both) = (b.page()?, b.page()?, nested(b, 0, ASID, VMID)?);
            both.two.map2(b, ALIAS, old)?;
            both.two.map2(b, ALIAS + 0x1000, new)?;
            both.one.tables.map(b, IOVA, ALIAS)?;
            b.lands(0, IOVA, old)?;
            both.one.tables.map(b, IOVA, ALIAS + 0x1000)?;
            b.send(0, &[nh_va(VMID, ASID, IOVA, Leaf::Last)?])?;
            b.lands(0, IOVA, new)
        },
    ),
    check(
        "caches/drop-nested-s2",
        "4.4.3.1",
        "both stages: TLBI_S2_IPA and TLBI_NH_ALL drop a changed stage 2",
        &[NESTING],
        |b| drops_nested2(b, &[s2_ipa(VMID, ALIAS, Leaf::Last)?, nh_all(VMID)]),
    ),
    check(
        "caches/drop-nested-vmall",
        "4.4.3.2",
        "both stages: TLBI_S12_VMALL drops a changed stage 2",
        &[NESTING],
        |b| drops_nested2(b, &[s12_vmall(VMID)]),
    ),
    check(
        "caches/drop-nested-block",
        "4.4.2.4",
        "both stages: TLBI_NH_VA of any page of a block of stage 1 drops what stage 2 made of it",
        &[NESTING],
        |b| {
            b.start(0)?;
            let (old, new, both) = (b.page()?, b.page()?, nested(b, 0, ASID, VMID)?);
            both.two.map2(b, ALIAS, old)?;
            both.two.map2(b, OTHER_ALIAS, new)?;
            both.one.tables.map_at(b, IOVA, 2, ALIAS, S1_RW)?;
            b.lands(0, IOVA, old)?;
            both.one.tables.map_at(b, IOVA, 2, OTHER_ALIAS, S1_RW)?;
            b.send(0, &[nh_va(VMID, ASID, IOVA + 0x12_3000, Leaf::Last)?])?;
            b.lands(0, IOVA, new)
        },
    ),
    check(
        "caches/drop-while-off",
        "6.3.9.6",
        "an invalidation works while the SMMU is off",
        &[STAGE1],
        |b| {
            let context = cached(b)?;
            let new = b.page()?;
            b.enable(0, cr0::CMDQEN | cr0::EVENTQEN)?;
            context.tables.map(b, IOVA, new)?;
            b.send(0, &[nh_asid(0, ASID)])?;
            b.enable(0, cr0::CMDQEN | cr0::EVENTQEN | cr0::SMMUEN)?;
            b.lands(0, IOVA, new)
        },
    ),
    check(
        "caches/drop-for-each-stream",
        "4.4.2.2",
        "TLBI_NH_ASID drops what each stream of an ASID cached",
        &[STAGE1],
        |b| {
            let context = cached(b)?;
            let new = b.page()?;
            set_ste(b, 1, stage1_ste(context.cd)?)?;
            b.dma(1, IOVA)?;
            context.tables.map(b, IOVA, new)?;
            b.send(0, &[nh_asid(0, ASID)])?;
            b.lands(0, IOVA, new)?;
            b.lands(1, IOVA, new)
        },
    ),
    check(
        "caches/drop-before-the-sync",
        "4.7.3",
        "an invalidation is complete when its CMD_SYNC is",
        &[STAGE1],
        |b| {
            let context = cached(b)?;
            let pages = [b.page()?, b.page()?];
            for n in 0..20 {
                let page = pages[n % 2];
                context.tables.map(b, IOVA, page)?;
                b.send(0, &[nh_va(0, ASID, IOVA, Leaf::Last)?])?;
                b.lands(0, IOVA, page)?;
            }
            Ok(())
        },
    ),
    check(
        "caches/drop-on-each-smmu",
        "4.4",
        "each SMMU drops by its own queue",
        &[SEVERAL, STAGE1],
        |b| {
            b.start(0)?;
            b.start(1)?;
            let (old, new, context) = (b.page()?, b.page()?, stage1(b, 0, ASID)?);
            set_ste(b, 2, stage1_ste(context.cd)?)?;
            context.tables.map(b, IOVA, old)?;
            b.lands(0, IOVA, old)?;
            b.lands(2, IOVA, old)?;
            context.tables.map(b, IOVA, new)?;
            b.send(0, &[nh_asid(0, ASID)])?;
            b.send(1, &[nh_asid(0, ASID)])?;
            b.lands(0, IOVA, new)?;
            b.lands(2, IOVA, new)
        },
    ),
    check("caches/drop-ste", "4.3.1", "CFGI_STE drops an STE", &[STAGE1], |b| {
        drops_ste(b, cfgi_ste(0))
    }),
    check(
        "caches/drop-ste-range",
        "4.3.2",
        "CFGI_STE_RANGE drops the STEs of its range",
        &[STAGE1],
        |b| {
            // 2^4 streams from 0: 0x8 is one.
            drops_ste(b, Command::CfgiSteRange { stream: StreamId(0xf), range: SteRange::new(3)? })
        },
    ),
    check("caches/drop-ste-all", "4.3.6", "CFGI_ALL drops every STE", &[STAGE1], |b| {
        drops_ste(b, Command::CfgiAll)
    }),
    check(
        "caches/drop-invalid-ste",
        "4.3.1",
        "after CFGI_STE an STE that became invalid faults",
        &[STAGE1],
        |b| {
            cached(b)?;
            b.put(ste_of(b, 0), 0);
            b.send(0, &[cfgi_ste(0)])?;
            b.faults(0, IOVA, EventRecord::new(EventKind::C_BAD_STE, stream_of(0)))
        },
    ),
    check("caches/drop-cd", "4.3.3", "CFGI_CD drops a CD", &[STAGE1], |b| drops_cd(b, cfgi_cd(0))),
    check("caches/drop-cd-all", "4.3.4", "CFGI_CD_ALL drops the CDs of a stream", &[STAGE1], |b| {
        drops_cd(b, Command::CfgiCdAll { stream: stream_of(0) })
    }),
    check(
        "caches/drop-cd-by-ste",
        "4.3.1",
        "CFGI_STE drops the CDs of its stream",
        &[STAGE1],
        |b| drops_cd(b, cfgi_ste(0)),
    ),
    check(
        "caches/drop-cd-by-range",
        "4.3.2",
        "CFGI_STE_RANGE drops the CDs of its streams",
        &[STAGE1],
        |b| drops_cd(b, Command::CfgiSteRange { stream: StreamId(0), range: SteRange::new(3)? }),
    ),
    check("caches/drop-cd-by-all", "4.3.6", "CFGI_ALL drops every CD", &[STAGE1], |b| {
        drops_cd(b, Command::CfgiAll)
    }),
    check(
        "caches/drop-cd-fields",
        "4.3.3",
        "after CFGI_CD a changed AFFD counts",
        &[STAGE1],
        |b| {
            let context = cached(b)?;
            let slot = context.tables.slot(b, IOVA + 0x1000, 3)?;
            let page = b.page()?;
            b.put(slot, page | 3 | S1_RW & !super::pages::AF);
            b.faults(0, IOVA + 0x1000, s1(EventKind::F_ACCESS, IOVA + 0x1000))?;
            super::tables::change_cd(b, &context, |cd| cd.with(cd_field::AFFD, 1))?;
            b.send(0, &[nh_asid(0, ASID)])?;
            b.lands(0, IOVA + 0x1000, page)
        },
    ),
];

/// Device 0 with stage 1, and a page that a DMA has used.
pub(super) fn cached(b: &mut Bench) -> Checked<Context> {
    b.start(0)?;
    let (page, context) = (b.page()?, stage1(b, 0, ASID)?);
    context.tables.map(b, IOVA, page)?;
    b.lands(0, IOVA, page)?;
    Ok(context)
}

/// Stage 1: a page is moved, and the commands make the SMMU see it.
fn drops(b: &mut Bench, commands: &[Command]) -> Checked {
    let context = cached(b)?;
    let new = b.page()?;
    context.tables.map(b, IOVA, new)?;
    b.send(0, commands)?;
    b.lands(0, IOVA, new)
}

fn drops_global(b: &mut Bench, command: Command) -> Checked {
    b.start(0)?;
    let (old, new, context) = (b.page()?, b.page()?, stage1(b, 0, ASID)?);
    context.tables.map_at(b, IOVA, 3, old, S1_RW & !NOT_GLOBAL)?;
    b.lands(0, IOVA, old)?;
    context.tables.map_at(b, IOVA, 3, new, S1_RW & !NOT_GLOBAL)?;
    b.send(0, &[command])?;
    b.lands(0, IOVA, new)
}

/// Stage 2: a page is moved, and the commands make the SMMU see it.
fn drops2(b: &mut Bench, commands: &[Command]) -> Checked {
    b.start(0)?;
    let (old, new, tables) = (b.page()?, b.page()?, stage2(b, 0, VMID)?);
    tables.map2(b, IOVA, old)?;
    b.lands(0, IOVA, old)?;
    tables.map_at(b, IOVA, 3, new, S2_RW)?;
    b.send(0, commands)?;
    b.lands(0, IOVA, new)
}

fn drops_nested2(b: &mut Bench, commands: &[Command]) -> Checked {
    b.start(0)?;
    let (old, new, both) = (b.page()?, b.page()?, nested(b, 0, ASID, VMID)?);
    both.two.map2(b, ALIAS, old)?;
    both.one.tables.map(b, IOVA, ALIAS)?;
    b.lands(0, IOVA, old)?;
    both.two.map2(b, ALIAS, new)?;
    b.send(0, commands)?;
    b.lands(0, IOVA, new)
}

/// Pages are moved, and one range makes the SMMU see all of them.
fn ranged(b: &mut Bench, pages: u64, num: u64, scale: u64, ttl: u64) -> Checked {
    b.start(0)?;
    let (old, new, context) = (b.page()?, b.page()?, stage1(b, 0, ASID)?);
    for n in 0..pages {
        context.tables.map(b, IOVA + 0x1000 * n, old)?;
        b.lands(0, IOVA + 0x1000 * n, old)?;
        context.tables.map(b, IOVA + 0x1000 * n, new)?;
    }
    let word = 0x12 | num << 12 | scale << 20 | u64::from(ASID) << 48;
    b.send_words(0, &[[word, IOVA | 1 << 10 | ttl << 8 | 1]])?;
    (0..pages).try_for_each(|n| b.lands(0, IOVA + 0x1000 * n, new))
}

/// An STE that leads to another CD, and the command that makes the SMMU see it.
fn drops_ste(b: &mut Bench, command: Command) -> Checked {
    cached(b)?;
    let (new, other) = other_cd(b)?;
    b.put_all(ste_of(b, 0), &stage1_ste(other)?.0);
    b.send(smmu_of(0), &[command])?;
    b.lands(0, IOVA, new)
}

/// A CD with other tables and another ASID, and the command that makes the SMMU see it.
fn drops_cd(b: &mut Bench, command: Command) -> Checked {
    let context = cached(b)?;
    let (new, other) = other_cd(b)?;
    for n in 0..8 {
        b.put(context.cd + 8 * n, b.get(other + 8 * n));
    }
    b.send(smmu_of(0), &[command])?;
    b.lands(0, IOVA, new)
}

/// A CD that leads `IOVA` to another page, and the page before it.
pub(super) fn other_cd(b: &mut Bench) -> Checked<(u64, u64)> {
    let (page, tables) = (b.page()?, Tables::new(b, smmu_types::Granule::K4, 39)?);
    tables.map(b, IOVA, page)?;
    let words: Cd = cd(b, OTHER_ASID, &tables)?;
    let at = b.allocate(64)?;
    b.put_all(at, &words.0);
    Ok((page, at))
}
