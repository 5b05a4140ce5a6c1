//! Fields of the architecture's structures: a [`Key`] for each, and tables that list, print and
//! explain them.
//!
//! Encoders and decoders use the keys, so [`fields`](crate::fields) defines each bit position once.
//! A key belongs to one structure: `ste.get(fields::ste::S2VMID)` compiles, and
//! `ste.get(fields::cd::ASID)` does not.
//!
//! Feature `fields` adds a `Layout` per structure: a command, an event record, an STE, a register.
//! A layout splits every bit pattern into `FieldValue`s and `Residue` (set bits outside all
//! fields). The two together are the pattern again: a layout loses no bit, and refuses no pattern.
//!
#![cfg_attr(feature = "fields", doc = "```")]
#![cfg_attr(not(feature = "fields"), doc = "```ignore")]
//! use smmu_types::{Ste, fields};
//!
//! let ste = Ste([0x8000_0000_0000_000d, 0, 0x7, 0, 0, 0, 0, 0]);
//! assert_eq!(ste.get(fields::ste::S2VMID), 7);
//! let config = fields::ste::LAYOUT.field("Config").unwrap();
//! let meaning = config.of(&ste.0).meaning().unwrap();
//! assert_eq!(meaning.to_string(), "stage 2 translates, stage 1 is bypassed");
//! ```

mod bits;
#[cfg(feature = "fields")]
mod table;
#[cfg(all(test, feature = "fields"))]
mod tests;

use core::marker::PhantomData;

pub(crate) use bits::{Bits, Form};
#[cfg(feature = "fields")]
pub use table::{Field, FieldValue, Layout, Meaning, NamedValue, Residue, Residues, ValueText};

use crate::FieldError;

/// A field of the structure `S`: its name and its bits.
///
/// The type prevents the use of a key with another structure. A key is a constant, so masks and
/// shifts from it cost no instruction.
#[derive(Debug)]
pub struct Key<S> {
    bits: Bits,
    #[cfg(feature = "fields")]
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
    #[cfg(not(feature = "fields"))]
    pub(crate) const fn new(bits: Bits) -> Self {
        Key { bits, marker: PhantomData }
    }

    #[cfg(feature = "fields")]
    pub(crate) const fn new(field: &'static Field) -> Self {
        Key { bits: *field.bits(), field, marker: PhantomData }
    }

    /// The field with its text and the meaning of its values. Feature `fields`.
    #[cfg(feature = "fields")]
    #[must_use]
    pub const fn field(self) -> &'static Field {
        self.field
    }

    #[cfg(feature = "legal")]
    pub(crate) const fn bits(&self) -> &Bits {
        &self.bits
    }

    /// The architecture's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.bits.name
    }

    /// The highest bit, counted from bit 0 of the structure.
    #[must_use]
    pub const fn hi(self) -> u16 {
        self.bits.hi
    }

    /// The lowest bit, counted from bit 0 of the structure.
    #[must_use]
    pub const fn lo(self) -> u16 {
        self.bits.lo
    }

    /// The index of the structure's 64-bit word that holds the field.
    #[must_use]
    pub const fn word(self) -> usize {
        self.bits.word()
    }

    /// The field's bits in that word.
    #[must_use]
    pub const fn mask(self) -> u64 {
        self.bits.mask()
    }

    /// The largest value.
    #[must_use]
    pub const fn max(self) -> u64 {
        self.bits.max()
    }

    /// The value in `words`: an address in place, every other value moved down to bit 0. Zero if
    /// `words` ends before the field.
    #[must_use]
    #[inline(always)]
    pub const fn get(self, words: &[u64]) -> u64 {
        self.bits.get(words)
    }

    /// The bits of `value` in the field's place; a caller ors them into the word at index
    /// [`word`](Self::word).
    ///
    /// # Errors
    ///
    /// The value does not fit, or an address is not aligned. Reserved values are allowed, because
    /// emulators and tests need them.
    #[inline(always)]
    pub const fn place(self, value: u64) -> Result<u64, FieldError> {
        self.bits.place(value)
    }

    /// As [`place`](Self::place), without a check: bits outside the field are lost.
    #[inline(always)]
    pub(crate) const fn cut(self, value: u64) -> u64 {
        self.bits.cut(value)
    }

    /// The same field without its bits above bit `hi` of the structure.
    pub(crate) const fn up_to(self, hi: u16) -> Self {
        let Bits { name, lo, form, .. } = self.bits;
        Key { bits: Bits::new(name, hi, lo, form), ..self }
    }
}

