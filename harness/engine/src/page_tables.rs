//! Page tables for scenarios: VMSAv8-64, 4 KiB granule, stage 1 or stage 2, 39-bit input.
//!
//! The well-kept `aarch64-paging` crate is the reference that the tests compare every descriptor
//! with. It cannot serve here itself: its hook for a new table cannot fail, and it writes through
//! exclusive references to memory that the SMMU reads at the same time.
//!
//! A leaf maps a page of 4 KiB or a block of 2 MiB. Only leaves change after a table is linked, and
//! a linked table stays, so an invalidation with `Leaf` = 1 is enough.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use smmu_driver::smmu_attach::{
    ForcedWriteBack, TableDescription, TranslationStage, TranslationTable, WalkAttributes,
};
use smmu_driver::smmu_types::seam::{DmaBlock, DmaError, DmaLayout, DmaMemory};
use smmu_driver::smmu_types::{Granule, OutputSize, PhysAddr};

/// Bytes of a page.
pub const PAGE: u64 = 4096;

/// Bytes of a block.
pub const BLOCK: u64 = 2 << 20;

/// Bits of an input address.
pub const INPUT_BITS: u32 = 39;
const START_LEVEL: u32 = 1;
const LAST_LEVEL: u32 = 3;
const ENTRIES: u64 = 512;

const VALID_TABLE: u64 = 3;
const VALID_PAGE: u64 = 3;
const VALID_BLOCK: u64 = 1;
/// `Valid`, and the bit that tells a table or page from a block.
const KIND: u64 = 3;
const ACCESS_FLAG: u64 = 1 << 10;
const INNER_SHAREABLE: u64 = 3 << 8;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// Unmapped inputs that are remembered.
const MOST_GONE: usize = 8;
/// `AP[2]` of stage 1, and `S2AP[1]`.
const READ_ONLY: u64 = 1 << 7;
const S2_WRITE: u64 = 1 << 7;

/// The stage that a table translates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum TableStage {
    /// `"s1"`: stage 1.
    #[serde(rename = "s1")]
    Stage1,
    /// `"s2"`: stage 2.
    #[serde(rename = "s2")]
    Stage2,
}

/// How much one leaf descriptor maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeafSize {
    /// A page of 4 KiB, at level 3.
    Page,
    /// A block of 2 MiB, at level 2.
    Block,
}

impl LeafSize {
    /// Bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        match self {
            LeafSize::Page => PAGE,
            LeafSize::Block => BLOCK,
        }
    }

    /// log2 of the bytes.
    #[must_use]
    pub const fn shift(self) -> u32 {
        self.bytes().ilog2()
    }

    const fn level(self) -> u32 {
        match self {
            LeafSize::Page => LAST_LEVEL,
            LeafSize::Block => LAST_LEVEL - 1,
        }
    }

    fn check_aligned(self, address: u64) -> Result<(), TableError> {
        match self {
            _ if address.is_multiple_of(self.bytes()) => Ok(()),
            LeafSize::Page => Err(TableError::Misaligned(address)),
            LeafSize::Block => Err(TableError::MisalignedBlock(address)),
        }
    }
}

/// What a mapping permits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Permission {
    /// `"rw"`: reads and writes.
    #[default]
    #[serde(rename = "rw")]
    ReadWrite,
    /// `"ro"`: reads.
    #[serde(rename = "ro")]
    ReadOnly,
}

/// What one leaf maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MappedLeaf {
    /// The first input address.
    pub input: u64,
    /// Where that leads.
    pub output: PhysAddr,
    /// Whether a device may write there. It may read.
    pub write: bool,
}

