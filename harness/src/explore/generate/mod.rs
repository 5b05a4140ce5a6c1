//! Makes raw work: mostly changes with the invalidations that they need, and now and then without.

mod full;
mod granules;
mod queues;

use smmu_types::Granule;

use super::memory::{
    ACCESS_FLAG, BASE, BLOCK, CD_COUNT, DEVICES, LOW, NOWHERE, PAGE, PAGES, PRIVILEGED_TREE,
    S1_READ_ONLY, S1_RW, S2_RW, SMMUS, Stage, SteKind, TABLE, TREES, Tree, UNUSED, cd, cd_words,
    ste, ste_words,
};
use super::random::Random;
use super::raw_op::{Kind, RawOp};

/// Addresses of DMA at which the trees have a descriptor of their own, or none.
const IOVAS: [u64; 8] = [
    LOW + 0x1_0000,
    LOW + 0x1_1000,
    LOW + 0x1f_f000,
    LOW + 0x20_0000,
    LOW + 0x50_0000,
    0x4010_0000,
    0x7f_ffff_f000,
    0x80_0000_0000,
];
/// Above 44 bits.
const TOO_HIGH: u64 = 1 << 45;
/// `AP[1]`: unprivileged accesses too.
const AP_UNPRIVILEGED: u64 = 1 << 6;
const ASIDS: [u64; 5] = [1, 2, 3, 4, 0x102];
const VMIDS: [u64; 5] = [0, 1, 2, 3, 4];

/// Makes the operations of one seed, one after the other.
pub(super) struct Generator {
    kind: Kind,
    random: Random,
    queued: std::collections::VecDeque<RawOp>,
    since_flush: usize,
    /// The stream tables of two levels.
    splits: [Option<u32>; SMMUS],
}

impl Generator {
    pub(super) fn new(kind: Kind, seed: u64) -> Self {
        let random = Random::new(seed);
        Generator {
            kind,
            random,
            queued: Default::default(),
            since_flush: 0,
            splits: [None; SMMUS],
        }
    }

    pub(super) fn next_op(&mut self) -> RawOp {
        loop {
            if let Some(op) = self.queued.pop_front() {
                return op;
            }
            self.more();
        }
    }

    fn more(&mut self) {
        self.since_flush += 1;
        if self.since_flush > 40 {
            self.since_flush = 0;
            for smmu in 0..SMMUS {
                let commands = vec![cfgi_all(), [0x30, 0]];
                self.queued.push_back(RawOp::Send { smmu, commands });
            }
            self.flush_devices();
        }
        if self.kind == Kind::Full && self.random.below(5) < 2 {
            return self.more_of_full();
        }
        match self.random.below(104) {
            100..102 => self.stream_table(),
            102 | 103 => self.queue(),
            0..50 => self.dma(),
            50..70 => {
                let (store, invalidation) = self.descriptor();
                self.queued.push_back(store);
                self.flush(&invalidation);
            }
            70..82 => {
                let (store, invalidation) = self.configuration();
                self.queued.push_back(store);
                self.flush(&invalidation);
            }
            82..86 => {
                let (store, _) = self.descriptor();
                self.queued.push_back(store);
            }
            86..88 => {
                let (store, _) = self.configuration();
                self.queued.push_back(store);
            }
            88..96 => {
                let smmu = self.random.below(SMMUS);
                let count = 1 + self.random.below(3);
                let commands = (0..count).map(|_| self.command()).collect();
                self.queued.push_back(RawOp::Send { smmu, commands });
            }
            96..98 => {
                let smmu = self.random.below(SMMUS);
                let mut commands = vec![self.odd_command()];
                commands.push(self.command());
                self.queued.push_back(RawOp::Send { smmu, commands });
            }
            98 => {
                let smmu = self.random.below(SMMUS);
                self.queued.push_back(RawOp::AbortAll { smmu, on: self.random.once_in(2) });
            }
            _ => {
                let smmu = self.random.below(SMMUS);
                self.queued.push_back(RawOp::Translate { smmu, on: false });
                self.dma();
                self.queued.push_back(RawOp::Translate { smmu, on: true });
            }
        }
    }

    /// The same invalidation on every SMMU.
    fn flush(&mut self, commands: &[[u64; 2]]) {
        for smmu in 0..SMMUS {
            self.queued.push_back(RawOp::Send { smmu, commands: commands.to_vec() });
        }
        if !self.random.once_in(8) {
            self.flush_devices();
        }
    }

