//! Bit fields of 64-bit words, `hi` and `lo` inclusive as the architecture writes them.

use crate::FieldError;

/// The mask of bits `hi:lo`.
pub(crate) const fn mask(hi: u32, lo: u32) -> u64 {
    (u64::MAX >> (63 - (hi - lo))) << lo
}

/// Bits `hi:lo` of `word`, moved down to bit 0.
pub(crate) const fn get(word: u64, hi: u32, lo: u32) -> u64 {
    (word & mask(hi, lo)) >> lo
}

/// `value` moved up into bits `hi:lo`; bits that do not fit are cut off, so callers pass checked values.
pub(crate) const fn put(value: u64, hi: u32, lo: u32) -> u64 {
    (value << lo) & mask(hi, lo)
}

/// One bit.
pub(crate) const fn bit(word: u64, n: u32) -> bool {
    word >> n & 1 != 0
}

/// `value << lo` when it fits into bits `hi:lo`.
pub(crate) const fn fit(
    field: &'static str,
    value: u64,
    hi: u32,
    lo: u32,
) -> Result<u64, FieldError> {
    let max = u64::MAX >> (63 - (hi - lo));
    if value > max {
        return Err(FieldError::TooLarge { field, value, max });
    }
    Ok(value << lo)
}

/// `value` kept in place when it is an address made of bits `hi:lo` only.
pub(crate) const fn address(
    field: &'static str,
    value: u64,
    hi: u32,
    lo: u32,
) -> Result<u64, FieldError> {
    let max = mask(hi, lo);
    // One test where all is well; which of the two it is matters only otherwise.
    if value & !max == 0 {
        return Ok(value);
    }
    let align = 1 << lo;
    if value & (align - 1) != 0 {
        return Err(FieldError::Misaligned { field, value, align });
    }
    Err(FieldError::TooLarge { field, value, max })
}

/// The value of a `Result`, or an early return with its error, where `?` cannot be: in a `const fn`.
macro_rules! attempt {
    ($result:expr) => {
        match $result {
            Ok(value) => value,
            Err(error) => return Err(error),
        }
    };
}
pub(crate) use attempt;
