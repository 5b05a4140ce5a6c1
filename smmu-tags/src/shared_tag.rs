//! A tag that a further user of a domain borrows.

use core::fmt;

use smmu_types::{CacheTag, SmmuId};

use crate::InUseTag;

/// A tag that a further user borrows from its [`InUseTag`].
///
/// The domain's lock protects its [`InUseTag`]s. A tag found there is valid only while the lock is
/// held: after that the last user may leave, and the number may go to another domain. So a found
/// tag is a borrow:
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
/// // Build the CD with `found.tag()`, count the user in the array, and release the lock.
/// # let _ = found.tag();
/// # Ok::<(), smmu_tags::TagError>(())
/// ```
///
/// It cannot outlive the lock:
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
///     } // the lock is released here
///     println!("{}", found.tag());
/// }
/// ```
///
/// The tag cannot retire while a user borrows it:
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
/// Only the owner of the tag can retire and free it:
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

impl InUseTag {
    /// The same tag for a further user, while this one is borrowed.
    #[must_use]
    pub fn share(&self) -> SharedTag<'_> {
        SharedTag(self)
    }
}

impl SharedTag<'_> {
    /// The tag.
    #[must_use]
    pub fn tag(&self) -> CacheTag {
        self.0.tag()
    }

    /// The SMMU that the tag was given out for.
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
