//! An SMMU that another owner left running is surveyed and taken over.
//!
//! The old owner is this crate too, with an environment and memory of its own.
#![expect(unsafe_code, reason = "implements the promise of DMA memory")]

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use rstest::rstest;
use smmu_attach::adopt::*;
use smmu_attach::*;
use smmu_types::fake::*;
use smmu_types::legal::{El2Regime, Rule, SmmuView};
use smmu_types::regs::strtab::{self, Split};
use smmu_types::seam::{DmaBlock, DmaError, DmaLayout, DmaMemory, SinkError};
use smmu_types::*;

use crate::adopt_bytes::{bytes, survey_of};
use crate::common::*;
use crate::substreams::{Reached, walk};

const OLD: u64 = 0x4000_0000;
const NEW: u64 = 0x5000_0000;
const BYTES: usize = 4 << 20;

type Look = Arc<Mutex<Option<Box<dyn Fn() + Send>>>>;

/// The memory of both owners.
#[derive(Clone)]
struct Memory(Arc<[AtomicU64]>, Arc<[AtomicU64]>);

impl Memory {
    fn cell(&self, address: u64) -> Option<&AtomicU64> {
        let (base, words) = if address >= NEW { (NEW, &self.1) } else { (OLD, &self.0) };
        words.get(address.checked_sub(base)? as usize / 8)
    }

    fn get(&self, address: u64) -> u64 {
        self.cell(address).unwrap().load(Ordering::Relaxed)
    }

    fn set(&self, address: u64, word: u64) {
        self.cell(address).unwrap().store(word, Ordering::Relaxed);
    }

    fn entry(&self, address: u64) -> [u64; 8] {
        std::array::from_fn(|n| self.get(address + 8 * n as u64))
    }
}

impl PhysicalMemory for Memory {
    fn read(&self, address: PhysAddr, words: &mut [u64]) -> Result<(), Unreadable> {
        for (n, word) in words.iter_mut().enumerate() {
            let cell = self.cell(address.0 + 8 * n as u64).ok_or(Unreadable)?;
            *word = cell.load(Ordering::Relaxed);
        }
        Ok(())
    }
}

/// A pool, and blocks over the old owner's memory. Calls `look` after each published store.
struct AdoptivePool {
    pool: Pool<HeapWindow>,
    old: Arc<[AtomicU64]>,
    look: Look,
    refuses: Arc<AtomicBool>,
    rounds_up: Arc<AtomicBool>,
}

enum AdoptiveBlock {
    Own(PoolBlock<HeapWindow>, Look),
    Old(Arc<[AtomicU64]>, Range<usize>, Look),
}

// SAFETY: blocks are the pool's, or words of a slice that lives as long as the block.
unsafe impl DmaMemory for AdoptivePool {
    type Block = AdoptiveBlock;
    fn allocate(&self, layout: DmaLayout) -> Result<AdoptiveBlock, DmaError> {
        Ok(AdoptiveBlock::Own(self.pool.allocate(layout)?, Arc::clone(&self.look)))
    }
    fn full_barrier(&self) {
        self.pool.full_barrier();
    }
}

// SAFETY: the block is the memory at the address, and the old owner's pool keeps it.
unsafe impl AdoptMemory for AdoptivePool {
    fn adopt(&self, address: PhysAddr, layout: DmaLayout) -> Result<AdoptiveBlock, DmaError> {
        let refused = DmaError { bytes: layout.bytes(), align: layout.align() };
        let first = address.0.checked_sub(OLD).ok_or(refused)? as usize / 8;
        let most = if self.rounds_up.load(Ordering::Relaxed) { 512 } else { 1 };
        let words = first..first + layout.words().next_multiple_of(most);
        if self.refuses.load(Ordering::Relaxed) || words.end > self.old.len() {
            return Err(refused);
        }
        Ok(AdoptiveBlock::Old(Arc::clone(&self.old), words, Arc::clone(&self.look)))
    }
}

// SAFETY: as the pool's block; the words of a slice do not move.
unsafe impl DmaBlock for AdoptiveBlock {
    fn words(&self) -> &[AtomicU64] {
        match self {
            AdoptiveBlock::Own(block, _) => block.words(),
            AdoptiveBlock::Old(words, range, _) => &words[range.clone()],
        }
    }
    fn address(&self) -> PhysAddr {
        match self {
            AdoptiveBlock::Own(block, _) => block.address(),
            AdoptiveBlock::Old(_, range, _) => PhysAddr(OLD + 8 * range.start as u64),
        }
    }
    fn publish(&self, words: Range<usize>) {
        let look = match self {
            AdoptiveBlock::Own(block, look) => {
                block.publish(words);
                look
            }
            AdoptiveBlock::Old(_, _, look) => look,
        };
        if let Some(look) = &*look.lock().unwrap() {
            look();
        }
    }
    fn observe(&self, words: Range<usize>) {
        if let AdoptiveBlock::Own(block, _) = self {
            block.observe(words);
        }
    }
}

type Adoptive = FakePlatform<AdoptivePool, RecordingObserver>;

/// What an old owner left behind, and what a new one starts with.
struct Rig {
    registers: IdRegisters,
    el2: El2Regime,
    memory: Memory,
    base: u64,
    config: u32,
    env: Env<Adoptive>,
    look: Look,
    refuses: Arc<AtomicBool>,
    /// Blocks over old memory cover whole pages.
    rounds_up: Arc<AtomicBool>,
    /// The n-th command batch from now on fails, with all after it. 0: none.
    fail_at: Arc<AtomicU32>,
    old: Smmu<HeapPlatform>,
}

const SMMU: SmmuId = SmmuId(0);

/// `fail_at`: the next batch fails, and none after it. One more is the batch after that.
const ONCE: u32 = 1000;

/// LARGE with two-level tables of CDs.
const REGISTERS: IdRegisters = IdRegisters { idr0: LARGE.idr0 | 1 << 19, ..LARGE };

/// The streams of the old owner.
const STAGE1: u32 = 0x08;
const TWINS: [u32; 2] = [0x10, 0x11];
const STAGE2: u32 = 0x20;
const TWO_LEVEL: u32 = 0x30;
const LINEAR: u32 = 0x31;
const BYPASS: u32 = 0x103;
const LIVE: [u32; 7] = [STAGE1, TWINS[0], TWINS[1], STAGE2, TWO_LEVEL, LINEAR, BYPASS];

impl Rig {
    fn new() -> Self {
        Self::of(REGISTERS)
    }

    fn of(registers: IdRegisters) -> Self {
        Self::with(registers, Split::Eight)
    }

