//! Where queues, tables and pages of raw work lie, and the words that go there.
//!
//! The addresses are the same on every machine, so a file of raw work runs on each.

use std::fmt;
use std::ops::Range;

use smmu_types::Granule;

/// Where RAM begins.
pub(super) const BASE: u64 = 0x4000_0000;
/// Bytes that raw work uses.
pub(super) const BYTES: u64 = 0x20_0000;
/// SMMUs of a machine.
pub(super) const SMMUS: usize = 2;
/// log2 of the STEs of each linear stream table.
pub(super) const STREAM_TABLE_LOG2: u32 = 10;
/// log2 of the commands of each ring.
pub(super) const COMMANDS_LOG2: u32 = 6;
/// log2 of the records of each event ring.
pub(super) const EVENTS_LOG2: u32 = 5;
/// log2 of the records of each PRI ring.
pub(super) const PAGE_REQUESTS_LOG2: u32 = 3;
/// The sizes of a leaf of a stream table, as `STRTAB_BASE_CFG.SPLIT`.
pub(super) const SPLITS: [u32; 3] = [6, 8, 10];
/// Bits of a SubstreamID of a full machine.
pub(super) const SUBSTREAM_BITS: u8 = 8;

/// The devices: index of the SMMU, and StreamID. QEMU puts PCI functions there.
pub(super) const DEVICES: [(usize, u32); 4] = [(0, 0x08), (0, 0x10), (1, 0x200), (1, 0x201)];

/// Pages of data.
pub(super) const PAGES: [u64; 4] =
    [BASE + 0x10_0000, BASE + 0x10_1000, BASE + 0x10_2000, BASE + 0x10_3000];
/// The pages of 4 KiB that a write may reach: two pages of 64 KiB, which hold [`PAGES`] first.
pub(super) const LANDING: [u64; 32] = {
    let mut pages = [BASE + 0x10_0000; 32];
    let mut n = 0;
    while n < pages.len() {
        pages[n] += 0x1000 * n as u64;
        n += 1;
    }
    pages
};
/// CDs of 64 bytes, side by side.
pub(super) const CDS: u64 = BASE + 0x3_8000;
/// How many CDs.
pub(super) const CD_COUNT: u64 = 4;
/// The first level of a table of CDs: one descriptor for 64 CDs.
pub(super) const CDS_L1: u64 = BASE + 0xc_4000;
/// The second leaf of that table. The first one is at [`CDS`].
pub(super) const CDS_2: u64 = BASE + 0xc_5000;
/// The SubstreamIDs that have a CD: the first ones of both leaves.
pub(super) const SUBSTREAMS: [u64; 6] = [0, 1, 2, 3, 64, 65];
/// Trees of tables of each stage: two of 4 KiB, one of 16 KiB, and one of 64 KiB.
pub(super) const TREES: u64 = 4;
/// The tree of 16 KiB.
pub(super) const TREE_OF_16K: u64 = 2;
/// The tree of stage 1 whose pages are for privileged accesses only, where the other has read-only
/// ones.
pub(super) const PRIVILEGED_TREE: u64 = 1;
const TREE_BYTES: u64 = 0x8000;
const STAGE1: u64 = BASE + 0x4_0000;
const STAGE2: u64 = BASE + 0x5_0000;
/// Trees of 16 KiB and of 64 KiB of both stages.
const COARSE: [[u64; 2]; 2] =
    [[BASE + 0x6_0000, BASE + 0x7_0000], [BASE + 0x8_0000, BASE + 0xa_0000]];

pub(super) const fn stream_table(smmu: usize) -> u64 {
    BASE + 0x1_0000 * (1 + smmu as u64)
}

pub(super) const fn command_ring(smmu: usize) -> u64 {
    BASE + 0x3_0000 + 0x2000 * smmu as u64
}

pub(super) const fn event_ring(smmu: usize) -> u64 {
    command_ring(smmu) + 0x1000
}

/// The PRI queue: behind the rings of all SMMUs.
pub(super) const fn page_ring(smmu: usize) -> u64 {
    command_ring(SMMUS) + 0x1000 * smmu as u64
}

