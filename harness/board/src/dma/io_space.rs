//! IOVAs for drivers of devices: each buffer is mapped for as long as the device may use it.

use alloc::vec::Vec;

use lock_api::{Mutex, RawMutex};
use smmu_driver::{Domain, Platform};
use smmu_types::range::Extent;
use smmu_types::seam::DmaBlock;
use smmu_types::{Granule, Iova, Leaf, PhysAddr};

use crate::machine::Region;
use crate::page_tables::{Access, MapError, PAGE, PageTables};

/// Why a buffer cannot be mapped or given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IoSpaceError {
    /// It cannot be mapped.
    #[error("{0}")]
    Map(#[from] MapError),
    /// The invalidation after an unmap is not confirmed.
    #[error("the invalidation of {iova} is not confirmed; never reuse the memory that it led to")]
    Unconfirmed {
        /// The first IOVA.
        iova: Iova,
    },
}

/// Maps buffers for one or more devices.
pub trait IoSpace: Sync {
    /// Maps a buffer, and returns the IOVA of its first byte.
    ///
    /// # Errors
    ///
    /// The buffer cannot be mapped. Nothing is mapped then.
    fn share(&self, buffer: Region, access: Access) -> Result<Iova, IoSpaceError>;

    /// Unmaps a buffer and invalidates. After `Ok` no device reaches it.
    ///
    /// # Errors
    ///
    /// A device may still reach the buffer.
    fn unshare(&self, iova: Iova, bytes: u64) -> Result<(), IoSpaceError>;
}

/// Memory whose IOVAs are its addresses, because each domain maps it so, or nothing translates.
#[derive(Clone, Copy, Debug, Default)]
pub struct InPlace;

impl IoSpace for InPlace {
    fn share(&self, buffer: Region, _: Access) -> Result<Iova, IoSpaceError> {
        Ok(Iova(buffer.base))
    }

    fn unshare(&self, _: Iova, _: u64) -> Result<(), IoSpaceError> {
        Ok(())
    }
}

/// The IOVAs of a domain with [`PageTables`], from `first` on.
pub struct DomainSpace<P: Platform, L> {
    domain: Domain<P>,
    free: Mutex<L, FreeIovas>,
}

struct FreeIovas {
    next: u64,
    // Ranges that came back: first IOVA, pages.
    returned: Vec<(u64, u64)>,
}

impl<P: Platform, L: RawMutex> DomainSpace<P, L> {
    /// Maps in `domain`, at IOVAs from `first` on, a multiple of 4 KiB. The program maps nothing
    /// else there.
    pub fn new(domain: Domain<P>, first: Iova) -> Self {
        DomainSpace { domain, free: Mutex::new(FreeIovas { next: first.0, returned: Vec::new() }) }
    }

    /// The domain.
    pub const fn domain(&self) -> &Domain<P> {
        &self.domain
    }

    fn take(&self, pages: u64) -> u64 {
        let mut free = self.free.lock();
        if let Some(at) = free.returned.iter().position(|(_, length)| *length == pages) {
            return free.returned.swap_remove(at).0;
        }
        let iova = free.next;
        free.next = iova.saturating_add(pages * PAGE);
        iova
    }
}

impl<P, B, L> IoSpace for DomainSpace<P, L>
where
    P: Platform<Tables = PageTables<B>>,
    B: DmaBlock,
    L: RawMutex + Sync,
    Domain<P>: Sync,
{
    fn share(&self, buffer: Region, access: Access) -> Result<Iova, IoSpaceError> {
        let offset = buffer.base % PAGE;
        let pages = (offset + buffer.bytes).div_ceil(PAGE);
        let first = self.take(pages);
        for page in 0..pages {
            let at = Iova(first.saturating_add(page * PAGE));
            let to = PhysAddr(buffer.base - offset + page * PAGE);
            if let Err(error) = self.domain.tables().map(at, to, access) {
                // No device has heard of these IOVAs, but the SMMU may have walked them.
                self.unshare(Iova(first), page * PAGE)?;
                return Err(error.into());
            }
        }
        Ok(Iova(first + offset))
    }

    fn unshare(&self, iova: Iova, bytes: u64) -> Result<(), IoSpaceError> {
        let (offset, first) = (iova.0 % PAGE, iova.0 / PAGE * PAGE);
        let pages = (offset + bytes).div_ceil(PAGE);
        if pages == 0 {
            return Ok(());
        }
        for page in 0..pages {
            self.domain.tables().unmap(Iova(first + page * PAGE));
        }
        let extent = Extent::range(first, pages * PAGE, Granule::K4, Leaf::Last);
        let unconfirmed = IoSpaceError::Unconfirmed { iova: Iova(first) };
        // Neither the memory nor the IOVAs are reused before the SMMU confirms.
        self.domain.invalidate(extent).map_err(|_| unconfirmed)?;
        self.free.lock().returned.push((first, pages));
        Ok(())
    }
}
