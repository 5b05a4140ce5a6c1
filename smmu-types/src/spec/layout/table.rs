//! Tables of fields with texts and meanings, which print, compare and explain bits.

use core::fmt;

use super::Bits;
use crate::FieldError;

/// One structure: its name, its size and its fields.
#[derive(Debug)]
pub struct Layout {
    name: &'static str,
    section: &'static str,
    bits: u16,
    fields: &'static [Field],
}

/// One field of a structure.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    bits: Bits,
    text: &'static str,
    meaning: Meaning,
}

/// The meaning of a field's values.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Meaning {
    /// A number, printed in decimal.
    Number,
    /// A number, printed in hexadecimal.
    Hex,
    /// log2 of something.
    Log2,
    /// An address, in place. The low bits, which the field does not hold, are zero.
    Address,
    /// One bit with two meanings.
    Flag {
        /// What 0 means.
        clear: &'static str,
        /// What 1 means.
        set: &'static str,
    },
    /// One of a list of values. Other values are reserved.
    Choice(&'static [NamedValue]),
    /// Implementation defined.
    ImplementationDefined,
    /// Free for software: the SMMU ignores it.
    Ignored,
}

/// One value of a field and its meaning.
#[derive(Clone, Copy, Debug)]
pub struct NamedValue {
    /// The value.
    pub value: u64,
    /// What it means, in words.
    pub text: &'static str,
}

impl Layout {
    /// A table.
    pub(crate) const fn new(
        name: &'static str,
        section: &'static str,
        bits: u16,
        fields: &'static [Field],
    ) -> Self {
        Layout { name, section, bits, fields }
    }

    /// The architecture's name of the structure.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The section of IHI 0070 that defines it.
    #[must_use]
    pub const fn section(&self) -> &'static str {
        self.section
    }

    /// Size in bits: 32, 64, 128, 256 or 512.
    #[must_use]
    pub const fn bits(&self) -> u16 {
        self.bits
    }

    /// The fields, from bit 0 upwards.
    #[must_use]
    pub const fn fields(&self) -> &'static [Field] {
        self.fields
    }

    /// The field with the architecture's name `name`, whatever the case of its letters.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.name().eq_ignore_ascii_case(name))
    }

    /// The fields with their values, from bit 0 upwards. Words beyond the end of `words` read as
    /// zero.
    pub fn split<'w>(&self, words: &'w [u64]) -> impl Iterator<Item = FieldValue> + use<'w> {
        self.fields.iter().map(|field| field.of(words))
    }

    /// The set bits that belong to no field, as runs from bit 0 upwards.
    #[must_use]
    pub fn residue<'w>(&self, words: &'w [u64]) -> Residues<'w> {
        Residues { words, bits: self.bits, fields: self.fields, at: 0 }
    }
}

impl Field {
    pub(super) const fn bits(&self) -> &Bits {
        &self.bits
    }

    /// A field that lies in `bits`.
    pub(crate) const fn new(bits: Bits, text: &'static str, meaning: Meaning) -> Self {
        Field { bits, text, meaning }
    }

    /// The architecture's name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.bits.name
    }

    /// The highest bit, counted from bit 0 of the structure.
    #[must_use]
    pub const fn hi(&self) -> u16 {
        self.bits.hi
    }

    /// The lowest bit, counted from bit 0 of the structure.
    #[must_use]
    pub const fn lo(&self) -> u16 {
        self.bits.lo
    }

    /// The description of the field, in one sentence.
    #[must_use]
    pub fn text(&self) -> &'static str {
        self.text.trim_ascii()
    }

    /// What its values mean.
    #[must_use]
    pub const fn meaning(&self) -> Meaning {
        self.meaning
    }

    /// The largest value.
    #[must_use]
    pub const fn max(&self) -> u64 {
        self.bits.max()
    }

    /// The index of the structure's 64-bit word that holds the field.
    #[must_use]
    pub const fn word(&self) -> usize {
        self.bits.word()
    }

    /// The field's bits in that word.
    #[must_use]
    pub const fn mask(&self) -> u64 {
        self.bits.mask()
    }

    /// The value in `words`: an address in place, every other value moved down to bit 0. Zero if
    /// `words` ends before the field.
    #[must_use]
    pub const fn get(&self, words: &[u64]) -> u64 {
        self.bits.get(words)
    }

    /// The bits of `value` in the field's place; a caller ors them into the word at index
    /// [`word`](Self::word).
    ///
    /// # Errors
    ///
    /// The value does not fit, or an address is not aligned. Reserved values of a choice are
    /// allowed, because emulators and tests need them.
    pub const fn place(&self, value: u64) -> Result<u64, FieldError> {
        self.bits.place(value)
    }

    /// The field with its value in `words`.
    #[must_use]
    pub const fn of(&'static self, words: &[u64]) -> FieldValue {
        FieldValue { field: self, value: self.get(words) }
    }
}

