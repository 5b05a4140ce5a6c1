//! What must hold for every bit pattern: over all opcodes and event numbers, every single field of
//! every table, and random patterns. The checks are those of the fuzz targets.

mod checks;

use checks::{AddressKind, Judgement, Range};
use proptest::prelude::*;
use smmu_types::fields;
use smmu_types::layout::{Field, Layout, Meaning};
use smmu_types::range::RangeSupport;
use smmu_types::{Granule, Leaf};

/// Words with few bits set, few bits clear, or uniform bits: uniform words rarely reach the
/// branches on single bits.
fn word() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        Just(u64::MAX),
        any::<u64>(),
        (0..64u32).prop_map(|bit| 1 << bit),
        (any::<u64>(), any::<u64>(), any::<u64>()).prop_map(|(a, b, c)| a & b & c),
        (any::<u64>(), any::<u64>(), any::<u64>()).prop_map(|(a, b, c)| a | b | c),
    ]
}

fn words<const N: usize>() -> impl Strategy<Value = [u64; N]> {
    proptest::collection::vec(word(), N).prop_map(|words| std::array::from_fn(|at| words[at]))
}

/// The 32-bit halves of words, low half first.
fn half(words: &[u64], at: usize) -> u32 {
    (words[at / 2] >> (32 * (at % 2))) as u32
}

fn granule() -> impl Strategy<Value = Granule> {
    prop_oneof![Just(Granule::K4), Just(Granule::K16), Just(Granule::K64)]
}