    fn one_of<T: Copy>(&mut self, from: &[T], otherwise: T) -> T {
        self.random.pick(from).unwrap_or(otherwise)
    }

    fn dma(&mut self) {
        let device = self.random.below(DEVICES.len());
        let offset = 4 * self.random.below(1024) as u64;
        let iova = self.page() + offset;
        let (substream, translated) = self.source();
        self.queued.push_back(RawOp::Dma { device, iova, substream, translated });
    }

    /// A page that a device may want.
    fn page(&mut self) -> u64 {
        match self.random.below(10) {
            // What bypass and stage 2 take.
            0..=2 => self.one_of(&PAGES, BASE),
            _ => self.one_of(&IOVAS, 0),
        }
    }

    /// A change of a descriptor, and the commands that make it known.
    fn descriptor(&mut self) -> (RawOp, Vec<[u64; 2]>) {
        let stage = if self.random.below(3) > 0 { Stage::One } else { Stage::Two };
        let tree = Tree { stage, n: self.random.below(TREES as usize) as u64 };
        let (at, address, level, word) = if tree.granule() == Granule::K4 {
            let (at, address, level) = self.slot(tree);
            (at, address, level, self.descriptor_word(stage, tree, at, level))
        } else {
            self.coarse_descriptor(tree)
        };
        let store = RawOp::Store { at, words: vec![word] };
        let invalidation = self.invalidation(stage, address, level);
        (store, invalidation)
    }

    /// A descriptor of a tree: where it lies, the first address that it maps, and its level.
    fn slot(&mut self, tree: Tree) -> (u64, u64, u32) {
        let low = [
            (tree.level3() + 8 * 0x10, LOW + 0x1_0000, 3),
            (tree.level3() + 8 * 0x11, LOW + 0x1_1000, 3),
            (tree.level3() + 8 * 0x1ff, LOW + 0x1f_f000, 3),
            (tree.level3b(), LOW + 0x20_0000, 3),
            (tree.level2() + 8, LOW, 2),
            (tree.level2() + 16, LOW + 0x20_0000, 2),
            (tree.level2() + 24, LOW + 0x40_0000, 2),
            (tree.root() + 8, BASE, 1),
        ];
        let page = |at: u64| (tree.ram3() + 8 * ((at - BASE) >> 12), at, 3);
        let one = Tree { stage: Stage::One, n: 0 };
        let ram = [
            page(self.one_of(&PAGES, BASE)),
            page(cd(0) & !0xfff),
            page(one.root()),
            page(one.level3()),
            (tree.level2(), BASE, 2),
        ];
        // Leaves more often than tables.
        match (tree.stage, self.random.below(6)) {
            (Stage::Two, 0..=2) => self.one_of(&ram, low[0]),
            (_, 5) => self.one_of(&low, low[0]),
            _ => self.one_of(&low[..4], low[0]),
        }
    }

    fn descriptor_word(&mut self, stage: Stage, tree: Tree, at: u64, level: u32) -> u64 {
        let rw = if stage == Stage::One { S1_RW } else { S2_RW };
        let identity = at >= tree.ram3() && at < tree.ram3() + 0x1000;
        if level == 3 {
            let itself = BASE + (at - tree.ram3().min(at)) / 8 * 0x1000;
            // A page of tables must not become a page of data, or devices write over it.
            let is_table = identity && !PAGES.contains(&itself);
            let to = if is_table { itself } else { self.one_of(&PAGES, BASE) };
            return match self.random.below(14) {
                0..=5 => to | PAGE | rw,
                6 | 7 => to | PAGE | self.less_than(tree),
                8 | 9 => 0,
                10 => to | PAGE | rw & !ACCESS_FLAG,
                // Reserved at this level.
                11 => to | BLOCK | rw,
                12 => TOO_HIGH | PAGE | rw,
                _ => NOWHERE | PAGE | rw,
            };
        }
        let next = match at {
            at if at == tree.root() + 8 => tree.level2(),
            at if at == tree.level2() => tree.ram3(),
            at if at == tree.level2() + 16 => tree.level3b(),
            _ => tree.level3(),
        };
        // A block must not make pages of data of tables, unless they stay where they are.
        let block = if at == tree.level2() || level == 1 { BASE } else { UNUSED };
        match self.random.below(12) {
            0..=4 => next | TABLE,
            5 | 6 => block | BLOCK | rw,
            7 => block | BLOCK | self.less_than(tree),
            8 | 9 => 0,
            10 if stage == Stage::One => next | TABLE | table_limit(tree),
            10 => 2,
            _ => self.one_of(&[TOO_HIGH | TABLE, NOWHERE | TABLE], 0),
        }
    }

