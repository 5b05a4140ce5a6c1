//! From the bytes of a fuzzer to the checks that the property tests use too: one function for each
//! fuzz target.

#[path = "../../tests/checks/mod.rs"]
mod checks;

use checks::bytes::{number, words};
use checks::{AddressKind, Judgement, Range};
use smmu_types::fields;
use smmu_types::range::RangeSupport;
use smmu_types::{Granule, Leaf};

/// Commands: decode, encode, print.
pub fn command(data: &[u8]) {
    checks::command(words(data));
}

/// Event records: getters, and the setters that models use.
pub fn event(data: &[u8]) {
    checks::bytes::event(data);
}

/// Stream table entries: decode, encode again, used bits.
pub fn ste(data: &[u8]) {
    checks::ste(words(data));
}

/// Context descriptors: decode, encode again, used bits.
pub fn cd(data: &[u8]) {
    checks::cd(words(data));
}

/// Every table of fields; the first two bytes choose one.
pub fn tables(data: &[u8]) {
    let (chosen, data) = number::<2>(data);
    let tables = fields::all().count();
    if let Some(layout) = fields::all().nth(chosen as usize % tables) {
        checks::layout(layout, &checks::keep_width(layout, &words::<8>(data)));
    }
}

/// Capabilities from ID registers.
pub fn capabilities(data: &[u8]) {
    checks::capabilities(numbers(data).0);
}

/// Entries of the PRI queue.
pub fn pri(data: &[u8]) {
    checks::bytes::pri(data);
}

/// Level-1 descriptors.
pub fn descriptors(data: &[u8]) {
    checks::descriptors(number::<8>(data).0);
}

/// Registers by offset.
pub fn registers(data: &[u8]) {
    let (offset, data) = number::<4>(data);
    checks::registers(offset as u32, number::<8>(data).0);
}

/// The rules that an SMMU judges structures by.
pub fn legal(data: &[u8]) {
    let (choices, data) = number::<1>(data);
    let (id, data) = numbers(data);
    let ([strtab_base_cfg, stream, substream], data) = numbers(data);
    let words = words::<17>(data);
    checks::legal(Judgement {
        choices: choices as u8,
        id,
        strtab_base_cfg,
        stream,
        substream: substream & 0xf_ffff,
        ste: std::array::from_fn(|at| words[at]),
        cd: std::array::from_fn(|at| words[8 + at]),
        descriptor: words[16],
    });
}

/// Queue pointers and queue registers.
pub fn queue(data: &[u8]) {
    let (log2, data) = number::<1>(data);
    let ([behind, register], data) = numbers(data);
    let (produced, _) = number::<8>(data);
    checks::queue(log2 as u8, produced, behind, register);
    checks::queue_registers(log2 as u8, produced as u32, register, behind);
}

/// The plan of an invalidation.
pub fn range(data: &[u8]) {
    let (form, data) = number::<1>(data);
    let (shift, data) = number::<1>(data);
    let (address, data) = number::<8>(data);
    let (size, _) = number::<8>(data);
    checks::range(Range {
        kind: if form & 0x20 == 0 { AddressKind::Iova } else { AddressKind::Ipa },
        support: match form & 0x41 {
            0 => RangeSupport::Ril,
            0x40 => RangeSupport::RilDs,
            _ => RangeSupport::Single,
        },
        leaf: if form & 2 == 0 { Leaf::Last } else { Leaf::All },
        block_shift: if form & 4 == 0 { None } else { Some(shift as u32) },
        granule: match form >> 3 & 3 {
            0 => Granule::K64,
            1 => Granule::K16,
            _ => Granule::K4,
        },
        address,
        size,
    });
}

/// `N` numbers of 32 bits, and the rest.
fn numbers<const N: usize>(mut data: &[u8]) -> ([u32; N], &[u8]) {
    let numbers = std::array::from_fn(|_| {
        let (value, rest) = number::<4>(data);
        data = rest;
        value as u32
    });
    (numbers, data)
}
