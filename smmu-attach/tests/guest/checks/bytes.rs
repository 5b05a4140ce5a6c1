//! From the bytes of a fuzzer to the checks: one function for each fuzz target.

use std::sync::LazyLock;

use smmu_attach::guest::AtsPermission;
use smmu_types::IdRegisters;

use super::World;

static WORLDS: LazyLock<[World; 3]> = LazyLock::new(World::all);

/// The world and a flag that the first byte chooses, and the rest.
fn chosen(data: &[u8]) -> (&'static World, bool, &[u8]) {
    let (&first, rest) = data.split_first().unwrap_or((&0, &[]));
    (&WORLDS[usize::from(first) % 3], first & 0x80 != 0, rest)
}

/// `N` little-endian words; bytes that are not there are zero.
fn words<const N: usize>(data: &[u8]) -> [u64; N] {
    std::array::from_fn(|at| {
        let bytes = data.iter().skip(8 * at).take(8);
        bytes.rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
    })
}

/// A guest's STE of eight words.
pub(crate) fn entry(data: &[u8]) {
    let (world, allowed, data) = chosen(data);
    let ats = if allowed { AtsPermission::Allowed } else { AtsPermission::Denied };
    super::entry(world, words(data), ats);
}

/// A guest's commands of two words each, at most 256.
pub(crate) fn batch(data: &[u8]) {
    let (world, _, data) = chosen(data);
    let commands: Vec<[u64; 2]> = data.chunks(16).take(256).map(words).collect();
    super::batch(world, &commands);
}

/// A host's event record of four words.
pub(crate) fn event(data: &[u8]) {
    let (world, _, data) = chosen(data);
    super::event(world, words(data));
}

/// The ID registers of at most four hosts: five words of 32 bits each, after one byte of choices.
pub(crate) fn ids(data: &[u8]) {
    let (&choices, data) = data.split_first().unwrap_or((&0, &[]));
    let host = |bytes: &[u8]| {
        let words: [u64; 3] = words(bytes);
        let half = |at: usize| (words[at / 2] >> (32 * (at % 2))) as u32;
        IdRegisters {
            idr0: half(0),
            idr1: half(1),
            idr3: half(2),
            idr5: half(3),
            aidr: half(4),
            ..IdRegisters::default()
        }
    };
    let hosts: Vec<IdRegisters> = data.chunks(20).take(4).map(host).collect();
    super::ids(&hosts, choices);
}
