//! The states of a tag, each a type.
//!
//! 1. One live value stands for one number: the types are not `Clone`, and every step takes the
//!    value that it replaces.
//! 2. A number goes back to its space only from [`FreshTag`], which no hardware saw, or with a
//!    [`FlushProof`] of this tag on this SMMU.
//! 3. A value that is dropped in any other state quarantines its number.

use alloc::sync::Arc;
use core::fmt;

use lock_api::RawMutex;
use smmu_types::{CacheTag, FlushProof, SmmuId};

use crate::space::Shared;
use crate::table::Life;
use crate::{FreeError, TagError};

/// A number that is given out. `space` is `None` once another value stands for it.
struct Held<R: RawMutex> {
    space: Option<Arc<Shared<R>>>,
    smmu: SmmuId,
    tag: CacheTag,
}

impl<R: RawMutex> Held<R> {
    /// The next value that stands for the number.
    fn step(&mut self, from: Life, to: Life) -> Held<R> {
        let space = self.space.take();
        if let Some(space) = &space {
            space.0.lock().change(from, to);
        }
        Held { space, smmu: self.smmu, tag: self.tag }
    }

    fn put_back(&mut self, from: Life) {
        let number = match self.tag {
            CacheTag::Asid(_, asid) => asid.0,
            CacheTag::Vmid(vmid) => vmid.0,
        };
        if let Some(space) = self.space.take() {
            space.0.lock().put_back(number, from);
        }
    }
}

macro_rules! state {
    ($name:ident) => {
        impl<R: RawMutex> $name<R> {
            /// The tag.
            #[must_use]
            pub fn tag(&self) -> CacheTag {
                self.0.tag
            }

            /// The SMMU that it was given out for.
            #[must_use]
            pub fn smmu(&self) -> SmmuId {
                self.0.smmu
            }
        }

        impl<R: RawMutex> fmt::Debug for $name<R> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({} of {})"), self.0.tag, self.0.smmu)
            }
        }
    };
}

/// A tag that no hardware has seen yet.
///
/// Dropping it gives the number back, so a preparation that fails half-way leaves no trace.
///
/// It has nothing to be flushed, and cannot be freed with a proof:
///
/// ```compile_fail,E0599
/// use smmu_tags::FreshTag;
/// use smmu_types::FlushProof;
///
/// fn wrong<R: lock_api::RawMutex>(fresh: FreshTag<R>, proof: FlushProof) {
///     fresh.free(proof);
/// }
/// ```
#[must_use = "dropping it gives the number back"]
pub struct FreshTag<R: RawMutex>(Held<R>);

state!(FreshTag);

impl<R: RawMutex> FreshTag<R> {
    pub(crate) fn new(space: Arc<Shared<R>>, smmu: SmmuId, tag: CacheTag) -> Self {
        FreshTag(Held { space: Some(space), smmu, tag })
    }

    /// The tag is about to be written where hardware sees it. Call this before that store: from
    /// then on the number is lost unless a flush is proven.
    pub fn install(mut self) -> InUseTag<R> {
        InUseTag(self.0.step(Life::Fresh, Life::InUse))
    }

    /// Give the number back, as dropping does, in plain sight.
    pub fn abort(self) {
        drop(self);
    }
}

impl<R: RawMutex> Drop for FreshTag<R> {
    fn drop(&mut self) {
        self.0.put_back(Life::Fresh);
    }
}

/// A tag that an STE or CD names.
///
/// Dropping it quarantines the number: hardware may still use it. After `retire` it is gone:
///
/// ```compile_fail,E0382
/// use smmu_tags::InUseTag;
///
/// fn wrong<R: lock_api::RawMutex>(in_use: InUseTag<R>) {
///     let _retiring = in_use.retire();
///     println!("{}", in_use.tag());
/// }
/// ```
#[must_use = "dropping it quarantines the number"]
pub struct InUseTag<R: RawMutex>(Held<R>);

state!(InUseTag);

impl<R: RawMutex> InUseTag<R> {
    /// The last user is gone: no STE or CD that the SMMU can see names the tag any more.
    pub fn retire(mut self) -> RetiringTag<R> {
        RetiringTag(self.0.step(Life::InUse, Life::Retiring))
    }
}

impl<R: RawMutex> Drop for InUseTag<R> {
    fn drop(&mut self) {
        let _ = self.0.step(Life::InUse, Life::Quarantined);
    }
}

