//! The instruction counts of arrays and of invalidations.
//!
//! `cargo xtask bench` runs this under valgrind, and compares each `<case>_kept` with the count in
//! `instructions.json` beside this file. If a higher count is right, `cargo xtask bench --keep`
//! writes it there. The sink of the invalidations discards the commands.
#![expect(missing_docs, reason = "the macros make public modules")]
#![expect(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

mod discard;

use std::hint::black_box;

use discard::Discard;
use gungraun::{library_benchmark, library_benchmark_group, main};
use smmu_invs::{InvArray, InvSpec};
use smmu_types::range::{Extent, RangeSupport};
use smmu_types::{Asid, CacheTag, Granule, Leaf, Regime, SmmuId, StreamId, Vmid};

fn asid(smmu: u16, asid: u16) -> InvSpec {
    let tag = CacheTag::Asid(Regime::El1, Asid(asid));
    InvSpec::tagged(SmmuId(smmu), tag, RangeSupport::Ril)
}

/// One tag of one SMMU; each further entry is a device with ATS.
fn devices(entries: usize) -> Vec<InvSpec> {
    let ats = (1..entries as u32).map(|n| InvSpec::ats(SmmuId(0), StreamId(n * 8), None));
    [asid(0, 7)].into_iter().chain(ats).collect()
}

/// `entries` tags of one SMMU.
fn vmids(entries: usize) -> Vec<InvSpec> {
    let tag = |n| CacheTag::Vmid(Vmid(n));
    (1..=entries as u16).map(|n| InvSpec::tagged(SmmuId(0), tag(n), RangeSupport::Ril)).collect()
}

/// One tag on each of `entries` SMMUs.
fn smmus(entries: usize) -> Vec<InvSpec> {
    (0..entries as u16).map(|n| asid(n, 7)).collect()
}

fn array(request: &[InvSpec]) -> &'static InvArray {
    Box::leak(Box::new(InvArray::empty().merge(request).unwrap()))
}

/// An array of devices, and a request of two of its entries and two new ones.
fn with_four(entries: usize) -> (&'static InvArray, [InvSpec; 4]) {
    let ats = |n: usize| InvSpec::ats(SmmuId(0), StreamId(n as u32), None);
    let middle = entries / 2;
    let request = [asid(0, 7), ats(middle * 8 + 1), ats((middle + 1) * 8), ats(entries * 8)];
    (array(&devices(entries)), request)
}

/// An array of devices, and the request of all of them.
fn with_all(entries: usize) -> (&'static InvArray, Vec<InvSpec>) {
    (array(&devices(entries)), devices(entries))
}

/// An array of devices, each with two users, and the request of all of them.
fn with_shared(entries: usize) -> (&'static InvArray, Vec<InvSpec>) {
    let request = devices(entries);
    let shared = array(&request).merge(&request).unwrap();
    (Box::leak(Box::new(shared)), request)
}

/// An array of devices, and the request of the first four.
fn with_first_four(entries: usize) -> (&'static InvArray, Vec<InvSpec>) {
    (array(&devices(entries)), devices(4))
}

/// An array of tags, half of them trash.
fn half_trash(entries: usize) -> &'static InvArray {
    let ats = |n: u32| InvSpec::ats(SmmuId(0), StreamId(n), None);
    let all: Vec<_> = (0..entries as u32).map(ats).collect();
    let array = array(&all);
    let half: Vec<_> = all.into_iter().step_by(2).collect();
    array.unref(&half, |_, _| {});
    array
}

