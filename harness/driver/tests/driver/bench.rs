//! What the tests share: SMMUs of the model, memory that runs out, and stage-2 tables.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use smmu_driver::smmu_attach::adopt::{AdoptMemory, PhysicalMemory, Unreadable};
use smmu_driver::smmu_attach::{
    ForcedWriteBack, TableDescription, TranslationStage, TranslationTable, WalkAttributes,
};
use smmu_driver::smmu_invs::{CpuSlots, HazardSlots};
use smmu_driver::smmu_types::pool::{HeapWindow, Pool, PoolBlock, Window};
use smmu_driver::smmu_types::seam::{DmaBlock, DmaError, DmaLayout, DmaMemory, Registers, Wait};
use smmu_driver::smmu_types::{Granule, OutputSize, PhysAddr, StreamId, regs};
use smmu_driver::{Driver, DriverError, HazardParts, Parts, Platform, Queues, Setup, SmmuOptions};
use smmu_model::{Model, ModelRegisters, Profile};

pub(crate) const STREAM: StreamId = StreamId(8);
pub(crate) const GUEST_PAGE: u64 = 0x5000;
/// Stage 1: a valid page, which any access may use and an ASID tags.
const NON_GLOBAL_PAGE: u64 = 0xf43;

/// Registers of the model. A test can make some of them answer 0 for ever.
#[derive(Clone)]
pub(crate) struct TestRegisters {
    pub(crate) model: ModelRegisters,
    pub(crate) dead: Option<(u32, Arc<AtomicBool>)>,
    /// Decides whether a 32-bit write reaches the SMMU, and looks at the machine.
    pub(crate) gate: Option<Arc<WriteGate>>,
}

pub(crate) type WriteGate = dyn Fn(u32, u32) -> bool + Send + Sync;

impl TestRegisters {
    pub(crate) fn of(model: ModelRegisters) -> Self {
        TestRegisters { model, dead: None, gate: None }
    }

    fn answers(&self, offset: u32) -> bool {
        !self.dead.as_ref().is_some_and(|(at, dead)| *at == offset && dead.load(Ordering::Relaxed))
    }
}

impl Registers for TestRegisters {
    fn read32(&self, offset: u32) -> u32 {
        if self.answers(offset) { self.model.read32(offset) } else { 0 }
    }
    fn write32(&self, offset: u32, value: u32) {
        if self.gate.as_ref().is_none_or(|gate| gate(offset, value)) {
            self.model.write32(offset, value);
        }
    }
    fn read64(&self, offset: u32) -> u64 {
        self.model.read64(offset)
    }
    fn write64(&self, offset: u32, value: u64) {
        self.model.write64(offset, value);
    }
}

/// A block of the pool, or one over words of the window that an old owner has allocated.
pub(crate) enum TestBlock {
    Own(PoolBlock<HeapWindow>),
    Old(Pool<HeapWindow>, Range<usize>),
}

// SAFETY: the words are those of the window, at its address; the barriers are the window's.
#[expect(unsafe_code, reason = "the trait's promise is the window's")]
unsafe impl DmaBlock for TestBlock {
    fn words(&self) -> &[AtomicU64] {
        match self {
            TestBlock::Own(block) => block.words(),
            TestBlock::Old(pool, words) => &pool.window().words()[words.clone()],
        }
    }
    fn address(&self) -> PhysAddr {
        match self {
            TestBlock::Own(block) => block.address(),
            TestBlock::Old(pool, words) => {
                PhysAddr(pool.window().base().0 + 8 * words.start as u64)
            }
        }
    }
    fn publish(&self, words: Range<usize>) {
        match self {
            TestBlock::Own(block) => block.publish(words),
            TestBlock::Old(pool, old) => {
                pool.window().publish(old.start + words.start..old.start + words.end);
            }
        }
    }
    fn observe(&self, words: Range<usize>) {
        match self {
            TestBlock::Own(block) => block.observe(words),
            TestBlock::Old(pool, old) => {
                pool.window().observe(old.start + words.start..old.start + words.end);
            }
        }
    }
}

