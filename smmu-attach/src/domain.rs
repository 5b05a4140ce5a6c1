//! One address space: its page tables, its tags, its invalidation array and its lock.

#[cfg(feature = "guest")]
use alloc::collections::TryReserveError;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Deref;
use core::sync::atomic::{AtomicUsize, Ordering};

use lock_api::Mutex;
use smmu_invs::{
    Counted, EntryState, Found, InvArray, InvKind, InvView, InvalidateError, Publication,
    invalidate_published_after,
};
use smmu_tags::{InUseTag, RetiringTag};
use smmu_types::range::Extent;
use smmu_types::seam::{DmaMemory, Notice, Observer, SinkError};
use smmu_types::{CacheTag, DomainId, FlushProof, GoneProof, SmmuId};

use crate::domain_config::{DomainConfig, TagNumber};

use crate::held::{Contention, Held, Locked, Rank};
use crate::platform::SmmuInstance;
use crate::table::{TableDescription, TranslationStage, TranslationTable};
use crate::{AttachError, Env, Platform};

/// One address space, shared by devices behind one or several SMMUs. A clone is another reference
/// to the same domain.
///
/// The domain owns its page tables. It has one tag on each SMMU with an attached device, from the
/// first attach to the last detach.
///
/// Each device keeps the domains alive that its SMMU may still use. So the tables live at least
/// that long, also if the caller drops every reference. [`into_tables`](Self::into_tables) gives
/// them back.
pub struct Domain<P: Platform>(pub(crate) Counted<DomainParts<P>>);

pub(crate) struct DomainParts<P: Platform> {
    id: DomainId,
    made: usize,
    env: Env<P>,
    tables: P::Tables,
    description: TableDescription,
    number: Option<TagNumber>,
    /// Virtual SMMUs over this domain. Grows under the lock.
    virtual_smmus: AtomicUsize,
    cell: P::Cell,
    state: Mutex<P::SleepLock, DomainState>,
}

// SAFETY: the lock is a field.
#[expect(unsafe_code, reason = "the promise of a lock that is held with its object")]
unsafe impl<P: Platform> Locked for DomainParts<P> {
    type Raw = P::SleepLock;
    type Data = DomainState;
    fn mutex(&self) -> &Mutex<P::SleepLock, DomainState> {
        &self.state
    }
    fn rank(&self) -> Rank {
        Rank::Domain { made: self.made, address: core::ptr::from_ref(self).addr() }
    }
}

/// What the domain's lock protects: the tags, and each change of the array.
pub(crate) struct DomainState {
    pub(crate) tags: Vec<Owned>,
    // Tags without a proven flush. The list always has room for all of `tags`, and for the VMIDs of
    // the virtual SMMUs.
    pub(crate) retiring: Vec<RetiringTag>,
}

/// A tag of the domain, and the SMMU of the tag.
pub(crate) struct Owned {
    pub(crate) tag: InUseTag,
    pub(crate) smmu: SmmuInstance,
}

