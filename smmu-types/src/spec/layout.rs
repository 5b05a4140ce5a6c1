//! Structures of the architecture as tables of fields, for whoever prints, compares or checks bits.
//!
//! A [`Layout`] lists the fields of one structure: a command, an event record, an STE, a register. It is total:
//! every bit pattern splits into [`FieldValue`]s and [`Residue`] (set bits that belong to no field), and the two
//! together are the pattern again. Nothing is lost, nothing is refused.
//!
//! The tables themselves are in [`fields`](crate::fields), with one [`Key`] for each field, so that
//! `ste.get(fields::ste::S2VMID)` compiles and `ste.get(fields::cd::ASID)` does not.
//!
//! ```
//! use smmu_types::{Ste, fields};
//!
//! let ste = Ste([0x8000_0000_0000_000d, 0, 0x7, 0, 0, 0, 0, 0]);
//! assert_eq!(ste.get(fields::ste::S2VMID), 7);
//! let config = fields::ste::LAYOUT.field("Config").unwrap();
//! assert_eq!(config.of(&ste.0).meaning().unwrap().to_string(), "stage 2 translates, stage 1 is bypassed");
//! ```

use core::fmt;
use core::marker::PhantomData;

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
    name: &'static str,
    hi: u16,
    lo: u16,
    text: &'static str,
    meaning: Meaning,
}

/// What the values of a field mean.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Meaning {
    /// A number; people write it in decimal.
    Number,
    /// A number; people write it in hexadecimal.
    Hex,
    /// log2 of something.
    Log2,
    /// An address, in place: its low bits, which the field does not have, are zero.
    Address,
    /// One bit that says one of two things.
    Flag {
        /// What 0 means.
        clear: &'static str,
        /// What 1 means.
        set: &'static str,
    },
    /// One of a list; values that are not in it are reserved.
    Choice(&'static [Choice]),
    /// Implementation defined.
    ImplementationDefined,
    /// Free for software; hardware does not look.
    Ignored,
}

/// One value of a field and what it means.
#[derive(Clone, Copy, Debug)]
pub struct Choice {
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

    /// The field of this name, spelled as the architecture does; capitals do not matter.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.name.eq_ignore_ascii_case(name))
    }

    /// The fields with their values, from bit 0 upwards. Words that `words` does not have read as zero.
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
    /// A field of bits `hi:lo` of a structure.
    pub(crate) const fn new(
        name: &'static str,
        hi: u16,
        lo: u16,
        text: &'static str,
        meaning: Meaning,
    ) -> Self {
        assert!(hi >= lo && hi / 64 == lo / 64, "a field lies within one 64-bit word");
        Field { name, hi, lo, text, meaning }
    }

    /// The architecture's name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The highest bit, counted from bit 0 of the structure.
    #[must_use]
    pub const fn hi(&self) -> u16 {
        self.hi
    }

    /// The lowest bit, counted from bit 0 of the structure.
    #[must_use]
    pub const fn lo(&self) -> u16 {
        self.lo
    }

    /// What the field is, in one sentence.
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
        match self.meaning {
            Meaning::Address => self.mask(),
            _ => u64::MAX >> (63 - (self.hi - self.lo)),
        }
    }

    /// The 64-bit word of the structure in which the field lies.
    #[must_use]
    pub const fn word(&self) -> usize {
        self.lo as usize / 64
    }

    /// The field's bits in that word.
    #[must_use]
    pub const fn mask(&self) -> u64 {
        u64::MAX >> (63 - (self.hi - self.lo)) << (self.lo % 64)
    }

    /// The value in `words`: the whole address for an address, the bits moved down for everything else. Zero
    /// where `words` does not reach.
    #[must_use]
    pub const fn get(&self, words: &[u64]) -> u64 {
        if self.word() >= words.len() {
            return 0;
        }
        let masked = words[self.word()] & self.mask();
        match self.meaning {
            Meaning::Address => masked,
            _ => masked >> (self.lo % 64),
        }
    }

    /// The bits of `value` where the field has them, to be put into [`word`](Self::word).
    ///
    /// # Errors
    ///
    /// The value does not fit, or an address is not aligned. Reserved values of a choice are not refused: an
    /// emulator and a test need them.
    pub const fn place(&self, value: u64) -> Result<u64, FieldError> {
        let field = self.name;
        if let Meaning::Address = self.meaning {
            let align = 1 << (self.lo % 64);
            if value & (align - 1) != 0 {
                return Err(FieldError::Misaligned { field, value, align });
            }
            if value & !self.mask() != 0 {
                return Err(FieldError::TooLarge { field, value, max: self.mask() });
            }
            return Ok(value);
        }
        if value > self.max() {
            return Err(FieldError::TooLarge { field, value, max: self.max() });
        }
        Ok(value << (self.lo % 64))
    }

    /// The field with its value in `words`.
    #[must_use]
    pub const fn of(&'static self, words: &[u64]) -> FieldValue {
        FieldValue { field: self, value: self.get(words) }
    }
}