/// Why a table could not be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// An input address that the table cannot translate.
    #[error("address {0:#x} is beyond the {INPUT_BITS} bits of the table")]
    Range(u64),
    /// An address that is not that of a page.
    #[error("address {0:#x} is not aligned to 4096 bytes")]
    Misaligned(u64),
    /// An address that is not that of a block.
    #[error("address {0:#x} is not aligned to 2 MiB")]
    MisalignedBlock(u64),
    /// A block maps the address.
    #[error("a block maps {0:#x}; unmap the whole block")]
    InBlock(u64),
    /// A table of pages is linked where a block would be.
    #[error("a table of pages is linked at {0:#x}; a block cannot take its place")]
    HasTable(u64),
    /// Something is mapped there already.
    #[error("{0:#x} is mapped already; unmap it first")]
    Mapped(u64),
    /// Nothing is mapped there.
    #[error("{0:#x} is not mapped")]
    NotMapped(u64),
    /// No memory for a table.
    #[error(transparent)]
    Dma(#[from] DmaError),
}

/// A tree of tables in DMA memory.
#[derive(Debug)]
pub struct PageTables<D: DmaMemory> {
    stage: TableStage,
    start_level: u8,
    walk: WalkAttributes,
    dma: D,
    root: D::Block,
    // The inputs that were unmapped last.
    gone: [Option<u64>; MOST_GONE],
    unmaps: usize,
    // Tables below the root, by their physical address.
    tables: BTreeMap<u64, D::Block>,
}

impl<D: DmaMemory> PageTables<D> {
    /// An empty tree.
    ///
    /// # Errors
    ///
    /// No memory for the root.
    pub fn new(stage: TableStage, dma: D) -> Result<Self, TableError> {
        let root = dma.allocate(layout())?;
        let walk = WalkAttributes::COHERENT;
        let gone = [None; MOST_GONE];
        let tables = BTreeMap::new();
        Ok(PageTables { stage, start_level: 1, walk, dma, root, gone, unmaps: 0, tables })
    }

    /// For SMMUs that walk the tables in this way. Without this call each of them snoops the caches
    /// of the CPUs.
    #[must_use]
    pub fn walked_as(self, walk: WalkAttributes) -> Self {
        PageTables { walk, ..self }
    }

    /// Lets the description claim another start level of stage 2 (`STE.S2SL0`) than the tables have.
    #[must_use]
    pub fn claiming_start_level(self, start_level: u8) -> Self {
        PageTables { start_level, ..self }
    }

    /// Map a page. A translation that was not there needs no invalidation.
    ///
    /// # Errors
    ///
    /// The address cannot be mapped, is mapped already, or there is no memory for a table.
    pub fn map(
        &mut self,
        input: u64,
        output: PhysAddr,
        permission: Permission,
    ) -> Result<(), TableError> {
        self.map_leaf(LeafSize::Page, input, output, permission)
    }

    /// Map a page or a block, as [`map`](Self::map) maps a page.
    ///
    /// # Errors
    ///
    /// As for a page; and a table of pages is linked where the block would be.
    pub fn map_leaf(
        &mut self,
        size: LeafSize,
        input: u64,
        output: PhysAddr,
        permission: Permission,
    ) -> Result<(), TableError> {
        let leaf = leaf(self.stage, size, output, permission)?;
        let (block, index) = self.walk_or_grow(input, size)?;
        let old = block.words()[index].load(Ordering::Relaxed);
        match size {
            _ if old == 0 => {}
            LeafSize::Block if old & KIND == VALID_TABLE => {
                return Err(TableError::HasTable(input));
            }
            _ => return Err(TableError::Mapped(input)),
        }
        store(block, index, leaf);
        Ok(())
    }

    /// Take a mapping away. What was cached of it stays until it is invalidated.
    ///
    /// # Errors
    ///
    /// Nothing is mapped there.
    pub fn unmap(&mut self, input: u64) -> Result<(), TableError> {
        self.unmap_leaf(LeafSize::Page, input)
    }

    /// Take the mapping of a page or a block away, as [`unmap`](Self::unmap) does for a page.
    ///
    /// # Errors
    ///
    /// No such leaf is mapped there.
    pub fn unmap_leaf(&mut self, size: LeafSize, input: u64) -> Result<(), TableError> {
        let (block, index) = self.walk(input, size)?;
        let old = block.words()[index].load(Ordering::Relaxed);
        if old == 0 {
            return Err(TableError::NotMapped(input));
        }
        if size == LeafSize::Block && old & KIND == VALID_TABLE {
            return Err(TableError::HasTable(input));
        }
        store(block, index, 0);
        self.gone[self.unmaps % MOST_GONE] = Some(input);
        self.unmaps += 1;
        Ok(())
    }

