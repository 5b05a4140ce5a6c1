//! Carries out raw work on one machine, and says what it saw.

mod queues;
mod raw_rig;
mod seen;

use std::sync::atomic::Ordering;

use smmu_engine::machine::{
    AtsPower, Backend, BackendError, DMA_PATTERN, DmaSource, DmaWriteOutcome, Granules,
    MachineDevice, MachineSmmu, MachineSpec,
};
use smmu_types::pool::Window;
use smmu_types::regs::{self, cr0, gerror, irq_ctrl};
use smmu_types::seam::RegistersExt;
use smmu_types::{EventKind, EventRecord, Iova, PhysAddr, PriRecord, RequestedAccess, StreamId};

use super::memory::{
    BASE, BLOCK, BYTES, COMMANDS_LOG2, DEVICES, EVENTS_LOG2, LANDING, PAGE, QUEUES, SMMUS,
    SUBSTREAM_BITS, Stage, TABLE, TREE_OF_16K, TREES, Tree, ste, stream_table_l1,
};
use super::raw_op::{Kind, RawOp};
use raw_rig::Levels;
pub(super) use raw_rig::{Flushes, RawRig};
pub use seen::{Landed, Seen};

const CFGI_ALL: [u64; 2] = [0x4, 31];
const TLBI_NSNH_ALL: [u64; 2] = [0x30, 0];

/// Where writes at these offsets of a page may land.
fn landing_places(offsets: &[u64]) -> impl Iterator<Item = u64> {
    offsets.iter().flat_map(|offset| LANDING.map(|page| page + offset))
}

/// Index of the SMMU of a device.
fn smmu_of(device: usize) -> usize {
    DEVICES.get(device).map_or(0, |(smmu, _)| *smmu)
}

/// The `ATC_INV` of everything that a device holds.
pub(super) const fn atc_inv_all(stream: u32) -> [u64; 2] {
    [0x40 | (stream as u64) << 32, 52]
}

/// The `CMD_STALL_TERM` of a stream.
const fn stall_term(stream: u32) -> [u64; 2] {
    [0x45 | (stream as u64) << 32, 0]
}

/// `S1ContextPtr` in the first word of an STE, `Config` with both stages, and `V` of a CD.
const CD_POINTER: u64 = 0xf_ffff_ffff_ffc0;
const NESTED: u64 = 7;
const CD_VALID: u64 = 1 << 31;
/// The output address of a descriptor.
const ADDRESS: u64 = 0xffff_ffff_f000;

/// The leaf of one stage.
struct Leaf {
    /// log2 of the bytes that it maps.
    shift: u32,
    descriptor: u64,
    /// The tables on the way, as they are named.
    tables: Vec<u64>,
}

impl Leaf {
    /// Where an input address lies.
    fn at(&self, input: u64) -> u64 {
        let within = (1 << self.shift) - 1;
        self.descriptor & ADDRESS & !within | input & within
    }
}

/// What memory has for a device, if its STE and CD are of the usual kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stream {
    /// Its tree of stage 1.
    pub(super) tree: Option<u64>,
    /// Both stages translate.
    pub(super) nested: bool,
    /// Faults of stage 1 are recorded (`CD.R`).
    pub(super) records: bool,
    /// The root table of each stage has pages of 16 KiB and begins with a block.
    pub(super) blocks_of_level_1: [bool; 2],
    /// Stage 1 begins at level 0.
    pub(super) four_levels: bool,
    /// Stage 2 does not map `TTB0` as it did when a machine may have read the CD.
    pub(super) root_moved: bool,
    /// Stage 2 splits the block of stage 1 that the transaction uses. QEMU then caches pieces, of which a
    /// TLBI by VA drops one (`caches/drop-nested-block` of `conform`).
    pub(super) splits_block: bool,
    /// The stream table had two levels, and is linear again.
    pub(super) linear_again: bool,
    /// `Span` of the level-1 descriptor, and the largest one that `SPLIT` allows.
    pub(super) span: Option<[u64; 2]>,
}

impl Stream {
    /// Whether a machine with a known deviation goes on where the judge has this fault, and caches what
    /// no SMMU should read: blocks, or an STE beyond a level-1 descriptor.
    pub(super) fn may_go_on(&self, fault: Option<EventRecord>) -> bool {
        let beyond = fault.is_some_and(|fault| fault.kind() == EventKind::C_BAD_STREAMID);
        self.four_levels
            || self.blocks_of_level_1 != [false; 2]
            || beyond && (self.span.is_some() || self.linear_again)
    }
}

