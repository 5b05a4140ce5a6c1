//! What an SMMU must not find in an entry.

use smmu_types::Ste;
use smmu_types::legal::{self, Effect, Finding, SmmuView};

/// The first rule by which an SMMU refuses an entry, or may refuse it or misread it.
pub(super) fn first_harm(entry: &Ste, smmu: &SmmuView) -> Option<Finding> {
    let mut first = None;
    legal::ste(entry, smmu, &mut |finding| {
        let harmless =
            matches!(finding.effect(), Effect::Ignored | Effect::Reserved | Effect::TreatedAs(_));
        if !harmless && first.is_none() {
            first = Some(finding);
        }
    });
    first
}
