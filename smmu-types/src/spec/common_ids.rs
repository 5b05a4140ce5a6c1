//! How the ID registers of several SMMUs join, for software that may run on each of them.
//!
//! [`IdJoin::of`] says for each field how its values join. [`is_of_the_host`] names the fields of
//! stage 2 and of the whole machine, which a guest with stage 1 of its own does not have.
//!
//! ```
//! use smmu_types::common_ids::{IdJoin, is_of_the_host};
//!
//! // A queue is no larger than the smallest; a flag that forbids is set if one SMMU sets it.
//! let known = |values: [u64; 2]| values.map(Some).into_iter();
//! assert_eq!(IdJoin::of("IDR1", "CMDQS").join(31, known([8, 19])).value, 8);
//! assert_eq!(IdJoin::of("IDR0", "NS1ATS").join(1, known([0, 1])).value, 1);
//! // One SMMU only stalls, another only terminates: no software is right for both.
//! let stalls = IdJoin::of("IDR0", "STALL_MODEL").join(3, known([2, 1]));
//! assert_eq!(stalls.conflict, Some([1, 2]));
//! assert!(is_of_the_host("IDR0", "S2P"));
//! ```

/// The registers whose fields join. The others are of one implementation.
pub const JOINED_REGISTERS: [&str; 5] = ["IDR0", "IDR1", "IDR3", "IDR5", "AIDR"];

/// How the values of a field join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum IdJoin {
    /// The smallest: sizes, levels, and flags that are set for a feature.
    Least,
    /// The largest: flags that are set where a feature is missing.
    Most,
    /// The bits that all have.
    Bits,
    /// 0 stands for any value; other values must be equal.
    Choice,
}

/// The joined value of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JoinedValue {
    /// The value. With a conflict it is the smaller one of `conflict`.
    pub value: u64,
    /// The smallest and the largest of the values that exclude each other.
    pub conflict: Option<[u64; 2]>,
}

impl IdJoin {
    /// How the values of a field join, by the architecture's names.
    #[must_use]
    pub fn of(register: &str, field: &str) -> Self {
        match (register, field) {
            ("IDR0", "NS1ATS" | "TERM_MODEL") => IdJoin::Most,
            ("IDR0", "TTF") => IdJoin::Bits,
            ("IDR0", "TTENDIAN" | "STALL_MODEL") => IdJoin::Choice,
            _ => IdJoin::Least,
        }
    }

    /// Joins the values of a field whose largest value is `max`. An unknown value (`None`) counts
    /// as the SMMU without the feature; where values are a choice, it does not count.
    #[must_use]
    pub fn join(self, max: u64, values: impl Iterator<Item = Option<u64>>) -> JoinedValue {
        let (mut all, mut any) = (true, false);
        let (mut least, mut most, mut bits, mut chosen) = (max, 0, max, None);
        for value in values {
            any = true;
            let Some(value) = value else {
                all = false;
                continue;
            };
            (least, most, bits) = (least.min(value), most.max(value), bits & value);
            if value != 0 {
                let [low, high] = chosen.unwrap_or([value; 2]);
                chosen = Some([value.min(low), value.max(high)]);
            }
        }
        let known = all && any;
        let value = match self {
            IdJoin::Least if known => least,
            IdJoin::Most if known => most,
            IdJoin::Bits if known => bits,
            IdJoin::Least | IdJoin::Bits => 0,
            IdJoin::Most => max,
            IdJoin::Choice => chosen.map_or(0, |[low, _]| low),
        };
        let conflict = chosen.filter(|[low, high]| self == IdJoin::Choice && low != high);
        JoinedValue { value, conflict }
    }
}

/// Features of stage 2 and of the whole machine, which a guest with stage 1 of its own does not
/// have.
const HOST: &[(&str, &[&str])] = &[
    ("IDR0", &["S2P", "BTM", "DORMHINT", "Hyp", "VMW", "VMID16", "ATOS", "VATOS", "RME_IMPL"]),
    ("IDR1", &["REL", "QUEUES_PRESET", "TABLES_PRESET", "ECMDQ"]),
    ("IDR3", &["XNX", "MPAM", "FWB", "DPT", "S2PI", "S2PO", "MTEPERM", "PTWNNC"]),
];

/// Whether a field, by the architecture's names, is of the host alone.
#[must_use]
pub fn is_of_the_host(register: &str, field: &str) -> bool {
    HOST.iter().any(|(of, names)| *of == register && names.contains(&field))
}
