//! What several SMMUs have in common: the ID registers that a guest may be told that runs on all.

use smmu_types::IdRegisters;
use smmu_types::fields;
use smmu_types::layout::{Field, FieldValue};

use crate::ids::{KnownIds, place};

/// The common part of several SMMUs.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Common {
    /// The ID registers that a guest may be told.
    pub ids: IdRegisters,
    /// The fields of a guest in which the SMMUs differ.
    pub limits: Vec<Limit>,
    /// The features that all SMMUs have, and that belong to the host.
    pub of_the_host: Vec<&'static str>,
    /// The registers that are not given for an SMMU, by its number from 0. Their features are left
    /// out.
    pub missing: Vec<(usize, &'static str)>,
    /// Why no guest can run on all of the SMMUs.
    pub conflicts: Vec<String>,
}

/// A field in which SMMUs differ.
#[derive(Clone, Debug)]
pub struct Limit {
    /// The register.
    pub register: &'static str,
    /// The field.
    pub field: &'static Field,
    /// The common value.
    pub common: u64,
    /// The value of each SMMU; `None` if its register is not given.
    pub values: Vec<Option<u64>>,
}

impl Limit {
    /// A value of the field in words.
    #[must_use]
    pub fn text(&self, value: u64) -> String {
        let value = FieldValue { field: self.field, value };
        value.meaning().map_or_else(|| value.to_string(), |meaning| meaning.to_string())
    }
}

/// How the values of a field join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Join {
    /// The smallest: sizes, levels, and flags that are set for a feature.
    Least,
    /// The largest: flags that are set where a feature is missing.
    Most,
    /// The bits that all have.
    Bits,
    /// 0 stands for any value; other values must be equal.
    Choice,
}

fn join(register: &str, field: &str) -> Join {
    match (register, field) {
        ("IDR0", "NS1ATS" | "TERM_MODEL") => Join::Most,
        ("IDR0", "TTF") => Join::Bits,
        ("IDR0", "TTENDIAN" | "STALL_MODEL") => Join::Choice,
        _ => Join::Least,
    }
}

/// Features of stage 2 and of the whole machine, which a guest with stage 1 of its own does not
/// have.
const HOST: &[(&str, &[&str])] = &[
    ("IDR0", &["S2P", "BTM", "DORMHINT", "Hyp", "VMW", "VMID16", "ATOS", "VATOS", "RME_IMPL"]),
    ("IDR1", &["REL", "QUEUES_PRESET", "TABLES_PRESET", "ECMDQ"]),
    ("IDR3", &["XNX", "MPAM", "FWB", "DPT", "S2PI", "S2PO", "MTEPERM", "PTWNNC"]),
];

const REGISTERS: [&str; 5] = ["IDR0", "IDR1", "IDR3", "IDR5", "AIDR"];

/// Joins the ID registers of several SMMUs.
#[must_use]
pub fn common(smmus: &[KnownIds]) -> Common {
    let mut common = Common::default();
    for register in REGISTERS {
        let Some((_, layout)) = fields::register_by_name(register) else { continue };
        let raw = |smmu: &KnownIds| {
            let mut values = smmu.values;
            place(&mut values, register).map(|(_, value)| u64::from(*value))
        };
        for (n, smmu) in smmus.iter().enumerate() {
            if !smmu.is_known(register) {
                common.missing.push((n, register));
            }
        }
        let mut word = 0;
        for field in layout.fields() {
            let of = |smmu: &KnownIds| {
                raw(smmu).filter(|_| smmu.is_known(register)).map(|word| field.get(&[word]))
            };
            let values: Vec<Option<u64>> = smmus.iter().map(of).collect();
            let value = joined(register, field, &values, &mut common.conflicts);
            let host =
                HOST.iter().any(|(of, names)| *of == register && names.contains(&field.name()));
            if host && value != 0 {
                common.of_the_host.push(field.name());
            }
            if !host && values.iter().any(|other| *other != Some(value)) {
                common.limits.push(Limit { register, field, common: value, values });
            }
            word |= if host { 0 } else { field.place(value).unwrap_or(0) };
        }
        if let Some((_, place)) = place(&mut common.ids, register) {
            *place = word as u32;
        }
    }
    let id = common.ids;
    let never = [
        (id.idr0 >> 1 & 1 == 0, "they have no stage 1 in common (IDR0.S1P)"),
        (id.idr0 >> 2 & 3 == 0, "they have no format of tables in common (IDR0.TTF)"),
        (id.idr5 >> 4 & 7 == 0, "they have no granule in common (IDR5.GRAN*)"),
    ];
    common.conflicts.extend(never.into_iter().filter(|(no, _)| *no).map(|(_, why)| why.into()));
    common
}

fn joined(
    register: &str,
    field: &Field,
    values: &[Option<u64>],
    conflicts: &mut Vec<String>,
) -> u64 {
    let known = values.iter().copied().flatten();
    let all = values.iter().all(Option::is_some);
    match join(register, field.name()) {
        Join::Least => {
            if all {
                known.min().unwrap_or(0)
            } else {
                0
            }
        }
        Join::Most => {
            if all {
                known.max().unwrap_or(0)
            } else {
                field.max()
            }
        }
        Join::Bits => {
            if all {
                known.fold(field.max(), |bits, value| bits & value)
            } else {
                0
            }
        }
        Join::Choice => {
            let mut chosen: Vec<u64> = known.filter(|value| *value != 0).collect();
            chosen.sort_unstable();
            chosen.dedup();
            if let [one, .., other] = chosen[..] {
                conflicts.push(format!(
                    "one SMMU has {register}.{name} = {one}, another {other}",
                    name = field.name()
                ));
            }
            chosen.first().copied().unwrap_or(0)
        }
    }
}