/// The domain's lock, held.
pub(crate) type DomainGuard<P> = Held<DomainParts<P>>;

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
    /// A domain without devices, which takes over its page tables.
    ///
    /// `id` names the domain in notices and errors.
    ///
    /// # Errors
    ///
    /// [`AttachError::InputSize`], or no memory. Then the call drops the tables: no SMMU has seen
    /// them.
    pub fn new(env: &Env<P>, id: DomainId, tables: P::Tables) -> Result<Self, AttachError> {
        Self::with_config(env, id, tables, DomainConfig::default())
    }

    /// [`new`](Self::new), with a choice of the tag.
    ///
    /// # Errors
    ///
    /// As of [`new`](Self::new); [`AttachError::WrongTag`] for an ASID with tables of stage 2, or a
    /// VMID with tables of stage 1.
    pub fn with_config(
        env: &Env<P>,
        id: DomainId,
        tables: P::Tables,
        config: DomainConfig,
    ) -> Result<Self, AttachError> {
        let description = tables.describe();
        match (description.stage, config.number) {
            (_, None)
            | (TranslationStage::Stage1 { .. }, Some(TagNumber::Asid(_)))
            | (TranslationStage::Stage2 { .. }, Some(TagNumber::Vmid(_))) => {}
            (_, Some(number)) => return Err(AttachError::WrongTag { domain: id, number }),
        }
        if !(12..=39).contains(&description.t0sz) {
            return Err(AttachError::InputSize { domain: id, t0sz: description.t0sz });
        }
        let node = P::Cell::node(InvArray::empty())?;
        let domain = Counted::new(DomainParts {
            id,
            made: env.next_domain(),
            env: env.clone(),
            tables,
            description,
            number: config.number,
            virtual_smmus: AtomicUsize::new(0),
            cell: P::Cell::new(node),
            state: Mutex::new(DomainState { tags: Vec::new(), retiring: Vec::new() }),
        })?;
        Ok(Domain(domain))
    }

    /// Number of the domain.
    #[must_use]
    pub fn id(&self) -> DomainId {
        self.0.id
    }

    /// The page tables. The caller changes descriptors through this, publishes the stores, and
    /// calls [`invalidate`](Self::invalidate) before it reuses memory.
    #[must_use]
    pub fn tables(&self) -> &P::Tables {
        &self.0.tables
    }

    /// Description of the page tables.
    #[must_use]
    pub fn description(&self) -> &TableDescription {
        &self.0.description
    }

    /// The number that the caller chose for the domain's tags.
    #[must_use]
    pub fn tag_number(&self) -> Option<TagNumber> {
        self.0.number
    }

    /// Whether both are references to the same domain.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Counted::ptr_eq(&self.0, &other.0)
    }

    /// Take the page tables back.
    ///
    /// `Ok` means that no SMMU can use them: every device has left, the SMMUs have confirmed it,
    /// and every flush is proven.
    ///
    /// # Errors
    ///
    /// The domain itself, if another reference to it exists: the caller's, or that of a device
    /// whose SMMU may still use the domain. [`Device::settle`](crate::Device::settle) and
    /// [`Smmu::settle`](crate::Smmu::settle) end the latter.
    pub fn into_tables(self) -> Result<P::Tables, Self> {
        // A device that an SMMU may lead to this domain has a reference, so the last reference is
        // never that of a domain in use.
        Counted::into_inner(self.0).map(|parts| parts.tables).map_err(Domain)
    }

    /// The invalidation array, as readers see it now.
    #[must_use]
    pub fn array(&self) -> ArrayView<<P::Cell as Publication<InvArray>>::Guard<'_>> {
        ArrayView(self.0.cell.read())
    }

    /// The tag of the domain on an SMMU, if a device of the domain is attached there.
    #[must_use]
    pub fn tag_on(&self, smmu: SmmuId) -> Option<CacheTag> {
        self.cell().read().find(smmu, self.kind()).and_then(|found| found.spec.tag())
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
    /// reused. For an SMMU that is off for good, call [`Smmu::gone`](crate::Smmu::gone): its
    /// entries leave the array.
    pub fn invalidate(&self, extent: Extent) -> Result<(), InvalidateError> {
        let granule = self.0.description.granule;
        let block_shift = extent.block_shift.filter(|_| extent.granule == granule);
        let extent = Extent { granule, block_shift, ..extent };
        let (cell, env) = (&self.0.cell, &self.0.env);
        // The SMMU, not a CPU, reads the tables: the memory's barrier reaches it.
        let barrier = || env.dma().full_barrier();
        invalidate_published_after(cell, extent, env.sink(), barrier, &mut |_| {})
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
    pub fn retry_flushes(&self, smmu: SmmuId) -> Result<usize, SinkError> {
        self.flush_retiring(smmu, Rank::Nothing)
    }

    /// [`retry_flushes`](Self::retry_flushes) for a caller that may hold the lock of a device.
    pub(crate) fn flush_retiring(&self, smmu: SmmuId, holding: Rank) -> Result<usize, SinkError> {
        let mut state = self.lock(holding);
        while let Some(at) = state.retiring.iter().position(|tag| tag.smmu() == smmu) {
            let proof = FlushProof::obtain(self.0.env.sink(), smmu, state.retiring[at].tag())?;
            self.free(state.retiring.swap_remove(at), proof);
        }
        Ok(state.retiring.len())
    }

    /// Give a number back whose flush is proven.
    pub(crate) fn free(&self, tag: RetiringTag, proof: FlushProof) -> Option<CacheTag> {
        let (smmu, name) = (proof.smmu(), proof.tag());
        // Before the number is free: no reader may flush a tag that has a new owner. The entry is
        // dead then. The next merge leaves it out; an array without it would need memory here.
        self.cell().read().settle(&proof);
        // No `Err`: the proof names this tag. Dropping the error would quarantine the number.
        tag.free(proof).ok()?;
        self.0.env.observer().notice(Notice::TagFreed { smmu, tag: name });
        Some(name)
    }

    /// Take every entry and tag of an SMMU out of the domain, because the SMMU is gone. The caller
    /// holds the lock of a device.
    pub(crate) fn forget_smmu(&self, proof: &GoneProof) {
        let smmu = proof.smmu();
        let mut state = self.lock(Rank::ANY_DEVICE);
        // Readers skip the entries from now on; then the numbers may get new owners on other SMMUs.
        self.cell().read().remove_smmu(smmu);
        let forget = |retiring: RetiringTag| {
            let tag = retiring.tag();
            // `Err` is not reached: the proof names this tag.
            if retiring.free(proof.flush(tag)).is_ok() {
                self.0.env.observer().notice(Notice::TagForgotten { smmu, tag });
            }
        };
        while let Some(at) = state.tags.iter().position(|owned| owned.tag.smmu() == smmu) {
            forget(state.tags.swap_remove(at).tag.retire());
        }
        while let Some(at) = state.retiring.iter().position(|tag| tag.smmu() == smmu) {
            forget(state.retiring.swap_remove(at));
        }
    }

    /// Count one virtual SMMU more, with room for its VMID.
    #[cfg(feature = "guest")]
    pub(crate) fn reserve_virtual_smmu(&self) -> Result<(), TryReserveError> {
        let mut state = self.lock(Rank::Nothing);
        let most = state.tags.len() + self.virtual_smmus() + 1;
        state.retiring.try_reserve(most)?;
        self.0.virtual_smmus.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    #[cfg(feature = "guest")]
    pub(crate) fn release_virtual_smmu(&self) {
        self.0.virtual_smmus.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn virtual_smmus(&self) -> usize {
        self.0.virtual_smmus.load(Ordering::Relaxed)
    }

    pub(crate) fn kind(&self) -> InvKind {
        match self.0.description.stage {
            TranslationStage::Stage1 { .. } => InvKind::S1Asid,
            TranslationStage::Stage2 { .. } => InvKind::S2Vmid,
        }
    }

    /// Place of the domain's lock in the order of locks.
    pub(crate) fn rank(&self) -> Rank {
        self.0.rank()
    }

    /// Whether a guard is that of this domain's lock.
    pub(crate) fn is_guarded_by(&self, guard: &DomainGuard<P>) -> bool {
        Counted::ptr_eq(&self.0, guard.object())
    }

    pub(crate) fn env(&self) -> &Env<P> {
        &self.0.env
    }

    pub(crate) fn cell(&self) -> &P::Cell {
        &self.0.cell
    }

    pub(crate) fn lock(&self, holding: Rank) -> DomainGuard<P> {
        Held::lock(&self.0, holding)
    }

    pub(crate) fn lock_as(&self, contention: Contention, holding: Rank) -> Option<DomainGuard<P>> {
        Held::lock_as(&self.0, contention, holding)
    }
}

impl<P: Platform> Clone for Domain<P> {
    fn clone(&self) -> Self {
        Domain(self.0.clone())
    }
}

impl<P: Platform> fmt::Debug for Domain<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Domain")
            .field("id", &self.id())
            .field("description", self.description())
            .finish_non_exhaustive()
    }
}