    fn with(registers: IdRegisters, split: Split) -> Self {
        let windows = [OLD, NEW].map(|base| HeapWindow::new(PhysAddr(base), BYTES));
        let memory = Memory(windows[0].share(), windows[1].share());
        let [old, new] = windows.map(Pool::new);
        let env = Env::<HeapPlatform>::new(old, RecordingSink::new(), RecordingObserver::new());
        let env = env.unwrap();
        let caps = Capabilities::decode(registers);
        let smmu = Smmu::new(&env, SMMU, registers, caps, SmmuConfig::default().with_split(split))
            .unwrap();
        let domain = |id: u32, stage| {
            let tables = tables(stage, 0x8000_0000 + u64::from(id) * 0x1000);
            Domain::new(&env, DomainId(id), tables).unwrap()
        };
        let device = |streams: &[u32], bits| {
            let streams: Vec<_> = streams.iter().copied().map(StreamId).collect();
            let config = DeviceConfig::default().with_substream_bits(bits);
            smmu.add_device_with(&streams, config).unwrap()
        };
        let domains = [domain(1, S1), domain(2, S1), domain(3, S1), domain(4, S2)];
        let attach = |device: &Device<HeapPlatform>, domain| {
            assert_eq!(device.attach(domain), Ok(Outcome::Done));
        };
        attach(&device(&[STAGE1], 0), &domains[0]);
        attach(&device(&TWINS, 0), &domains[0]);
        attach(&device(&[STAGE2], 0), &domains[3]);
        let pasids = |device: &Device<HeapPlatform>, pairs: &[(u32, usize)]| {
            for &(pasid, n) in pairs {
                let substream = device.substream(SubstreamId::new(pasid).unwrap()).unwrap();
                assert_eq!(substream.attach(&domains[n]), Ok(Outcome::Done));
            }
        };
        let two_level = device(&[TWO_LEVEL], 9);
        attach(&two_level, &domains[0]);
        pasids(&two_level, &[(1, 0), (0x43, 1)]);
        pasids(&device(&[LINEAR], 2), &[(3, 2)]);
        assert_eq!(device(&[BYPASS], 0).bypass(), Ok(Outcome::Done));
        // A stream that aborts.
        drop(device(&[0x40], 0));

        let (address, format) = smmu.stream_table();
        let (base, config) = (strtab::base(address, format).unwrap(), format.config().unwrap());
        let (look, refuses): (Look, Arc<AtomicBool>) = Default::default();
        let rounds_up = Arc::<AtomicBool>::default();
        let fail_at = Arc::new(AtomicU32::new(0));
        let left = Arc::clone(&fail_at);
        let sink = RecordingSink::failing(move |call| {
            if let SinkCall::Wait(_) = call {
                return None;
            }
            match left.load(Ordering::Relaxed) {
                0 => None,
                1 => Some(SinkError::timeout(SMMU)),
                ONCE => {
                    left.store(0, Ordering::Relaxed);
                    Some(SinkError::timeout(SMMU))
                }
                n => {
                    left.store(n - 1, Ordering::Relaxed);
                    None
                }
            }
        });
        let dma = AdoptivePool {
            pool: new,
            old: Arc::clone(&memory.0),
            look: Arc::clone(&look),
            refuses: Arc::clone(&refuses),
            rounds_up: Arc::clone(&rounds_up),
        };
        let env = Env::<Adoptive>::new(dma, sink, RecordingObserver::new()).unwrap();
        Rig {
            registers,
            el2: El2Regime::El2,
            memory,
            base,
            config,
            env,
            look,
            refuses,
            rounds_up,
            fail_at,
            old: smmu,
        }
    }

    fn tables(&self) -> RunningTables {
        let view = SmmuView::new(self.registers).with_el2(self.el2);
        RunningTables::new(self.base, self.config, view)
    }

    fn survey(&self) -> Result<Survey, Doubt> {
        Survey::new(self.tables(), &self.memory, ReadBudget::default())
    }

    fn adopting(&self, id: SmmuId, keep: &[u32]) -> Result<Adopting<Adoptive>, AdoptError> {
        let survey = self.survey().unwrap();
        self.adopting_with(id, keep, Adoption::new(&survey), SmmuConfig::default())
    }

    fn adopting_with(
        &self,
        id: SmmuId,
        keep: &[u32],
        adoption: Adoption<'_, Adoptive>,
        config: SmmuConfig,
    ) -> Result<Adopting<Adoptive>, AdoptError> {
        let caps = Capabilities::decode(self.registers);
        Smmu::adopt(&self.env, id, caps, config, adoption, |live| {
            if keep.contains(&live.stream.0) { Keep::Running } else { Keep::Abort }
        })
    }

    fn adopt(&self, keep: &[u32]) -> Smmu<Adoptive> {
        self.adopting(SMMU, keep).unwrap().abort_others().unwrap()
    }

    /// The address of a stream's STE.
    fn ste_at(&self, stream: u32) -> u64 {
        let descriptor = self.memory.get(self.descriptor_at(stream));
        let (_, index) = self.old.stream_table().1.place(StreamId(stream));
        StreamTableDescriptor([descriptor]).array().unwrap().0.0 + u64::from(index) * 64
    }

    fn descriptor_at(&self, stream: u32) -> u64 {
        let (base, format) = self.old.stream_table();
        base.0 + u64::from(format.place(StreamId(stream)).0) * 8
    }

    fn ste(&self, stream: u32) -> Ste {
        Ste(self.memory.entry(self.ste_at(stream)))
    }

    fn stes(&self) -> Vec<Ste> {
        LIVE.iter().map(|&stream| self.ste(stream)).collect()
    }

    fn context_at(&self, stream: u32) -> u64 {
        let SteConfig::Stage1(table) = self.ste(stream).decode() else { panic!("no stage 1") };
        table.context.0
    }

    /// Where a transaction of a stream without a SubstreamID ends.
    fn reached(&self, stream: u32) -> Reached {
        reached(&self.memory, self.ste(stream))
    }

    fn domain(&self, id: u32, stage: TranslationStage) -> Domain<Adoptive> {
        let tables = tables(stage, 0x9000_0000 + u64::from(id) * 0x1000);
        Domain::new(&self.env, DomainId(id), tables).unwrap()
    }

    fn commands(&self) -> Vec<String> {
        let calls = self.env.sink().take().into_iter();
        calls
            .filter_map(|call| match call {
                SinkCall::Issue(_, commands) | SinkCall::Push(_, commands) => Some(commands),
                SinkCall::Wait(_) => None,
            })
            .flatten()
            .map(|command| command.to_string())
            .collect()
    }
}

fn reached(memory: &Memory, ste: Ste) -> Reached {
    walk(ste, None, |table, n| {
        let first = match table.format {
            0 => table.context.0,
            _ => memory.get(table.context.0 + u64::from(n >> 6) * 8) & !0xfff,
        };
        Cd(memory.entry(first + u64::from(n % 64) * 64))
    })
}

const fn asid(n: u16) -> CacheTag {
    CacheTag::Asid(Regime::El1, Asid(n))
}

const VMID1: CacheTag = CacheTag::Vmid(Vmid(1));

