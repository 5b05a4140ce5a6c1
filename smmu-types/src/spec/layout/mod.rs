//! Fields of the architecture's structures: a [`Key`] for each, and tables that list, print and explain them.
//!
//! Encoders and decoders go through the keys, so each bit position is written down once, in
//! [`fields`](crate::fields). A key belongs to one structure: `ste.get(fields::ste::S2VMID)` compiles, and
//! `ste.get(fields::cd::ASID)` does not.
//!
//! Feature `fields` adds a `Layout` per structure: a command, an event record, an STE, a register. A layout is
//! total: every bit pattern splits into `FieldValue`s and `Residue` (set bits outside all fields), and
//! the two together are the pattern again. No bit is lost, and no pattern is refused.
//!
#![cfg_attr(feature = "fields", doc = "```")]
#![cfg_attr(not(feature = "fields"), doc = "```ignore")]
//! use smmu_types::{Ste, fields};
//!
//! let ste = Ste([0x8000_0000_0000_000d, 0, 0x7, 0, 0, 0, 0, 0]);
//! assert_eq!(ste.get(fields::ste::S2VMID), 7);
//! let config = fields::ste::LAYOUT.field("Config").unwrap();
//! assert_eq!(config.of(&ste.0).meaning().unwrap().to_string(), "stage 2 translates, stage 1 is bypassed");
//! ```

mod bits;
#[cfg(feature = "fields")]
mod table;
#[cfg(all(test, feature = "fields"))]
mod tests;

use core::marker::PhantomData;

pub(crate) use bits::Bits;
#[cfg(feature = "fields")]
pub use table::{Choice, Field, FieldValue, Layout, Meaning, Residue, Residues, ValueText};

use crate::FieldError;

/// A field of the structure `S`: its name and its bits.
///
/// The type keeps a key of one structure from being used with another. A key is a constant, so that what is computed
/// from it costs no instruction.
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

    /// The value in `words`: an address whole, every other value moved down to bit 0. Zero where `words` ends before
    /// the field.
    #[must_use]
    #[inline]
    pub const fn get(self, words: &[u64]) -> u64 {
        self.bits.get(words)
    }

    /// The bits of `value` in the field's place; a caller ors them into the word at index [`word`](Self::word).
    ///
    /// # Errors
    ///
    /// The value does not fit, or an address is not aligned. Reserved values pass, because emulators and tests need
    /// them.
    #[inline]
    pub const fn place(self, value: u64) -> Result<u64, FieldError> {
        self.bits.place(value)
    }

    /// As [`place`](Self::place), without a check: the bits that the field does not have are lost.
    #[inline]
    pub(crate) const fn cut(self, value: u64) -> u64 {
        self.bits.cut(value)
    }

    /// The same field without its bits above `hi`, which counts from bit 0 of the structure.
    pub(crate) const fn up_to(self, hi: u16) -> Self {
        let Bits { name, lo, address, .. } = self.bits;
        Key { bits: Bits::new(name, hi, lo, address), ..self }
    }
}

/// Gives a newtype over words `get` and `with`, by key.
macro_rules! keyed {
    ($structure:ident) => {
        impl $structure {
            /// The value of a field: an address whole, every other value moved down to bit 0.
            #[must_use]
            #[inline]
            pub const fn get(&self, key: $crate::layout::Key<Self>) -> u64 {
                key.get(&self.0)
            }

            /// Whether a field is not zero.
            #[must_use]
            #[inline]
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

/// Gives a [`keyed!`] structure what its encoders use, `put` and where needed `fit`: they start from zeros and set
/// each field once, so nothing is cleared.
macro_rules! encoded {
    ($structure:ident: put) => {
        impl $structure {
            /// The same words with a value in a field that is still zero. The value fits, or its upper bits are lost.
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

/// A [`Key`] for each field, `IDENT "Name" hi:lo meaning;` with one line of documentation each; with feature `fields`
/// also the table of them, `LAYOUT`.
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
                    $field, $hi, $lo, $crate::layout::is_address!($meaning),
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

macro_rules! is_address {
    (address) => {
        true
    };
    ($other:ident) => {
        false
    };
}
pub(crate) use is_address;

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
            $($crate::layout::Choice { value: $value, text: $text }),*
        ])
    };
}
#[cfg(feature = "fields")]
pub(crate) use meaning;
