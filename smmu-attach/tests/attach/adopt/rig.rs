//! What an old owner left: tables in memory, and an environment for the new owner.
//!
//! The old owner is this crate too, with an environment and memory of its own.
#![expect(unsafe_code, reason = "implements the promise of DMA memory")]

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use smmu_attach::adopt::*;
use smmu_attach::*;
use smmu_types::fake::*;
use smmu_types::legal::{El2Regime, SmmuView};
use smmu_types::regs::strtab::{self, Split};
use smmu_types::seam::{DmaBlock, DmaError, DmaLayout, DmaMemory, SinkError};
use smmu_types::*;

use crate::common::*;
use crate::substreams::{Reached, walk};
use crate::watched_memory::{Look, Watch, WatchedBlock, WatchedMemory};

pub(super) const OLD: u64 = 0x4000_0000;
pub(super) const NEW: u64 = 0x5000_0000;
pub(super) const BYTES: usize = 4 << 20;

/// The memory of both owners.
#[derive(Clone)]
pub(super) struct Memory(pub(super) Arc<[AtomicU64]>, pub(super) Arc<[AtomicU64]>);

impl Memory {
    pub(super) fn cell(&self, address: u64) -> Option<&AtomicU64> {
        let (base, words) = if address >= NEW { (NEW, &self.1) } else { (OLD, &self.0) };
        words.get(address.checked_sub(base)? as usize / 8)
    }

    pub(super) fn get(&self, address: u64) -> u64 {
        self.cell(address).unwrap().load(Ordering::Relaxed)
    }

    pub(super) fn set(&self, address: u64, word: u64) {
        self.cell(address).unwrap().store(word, Ordering::Relaxed);
    }