#[test]
fn every_stream_of_our_own_tables_is_found() {
    let rig = Rig::new();
    let survey = rig.survey().unwrap();
    let found: Vec<_> =
        survey.streams().map(|live| (live.stream.0, live.tags().collect::<Vec<_>>())).collect();
    let expected = [
        (STAGE1, vec![asid(1)]),
        (TWINS[0], vec![asid(1)]),
        (TWINS[1], vec![asid(1)]),
        (STAGE2, vec![VMID1]),
        (TWO_LEVEL, vec![asid(1), asid(2)]),
        (LINEAR, vec![asid(3)]),
        (BYPASS, vec![]),
    ];
    assert_eq!(found, expected);
    for live in survey.streams() {
        assert_eq!(live.ste, rig.ste(live.stream.0));
        let is_right = match live.stream.0 {
            STAGE2 => matches!(live.kind, StreamKind::Stage2 { vmid: Vmid(1) }),
            BYPASS => live.kind == StreamKind::Bypass,
            TWO_LEVEL => {
                matches!(live.kind, StreamKind::Stage1 { table, .. } if table.format == 1)
            }
            _ => matches!(live.kind, StreamKind::Stage1 { table, .. } if table.format == 0),
        };
        assert!(is_right, "{live:?}");
    }
    // The visitor sees the streams that abort as well: two arrays of 2^8 STEs.
    let mut all = 0;
    let shape = rig.tables().visit(&rig.memory, ReadBudget::default(), &mut |_| {
        all += 1;
        Ok(())
    });
    assert_eq!(all, 512);
    let arrays: Vec<_> = shape.unwrap().arrays.iter().map(|array| array.index).collect();
    assert_eq!(arrays, [0, 1]);
}

#[test]
fn a_linear_table_is_surveyed_and_taken_over() {
    let registers = IdRegisters { idr0: REGISTERS.idr0 & !(3 << 27), ..REGISTERS };
    let windows = HeapWindow::new(PhysAddr(OLD), BYTES);
    let (base, bits) = (OLD, 4);
    let memory = Memory(windows.share(), Arc::new([]));
    let bypass = Ste::bypass(ShareabilityOverride::NonShareable);
    memory.set(base + 5 * 64, bypass.0[0]);
    let tables = RunningTables::new(base, bits, SmmuView::new(registers));
    let survey = Survey::new(tables, &memory, ReadBudget::default()).unwrap();
    assert_eq!(survey.streams().map(|live| live.stream).collect::<Vec<_>>(), [StreamId(5)]);
    let dma = AdoptivePool {
        pool: Pool::new(HeapWindow::new(PhysAddr(NEW), BYTES)),
        old: Arc::clone(&memory.0),
        look: Look::default(),
        refuses: Arc::default(),
        rounds_up: Arc::default(),
    };
    let env = Env::<Adoptive>::new(dma, RecordingSink::new(), RecordingObserver::new()).unwrap();
    let caps = Capabilities::decode(registers);
    let (config, adoption) = (SmmuConfig::default(), Adoption::new(&survey));
    let adopting = Smmu::adopt(&env, SMMU, caps, config, adoption, |_| Keep::Running).unwrap();
    let smmu = adopting.abort_others().unwrap();
    for stream in 0..16 {
        let expected = if stream == 5 { bypass } else { Ste::ABORT };
        assert_eq!(Ste(memory.entry(base + stream * 64)), expected, "{stream}");
    }
    // The table covers four bits.
    let beyond = smmu.add_device(&[StreamId(16)]);
    assert!(matches!(beyond, Err(AttachError::StreamRange { bits: 4, .. })));
}

type Breaks = fn(&mut Rig);

#[rstest]
#[case::base(|rig: &mut Rig| rig.base += 64, |doubt| matches!(doubt, Doubt::Misaligned { place: Place::Registers, .. }))]
#[case::far(|rig: &mut Rig| rig.base = 1 << 50, |doubt| matches!(doubt, Doubt::BeyondOutput { place: Place::Registers, bits: 44, .. }))]
#[case::absent(|rig: &mut Rig| rig.base = 0x7000_0000, |doubt| matches!(doubt, Doubt::Unreadable { place: Place::Registers, .. }))]
#[case::wide(|rig: &mut Rig| { rig.registers.idr1 |= 0x3f; rig.config = 40; }, |doubt| doubt == Doubt::StreamBits { bits: 40 })]
#[case::relative(|rig: &mut Rig| rig.registers.idr1 |= 1 << 28 | 1 << 30, |doubt| doubt == Doubt::Relative)]
#[case::format(|rig: &mut Rig| rig.config |= 3 << 16, |doubt| matches!(doubt, Doubt::Rule { place: Place::Registers, broken } if broken.field == "FMT"))]
#[case::split(|rig: &mut Rig| rig.config |= 1 << 6, |doubt| matches!(doubt, Doubt::Rule { place: Place::Registers, broken } if broken.field == "SPLIT"))]
#[case::span_of_more(|rig: &mut Rig| rig.memory.set(rig.descriptor_at(0x200), 0x4030_0000 | 10), |doubt| matches!(doubt, Doubt::Rule { place: Place::StreamDescriptor(StreamId(0x200)), broken } if broken.field == "Span"))]
#[case::size(|rig: &mut Rig| rig.config += 1, |doubt| matches!(doubt, Doubt::Rule { broken, .. } if broken.field == "LOG2SIZE"))]
#[case::span(|rig: &mut Rig| rig.memory.set(rig.descriptor_at(0x200), 12), |doubt| matches!(doubt, Doubt::Rule { place: Place::StreamDescriptor(StreamId(0x200)), broken } if broken.rule == Rule::SpanReserved))]
#[case::array_far(|rig: &mut Rig| rig.memory.set(rig.descriptor_at(0x200), 1 << 46 | 9), |doubt| matches!(doubt, Doubt::Rule { place: Place::StreamDescriptor(StreamId(0x200)), broken } if broken.field == "L2Ptr"))]
#[case::array_absent(|rig: &mut Rig| rig.memory.set(rig.descriptor_at(0x200), 0x7000_0000 | 9), |doubt| doubt == Doubt::Unreadable { place: Place::Ste(StreamId(0x200)), address: PhysAddr(0x7000_0000) })]
#[case::array_twice(|rig: &mut Rig| rig.memory.set(rig.descriptor_at(0x200), rig.memory.get(rig.descriptor_at(0))), |doubt| matches!(doubt, Doubt::Overlap { .. }))]
#[case::array_in_itself(|rig: &mut Rig| rig.memory.set(rig.descriptor_at(0x200), rig.old.stream_table().0.0 & !0x3fff | 9), |doubt| matches!(doubt, Doubt::Overlap { .. } | Doubt::Rule { .. }))]
#[case::config(|rig: &mut Rig| rig.memory.set(rig.ste_at(BYPASS), 1 | 2 << 1), |doubt| matches!(doubt, Doubt::Rule { place: Place::Ste(StreamId(BYPASS)), broken } if broken.rule == Rule::ReservedConfig))]
#[case::contexts(|rig: &mut Rig| rig.memory.set(rig.ste_at(LINEAR), rig.ste(LINEAR).0[0] | 31 << 59), |doubt| matches!(doubt, Doubt::Rule { place: Place::Ste(StreamId(LINEAR)), broken } if broken.field == "S1CDMax"))]
#[case::context_absent(|rig: &mut Rig| rig.memory.set(rig.ste_at(STAGE1), 1 | 5 << 1 | 0x7000_0000), |doubt| doubt == Doubt::Unreadable { place: Place::Cd(StreamId(STAGE1), 0), address: PhysAddr(0x7000_0000) })]
#[case::context_in_stes(|rig: &mut Rig| rig.memory.set(rig.ste_at(STAGE1), 1 | 5 << 1 | rig.ste_at(0x80)), |doubt| matches!(doubt, Doubt::Overlap { .. } | Doubt::Rule { .. }))]
#[case::leaf_absent(|rig: &mut Rig| rig.memory.set(rig.context_at(TWO_LEVEL) + 8, 0x7000_0001), |doubt| doubt == Doubt::Unreadable { place: Place::Cd(StreamId(TWO_LEVEL), 64), address: PhysAddr(0x7000_0000) })]
#[case::leaf_in_level_1(
    |rig: &mut Rig| {
        let at = rig.context_at(TWO_LEVEL);
        rig.memory.set(at + 24, at & !0xfff | 1);
    },
    |doubt| matches!(doubt, Doubt::Overlap { .. } | Doubt::Rule { .. })
)]
#[case::cd(|rig: &mut Rig| { let at = rig.context_at(STAGE1); rig.memory.set(at, rig.memory.get(at) & !0x3f | 63); }, |doubt| matches!(doubt, Doubt::Rule { place: Place::Cd(StreamId(STAGE1), 0), broken } if broken.field == "T0SZ"))]
#[case::span_of_stes(|rig: &mut Rig| rig.memory.set(rig.ste_at(STAGE2) + 8, rig.ste(STAGE2).0[1] | 1 << 13), |doubt| doubt == Doubt::Contiguous { stream: StreamId(STAGE2) })]
#[case::vmid(|rig: &mut Rig| rig.memory.set(rig.ste_at(STAGE2) + 16, rig.ste(STAGE2).0[2] & !0xffff), |doubt| doubt == Doubt::VmidZero { stream: StreamId(STAGE2) })]
fn inv_2_each_doubt_names_its_place(#[case] breaks: Breaks, #[case] expected: fn(Doubt) -> bool) {
    let mut rig = Rig::new();
    breaks(&mut rig);
    let doubt = rig.survey().unwrap_err();
    assert!(expected(doubt), "{doubt:?}: {doubt}");
    assert!(doubt.to_string().len() > 20);
}