    /// Overwrite the mapping of a page in place, without break-before-make. A driver must not do
    /// this; scenarios show why.
    ///
    /// # Errors
    ///
    /// The address cannot be mapped, or there is no memory for a table.
    pub fn overwrite(
        &mut self,
        input: u64,
        output: PhysAddr,
        permission: Permission,
    ) -> Result<(), TableError> {
        let leaf = leaf(self.stage, LeafSize::Page, output, permission)?;
        let (block, index) = self.walk_or_grow(input, LeafSize::Page)?;
        store(block, index, leaf);
        Ok(())
    }

    /// The leaf descriptor that maps an address, of a page or a block; 0 where there is none.
    #[must_use]
    pub fn descriptor(&self, input: u64) -> u64 {
        let size = match self.walk(input, LeafSize::Page) {
            Err(TableError::InBlock(_)) => LeafSize::Block,
            _ => LeafSize::Page,
        };
        let found = self.walk(input & !(size.bytes() - 1), size);
        found.map_or(0, |(block, index)| block.words()[index].load(Ordering::Relaxed))
    }

    /// The inputs that were unmapped last, and are not mapped again. At most 8.
    pub fn unmapped(&self) -> impl Iterator<Item = u64> {
        self.gone.iter().flatten().copied().filter(|input| self.descriptor(*input) == 0)
    }

    /// Every leaf, by rising input address.
    #[must_use]
    pub fn leaves(&self) -> Vec<MappedLeaf> {
        let mut found = Vec::new();
        self.leaves_of(&self.root, START_LEVEL, 0, &mut found);
        found
    }

    fn leaves_of(&self, table: &D::Block, level: u32, first: u64, found: &mut Vec<MappedLeaf>) {
        for (n, word) in (0u64..).zip(table.words()) {
            let descriptor = word.load(Ordering::Relaxed);
            let input = first | n << (12 + 9 * (LAST_LEVEL - level));
            match descriptor & KIND {
                VALID_TABLE if level < LAST_LEVEL => {
                    if let Some(below) = self.tables.get(&(descriptor & ADDRESS)) {
                        self.leaves_of(below, level + 1, input, found);
                    }
                }
                VALID_PAGE | VALID_BLOCK => found.push(MappedLeaf {
                    input,
                    output: PhysAddr(descriptor & ADDRESS),
                    write: match self.stage {
                        TableStage::Stage1 => descriptor & READ_ONLY == 0,
                        TableStage::Stage2 => descriptor & S2_WRITE != 0,
                    },
                }),
                _ => {}
            }
        }
    }

    /// Whether a leaf leads from `input`, the first byte of it, to `output`.
    #[must_use]
    pub fn maps(&self, input: u64, output: PhysAddr) -> bool {
        let leaf = self.descriptor(input);
        leaf != 0 && leaf & ADDRESS == output.0
    }

    fn walk(&self, input: u64, size: LeafSize) -> Result<(&D::Block, usize), TableError> {
        check(input, size)?;
        let mut table = &self.root;
        for level in START_LEVEL..size.level() {
            let entry = table.words()[index(input, level)].load(Ordering::Relaxed);
            if entry & KIND == VALID_BLOCK {
                return Err(TableError::InBlock(input));
            }
            table = self.tables.get(&(entry & ADDRESS)).ok_or(TableError::NotMapped(input))?;
        }
        Ok((table, index(input, size.level())))
    }

