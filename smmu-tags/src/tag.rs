//! The states of a tag, each a type.
//!
//! 1. One live value stands for one number: the types are not `Clone`, and every step takes the
//!    value that it replaces.
//! 2. A number goes back to its space only from [`FreshTag`], which no hardware saw, or with a
//!    [`FlushProof`] of this tag on this SMMU.
//! 3. A value that is dropped in any other state quarantines its number.

use core::fmt;

use smmu_types::{CacheTag, FlushProof, SmmuId};

use crate::numbers::Life;
use crate::space::Home;
use crate::{FreeError, SharedTag, TagError};

/// A number that is given out. `space` is `None` once another value stands for it.
struct Held {
    space: Option<Home>,
    smmu: SmmuId,
    tag: CacheTag,
}

impl Held {
    fn number(&self) -> u16 {
        match self.tag {
            CacheTag::Asid(_, asid) => asid.0,
            CacheTag::Vmid(vmid) => vmid.0,
        }
    }

    /// The next value that stands for the number.
    fn step(&mut self, from: Life, to: Life) -> Held {
        let space = self.space.take();
        if let Some(space) = &space {
            space.numbers.change(self.number(), from, to);
        }
        Held { space, smmu: self.smmu, tag: self.tag }
    }

    fn put_back(&mut self, from: Life) {
        if let Some(space) = self.space.take() {
            space.numbers.put_back(self.number(), from);
        }
    }

    /// The number is lost, and whoever listens hears of it.
    fn lose(&mut self, from: Life) {
        if let Some(space) = self.step(from, Life::Quarantined).space.take() {
            space.lost(self.smmu, self.tag);
        }
    }
}

macro_rules! state {
    ($name:ident) => {
        impl $name {
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

        impl fmt::Debug for $name {
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
/// fn wrong(fresh: FreshTag, proof: FlushProof) {
///     fresh.free(proof);
/// }
/// ```
#[must_use = "dropping it gives the number back"]
pub struct FreshTag(Held);

state!(FreshTag);

impl FreshTag {
    pub(crate) fn new(space: Home, smmu: SmmuId, tag: CacheTag) -> Self {
        FreshTag(Held { space: Some(space), smmu, tag })
    }

    /// The tag is about to be written where hardware sees it. Call this before that store: from
    /// then on the number is lost unless a flush is proven.
    pub fn install(mut self) -> InUseTag {
        InUseTag(self.0.step(Life::Fresh, Life::InUse))
    }

    /// Give the number back, as dropping does, in plain sight.
    pub fn abort(self) {
        drop(self);
    }
}

impl Drop for FreshTag {
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
/// fn wrong(in_use: InUseTag) {
///     let _retiring = in_use.retire();
///     println!("{}", in_use.tag());
/// }
/// ```
#[must_use = "dropping it quarantines the number"]
pub struct InUseTag(Held);

state!(InUseTag);

impl InUseTag {
    /// The same tag for a further user, for as long as this one is borrowed.
    #[must_use]
    pub fn share(&self) -> SharedTag<'_> {
        SharedTag::new(self)
    }

    /// The last user is gone: no STE or CD that the SMMU can see names the tag any more.
    pub fn retire(mut self) -> RetiringTag {
        RetiringTag(self.0.step(Life::InUse, Life::Retiring))
    }
}

impl Drop for InUseTag {
    fn drop(&mut self) {
        self.0.lose(Life::InUse);
    }
}

/// A tag that nothing names any more, and that caches may still hold.
///
/// Dropping it quarantines the number. Only a proof frees it:
///
/// ```compile_fail,E0061
/// use smmu_tags::RetiringTag;
///
/// fn wrong(retiring: RetiringTag) {
///     retiring.free();
/// }
/// ```
///
/// and a proof is not to be made up, only to be had of a command sink:
///
/// ```compile_fail,E0451
/// use smmu_types::{Asid, CacheTag, FlushProof, Regime, SmmuId};
///
/// let tag = CacheTag::Asid(Regime::El1, Asid(1));
/// let proof = FlushProof { smmu: SmmuId(0), tag };
/// ```
///
/// It is freed once:
///
/// ```compile_fail,E0382
/// use smmu_tags::RetiringTag;
/// use smmu_types::FlushProof;
///
/// fn wrong(retiring: RetiringTag, proof: FlushProof, another: FlushProof) {
///     retiring.free(proof);
///     retiring.free(another);
/// }
/// ```
///
/// with a proof that is used once:
///
/// ```compile_fail,E0382
/// use smmu_tags::RetiringTag;
/// use smmu_types::FlushProof;
///
/// fn wrong(one: RetiringTag, two: RetiringTag, proof: FlushProof) {
///     one.free(proof);
///     two.free(proof);
/// }
/// ```
#[must_use = "dropping it quarantines the number"]
pub struct RetiringTag(Held);

state!(RetiringTag);

impl RetiringTag {
    /// Give the number back, because its flush is proven.
    ///
    /// The proof must have been asked for after the tag retired; the types cannot see that.
    ///
    /// # Errors
    ///
    /// A proof of another SMMU or another tag gives the tag back, still retiring.
    pub fn free(mut self, proof: FlushProof) -> Result<CacheTag, FreeError> {
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

impl Drop for RetiringTag {
    fn drop(&mut self) {
        self.0.lose(Life::Retiring);
    }
}