#[test]
fn an_owner_that_still_writes_shows() {
    let rig = Rig::new();
    let (memory, at) = (rig.memory.clone(), rig.ste_at(STAGE1) + 3 * 8);
    let reads = AtomicU64::new(0);
    let changing = |address: PhysAddr, words: &mut [u64]| {
        memory.set(at, reads.fetch_add(1, Ordering::Relaxed));
        memory.read(address, words)
    };
    let place = Place::Ste(StreamId(STAGE1));
    assert_eq!(
        Survey::new(rig.tables(), &changing, ReadBudget::default()).map(|_| ()),
        Err(Doubt::Changing { place, address: PhysAddr(at) })
    );
}

#[test]
fn inv_1_the_budget_bounds_the_reads() {
    let rig = Rig::new();
    let read = AtomicU64::new(0);
    let counting = |address: PhysAddr, words: &mut [u64]| {
        read.fetch_add(words.len() as u64, Ordering::Relaxed);
        rig.memory.read(address, words)
    };
    assert!(Survey::new(rig.tables(), &counting, ReadBudget::default()).is_ok());
    let read_in_all = read.swap(0, Ordering::Relaxed);
    // An ASID of a stream counts as a word, also where streams share a table that is read once.
    let enough = read_in_all + 6;
    assert!(Survey::new(rig.tables(), &counting, ReadBudget::new(enough)).is_ok());
    read.store(0, Ordering::Relaxed);
    for words in [0, 1, enough / 2, enough - 1] {
        let short = Survey::new(rig.tables(), &counting, ReadBudget::new(words));
        assert!(matches!(short, Err(Doubt::TooLarge { words: w, .. }) if w == words));
        assert!(read.swap(0, Ordering::Relaxed) <= words);
    }
}

proptest! {
    /// Words that lead anywhere, also to themselves.
    #[test]
    fn inv_1_any_memory_is_read_to_an_end(
        words in proptest::collection::vec(
            prop_oneof![
                any::<u64>(),
                (0u64..64, 0u64..64).prop_map(|(at, low)| at << 6 | low),
                (0u64..16, any::<u64>()).prop_map(|(at, high)| {
                    at << 6 | 1 | (4 + high % 4) << 1 | (high >> 8 & 3) << 4 | (high >> 60) << 59
                }),
                Just(0x8000_0000_0000_0001 | 1 << 41 | 1 << 31),
            ],
            64..1024,
        ),
        base in 0u64..64,
        config in prop_oneof![any::<u32>(), 0u32..12, (6u32..14).prop_map(|n| 1 << 16 | 8 << 6 | n)],
        idr in any::<[u32; 3]>(),
        real in any::<bool>(),
    ) {
        let registers = if real { REGISTERS } else {
            IdRegisters { idr0: idr[0], idr1: idr[1], idr5: idr[2], ..REGISTERS }
        };
        survey_of(registers, base << 6, config, &words);
    }
}

#[test]
fn the_seeds_of_the_fuzzer_are_read_to_an_end() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds/adopt");
    let mut live = 0;
    for seed in std::fs::read_dir(folder).unwrap() {
        live += usize::from(bytes(&std::fs::read(seed.unwrap().path()).unwrap()) > 0);
    }
    assert!(live > 0, "no seed has a live stream");
}

const KEPT: [u32; 4] = [STAGE1, TWINS[0], TWINS[1], TWO_LEVEL];

/// `BYPASS` is behind another second-level table than the rest, unless one has 2^10 STEs.
#[rstest]
#[case::some(&KEPT, 3)]
#[case::other_second_level(&[BYPASS], 1)]
#[case::all(&LIVE, 4)]
fn inv_3_kept_streams_stay_bit_for_bit_and_others_abort(
    #[case] kept: &[u32],
    #[case] first_free: u16,
    #[values(Split::Six, Split::Eight, Split::Ten)] split: Split,
) {
    let rig = Rig::with(REGISTERS, split);
    assert_eq!(rig.survey().unwrap().shape().split, Some(split));
    let before = rig.stes();
    let smmu = rig.adopt(kept);
    for (stream, old) in LIVE.into_iter().zip(before) {
        let expected = if kept.contains(&stream) { old } else { Ste::ABORT };
        assert_eq!(rig.ste(stream), expected, "{stream:#x}");
    }
    assert_eq!(smmu.stream_table(), rig.old.stream_table());
    let commands = rig.commands();
    let (flush, rounds) = commands.split_last().unwrap();
    assert_eq!(flush, "TLBI_NSNH_ALL");
    assert!(
        (usize::from(kept.len() < LIVE.len())..=3).contains(&rounds.len())
            && rounds.iter().all(|c| c == "CFGI_ALL"),
        "{rounds:?}"
    );
    let mut left = Vec::new();
    while let Some(stream) = smmu.next_foreign_stream(left.last().copied()) {
        left.push(stream);
    }
    assert_eq!(left, kept.iter().copied().map(StreamId).collect::<Vec<_>>());
    // Streams that nobody had, the first and the last of a second level that does not exist yet.
    let (first, last) = (StreamId(0xc00), StreamId(0xc00 + (1 << split.bits()) - 1));
    let device = smmu.add_device(&[first, last]).unwrap();
    assert_eq!(rig.commands().iter().filter(|c| c.starts_with("CFGI_STE")).count(), 1);
    assert!(matches!(device.attachment(), Attachment::Blocked));
    assert_eq!(device.attach(&rig.domain(9, S1)), Ok(Outcome::Done));
    for stream in [first, last] {
        assert_eq!(rig.reached(stream.0), Reached::Stage1(Asid(first_free)));
    }
    // A survey, and so the SMMU, finds the new second level whole.
    let all = rig.survey().unwrap();
    assert!(all.streams().map(|live| live.stream).filter(|s| *s >= first).eq([first, last]));
    let arrays = &all.shape().arrays;
    assert!(arrays.iter().all(|array| array.descriptor.array().unwrap().1 == split.bits()));
}