    fn walk_or_grow(
        &mut self,
        input: u64,
        size: LeafSize,
    ) -> Result<(&D::Block, usize), TableError> {
        check(input, size)?;
        let mut at = self.root.address().0;
        for level in START_LEVEL..size.level() {
            let table = self.tables.get(&at).unwrap_or(&self.root);
            let n = index(input, level);
            let entry = table.words()[n].load(Ordering::Relaxed);
            if entry & KIND == VALID_BLOCK {
                return Err(TableError::InBlock(input));
            }
            at = if entry == 0 {
                let next = self.dma.allocate(layout())?;
                let address = next.address().0;
                // The empty table was published when it was allocated, before this link to it.
                store(table, n, address | VALID_TABLE);
                self.tables.insert(address, next);
                address
            } else {
                entry & ADDRESS
            };
        }
        Ok((self.tables.get(&at).unwrap_or(&self.root), index(input, size.level())))
    }
}

impl<D: DmaMemory> TranslationTable for PageTables<D> {
    fn describe(&self) -> TableDescription {
        TableDescription {
            stage: match self.stage {
                // Attribute 0 is Normal Write-Back.
                TableStage::Stage1 => TranslationStage::Stage1 { mair: 0xff },
                TableStage::Stage2 => TranslationStage::Stage2 { start_level: self.start_level },
            },
            root: self.root.address(),
            t0sz: (64 - INPUT_BITS) as u8,
            granule: Granule::K4,
            output_size: OutputSize::Bits40,
            walk: self.walk,
            forced_write_back: ForcedWriteBack::Off,
        }
    }
}

fn layout() -> DmaLayout {
    const LAYOUT: DmaLayout = match DmaLayout::new(ENTRIES * 8, PAGE) {
        Some(layout) => layout,
        None => unreachable!(),
    };
    LAYOUT
}

fn check(input: u64, size: LeafSize) -> Result<(), TableError> {
    if input >> INPUT_BITS != 0 {
        return Err(TableError::Range(input));
    }
    size.check_aligned(input)
}

fn index(input: u64, level: u32) -> usize {
    (input >> (12 + 9 * (LAST_LEVEL - level)) & (ENTRIES - 1)) as usize
}

fn leaf(
    stage: TableStage,
    size: LeafSize,
    output: PhysAddr,
    permission: Permission,
) -> Result<u64, TableError> {
    if output.0 & !ADDRESS != 0 {
        return Err(TableError::Misaligned(output.0));
    }
    size.check_aligned(output.0)?;
    let kind = match size {
        LeafSize::Page => VALID_PAGE,
        LeafSize::Block => VALID_BLOCK,
    };
    let common = output.0 | kind | ACCESS_FLAG | INNER_SHAREABLE;
    Ok(match stage {
        // Unprivileged access; not global, so that it is tagged by the ASID.
        TableStage::Stage1 => {
            const NOT_GLOBAL: u64 = 1 << 11;
            let ap = match permission {
                Permission::ReadWrite => 1,
                Permission::ReadOnly => 3,
            };
            common | NOT_GLOBAL | ap << 6
        }
        TableStage::Stage2 => {
            const NORMAL_WRITE_BACK: u64 = 0xf << 2;
            let s2ap = match permission {
                Permission::ReadWrite => 3,
                Permission::ReadOnly => 1,
            };
            common | NORMAL_WRITE_BACK | s2ap << 6
        }
    })
}

fn store<B: DmaBlock>(block: &B, index: usize, descriptor: u64) {
    block.words()[index].store(descriptor, Ordering::Relaxed);
    block.publish(index..index + 1);
}

#[cfg(test)]
mod tests {
    use super::*;
    use aarch64_paging::descriptor::{El1Attributes, Stage2Attributes};
    use rstest::rstest;
    use smmu_driver::smmu_types::pool::Pool;
    use smmu_model::{Model, Profile};

    use crate::machine::Ram;

    fn heap_pool(bytes: usize) -> Pool<Ram> {
        Pool::new(Ram::new(Model::new(bytes, &[Profile::default()]).window()))
    }

    fn tables(stage: TableStage, bytes: usize) -> PageTables<Pool<Ram>> {
        PageTables::new(stage, heap_pool(bytes)).unwrap()
    }

    const PAGE_A: PhysAddr = PhysAddr(0x4003_4000);