    pub(super) fn entry(&self, address: u64) -> [u64; 8] {
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

/// A watched pool, and watched blocks over the old owner's memory.
pub(super) struct AdoptivePool {
    pub(super) pool: WatchedMemory<Look>,
    pub(super) old: Arc<[AtomicU64]>,
    pub(super) refuses: Arc<AtomicBool>,
    pub(super) rounds_up: Arc<AtomicBool>,
}

pub(super) enum AdoptiveBlock {
    Own(WatchedBlock<Look>),
    Old(Arc<[AtomicU64]>, Range<usize>, Look),
}

// SAFETY: blocks are the pool's, or words of a slice that lives as long as the block.
unsafe impl DmaMemory for AdoptivePool {
    type Block = AdoptiveBlock;
    fn allocate(&self, layout: DmaLayout) -> Result<AdoptiveBlock, DmaError> {
        Ok(AdoptiveBlock::Own(self.pool.allocate(layout)?))
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
        Ok(AdoptiveBlock::Old(Arc::clone(&self.old), words, Arc::clone(&self.pool.1)))
    }
}

// SAFETY: as the pool's block; the words of a slice do not move.
unsafe impl DmaBlock for AdoptiveBlock {
    fn words(&self) -> &[AtomicU64] {
        match self {
            AdoptiveBlock::Own(block) => block.words(),
            AdoptiveBlock::Old(words, range, _) => &words[range.clone()],
        }
    }
    fn address(&self) -> PhysAddr {
        match self {
            AdoptiveBlock::Own(block) => block.address(),
            AdoptiveBlock::Old(_, range, _) => PhysAddr(OLD + 8 * range.start as u64),
        }
    }
    fn publish(&self, words: Range<usize>) {
        match self {
            AdoptiveBlock::Own(block) => block.publish(words),
            AdoptiveBlock::Old(_, _, look) => look.stored(),
        }
    }
    fn observe(&self, words: Range<usize>) {
        if let AdoptiveBlock::Own(block) = self {
            block.observe(words);
        }
    }
}

pub(super) type Adoptive = FakePlatform<AdoptivePool, RecordingObserver>;

/// What an old owner left behind, and what a new one starts with.
pub(super) struct Rig {
    pub(super) registers: IdRegisters,
    pub(super) el2: El2Regime,
    pub(super) memory: Memory,
    pub(super) base: u64,
    pub(super) config: u32,
    pub(super) env: Env<Adoptive>,
    pub(super) look: Look,
    pub(super) refuses: Arc<AtomicBool>,
    /// Blocks over old memory cover whole pages.
    pub(super) rounds_up: Arc<AtomicBool>,
    /// The n-th command batch from now on fails, with all after it. 0: none.
    pub(super) fail_at: Arc<AtomicU32>,
    pub(super) old: Smmu<HeapPlatform>,
}

pub(super) const SMMU: SmmuId = SmmuId(0);

/// `fail_at`: the next batch fails, and none after it. One more is the batch after that.
pub(super) const ONCE: u32 = 1000;

/// LARGE with two-level tables of CDs.
pub(super) const REGISTERS: IdRegisters = IdRegisters { idr0: LARGE.idr0 | 1 << 19, ..LARGE };

/// The streams of the old owner.
pub(super) const STAGE1: u32 = 0x08;
pub(super) const TWINS: [u32; 2] = [0x10, 0x11];
pub(super) const STAGE2: u32 = 0x20;
pub(super) const TWO_LEVEL: u32 = 0x30;
pub(super) const LINEAR: u32 = 0x31;
pub(super) const BYPASS: u32 = 0x103;
pub(super) const LIVE: [u32; 7] = [STAGE1, TWINS[0], TWINS[1], STAGE2, TWO_LEVEL, LINEAR, BYPASS];

impl Rig {
    pub(super) fn new() -> Self {
        Self::of(REGISTERS)
    }

    pub(super) fn of(registers: IdRegisters) -> Self {
        Self::with(registers, Split::Eight)
    }

    pub(super) fn with(registers: IdRegisters, split: Split) -> Self {
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
            pool: WatchedMemory(new, Arc::clone(&look)),
            old: Arc::clone(&memory.0),
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

    pub(super) fn tables(&self) -> RunningTables {
        let view = SmmuView::new(self.registers).with_el2(self.el2);
        RunningTables::new(self.base, self.config, view)
    }

    pub(super) fn survey(&self) -> Result<Survey, Doubt> {
        Survey::new(self.tables(), &self.memory, ReadBudget::default())
    }

    pub(super) fn adopting(
        &self,
        id: SmmuId,
        keep: &[u32],
    ) -> Result<Adopting<Adoptive>, AdoptError> {
        let survey = self.survey().unwrap();
        self.adopting_with(id, keep, Adoption::new(&survey), SmmuConfig::default())
    }

    pub(super) fn adopting_with(
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

    pub(super) fn adopt(&self, keep: &[u32]) -> Smmu<Adoptive> {
        self.adopting(SMMU, keep).unwrap().abort_others().unwrap()
    }

    /// The address of a stream's STE.
    pub(super) fn ste_at(&self, stream: u32) -> u64 {
        let descriptor = self.memory.get(self.descriptor_at(stream));
        let (_, index) = self.old.stream_table().1.place(StreamId(stream));
        StreamTableDescriptor([descriptor]).array().unwrap().0.0 + u64::from(index) * 64
    }

    pub(super) fn descriptor_at(&self, stream: u32) -> u64 {
        let (base, format) = self.old.stream_table();
        base.0 + u64::from(format.place(StreamId(stream)).0) * 8
    }

    pub(super) fn ste(&self, stream: u32) -> Ste {
        Ste(self.memory.entry(self.ste_at(stream)))
    }

    pub(super) fn stes(&self) -> Vec<Ste> {
        LIVE.iter().map(|&stream| self.ste(stream)).collect()
    }

    pub(super) fn context_at(&self, stream: u32) -> u64 {
        let SteConfig::Stage1(table) = self.ste(stream).decode() else { panic!("no stage 1") };
        table.context.0
    }

    /// Where a transaction of a stream without a SubstreamID ends.
    pub(super) fn reached(&self, stream: u32) -> Reached {
        reached(&self.memory, self.ste(stream))
    }

    pub(super) fn domain(&self, id: u32, stage: TranslationStage) -> Domain<Adoptive> {
        let tables = tables(stage, 0x9000_0000 + u64::from(id) * 0x1000);
        Domain::new(&self.env, DomainId(id), tables).unwrap()
    }

    pub(super) fn commands(&self) -> Vec<String> {
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

pub(super) fn reached(memory: &Memory, ste: Ste) -> Reached {
    walk(ste, None, |table, n| {
        let first = match table.format {
            0 => table.context.0,
            _ => memory.get(table.context.0 + u64::from(n >> 6) * 8) & !0xfff,
        };
        Cd(memory.entry(first + u64::from(n % 64) * 64))
    })
}

pub(super) const fn asid(n: u16) -> CacheTag {
    CacheTag::Asid(Regime::El1, Asid(n))
}

pub(super) const VMID1: CacheTag = CacheTag::Vmid(Vmid(1));

pub(super) const KEPT: [u32; 4] = [STAGE1, TWINS[0], TWINS[1], TWO_LEVEL];