#[library_benchmark]
#[bench::one(with_four(4))]
fn merge_4_into_4_kept((old, request): (&'static InvArray, [InvSpec; 4])) {
    std::mem::forget(black_box(old.merge(black_box(&request))));
}

#[library_benchmark]
#[bench::one(with_four(64))]
fn merge_4_into_64_kept((old, request): (&'static InvArray, [InvSpec; 4])) {
    std::mem::forget(black_box(old.merge(black_box(&request))));
}

#[library_benchmark]
#[bench::one(with_four(1024))]
fn merge_4_into_1024_kept((old, request): (&'static InvArray, [InvSpec; 4])) {
    std::mem::forget(black_box(old.merge(black_box(&request))));
}

#[library_benchmark]
#[bench::one(with_four(16_384))]
fn merge_4_into_16384_kept((old, request): (&'static InvArray, [InvSpec; 4])) {
    std::mem::forget(black_box(old.merge(black_box(&request))));
}

fn unref(array: &InvArray, request: &[InvSpec]) {
    array.unref(black_box(request), |_, outcome| {
        black_box(&outcome);
    });
}

fn unref_kept(array: &InvArray, request: Vec<InvSpec>) {
    unref(array, &request);
    // The end of the request is no cost of the array.
    std::mem::forget(request);
}

#[library_benchmark]
#[bench::one(with_all(4))]
fn unref_all_of_4_kept((array, request): (&'static InvArray, Vec<InvSpec>)) {
    unref_kept(array, request);
}

#[library_benchmark]
#[bench::one(with_all(64))]
fn unref_all_of_64_kept((array, request): (&'static InvArray, Vec<InvSpec>)) {
    unref_kept(array, request);
}

#[library_benchmark]
#[bench::one(with_all(16_384))]
fn unref_all_of_16384_kept((array, request): (&'static InvArray, Vec<InvSpec>)) {
    unref_kept(array, request);
}

#[library_benchmark]
#[bench::one(with_shared(4))]
fn unref_4_of_4_kept((array, request): (&'static InvArray, Vec<InvSpec>)) {
    unref_kept(array, request);
}

#[library_benchmark]
#[bench::one(with_first_four(64))]
fn unref_4_of_64_kept((array, request): (&'static InvArray, Vec<InvSpec>)) {
    unref_kept(array, request);
}

fn purge(array: &InvArray) {
    std::mem::forget(black_box(array.purge()));
}

#[library_benchmark]
#[bench::one(half_trash(4))]
fn purge_half_of_4_kept(array: &'static InvArray) {
    purge(array);
}

#[library_benchmark]
#[bench::one(half_trash(64))]
fn purge_half_of_64_kept(array: &'static InvArray) {
    purge(array);
}

#[library_benchmark]
#[bench::one(half_trash(1024))]
fn purge_half_of_1024_kept(array: &'static InvArray) {
    purge(array);
}

#[library_benchmark]
#[bench::one(half_trash(16_384))]
fn purge_half_of_16384_kept(array: &'static InvArray) {
    purge(array);
}

/// The array side of an attach of one more device with ATS, and of its detach.
fn attach_and_detach(old: &InvArray, entries: usize) {
    let device = InvSpec::ats(SmmuId(0), StreamId(entries as u32 * 8), None);
    let request = [asid(0, 7), device];
    let Ok(attached) = old.merge(black_box(&request)) else { return };
    unref(&attached, &request);
    std::mem::forget(black_box(attached.purge()));
    std::mem::forget(attached);
}

#[library_benchmark]
#[bench::one(array(&devices(4)))]
fn attach_and_detach_4_kept(array: &'static InvArray) {
    attach_and_detach(array, 4);
}

#[library_benchmark]
#[bench::one(array(&devices(64)))]
fn attach_and_detach_64_kept(array: &'static InvArray) {
    attach_and_detach(array, 64);
}

fn page(array: &InvArray) {
    let extent = Extent::range(0x1_2000, 1 << 12, Granule::K4, Leaf::Last).with_page_hint();
    let done = array.invalidate(black_box(extent), &Discard);
    let _ = black_box(&done);
}

#[library_benchmark]
#[bench::one(array(&smmus(1)))]
fn page_1_entry_kept(array: &'static InvArray) {
    page(array);
}

#[library_benchmark]
#[bench::one(array(&devices(16)))]
fn page_16_tag_and_ats_kept(array: &'static InvArray) {
    page(array);
}

#[library_benchmark]
#[bench::one(array(&devices(64)))]
fn page_64_tag_and_ats_kept(array: &'static InvArray) {
    page(array);
}

#[library_benchmark]
#[bench::one(array(&vmids(16)))]
fn page_16_vmids_kept(array: &'static InvArray) {
    page(array);
}

#[library_benchmark]
#[bench::one(array(&vmids(64)))]
fn page_64_vmids_kept(array: &'static InvArray) {
    page(array);
}

#[library_benchmark]
#[bench::one(array(&smmus(16)))]
fn page_16_smmus_kept(array: &'static InvArray) {
    page(array);
}

#[library_benchmark]
#[bench::one(array(&smmus(64)))]
fn page_64_smmus_kept(array: &'static InvArray) {
    page(array);
}

library_benchmark_group!(
    name = arrays,
    benchmarks = [
        merge_4_into_4_kept,
        merge_4_into_64_kept,
        merge_4_into_1024_kept,
        merge_4_into_16384_kept,
        unref_all_of_4_kept,
        unref_all_of_64_kept,
        unref_all_of_16384_kept,
        unref_4_of_4_kept,
        unref_4_of_64_kept,
        purge_half_of_4_kept,
        purge_half_of_64_kept,
        purge_half_of_1024_kept,
        purge_half_of_16384_kept,
        attach_and_detach_4_kept,
        attach_and_detach_64_kept
    ]
);

library_benchmark_group!(
    name = invalidations,
    benchmarks = [
        page_1_entry_kept,
        page_16_tag_and_ats_kept,
        page_64_tag_and_ats_kept,
        page_16_vmids_kept,
        page_64_vmids_kept,
        page_16_smmus_kept,
        page_64_smmus_kept
    ]
);

main!(library_benchmark_groups = [arrays, invalidations]);
