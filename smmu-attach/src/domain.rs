//! One address space: its tags, its invalidation array and its lock.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Deref;

use lock_api::{ArcMutexGuard, Mutex};
use smmu_invs::{
    EntryState, Found, InvArray, InvKind, InvView, InvalidateError, Publication,
    invalidate_published,
};
use smmu_tags::{InUseTag, RetiringTag};
use smmu_types::range::Extent;
use smmu_types::seam::{Notice, Observer, SinkError};
use smmu_types::{CacheTag, DomainId, FlushProof, SmmuId};

use crate::table::{TableDescription, TranslationStage, TranslationTable};
use crate::{AttachError, Env, Platform, Smmu};

/// One address space, shared by devices behind one or several SMMUs.
///
/// The domain has one tag on each SMMU with an attached device, from the first attach to the last
/// detach.
///
/// An attached device keeps the domain alive, and so does a device whose detach the SMMU did not
/// confirm. After a flush that the SMMU did not confirm, only the caller keeps it alive. Drop a domain
/// only when [`array`](Self::array) is [empty](ArrayView::is_empty). Otherwise its tags are lost,
/// and no later invalidation reaches those SMMUs.
pub struct Domain<P: Platform> {
    id: DomainId,
    table: TableDescription,
    cell: P::Cell,
    state: Arc<Mutex<P::DomainLock, DomainState<P>>>,
}

/// What the domain's lock protects: the tags, and each change of the array.
pub(crate) struct DomainState<P: Platform> {
    pub(crate) tags: Vec<Owned<P>>,
    // Tags without a proven flush. The list always has room for all of `tags`.
    pub(crate) retiring: Vec<RetiringTag>,
}

/// A tag of the domain, and the SMMU of the tag.
pub(crate) struct Owned<P: Platform> {
    pub(crate) tag: InUseTag,
    pub(crate) smmu: Arc<Smmu<P>>,
}

/// The domain's lock, held.
pub(crate) type DomainGuard<P> = ArcMutexGuard<<P as Platform>::DomainLock, DomainState<P>>;

/// A snapshot of a domain's invalidation array.
pub struct ArrayView<G>(G);

impl<G: Deref<Target = InvArray>> ArrayView<G> {
    /// All entries that an invalidation sends commands for, in the order of these commands.
    pub fn iter(&self) -> impl Iterator<Item = InvView> {
        self.0.iter().filter(|view| view.state != EntryState::Trash)
    }

    /// The live entry of a kind on an SMMU.
    #[must_use]
    pub fn find(&self, smmu: SmmuId, kind: InvKind) -> Option<Found> {
        self.0.find(smmu, kind)
    }

    /// Whether an invalidation sends no command: every user has left, and every flush is proven.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<G: Deref<Target = InvArray>> fmt::Display for ArrayView<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<G> fmt::Debug for ArrayView<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ArrayView")
    }
}

impl<P: Platform> Domain<P> {
    /// A domain without devices. The caller gives every domain an `id` of its own.
    ///
    /// # Errors
    ///
    /// [`AttachError::InputSize`], or no memory for the array.
    pub fn new(id: DomainId, table: &impl TranslationTable) -> Result<Self, AttachError> {
        let table = table.describe();
        if !(12..=39).contains(&table.t0sz) {
            return Err(AttachError::InputSize { domain: id, t0sz: table.t0sz });
        }
        let node = P::Cell::node(InvArray::empty())
            .map_err(|_| smmu_invs::InvError::OutOfMemory { entries: 0 })?;
        Ok(Domain {
            id,
            table,
            cell: P::Cell::new(node),
            state: Arc::new(Mutex::new(DomainState { tags: Vec::new(), retiring: Vec::new() })),
        })
    }

    /// Number of the domain.
    #[must_use]
    pub fn id(&self) -> DomainId {
        self.id
    }

    /// Description of the page tables.
    #[must_use]
    pub fn table(&self) -> &TableDescription {
        &self.table
    }

    /// The invalidation array, as readers see it now.
    #[must_use]
    pub fn array(&self) -> ArrayView<<P::Cell as Publication<InvArray>>::Guard<'_>> {
        ArrayView(self.cell.read())
    }

    /// The tag of the domain on an SMMU, if a device of the domain is attached there.
    #[must_use]
    pub fn tag_on(&self, smmu: SmmuId) -> Option<CacheTag> {
        self.cell.read().find(smmu, self.kind()).and_then(|found| found.spec.tag())
    }

    /// Invalidate the extent on every SMMU of the array, and wait until each has confirmed.
    ///
    /// Call it after you change the tables and publish the stores, and before you reuse the memory.
    /// After `Ok`, no device whose user is in the array reaches memory through an old translation
    /// of the extent. That holds also if another thread attaches or detaches a device at the same
    /// time.
    ///
    /// The call takes no lock and allocates nothing, beyond what [`Platform::Cell`] needs for a
    /// read. It runs in any context that may read the cell and spin for a `CMD_SYNC`. The domain's
    /// own granule counts: an extent of another granule is invalidated with leaves of unknown size.
    ///
    /// # Errors
    ///
    /// An SMMU did not confirm. The call still invalidated the others, but the memory must not be
    /// reused. An SMMU that is gone makes every call fail while the array has an entry of it.
    pub fn invalidate(&self, extent: Extent, sink: &P::Sink) -> Result<(), InvalidateError> {
        let granule = self.table.granule;
        let block_shift = extent.block_shift.filter(|_| extent.granule == granule);
        invalidate_published(&self.cell, Extent { granule, block_shift, ..extent }, sink)
    }

    /// Flush again the tags of this domain on an SMMU whose last user left without a proven flush,
    /// and free those that are proven now.
    ///
    /// Returns how many such tags remain, on all SMMUs. A tag that a device failed to leave still
    /// counts a user: [`Device::settle`](crate::Device::settle) ends that. Takes the domain's lock.
    ///
    /// # Errors
    ///
    /// The SMMU still does not confirm. Tags flushed before the failing one are free.
    pub fn retry_flushes(&self, smmu: SmmuId, env: &Env<'_, P>) -> Result<usize, SinkError> {
        let mut state = self.lock();
        while let Some(at) = state.retiring.iter().position(|tag| tag.smmu() == smmu) {
            let tag = state.retiring[at].tag();
            let proof = FlushProof::obtain(env.sink, smmu, tag)?;
            self.cell.read().settle(&proof);
            match state.retiring.swap_remove(at).free(proof) {
                Ok(tag) => env.observer.notice(Notice::TagFreed { smmu, tag }),
                // Not reached: the proof names this tag. Dropping the error would quarantine the
                // number.
                Err(_wrong_proof) => {}
            }
        }
        Ok(state.retiring.len())
    }

    pub(crate) fn kind(&self) -> InvKind {
        match self.table.stage {
            TranslationStage::Stage1 { .. } => InvKind::S1Asid,
            TranslationStage::Stage2 { .. } => InvKind::S2Vmid,
        }
    }

    pub(crate) fn cell(&self) -> &P::Cell {
        &self.cell
    }

    pub(crate) fn lock(&self) -> DomainGuard<P> {
        self.state.lock_arc()
    }
}

impl<P: Platform> fmt::Debug for Domain<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Domain")
            .field("id", &self.id)
            .field("table", &self.table)
            .finish_non_exhaustive()
    }
}