    /// Attributes that allow less than reads and writes.
    fn less_than(&mut self, tree: Tree) -> u64 {
        match tree.stage {
            Stage::One if tree.n == PRIVILEGED_TREE => S1_RW & !AP_UNPRIVILEGED,
            Stage::One => S1_READ_ONLY,
            // S2AP: nothing, read, write.
            Stage::Two => S2_RW & !(3 << 6) | self.one_of(&[0, 1 << 6, 2 << 6], 0),
        }
    }

    /// A change of an STE or CD, and the commands that make it known.
    fn configuration(&mut self) -> (RawOp, Vec<[u64; 2]>) {
        if self.random.once_in(6)
            && let Some(change) = self.first_level()
        {
            return change;
        }
        if self.random.below(3) == 0 {
            let at = self.cd_place();
            let tree = Tree { stage: Stage::One, n: self.random.below(TREES as usize) as u64 };
            // An ASID of its own for each tree, and now and then that of another.
            let asid = if self.random.once_in(10) { self.one_of(&ASIDS, 1) } else { 1 + tree.n };
            let mut words = cd_words(asid, tree);
            if self.random.once_in(4) {
                self.odd_cd(&mut words);
            }
            self.full_cd(&mut words);
            let words = words[..2].to_vec();
            // CD.w3 holds attributes that every CD has alike, and is written once.
            let all = [words, vec![0, 0xff, 0, 0, 0, 0]].concat();
            let store = RawOp::Store { at, words: all };
            // All CDs of a stream, where there may be several.
            let command = if self.kind == Kind::Full { [0x6, 0] } else { [0x5, 1] };
            let streams = DEVICES.iter().map(|(_, stream)| *stream);
            let each = streams.map(|stream| [command[0] | u64::from(stream) << 32, command[1]]);
            let mut commands: Vec<[u64; 2]> = each.collect();
            if self.random.once_in(3) {
                commands = vec![cfgi_all()];
            }
            return (store, commands);
        }
        let (smmu, stream) = self.one_of(&DEVICES, DEVICES[0]);
        let cd = self.random.below(CD_COUNT as usize) as u64;
        let tree = self.random.below(TREES as usize) as u64;
        let vmid = if self.random.once_in(10) { self.one_of(&VMIDS, 1) } else { 1 + tree };
        let kind = match self.random.below(12) {
            0 => SteKind::Invalid,
            1 => SteKind::Abort,
            2 => SteKind::Bypass,
            3..=6 => SteKind::Stage1 { cd },
            7 | 8 => SteKind::Stage2 { tree, vmid },
            _ => SteKind::Nested { cd, tree, vmid },
        };
        let mut words = ste_words(kind);
        if self.random.once_in(8) {
            self.odd_ste(&mut words);
        }
        self.full_ste(&mut words);
        let store = RawOp::Store { at: ste(smmu, stream), words: words.to_vec() };
        let sid = u64::from(stream) << 32;
        let commands = match self.random.below(4) {
            0 => vec![cfgi_all()],
            // A range of 2^4 streams.
            1 => vec![[0x4 | sid, 3]],
            2 => vec![[0x3 | sid, 0]],
            _ => vec![[0x3 | sid, 1]],
        };
        (store, commands)
    }

    fn odd_cd(&mut self, words: &mut [u64; 8]) {
        let [w0, w1, ..] = words;
        match self.random.below(9) {
            0 => *w0 &= !(1 << 31),                                                  // V
            1 => *w0 ^= 1 << 41,                                                     // AA64
            2 => *w0 &= !(1 << 45),                                                  // R
            3 => *w0 &= !(1 << 46), // A, which IDR0.TERM_MODEL = 1 demands
            4 => *w0 |= 1 << 14,    // EPD0
            5 => *w0 = *w0 & !0x3f | self.one_of(&[16, 24, 26, 33, 39, 40, 12], 25), // T0SZ
            6 => *w0 |= 1 << 35,    // AFFD
            7 => *w1 = NOWHERE,     // TTB0
            _ => *w0 = *w0 & !(7 << 32) | self.one_of(&[0, 1, 2, 5], 4) << 32, // IPS
        }
    }

