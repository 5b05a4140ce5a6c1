//! The states of a tag, each a type.
//!
//! 1. One live value stands for one number: the types are not `Clone`, and each step consumes the
//!    value that it replaces.
//! 2. A number returns to its space only from [`FreshTag`], which the hardware has not seen, or
//!    with a [`FlushProof`] of this tag on this SMMU.
//! 3. Dropping a value in any other state quarantines its number.

use core::fmt;

use smmu_types::{CacheTag, FlushProof, SmmuId};

use crate::error::TagError;
use crate::home::Home;
use crate::numbers::TagState;

/// A number that is given out. `space` is `None` once another value stands for the number.
struct HeldTag {
    space: Option<Home>,
    smmu: SmmuId,
    tag: CacheTag,
}

impl HeldTag {
    fn number(&self) -> u16 {
        match self.tag {
            CacheTag::Asid(_, asid) => asid.0,
            CacheTag::Vmid(vmid) => vmid.0,
        }
    }

    /// Makes the next value that stands for the number.
    fn step(&mut self, from: TagState, to: TagState) -> HeldTag {
        let space = self.space.take();
        if let Some(space) = &space {
            space.numbers.change(self.number(), from, to);
        }
        HeldTag { space, smmu: self.smmu, tag: self.tag }
    }

    fn put_back(&mut self, from: TagState) {
        if let Some(space) = self.space.take() {
            space.numbers.put_back(self.number(), from);
        }
    }

    /// Quarantines the number and tells the listener.
    fn lose(&mut self, from: TagState) {
        if let Some(space) = self.step(from, TagState::Quarantined).space.take() {
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

            /// The SMMU that the tag was given out for.
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

/// A tag that the hardware has not seen yet.
///
/// Dropping it gives the number back, so a preparation that fails half-way leaves no trace.
///
/// No cache holds a fresh tag, so there is no `free` with a proof:
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
pub struct FreshTag(HeldTag);

state!(FreshTag);

impl FreshTag {
    pub(crate) fn new(space: Home, smmu: SmmuId, tag: CacheTag) -> Self {
        FreshTag(HeldTag { space: Some(space), smmu, tag })
    }

    /// Marks the tag as in use. Call this before the store that shows the tag to the hardware. From
    /// then on the number is lost unless a flush is proven.
    pub fn install(mut self) -> InUseTag {
        InUseTag(self.0.step(TagState::Fresh, TagState::InUse))
    }

    /// Gives the number back, as dropping does; it only makes that visible in the code.
    pub fn abort(self) {
        drop(self);
    }
}

impl Drop for FreshTag {
    fn drop(&mut self) {
        // The reference to the space is dropped behind this.
        if let Some(space) = &self.0.space {
            space.numbers.put_back(self.0.number(), TagState::Fresh);
        }
    }
}

/// A tag that an STE or CD names.
///
/// Dropping it quarantines the number, because the hardware may still use it. `retire` consumes it:
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
pub struct InUseTag(HeldTag);

state!(InUseTag);

impl InUseTag {
    /// Marks the tag as retiring. Call this when the last user is gone and no STE or CD that the
    /// SMMU can see names the tag.
    pub fn retire(mut self) -> RetiringTag {
        RetiringTag(self.0.step(TagState::InUse, TagState::Retiring))
    }
}

impl Drop for InUseTag {
    fn drop(&mut self) {
        self.0.lose(TagState::InUse);
    }
}

/// A tag that no STE or CD names any more, but that caches may still hold.
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
/// Only a command sink gives proofs:
///
/// ```compile_fail,E0451
/// use smmu_types::{Asid, CacheTag, FlushProof, Regime, SmmuId};
///
/// let tag = CacheTag::Asid(Regime::El1, Asid(1));
/// let proof = FlushProof { smmu: SmmuId(0), tag };
/// ```
///
/// A tag is freed once:
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
/// A proof is used once:
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
pub struct RetiringTag(HeldTag);

state!(RetiringTag);

impl RetiringTag {
    /// Gives the number back, because its flush is proven.
    ///
    /// Obtain the proof after the tag has retired. The types cannot check that.
    ///
    /// # Errors
    ///
    /// [`FreeError`] for a proof of another SMMU or another tag. It returns the tag, still
    /// retiring.
    pub fn free(mut self, proof: FlushProof) -> Result<CacheTag, FreeError> {
        let (smmu, tag) = (self.smmu(), self.tag());
        let error = if proof.smmu() != smmu {
            TagError::ProofOfOtherSmmu { tag, want: smmu, got: proof.smmu() }
        } else if proof.tag() != tag {
            TagError::ProofOfOtherTag { smmu, want: tag, got: proof.tag() }
        } else {
            self.0.put_back(TagState::Retiring);
            return Ok(tag);
        };
        Err(FreeError { tag: self, proof, error })
    }

    /// Gives the number up for good, because the flush failed. Dropping does the same; this makes
    /// it visible in the code.
    pub fn quarantine(self) {
        drop(self);
    }
}

impl Drop for RetiringTag {
    fn drop(&mut self) {
        self.0.lose(TagState::Retiring);
    }
}

/// A tag that was not freed, the proof that did not fit, and the reason.
///
/// Dropping it quarantines the tag, as dropping the [`RetiringTag`] does.
#[must_use = "dropping it quarantines the tag"]
pub struct FreeError {
    tag: RetiringTag,
    proof: FlushProof,
    error: TagError,
}

impl FreeError {
    /// Which part of the proof did not fit.
    #[must_use]
    pub fn error(&self) -> TagError {
        self.error
    }

    /// The tag, to free it with the right proof.
    pub fn into_tag(self) -> RetiringTag {
        self.tag
    }

    /// The tag and the proof. The proof may be the right one for another tag.
    pub fn into_parts(self) -> (RetiringTag, FlushProof) {
        (self.tag, self.proof)
    }
}

impl fmt::Debug for FreeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FreeError")
            .field("tag", &self.tag)
            .field("proof", &self.proof)
            .field("error", &self.error)
            .finish()
    }
}

impl fmt::Display for FreeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl core::error::Error for FreeError {}