/// A tag that nothing names any more, and that caches may still hold.
///
/// Dropping it quarantines the number. Only a proof frees it:
///
/// ```compile_fail,E0061
/// use smmu_tags::RetiringTag;
///
/// fn wrong<R: lock_api::RawMutex>(retiring: RetiringTag<R>) {
///     retiring.free();
/// }
/// ```
#[must_use = "dropping it quarantines the number"]
pub struct RetiringTag<R: RawMutex>(Held<R>);

state!(RetiringTag);

impl<R: RawMutex> RetiringTag<R> {
    /// Give the number back, because its flush is proven.
    ///
    /// The proof must have been asked for after the tag retired; the types cannot see that.
    ///
    /// # Errors
    ///
    /// A proof of another SMMU or another tag gives the tag back, still retiring.
    pub fn free(mut self, proof: FlushProof) -> Result<CacheTag, FreeError<R>> {
        let (smmu, tag) = (self.smmu(), self.tag());
        let error = if proof.smmu() != smmu {
            TagError::ProofOfOtherSmmu { tag, want: smmu, got: proof.smmu() }
        } else if proof.tag() != tag {
            TagError::ProofOfOtherTag { smmu, want: tag, got: proof.tag() }
        } else {
            self.0.put_back(Life::Retiring);
            return Ok(tag);
        };
        Err(FreeError { tag: self, proof, error })
    }

    /// Give the number up for good, as dropping does, in plain sight: the flush failed.
    pub fn quarantine(self) {
        drop(self);
    }
}

