//! Stage-1 page tables for domains: 4 KiB pages, 39 bits of IOVA. Several CPUs may change them.
//!
//! 1. All tables lie in one block, which the caller sizes. So a walk is safe code, and no call
//!    allocates or locks.
//! 2. A leaf is one 64-bit store. A table is linked by one compare-exchange, and never unlinked.
//! 3. A map or an unmap is published to the SMMU before the call returns. An unmap is complete only
//!    after [`Domain::invalidate`](smmu_driver::smmu_attach::Domain::invalidate).

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use smmu_driver::smmu_attach::{
    TableDescription, TranslationStage, TranslationTable, WalkAttributes,
};
use smmu_hw_mmio::Coherency;
use smmu_types::seam::{DmaBlock, DmaError, DmaLayout, DmaMemory};
use smmu_types::{Iova, PhysAddr};

/// Bytes of a page.
pub const PAGE: u64 = 4096;
const IOVA_BITS: u32 = 39;
const ENTRIES: usize = 512;
const LAST_LEVEL: u32 = 3;

const TABLE: u64 = 0b11;
/// A page: access flag, Inner Shareable, not global, read and write, `MAIR` attribute 0.
const LEAF: u64 = 0b11 | 1 << 6 | 3 << 8 | 1 << 10 | 1 << 11;
const READ_ONLY: u64 = 1 << 7;
const ADDRESS: u64 = 0x0000_ffff_ffff_f000;
/// `MAIR` attribute 0: Normal memory, Write-Back.
const MAIR: u64 = 0xff;

/// What a device may do with a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read and write.
    ReadWrite,
    /// Read.
    ReadOnly,
}

/// A page was not mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MapError {
    /// IOVA or physical address is no multiple of 4 KiB, or too large.
    #[error("{iova} -> {physical}: both must be multiples of 4 KiB, of 39 and 48 bits")]
    Address {
        /// The IOVA.
        iova: Iova,
        /// The physical address.
        physical: PhysAddr,
    },
    /// The IOVA is mapped already.
    #[error("{iova} is mapped to {physical} already; unmap it first")]
    Mapped {
        /// The IOVA.
        iova: Iova,
        /// Where it leads.
        physical: PhysAddr,
    },
    /// The block has no room for a further table.
    #[error("all {tables} tables are in use; give PageTables::new a greater number")]
    Full {
        /// Tables in the block.
        tables: usize,
    },
}

/// Stage-1 tables in one block of DMA memory.
#[derive(Debug)]
pub struct PageTables<B> {
    block: B,
    coherency: Coherency,
    tables: usize,
    // Tables in use. Table 0 is the root.
    used: AtomicUsize,
}

impl<B: DmaBlock> PageTables<B> {
    /// Empty tables, with room for `tables` of them: one root, one for each GiB of IOVAs in use,
    /// and one for each 2 MiB.
    ///
    /// # Errors
    ///
    /// There is no such block.
    pub fn new<D>(memory: &D, tables: usize, coherency: Coherency) -> Result<Self, DmaError>
    where
        D: DmaMemory<Block = B>,
    {
        let tables = tables.max(1);
        let bytes = (tables as u64).saturating_mul(PAGE);
        let layout = DmaLayout::new(bytes, PAGE).ok_or(DmaError { bytes, align: PAGE })?;
        let block = memory.allocate(layout)?;
        Ok(PageTables { block, coherency, tables, used: AtomicUsize::new(1) })
    }

    /// Maps a page.
    ///
    /// # Errors
    ///
    /// An address does not fit, the IOVA is mapped, or there is no room. Nothing is mapped then.
    pub fn map(&self, iova: Iova, physical: PhysAddr, access: Access) -> Result<(), MapError> {
        let fits = iova.0 >> IOVA_BITS == 0 && physical.0 & !ADDRESS == 0;
        if !fits || !iova.0.is_multiple_of(PAGE) {
            return Err(MapError::Address { iova, physical });
        }
        let mut table = 0;
        for level in 1..LAST_LEVEL {
            table = match self.next(table, level, iova) {
                Some(next) => next,
                None => self.link(table, level, iova)?,
            };
        }
        let access = if access == Access::ReadOnly { READ_ONLY } else { 0 };
        let word = word(table, LAST_LEVEL, iova);
        let leaf = physical.0 | LEAF | access;
        self.entry(word)
            .compare_exchange(0, leaf, Ordering::Relaxed, Ordering::Relaxed)
            .map_err(|there| MapError::Mapped { iova, physical: PhysAddr(there & ADDRESS) })?;
        self.block.publish(word..word + 1);
        Ok(())
    }

    /// Unmaps a page, and says what was there. Invalidate before the memory is reused.
    pub fn unmap(&self, iova: Iova) -> Option<PhysAddr> {
        let mut table = (iova.0 >> IOVA_BITS == 0).then_some(0)?;
        for level in 1..LAST_LEVEL {
            table = self.next(table, level, iova)?;
        }
        let word = word(table, LAST_LEVEL, iova);
        let there = self.entry(word).swap(0, Ordering::Relaxed);
        self.block.publish(word..word + 1);
        (there != 0).then_some(PhysAddr(there & ADDRESS))
    }

    /// The table that the entry of `iova` links.
    fn next(&self, table: usize, level: u32, iova: Iova) -> Option<usize> {
        // Acquire: the linked table is zeroed before it is linked.
        let entry = self.entry(word(table, level, iova)).load(Ordering::Acquire);
        (entry != 0).then(|| (((entry & ADDRESS) - self.block.address().0) / PAGE) as usize)
    }

    /// Links a new table, or finds the one that another CPU has linked meanwhile.
    fn link(&self, table: usize, level: u32, iova: Iova) -> Result<usize, MapError> {
        let room = |used: usize| (used < self.tables).then_some(used + 1);
        let fresh = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room);
        let fresh = fresh.map_err(|_| MapError::Full { tables: self.tables })?;
        let word = word(table, level, iova);
        let entry = (self.block.address().0 + fresh as u64 * PAGE) | TABLE;
        let linked =
            self.entry(word).compare_exchange(0, entry, Ordering::Release, Ordering::Acquire);
        self.block.publish(word..word + 1);
        match linked {
            Ok(_) => Ok(fresh),
            // The fresh table stays unused: two CPUs raced for one entry.
            Err(there) => Ok((((there & ADDRESS) - self.block.address().0) / PAGE) as usize),
        }
    }

    fn entry(&self, word: usize) -> &AtomicU64 {
        // Only tables of this block are linked, and an index has 9 bits: the word exists.
        &self.block.words()[word]
    }
}

/// The word of an entry in the block.
fn word(table: usize, level: u32, iova: Iova) -> usize {
    let shift = 12 + 9 * (LAST_LEVEL - level);
    table * ENTRIES + (iova.0 >> shift) as usize % ENTRIES
}

impl<B: DmaBlock> TranslationTable for PageTables<B> {
    fn describe(&self) -> TableDescription {
        let stage = TranslationStage::Stage1 { mair: MAIR };
        let mut description = TableDescription::new(stage, self.block.address());
        if self.coherency == Coherency::NonCoherent {
            description.walk = WalkAttributes::NON_COHERENT;
        }
        description
    }
}