// SAFETY: the old owners of these tests are leaked, so the pool never gives their memory out.
#[expect(unsafe_code, reason = "the trait's promise is the test's")]
unsafe impl AdoptMemory for TestMemory {
    fn adopt(&self, address: PhysAddr, layout: DmaLayout) -> Result<TestBlock, DmaError> {
        let refused = DmaError { bytes: layout.bytes(), align: layout.align() };
        let window = self.pool.window();
        let first = address.0.checked_sub(window.base().0).ok_or(refused)? as usize / 8;
        let end = first.checked_add(layout.words()).filter(|end| *end <= window.words().len());
        Ok(TestBlock::Old(self.pool.clone(), first..end.ok_or(refused)?))
    }
}

impl PhysicalMemory for TestMemory {
    fn read(&self, address: PhysAddr, words: &mut [u64]) -> Result<(), Unreadable> {
        let window = self.pool.window();
        let first = address.0.checked_sub(window.base().0).ok_or(Unreadable)? as usize / 8;
        for (n, word) in words.iter_mut().enumerate() {
            let cell = window.words().get(first + n).ok_or(Unreadable)?;
            *word = cell.load(Ordering::Relaxed);
        }
        Ok(())
    }
}

/// A pool whose n-th allocation fails; 0 means none does.
#[derive(Clone)]
pub(crate) struct TestMemory {
    pub(crate) pool: Pool<HeapWindow>,
    pub(crate) countdown: Arc<AtomicU64>,
}

// SAFETY: every block is one of the pool's.
#[expect(unsafe_code, reason = "the trait's promise is the pool's")]
unsafe impl DmaMemory for TestMemory {
    type Block = TestBlock;

    fn allocate(&self, layout: DmaLayout) -> Result<Self::Block, DmaError> {
        let left = self.countdown.load(Ordering::Relaxed);
        self.countdown.store(left.saturating_sub(1), Ordering::Relaxed);
        if left == 1 {
            return Err(DmaError { bytes: layout.bytes(), align: layout.align() });
        }
        self.pool.allocate(layout).map(TestBlock::Own)
    }

    fn full_barrier(&self) {
        self.pool.full_barrier();
    }
}

/// Time passes by waiting alone, so a time-out is no long wait.
#[derive(Clone)]
pub(crate) struct TestClock(pub(crate) Arc<AtomicU64>);

impl Wait for TestClock {
    fn now(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::Relaxed))
    }
    fn relax(&self, _round: u32) {
        self.0.fetch_add(100, Ordering::Relaxed);
    }
}

pub(crate) type Tested =
    Parts<TestRegisters, TestMemory, TestClock, parking_lot::RawMutex, VmTables>;

/// A composition whose unmaps take no lock. All threads are on one CPU, so that they meet in its
/// slots.
pub(crate) type TestedHazard<L = parking_lot::RawMutex> =
    HazardParts<TestRegisters, TestMemory, TestClock, L, OneCpu, VmTables>;

pub(crate) struct OneCpu;

impl HazardSlots for OneCpu {
    fn slots() -> &'static [CpuSlots] {
        static SLOTS: [CpuSlots; 1] = [const { CpuSlots::new() }; 1];
        &SLOTS
    }
    fn cpu() -> usize {
        0
    }
}

/// What the compositions under test have in common.
pub(crate) trait Composition:
    Platform<
        Registers = TestRegisters,
        Dma = TestMemory,
        Wait = TestClock,
        Sink = Queues<Self>,
        Observer = (),
        Tables = VmTables,
        Ats = (),
        Lock: Send + Sync,
        SleepLock: Send + Sync,
        Cell: Send + Sync,
        QueueCell: Send + Sync,
    >
{
}

impl<P> Composition for P where
    P: Platform<
            Registers = TestRegisters,
            Dma = TestMemory,
            Wait = TestClock,
            Sink = Queues<P>,
            Observer = (),
            Tables = VmTables,
            Ats = (),
            Lock: Send + Sync,
            SleepLock: Send + Sync,
            Cell: Send + Sync,
            QueueCell: Send + Sync,
        >
{
}

pub(crate) struct Bench {
    pub(crate) model: Model,
    pub(crate) memory: TestMemory,
    pub(crate) dead: Arc<AtomicBool>,
}