fn range() -> impl Strategy<Value = Range> {
    let number = || (any::<u64>(), 0..64u32).prop_map(|(value, shift)| value >> shift);
    let support =
        prop_oneof![Just(RangeSupport::Ril), Just(RangeSupport::RilDs), Just(RangeSupport::Single)];
    let leaf = prop_oneof![Just(Leaf::Last), Just(Leaf::All)];
    let block_shift = proptest::option::of(0..64u32);
    let kind = prop_oneof![Just(AddressKind::Iova), Just(AddressKind::Ipa)];
    (kind, support, number(), number(), granule(), block_shift, leaf).prop_map(
        |(kind, support, address, size, granule, block_shift, leaf)| Range {
            kind,
            support,
            address,
            size,
            granule,
            block_shift,
            leaf,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn every_command(mut words in words::<2>()) {
        for opcode in 0..=0xff {
            words[0] = words[0] & !0xff | opcode;
            checks::command(words);
        }
    }

    #[test]
    fn every_event(mut words in words::<4>()) {
        for number in 0..=0xff {
            words[0] = words[0] & !0xff | number;
            checks::event(words);
        }
    }

    #[test]
    fn every_ste(mut words in words::<8>()) {
        for config in 0..8 {
            words[0] = words[0] & !0xf | config << 1 | 1;
            checks::ste(words);
        }
        checks::ste([words[0] & !1, words[1], words[2], words[3], words[4], words[5], words[6], words[7]]);
    }

    #[test]
    fn every_cd(words in words::<8>()) {
        checks::cd(words);
        // Valid, AArch64, TTB0 alone: the CDs with a typed form.
        let typed = (words[0] | 1 << 31 | 1 << 41 | 1 << 30) & !(1 << 14 | 1 << 15);
        checks::cd([typed, words[1], words[2], words[3], words[4], words[5], words[6], words[7]]);
    }

    #[test]
    fn every_table(words in words::<8>()) {
        for layout in fields::all() {
            checks::layout(layout, &checks::keep_width(layout, &words));
        }
    }

    #[test]
    fn all_capabilities(words in words::<5>()) {
        checks::capabilities(std::array::from_fn(|at| half(&words, at)));
    }

    #[test]
    fn every_pri_entry(words in words::<2>()) {
        checks::pri(words);
    }

    #[test]
    fn every_descriptor(word in word()) {
        for span in 0..32 {
            checks::descriptors(word & !0x1f | span);
        }
    }

    #[test]
    fn every_register(value in word()) {
        for offset in (0..0x1000).step_by(4) {
            checks::registers(offset, value);
        }
    }

    #[test]
    fn every_judgement(
        mut ste in words::<8>(),
        cd in words::<8>(),
        id in words::<5>(),
        rest in words::<3>(),
        choices in any::<u8>(),
    ) {
        for config in 0..16 {
            ste[0] = ste[0] & !0xf | config;
            checks::legal(Judgement {
                ste,
                cd,
                descriptor: rest[0],
                id: std::array::from_fn(|at| half(&id, at)),
                strtab_base_cfg: half(&rest, 2),
                stream: half(&rest, 4),
                substream: half(&rest, 5) >> 8,
                choices,
            });
        }
    }

    #[test]
    fn every_queue(produced in word(), behind in any::<u32>(), register in any::<u32>()) {
        for log2 in 0..=u8::MAX {
            checks::queue(log2, produced, behind, register);
            checks::queue(log2, u64::from(behind & 7) << 1, behind, register);
            checks::queue_registers(log2, produced as u32, register, behind);
            checks::queue_registers(log2, produced as u32, (produced as u32).wrapping_sub(behind & 3), 1);
        }
    }

    #[test]
    fn every_range(range in range()) {
        checks::range(range);
    }

    /// Carries and thresholds lie near powers of two.
    #[test]
    fn ranges_around_powers_of_two(
        range in range(),
        at in (0..64u32, -2..3i64),
        size in (0..64u32, -2..3i64),
    ) {
        let near = |(log2, by): (u32, i64)| (1u64 << log2).wrapping_add_signed(by);
        let page = |(log2, by): (u32, i64)| (1u64 << log2).wrapping_add_signed(by << 12);
        checks::range(Range { address: near(at), size: near(size), ..range });
        checks::range(Range { address: page(at), size: page(size), ..range });
        checks::range(Range { address: page(size).wrapping_neg(), size: page(size), ..range });
    }
}

/// Words of zeros or of ones, except in one field.
fn deviation(layout: &Layout, field: &Field, rest: u64, value: u64) -> Option<Vec<u64>> {
    let placed = field.place(value).ok()?;
    let mut words = checks::keep_width(layout, &[rest; 8]);
    words[field.word()] = words[field.word()] & !field.mask() | placed;
    Some(words)
}

/// All values of a narrow field. Of a wide field the ends, each bit alone, and each value with a
/// text.
fn values(field: &Field) -> Vec<u64> {
    const NARROW: u16 = 12;
    let width = field.hi() - field.lo() + 1;
    let unit = if let Meaning::Address = field.meaning() { field.lo() % 64 } else { 0 };
    let mut values: Vec<u64> = if width <= NARROW {
        (0..1 << width).map(|value| value << unit).collect()
    } else {
        [0, field.max()].into_iter().chain((0..width).map(|bit| 1 << (bit + unit))).collect()
    };
    if let Meaning::Choice(choices) = field.meaning() {
        values.extend(choices.iter().map(|choice| choice.value));
    }
    values
}

/// Every field with every value of interest, by itself and among ones, through the checks of its
/// table and of the structures of this size.
#[test]
fn every_field_of_every_table() {
    for layout in fields::all() {
        for field in layout.fields() {
            for value in values(field) {
                for rest in [0, u64::MAX] {
                    let words = deviation(layout, field, rest, value);
                    let place = format!("{}.{} = {value:#x}", layout.name(), field.name());
                    assert!(words.is_some(), "{place} does not fit");
                    let words = words.unwrap_or_default();
                    assert_eq!(field.get(&words), value, "{place}");
                    checks::layout(layout, &words);
                    structures(&words);
                }
            }
        }
    }
}

/// Every bit by itself, and every bit missing, whether or not it belongs to a field.
#[test]
fn every_single_bit_of_every_table() {
    for layout in fields::all() {
        for bit in 0..layout.bits() {
            for rest in [0, u64::MAX] {
                let mut words = checks::keep_width(layout, &[rest; 8]);
                words[usize::from(bit / 64)] ^= 1 << (bit % 64);
                checks::layout(layout, &words);
                structures(&words);
            }
        }
    }
}

/// The structures of this size, beside the table of the words.
fn structures(words: &[u64]) {
    if let Ok(words) = words.try_into() {
        checks::command(words);
        checks::pri(words);
    } else if let Ok(words) = words.try_into() {
        checks::event(words);
    } else if let Ok(words) = words.try_into() {
        checks::ste(words);
        checks::cd(words);
        checks::legal(Judgement { ste: words, cd: words, ..Judgement::default() });
        checks::legal(Judgement {
            ste: words,
            cd: words,
            id: [u32::MAX; 9],
            ..Judgement::default()
        });
    } else if let [word] = *words {
        checks::descriptors(word);
    }
}

/// Every 32-bit ID register with every value of each of its halves.
#[test]
fn every_half_of_every_id_register() {
    for register in 0..9 {
        for half in 0..=u32::from(u16::MAX) {
            for value in [half, half << 16, half | 0xffff_0000, half << 16 | 0xffff] {
                let mut registers = [0; 9];
                registers[register] = value;
                checks::capabilities(registers);
            }
        }
    }
}

/// Feeds each seed of a fuzz target, and returns how many there are.
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
fn replay(target: &str, feed: fn(&[u8])) -> usize {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let seeds = std::fs::read_dir(folder).unwrap();
    seeds.map(|seed| feed(&std::fs::read(seed.unwrap().path()).unwrap())).count()
}

#[test]
fn every_seed_of_the_fuzzer_holds() {
    assert!(replay("event", checks::bytes::event) >= 16);
    assert!(replay("pri", checks::bytes::pri) >= 8);
}
