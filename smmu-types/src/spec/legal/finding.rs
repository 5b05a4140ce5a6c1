//! What the rules find.

use core::fmt;

use super::rule::{Effect, Rule};
use crate::layout::Bits;
#[cfg(feature = "fields")]
use crate::layout::{Field, Layout};

/// A rule that a structure breaks, and the field that breaks it.
#[derive(Clone, Copy, Debug)]
pub struct Finding {
    pub(super) structure: &'static str,
    pub(super) bits: &'static Bits,
    pub(super) value: u64,
    pub(super) rule: Rule,
    #[cfg(feature = "fields")]
    pub(super) layout: &'static Layout,
    #[cfg(feature = "fields")]
    pub(super) field: &'static Field,
}

impl Finding {
    /// The architecture's name of the structure.
    #[must_use]
    pub const fn structure(&self) -> &'static str {
        self.structure
    }

    /// The architecture's name of the field.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.bits.name
    }

    /// The structure with all its fields. Feature `fields`.
    #[cfg(feature = "fields")]
    #[must_use]
    pub const fn layout(&self) -> &'static Layout {
        self.layout
    }

    /// The field with its text and the meaning of its values. Feature `fields`.
    #[cfg(feature = "fields")]
    #[must_use]
    pub const fn field(&self) -> &'static Field {
        self.field
    }

    /// The field's value: an address in place, every other value moved down to bit 0.
    #[must_use]
    pub const fn value(&self) -> u64 {
        self.value
    }

    /// The rule.
    #[must_use]
    pub const fn rule(&self) -> Rule {
        self.rule
    }

    /// What the SMMU does about it.
    #[must_use]
    pub const fn effect(&self) -> Effect {
        self.rule.effect()
    }
}

/// `S1ContextPtr = 0x1000: ` and the rule.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = ", self.name())?;
        self.bits.print(self.value, f)?;
        write!(f, ": {}", self.rule)
    }
}
