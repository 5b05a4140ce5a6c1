//! Takes a device out of a domain's array, and flushes and frees the tag after the last user.

use smmu_invs::{Publication, UnrefOutcome};
use smmu_types::seam::{Notice, Observer};
use smmu_types::{CacheTag, FlushProof};

use crate::device::Member;
use crate::domain::{DomainState, Owned};
use crate::{Env, Platform};

/// What became of the domain's tag when a device left.
pub(crate) enum Released {
    StillUsed,
    Freed(CacheTag),
    /// The last user is gone, and the flush is not proven.
    Unflushed(CacheTag),
    /// The array has no such entry any more. Nobody frees the tag.
    NotPresent(CacheTag),
}

/// Take one device out of a domain's array. The SMMU has confirmed that it no longer uses the domain
/// for the device.
pub(crate) fn release<P: Platform>(
    member: &Member<P>,
    state: &mut DomainState<P>,
    env: &Env<'_, P>,
) -> Released {
    let Member { domain, request } = member;
    let request = request.as_slice();
    // The tag's outcome counts. Those of ATS entries say nothing about it.
    let tagged = request.iter().enumerate().find_map(|(n, spec)| Some((n, spec, spec.tag()?)));
    let Some((index, spec, tag)) = tagged else { return Released::StillUsed };
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
        UnrefOutcome::StillUsed { .. } => return Released::StillUsed,
        UnrefOutcome::LastUserGone => {}
        UnrefOutcome::NotPresent => return Released::NotPresent(tag),
    }
    let owned = state.tags.iter().position(|o| o.tag.smmu() == smmu && o.tag.tag() == tag);
    let Some(at) = owned else { return Released::NotPresent(tag) };

    let Owned { tag: in_use, smmu: _alive } = state.tags.swap_remove(at);
    let retiring = in_use.retire();
    env.observer.notice(Notice::TagRetired { domain: domain.id(), smmu, tag });
    let proof = match FlushProof::obtain(env.sink, smmu, tag) {
        Ok(proof) => proof,
        Err(error) => {
            // The attach that allocated the tag reserved this room.
            state.retiring.push(retiring);
            env.observer.notice(Notice::TagQuarantined { smmu, tag, error });
            return Released::Unflushed(tag);
        }
    };
    // Before the number is free: no reader may flush a tag that has a new owner.
    domain.cell().read().settle(&proof);
    // The entry is dead now. The next merge leaves it out; publishing an array without it would need
    // memory here.
    match retiring.free(proof) {
        Ok(_) => {
            env.observer.notice(Notice::TagFreed { smmu, tag });
            Released::Freed(tag)
        }
        // Not reached: the proof names this tag. Dropping the error would quarantine the number.
        Err(_wrong_proof) => Released::NotPresent(tag),
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use alloc::sync::Arc;

    use smmu_invs::{InvArray, InvKey, InvKind, InvSpec, LockCell, RequestBuffer};
    use smmu_types::fake::{HeapWindow, ID_REGISTERS, Pool, RecordingSink, heap_pool};
    use smmu_types::*;

    use super::*;
    use crate::*;

    struct Tests;
    impl Platform for Tests {
        type Lock = parking_lot::RawMutex;
        type DomainLock = parking_lot::RawMutex;
        type Dma = Pool<HeapWindow>;
        type Sink = RecordingSink;
        type Cell = LockCell<parking_lot::RawMutex, InvArray>;
        type Observer = ();
    }

    struct Tables;
    impl TranslationTable for Tables {
        fn describe(&self) -> TableDescription {
            TableDescription {
                stage: TranslationStage::Stage1 { mair: 0xff },
                root: PhysAddr(0x8000_0000),
                t0sz: 25,
                granule: Granule::K4,
                output_size: OutputSize::Bits40,
                walk: WalkAttributes::COHERENT,
                forced_write_back: ForcedWriteBack::Off,
            }
        }
    }

    /// r2: the last user of an ATS entry leaves, and the tag beside it has another user.
    #[test]
    fn r2_an_ats_entry_says_nothing_about_the_tag() {
        let (dma, sink) = (heap_pool(1 << 20), RecordingSink::new());
        let env = Env::<Tests> { dma: &dma, sink: &sink, observer: &() };
        let caps = Capabilities::decode(ID_REGISTERS);
        let config = SmmuConfig::default();
        let smmu =
            Arc::new(Smmu::<Tests>::new(SmmuId(0), ID_REGISTERS, caps, config, &dma).unwrap());
        let mut device = Smmu::add_device(&smmu, &[StreamId(8)], &env).unwrap();
        let domain = Arc::new(Domain::<Tests>::new(DomainId(1), &Tables).unwrap());
        let to = Target::Domain(&domain);
        let _ = device.prepare(to, &env).unwrap().publish().install().commit();
        sink.take();

        // A second device uses the same tag, and a translation cache of its own.
        let tag = domain.tag_on(SmmuId(0)).unwrap();
        let mut request = RequestBuffer::with_capacity(2).unwrap();
        request.push(InvSpec::tagged(SmmuId(0), tag, caps.range_support())).unwrap();
        let key = InvKey { smmu: SmmuId(0), kind: InvKind::Ats, id: 0x10, ssid: InvKey::NO_SSID };
        request.push(InvSpec { key, ..request.as_slice()[0] }).unwrap();
        let array = domain.cell().read().merge(request.as_slice()).unwrap();
        domain.cell().publish(LockCell::<parking_lot::RawMutex, InvArray>::node(array).unwrap());
        let member = Member { domain: Arc::clone(&domain), request };
        let mut state = domain.lock();
        assert!(matches!(release(&member, &mut state, &env), Released::StillUsed));
        drop(state);
        assert!(sink.take().is_empty(), "the tag was flushed, and an SMMU uses it");
        assert_eq!((domain.tag_on(SmmuId(0)), smmu.asids().stats().in_use), (Some(tag), 1));
        let done = device.prepare(Target::Blocked, &env).unwrap().publish().install().commit();
        assert_eq!(done.freed, Some(tag));
    }
}