/// Adds `get` and `with`, by key, to a newtype over words.
macro_rules! keyed {
    ($structure:ident) => {
        impl $structure {
            /// The value of a field: an address in place, every other value moved down to bit 0.
            #[must_use]
            #[inline(always)]
            pub const fn get(&self, key: $crate::layout::Key<Self>) -> u64 {
                key.get(&self.0)
            }

            /// Whether a field is not zero.
            #[must_use]
            #[inline(always)]
            pub const fn is_set(&self, key: $crate::layout::Key<Self>) -> bool {
                self.0[key.word()] & key.mask() != 0
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
                match key.place(value) {
                    Ok(placed) => {
                        self.0[key.word()] = self.0[key.word()] & !key.mask() | placed;
                        Ok(self)
                    }
                    Err(error) => Err(error),
                }
            }
        }
    };
}
pub(crate) use keyed;

/// Adds `put` and, where needed, `fit` to a [`keyed!`] structure, for its encoders. An encoder
/// starts from zeros and sets each field once, so neither clears a field first.
macro_rules! encoded {
    ($structure:ident: put) => {
        impl $structure {
            /// The same words with a value in a field that is still zero. Bits that do not fit are
            /// lost.
            #[inline(always)]
            pub(crate) const fn put(mut self, key: $crate::layout::Key<Self>, value: u64) -> Self {
                self.0[key.word()] |= key.cut(value);
                self
            }
        }
    };
    ($structure:ident: put, fit) => {
        $crate::layout::encoded!($structure: put);
        impl $structure {
            /// The same words with a checked value in a field that is still zero.
            #[inline(always)]
            pub(crate) const fn fit(
                mut self,
                key: $crate::layout::Key<Self>,
                value: u64,
            ) -> Result<Self, $crate::FieldError> {
                self.0[key.word()] |= $crate::layout::attempt!(key.place(value));
                Ok(self)
            }
        }
    };
}
pub(crate) use encoded;

/// The value of a `Result`, or an early return with its error. A `const fn` cannot use `?`.
macro_rules! attempt {
    ($result:expr) => {
        match $result {
            Ok(value) => value,
            Err(error) => return Err(error),
        }
    };
}
pub(crate) use attempt;

/// Defines a [`Key`] for each field: documentation and `IDENT "Name" hi:lo meaning;`. With feature
/// `fields` it also defines their table, `LAYOUT`.
///
/// Meanings: `number`, `hex`, `log2`, `address`, `flag("what 0 means", "what 1 means")`,
/// `choice(0 => "...", 2 => "...")`, `impdef`, `ignored`.
macro_rules! fields {
    (
        $structure:ty, $name:literal, $section:literal, $bits:literal;
        $($(#[doc = $doc:literal])+ $ident:ident $field:literal $hi:literal : $lo:literal
            $meaning:ident $(($($of:tt)*))?;)*
    ) => {
        /// The table. Feature `fields`.
        #[cfg(feature = "fields")]
        pub static LAYOUT: $crate::layout::Layout =
            $crate::layout::Layout::new($name, $section, $bits, FIELDS);

        #[cfg(feature = "fields")]
        static FIELDS: &[$crate::layout::Field] = &[$(*$ident.field(),)*];

        $(
            $(#[doc = $doc])+
            #[doc = concat!("\n\n`", $field, "`, bits ", $hi, ":", $lo, ".")]
            pub const $ident: $crate::layout::Key<$structure> = {
                const BITS: $crate::layout::Bits = $crate::layout::Bits::new(
                    $field, $hi, $lo, $crate::layout::form!($meaning),
                );
                #[cfg(feature = "fields")]
                {
                    static FIELD: $crate::layout::Field = $crate::layout::Field::new(
                        BITS, concat!($($doc),+), $crate::layout::meaning!($meaning $(($($of)*))?),
                    );
                    $crate::layout::Key::new(&FIELD)
                }
                #[cfg(not(feature = "fields"))]
                $crate::layout::Key::new(BITS)
            };
        )*
    };
}
pub(crate) use fields;

macro_rules! form {
    (address) => {
        $crate::layout::Form::Address
    };
    (hex) => {
        $crate::layout::Form::Hex
    };
    (impdef) => {
        $crate::layout::Form::Hex
    };
    (ignored) => {
        $crate::layout::Form::Hex
    };
    ($other:ident) => {
        $crate::layout::Form::Decimal
    };
}
pub(crate) use form;

#[cfg(feature = "fields")]
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
            $($crate::layout::NamedValue { value: $value, text: $text }),*
        ])
    };
}
#[cfg(feature = "fields")]
pub(crate) use meaning;