/// The machine of raw work.
pub(super) fn spec(kind: Kind) -> MachineSpec {
    let device = |(smmu, stream): (usize, u32)| MachineDevice {
        smmu,
        stream: StreamId(stream),
        ats: AtsPower::Off,
    };
    let granules = Granules { k4: true, k16: true, k64: true };
    let smmu = match kind {
        Kind::Plain => MachineSmmu { granules, ..MachineSmmu::default() },
        Kind::Full => MachineSmmu {
            granules,
            ats: true,
            page_requests: true,
            stalls: true,
            substream_bits: SUBSTREAM_BITS,
            two_level_cd: true,
            ..MachineSmmu::default()
        },
    };
    MachineSpec {
        smmus: vec![smmu; SMMUS],
        devices: DEVICES.map(device).to_vec(),
        ..MachineSpec::default()
    }
}

impl RawRig {
    pub(super) fn new(
        backend: &dyn Backend,
        kind: Kind,
        flushes: Flushes,
    ) -> Result<Self, BackendError> {
        let machine = backend.start(&spec(kind))?;
        let ram = machine.ram();
        let words = (BYTES / 8) as usize;
        if ram.base() != PhysAddr(BASE) || ram.words().len() < words {
            let (base, size) = (ram.base(), ram.words().len() * 8);
            return Err(BackendError::Impossible(format!(
                "raw work needs {BYTES:#x} bytes of RAM at {BASE:#x}; there are {size:#x} at {base}"
            )));
        }
        let registers = (0..SMMUS).map(|n| machine.registers(n)).collect::<Result<_, _>>()?;
        Ok(RawRig {
            machine,
            ram,
            registers,
            kind,
            queues: Default::default(),
            waiting: Default::default(),
            offsets: Vec::new(),
            ended_offsets: Vec::new(),
            flushes,
            split: Default::default(),
        })
    }

    /// Clears memory, writes trees of tables that map nothing, and turns both SMMUs on with empty
    /// caches and stream tables.
    pub(super) fn begin(&mut self) -> Result<(), BackendError> {
        self.split = Default::default();
        for n in 0..SMMUS {
            self.write(n, regs::CR0, 0);
        }
        for word in self.ram.words().iter().take((BYTES / 8) as usize) {
            word.store(0, Ordering::Relaxed);
        }
        for stage in [Stage::One, Stage::Two] {
            for n in 0..TREES {
                for (at, word) in (Tree { stage, n }).initial() {
                    self.put(at, word);
                }
            }
        }
        self.ram.publish(0..(BYTES / 8) as usize);
        for n in 0..SMMUS {
            self.bring_up(n)?;
        }
        self.machine.take_interrupts();
        self.take_hazards();
        self.machine.check()
    }

    fn bring_up(&mut self, n: usize) -> Result<(), BackendError> {
        let Some(r) = self.registers.get(n).cloned() else { return Ok(()) };
        let errors = r.read(regs::GERROR);
        r.write(regs::GERRORN, errors);
        r.write(regs::CR1, regs::cr1::COHERENT);
        r.write(regs::CR2, regs::cr2::RECINVSID | regs::cr2::PTM);
        self.set_stream_table(n, None);
        self.set_up_queues(n, COMMANDS_LOG2, EVENTS_LOG2);
        let pages = if self.kind == Kind::Full { irq_ctrl::PRIQ } else { 0 };
        r.write(regs::IRQ_CTRL, irq_ctrl::GERROR | irq_ctrl::EVENTQ | pages);
        self.abort_all(n, false)?;
        self.enable(n, cr0::CMDQEN | cr0::EVENTQEN)?;
        self.send(n, &[CFGI_ALL, TLBI_NSNH_ALL])?;
        self.translate(n, true)?;
        if self.kind == Kind::Full {
            for (device, _) in DEVICES.iter().enumerate().filter(|(_, (smmu, _))| *smmu == n) {
                self.machine.switch_ats(device, AtsPower::On)?;
            }
        }
        Ok(())
    }

    /// The hazards of caches since the last call. Broken rules of registers do not count.
    pub(super) fn take_hazards(&self) -> Vec<String> {
        let Some(insight) = self.machine.insight() else { return Vec::new() };
        let of_caches = insight.take_hazards().into_iter().filter(|h| h.missing.is_some());
        of_caches.map(|hazard| hazard.text).collect()
    }

