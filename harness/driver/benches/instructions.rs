//! The instruction counts of invalidations through the queues of their SMMUs.
//!
//! `cargo xtask bench` runs this under valgrind, and compares each `<case>_kept` with the count in
//! `instructions.json` beside this file. The SMMUs consume each command at once, so a `CMD_SYNC` is
//! free: the counts are those of the walk, the queue and the wait.
#![expect(missing_docs, reason = "the macros make public modules")]
#![expect(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

#[path = "../../../smmu-cmdq/benches/instant/mod.rs"]
#[expect(dead_code, reason = "the benchmarks of the queue use more of it")]
mod instant;

use std::hint::black_box;

use gungraun::{library_benchmark, library_benchmark_group, main};
use instant::{BenchQueue, BenchRing, InstantSmmu, SIZE};
use smmu_driver::smmu_cmdq::{QueueConfig, QueueSet};
use smmu_driver::smmu_invs::{InvArray, InvSpec};
use smmu_driver::smmu_types::range::{Extent, RangeSupport};
use smmu_driver::smmu_types::seam::StdWait;
use smmu_driver::smmu_types::{Asid, CacheTag, Granule, Leaf, Regime, SmmuId, StreamId, Vmid};

type Walk = (&'static InvArray, &'static QueueSet<Vec<BenchQueue>, BenchQueue>);

/// An array, and the queues of its SMMUs, which have been used before. Neither is dropped, so the
/// counts do not contain their end.
fn walk(request: &[InvSpec]) -> Walk {
    let smmus = request.last().map_or(0, |spec| spec.key.smmu.0);
    let queue = |n| {
        let (registers, memory) = (InstantSmmu::default(), BenchRing::new());
        let (wait, config) = (StdWait::new(), QueueConfig::default());
        BenchQueue::new(SmmuId(n), registers, memory, SIZE, wait, config).unwrap()
    };
    let queues = Box::leak(Box::new(QueueSet::new((0..=smmus).map(queue).collect()).unwrap()));
    let array = Box::leak(Box::new(InvArray::empty().merge(request).unwrap()));
    page((array, queues));
    (array, queues)
}

fn asid(smmu: u16) -> InvSpec {
    InvSpec::tagged(SmmuId(smmu), CacheTag::Asid(Regime::El1, Asid(7)), RangeSupport::Ril)
}

/// One tag of one SMMU; each further entry is a device with ATS.
fn devices(entries: usize) -> Walk {
    let ats = (1..entries as u32).map(|n| InvSpec::ats(SmmuId(0), StreamId(n * 8), None));
    walk(&[asid(0)].into_iter().chain(ats).collect::<Vec<_>>())
}

/// `entries` tags of one SMMU.
fn vmids(entries: u16) -> Walk {
    let tag = |n| InvSpec::tagged(SmmuId(0), CacheTag::Vmid(Vmid(n)), RangeSupport::Ril);
    walk(&(1..=entries).map(tag).collect::<Vec<_>>())
}

/// One tag on each of `entries` SMMUs.
fn smmus(entries: u16) -> Walk {
    walk(&(0..entries).map(asid).collect::<Vec<_>>())
}

fn page((array, queues): Walk) {
    let extent = Extent::range(0x1_2000, 1 << 12, Granule::K4, Leaf::Last).with_page_hint();
    let done = array.invalidate(black_box(extent), queues);
    let _ = black_box(&done);
}

#[library_benchmark]
#[bench::one(smmus(1))]
fn queue_1_entry_kept(walk: Walk) {
    page(walk);
}

#[library_benchmark]
#[bench::one(devices(16))]
fn queue_16_tag_and_ats_kept(walk: Walk) {
    page(walk);
}

#[library_benchmark]
#[bench::one(devices(64))]
fn queue_64_tag_and_ats_kept(walk: Walk) {
    page(walk);
}

#[library_benchmark]
#[bench::one(vmids(16))]
fn queue_16_vmids_kept(walk: Walk) {
    page(walk);
}

#[library_benchmark]
#[bench::one(vmids(64))]
fn queue_64_vmids_kept(walk: Walk) {
    page(walk);
}

#[library_benchmark]
#[bench::one(smmus(16))]
fn queue_16_smmus_kept(walk: Walk) {
    page(walk);
}

#[library_benchmark]
#[bench::one(smmus(64))]
fn queue_64_smmus_kept(walk: Walk) {
    page(walk);
}

library_benchmark_group!(
    name = through_queues,
    benchmarks = [
        queue_1_entry_kept,
        queue_16_tag_and_ats_kept,
        queue_64_tag_and_ats_kept,
        queue_16_vmids_kept,
        queue_64_vmids_kept,
        queue_16_smmus_kept,
        queue_64_smmus_kept
    ]
);

main!(library_benchmark_groups = through_queues);
