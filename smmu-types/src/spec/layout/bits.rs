//! The place of a field, and how it holds its value.

#[cfg(any(feature = "fields", feature = "legal"))]
use core::fmt;

use crate::FieldError;

/// The place of a field, and how it holds its value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bits {
    pub(crate) name: &'static str,
    pub(super) hi: u16,
    pub(super) lo: u16,
    pub(super) form: Form,
}

/// How a field holds its value, and in which base it prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// A number, printed in decimal.
    Decimal,
    /// A number, printed in hexadecimal.
    Hex,
    /// An address, which keeps its place. The low bits, which the field does not hold, are zero.
    Address,
}

impl Bits {
    /// Bits `hi:lo` of a structure.
    pub(crate) const fn new(name: &'static str, hi: u16, lo: u16, form: Form) -> Self {
        assert!(hi >= lo && hi / 64 == lo / 64, "a field lies within one 64-bit word");
        Bits { name, hi, lo, form }
    }

    /// The value is an address, which keeps its place.
    #[inline(always)]
    const fn address(&self) -> bool {
        matches!(self.form, Form::Address)
    }

    #[inline(always)]
    pub(super) const fn word(&self) -> usize {
        self.lo as usize / 64
    }

    #[inline(always)]
    pub(super) const fn mask(&self) -> u64 {
        u64::MAX >> (63 - (self.hi - self.lo)) << (self.lo % 64)
    }

    #[inline(always)]
    pub(super) const fn max(&self) -> u64 {
        match self.form {
            Form::Address => self.mask(),
            Form::Decimal | Form::Hex => u64::MAX >> (63 - (self.hi - self.lo)),
        }
    }

    #[inline(always)]
    pub(super) const fn get(&self, words: &[u64]) -> u64 {
        if self.word() >= words.len() {
            return 0;
        }
        let masked = words[self.word()] & self.mask();
        if self.address() { masked } else { masked >> (self.lo % 64) }
    }

    #[inline(always)]
    pub(super) const fn cut(&self, value: u64) -> u64 {
        let moved = if self.address() { value } else { value << (self.lo % 64) };
        moved & self.mask()
    }

    #[inline(always)]
    pub(super) const fn place(&self, value: u64) -> Result<u64, FieldError> {
        if value & !self.max() == 0 {
            return Ok(if self.address() { value } else { value << (self.lo % 64) });
        }
        Err(self.refuse(value))
    }

    /// Why a value has no place in the field.
    #[cold]
    const fn refuse(&self, value: u64) -> FieldError {
        let (field, max) = (self.name, self.max());
        let align = 1 << (self.lo % 64);
        if self.address() && value & (align - 1) != 0 {
            return FieldError::Misaligned { field, value, align };
        }
        FieldError::TooLarge { field, value, max }
    }

    /// Prints a value of the field.
    #[cfg(any(feature = "fields", feature = "legal"))]
    pub(crate) fn print(&self, value: u64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.form {
            Form::Decimal => write!(f, "{value}"),
            Form::Hex | Form::Address => write!(f, "{value:#x}"),
        }
    }
}
