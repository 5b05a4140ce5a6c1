//! From the bytes of a fuzzer to numbers, and the fuzz targets whose seeds are kept.

/// An event record of four words.
pub(crate) fn event(data: &[u8]) {
    super::event(words(data));
}

/// An entry of the PRI queue of two words.
pub(crate) fn pri(data: &[u8]) {
    super::pri(words(data));
}

/// A little-endian number of `N` bytes, and the rest; bytes that are not there are zero.
pub(crate) fn number<const N: usize>(data: &[u8]) -> (u64, &[u8]) {
    let (bytes, rest) = data.split_at(data.len().min(N));
    (bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)), rest)
}

/// `N` words; bytes that are not there are zero.
pub(crate) fn words<const N: usize>(mut data: &[u8]) -> [u64; N] {
    std::array::from_fn(|_| {
        let (word, rest) = number::<8>(data);
        data = rest;
        word
    })
}
