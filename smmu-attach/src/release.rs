//! Drops a device's reference to a domain's tag, and frees the tag after the last one.

use smmu_invs::{InvSpec, Publication, UnrefOutcome};
use smmu_types::seam::{Notice, Observer, SinkError};
use smmu_types::{CacheTag, FlushProof};

use crate::domain::{Domain, DomainState, Owned};
use crate::{Env, Platform};

/// Outcome of a dropped reference.
pub(crate) enum Released {
    StillUsed,
    Freed(CacheTag),
    Quarantined(CacheTag),
}

/// Remove one device from a domain's array, if `config` says that the SMMU has confirmed the new
/// entry.
///
/// After an `Err` the device stays a user in the array, and no later call removes it.
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
        // The SMMU may still use the tag for this device, so the device stays a user.
        env.observer.notice(Notice::TagQuarantined { smmu, tag, error });
        return Released::Quarantined(tag);
    }
    // The domain's lock serialises changes, so each read below finds the same array. No guard is
    // held across a wait.
    let mut gone = UnrefOutcome::NotPresent;
    domain.cell().read().unref(request, |_, outcome| gone = outcome);
    match gone {
        UnrefOutcome::StillUsed { .. } => return Released::StillUsed,
        UnrefOutcome::LastUserGone => {}
        // The entry was present at `prepare`. Its fate is unknown, so the tag is not freed.
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
            // The attach that allocated the tag reserved this room.
            state.retiring.push(retiring);
            env.observer.notice(Notice::TagQuarantined { smmu, tag, error });
            return Released::Quarantined(tag);
        }
    };
    // Before the number is free: no reader may flush a tag that has a new owner.
    domain.cell().read().settle(&proof);
    let released = match retiring.free(proof) {
        Ok(_) => {
            env.observer.notice(Notice::TagFreed { smmu, tag });
            Released::Freed(tag)
        }
        // Not reached: the proof names this tag. Dropping the error would quarantine the number.
        Err(_wrong_proof) => Released::Quarantined(tag),
    };
    // Compaction is optional: without memory the array stays as it is.
    let purged = domain.cell().read().purge();
    if let Ok(Some(purged)) = purged
        && let Ok(node) = P::Cell::node(purged)
    {
        domain.cell().publish(node);
    }
    released
}
