use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Deref;

use lock_api::{ArcMutexGuard, Mutex};
use smmu_invs::{
    Found, InvArray, InvKind, InvView, InvalidateError, Publication, invalidate_published,
};
use smmu_tags::{InUseTag, RetiringTag};
use smmu_types::range::Extent;
use smmu_types::seam::{Notice, Observer, SinkError};
use smmu_types::{CacheTag, DomainId, FlushProof, SmmuId};

use crate::table::{TableDescription, TranslationStage, TranslationTable};
use crate::{AttachError, Env, Platform, Smmu};

/// One address space, which devices behind one or several SMMUs share.
///
/// It has one tag on each SMMU that a device of it is behind, from the first attach to the last detach.
/// A device that is attached keeps the domain alive.
pub struct Domain<P: Platform> {
    id: DomainId,
    table: TableDescription,
    cell: P::Cell,
    state: Arc<Mutex<P::DomainLock, DomainState<P>>>,
}

/// What the domain's lock protects: its tags, and every change of its array.
pub(crate) struct DomainState<P: Platform> {
    pub(crate) tags: Vec<Owned<P>>,
    // Tags whose flush is not proven. There is always room for all of `tags`.
    pub(crate) retiring: Vec<RetiringTag>,
}

/// A tag of the domain, and the SMMU that it is a tag of.
pub(crate) struct Owned<P: Platform> {
    pub(crate) tag: InUseTag,
    pub(crate) smmu: Arc<Smmu<P>>,
}

/// The domain's lock, held.
pub(crate) type DomainGuard<P> = ArcMutexGuard<<P as Platform>::DomainLock, DomainState<P>>;

/// A domain's invalidation array, to look at. It is that of the moment at which it was taken.
pub struct ArrayView<G>(G);

impl<G: Deref<Target = InvArray>> ArrayView<G> {
    /// Every entry, in the order in which commands are sent.
    pub fn iter(&self) -> impl Iterator<Item = InvView> {
        self.0.iter()
    }

    /// The live entry of a kind on an SMMU.
    #[must_use]
    pub fn find(&self, smmu: SmmuId, kind: InvKind) -> Option<Found> {
        self.0.find(smmu, kind)
    }

    /// Whether an invalidation would send nothing.
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
    /// A domain that no device is attached to. `id` differs from that of every other domain.
    ///
    /// # Errors
    ///
    /// [`AttachError::InputSize`], or no memory.
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

    /// The domain's number.
    #[must_use]
    pub fn id(&self) -> DomainId {
        self.id
    }

    /// Its page tables.
    #[must_use]
    pub fn table(&self) -> &TableDescription {
        &self.table
    }

    /// Its invalidation array, as readers see it now.
    #[must_use]
    pub fn array(&self) -> ArrayView<<P::Cell as Publication<InvArray>>::Guard<'_>> {
        ArrayView(self.cell.read())
    }

    /// Its tag on an SMMU, if a device of it is attached there.
    #[must_use]
    pub fn tag_on(&self, smmu: SmmuId) -> Option<CacheTag> {
        self.cell.read().find(smmu, self.kind()).and_then(|found| found.spec.tag())
    }

    /// Make every SMMU forget what it has cached of the extent, and wait until they have.
    ///
    /// Call it after the tables have changed and before what they led to is reused. The stores to
    /// the tables must have been published to the SMMUs. When it returns `Ok`, no device reaches
    /// memory through a translation of the extent that the tables no longer have, also when a device
    /// is being attached or detached at the same time.
    ///
    /// Takes no lock and allocates nothing, but for what [`Platform::Cell`] needs for a read; any context will do
    /// in which that may be read and that may spin for a `CMD_SYNC`. The granule is the domain's own: in an extent
    /// of another one the size of the leaves is taken as unknown.
    ///
    /// # Errors
    ///
    /// An SMMU could not confirm. The others were still invalidated, but the memory must not be reused.
    pub fn invalidate(&self, extent: Extent, sink: &P::Sink) -> Result<(), InvalidateError> {
        let granule = self.table.granule;
        let block_shift = extent.block_shift.filter(|_| extent.granule == granule);
        invalidate_published(&self.cell, Extent { granule, block_shift, ..extent }, sink)
    }

    /// Try again to flush the tags of the domain on an SMMU whose flush could not be proven when their last user
    /// went, and free those that are proven now.
    ///
    /// Says how many are left, on all SMMUs. Takes the domain's lock.
    ///
    /// # Errors
    ///
    /// The SMMU still does not confirm. Tags before the one that failed are free.
    pub fn retry_flushes(&self, smmu: SmmuId, env: &Env<'_, P>) -> Result<usize, SinkError> {
        let mut state = self.lock();
        while let Some(at) = state.retiring.iter().position(|tag| tag.smmu() == smmu) {
            let tag = state.retiring[at].tag();
            let proof = FlushProof::obtain(env.sink, smmu, tag)?;
            self.cell.read().settle(&proof);
            match state.retiring.swap_remove(at).free(proof) {
                Ok(tag) => env.observer.notice(Notice::TagFreed { smmu, tag }),
                // The proof is of this very tag; were it not, dropping the error quarantines the number.
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