    /// The events since the last call that no event queue has, as far as the machine tells of them.
    pub(super) fn take_unrecorded(&self) -> Vec<EventRecord> {
        let Some(insight) = self.machine.insight() else { return Vec::new() };
        (0..SMMUS).flat_map(|smmu| insight.take_unrecorded(smmu)).collect()
    }

    /// Whether a stream table has had two levels since the machine started.
    pub(super) fn had_levels(&self) -> bool {
        self.split.iter().any(|levels| *levels != Levels::One)
    }

    /// Whether the machine tells of what is stale in its caches.
    pub(super) fn has_insight(&self) -> bool {
        self.machine.insight().is_some()
    }

    /// Whether an audit finds something stale. Always false on a machine without insight.
    pub(super) fn is_stale(&self) -> bool {
        let stale = |hazards: Vec<smmu_engine::machine::HazardReport>| {
            hazards.iter().any(|hazard| hazard.missing.is_some())
        };
        self.machine.insight().is_some_and(|insight| stale(insight.audit()))
    }

    /// Carries an operation out.
    pub(super) fn run(&mut self, op: &RawOp) -> Result<Seen, BackendError> {
        let mut seen = Seen::default();
        self.ended_offsets.clear();
        if let RawOp::Store { at, words } = op {
            for (n, word) in (0u64..).zip(words) {
                self.put(at + 8 * n, *word);
            }
            let first = (at.wrapping_sub(BASE) / 8) as usize;
            self.ram.publish(first..first + words.len());
            return Ok(seen);
        }
        if self.flushes == Flushes::BeforeEachDma {
            match op.device() {
                Some(device) => self.flush(smmu_of(device))?,
                None if self.is_waiting() && op.may_retry() => {
                    (0..SMMUS).try_for_each(|smmu| self.flush(smmu))?;
                }
                None => {}
            }
        }
        for at in self.late_places() {
            self.put(at & !7, 0);
        }
        match op {
            RawOp::Store { .. } => {}
            RawOp::Send { smmu, commands } => {
                seen.refused = self.send(*smmu, commands)?;
                seen.errors = self.active_errors(*smmu) & !gerror::CMDQ;
                if self.kind == Kind::Full {
                    self.take(*smmu, &mut seen)?;
                }
            }
            RawOp::Dma { device, iova, substream, translated } => {
                let source = DmaSource { substream: *substream, translated: *translated };
                self.dma(*device, source, *iova, &mut seen)?;
                self.take(smmu_of(*device), &mut seen)?;
            }
            RawOp::AtsRequest { device, iova, substream } => {
                let source = DmaSource { substream: *substream, translated: false };
                seen.translation = Some(self.machine.ats_request(*device, source, *iova)?);
                self.take(smmu_of(*device), &mut seen)?;
            }
            RawOp::SwitchAts { device, on } => {
                let to = if *on { AtsPower::On } else { AtsPower::Off };
                self.machine.switch_ats(*device, to)?;
            }
            RawOp::PageRequest { device, iova, group, substream, last } => {
                let (smmu, stream) = DEVICES.get(*device).copied().unwrap_or_default();
                let access = RequestedAccess { read: true, write: true, execute: false };
                let made = PriRecord::new(StreamId(stream), *group, Iova(*iova), access);
                let mut request = made.map_err(|e| BackendError::Impossible(e.to_string()))?;
                if let Some(substream) = substream {
                    request = request.with_substream(*substream);
                }
                if *last {
                    request = request.with_last();
                }
                self.machine.page_request(smmu, request)?;
                self.take(smmu, &mut seen)?;
            }
            RawOp::Translate { smmu, on } => self.translate(*smmu, *on)?,
            RawOp::AbortAll { smmu, on } => self.abort_all(*smmu, *on)?,
            RawOp::StreamTable { smmu, split } => {
                self.translate(*smmu, false)?;
                self.set_stream_table(*smmu, *split);
                self.send(*smmu, &[CFGI_ALL])?;
                self.translate(*smmu, true)?;
                if let Some(levels) = self.split.get_mut(*smmu) {
                    *levels = match (split, *levels) {
                        (Some(split), _) => Levels::Two(*split),
                        (None, Levels::One) => Levels::One,
                        (None, _) => Levels::OneAgain,
                    };
                }
            }
            RawOp::CommandQueue { smmu, log2 } => self.change_command_queue(*smmu, *log2)?,
            RawOp::EventQueue { smmu, log2 } => {
                self.change_event_queue(*smmu, *log2)?;
                self.take(*smmu, &mut seen)?;
            }
            RawOp::Hold { smmu, on } => {
                self.hold(*smmu, *on);
                self.take(*smmu, &mut seen)?;
            }
        }
        if self.kind == Kind::Full {
            self.settle(&mut seen)?;
        }
        seen.interrupts = self.machine.take_interrupts();
        seen.interrupts.sort_unstable();
        seen.interrupts.dedup();
        Ok(seen)
    }