/// The second level of stream 0x200 has 2^`log2` STEs, and its split allows 2^8.
#[rstest]
fn a_short_second_level_is_taken_over_as_it_is(#[values(0, 3, 7, 8)] log2: u8) {
    let rig = Rig::new();
    let array = OLD + (BYTES as u64 - 0x8000);
    let bypass = Ste::bypass(ShareabilityOverride::NonShareable);
    let reach = 0x200 + (1 << log2) - 1;
    // Behind the array is other memory of the old owner, which looks like STEs.
    for n in 0..512 {
        rig.memory.set(array + n * 64, bypass.0[0]);
    }
    rig.memory.set(rig.descriptor_at(0x200), array | (u64::from(log2) + 1));
    let smmu = rig.adopt(&[reach]);
    for stream in 0x200..0x200 + 512 {
        let expected = if stream < reach { Ste::ABORT } else { bypass };
        let at = array + u64::from(stream - 0x200) * 64;
        assert_eq!(Ste(rig.memory.entry(at)), expected, "{stream:#x}");
    }
    let device = smmu.add_device(&[StreamId(reach)]).unwrap();
    assert_eq!(device.attach(&rig.domain(9, S1)), Ok(Outcome::Done));
    assert!(matches!(rig.reached(reach), Reached::Stage1(_)));
    let beyond = smmu.add_device(&[StreamId(reach + 1)]).map(|_| ());
    let stes = 1 << log2;
    let short = AttachError::ShortArray { smmu: SMMU, stream: StreamId(reach + 1), stes };
    assert_eq!(beyond, if log2 == 8 { Ok(()) } else { Err(short) });
    let at = array + u64::from(stes as u32) * 64;
    assert_eq!(Ste(rig.memory.entry(at)), bypass, "memory behind the array was written");
}

/// A block over whole pages instead of the table would let its neighbours be written.
#[rstest]
#[case::linear(true)]
#[case::two_levels(false)]
fn a_block_of_another_size_is_refused(#[case] linear: bool) {
    let mut rig = Rig::new();
    if linear {
        (rig.base, rig.config) = (OLD + (BYTES as u64 - 0x1000), 4);
    }
    let survey = rig.survey().unwrap();
    let address = survey.shape().base;
    rig.rounds_up.store(true, Ordering::Relaxed);
    let refused = rig.adopting(SMMU, &[]).map(|_| ());
    assert!(
        matches!(refused, Err(AdoptError::Map { address: at, .. }) if at == address),
        "{refused:?}"
    );
}

/// The old owner aborted a stream, and its `CFGI_STE` was cut off: the SMMU still uses the old STE.
#[test]
fn inv_5_the_smmu_forgets_what_no_ste_shows_any_more() {
    let rig = Rig::new();
    let smmu = rig.adopt(&LIVE);
    assert_eq!(rig.commands(), ["CFGI_ALL", "TLBI_NSNH_ALL"]);
    assert_eq!(smmu.stream_table(), rig.old.stream_table());
}

#[test]
fn inv_4_reserved_numbers_are_never_given_out() {
    let rig = Rig::of(IdRegisters { idr0: REGISTERS.idr0 & !(1 << 12 | 1 << 18), ..REGISTERS });
    let smmu = rig.adopt(&[TWO_LEVEL, STAGE2]);
    let (mut held, mut numbers) = (Vec::new(), Vec::new());
    while let Ok(tag) = smmu.asids().allocate(SMMU, Regime::El1, 8) {
        numbers.push(tag.tag());
        held.push(tag);
    }
    assert_eq!(numbers.len(), 253);
    assert!(!numbers.contains(&asid(1)) && !numbers.contains(&asid(2)));
    assert!(numbers.contains(&asid(3)), "the stream with ASID 3 was aborted and flushed");
    while let Ok(tag) = smmu.vmids().allocate() {
        assert_ne!(tag.tag(), VMID1);
        held.push(tag);
    }
}

#[test]
fn a_foreign_stream_is_replaced_without_a_gap() {
    let rig = Rig::new();
    let smmu = rig.adopt(&KEPT);
    let device = smmu.add_device(&[StreamId(STAGE1)]).unwrap();
    assert!(matches!(device.attachment(), Attachment::Foreign));
    assert_eq!(rig.reached(STAGE1), Reached::Stage1(Asid(1)));
    let early = device.substream(SubstreamId::new(1).unwrap());
    assert!(matches!(early, Err(AttachError::ForeignAttached { .. })));
    assert!(matches!(smmu.remove_device(&device), Err(AttachError::StillAttached { .. })));

    let domain = rig.domain(9, S1);
    let (memory, at) = (rig.memory.clone(), rig.ste_at(STAGE1));
    let ends = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&ends);
    *rig.look.lock().unwrap() = Some(Box::new(move || {
        let end = reached(&memory, Ste(memory.entry(at)));
        let mut seen = seen.lock().unwrap();
        if seen.last() != Some(&end) {
            seen.push(end);
        }
    }));
    assert_eq!(device.attach(&domain), Ok(Outcome::Done));
    *rig.look.lock().unwrap() = None;
    // ASIDs 1 and 2 are reserved.
    assert_eq!(*ends.lock().unwrap(), [Reached::Stage1(Asid(1)), Reached::Stage1(Asid(3))]);
    assert!(device.is_settled());

    // ASID 1 is free after its last stream.
    let twins = smmu.add_device(&TWINS.map(StreamId)).unwrap();
    assert_eq!(twins.block(), Outcome::Done);
    rig.commands();
    let last = smmu.add_device(&[StreamId(TWO_LEVEL)]).unwrap();
    assert!(matches!(last.block_all(), Outcome::Done | Outcome::Freed(_)));
    let commands = rig.commands();
    assert_eq!(commands.iter().filter(|c| c.starts_with("TLBI_NH_ALL")).count(), 2, "{commands:?}");
    assert_eq!(smmu.asids().stats().in_use, 1, "the new domain's");
    assert_eq!(smmu.next_foreign_stream(None), None);
    assert_eq!(smmu.remove_device(&twins), Ok(()));
    assert_eq!(device.block(), Outcome::Freed(asid(3)));
}

