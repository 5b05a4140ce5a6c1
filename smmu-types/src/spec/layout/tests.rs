//! Keys, tables and what they print, on a structure of their own.
#![expect(dead_code, unreachable_pub, reason = "the macros make public things")]

extern crate std;

use super::*;
use std::string::ToString;
use std::vec::Vec;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sample([u64; 2]);
keyed!(Sample);

mod sample {
    super::fields! {
        super::Sample, "SAMPLE", "0.0", 128;
        /// Whether it is on.
        ON "On" 0:0 flag("off", "on");
        /// How it works.
        MODE "Mode" 3:2 choice(0 => "slow", 2 => "fast");
        /// Where it is.
        WHERE "Where" 115:76 address;
        /// How many there are.
        COUNT "Count" 69:64 log2;
    }
}

#[test]
fn fields_and_residue_are_the_pattern_again() {
    let words = [0xf00d_0000_0000_00f5, 0x1234_5678_9abc_d0c7];
    let mut again = [0u64; 2];
    for part in sample::LAYOUT.split(&words) {
        again[part.field.word()] |= part.field.place(part.value).unwrap();
    }
    for Residue { hi, lo } in sample::LAYOUT.residue(&words) {
        again[usize::from(lo / 64)] |= u64::MAX >> (63 - (hi - lo)) << (lo % 64);
    }
    assert_eq!(again, words);
    let runs: Vec<_> = sample::LAYOUT.residue(&[0x10, 0x80]).map(|r| (r.hi, r.lo)).collect();
    assert_eq!(runs, [(4, 4), (71, 71)]);
}

#[test]
fn keys_read_write_and_refuse() {
    let sample = Sample([0, 0]).with(sample::MODE, 2).unwrap();
    assert_eq!((sample.0, sample.get(sample::MODE)), ([8, 0], 2));
    let sample = sample.with(sample::WHERE, 0x1000).unwrap().with(sample::MODE, 0).unwrap();
    assert_eq!((sample.0, sample.get(sample::WHERE)), ([0, 0x1000], 0x1000));
    assert_eq!(
        sample.with(sample::WHERE, 0x10),
        Err(FieldError::Misaligned { field: "Where", value: 0x10, align: 0x1000 })
    );
    assert_eq!(
        sample.with(sample::MODE, 4),
        Err(FieldError::TooLarge { field: "Mode", value: 4, max: 3 })
    );
}

#[test]
fn values_have_words() {
    let text = |name: &str, words: [u64; 2]| {
        let value = sample::LAYOUT.field(name).unwrap().of(&words);
        value.meaning().map(|meaning| meaning.to_string())
    };
    assert_eq!(text("on", [1, 0]).unwrap(), "on");
    assert_eq!(text("Mode", [8, 0]).unwrap(), "fast");
    assert_eq!(text("Mode", [4, 0]).unwrap(), "reserved value");
    assert_eq!(text("Count", [0, 9]).unwrap(), "2^9 = 512");
    assert_eq!(text("Count", [0, 63]).unwrap(), "2^63 = 9223372036854775808");
    assert_eq!(text("Where", [0, 0x1000]), None);
    assert_eq!(sample::LAYOUT.field("Nothing").map(Field::name), None);
}

#[test]
fn words_that_are_not_there_read_as_zero() {
    assert_eq!(sample::LAYOUT.field("Where").unwrap().get(&[1]), 0);
    assert_eq!(sample::LAYOUT.residue(&[]).count(), 0);
}
