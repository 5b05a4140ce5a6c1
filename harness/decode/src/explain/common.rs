//! What several SMMUs have in common: the ID registers that a guest may be told that runs on all.

use smmu_types::IdRegisters;
use smmu_types::common_ids::{IdJoin, JOINED_REGISTERS, is_of_the_host};
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

/// Joins the ID registers of several SMMUs.
#[must_use]
pub fn common(smmus: &[KnownIds]) -> Common {
    let mut common = Common::default();
    for register in JOINED_REGISTERS {
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
            let join = IdJoin::of(register, field.name());
            let joined = join.join(field.max(), values.iter().copied());
            if let Some([one, other]) = joined.conflict {
                common.conflicts.push(format!(
                    "one SMMU has {register}.{name} = {one}, another {other}",
                    name = field.name()
                ));
            }
            let value = joined.value;
            let host = is_of_the_host(register, field.name());
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
