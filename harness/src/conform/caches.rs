//! What an invalidation must not be needed for, and what stays without the right one. Only for caches
//! that keep what they hold until a command must remove it.

use smmu_types::regs::cr0;
use smmu_types::{Command, Leaf, SteRange, StreamId};

use super::bench::Bench;
use super::check::{CACHES, Check, Group, NESTING, RANGES, SEVERAL, STAGE1, STAGE2, checks_of};
use super::ended::Checked;
use super::invalidation::{cached, other_cd};
use super::pages::{NOT_GLOBAL, S1_RW};
use super::tables::{
    ALIAS, ASID, IOVA, OTHER_ASID, OTHER_VMID, VMID, cfgi_cd, cfgi_ste, nested, nh_all, nh_asid,
    nh_va, nh_vaa, s2_ipa, s12_vmall, set_ste, stage1, stage1_ste, stage2, ste_of,
};

checks_of!(Group::Caches);

pub(super) const CHECKS: &[Check] = &[
    check(
        "caches/keep",
        "3.21.1",
        "a moved page is not seen without an invalidation",
        &[CACHES, STAGE1],
        |b| keeps(b, &[]),
    ),
    check(
        "caches/keep-unmapped",
        "3.21.1",
        "an unmapped page is used without an invalidation",
        &[CACHES, STAGE1],
        |b| {
            let (page, context) = with_page(b)?;
            let slot = context.tables.slot(b, IOVA, 3)?;
            b.put(slot, 0);
            b.lands(0, IOVA, page)
        },
    ),
    check(
        "caches/keep-other-asid",
        "4.4.2.2",
        "TLBI_NH_ASID of another ASID keeps a page",
        &[CACHES, STAGE1],
        |b| keeps(b, &[nh_asid(0, OTHER_ASID)]),
    ),
    check(
        "caches/keep-va-other-asid",
        "4.4.2.4",
        "TLBI_NH_VA of another ASID keeps a page",
        &[CACHES, STAGE1],
        |b| keeps(b, &[nh_va(0, OTHER_ASID, IOVA, Leaf::All)?]),
    ),
    check(
        "caches/keep-va-other-page",
        "4.4.2.4",
        "TLBI_NH_VA of a neighbour keeps a page",
        &[CACHES, STAGE1],
        |b| {
            let neighbours = [IOVA - 0x1000, IOVA + 0x1000, IOVA + (1 << 30)];
            let commands: Vec<Command> = neighbours
                .into_iter()
                .map(|va| nh_va(0, ASID, va, Leaf::Last))
                .collect::<Checked<_>>()?;
            keeps(b, &commands)
        },
    ),
    check(
        "caches/keep-vaa-other-page",
        "4.4.2.3",
        "TLBI_NH_VAA of a neighbour keeps a page",
        &[CACHES, STAGE1],
        |b| keeps(b, &[nh_vaa(0, IOVA + 0x1000, Leaf::Last)?]),
    ),
    check(
        "caches/keep-other-vmid",
        "4.4.2",
        "TLBI_NH of another VMID keeps a page",
        &[CACHES, NESTING],
        |b| {
            let vmid = OTHER_VMID;
            keeps(b, &[nh_all(vmid), nh_asid(vmid, ASID), nh_va(vmid, ASID, IOVA, Leaf::All)?])
        },
    ),
    check(
        "caches/keep-vmall-other-vmid",
        "4.4.3.2",
        "TLBI_S12_VMALL of another VMID keeps a page",
        &[CACHES, NESTING],
        |b| keeps(b, &[s12_vmall(OTHER_VMID)]),
    ),
    check(
        "caches/keep-over-cfgi",
        "4.3.1",
        "CFGI commands keep translations",
        &[CACHES, STAGE1],
        |b| keeps(b, &[cfgi_cd(0), cfgi_ste(0), Command::CfgiAll]),
    ),
    check(
        "caches/keep-over-sync",
        "4.7.3",
        "CMD_SYNC alone keeps a page",
        &[CACHES, STAGE1],
        |b| keeps(b, &[Command::SYNC, Command::SYNC]),
    ),
    check(
        "caches/keep-while-off",
        "6.3.9.6",
        "turning the SMMU off keeps a page",
        &[CACHES, STAGE1],
        |b| {
            let (page, context) = with_page(b)?;
            let new = b.page()?;
            context.tables.map(b, IOVA, new)?;
            b.enable(0, cr0::CMDQEN | cr0::EVENTQEN)?;
            b.enable(0, cr0::CMDQEN | cr0::EVENTQEN | cr0::SMMUEN)?;
            b.lands(0, IOVA, page)
        },
    ),
    check(
        "caches/keep-global-over-asid",
        "4.4.2.2",
        "TLBI_NH_ASID keeps a global page",
        &[CACHES, STAGE1],
        |b| {
            b.start(0)?;
            let (old, new, context) = (b.page()?, b.page()?, stage1(b, 0, ASID)?);
            context.tables.map_at(b, IOVA, 3, old, S1_RW & !NOT_GLOBAL)?;
            b.lands(0, IOVA, old)?;
            context.tables.map_at(b, IOVA, 3, new, S1_RW & !NOT_GLOBAL)?;
            b.send(0, &[nh_asid(0, ASID)])?;
            b.lands(0, IOVA, old)
        },
    ),
    check(
        "caches/keep-beside-range",
        "4.4.1.1",
        "a range keeps the pages on both sides of it",
        &[CACHES, STAGE1, RANGES],
        |b| {
            b.start(0)?;
            let (old, new, context) = (b.page()?, b.page()?, stage1(b, 0, ASID)?);
            for n in 0..10 {
                context.tables.map(b, IOVA + 0x1000 * n, old)?;
                b.lands(0, IOVA + 0x1000 * n, old)?;
                context.tables.map(b, IOVA + 0x1000 * n, new)?;
            }
            // (3 + 1) * 2^1 pages from the second.
            let word = 0x12 | 3 << 12 | 1 << 20 | u64::from(ASID) << 48;
            b.send_words(0, &[[word, (IOVA + 0x1000) | 1 << 10 | 1]])?;
            b.lands(0, IOVA, old)?;
            b.lands(0, IOVA + 0x9000, old)?;
            (1..9).try_for_each(|n| b.lands(0, IOVA + 0x1000 * n, new))
        },
    ),
    check(
        "caches/keep-other-stream-by-asid",
        "3.17",
        "streams with one ASID share what is cached",
        &[CACHES, STAGE1],
        |b| {
            // Another tree with the same ASID: what the first stream cached counts for both.
            let (page, context) = with_page(b)?;
            set_ste(b, 1, stage1_ste(context.cd)?)?;
            let slot = context.tables.slot(b, IOVA, 3)?;
            b.put(slot, 0);
            b.lands(1, IOVA, page)
        },
    ),
    check(
        "caches/keep-s2",
        "3.21.1",
        "stage 2: a moved page is not seen without an invalidation",
        &[CACHES, STAGE2],
        |b| keeps2(b, &[]),
    ),
    check(
        "caches/keep-s2-other-vmid",
        "4.4.3",
        "stage 2: invalidations of another VMID keep a page",
        &[CACHES, STAGE2],
        |b| keeps2(b, &[s12_vmall(OTHER_VMID), s2_ipa(OTHER_VMID, IOVA, Leaf::All)?]),
    ),
    check(
        "caches/keep-s2-other-page",
        "4.4.3.1",
        "stage 2: TLBI_S2_IPA of a neighbour keeps a page",
        &[CACHES, STAGE2],
        |b| keeps2(b, &[s2_ipa(VMID, IOVA + 0x1000, Leaf::Last)?]),
    ),
    check(
        "caches/keep-s2-over-nh",
        "4.4.2.1",
        "stage 2: TLBI_NH_ALL keeps a page",
        &[CACHES, NESTING],
        |b| keeps2(b, &[nh_all(VMID)]),
    ),
    check(
        "caches/keep-nested",
        "3.21.1",
        "both stages: a moved page of stage 2 is not seen at once",
        &[CACHES, NESTING],
        |b| keeps_nested(b, &[]),
    ),
    check(
        "caches/keep-nested-other-vmid",
        "4.4.3.2",
        "both stages: another VMID keeps a page",
        &[CACHES, NESTING],
        |b| {
            let vmid = OTHER_VMID;
            keeps_nested(b, &[s12_vmall(vmid), s2_ipa(vmid, ALIAS, Leaf::Last)?, nh_all(vmid)])
        },
    ),
    check(
        "caches/keep-on-other-smmu",
        "4.4",
        "an invalidation on one SMMU keeps what another has",
        &[CACHES, SEVERAL, STAGE1],
        |b| {
            b.start(0)?;
            b.start(1)?;
            let (old, new, context) = (b.page()?, b.page()?, stage1(b, 0, ASID)?);
            set_ste(b, 2, stage1_ste(context.cd)?)?;
            context.tables.map(b, IOVA, old)?;
            b.lands(0, IOVA, old)?;
            b.lands(2, IOVA, old)?;
            context.tables.map(b, IOVA, new)?;
            b.send(0, &[Command::TlbiNsnhAll])?;
            b.lands(0, IOVA, new)?;
            b.lands(2, IOVA, old)
        },
    ),
    check(
        "caches/keep-ste",
        "4.3",
        "a changed STE is not seen without CFGI_STE",
        &[CACHES, STAGE1],
        |b| keeps_ste(b, &[]),
    ),
    check(
        "caches/keep-ste-of-other",
        "4.3.1",
        "CFGI_STE of another stream keeps an STE",
        &[CACHES, STAGE1],
        |b| keeps_ste(b, &[cfgi_ste(1)]),
    ),
    check(
        "caches/keep-ste-beside-range",
        "4.3.2",
        "CFGI_STE_RANGE keeps the STEs beside its range",
        &[CACHES, STAGE1],
        |b| {
            // 2^3 streams from 0 and from 0x10: 0x8 is in neither.
            let range = SteRange::new(2)?;
            let of = |stream| Command::CfgiSteRange { stream: StreamId(stream), range };
            keeps_ste(b, &[of(0x7), of(0x10)])
        },
    ),
    check("caches/keep-ste-over-cd", "4.3.3", "CFGI_CD keeps an STE", &[CACHES, STAGE1], |b| {
        keeps_ste(b, &[cfgi_cd(0)])
    }),
    check(
        "caches/keep-ste-over-tlbi",
        "4.4",
        "TLBI commands keep an STE",
        &[CACHES, STAGE1],
        |b| keeps_ste(b, &[nh_asid(0, ASID), Command::TlbiNsnhAll]),
    ),
    check(
        "caches/keep-cd",
        "4.3",
        "a changed CD is not seen without CFGI_CD",
        &[CACHES, STAGE1],
        |b| keeps_cd(b, &[]),
    ),
    check(
        "caches/keep-cd-of-other",
        "4.3.3",
        "CFGI_CD of another stream keeps a CD",
        &[CACHES, STAGE1],
        |b| keeps_cd(b, &[cfgi_cd(1), cfgi_ste(1)]),
    ),
    check(
        "caches/keep-invalid-ste",
        "4.3",
        "an STE that became invalid works on without CFGI_STE",
        &[CACHES, STAGE1],
        |b| {
            let (page, _) = with_page(b)?;
            b.put(ste_of(b, 0), 0);
            b.lands(0, IOVA, page)
        },
    ),
];

