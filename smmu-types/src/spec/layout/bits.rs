//! The place of a field, and how it holds its value.

use crate::FieldError;

/// The place of a field, and how it holds its value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bits {
    pub(super) name: &'static str,
    pub(super) hi: u16,
    pub(super) lo: u16,
    /// The value is an address, which keeps its place. The low bits, which the field does not hold,
    /// are zero.
    pub(super) address: bool,
}

impl Bits {
    /// Bits `hi:lo` of a structure.
    pub(crate) const fn new(name: &'static str, hi: u16, lo: u16, address: bool) -> Self {
        assert!(hi >= lo && hi / 64 == lo / 64, "a field lies within one 64-bit word");
        Bits { name, hi, lo, address }
    }

    #[inline]
    pub(super) const fn word(&self) -> usize {
        self.lo as usize / 64
    }

    #[inline]
    pub(super) const fn mask(&self) -> u64 {
        u64::MAX >> (63 - (self.hi - self.lo)) << (self.lo % 64)
    }

    #[inline]
    pub(super) const fn max(&self) -> u64 {
        match self.address {
            true => self.mask(),
            false => u64::MAX >> (63 - (self.hi - self.lo)),
        }
    }

    #[inline]
    pub(super) const fn get(&self, words: &[u64]) -> u64 {
        if self.word() >= words.len() {
            return 0;
        }
        let masked = words[self.word()] & self.mask();
        if self.address { masked } else { masked >> (self.lo % 64) }
    }

    #[inline]
    pub(super) const fn cut(&self, value: u64) -> u64 {
        let moved = if self.address { value } else { value << (self.lo % 64) };
        moved & self.mask()
    }

    #[inline]
    pub(super) const fn place(&self, value: u64) -> Result<u64, FieldError> {
        let (field, max) = (self.name, self.max());
        if !self.address {
            if value > max {
                return Err(FieldError::TooLarge { field, value, max });
            }
            return Ok(value << (self.lo % 64));
        }
        // One test in the good case; only the bad case needs to know which of the two it is.
        if value & !max == 0 {
            return Ok(value);
        }
        let align = 1 << (self.lo % 64);
        if value & (align - 1) != 0 {
            return Err(FieldError::Misaligned { field, value, align });
        }
        Err(FieldError::TooLarge { field, value, max })
    }
}
