//! What the rules find.

use core::fmt;

use super::rule::{Effect, Rule};
use crate::layout::{Field, FieldValue, Layout};

/// A rule that a structure breaks, and the field that breaks it.
#[derive(Clone, Copy, Debug)]
pub struct Finding {
    pub(super) layout: &'static Layout,
    pub(super) field: &'static Field,
    pub(super) value: u64,
    pub(super) rule: Rule,
}

impl Finding {
    /// The structure.
    #[must_use]
    pub const fn layout(&self) -> &'static Layout {
        self.layout
    }

    /// The field.
    #[must_use]
    pub const fn field(&self) -> &'static Field {
        self.field
    }

    /// The field's value, as [`Field::get`] gives it.
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
        let value = FieldValue { field: self.field, value: self.value };
        write!(f, "{} = {value}: {}", self.field.name(), self.rule)
    }
}
