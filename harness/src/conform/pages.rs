//! Translation tables of VMSAv8-64, descriptor by descriptor.

use smmu_types::Granule;

use super::bench::Bench;
use super::ended::Checked;

/// Stage 1: a page that devices may read and write, not global.
pub(super) const S1_RW: u64 = 1 << 6 | 3 << 8 | AF | NOT_GLOBAL;
pub(super) const AF: u64 = 1 << 10;
pub(super) const NOT_GLOBAL: u64 = 1 << 11;
/// `AP[2]`: no writes. `AP[1]`: unprivileged accesses.
pub(super) const AP_READ_ONLY: u64 = 1 << 7;
pub(super) const AP_UNPRIVILEGED: u64 = 1 << 6;
pub(super) const CONTIGUOUS: u64 = 1 << 52;
/// `APTable`: no writes; no unprivileged accesses.
pub(super) const TABLE_READ_ONLY: u64 = 1 << 62;
pub(super) const TABLE_PRIVILEGED: u64 = 1 << 61;
/// Stage 2: write-back memory, for reads and writes.
pub(super) const S2_RW: u64 = 0xf << 2 | S2_READ | S2_WRITE | 3 << 8 | AF;
pub(super) const S2_READ: u64 = 1 << 6;
pub(super) const S2_WRITE: u64 = 1 << 7;

const TABLE: u64 = 3;
const PAGE: u64 = 3;
const BLOCK: u64 = 1;

/// A tree of tables.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tables {
    pub(super) root: u64,
    pub(super) granule: Granule,
    pub(super) input_bits: u32,
    pub(super) start_level: u32,
}

impl Tables {
    /// An empty tree that begins where stage 1 does for these input bits.
    pub(super) fn new(bench: &mut Bench, granule: Granule, input_bits: u32) -> Checked<Self> {
        let levels = (input_bits - granule.shift()).div_ceil(granule.shift() - 3);
        Tables::from_level(bench, granule, input_bits, 4 - levels)
    }

    /// An empty tree that begins at a level, with as many tables side by side as it takes.
    pub(super) fn from_level(
        bench: &mut Bench,
        granule: Granule,
        input_bits: u32,
        start_level: u32,
    ) -> Checked<Self> {
        let index_bits = input_bits - level_shift(granule, start_level);
        let root = bench.allocate((8 << index_bits).max(0x1000))?;
        Ok(Tables { root, granule, input_bits, start_level })
    }

    /// The address of the descriptor of `input` at a level. Makes the tables on the way.
    pub(super) fn slot(&self, bench: &mut Bench, input: u64, level: u32) -> Checked<u64> {
        let input = input & ((1 << self.input_bits) - 1);
        let mask = (1 << (self.granule.shift() - 3)) - 1;
        let mut at = self.root + 8 * (input >> level_shift(self.granule, self.start_level));
        for below in self.start_level + 1..=level {
            if bench.get(at) & 3 != TABLE {
                let table = bench.allocate(self.granule.bytes())?;
                bench.put(at, table | TABLE);
            }
            let table = bench.get(at) & 0x0000_ffff_ffff_f000;
            at = table + 8 * (input >> level_shift(self.granule, below) & mask);
        }
        Ok(at)
    }

    /// A page, or a block of a level above 3.
    pub(super) fn map_at(
        &self,
        bench: &mut Bench,
        input: u64,
        level: u32,
        output: u64,
        attributes: u64,
    ) -> Checked {
        let slot = self.slot(bench, input, level)?;
        let kind = if level == 3 { PAGE } else { BLOCK };
        bench.put(slot, output | kind | attributes);
        Ok(())
    }

    /// A page of stage 1 that devices may read and write.
    pub(super) fn map(&self, bench: &mut Bench, input: u64, output: u64) -> Checked {
        self.map_at(bench, input, 3, output, S1_RW)
    }

    /// A page of stage 2 that devices may read and write.
    pub(super) fn map2(&self, bench: &mut Bench, input: u64, output: u64) -> Checked {
        self.map_at(bench, input, 3, output, S2_RW)
    }

    /// Stage 2 that leaves the first 8 MiB of RAM where they are.
    pub(super) fn map_ram(&self, bench: &mut Bench) -> Checked {
        const BLOCK_BYTES: u64 = 2 << 20;
        let first = bench.ram_base() & !(BLOCK_BYTES - 1);
        (0..5).try_for_each(|n| {
            let at = first + n * BLOCK_BYTES;
            self.map_at(bench, at, 2, at, S2_RW)
        })
    }
}

/// log2 of the bytes that a descriptor of a level covers.
pub(super) fn level_shift(granule: Granule, level: u32) -> u32 {
    granule.shift() + (3 - level) * (granule.shift() - 3)
}
