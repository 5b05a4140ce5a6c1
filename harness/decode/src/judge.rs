//! Judges a configuration by ID registers of which some may be unknown.
//!
//! The rules run once for each of many values that an unknown register could have. A finding holds
//! if every run has it. A field about which the runs differ is not judged.

use std::collections::BTreeMap;

use smmu_types::IdRegisters;
use smmu_types::fields;
use smmu_types::layout::{Field, Layout};
use smmu_types::legal::{Finding, SmmuView};

use crate::ids::{KnownIds, place};

/// Fields that cannot be judged, because a register is unknown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotJudged {
    /// The register.
    pub register: &'static str,
    /// The fields.
    pub fields: Vec<&'static str>,
}

/// `IDR5 missing: S1ContextPtr, EATS`.
impl std::fmt::Display for NotJudged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} missing: {}", self.register, self.fields.join(", "))
    }
}

/// What holds whatever the unknown registers say, and what depends on them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Judgement {
    pub(crate) findings: Vec<Finding>,
    pub(crate) not_judged: Vec<NotJudged>,
}

/// Runs rules on an SMMU of which `ids` are known. `view` holds its settings.
pub(crate) fn judge(
    ids: &KnownIds,
    view: &SmmuView,
    rules: impl Fn(&SmmuView, &mut dyn FnMut(Finding)),
) -> Judgement {
    let run = |values: IdRegisters| {
        let mut found = Vec::new();
        let mut smmu = *view;
        smmu.id = values;
        rules(&smmu, &mut |finding| found.push(finding));
        found
    };
    let missing: Vec<&'static str> = ids.missing().collect();
    let mut usual = ids.values;
    for name in &missing {
        set(&mut usual, name, usual_value(name));
    }
    let mut findings = run(usual);
    if missing.is_empty() {
        return Judgement { findings, not_judged: Vec::new() };
    }
    let mut doubts: BTreeMap<&'static str, Vec<&'static str>> = BTreeMap::new();
    let mut doubt = |registers: &[&'static str], field: &'static str| {
        for register in registers {
            let fields = doubts.entry(register).or_default();
            if !fields.contains(&field) {
                fields.push(field);
            }
        }
    };
    let all = findings.clone();
    for name in &missing {
        for value in samples(name) {
            let mut values = usual;
            set(&mut values, name, value);
            let other = run(values);
            // A rule that differs in its effect alone still holds.
            for (a, b) in [(&all, &other), (&other, &all)] {
                for finding in a.iter().filter(|finding| !b.iter().any(|f| same(f, finding))) {
                    doubt(&[name], finding.field().name());
                }
            }
            findings.retain(|finding| other.iter().any(|f| same_rule(f, finding)));
        }
    }
    // Values of several registers at once.
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    for _ in 0..if missing.len() > 1 { 256 } else { 0 } {
        let mut values = usual;
        for name in &missing {
            random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            set(&mut values, name, (random >> 32) as u32);
        }
        let other = run(values);
        for finding in &findings {
            if !other.iter().any(|f| same_rule(f, finding)) {
                doubt(&missing, finding.field().name());
            }
        }
        findings.retain(|finding| other.iter().any(|f| same_rule(f, finding)));
    }
    let not_judged =
        doubts.into_iter().map(|(register, fields)| NotJudged { register, fields }).collect();
    Judgement { findings, not_judged }
}

fn same_rule(a: &Finding, b: &Finding) -> bool {
    a.field().name() == b.field().name() && a.rule().to_string() == b.rule().to_string()
}

fn same(a: &Finding, b: &Finding) -> bool {
    same_rule(a, b) && a.effect() == b.effect()
}

fn set(ids: &mut IdRegisters, name: &str, value: u32) {
    if let Some((_, place)) = place(ids, name) {
        *place = value;
    }
}

/// A value with few limits.
fn usual_value(name: &str) -> u32 {
    match name {
        // Both stages, VMSAv8-64, coherent, 16-bit ASIDs and VMIDs, little-endian, ATS.
        "IDR0" => 0x085d_56fb,
        // StreamIDs of 32 bits, SubstreamIDs of 20, attributes can be replaced.
        "IDR1" => 0x0e73_0520,
        "IDR3" => 0x00ff_b7fc,
        // 48 bits, all granules.
        "IDR5" => 0x0000_0075,
        // SMMUv3.3.
        _ => 3,
    }
}

/// Values that differ from the usual one in one field, and the extremes.
fn samples(name: &str) -> Vec<u32> {
    let Some((_, layout)) = fields::register_by_name(name) else { return Vec::new() };
    let layout: &'static Layout = layout;
    let usual = usual_value(name);
    let values = |field: &Field| {
        let max = field.max();
        if max < 16 { (0..=max).collect() } else { vec![0, 1, max / 2, max - 1, max] }
    };
    let with = |field: &Field, value: u64| {
        (u64::from(usual) & !field.mask() | field.place(value).unwrap_or(0)) as u32
    };
    let mut samples: Vec<u32> = layout
        .fields()
        .iter()
        .flat_map(|field| values(field).into_iter().map(move |value| with(field, value)))
        .collect();
    samples.extend([0, u32::MAX]);
    samples
}
