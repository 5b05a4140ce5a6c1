use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use lock_api::{ArcMutexGuard, Mutex};
use smmu_invs::{InvArray, InvKind, InvalidateError, Publication, invalidate_published};
use smmu_tags::InUseTag;
use smmu_types::range::Extent;
use smmu_types::{CacheTag, DomainId, SmmuId};

use crate::table::{Stage, TableDescription, TranslationTable};
use crate::{AttachError, Platform};

/// One address space, which devices behind one or several SMMUs share.
///
/// It has one tag on each SMMU that a device of it is behind, from the first attach to the last detach.
/// A device that is attached keeps the domain alive.
pub struct Domain<P: Platform> {
    id: DomainId,
    table: TableDescription,
    cell: P::Cell,
    state: Arc<Mutex<P::Lock, DomainState<P>>>,
}

/// What the domain's lock protects: its tags, and every change of its array.
pub(crate) struct DomainState<P: Platform> {
    pub(crate) tags: Vec<InUseTag<P::Lock>>,
}

/// The domain's lock, held.
pub(crate) type Guard<P> = ArcMutexGuard<<P as Platform>::Lock, DomainState<P>>;

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
            state: Arc::new(Mutex::new(DomainState { tags: Vec::new() })),
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
    pub fn array(&self) -> <P::Cell as Publication<InvArray>>::Guard<'_> {
        self.cell.read()
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
    /// Takes no lock and allocates nothing; any context will do that may spin for a `CMD_SYNC`.
    ///
    /// # Errors
    ///
    /// An SMMU could not confirm. The others were still invalidated, but the memory must not be reused.
    pub fn invalidate(&self, extent: Extent, sink: &P::Sink) -> Result<(), InvalidateError> {
        invalidate_published(&self.cell, extent, sink)
    }

    pub(crate) fn kind(&self) -> InvKind {
        match self.table.stage {
            Stage::Stage1 { .. } => InvKind::S1Asid,
            Stage::Stage2 { .. } => InvKind::S2Vmid,
        }
    }

    pub(crate) fn cell(&self) -> &P::Cell {
        &self.cell
    }

    pub(crate) fn lock(&self) -> Guard<P> {
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
