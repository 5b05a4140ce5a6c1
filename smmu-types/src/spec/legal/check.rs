//! One structure under the rules.

use super::finding::Finding;
use super::rule::Rule;
use super::structure::Structure;
use crate::layout::Key;

/// One structure, its words, and where findings go.
///
/// Without `ALL`, findings that change nothing are left out: those of IGNORED and RES0 fields. A program
/// that does not ask for them has neither their rules nor their texts.
pub(super) struct Check<'a, S, const ALL: bool> {
    words: &'a [u64],
    report: &'a mut dyn FnMut(Finding),
    marker: core::marker::PhantomData<S>,
}

impl<'a, S: Structure, const ALL: bool> Check<'a, S, ALL> {
    pub(super) fn new(words: &'a [u64], report: &'a mut dyn FnMut(Finding)) -> Self {
        Check { words, report, marker: core::marker::PhantomData }
    }

    #[inline(always)]
    pub(super) fn get(&self, key: &Key<S>) -> u64 {
        key.get(self.words)
    }

    #[inline(always)]
    pub(super) fn is_set(&self, key: &Key<S>) -> bool {
        self.get(key) != 0
    }

    pub(super) fn find(&mut self, key: &'static Key<S>, rule: Rule) {
        let value = self.get(key);
        (self.report)(Finding {
            structure: S::NAME,
            bits: key.bits(),
            value,
            rule,
            #[cfg(feature = "fields")]
            layout: S::LAYOUT,
            #[cfg(feature = "fields")]
            field: key.field(),
        });
    }

    /// The field is RES0 here.
    #[inline(always)]
    pub(super) fn res0(&mut self, key: &'static Key<S>, why: &'static str) {
        if ALL && self.is_set(key) {
            self.find(key, Rule::Res0 { why });
        }
    }

    /// The field is IGNORED here.
    #[inline(always)]
    pub(super) fn ignored(&mut self, key: &'static Key<S>, why: &'static str) {
        if ALL && self.is_set(key) {
            self.find(key, Rule::IgnoredField { why });
        }
    }

    /// The address of a translation table, of which only the low `bits` count.
    pub(super) fn table(&mut self, key: &'static Key<S>, bits: u8) -> u64 {
        let address = self.get(key);
        if ALL && address >> bits != 0 {
            self.find(key, Rule::Res0 { why: "above the address that the table format has" });
        }
        address & ((1 << bits) - 1)
    }

    pub(super) fn shareability(&mut self, key: &'static Key<S>) {
        if self.get(key) == 1 {
            self.find(key, Rule::ReservedValue { behaves: "0b00: non-shareable" });
        }
    }

    /// Hardware update of flags needs Write-Back walks.
    pub(super) fn write_back(&mut self, key: &'static Key<S>) {
        if self.get(key) & 1 == 0 {
            self.find(key, Rule::UpdateUncached);
        }
    }
}