    // Attribute bits from outside: those of the aarch64-paging crate.
    #[rstest]
    #[case(Permission::ReadWrite, El1Attributes::empty())]
    #[case(Permission::ReadOnly, El1Attributes::READ_ONLY)]
    fn stage1_leaf(#[case] permission: Permission, #[case] extra: El1Attributes) {
        let mut tables = tables(TableStage::Stage1, 1 << 20);
        tables.map(0x10000, PAGE_A, permission).unwrap();
        let attributes = El1Attributes::VALID
            | El1Attributes::TABLE_OR_PAGE
            | El1Attributes::ATTRIBUTE_INDEX_0
            | El1Attributes::INNER_SHAREABLE
            | El1Attributes::ACCESSED
            | El1Attributes::NON_GLOBAL
            | El1Attributes::USER
            | extra;
        assert_eq!(tables.descriptor(0x10000), PAGE_A.0 | attributes.bits() as u64);
    }

    #[rstest]
    #[case(Permission::ReadWrite, Stage2Attributes::S2AP_ACCESS_RW)]
    #[case(Permission::ReadOnly, Stage2Attributes::S2AP_ACCESS_RO)]
    fn stage2_leaf(#[case] permission: Permission, #[case] s2ap: Stage2Attributes) {
        let mut tables = tables(TableStage::Stage2, 1 << 20);
        tables.map(0x10000, PAGE_A, permission).unwrap();
        let attributes = Stage2Attributes::VALID
            | Stage2Attributes::TABLE_OR_PAGE
            | Stage2Attributes::MEMATTR_NORMAL_INNER_WB
            | Stage2Attributes::MEMATTR_NORMAL_OUTER_WB
            | Stage2Attributes::SH_INNER
            | Stage2Attributes::ACCESS_FLAG
            | s2ap;
        assert_eq!(tables.descriptor(0x10000), PAGE_A.0 | attributes.bits() as u64);
    }

    // A block has bit 1 clear where a page has it set; all attributes are the same.
    #[rstest]
    #[case(TableStage::Stage1)]
    #[case(TableStage::Stage2)]
    fn a_block_is_a_page_without_the_table_bit(#[case] stage: TableStage) {
        let mut tables = tables(stage, 1 << 20);
        let (rw, output) = (Permission::ReadWrite, PhysAddr(0x4020_0000));
        tables.map(0x20_0000, output, rw).unwrap();
        tables.map_leaf(LeafSize::Block, 0x40_0000, output, rw).unwrap();
        let bit = El1Attributes::TABLE_OR_PAGE.bits() as u64;
        let block = tables.descriptor(0x40_0000);
        assert_eq!(block | bit, tables.descriptor(0x20_0000));
        assert_eq!(block & bit, 0);
        assert_eq!(tables.descriptor(0x40_3000), block);
    }

    #[test]
    fn blocks_and_pages_do_not_hide_each_other() {
        let mut tables = tables(TableStage::Stage1, 1 << 20);
        let (rw, block, output) = (Permission::ReadWrite, LeafSize::Block, PhysAddr(0x4020_0000));
        let address = 0x20_0000;
        tables.map_leaf(block, address, output, rw).unwrap();
        assert_eq!(tables.map_leaf(block, address, output, rw), Err(TableError::Mapped(address)));
        let page = address + PAGE;
        assert_eq!(tables.map(page, PAGE_A, rw), Err(TableError::InBlock(page)));
        assert_eq!(tables.unmap(page), Err(TableError::InBlock(page)));
        assert_eq!(tables.overwrite(page, PAGE_A, rw), Err(TableError::InBlock(page)));
        tables.unmap_leaf(block, address).unwrap();
        assert_eq!(tables.unmap_leaf(block, address), Err(TableError::NotMapped(address)));
        tables.map(page, PAGE_A, rw).unwrap();
        let there = Err(TableError::HasTable(address));
        assert_eq!(tables.map_leaf(block, address, output, rw), there);
        assert_eq!(tables.unmap_leaf(block, address), there);
        tables.unmap(page).unwrap();
        // The table stays linked, because taking it away would need an invalidation of tables.
        assert_eq!(tables.map_leaf(block, address, output, rw), there);
        let odd = Err(TableError::MisalignedBlock(PAGE));
        assert_eq!(tables.map_leaf(block, PAGE, output, rw), odd);
        let odd = Err(TableError::MisalignedBlock(PAGE_A.0));
        assert_eq!(tables.map_leaf(block, 0x40_0000, PAGE_A, rw), odd);
    }

