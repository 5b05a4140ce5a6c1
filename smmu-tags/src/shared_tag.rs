use core::fmt;

use smmu_types::{CacheTag, SmmuId};

use crate::InUseTag;

/// A tag that a further user was given: borrowed, so that it cannot outlive what it was found under.
///
/// The [`InUseTag`]s of a domain lie behind the domain's lock. What is found there is alive for as long as the lock is held,
/// and no longer: once it is let go, the last user may leave, and the number may become another domain's. So what is found
/// is a borrow:
///
/// ```
/// use smmu_tags::{AsidSpace, InUseTag, SharedTag};
/// use smmu_types::{Regime, SmmuId};
/// use std::sync::Mutex;
///
/// /// The tag on `smmu`, which the domain's array lists.
/// fn find(tags: &[InUseTag], smmu: SmmuId) -> Option<SharedTag<'_>> {
///     tags.iter().find(|tag| tag.smmu() == smmu).map(InUseTag::share)
/// }
///
/// let space = AsidSpace::new(16)?;
/// let domain = Mutex::new(vec![space.allocate(SmmuId(0), Regime::El1, 16)?.install()]);
/// let guard = domain.lock().unwrap();
/// let found = find(&guard, SmmuId(0)).unwrap();
/// // Build the CD with `found.tag()`, count the user in the array, and let the lock go.
/// # let _ = found.tag();
/// # Ok::<(), smmu_tags::TagError>(())
/// ```
///
/// It does not outlive the lock:
///
/// ```compile_fail,E0597
/// use smmu_tags::{InUseTag, SharedTag};
/// use std::sync::Mutex;
///
/// fn wrong(domain: &Mutex<InUseTag>) {
///     let found: SharedTag<'_>;
///     {
///         let guard = domain.lock().unwrap();
///         found = guard.share();
///     } // the lock is let go here
///     println!("{}", found.tag());
/// }
/// ```
///
/// Nor the tag's own end: while somebody holds what he found, the tag cannot retire.
///
/// ```compile_fail,E0505
/// use smmu_tags::InUseTag;
///
/// fn wrong(tag: InUseTag) {
///     let found = tag.share();
///     let _retiring = tag.retire();
///     println!("{}", found.tag());
/// }
/// ```
///
/// And it is no tag to retire or free: that is its owner's to do.
///
/// ```compile_fail,E0599
/// use smmu_tags::SharedTag;
///
/// fn wrong(found: SharedTag<'_>) {
///     found.retire();
/// }
/// ```
#[derive(Clone, Copy)]
pub struct SharedTag<'lock>(&'lock InUseTag);

impl<'lock> SharedTag<'lock> {
    pub(crate) fn new(tag: &'lock InUseTag) -> Self {
        SharedTag(tag)
    }

    /// The tag.
    #[must_use]
    pub fn tag(&self) -> CacheTag {
        self.0.tag()
    }

    /// The SMMU that it was given out for.
    #[must_use]
    pub fn smmu(&self) -> SmmuId {
        self.0.smmu()
    }
}

impl fmt::Debug for SharedTag<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedTag({} of {})", self.tag(), self.smmu())
    }
}