    fn odd_ste(&mut self, words: &mut [u64; 8]) {
        let [w0, _, w2, w3, ..] = words;
        match self.random.below(5) {
            // Reserved values of Config abort, and end like Abort does.
            0 => *w0 = *w0 & !0xe | self.one_of(&[1, 2, 3], 1) << 1,
            1 => *w2 ^= 1 << 58, // S2R
            2 => *w2 |= 1 << 53, // S2AFFD
            3 => *w3 = NOWHERE,  // S2TTB
            _ => *w0 &= !1,      // V
        }
    }

    /// The commands for a changed descriptor: as narrow as may be, or wider.
    fn invalidation(&mut self, stage: Stage, address: u64, level: u32) -> Vec<[u64; 2]> {
        let leaf = if level == 3 { self.random.below(2) as u64 } else { 0 };
        let wide = self.random.below(4);
        match (stage, wide) {
            (_, 0) => vec![[0x30, 0]],
            (Stage::One, 1) => VMIDS.map(|vmid| [0x10 | vmid << 32, 0]).to_vec(),
            (Stage::One, 2) => VMIDS.map(|vmid| [0x13 | vmid << 32, address | leaf]).to_vec(),
            (Stage::One, _) => {
                let opcode = if self.random.once_in(2) { 0x12 } else { 0x11 };
                let word = if opcode == 0x12 { address | leaf } else { 0 };
                let each = ASIDS
                    .iter()
                    .flat_map(|asid| VMIDS.map(|vmid| [opcode | vmid << 32 | asid << 48, word]));
                each.collect()
            }
            (Stage::Two, 1 | 2) => VMIDS.map(|vmid| [0x28 | vmid << 32, 0]).to_vec(),
            (Stage::Two, _) => {
                let ipas = VMIDS.map(|vmid| [0x2a | vmid << 32, address | leaf]);
                let combined = VMIDS.map(|vmid| [0x10 | vmid << 32, 0]);
                [ipas, combined].concat()
            }
        }
    }

    /// A command that an SMMU takes, with any of the operands.
    fn command(&mut self) -> [u64; 2] {
        let vmid = self.one_of(&VMIDS, 0) << 32;
        let asid = self.one_of(&ASIDS, 1) << 48;
        let address = self.one_of(&IOVAS[..7], 0) & !0xfff;
        let page = self.one_of(&PAGES, BASE);
        let leaf = self.random.below(2) as u64;
        let (_, stream) = self.one_of(&DEVICES, DEVICES[0]);
        let sid = u64::from(stream) << 32;
        match self.random.below(14) {
            0 => [0x3 | sid, leaf],
            1 => [0x4 | sid, self.random.below(12) as u64],
            2 => [0x5 | sid, leaf],
            3 => [0x6 | sid, 0],
            4 => cfgi_all(),
            5 => [0x10 | vmid, 0],
            6 => [0x11 | vmid | asid, 0],
            7 => [0x12 | vmid | asid, address | leaf],
            8 => [0x13 | vmid, address | leaf],
            9 => [0x28 | vmid, 0],
            10 => [0x2a | vmid, address.max(page) | leaf],
            11 => [0x30, 0],
            // Ranges of pages: NUM, SCALE and TG.
            12 => {
                let (num, scale) = (self.random.below(32) as u64, self.random.below(3) as u64);
                let granule = self.one_of(&[1, 1, 2, 3], 1);
                [0x12 | vmid | asid | num << 12 | scale << 20, address | leaf | granule << 10]
            }
            _ => {
                let num = self.random.below(32) as u64;
                let granule = self.one_of(&[1, 1, 2, 3], 1);
                [0x2a | vmid | num << 12, page | leaf | granule << 10]
            }
        }
    }

    /// A command that no SMMU of this kind takes.
    fn odd_command(&mut self) -> [u64; 2] {
        let (_, stream) = self.one_of(&DEVICES, DEVICES[0]);
        let sid = u64::from(stream) << 32;
        match self.random.below(3) {
            // SSec = 1.
            0 => [0x3 | 1 << 10 | sid, 1],
            1 => [0xff, 0],
            _ => [self.one_of(&[0, 0x07, 0x70], 0), 0],
        }
    }
}

/// `APTable`: no unprivileged access, or no writes.
fn table_limit(tree: Tree) -> u64 {
    if tree.n == PRIVILEGED_TREE { 1 << 61 } else { 1 << 62 }
}

fn cfgi_all() -> [u64; 2] {
    [0x4, 31]
}
