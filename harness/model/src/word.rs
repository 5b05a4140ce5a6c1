//! Bits and fields of a 64-bit word.

pub(crate) fn field(word: u64, hi: u32, lo: u32) -> u64 {
    word << (63 - hi) >> (63 - hi + lo)
}

pub(crate) fn bit(word: u64, n: u32) -> bool {
    word >> n & 1 != 0
}