/// A device over a kept stream has nothing to settle: the tags stay reserved while the stream runs.
#[test]
fn settling_a_foreign_device_releases_nothing() {
    let rig = Rig::new();
    let smmu = rig.adopt(&[STAGE1]);
    let device = smmu.add_device(&[StreamId(STAGE1)]).unwrap();
    let (stats, ste) = (smmu.asids().stats(), rig.ste(STAGE1));
    rig.commands();
    assert_eq!((device.settle(), smmu.settle()), (Ok(()), Ok(())));
    assert_eq!((smmu.asids().stats(), rig.ste(STAGE1)), (stats, ste));
    assert_eq!(rig.commands(), Vec::<String>::new());
    assert_eq!(device.block().settled(), Ok(()));
    assert_eq!(smmu.asids().stats().free, stats.free + 1);
}

#[test]
fn a_device_that_is_refused_leaves_its_foreign_stream() {
    let rig = Rig::new();
    let smmu = rig.adopt(&KEPT);
    let owner = smmu.add_device(&[StreamId(0x99)]).unwrap();
    let refused = smmu.add_device(&[StreamId(STAGE1), StreamId(0x99)]);
    assert!(matches!(refused, Err(AttachError::StreamInUse { .. })));
    assert_eq!(smmu.remove_device(&owner), Ok(()));
    assert_eq!(smmu.next_foreign_stream(None), Some(StreamId(STAGE1)));
    let both = smmu.add_device(&[StreamId(STAGE1), StreamId(0x99)]).unwrap();
    assert_eq!(both.bypass(), Ok(Outcome::Done));
    assert_eq!(rig.reached(STAGE1), Reached::Memory);
}

/// The SMMU does not confirm the new second-level table of a device that also has a kept stream.
#[test]
fn a_device_that_is_not_announced_leaves_its_foreign_stream() {
    let rig = Rig::new();
    let before = Arc::strong_count(&rig.memory.0);
    let smmu = rig.adopt(&[STAGE1]);
    let (stats, ste) = (smmu.asids().stats(), rig.ste(STAGE1));
    rig.fail_at.store(1, Ordering::Relaxed);
    let refused = smmu.add_device(&[StreamId(STAGE1), StreamId(0x500)]);
    assert!(matches!(refused, Err(AttachError::Sink(_))), "{refused:?}");
    rig.fail_at.store(0, Ordering::Relaxed);
    assert_eq!((smmu.asids().stats(), rig.ste(STAGE1)), (stats, ste));
    assert_eq!(smmu.next_foreign_stream(None), Some(StreamId(STAGE1)));
    let both = smmu.add_device(&[StreamId(STAGE1), StreamId(0x500)]).unwrap();
    assert_eq!(both.block().settled(), Ok(()));
    assert_eq!(smmu.asids().stats().free, stats.free + 1);
    drop((smmu, both));
    assert_eq!(Arc::strong_count(&rig.memory.0), before, "a block over the old table is left");
}

#[test]
fn a_device_that_is_refused_keeps_no_memory() {
    let rig = Rig::new();
    let before = Arc::strong_count(&rig.memory.0);
    let smmu = rig.adopt(&KEPT);
    let owner = smmu.add_device(&[StreamId(0x99)]).unwrap();
    assert!(smmu.add_device(&[StreamId(TWO_LEVEL), StreamId(0x99)]).is_err());
    assert_eq!(smmu.remove_device(&owner), Ok(()));
    drop((smmu, owner));
    assert_eq!(Arc::strong_count(&rig.memory.0), before, "a block over the old table is left");
}

#[test]
fn inv_6_an_adoption_that_is_not_confirmed_keeps_everything() {
    // Two rounds, from bypass to abort, and the flush.
    for step in 1..=3 {
        let rig = Rig::new();
        let before = rig.stes();
        let adopting = rig.adopting(SMMU, &KEPT).unwrap();
        rig.fail_at.store(step, Ordering::Relaxed);
        let adopting = match adopting.abort_others() {
            Err(failed) => failed.into_adopting(),
            Ok(_) => panic!("step {step} did not fail"),
        };
        for (stream, old) in LIVE.into_iter().zip(&before) {
            let now = rig.ste(stream);
            if KEPT.contains(&stream) {
                assert_eq!(now, *old, "step {step}");
            } else {
                assert!(now == Ste::ABORT || now.0[0] & 1 == 0, "step {step}: {now:?}");
            }
        }
        rig.fail_at.store(0, Ordering::Relaxed);
        rig.commands();
        let (env, before_store) = (rig.env.clone(), Arc::new(Mutex::new(None)));
        let first = Arc::clone(&before_store);
        *rig.look.lock().unwrap() = Some(Box::new(move || {
            let calls = env.sink().take();
            first.lock().unwrap().get_or_insert(calls);
        }));
        let smmu = adopting.abort_others().unwrap();
        *rig.look.lock().unwrap() = None;
        // No word changes before the SMMU has forgotten what it may have fetched.
        if let Some(calls) = &*before_store.lock().unwrap() {
            assert_eq!(calls.first(), Some(&SinkCall::Issue(SMMU, vec![Command::CfgiAll])));
        }
        assert_eq!(rig.ste(BYPASS), Ste::ABORT);
        assert_eq!(smmu.asids().stats().in_use, 2, "step {step}");
    }
}

#[test]
fn a_replacement_that_is_not_confirmed_keeps_the_tag() {
    for step in 1..=6 {
        let rig = Rig::new();
        let smmu = rig.adopt(&[STAGE2]);
        let device = smmu.add_device(&[StreamId(STAGE2)]).unwrap();
        rig.fail_at.store(step, Ordering::Relaxed);
        let outcome = device.block();
        rig.fail_at.store(0, Ordering::Relaxed);
        match outcome {
            Outcome::Freed(tag) => assert_eq!(tag, VMID1),
            _ => {
                assert!(outcome.settled().is_err() && !device.is_settled(), "step {step}");
                let stats = smmu.vmids().stats();
                assert_eq!(stats.in_use + stats.retiring, 1, "step {step}: {outcome:?}");
                assert_eq!(device.settle(), Ok(()), "step {step}");
            }
        }
        assert!(device.is_settled());
        let stats = smmu.vmids().stats();
        assert_eq!((stats.in_use, stats.retiring, stats.quarantined), (0, 0, 0), "step {step}");
        assert!(smmu.vmids().claim(Vmid(1)).is_ok());
    }
}

