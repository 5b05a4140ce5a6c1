use alloc::sync::Arc;
use core::fmt;

use lock_api::{Mutex, RawMutex};
use smmu_types::{Asid, CacheTag, Regime, SmmuId, Vmid};

use crate::table::{Table, width};
use crate::{FreshTag, TagError, TagKind, TagStats};

/// The numbers of a space, shared by its handles and by every tag that it gave out.
pub(crate) struct Shared<R>(pub(crate) Mutex<R, Table>);

impl<R: RawMutex> Shared<R> {
    fn new(kind: TagKind, bits: u8) -> Result<Arc<Self>, TagError> {
        Ok(Arc::new(Shared(Mutex::new(Table::new(kind, bits)?))))
    }

    fn take(
        self: &Arc<Self>,
        kind: TagKind,
        smmu: SmmuId,
        numbers: u32,
        tag: impl FnOnce(u16) -> CacheTag,
    ) -> Result<FreshTag<R>, TagError> {
        let mut table = self.0.lock();
        let number = table.take(numbers).ok_or(TagError::Exhausted {
            kind,
            smmu,
            limit: numbers - 1,
            reserved: table.reserved_count(),
            quarantined: table.stats().quarantined,
        })?;
        drop(table);
        Ok(FreshTag::new(self.clone(), smmu, tag(number)))
    }
}

/// A space of ASIDs, for one SMMU or several.
///
/// A handle: clones share the numbers. A space that serves several SMMUs gives no number to two of
/// them at once. If they differ in width, the narrow ones compete with the wide ones for the
/// lowest 255 numbers; a space of its own for each SMMU avoids that.
pub struct AsidSpace<R> {
    shared: Arc<Shared<R>>,
    numbers: u32,
}

impl<R> Clone for AsidSpace<R> {
    fn clone(&self) -> Self {
        AsidSpace { shared: self.shared.clone(), numbers: self.numbers }
    }
}

impl<R: RawMutex> AsidSpace<R> {
    /// A space of 2^`bits` numbers, of which 0 is never given out. `bits` is 8 or 16.
    ///
    /// # Errors
    ///
    /// [`TagError::BadWidth`], or [`TagError::OutOfMemory`] for the bitmaps (16 KiB at most).
    pub fn new(bits: u8) -> Result<Self, TagError> {
        let numbers = width(TagKind::Asid, bits)?;
        Ok(AsidSpace { shared: Shared::new(TagKind::Asid, bits)?, numbers })
    }

    /// The lowest free ASID that `smmu`, whose ASIDs are `bits` wide, can use. Does not allocate
    /// memory.
    ///
    /// # Errors
    ///
    /// [`TagError::Exhausted`], or [`TagError::BadWidth`].
    pub fn allocate(
        &self,
        smmu: SmmuId,
        regime: Regime,
        bits: u8,
    ) -> Result<FreshTag<R>, TagError> {
        let numbers = width(TagKind::Asid, bits)?.min(self.numbers);
        let tag = |number| CacheTag::Asid(regime, Asid(number));
        self.shared.take(TagKind::Asid, smmu, numbers, tag)
    }

    /// Never give out `asid`: firmware uses it. Saying so twice is no error.
    ///
    /// # Errors
    ///
    /// [`TagError::OutOfRange`], or [`TagError::AlreadyGivenOut`].
    pub fn reserve(&self, asid: Asid) -> Result<(), TagError> {
        self.shared.0.lock().reserve(asid.0)
    }

    /// How many numbers are in which state.
    #[must_use]
    pub fn stats(&self) -> TagStats {
        self.shared.0.lock().stats()
    }
}

impl<R: RawMutex> fmt::Debug for AsidSpace<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsidSpace").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

/// The VMIDs of one SMMU.
///
/// A handle: clones share the numbers.
pub struct VmidSpace<R> {
    shared: Arc<Shared<R>>,
    smmu: SmmuId,
    numbers: u32,
}

impl<R> Clone for VmidSpace<R> {
    fn clone(&self) -> Self {
        VmidSpace { shared: self.shared.clone(), smmu: self.smmu, numbers: self.numbers }
    }
}

impl<R: RawMutex> VmidSpace<R> {
    /// The 2^`bits` VMIDs of `smmu`, of which 0 is never given out. `bits` is 8 or 16.
    ///
    /// # Errors
    ///
    /// [`TagError::BadWidth`], or [`TagError::OutOfMemory`] for the bitmaps (16 KiB at most).
    pub fn new(smmu: SmmuId, bits: u8) -> Result<Self, TagError> {
        let numbers = width(TagKind::Vmid, bits)?;
        Ok(VmidSpace { shared: Shared::new(TagKind::Vmid, bits)?, smmu, numbers })
    }

    /// The lowest free VMID. Does not allocate memory.
    ///
    /// # Errors
    ///
    /// [`TagError::Exhausted`].
    pub fn allocate(&self) -> Result<FreshTag<R>, TagError> {
        let tag = |number| CacheTag::Vmid(Vmid(number));
        self.shared.take(TagKind::Vmid, self.smmu, self.numbers, tag)
    }

    /// Never give out `vmid`: firmware uses it. Saying so twice is no error.
    ///
    /// # Errors
    ///
    /// [`TagError::OutOfRange`], or [`TagError::AlreadyGivenOut`].
    pub fn reserve(&self, vmid: Vmid) -> Result<(), TagError> {
        self.shared.0.lock().reserve(vmid.0)
    }

    /// The SMMU whose VMIDs these are.
    #[must_use]
    pub fn smmu(&self) -> SmmuId {
        self.smmu
    }

    /// How many numbers are in which state.
    #[must_use]
    pub fn stats(&self) -> TagStats {
        self.shared.0.lock().stats()
    }
}

impl<R: RawMutex> fmt::Debug for VmidSpace<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VmidSpace")
            .field("smmu", &self.smmu)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