    /// Empties the caches of an SMMU, and those of its devices.
    pub(super) fn flush(&mut self, smmu: usize) -> Result<(), BackendError> {
        self.send(smmu, &[CFGI_ALL, TLBI_NSNH_ALL])?;
        if self.kind == Kind::Full {
            let devices = DEVICES.iter().filter(|(of, _)| *of == smmu);
            let all: Vec<_> = devices.map(|(_, stream)| atc_inv_all(*stream)).collect();
            self.send(smmu, &all)?;
        }
        Ok(())
    }

    fn is_waiting(&self) -> bool {
        self.waiting.iter().any(|count| *count > 0)
    }

    /// Where a write that waits may go.
    fn late_places(&self) -> impl Iterator<Item = u64> {
        landing_places(&self.offsets)
    }

    /// Tells of writes that have waited and ended, and of the answers to page requests.
    fn settle(&mut self, seen: &mut Seen) -> Result<(), BackendError> {
        for (device, count) in self.waiting.iter_mut().enumerate() {
            while *count > 0
                && let Some(outcome) = self.machine.ended_write(device)?
            {
                *count -= 1;
                seen.ended.push((device, outcome == DmaWriteOutcome::Written));
            }
        }
        if !seen.ended.is_empty() {
            seen.late = self.late_places().filter(|at| self.shows_pattern(*at)).collect();
        }
        if !self.is_waiting() {
            self.ended_offsets.append(&mut self.offsets);
        }
        if self.kind == Kind::Full {
            for smmu in 0..SMMUS {
                let answers = self.machine.take_page_answers(smmu)?;
                seen.answers.extend(answers.into_iter().map(|answer| (smmu, answer)));
            }
        }
        Ok(())
    }

    /// Ends every write that waits, and takes out of the queues what has come.
    pub(super) fn end_stalls(&mut self) -> Result<(), BackendError> {
        let mut seen = Seen::default();
        for smmu in 0..SMMUS {
            self.take_held(smmu, &mut seen)?;
            let devices = DEVICES.iter().filter(|(of, _)| *of == smmu);
            let all: Vec<_> = devices.map(|(_, stream)| stall_term(*stream)).collect();
            self.send(smmu, &all)?;
            self.take_held(smmu, &mut seen)?;
        }
        self.settle(&mut seen)?;
        self.machine.take_interrupts();
        Ok(())
    }

    /// What memory has for a device.
    pub(super) fn stream_of(&self, device: usize) -> Stream {
        const RECORD: u64 = 1 << 45;
        let Some(&(smmu, stream)) = DEVICES.get(device) else { return Stream::default() };
        let word = self.get(ste(smmu, stream));
        let cd = self.get(word & CD_POINTER);
        let root = self.get((word & CD_POINTER) + 8);
        Stream {
            tree: Tree::with_root(root).map(|tree| tree.n),
            nested: word >> 1 & 7 == NESTED,
            records: cd & RECORD != 0,
            blocks_of_level_1: [Stage::One, Stage::Two].map(|stage| {
                let tree = Tree { stage, n: TREE_OF_16K };
                let named = match stage {
                    Stage::One => root,
                    Stage::Two => self.get(ste(smmu, stream) + 24),
                };
                named == tree.root() && self.get(tree.root()) & 3 == BLOCK
            }),
            // With 4 KiB pages, 39 bits are what three levels translate.
            four_levels: cd & 0xff < 64 - 39,
            root_moved: false,
            splits_block: false,
            linear_again: self.split.get(smmu) == Some(&Levels::OneAgain),
            span: match self.split.get(smmu) {
                Some(Levels::Two(split)) => {
                    let at = stream_table_l1(smmu) + 8 * u64::from(stream >> split);
                    Some([self.get(at) & 0x1f, u64::from(split + 1)])
                }
                _ => None,
            },
        }
    }

    /// The page or block in which stage 2 puts `TTB0` of a device, with its attributes, by the tables in
    /// memory. `None` without a known tree, or if it maps nothing there.
    pub(super) fn root_behind_stage2(&self, device: usize) -> Option<u64> {
        let [one, two] = self.roots(device)?;
        Some(self.leaf(Stage::Two, two, one)?.descriptor)
    }