#[test]
fn an_attach_that_is_not_confirmed_keeps_the_foreign_tag() {
    for step in (1..=6).chain(ONCE..ONCE + 6) {
        let rig = Rig::new();
        let smmu = rig.adopt(&[STAGE1]);
        let device = smmu.add_device(&[StreamId(STAGE1)]).unwrap();
        let domain = rig.domain(9, S1);
        rig.fail_at.store(step, Ordering::Relaxed);
        let outcome = device.attach(&domain).unwrap();
        rig.fail_at.store(0, Ordering::Relaxed);
        let is_free = || smmu.asids().claim(SMMU, Regime::El1, 16, Asid(1)).is_ok();
        if outcome == Outcome::Freed(asid(1)) {
            assert!(is_free() && device.is_settled(), "step {step}");
        } else {
            assert!(!is_free() && !device.is_settled(), "step {step}: {outcome:?}");
            assert_eq!(device.settle(), Ok(()), "step {step}");
            assert!(is_free() && device.is_settled(), "step {step}: {outcome:?}");
        }
        // A device whose change was not confirmed is attached as asked, and aborts until then.
        assert!(device.attach(&domain).unwrap().settled().is_ok());
        assert_eq!(rig.reached(STAGE1), Reached::Stage1(Asid(2)), "step {step}");
        assert_eq!(device.block(), Outcome::Freed(asid(2)), "step {step}");
    }
}

#[test]
fn inv_4_an_asid_of_two_smmus_is_free_after_both() {
    let (one, two) = (Rig::new(), Rig::new());
    let first = one.adopt(&[STAGE1]);
    let survey = two.survey().unwrap();
    // The two rigs have memory at the same address, so each has an environment of its own.
    let adopt =
        |adoption| two.adopting_with(SmmuId(1), &[STAGE1, LINEAR], adoption, SmmuConfig::default());
    let alone = SmmuConfig::default().with_asids(first.asids().clone());
    let taken = two.adopting_with(SmmuId(1), &[STAGE1], Adoption::new(&survey), alone);
    assert!(matches!(taken, Err(AdoptError::Tag { tag, .. }) if tag == asid(1)));
    // Not taken over after all: nothing is left of it.
    drop(adopt(Adoption::new(&survey).beside(&first)).unwrap());
    assert_eq!(first.asids().stats().in_use, 1);
    let second = adopt(Adoption::new(&survey).beside(&first)).unwrap().abort_others().unwrap();
    assert_eq!(first.asids().stats().in_use, 2);

    let device = first.add_device(&[StreamId(STAGE1)]).unwrap();
    assert_eq!(device.block(), Outcome::Done);
    assert!(first.asids().claim(SMMU, Regime::El1, 16, Asid(1)).is_err(), "the second uses it");
    let device = second.add_device(&[StreamId(STAGE1)]).unwrap();
    assert_eq!(device.block(), Outcome::Freed(asid(1)));
    assert!(first.asids().claim(SMMU, Regime::El1, 16, Asid(1)).is_ok());
}

/// Three SMMUs of one space are prepared before the first is taken over. The second has not the ASID
/// of the others, and the first is given up.
#[rstest]
fn inv_4_an_asid_is_reserved_while_one_smmu_of_the_space_is_left(
    #[values(true, false)] first_is_taken: bool,
) {
    let rigs = [Rig::new(), Rig::new(), Rig::new()];
    let surveys = rigs.each_ref().map(|rig| rig.survey().unwrap());
    let keep = [STAGE1, LINEAR, STAGE1];
    let adopt = |n: usize, adoption| {
        rigs[n]
            .adopting_with(SmmuId(n as u16), &[keep[n]], adoption, SmmuConfig::default())
            .unwrap()
    };
    let first = adopt(0, Adoption::new(&surveys[0]));
    let second = adopt(1, Adoption::new(&surveys[1]).beside_adopting(&first));
    let third = adopt(2, Adoption::new(&surveys[2]).beside_adopting(&second));
    let third = third.abort_others().unwrap();
    let is_free = || third.asids().claim(SMMU, Regime::El1, 16, Asid(1)).is_ok();
    let first = if first_is_taken {
        Some(first.abort_others().unwrap())
    } else {
        drop(first);
        None
    };
    assert!(!is_free(), "two SMMUs use it, or one");
    // The second never ran: its number is free without a flush.
    drop(second);
    assert!(third.asids().claim(SMMU, Regime::El1, 16, Asid(3)).is_ok());
    let block = |smmu: &Smmu<Adoptive>| smmu.add_device(&[StreamId(STAGE1)]).unwrap().block();
    let last = Outcome::Freed(asid(1));
    assert_eq!(block(&third), if first_is_taken { Outcome::Done } else { last });
    if let Some(first) = first {
        assert!(!is_free(), "the first uses it");
        assert_eq!(block(&first), last);
    }
    assert!(is_free());
}

/// Its streams may still run, so neither the space nor the other SMMU frees the number.
#[test]
fn inv_4_a_number_stays_taken_when_its_smmu_is_dropped() {
    let (one, two) = (Rig::new(), Rig::new());
    let first = one.adopt(&[STAGE1, STAGE2]);
    let asids = first.asids().clone();
    let survey = two.survey().unwrap();
    let (adoption, config) = (Adoption::new(&survey).beside(&first), SmmuConfig::default());
    let second = two.adopting_with(SmmuId(1), &[STAGE1], adoption, config).unwrap();
    let second = second.abort_others().unwrap();
    drop(first);
    assert_eq!(second.add_device(&[StreamId(STAGE1)]).unwrap().block(), Outcome::Done);
    assert_eq!((asids.stats().in_use, asids.stats().quarantined), (1, 0));
    drop(second);
    assert_eq!((asids.stats().in_use, asids.stats().quarantined), (0, 1));
    assert!(asids.claim(SMMU, Regime::El1, 16, Asid(1)).is_err());
}

#[test]
fn an_smmu_that_is_gone_gives_its_numbers_back() {
    let rig = Rig::new();
    let smmu = rig.adopt(&KEPT);
    let devices: Vec<_> =
        KEPT.iter().map(|&stream| smmu.add_device(&[StreamId(stream)]).unwrap()).collect();
    assert_eq!(smmu.gone(&GoneProof::vouch(SMMU)), Ok(()));
    let stats = smmu.asids().stats();
    assert_eq!((stats.in_use, stats.retiring, stats.quarantined), (0, 0, 0));
    assert!(devices.iter().all(Device::is_settled));
}

#[test]
fn a_refused_adoption_changes_nothing() {
    let rig = Rig::new();
    let before = rig.stes();
    let survey = rig.survey().unwrap();
    let adopt = || {
        let (adoption, config) = (Adoption::new(&survey), SmmuConfig::default());
        rig.adopting_with(SMMU, &KEPT, adoption, config).map(|_| ())
    };
    rig.refuses.store(true, Ordering::Relaxed);
    assert!(matches!(adopt(), Err(AdoptError::Map { .. })));
    rig.refuses.store(false, Ordering::Relaxed);

    // A number that the caller has reserved for another use.
    let vmids = smmu_tags::SpaceConfig { reserved: &[Vmid(1)], ..Default::default() };
    let config = SmmuConfig::default().with_vmids(vmids);
    let taken = rig.adopting_with(SMMU, &[STAGE2], Adoption::new(&survey), config);
    assert!(matches!(taken, Err(AdoptError::Tag { tag, .. }) if tag == VMID1));

    // The old owner changes an entry after the survey.
    let at = rig.ste_at(STAGE2);
    rig.memory.set(at, Ste::ABORT.0[0]);
    assert_eq!(adopt(), Err(AdoptError::Differs { smmu: SMMU, address: PhysAddr(at) }));
    rig.memory.set(at, before[3].0[0]);
    assert_eq!(adopt(), Ok(()));
    assert_eq!(rig.stes(), before);
    assert!(rig.commands().is_empty());
}

