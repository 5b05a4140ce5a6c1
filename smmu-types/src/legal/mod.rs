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

mod rule;
mod smmu;

use core::fmt;

pub use rule::{Effect, Rule, Stage};
pub use smmu::{El2Regime, Smmu, TranslatedTraffic};

use crate::layout::{Field, FieldValue, Key, Layout};
use crate::{Cd, Ste, StreamId, StreamTableDescriptor, SubstreamId, fields};

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
}

/// What is wrong with an STE.
pub fn ste(ste: &Ste, smmu: &Smmu, report: &mut dyn FnMut(Finding)) {
    let mut case = Case::<Ste>::new(&fields::ste::LAYOUT, &ste.0, report);
    if !case.is_set(fields::ste::V) {
        return case.find(fields::ste::V, Rule::Invalid { stage: Stage::Two });
    }
    if case.get(fields::ste::CONFIG) & 6 == 6 && smmu.s2p() == 0 {
        case.find(fields::ste::CONFIG, Rule::Stage2Absent);
    }
}

/// What is wrong with a CD that is reached through this STE.
pub fn cd(cd: &Cd, ste: &Ste, smmu: &Smmu, report: &mut dyn FnMut(Finding)) {
    let _ = (ste, smmu);
    let mut case = Case::<Cd>::new(&fields::cd::LAYOUT, &cd.0, report);
    if !case.is_set(fields::cd::V) {
        case.find(fields::cd::V, Rule::Invalid { stage: Stage::One });
    }
}

/// Whether a StreamID leads to an STE.
pub fn stream_id(
    stream: StreamId,
    table: StreamTable,
    smmu: &Smmu,
    report: &mut dyn FnMut(Finding),
) {
    let _ = (stream, table, smmu, report);
}

/// Whether a transaction with or without a SubstreamID leads to a CD, or past stage 1, through this STE.
pub fn substream_id(
    substream: Option<SubstreamId>,
    ste: &Ste,
    smmu: &Smmu,
    report: &mut dyn FnMut(Finding),
) {
    let _ = (substream, ste, smmu, report);
}