    /// Whether stage 2 splits the block of stage 1 that a transaction of a device uses. Yes, if it is
    /// not known where the tables of stage 1 lie.
    pub(super) fn splits_block(&self, device: usize, iova: u64) -> bool {
        let Some([one, two]) = self.roots(device) else { return false };
        let own = |table| {
            let leaf = self.leaf(Stage::Two, two, table);
            leaf.is_some_and(|leaf| leaf.at(table) == table)
        };
        let Some(first) = self.leaf(Stage::One, one, iova) else { return !own(one) };
        let second = self.leaf(Stage::Two, two, first.at(iova));
        !first.tables.iter().all(|table| own(*table))
            || second.is_some_and(|second| second.shift < first.shift)
    }

    /// `TTB0` and `S2TTB` of a device with both stages and a valid CD.
    fn roots(&self, device: usize) -> Option<[u64; 2]> {
        let &(smmu, stream) = DEVICES.get(device)?;
        let ste = ste(smmu, stream);
        let word = self.get(ste);
        let cd = word & CD_POINTER;
        let nested = word >> 1 & 7 == NESTED && self.get(cd) & CD_VALID != 0;
        nested.then(|| [self.get(cd + 8), self.get(ste + 24)])
    }

    /// The leaf of one stage for an address, by a tree that lies where its addresses say.
    fn leaf(&self, stage: Stage, root: u64, input: u64) -> Option<Leaf> {
        let tree = (0..TREES).map(|n| Tree { stage, n }).find(|tree| tree.root() == root)?;
        let page = tree.granule().shift();
        let index_bits = page - 3;
        let mut tables = vec![root];
        let levels = if page == 16 { 2 } else { 3 };
        for level in (0..levels).rev() {
            let shift = page + index_bits * level;
            let index = input >> shift & ((1 << index_bits) - 1);
            let descriptor = self.get(tables.last()? + 8 * index);
            match (descriptor & 3, level) {
                (PAGE, 0) | (BLOCK, 1..) => return Some(Leaf { shift, descriptor, tables }),
                (TABLE, 1..) => tables.push(descriptor & ADDRESS),
                _ => return None,
            }
        }
        None
    }

    /// A device writes. Says where.
    fn dma(
        &mut self,
        device: usize,
        source: DmaSource,
        iova: u64,
        seen: &mut Seen,
    ) -> Result<(), BackendError> {
        let pages = LANDING.map(|page| page + (iova & 0xffc));
        for at in pages {
            self.put(at & !7, 0);
        }
        let outcome = match self.kind {
            Kind::Plain => self.machine.dma_write(device, iova)?,
            Kind::Full => self.machine.dma_write_from(device, source, iova)?,
        };
        self.ram.observe(0..0);
        let landed = pages.iter().copied().find(|at| self.shows_pattern(*at));
        seen.landed = match (outcome, landed) {
            (_, Some(at)) => Some(Landed::At(at)),
            (DmaWriteOutcome::Written, None) => Some(Landed::Elsewhere),
            (_, None) => None,
        };
        if outcome == DmaWriteOutcome::Stalled {
            seen.stalled = true;
            self.offsets.push(iova & 0xffc);
            if let Some(count) = self.waiting.get_mut(device) {
                *count += 1;
            }
        }
        Ok(())
    }

    fn shows_pattern(&self, at: u64) -> bool {
        self.get(at & !7) >> (at % 8 * 8) as u32 as u64 == u64::from(DMA_PATTERN)
    }

    /// Takes over what a DMA to `iova` may have left in the pages of data of another machine.
    pub(super) fn take_over_pages(&self, iova: Option<u64>, other: &RawRig) {
        let places = LANDING.into_iter().filter_map(|page| Some(page + (iova? & 0xff8)));
        let ended = landing_places(&other.ended_offsets);
        for at in places.chain(other.late_places().chain(ended).map(|at| at & !7)) {
            self.put(at, other.get(at));
        }
    }

    /// The first address at which the memory of two machines differs. Queues may.
    pub(super) fn first_difference(&self, other: &RawRig) -> Option<u64> {
        let pairs = self.ram.words().iter().zip(other.ram.words()).take((BYTES / 8) as usize);
        let addresses = (BASE..).step_by(8);
        addresses
            .zip(pairs)
            .find(|(at, (ours, theirs))| {
                !QUEUES.contains(at) && ours.load(Ordering::SeqCst) != theirs.load(Ordering::SeqCst)
            })
            .map(|(at, _)| at)
    }
}
