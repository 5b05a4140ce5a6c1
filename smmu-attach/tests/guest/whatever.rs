//! What must hold for every bit pattern: random words, and every single bit of useful ones.

use proptest::prelude::*;
use smmu_attach::guest::AtsPermission;
use smmu_types::IdRegisters;

use crate::checks::{self, PLAIN, RICH, World};

/// Words with few bits set, few bits clear, or uniform bits.
fn word() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        Just(u64::MAX),
        any::<u64>(),
        (0..64u32).prop_map(|bit| 1 << bit),
        (any::<u64>(), any::<u64>(), any::<u64>()).prop_map(|(a, b, c)| a & b & c),
    ]
}

/// The useful bits of an STE of stage 1 or bypass, now and then with a bit more.
fn ste() -> impl Strategy<Value = [u64; 8]> {
    let [s1_0, s1_1] = checks::WHERE_S1;
    let config = prop_oneof![Just(0x9u64), Just(0xb), Just(0xb), any::<u64>()];
    let useful = (config, word(), word(), word(), prop::option::weighted(0.2, 0..512usize))
        .prop_map(move |(config, w0, small, w1, flip)| {
            let mut words =
                [config & 0xf | w0 & small & s1_0, w1 & (s1_1 | 0xf0f8_0000), 0, 0, 0, 0, 0, 0];
            if let Some(bit) = flip {
                words[bit / 64] ^= 1 << (bit % 64);
            }
            words
        });
    prop_oneof![3 => useful, 1 => prop::array::uniform8(word())]
}

/// Commands with a known opcode and, mostly, a known StreamID.
fn command() -> impl Strategy<Value = [u64; 2]> {
    let opcodes = [
        0x01u64, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x10, 0x11, 0x12, 0x13, 0x20, 0x21, 0x22,
        0x23, 0x28, 0x2a, 0x30, 0x40, 0x40, 0x41, 0x44, 0x44, 0x45, 0x46, 0x70, 0x73,
    ];
    let stream = prop_oneof![4 => 8..0x12u64, 1 => 0..0x5000u64];
    let fields = (
        prop::sample::select(opcodes.to_vec()),
        stream,
        word(),
        word(),
        any::<bool>(),
        any::<bool>(),
    );
    let known = fields.prop_map(|(opcode, stream, w0, w1, clean, low)| {
        let w0 = if clean { 0 } else { w0 & 0xffff_fb00 };
        let w1 = if low { w1 & 0xfff3f } else { w1 };
        [opcode | stream << 32 | w0, w1]
    });
    prop_oneof![5 => known, 1 => prop::array::uniform2(word())]
}

fn event() -> impl Strategy<Value = [u64; 4]> {
    let kinds = [
        1u64, 2, 3, 4, 5, 6, 7, 8, 9, 0xa, 0xb, 0x10, 0x11, 0x12, 0x13, 0x20, 0x21, 0x24, 0x25,
        0xe0,
    ];
    let streams = [0x4100u64, 0x4201, 0x4203, 0x4400, 0x4500, 0x4600, 8];
    (
        prop::sample::select(kinds.to_vec()),
        prop::sample::select(streams.to_vec()),
        prop::array::uniform4(word()),
    )
        .prop_map(|(kind, stream, words)| {
            [kind | stream << 32 | words[0] & 0xffff_ff00, words[1], words[2], words[3]]
        })
}

/// Registers of a real SMMU with a few bits changed, or any.
fn host() -> impl Strategy<Value = IdRegisters> {
    let of = |base: IdRegisters| {
        prop::array::uniform5((any::<u32>(), any::<u32>(), any::<u32>())).prop_map(move |flips| {
            let few = |n: usize| flips[n].0 & flips[n].1 & flips[n].2;
            IdRegisters {
                idr0: (base.idr0 ^ few(0)) | 3,
                idr1: base.idr1 ^ few(1),
                idr3: base.idr3 ^ few(2),
                idr5: base.idr5 ^ few(3),
                aidr: base.aidr ^ few(4) & 7,
                ..base
            }
        })
    };
    let any = prop::array::uniform9(any::<u32>()).prop_map(|r| IdRegisters {
        idr0: r[0],
        idr1: r[1],
        idr2: r[2],
        idr3: r[3],
        idr4: r[4],
        idr5: r[5],
        idr6: r[6],
        iidr: r[7],
        aidr: r[8],
    });
    prop_oneof![of(PLAIN), of(RICH), any]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

    #[test]
    fn any_entry(words in ste(), world in 0..3usize, allowed in any::<bool>()) {
        let ats = if allowed { AtsPermission::Allowed } else { AtsPermission::Denied };
        checks::entry(&World::all()[world], words, ats);
    }

    #[test]
    fn any_batch(words in prop::collection::vec(command(), 0..12), world in 0..3usize) {
        checks::batch(&World::all()[world], &words);
    }

    #[test]
    fn any_event(words in event(), world in 0..3usize) {
        checks::event(&World::all()[world], words);
    }

    #[test]
    fn any_registers(hosts in prop::collection::vec(host(), 1..4), choices in any::<u8>()) {
        checks::ids(&hosts, choices);
    }
}

#[test]
fn single_bits_of_commands() {
    let world = World::rich();
    for opcode in 0..=0xff {
        for bit in 0..128 {
            let mut words = [opcode | 8 << 32, 0];
            words[bit / 64] ^= 1 << (bit % 64);
            checks::batch(&world, &[[0x30, 0], words, [0x30, 0]]);
        }
    }
}

#[test]
fn single_bits_of_events() {
    for world in World::all() {
        for kind in 0..=0xff {
            for bit in 8..256 {
                let mut words = [kind | 0x4100 << 32, 0, 0, 0];
                words[bit / 64] ^= 1 << (bit % 64);
                checks::event(&world, words);
            }
        }
    }
}