/// A field and its value in one bit pattern.
#[derive(Clone, Copy, Debug)]
pub struct FieldValue {
    /// The field.
    pub field: &'static Field,
    /// Its value, as [`Field::get`] gives it.
    pub value: u64,
}

impl FieldValue {
    /// The meaning of the value in words, if the architecture gives it one.
    #[must_use]
    pub fn meaning(&self) -> Option<ValueText> {
        Some(match self.field.meaning {
            Meaning::Flag { clear, set } => {
                ValueText::Known(if self.value & 1 == 0 { clear } else { set })
            }
            Meaning::Choice(choices) => {
                match choices.iter().find(|choice| choice.value == self.value) {
                    Some(choice) => ValueText::Known(choice.text),
                    None => ValueText::Reserved,
                }
            }
            Meaning::Log2 => ValueText::Log2(self.value),
            Meaning::ImplementationDefined if self.value != 0 => {
                ValueText::Known("implementation defined")
            }
            _ => return None,
        })
    }

    /// Whether the architecture reserves the value.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        matches!(self.meaning(), Some(ValueText::Reserved))
    }
}

/// The number, in the base that the field's meaning implies.
impl fmt::Display for FieldValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.field.bits.print(self.value, f)
    }
}

/// The meaning of a value, in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ValueText {
    /// The architecture's meaning.
    Known(&'static str),
    /// A value that the architecture reserves.
    Reserved,
    /// The number is a logarithm.
    Log2(u64),
}

impl fmt::Display for ValueText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            ValueText::Known(text) => f.write_str(text),
            ValueText::Reserved => f.write_str("reserved value"),
            ValueText::Log2(log2) => match 1u64.checked_shl(log2.min(64) as u32) {
                Some(count) => write!(f, "2^{log2} = {count}"),
                None => write!(f, "2^{log2}"),
            },
        }
    }
}

/// Set bits that belong to no field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Residue {
    /// The highest bit of the run, counted from bit 0 of the structure.
    pub hi: u16,
    /// The lowest bit of the run. A run does not cross a 64-bit word.
    pub lo: u16,
}

/// The runs of set bits that belong to no field; see [`Layout::residue`].
#[derive(Clone, Debug)]
pub struct Residues<'w> {
    words: &'w [u64],
    bits: u16,
    fields: &'static [Field],
    at: u16,
}

impl Residues<'_> {
    fn is_residue(&self, bit: u16) -> bool {
        let word = self.words.get(usize::from(bit / 64)).copied().unwrap_or(0);
        word >> (bit % 64) & 1 != 0
            && !self.fields.iter().any(|field| field.lo() <= bit && bit <= field.hi())
    }
}

impl Iterator for Residues<'_> {
    type Item = Residue;

    fn next(&mut self) -> Option<Residue> {
        let lo = (self.at..self.bits).find(|&bit| self.is_residue(bit))?;
        let end = (lo / 64 + 1) * 64;
        let mut hi = lo;
        while hi + 1 < end.min(self.bits) && self.is_residue(hi + 1) {
            hi += 1;
        }
        self.at = hi + 1;
        Some(Residue { hi, lo })
    }
}