/// What the queues use. It need not be the same on every machine.
pub(super) const QUEUES: Range<u64> = command_ring(0)..page_ring(SMMUS);

/// The place of a ring of this size: each second size lies elsewhere.
pub(super) const fn placed(ring: u64, log2: u32) -> u64 {
    ring + 0x800 * (log2 as u64 & 1)
}

/// The first level of the stream table. Its leaves make up the linear table.
pub(super) const fn stream_table_l1(smmu: usize) -> u64 {
    BASE + 0xc_0000 + 0x1000 * smmu as u64
}

/// A level-1 descriptor whose leaf is its part of the linear table.
pub(super) const fn stream_l1_word(smmu: usize, split: u32, index: u64) -> u64 {
    (stream_table(smmu) + (index << (split + 6))) | (split as u64 + 1)
}

pub(super) const fn ste(smmu: usize, stream: u32) -> u64 {
    stream_table(smmu) + 64 * stream as u64
}

pub(super) const fn cd(n: u64) -> u64 {
    CDS + 64 * n
}

/// The CD of a SubstreamID, by the table of two levels.
pub(super) const fn cd_of(substream: u64) -> u64 {
    (if substream < 64 { CDS } else { CDS_2 }) + 64 * (substream % 64)
}

/// Where the trees have pages and tables of their own. RAM is there too, which nothing else uses, so
/// a transaction that passes an SMMU unchanged ends alike on every machine.
pub(super) const LOW: u64 = BASE + BYTES;
/// A block of 2 MiB of that RAM.
pub(super) const UNUSED: u64 = BASE + 2 * BYTES;

/// Far above all memory of every machine, within 44 bits. No address that raw work chooses beyond
/// an output size is below it.
pub(super) const NOWHERE: u64 = 0x80_0000_0000;

/// A stage of translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    One,
    Two,
}

/// One tree of tables for 39 bits of input. With 4 KiB: a table of level 1, one of level 2, and three of
/// level 3. With 16 KiB: one of each of these levels. With 64 KiB: one of level 2 and one of level 3.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tree {
    pub(super) stage: Stage,
    pub(super) n: u64,
}

impl Tree {
    pub(super) const fn granule(self) -> Granule {
        match self.n {
            TREE_OF_16K => Granule::K16,
            3 => Granule::K64,
            _ => Granule::K4,
        }
    }

    pub(super) const fn root(self) -> u64 {
        let [[s1_16, s2_16], [s1_64, s2_64]] = COARSE;
        match (self.granule(), self.stage) {
            (Granule::K4, Stage::One) => STAGE1 + self.n * TREE_BYTES,
            (Granule::K4, Stage::Two) => STAGE2 + self.n * TREE_BYTES,
            (Granule::K16, Stage::One) => s1_16,
            (Granule::K16, Stage::Two) => s2_16,
            (Granule::K64, Stage::One) => s1_64,
            (Granule::K64, Stage::Two) => s2_64,
        }
    }

    /// The descriptor of level 2 from [`BASE`], in a tree of 16 or 64 KiB.
    pub(super) const fn coarse2(self) -> u64 {
        match self.granule() {
            Granule::K16 => self.root() + 0x4000 + 8 * (BASE >> 25),
            _ => self.root() + 8 * (BASE >> 29),
        }
    }

    /// The table of level 3 from [`BASE`], in a tree of 16 or 64 KiB.
    pub(super) const fn coarse3(self) -> u64 {
        self.root() + if matches!(self.granule(), Granule::K16) { 0x8000 } else { 0x1_0000 }
    }

    /// The bytes of a tree.
    pub(super) const fn bytes(self) -> u64 {
        match self.granule() {
            Granule::K4 => TREE_BYTES,
            Granule::K16 => 0xc000,
            Granule::K64 => 0x2_0000,
        }
    }

    /// The tree of stage 1 with this root.
    pub(super) fn with_root(root: u64) -> Option<Tree> {
        let stage = Stage::One;
        (0..TREES).map(|n| Tree { stage, n }).find(|tree| tree.root() == root)
    }

