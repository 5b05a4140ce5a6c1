//! A device's use of a domain on one SMMU, and its end.

use smmu_invs::{Publication, RequestBuffer, UnrefOutcome};
use smmu_types::seam::{Notice, Observer, SinkError};
use smmu_types::{CacheTag, Cd, FlushProof, GoneProof, Ste};

use crate::domain::{Domain, DomainState, Owned};
use crate::held::Rank;
use crate::outcome::Outcome;
use crate::sync::{Barrier, is_kept};
use crate::via::Via;
use crate::{Env, Platform};

/// A device's use of a domain on one SMMU. Keeps the domain and its tables alive.
pub(crate) struct Member<P: Platform> {
    pub(crate) domain: Domain<P>,
    /// The request that was merged into the domain's array. `unref` takes this one back.
    pub(crate) request: RequestBuffer,
    pub(crate) leads: Leads,
    /// The virtual SMMU between the device and the domain. Its VMID is not the domain's.
    pub(crate) via: Option<Via<P>>,
    pub(crate) end: End,
}

/// The entry that leads to the domain's tables. An STE may have the stage 1 of a guest before them.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Leads {
    /// A CD, for stage 1.
    Context(Cd),
    /// An STE, for stage 2.
    Stage2(Ste),
}

/// How far the end of a use is confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The SMMU may use the domain for the device: the device is a user in the array.
    Open,
    /// The device is out of the array. The flush of the tag is not proven.
    Unflushed,
    /// The device is out of the array, and the tag is flushed. A reader may still have sent
    /// `ATC_INV` to it.
    Undrained,
}

impl<P: Platform> Member<P> {
    pub(crate) fn tag(&self) -> Option<CacheTag> {
        self.request.as_slice().iter().find_map(|spec| spec.tag())
    }

    /// Whether the domain invalidates the device's own cache.
    pub(crate) fn has_atc(&self) -> bool {
        self.request.as_slice().iter().any(|spec| spec.key.kind.is_ats())
    }

    pub(crate) const fn context(&self) -> Option<Cd> {
        match self.leads {
            Leads::Context(cd) => Some(cd),
            Leads::Stage2(_) => None,
        }
    }
}

/// Take one device out of a domain's array. The SMMU has confirmed that it no longer uses the
/// domain for the device. After the last user, flush the tag and free it.
///
/// Needs no memory.
pub(crate) fn release<P: Platform>(
    member: &Member<P>,
    state: &mut DomainState,
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
    // A virtual SMMU keeps its VMID: its entry stays retiring, until a device comes back or it ends.
    let owned = state.tags.iter().position(|o| o.tag.smmu() == smmu && o.tag.tag() == tag);
    let Some(at) = owned else { return Outcome::Done };

    let Owned { tag: in_use, .. } = state.tags.swap_remove(at);
    let retiring = in_use.retire();
    env.observer().notice(Notice::TagRetired { domain: domain.id(), smmu, tag });
    let proof = if is_kept(Barrier::FlushBeforeFree) {
        FlushProof::obtain(env.sink(), smmu, tag)
    } else {
        Ok(GoneProof::vouch(smmu).flush(tag))
    };
    match proof {
        Ok(proof) => domain.free(retiring, proof).map_or(Outcome::Done, Outcome::Freed),
        Err(error) => {
            // The attach that allocated the tag reserved this room.
            state.retiring.push(retiring);
            env.observer().notice(Notice::TagQuarantined { smmu, tag, error });
            Outcome::Unflushed(tag, error)
        }
    }
}

/// Flush the tag of a use whose device has left, unless another call has done so. The caller holds
/// the device's lock.
pub(crate) fn flush<P: Platform>(member: &Member<P>) -> Result<(), SinkError> {
    match member.request.as_slice().first() {
        Some(spec) => member.domain.flush_retiring(spec.key.smmu, Rank::ANY_DEVICE).map(|_left| ()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use smmu_invs::{InvArray, InvKey, InvKind, InvSpec, LockCell};
    use smmu_types::fake::{HeapWindow, ID_REGISTERS, Pool, RecordingSink, heap_pool};
    use smmu_types::*;

    use super::*;
    use crate::*;

    struct Tests;
    impl Platform for Tests {
        type Lock = parking_lot::RawMutex;
        type SleepLock = parking_lot::RawMutex;
        type Dma = Pool<HeapWindow>;
        type Sink = RecordingSink;
        type Cell = LockCell<parking_lot::RawMutex, InvArray>;
        type Observer = ();
        type Tables = TableDescription;
        type Ats = ();
    }

    const TABLES: TableDescription =
        TableDescription::new(TranslationStage::Stage1 { mair: 0xff }, PhysAddr(0x8000_0000));

    /// The last user of an ATS entry leaves, and the tag beside it has another user.
    #[test]
    fn an_ats_entry_says_nothing_about_the_tag() {
        let env = Env::<Tests>::new(heap_pool(1 << 20), RecordingSink::new(), ()).unwrap();
        let caps = Capabilities::decode(ID_REGISTERS);
        let config = SmmuConfig::default();
        let smmu = Smmu::new(&env, SmmuId(0), ID_REGISTERS, caps, config).unwrap();
        let device = smmu.add_device(&[StreamId(8)]).unwrap();
        let domain = Domain::new(&env, DomainId(1), TABLES).unwrap();
        assert_eq!(device.attach(&domain), Ok(Outcome::Done));
        env.sink().take();

        // A second device uses the same tag, and a translation cache of its own.
        let tag = domain.tag_on(SmmuId(0)).unwrap();
        let mut request = RequestBuffer::with_capacity(2).unwrap();
        request.push(InvSpec::tagged(SmmuId(0), tag, caps.range_support())).unwrap();
        let key = InvKey { smmu: SmmuId(0), kind: InvKind::Ats, id: 0x10, ssid: InvKey::NO_SSID };
        request.push(InvSpec { key, ..request.as_slice()[0] }).unwrap();
        let array = domain.cell().read().merge(request.as_slice()).unwrap();
        domain.cell().publish(LockCell::<parking_lot::RawMutex, InvArray>::node(array).unwrap());
        let leads = Leads::Stage2(Ste::ABORT);
        let member = Member { domain: domain.clone(), request, leads, via: None, end: End::Open };
        let mut state = domain.lock(Rank::Nothing);
        assert_eq!(release(&member, &mut state, &env), Outcome::Done);
        drop(state);
        assert!(env.sink().take().is_empty(), "the tag was flushed, and an SMMU uses it");
        assert_eq!((domain.tag_on(SmmuId(0)), smmu.asids().stats().in_use), (Some(tag), 1));
        assert_eq!(device.block(), Outcome::Freed(tag));
    }
}
