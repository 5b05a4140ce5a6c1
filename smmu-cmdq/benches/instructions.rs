//! The instruction counts of queueing and planning.
//!
//! `cargo xtask bench` runs this under valgrind, and compares each `<case>_kept` with the count in
//! `instructions.json` beside this file. If a higher count is right, `cargo xtask bench --keep`
//! writes it there.
#![expect(missing_docs, reason = "the macros make public modules")]

mod instant;

use std::hint::black_box;

use gungraun::{library_benchmark, library_benchmark_group, main};
use instant::BenchQueue;
use smmu_cmdq::SyncBy;
use smmu_types::range::{Extent, Plan, RangeSupport, plan};
use smmu_types::{Asid, Command, Granule, Iova, Leaf, RawCommand, Vmid};

const COMMANDS: [Command; 64] = [Command::TlbiNhAsid { vmid: Vmid(0), asid: Asid(5) }; 64];
const ENCODED: [RawCommand; 64] = [COMMANDS[0].encode(); 64];

/// A queue that has been used before. It is never dropped, so the counts do not contain its end.
fn used() -> Option<&'static BenchQueue> {
    let queue = Box::leak(Box::new(instant::queue(SyncBy::Polling)?));
    let _pushed = queue.push(None, &COMMANDS[..1]).ok()?;
    Some(queue)
}

fn push(queue: Option<&BenchQueue>, commands: &[Command]) {
    if let Some(queue) = queue {
        // By reference: a value would be copied, which costs more than the push.
        let _pushed = black_box(&queue.push(None, black_box(commands)));
    }
}

#[library_benchmark]
#[bench::one(used())]
fn push_1_kept(queue: Option<&BenchQueue>) {
    push(queue, &COMMANDS[..1]);
}

#[library_benchmark]
#[bench::one(used())]
fn push_64_kept(queue: Option<&BenchQueue>) {
    push(queue, &COMMANDS);
}

fn push_encoded(queue: Option<&BenchQueue>, commands: &[RawCommand]) {
    if let Some(queue) = queue {
        let _pushed = black_box(&queue.push_encoded(None, black_box(commands)));
    }
}

#[library_benchmark]
#[bench::one(used())]
fn push_1_encoded_kept(queue: Option<&BenchQueue>) {
    push_encoded(queue, &ENCODED[..1]);
}

#[library_benchmark]
#[bench::one(used())]
fn push_64_encoded_kept(queue: Option<&BenchQueue>) {
    push_encoded(queue, &ENCODED);
}

#[library_benchmark]
#[bench::one(used())]
fn run_1_kept(queue: Option<&BenchQueue>) {
    if let Some(queue) = queue {
        let _proof = black_box(&queue.run(black_box(&COMMANDS[..1])));
    }
}

fn planned(pages: u64) -> u64 {
    let extent = Extent::range(0x7000, pages << 12, Granule::K4, Leaf::Last).with_page_hint();
    let Plan::Spans(spans) = plan::<Iova>(RangeSupport::Ril, extent) else { return 0 };
    let mut commands = 0;
    for span in spans {
        black_box(span);
        commands += 1;
    }
    commands
}

#[library_benchmark]
#[bench::one(512)]
fn plan_2_mib_kept(pages: u64) -> u64 {
    planned(pages)
}

#[library_benchmark]
#[bench::one(512 * 512)]
fn plan_1_gib_kept(pages: u64) -> u64 {
    planned(pages)
}

#[library_benchmark]
#[bench::one(33)]
fn plan_33_pages_kept(pages: u64) -> u64 {
    planned(pages)
}

library_benchmark_group!(
    name = queueing,
    benchmarks = [push_1_kept, push_64_kept, push_1_encoded_kept, push_64_encoded_kept, run_1_kept]
);

library_benchmark_group!(
    name = planning,
    benchmarks = [plan_2_mib_kept, plan_1_gib_kept, plan_33_pages_kept]
);

main!(library_benchmark_groups = [queueing, planning]);