    /// The table of level 2, of the gigabyte from [`BASE`].
    pub(super) const fn level2(self) -> u64 {
        self.root() + 0x1000
    }

    /// The table of level 3 from [`LOW`].
    pub(super) const fn level3(self) -> u64 {
        self.root() + 0x2000
    }

    /// The table of level 3 behind that.
    pub(super) const fn level3b(self) -> u64 {
        self.root() + 0x3000
    }

    /// The table of level 3 from [`BASE`].
    pub(super) const fn ram3(self) -> u64 {
        self.root() + 0x4000
    }

    /// The words of a tree in which each table leads to the next, and RAM to itself at stage 2.
    pub(super) fn initial(self) -> Vec<(u64, u64)> {
        if self.granule() != Granule::K4 {
            let mut words = vec![(self.coarse2(), self.coarse3() | TABLE)];
            if self.granule() == Granule::K16 {
                words.push((self.root(), (self.root() + 0x4000) | TABLE));
            }
            if self.stage == Stage::Two {
                let bytes = self.granule().bytes();
                let page = |n| (self.coarse3() + 8 * n, (BASE + bytes * n) | PAGE | S2_RW);
                words.extend((0..BYTES / bytes).map(page));
            }
            return words;
        }
        let mut words = vec![
            (self.root() + 8, self.level2() | TABLE),
            (self.level2(), self.ram3() | TABLE),
            (self.level2() + 8, self.level3() | TABLE),
            (self.level2() + 16, self.level3b() | TABLE),
        ];
        if self.stage == Stage::Two {
            let page = |n: u64| (self.ram3() + 8 * n, (BASE + 0x1000 * n) | PAGE | S2_RW);
            words.extend((0..512).map(page));
        }
        words
    }
}

/// A valid table descriptor, and a valid page.
pub(super) const TABLE: u64 = 3;
pub(super) const PAGE: u64 = 3;
pub(super) const BLOCK: u64 = 1;
pub(super) const ACCESS_FLAG: u64 = 1 << 10;
/// Stage 1: inner shareable, not global, for unprivileged reads and writes.
pub(super) const S1_RW: u64 = 1 << 6 | 3 << 8 | ACCESS_FLAG | 1 << 11;
pub(super) const S1_READ_ONLY: u64 = S1_RW | 1 << 7;
/// Stage 2: write-back memory, inner shareable, for reads and writes.
pub(super) const S2_RW: u64 = 0xf << 2 | 3 << 6 | 3 << 8 | ACCESS_FLAG;

/// Write-back, inner shareable walks, as `CD.IR0`, `OR0` and `SH0` have them together.
const WALK: u64 = 1 | 1 << 2 | 3 << 4;
/// 39 bits of input.
const T0SZ: u64 = 64 - 39;
/// 44 bits of output.
const OUTPUT_44: u64 = 4;
/// `SHCFG` = use the incoming shareability.
const SHCFG: u64 = 1 << 44;

/// A CD of 39 bits with `TTB0` alone.
pub(super) const fn cd_words(asid: u64, tree: Tree) -> [u64; 8] {
    let w0 = T0SZ
        | tg(tree) << 6
        | WALK << 8
        | 1 << 30 // EPD1
        | 1 << 31 // V
        | OUTPUT_44 << 32
        | 1 << 41 // AA64
        | 1 << 45 // R
        | 1 << 46 // A
        | 1 << 47 // ASET
        | asid << 48;
    [w0, tree.root(), 0, 0xff, 0, 0, 0, 0]
}

/// What an STE of raw work does.
#[derive(Clone, Copy, Debug)]
pub(super) enum SteKind {
    Invalid,
    Abort,
    Bypass,
    Stage1 { cd: u64 },
    Stage2 { tree: u64, vmid: u64 },
    Nested { cd: u64, tree: u64, vmid: u64 },
}

