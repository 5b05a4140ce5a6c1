//! The rules under which an SMMU refuses a configuration, or takes it for another one.
//!
//! ```
//! use smmu_types::{IdRegisters, Ste, legal};
//!
//! // An SMMU with stage 1 only, and an STE that wants stage 2.
//! let smmu = legal::Smmu::new(IdRegisters { idr0: 0x0a, idr5: 0x75, aidr: 2, ..IdRegisters::default() });
//! let mut found = Vec::new();
//! legal::ste(&Ste([0xd, 0, 0, 0, 0, 0, 0, 0]), &smmu, &mut |finding| found.push(finding));
//! assert_eq!(found[0].to_string(), "Config = 6: the SMMU has no stage 2 (IDR0.S2P = 0)");
//! assert_eq!(found[0].effect().to_string(), "refused with C_BAD_STE");
//! ```

mod context;
mod entry;
mod lookup;
mod rule;
mod smmu;
mod stage2;
mod walk;

use core::fmt;

pub use rule::{Effect, Rule, Stage};
pub use smmu::{El2Regime, Smmu, TranslatedTraffic};

use crate::layout::{Field, FieldValue, Key, Layout};
use crate::{
    Cd, ContextTableDescriptor, Ste, StreamId, StreamTableDescriptor, SubstreamId, fields,
};

/// A rule that a structure breaks, and the field that breaks it.
#[derive(Clone, Copy, Debug)]
pub struct Finding {
    layout: &'static Layout,
    field: &'static Field,
    value: u64,
    rule: Rule,
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

/// Where a StreamID leads: `STRTAB_BASE_CFG`, and the level-1 descriptor of the StreamID in a two-level table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamTable {
    /// `STRTAB_BASE_CFG`.
    pub config: u32,
    /// The descriptor; `None` for a linear table, or where it is not known.
    pub descriptor: Option<StreamTableDescriptor>,
}

/// A structure under judgement.
struct Case<'a, S> {
    layout: &'static Layout,
    words: &'a [u64],
    report: &'a mut dyn FnMut(Finding),
    marker: core::marker::PhantomData<S>,
}

impl<'a, S> Case<'a, S> {
    fn new(layout: &'static Layout, words: &'a [u64], report: &'a mut dyn FnMut(Finding)) -> Self {
        Case { layout, words, report, marker: core::marker::PhantomData }
    }

    fn get(&self, key: Key<S>) -> u64 {
        key.field().get(self.words)
    }

    fn is_set(&self, key: Key<S>) -> bool {
        self.get(key) != 0
    }

    fn find(&mut self, key: Key<S>, rule: Rule) {
        let field = key.field();
        let value = field.get(self.words);
        (self.report)(Finding { layout: self.layout, field, value, rule });
    }

    /// The field is RES0 here.
    fn res0(&mut self, key: Key<S>, why: &'static str) {
        if self.is_set(key) {
            self.find(key, Rule::Res0 { why });
        }
    }

    /// The field is IGNORED here.
    fn ignored(&mut self, key: Key<S>, why: &'static str) {
        if self.is_set(key) {
            self.find(key, Rule::IgnoredField { why });
        }
    }

    fn shareability(&mut self, key: Key<S>) {
        if self.get(key) == 1 {
            self.find(key, Rule::ReservedValue { behaves: "0b00: non-shareable" });
        }
    }

    /// Hardware update of flags wants Write-Back walks.
    fn write_back(&mut self, key: Key<S>) {
        if self.get(key) & 1 == 0 {
            self.find(key, Rule::UpdateUncached);
        }
    }
}

/// What is wrong with an STE.
pub fn ste(ste: &Ste, smmu: &Smmu, report: &mut dyn FnMut(Finding)) {
    let mut case = Case::new(&fields::ste::LAYOUT, &ste.0, report);
    entry::judge(ste, smmu, &mut case);
}

/// What is wrong with a CD that is reached through this STE. Nothing, when the STE reaches no CD.
///
/// What is wrong with the STE itself is for [`ste`] to say.
pub fn cd(cd: &Cd, ste: &Ste, smmu: &Smmu, report: &mut dyn FnMut(Finding)) {
    let mut case = Case::new(&fields::cd::LAYOUT, &cd.0, report);
    context::judge(ste, smmu, &mut case);
}

/// Why a StreamID does not lead to an STE.
pub fn stream_id(
    stream: StreamId,
    table: StreamTable,
    smmu: &Smmu,
    report: &mut dyn FnMut(Finding),
) {
    lookup::stream(stream, table, smmu, report);
}

/// Why a transaction with or without a SubstreamID does not lead to a CD, or past stage 1, through this STE.
///
/// An STE that is invalid or aborts is for [`ste`] to judge, the level-1 descriptor for [`context_table`].
pub fn substream_id(
    substream: Option<SubstreamId>,
    ste: &Ste,
    smmu: &Smmu,
    report: &mut dyn FnMut(Finding),
) {
    let mut case = Case::new(&fields::ste::LAYOUT, &ste.0, report);
    lookup::substream(substream, smmu, &mut case);
}

/// Why a level-1 context descriptor, reached through this STE, does not lead to a CD.
pub fn context_table(
    descriptor: ContextTableDescriptor,
    ste: &Ste,
    smmu: &Smmu,
    report: &mut dyn FnMut(Finding),
) {
    let mut case = Case::new(&fields::l1cd::LAYOUT, &descriptor.0, report);
    lookup::context_table(ste, smmu, &mut case);
}