    #[test]
    fn pages_far_apart_get_tables_of_their_own() {
        let mut tables = tables(TableStage::Stage1, 1 << 20);
        let inputs = [0, 0x1000, 0x20_0000, 0x4000_0000, 0x7f_ffff_f000];
        for (n, &input) in inputs.iter().enumerate() {
            tables
                .map(input, PhysAddr(0x4000_0000 + n as u64 * PAGE), Permission::ReadWrite)
                .unwrap();
        }
        for (n, &input) in inputs.iter().enumerate() {
            assert_eq!(tables.descriptor(input) & ADDRESS, 0x4000_0000 + n as u64 * PAGE);
        }
        tables.unmap(0x1000).unwrap();
        assert_eq!(tables.descriptor(0x1000), 0);
        assert_ne!(tables.descriptor(0), 0);
    }

    #[test]
    fn refusals_say_why() {
        let mut tables = tables(TableStage::Stage1, 1 << 20);
        let rw = Permission::ReadWrite;
        assert_eq!(tables.unmap(0x1000), Err(TableError::NotMapped(0x1000)));
        assert_eq!(tables.map(1 << 39, PAGE_A, rw), Err(TableError::Range(1 << 39)));
        assert_eq!(tables.map(0x1004, PAGE_A, rw), Err(TableError::Misaligned(0x1004)));
        assert_eq!(tables.map(0x1000, PhysAddr(0x234), rw), Err(TableError::Misaligned(0x234)));
        tables.map(0x1000, PAGE_A, rw).unwrap();
        assert_eq!(tables.map(0x1000, PAGE_A, rw), Err(TableError::Mapped(0x1000)));
        tables.unmap(0x1000).unwrap();
        assert_eq!(tables.unmap(0x1000), Err(TableError::NotMapped(0x1000)));
    }

    #[test]
    fn memory_runs_out_as_an_error_and_can_be_tried_again() {
        let pool = heap_pool(3 * PAGE as usize);
        let mut tables = PageTables::new(TableStage::Stage1, pool.clone()).unwrap();
        tables.map(0, PAGE_A, Permission::ReadWrite).unwrap();
        let refused = tables.map(0x20_0000, PAGE_A, Permission::ReadWrite);
        assert!(matches!(refused, Err(TableError::Dma(_))));
        assert_eq!(tables.descriptor(0x20_0000), 0);
        drop(tables);
        assert_eq!(pool.free_bytes(), 3 * PAGE);
    }

    #[rstest]
    fn every_leaf_is_told(#[values(TableStage::Stage1, TableStage::Stage2)] stage: TableStage) {
        let mut tables = tables(stage, 1 << 20);
        assert_eq!(tables.leaves(), []);
        let (page, block) = (PAGE_A, PhysAddr(0x4020_0000));
        let last = (1 << INPUT_BITS) - PAGE;
        tables.map(last, page, Permission::ReadOnly).unwrap();
        tables.map(0, page, Permission::ReadWrite).unwrap();
        tables.map_leaf(LeafSize::Block, 4 * BLOCK, block, Permission::ReadWrite).unwrap();
        tables.map(BLOCK, page, Permission::ReadWrite).unwrap();
        tables.unmap(BLOCK).unwrap();
        let leaf = |input, output, write| MappedLeaf { input, output, write };
        assert_eq!(tables.unmapped().collect::<Vec<_>>(), [BLOCK]);
        let expected = [leaf(0, page, true), leaf(4 * BLOCK, block, true), leaf(last, page, false)];
        assert_eq!(tables.leaves(), expected);
    }
}