impl Bench {
    pub(crate) fn new(profiles: &[Profile]) -> Self {
        let model = Model::new(8 << 20, profiles);
        let memory = TestMemory { pool: Pool::new(model.window()), countdown: Arc::default() };
        Bench { model, memory, dead: Arc::default() }
    }

    pub(crate) fn registers(&self, smmu: usize, dead: Option<u32>) -> TestRegisters {
        let model = self.model.registers(smmu).unwrap();
        let dead = dead.map(|offset| (offset, Arc::clone(&self.dead)));
        TestRegisters { model, dead, gate: None }
    }

    pub(crate) fn setup(&self) -> Setup<Tested> {
        self.setup_of()
    }

    pub(crate) fn setup_of<P: Composition>(&self) -> Setup<P> {
        Setup::new(self.memory.clone(), TestClock(Arc::default()), ())
    }

    /// As many SMMUs as the model has. `dead` is a register of the last SMMU that a test can make
    /// stop answering.
    pub(crate) fn try_start(
        &self,
        smmus: usize,
        dead: Option<u32>,
    ) -> Result<Driver<Tested>, DriverError> {
        self.try_start_of(smmus, dead)
    }

    /// As `try_start`, for any composition.
    pub(crate) fn try_start_of<P: Composition>(
        &self,
        smmus: usize,
        dead: Option<u32>,
    ) -> Result<Driver<P>, DriverError> {
        let mut setup = self.setup_of::<P>();
        for n in 0..smmus {
            let dead = dead.filter(|_| n + 1 == smmus);
            setup.smmu(self.registers(n, dead), SmmuOptions::default())?;
        }
        setup.start()
    }

    pub(crate) fn translates(&self, smmu: usize) -> bool {
        self.registers(smmu, None).read32(regs::CR0ACK.offset()) & regs::cr0::SMMUEN != 0
    }

    pub(crate) fn free(&self) -> u64 {
        self.memory.pool.free_bytes()
    }
}

/// Tables of the first 2 MiB: levels 1, 2 and 3 in one block. Of stage 2, unless said otherwise.
pub(crate) struct VmTables(TestBlock, TranslationStage);

impl VmTables {
    pub(crate) fn new(memory: &TestMemory) -> Self {
        Self::of(TranslationStage::Stage2 { start_level: 1 }, memory)
    }

    pub(crate) fn stage1(memory: &TestMemory) -> Self {
        Self::of(TranslationStage::Stage1 { mair: 0xff }, memory)
    }

    fn of(stage: TranslationStage, memory: &TestMemory) -> Self {
        let block = memory.allocate(DmaLayout::new(3 * 4096, 4096).unwrap()).unwrap();
        let tables = VmTables(block, stage);
        let next = |table: u64| (tables.0.address().0 + table * 4096) | 3;
        tables.set(0, next(1));
        tables.set(512, next(2));
        tables
    }

    fn set(&self, word: usize, descriptor: u64) {
        self.0.words()[word].store(descriptor, Ordering::Relaxed);
        self.0.publish(word..word + 1);
    }

    /// Maps a page of the RAM, which lies from 1 to 2 GiB, to itself.
    pub(crate) fn map_identity(&self, page: PhysAddr) {
        let next = |table: u64| (self.0.address().0 + table * 4096) | 3;
        self.set(1, next(1));
        self.set(512 + (page.0 >> 21 & 511) as usize, next(2));
        self.set(1024 + (page.0 >> 12 & 511) as usize, page.0 | 0x7ff);
    }

    pub(crate) fn map(&self, to: Option<PhysAddr>) {
        let page = (GUEST_PAGE / 4096) as usize;
        let attributes = match self.1 {
            TranslationStage::Stage1 { .. } => NON_GLOBAL_PAGE,
            TranslationStage::Stage2 { .. } => 0x7ff,
        };
        self.set(1024 + page, to.map_or(0, |to| to.0 | attributes));
    }
}

impl TranslationTable for VmTables {
    fn describe(&self) -> TableDescription {
        TableDescription {
            stage: self.1,
            root: self.0.address(),
            t0sz: 25,
            granule: Granule::K4,
            output_size: OutputSize::Bits40,
            walk: WalkAttributes::COHERENT,
            forced_write_back: ForcedWriteBack::Off,
        }
    }
}
