//! Dropping a device's reference to a domain's tag.

use smmu_invs::{InvSpec, Publication, UnrefOutcome};
use smmu_types::seam::{Notice, Observer, SinkError};
use smmu_types::{CacheTag, FlushProof};

use crate::domain::{Domain, DomainState, Owned};
use crate::{Env, Platform};

/// What became of a reference to a tag.
pub(crate) enum Released {
    StillUsed,
    Freed(CacheTag),
    Quarantined(CacheTag),
}

/// Take one device out of a domain's array. `config` says whether hardware has confirmed that the device
/// no longer uses the domain.
pub(crate) fn release<P: Platform>(
    domain: &Domain<P>,
    state: &mut DomainState<P>,
    request: &[InvSpec],
    env: &Env<'_, P>,
    config: Result<(), SinkError>,
) -> Released {
    let Some((spec, tag)) = request.first().and_then(|spec| Some((spec, spec.tag()?))) else {
        return Released::StillUsed;
    };
    let smmu = spec.key.smmu;
    if let Err(error) = config {
        // The SMMU may still use the tag for this device, so the device counts on.
        env.observer.notice(Notice::TagQuarantined { smmu, tag, error });
        return Released::Quarantined(tag);
    }
    // The domain's lock serialises changes of the array, so each read finds the same one; and no reader's section
    // lasts over a wait.
    let mut gone = UnrefOutcome::NotPresent;
    domain.cell().read().unref(request, |_, outcome| gone = outcome);
    match gone {
        UnrefOutcome::StillUsed { .. } => return Released::StillUsed,
        UnrefOutcome::LastUserGone => {}
        // It was there when the attach was prepared. What became of it is not known, so nothing is freed.
        UnrefOutcome::NotPresent => return Released::Quarantined(tag),
    }
    let owned = state.tags.iter().position(|o| o.tag.smmu() == smmu && o.tag.tag() == tag);
    let Some(at) = owned else { return Released::Quarantined(tag) };

    let Owned { tag: in_use, smmu: _alive } = state.tags.swap_remove(at);
    let retiring = in_use.retire();
    env.observer.notice(Notice::TagRetired { domain: domain.id(), smmu, tag });
    let proof = match FlushProof::obtain(env.sink, smmu, tag) {
        Ok(proof) => proof,
        Err(error) => {
            // There is room: it was made when the tag was allocated.
            state.retiring.push(retiring);
            env.observer.notice(Notice::TagQuarantined { smmu, tag, error });
            return Released::Quarantined(tag);
        }
    };
    // Readers stop sending the flush before the number can mean something else.
    domain.cell().read().settle(&proof);
    let released = match retiring.free(proof) {
        Ok(_) => {
            env.observer.notice(Notice::TagFreed { smmu, tag });
            Released::Freed(tag)
        }
        // The proof is of this very tag, so this arm is not reached; if it were, dropping the
        // error would quarantine the number.
        Err(_wrong_proof) => Released::Quarantined(tag),
    };
    // Compaction is a courtesy: without memory the array stays as it is.
    let purged = domain.cell().read().purge();
    if let Ok(Some(purged)) = purged
        && let Ok(node) = P::Cell::node(purged)
    {
        domain.cell().publish(node);
    }
    released
}
