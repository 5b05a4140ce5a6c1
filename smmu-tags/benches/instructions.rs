//! The instruction counts of allocating and freeing a tag at several fills.
//!
//! `cargo xtask bench` runs this under valgrind, and compares each `<case>_kept` with the count in
//! `instructions.json` beside this file. If a higher count is right, `cargo xtask bench --keep`
//! writes it there.
#![expect(missing_docs, reason = "the macros make public modules")]

use std::hint::black_box;

use gungraun::{library_benchmark, library_benchmark_group, main};
use smmu_tags::{AsidSpace, FreshTag, Keep, SpaceConfig};
use smmu_types::{Regime, SmmuId};

/// A space whose lowest `taken` numbers are taken. It is never dropped, so the counts do not contain
/// its end.
fn filled(taken: u16) -> Option<&'static AsidSpace> {
    let config = SpaceConfig { keep: Keep::Forever, ..SpaceConfig::default() };
    let space: &AsidSpace = Box::leak(Box::new(AsidSpace::with_config(16, config).ok()?));
    for _ in 0..taken {
        std::mem::forget(allocate(space)?.install());
    }
    // The first call of the process binds symbols.
    pair(space);
    Some(space)
}

fn allocate(space: &AsidSpace) -> Option<FreshTag> {
    space.allocate(SmmuId(0), Regime::El1, 16).ok()
}

/// Allocate a number and give it back before the hardware sees it.
fn pair(space: &AsidSpace) {
    let fresh = allocate(black_box(space));
    let _ = black_box(&fresh);
}

#[library_benchmark]
#[bench::one(filled(0))]
fn tag_at_0_kept(space: Option<&AsidSpace>) {
    space.into_iter().for_each(pair);
}

#[library_benchmark]
#[bench::one(filled(u16::MAX / 2))]
fn tag_at_50_kept(space: Option<&AsidSpace>) {
    space.into_iter().for_each(pair);
}

#[library_benchmark]
#[bench::one(filled(65_469))]
fn tag_at_99_9_kept(space: Option<&AsidSpace>) {
    space.into_iter().for_each(pair);
}

// The lowest free number is the only one of its word, so the mark above changes twice.
#[library_benchmark]
#[bench::one(filled(65_470))]
fn tag_alone_in_its_word_kept(space: Option<&AsidSpace>) {
    space.into_iter().for_each(pair);
}

library_benchmark_group!(
    name = tags,
    benchmarks = [tag_at_0_kept, tag_at_50_kept, tag_at_99_9_kept, tag_alone_in_its_word_kept]
);

main!(library_benchmark_groups = [tags]);