/// A field and the value that it has somewhere.
#[derive(Clone, Copy, Debug)]
pub struct FieldValue {
    /// The field.
    pub field: &'static Field,
    /// Its value, as [`Field::get`] gives it.
    pub value: u64,
}

impl FieldValue {
    /// What the value means in words, where the architecture gives it a meaning of its own.
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

    /// Whether the value is one that the architecture reserves.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        matches!(self.meaning(), Some(ValueText::Reserved))
    }
}

/// The number as people write it for this field.
impl fmt::Display for FieldValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field.meaning {
            Meaning::Hex | Meaning::Address | Meaning::ImplementationDefined | Meaning::Ignored => {
                write!(f, "{:#x}", self.value)
            }
            _ => write!(f, "{}", self.value),
        }
    }
}

/// What a value means, in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ValueText {
    /// A meaning of the architecture.
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
            && !self.fields.iter().any(|field| field.lo <= bit && bit <= field.hi)
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

/// A field of the structure `S`.
///
/// The type keeps a key of one structure from being used with another.
#[derive(Debug)]
pub struct Key<S> {
    field: &'static Field,
    marker: PhantomData<fn() -> S>,
}

impl<S> Clone for Key<S> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<S> Copy for Key<S> {}

impl<S> Key<S> {
    pub(crate) const fn new(field: &'static Field) -> Self {
        Key { field, marker: PhantomData }
    }

    /// The field.
    #[must_use]
    pub const fn field(self) -> &'static Field {
        self.field
    }
}

/// Gives a newtype over words `get` and `with`, by key.
macro_rules! keyed {
    ($structure:ident) => {
        impl $structure {
            /// The value of a field: the whole address for an address, the bits moved down for everything else.
            #[must_use]
            pub const fn get(&self, key: $crate::layout::Key<Self>) -> u64 {
                key.field().get(&self.0)
            }

            /// The same words with another value in one field.
            ///
            /// # Errors
            ///
            /// The value does not fit, or an address is not aligned.
            pub const fn with(
                mut self,
                key: $crate::layout::Key<Self>,
                value: u64,
            ) -> Result<Self, $crate::FieldError> {
                let field = key.field();
                match field.place(value) {
                    Ok(placed) => {
                        self.0[field.word()] = self.0[field.word()] & !field.mask() | placed;
                        Ok(self)
                    }
                    Err(error) => Err(error),
                }
            }
        }
    };
}
pub(crate) use keyed;

/// A table of fields and a [`Key`] for each: `IDENT "Name" hi:lo meaning;`, with one line of documentation each.
///
/// Meanings: `number`, `hex`, `log2`, `address`, `flag("what 0 means", "what 1 means")`,
/// `choice(0 => "...", 2 => "...")`, `impdef`, `ignored`.
macro_rules! fields {
    (
        $structure:ty, $name:literal, $section:literal, $bits:literal;
        $($(#[doc = $doc:literal])+ $ident:ident $field:literal $hi:literal : $lo:literal
            $meaning:ident $(($($of:tt)*))?;)*
    ) => {
        /// The table.
        pub static LAYOUT: $crate::layout::Layout =
            $crate::layout::Layout::new($name, $section, $bits, FIELDS);

        static FIELDS: &[$crate::layout::Field] = &[
            $($crate::layout::Field::new(
                $field, $hi, $lo, concat!($($doc),+),
                $crate::layout::meaning!($meaning $(($($of)*))?),
            ),)*
        ];

        $(
            $(#[doc = $doc])+
            #[doc = concat!("\n\n`", $field, "`, bits ", $hi, ":", $lo, ".")]
            pub const $ident: $crate::layout::Key<$structure> = {
                static FIELD: $crate::layout::Field = $crate::layout::Field::new(
                    $field, $hi, $lo, concat!($($doc),+),
                    $crate::layout::meaning!($meaning $(($($of)*))?),
                );
                $crate::layout::Key::new(&FIELD)
            };
        )*
    };
}
pub(crate) use fields;

macro_rules! meaning {
    (number) => { $crate::layout::Meaning::Number };
    (hex) => { $crate::layout::Meaning::Hex };
    (log2) => { $crate::layout::Meaning::Log2 };
    (address) => { $crate::layout::Meaning::Address };
    (impdef) => { $crate::layout::Meaning::ImplementationDefined };
    (ignored) => { $crate::layout::Meaning::Ignored };
    (flag($clear:literal, $set:literal)) => {
        $crate::layout::Meaning::Flag { clear: $clear, set: $set }
    };
    (choice($($value:literal => $text:literal),* $(,)?)) => {
        $crate::layout::Meaning::Choice(&[
            $($crate::layout::Choice { value: $value, text: $text }),*
        ])
    };
}
pub(crate) use meaning;

#[cfg(test)]
#[expect(dead_code, unreachable_pub, reason = "the macros make public things")]
mod tests {
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
}