fn with_page(b: &mut Bench) -> Checked<(u64, super::tables::Context)> {
    let context = cached(b)?;
    let slot = context.tables.slot(b, IOVA, 3)?;
    Ok((b.get(slot) & 0xffff_ffff_f000, context))
}

/// Stage 1: a page is moved, and the SMMU uses the old one after these commands, until the right one.
fn keeps(b: &mut Bench, commands: &[Command]) -> Checked {
    let (old, context) = with_page(b)?;
    let new = b.page()?;
    context.tables.map(b, IOVA, new)?;
    b.send(0, commands)?;
    b.lands(0, IOVA, old)?;
    b.send(0, &[nh_va(0, ASID, IOVA, Leaf::Last)?])?;
    b.lands(0, IOVA, new)
}

fn keeps2(b: &mut Bench, commands: &[Command]) -> Checked {
    b.start(0)?;
    let (old, new, tables) = (b.page()?, b.page()?, stage2(b, 0, VMID)?);
    tables.map2(b, IOVA, old)?;
    b.lands(0, IOVA, old)?;
    tables.map2(b, IOVA, new)?;
    b.send(0, commands)?;
    b.lands(0, IOVA, old)
}

fn keeps_nested(b: &mut Bench, commands: &[Command]) -> Checked {
    b.start(0)?;
    let (old, new, both) = (b.page()?, b.page()?, nested(b, 0, ASID, VMID)?);
    both.two.map2(b, ALIAS, old)?;
    both.one.tables.map(b, IOVA, ALIAS)?;
    b.lands(0, IOVA, old)?;
    both.two.map2(b, ALIAS, new)?;
    b.send(0, commands)?;
    b.lands(0, IOVA, old)
}

fn keeps_ste(b: &mut Bench, commands: &[Command]) -> Checked {
    let (old, _) = with_page(b)?;
    let (_, other) = other_cd(b)?;
    b.put_all(ste_of(b, 0), &stage1_ste(other)?.0);
    b.send(0, commands)?;
    b.lands(0, IOVA, old)
}

fn keeps_cd(b: &mut Bench, commands: &[Command]) -> Checked {
    let (old, context) = with_page(b)?;
    let (_, other) = other_cd(b)?;
    for n in 0..8 {
        b.put(context.cd + 8 * n, b.get(other + 8 * n));
    }
    b.send(0, commands)?;
    b.lands(0, IOVA, old)
}