pub(super) const fn ste_words(kind: SteKind) -> [u64; 8] {
    const S1DSS_USE_0: u64 = 2;
    let w1 = S1DSS_USE_0 | WALK << 2 | SHCFG;
    match kind {
        SteKind::Invalid => [0; 8],
        SteKind::Abort => [1, SHCFG, 0, 0, 0, 0, 0, 0],
        SteKind::Bypass => [1 | 4 << 1, SHCFG, 0, 0, 0, 0, 0, 0],
        SteKind::Stage1 { cd } => [1 | 5 << 1 | self::cd(cd), w1, 0, 0, 0, 0, 0, 0],
        SteKind::Stage2 { tree, vmid } => {
            [1 | 6 << 1, SHCFG, s2_word(tree, vmid), s2_root(tree), 0, 0, 0, 0]
        }
        SteKind::Nested { cd, tree, vmid } => {
            [1 | 7 << 1 | self::cd(cd), w1, s2_word(tree, vmid), s2_root(tree), 0, 0, 0, 0]
        }
    }
}

const fn s2_root(tree: u64) -> u64 {
    Tree { stage: Stage::Two, n: tree }.root()
}

/// `TG0` and `S2TG`.
const fn tg(tree: Tree) -> u64 {
    match tree.granule() {
        Granule::K4 => 0,
        Granule::K16 => 2,
        Granule::K64 => 1,
    }
}

const fn s2_word(tree: u64, vmid: u64) -> u64 {
    let tree = Tree { stage: Stage::Two, n: tree };
    // S2SL0: level 1 of 4 and 16 KiB, level 2 of 64 KiB.
    let start = if matches!(tree.granule(), Granule::K16) { 2 } else { 1 };
    vmid | T0SZ << 32
        | start << 38
        | tg(tree) << 46
        | WALK << 40
        | OUTPUT_44 << 48
        | 1 << 51 // S2AA64
        | 1 << 58 // S2R
}

/// What lies at an address, for a reader of a file of raw work.
pub(super) struct Place(pub(super) u64);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.0;
        for smmu in 0..SMMUS {
            let table = stream_table(smmu);
            if (table..table + (64 << STREAM_TABLE_LOG2)).contains(&at) {
                return write!(f, "smmu{smmu}: STE of stream {:#x}", (at - table) / 64);
            }
        }
        for smmu in 0..SMMUS {
            let first = stream_table_l1(smmu);
            if (first..first + 0x1000).contains(&at) {
                return write!(f, "smmu{smmu}: stream table, level 1 {:#x}", (at - first) / 8);
            }
        }
        if (CDS..cd(CD_COUNT)).contains(&at) {
            return write!(f, "CD {}", (at - CDS) / 64);
        }
        if (CDS_L1..CDS_L1 + 0x1000).contains(&at) {
            return write!(f, "table of CDs, level 1 {:#x}", (at - CDS_L1) / 8);
        }
        if (CDS_2..CDS_2 + 0x1000).contains(&at) {
            return write!(f, "CD {}", 64 + (at - CDS_2) / 64);
        }
        for (stage, name) in [(Stage::One, "stage 1"), (Stage::Two, "stage 2")] {
            for n in 0..TREES {
                let tree = Tree { stage, n };
                let (root, index) = (tree.root(), at % 0x1000 / 8);
                if !(root..root + tree.bytes()).contains(&at) {
                    continue;
                }
                let level = match (tree.granule(), (at - root) / 0x1000) {
                    (Granule::K4, page) => {
                        ["1", "2", "3", "3, second", "3 of RAM"].get(page as usize).copied()
                    }
                    _ if at >= tree.coarse3() => Some("3"),
                    (Granule::K16, 0) => Some("1"),
                    _ => Some("2"),
                };
                let level = level.unwrap_or("none");
                return match tree.granule() {
                    Granule::K4 => {
                        write!(f, "{name}, tree {n}: level {level}, descriptor {index:#x}")
                    }
                    other => {
                        let index = if level == "3" { (at - tree.coarse3()) / 8 } else { index };
                        let size = other.bytes() >> 10;
                        write!(f, "{name}, {size} KiB: level {level}, descriptor {index:#x}")
                    }
                };
            }
        }
        f.write_str("memory")
    }
}
