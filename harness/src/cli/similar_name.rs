//! "did you mean": the known name that a mistyped one is nearest to.

use smmu_engine::scenario::nearest;

/// `; did you mean "..."?`, or nothing if no name is near.
pub(super) fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(name, known).map_or_else(String::new, |near| format!("; did you mean \"{near}\"?"))
}
