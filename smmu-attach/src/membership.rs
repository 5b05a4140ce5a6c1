//! A device's use of a domain on one SMMU, and its end.

use smmu_invs::{Publication, RequestBuffer, UnrefOutcome};
use smmu_types::seam::{Notice, Observer, SinkError};
use smmu_types::{CacheTag, FlushProof};

use crate::domain::{Domain, DomainState, Owned};
use crate::outcome::Outcome;
use crate::{Env, Platform};

/// A device's use of a domain on one SMMU. Keeps the domain and its tables alive.
pub(crate) struct Member<P: Platform> {
    pub(crate) domain: Domain<P>,
    /// The request that was merged into the domain's array. `unref` takes this one back.
    pub(crate) request: RequestBuffer,
    pub(crate) end: End,
}

/// How far the end of a use is confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The SMMU may use the domain for the device: the device is a user in the array.
    Open,
    /// The device is out of the array. The flush of the tag is not proven.
    Unflushed,
}

impl<P: Platform> Member<P> {
    pub(crate) fn tag(&self) -> Option<CacheTag> {
        self.request.as_slice().iter().find_map(|spec| spec.tag())
    }
}

/// Take one device out of a domain's array. The SMMU has confirmed that it no longer uses the domain
/// for the device. After the last user, flush the tag and free it.
///
/// Needs no memory.
pub(crate) fn release<P: Platform>(
    member: &Member<P>,
    state: &mut DomainState<P>,
    env: &Env<P>,
) -> Outcome {
    let Member { domain, request, .. } = member;
    let request = request.as_slice();
    // The tag's outcome counts. Those of ATS entries say nothing about it.
    let tagged = request.iter().enumerate().find_map(|(n, spec)| Some((n, spec, spec.tag()?)));
    let Some((index, spec, tag)) = tagged else { return Outcome::Done };
    let smmu = spec.key.smmu;
    // The domain's lock serialises changes, so each read below finds the same array. No guard is
    // held across a wait.
    let mut gone = UnrefOutcome::NotPresent;
    domain.cell().read().unref(request, |n, outcome| {
        if n == index {
            gone = outcome;
        }
    });
    match gone {
        UnrefOutcome::LastUserGone => {}
        // `NotPresent`: the owner has said that the SMMU is gone, which took the entry out.
        UnrefOutcome::StillUsed { .. } | UnrefOutcome::NotPresent => return Outcome::Done,
    }
    let owned = state.tags.iter().position(|o| o.tag.smmu() == smmu && o.tag.tag() == tag);
    let Some(at) = owned else { return Outcome::Done };

    let Owned { tag: in_use, .. } = state.tags.swap_remove(at);
    let retiring = in_use.retire();
    env.observer().notice(Notice::TagRetired { domain: domain.id(), smmu, tag });
    match FlushProof::obtain(env.sink(), smmu, tag) {
        Ok(proof) => domain.free(retiring, proof).map_or(Outcome::Done, Outcome::Freed),
        Err(error) => {
            // The attach that allocated the tag reserved this room.
            state.retiring.push(retiring);
            env.observer().notice(Notice::TagQuarantined { smmu, tag, error });
            Outcome::Unflushed(tag, error)
        }
    }
}

/// Flush the tag of a use whose device has left, unless another call has done so.
pub(crate) fn flush<P: Platform>(member: &Member<P>) -> Result<(), SinkError> {
    match member.request.as_slice().first() {
        Some(spec) => member.domain.retry_flushes(spec.key.smmu).map(|_left| ()),
        None => Ok(()),
    }
}