impl<R: RawMutex> Drop for RetiringTag<R> {
    fn drop(&mut self) {
        let _ = self.0.step(Life::Retiring, Life::Quarantined);
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use crate::{AsidSpace, TagKind, TagStats, VmidSpace};
    use parking_lot::RawMutex as Raw;
    use rstest::rstest;
    use smmu_types::fake::RecordingSink;
    use smmu_types::{Asid, Regime, Vmid};
    use std::string::ToString;

    const SMMU: SmmuId = SmmuId(3);

    fn asid(number: u16) -> CacheTag {
        CacheTag::Asid(Regime::El1, Asid(number))
    }

    fn fresh(space: &AsidSpace<Raw>) -> FreshTag<Raw> {
        space.allocate(SMMU, Regime::El1, 8).unwrap()
    }

    fn stats(space: &AsidSpace<Raw>) -> [u32; 6] {
        let TagStats { capacity, free, fresh, in_use, retiring, quarantined } = space.stats();
        [capacity, free, fresh, in_use, retiring, quarantined]
    }

    #[test]
    fn inv_1_each_step_is_counted_and_the_lowest_number_returns() {
        let space = AsidSpace::<Raw>::new(8).unwrap();
        let tag = fresh(&space);
        assert_eq!((tag.tag(), tag.smmu()), (asid(1), SMMU));
        assert_eq!(stats(&space), [255, 254, 1, 0, 0, 0]);
        let tag = tag.install();
        assert_eq!(stats(&space), [255, 254, 0, 1, 0, 0]);
        let tag = tag.retire();
        assert_eq!(stats(&space), [255, 254, 0, 0, 1, 0]);
        let second = fresh(&space);
        assert_eq!(second.tag(), asid(2), "a retiring number is not free");
        let proof = FlushProof::obtain(&RecordingSink::new(), SMMU, tag.tag()).unwrap();
        assert_eq!(tag.free(proof).unwrap(), asid(1));
        assert_eq!(fresh(&space).tag(), asid(1));
    }

    #[test]
    fn inv_2_a_fresh_tag_goes_back_at_once() {
        let space = AsidSpace::<Raw>::new(8).unwrap();
        fresh(&space).abort();
        drop(fresh(&space));
        assert_eq!(stats(&space), [255, 255, 0, 0, 0, 0]);
    }

    #[test]
    fn inv_2_a_foreign_proof_frees_nothing() {
        let space = AsidSpace::<Raw>::new(8).unwrap();
        let sink = RecordingSink::new();
        let tag = fresh(&space).install().retire();

        let other_smmu = FlushProof::obtain(&sink, SmmuId(4), asid(1)).unwrap();
        let error = tag.free(other_smmu).unwrap_err();
        assert_eq!(
            error.to_string(),
            "ASID 1 of smmu3 cannot be freed: the flush was proven on smmu4; flush it on smmu3"
        );

        let el2 = CacheTag::Asid(Regime::El2, Asid(1));
        let other_tag = FlushProof::obtain(&sink, SMMU, el2).unwrap();
        let error = error.into_tag().free(other_tag).unwrap_err();
        assert_eq!(
            error.error(),
            TagError::ProofOfOtherTag { smmu: SMMU, want: asid(1), got: el2 }
        );
        assert_eq!(stats(&space), [255, 254, 0, 0, 1, 0]);

        let (tag, proof) = error.into_parts();
        assert_eq!(proof.tag(), el2);
        let proof = FlushProof::obtain(&sink, SMMU, asid(1)).unwrap();
        tag.free(proof).unwrap();
        assert_eq!(stats(&space), [255, 255, 0, 0, 0, 0]);
    }

    #[test]
    fn inv_3_what_is_dropped_late_is_never_given_out_again() {
        let space = AsidSpace::<Raw>::new(8).unwrap();
        drop(fresh(&space).install());
        drop(fresh(&space).install().retire());
        fresh(&space).install().retire().quarantine();
        assert_eq!(stats(&space), [255, 252, 0, 0, 0, 3]);
        assert_eq!(fresh(&space).tag(), asid(4));
    }

    #[test]
    fn a_full_space_says_what_to_do() {
        let space = VmidSpace::<Raw>::new(SMMU, 8).unwrap();
        space.reserve(Vmid(9)).unwrap();
        drop(space.allocate().unwrap().install());
        let held: std::vec::Vec<_> = (0..253).map(|_| space.allocate().unwrap()).collect();
        assert_eq!(held.last().unwrap().tag(), CacheTag::Vmid(Vmid(255)));
        let error = space.allocate().unwrap_err();
        assert_eq!(
            error.to_string(),
            "smmu3: all 255 VMIDs that it can use are taken, 1 of the space by firmware and 1 \
             quarantined for good; detach a domain from smmu3"
        );
    }

    #[test]
    fn widths_share_one_space() {
        let space = AsidSpace::<Raw>::new(16).unwrap();
        let wide = |_| space.allocate(SmmuId(1), Regime::El2, 16).unwrap();
        let held: std::vec::Vec<_> = (0..255).map(wide).collect();
        assert!(matches!(
            space.allocate(SmmuId(2), Regime::El1, 8),
            Err(TagError::Exhausted { limit: 255, smmu: SmmuId(2), .. })
        ));
        assert_eq!(wide(0).tag(), CacheTag::Asid(Regime::El2, Asid(256)));
        drop(held);
        assert_eq!(space.allocate(SmmuId(2), Regime::El1, 8).unwrap().tag(), asid(1));
    }

    #[rstest]
    #[case(0)]
    #[case(7)]
    #[case(17)]
    #[case(255)]
    fn odd_widths_are_refused(#[case] bits: u8) {
        let kind = TagKind::Asid;
        assert_eq!(AsidSpace::<Raw>::new(bits).unwrap_err(), TagError::BadWidth { kind, bits });
        assert!(VmidSpace::<Raw>::new(SMMU, bits).is_err());
        let space = AsidSpace::<Raw>::new(8).unwrap();
        assert!(space.allocate(SMMU, Regime::El1, bits).is_err());
    }

    #[test]
    fn reserved_numbers_are_left_out() {
        let space = AsidSpace::<Raw>::new(8).unwrap();
        for number in [0, 1, 1, 3] {
            space.reserve(Asid(number)).unwrap();
        }
        assert_eq!(stats(&space), [253, 253, 0, 0, 0, 0]);
        let held = [fresh(&space), fresh(&space)];
        assert_eq!(held.each_ref().map(|t| t.tag()), [asid(2), asid(4)]);
        let kind = TagKind::Asid;
        assert_eq!(
            space.reserve(Asid(2)).unwrap_err(),
            TagError::AlreadyGivenOut { kind, number: 2 }
        );
        assert_eq!(
            space.reserve(Asid(256)).unwrap_err(),
            TagError::OutOfRange { kind, number: 256, last: 255 }
        );
    }

    #[test]
    #[cfg(target_pointer_width = "64")]
    fn a_tag_is_small() {
        assert_eq!(size_of::<FreshTag<Raw>>(), 16);
    }

    #[test]
    fn handles_and_tags_outlive_each_other() {
        let space = AsidSpace::<Raw>::new(8).unwrap();
        let other = space.clone();
        let tag = fresh(&space);
        drop(space);
        assert_eq!(other.stats().fresh, 1);
        drop(other);
        drop(tag.install());
    }
}