#[test]
fn both_regimes_may_have_one_asid() {
    for el2 in [El2Regime::El2E2h, El2Regime::El2] {
        let mut rig = Rig::new();
        rig.registers.idr0 |= 1 << 9;
        rig.el2 = el2;
        let strw = rig.ste(TWINS[0]).0[1] | 2 << 30;
        rig.memory.set(rig.ste_at(TWINS[0]) + 8, strw);
        let survey = rig.survey().unwrap();
        let live = survey.stream(StreamId(TWINS[0])).unwrap();
        // EL2 without E2H has no ASIDs.
        let number = if el2 == El2Regime::El2E2h { Asid(1) } else { Asid(0) };
        let tags: Vec<_> = live.tags().collect();
        assert_eq!(tags, [CacheTag::Asid(Regime::El2, number)]);

        let smmu = rig.adopt(&[STAGE1, TWINS[0]]);
        let flushes = rig.commands();
        assert!(flushes.ends_with(&["TLBI_EL2_ALL".into(), "TLBI_NSNH_ALL".into()]), "{flushes:?}");
        assert_eq!(smmu.asids().stats().in_use, 1);
        let device = smmu.add_device(&[StreamId(TWINS[0])]).unwrap();
        assert_eq!(device.block(), Outcome::Done, "EL1 still has the number, or there is none");
        let commands = rig.commands();
        assert!(commands.contains(&"TLBI_EL2_ALL".into()), "{commands:?}");
        let device = smmu.add_device(&[StreamId(STAGE1)]).unwrap();
        assert_eq!(device.block(), Outcome::Freed(asid(1)));
        assert!(smmu.asids().claim(SMMU, Regime::El1, 16, Asid(1)).is_ok());
    }
}

#[test]
fn a_nested_stream_is_kept_without_its_guests_cds() {
    let rig = Rig::new();
    // The guest's table is where the host has no memory.
    let word = 1 | 7 << 1 | 0x7000_0000;
    rig.memory.set(rig.ste_at(STAGE2), word);
    let survey = rig.survey().unwrap();
    let live = survey.stream(StreamId(STAGE2)).unwrap();
    let context = PhysAddr(0x7000_0000);
    assert!(
        matches!(live.kind, StreamKind::Nested { table, vmid: Vmid(1) } if table.context == context)
    );
    let smmu = rig.adopt(&[STAGE2]);
    assert!(smmu.vmids().claim(Vmid(1)).is_err());
    let device = smmu.add_device(&[StreamId(STAGE2)]).unwrap();
    assert_eq!(device.bypass(), Ok(Outcome::Freed(VMID1)));
    assert_eq!(rig.reached(STAGE2), Reached::Memory);
}

/// `LOG2SIZE` is below `SPLIT`: one descriptor, whose `Span` reaches beyond the table (6.3.25).
#[rstest]
fn a_table_within_one_second_level_ends_at_its_size(
    #[values(Split::Six, Split::Eight, Split::Ten)] split: Split,
    #[values(0, 3, 5)] log2: u8,
    #[values(true, false)] spans_more: bool,
) {
    let mut rig = Rig::new();
    let (array, reach) = (OLD + (BYTES as u64 - 0x1_0000), (1 << log2) - 1);
    let bypass = Ste::bypass(ShareabilityOverride::NonShareable);
    for n in 0..1u64 << split.bits() {
        rig.memory.set(array + n * 64, bypass.0[0]);
    }
    rig.base = array - 64;
    let span = if spans_more { split.bits() } else { log2 };
    rig.memory.set(rig.base, array | u64::from(span + 1));
    rig.config = 1 << 16 | u32::from(split.bits()) << 6 | u32::from(log2);

    let survey = rig.survey().unwrap();
    assert!(survey.streams().map(|live| live.stream.0).eq(0..=reach));
    let smmu = rig.adopt(&[reach]);
    let ste = |stream: u32| Ste(rig.memory.entry(array + u64::from(stream) * 64));
    for stream in 0..1 << split.bits() {
        let expected = if stream < reach { Ste::ABORT } else { bypass };
        assert_eq!(ste(stream), expected, "{stream:#x}: beyond the table nothing is written");
    }
    let device = smmu.add_device(&[StreamId(reach)]).unwrap();
    assert_eq!(device.attach(&rig.domain(9, S1)), Ok(Outcome::Done));
    assert!(matches!(reached(&rig.memory, ste(reach)), Reached::Stage1(_)));
    let stream = StreamId(reach + 1);
    let refused = smmu.add_device(&[stream]).map(|_| ());
    assert_eq!(refused, Err(AttachError::StreamRange { smmu: SMMU, stream, bits: log2 }));
}

/// The only descriptor is empty: the new owner links an array.
#[rstest]
fn a_table_within_one_second_level_grows_to_its_size(#[values(-1, 0)] beside: i8) {
    let mut rig = Rig::new();
    rig.base = OLD + (BYTES as u64 - 0x2000);
    let bits = Split::Eight.bits().wrapping_add_signed(beside);
    rig.config = 1 << 16 | 8 << 6 | u32::from(bits);
    let smmu = rig.adopt(&[]);
    let (last, stream) = (StreamId((1 << bits) - 1), StreamId(1 << bits));
    let device = smmu.add_device(&[last]).unwrap();
    assert_eq!(device.bypass(), Ok(Outcome::Done));
    assert!(rig.survey().unwrap().streams().map(|live| live.stream).eq([last]));
    let refused = smmu.add_device(&[stream]).map(|_| ());
    assert_eq!(refused, Err(AttachError::StreamRange { smmu: SMMU, stream, bits }));
}

#[test]
fn a_foreign_stream_with_ats_needs_a_device_with_ats() {
    let mut rig = Rig::new();
    rig.registers.idr0 |= 1 << 10;
    let word = rig.ste(STAGE1).0[1] | 1 << 28;
    rig.memory.set(rig.ste_at(STAGE1) + 8, word);
    let smmu = rig.adopt(&[STAGE1]);
    let refused = smmu.add_device(&[StreamId(STAGE1)]).map(|_| ());
    assert_eq!(refused, Err(AttachError::ForeignAts { smmu: SMMU, stream: StreamId(STAGE1) }));
    let config = DeviceConfig::default().with_ats(AtsUse::Always);
    let device = smmu.add_device_with(&[StreamId(STAGE1)], config).unwrap();
    rig.commands();
    assert_eq!(device.block(), Outcome::Freed(asid(1)));
    let commands = rig.commands();
    assert!(commands.iter().any(|c| c.starts_with("ATC_INV")), "{commands:?}");
}
