//! The composed driver on the model: start, failed start, unmap, and the memory that stays.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use smmu_driver::smmu_attach::{
    ForcedWriteBack, Outcome, TableDescription, TranslationStage, TranslationTable, WalkAttributes,
};
use smmu_driver::smmu_cmdq::Opcodes;
use smmu_driver::smmu_hw_mmio::BringupError;
use smmu_driver::smmu_types::pool::{HeapWindow, Pool, PoolBlock};
use smmu_driver::smmu_types::range::Extent;
use smmu_driver::smmu_types::regs;
use smmu_driver::smmu_types::seam::{
    CommandSink, DmaBlock, DmaError, DmaLayout, DmaMemory, Registers, SinkError, Wait,
};
use smmu_driver::smmu_types::{
    Command, EventKind, Granule, Leaf, OutputSize, PhysAddr, SmmuId, StreamId,
};
use smmu_driver::{Driver, DriverError, Parts, Setup, SmmuOptions};
use smmu_model::{Model, ModelRegisters, Profile, SecondQueue};

const STREAM: StreamId = StreamId(8);
const GUEST_PAGE: u64 = 0x5000;

/// Registers of the model. A test can make some of them answer 0 for ever.
#[derive(Clone)]
struct TestRegisters {
    model: ModelRegisters,
    dead: Option<(u32, Arc<AtomicBool>)>,
}

impl TestRegisters {
    fn answers(&self, offset: u32) -> bool {
        !self.dead.as_ref().is_some_and(|(at, dead)| *at == offset && dead.load(Ordering::Relaxed))
    }
}

impl Registers for TestRegisters {
    fn read32(&self, offset: u32) -> u32 {
        if self.answers(offset) { self.model.read32(offset) } else { 0 }
    }
    fn write32(&self, offset: u32, value: u32) {
        self.model.write32(offset, value);
    }
    fn read64(&self, offset: u32) -> u64 {
        self.model.read64(offset)
    }
    fn write64(&self, offset: u32, value: u64) {
        self.model.write64(offset, value);
    }
}

/// A pool whose n-th allocation fails; 0 means none does.
#[derive(Clone)]
struct TestMemory {
    pool: Pool<HeapWindow>,
    countdown: Arc<AtomicU64>,
}

// SAFETY: every block is one of the pool's.
#[expect(unsafe_code, reason = "the trait's promise is the pool's")]
unsafe impl DmaMemory for TestMemory {
    type Block = PoolBlock<HeapWindow>;

    fn allocate(&self, layout: DmaLayout) -> Result<Self::Block, DmaError> {
        let left = self.countdown.load(Ordering::Relaxed);
        self.countdown.store(left.saturating_sub(1), Ordering::Relaxed);
        if left == 1 {
            return Err(DmaError { bytes: layout.bytes(), align: layout.align() });
        }
        self.pool.allocate(layout)
    }

    fn full_barrier(&self) {
        self.pool.full_barrier();
    }
}

/// Time passes by waiting alone, so a time-out is no long wait.
#[derive(Clone)]
struct TestClock(Arc<AtomicU64>);

impl Wait for TestClock {
    fn now(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::Relaxed))
    }
    fn relax(&self, _round: u32) {
        self.0.fetch_add(100, Ordering::Relaxed);
    }
}

type Tested = Parts<TestRegisters, TestMemory, TestClock, parking_lot::RawMutex, VmTables>;

struct Bench {
    model: Model,
    memory: TestMemory,
    dead: Arc<AtomicBool>,
}

impl Bench {
    fn new(profiles: &[Profile]) -> Self {
        let model = Model::new(8 << 20, profiles);
        let memory = TestMemory { pool: Pool::new(model.window()), countdown: Arc::default() };
        Bench { model, memory, dead: Arc::default() }
    }

    fn registers(&self, smmu: usize, dead: Option<u32>) -> TestRegisters {
        let model = self.model.registers(smmu).unwrap();
        TestRegisters { model, dead: dead.map(|offset| (offset, Arc::clone(&self.dead))) }
    }

    fn setup(&self) -> Setup<Tested> {
        Setup::new(self.memory.clone(), TestClock(Arc::default()), ())
    }

    /// As many SMMUs as the model has. `dead` is a register of the last SMMU that a test can make
    /// stop answering.
    fn try_start(&self, smmus: usize, dead: Option<u32>) -> Result<Driver<Tested>, DriverError> {
        let mut setup = self.setup();
        for n in 0..smmus {
            let dead = dead.filter(|_| n + 1 == smmus);
            setup.smmu(self.registers(n, dead), SmmuOptions::default())?;
        }
        setup.start()
    }

    fn translates(&self, smmu: usize) -> bool {
        self.registers(smmu, None).read32(regs::CR0ACK.offset()) & regs::cr0::SMMUEN != 0
    }

    fn free(&self) -> u64 {
        self.memory.pool.free_bytes()
    }
}

/// Stage-2 tables of the first 2 MiB: levels 1, 2 and 3 in one block.
struct VmTables(PoolBlock<HeapWindow>);

impl VmTables {
    fn new(memory: &TestMemory) -> Self {
        let tables = VmTables(memory.allocate(DmaLayout::new(3 * 4096, 4096).unwrap()).unwrap());
        let next = |table: u64| (tables.0.address().0 + table * 4096) | 3;
        tables.set(0, next(1));
        tables.set(512, next(2));
        tables
    }

    fn set(&self, word: usize, descriptor: u64) {
        self.0.words()[word].store(descriptor, Ordering::Relaxed);
        self.0.publish(word..word + 1);
    }

    fn map(&self, to: Option<PhysAddr>) {
        let page = (GUEST_PAGE / 4096) as usize;
        self.set(1024 + page, to.map_or(0, |to| to.0 | 0x7ff));
    }
}

impl TranslationTable for VmTables {
    fn describe(&self) -> TableDescription {
        TableDescription {
            stage: TranslationStage::Stage2 { start_level: 1 },
            root: self.0.address(),
            t0sz: 25,
            granule: Granule::K4,
            output_size: OutputSize::Bits40,
            walk: WalkAttributes::COHERENT,
            forced_write_back: ForcedWriteBack::Off,
        }
    }
}

#[test]
fn a_life_of_two_smmus_leaves_no_memory_behind() {
    let bench = Bench::new(&[Profile::default(), Profile::default()]);
    let free = bench.free();
    {
        let driver = bench.try_start(2, None).unwrap();
        let page = bench.memory.allocate(DmaLayout::new(4096, 4096).unwrap()).unwrap();
        let domain = driver.domain(VmTables::new(&bench.memory)).unwrap();
        domain.tables().map(Some(page.address()));
        for smmu in [SmmuId(0), SmmuId(1)] {
            let at = usize::from(smmu.0);
            assert!(bench.translates(at));
            let device = driver.add_device(smmu, &[STREAM]).unwrap();
            let write = || bench.model.dma_write32(at, STREAM, GUEST_PAGE, 7);
            assert!(write().is_err(), "a device is blocked until it is attached");
            assert_eq!(device.attach(&domain), Ok(Outcome::Done));
            assert!(write().is_ok());
            domain.tables().map(None);
            let extent = Extent::range(GUEST_PAGE, 4096, Granule::K4, Leaf::Last);
            domain.invalidate(extent).unwrap();
            assert!(write().is_err(), "the unmapped page is out of reach");
            let mut events = Vec::new();
            let drained = driver.drain_events(smmu, |event| events.push(event)).unwrap();
            assert_eq!((drained.records, drained.overflowed), (1, false));
            let event = events[0];
            assert_eq!((event.kind(), event.stream()), (EventKind::F_TRANSLATION, STREAM));
            let found = driver.device_of(smmu, STREAM).unwrap();
            assert!(found.is_some_and(|found| found.is_same(&device)));
            domain.tables().map(Some(page.address()));
            assert!(device.block().freed().is_some());
            assert!(write().is_err());
        }
        assert_eq!(bench.model.take_hazards(), []);
        assert!(domain.into_tables().is_ok());
        driver.shutdown().unwrap();
        assert!(!bench.translates(0) && !bench.translates(1));
    }
    assert_eq!(bench.free(), free);
}

#[test]
fn a_shutdown_gives_the_tables_of_an_attached_device_back() {
    let bench = Bench::new(&[Profile::default()]);
    let free = bench.free();
    {
        let driver = bench.try_start(1, None).unwrap();
        let domain = driver.domain(VmTables::new(&bench.memory)).unwrap();
        let device = driver.add_device(SmmuId(0), &[STREAM]).unwrap();
        assert_eq!(device.attach(&domain), Ok(Outcome::Done));
        let domain = domain.into_tables().map(|_| ()).unwrap_err();
        driver.shutdown().unwrap();
        assert!(domain.into_tables().is_ok());
        assert_eq!(device.block(), Outcome::Done);
    }
    assert_eq!(bench.free(), free);
}

#[test]
fn an_allocation_that_fails_leaves_every_smmu_off_and_no_memory_behind() {
    let bench = Bench::new(&[Profile::default(), Profile::default()]);
    let free = bench.free();
    for n in 1.. {
        assert!(n < 100, "a start of two SMMUs does not need {n} blocks");
        bench.memory.countdown.store(n, Ordering::Relaxed);
        match bench.try_start(2, None) {
            // Two stream tables, two command queues, two event queues at least.
            Ok(driver) => {
                assert!(n > 6, "allocation {n} did not count");
                driver.shutdown().unwrap();
                break;
            }
            Err(error) => {
                let text = error.to_string();
                assert!(text.contains("bytes"), "allocation {n}: {text}");
                assert!(!bench.translates(0) && !bench.translates(1), "allocation {n}");
                assert_eq!(bench.free(), free, "allocation {n}");
            }
        }
    }
    assert_eq!(bench.free(), free);
}

#[test]
fn an_smmu_that_consumes_no_command_is_turned_off_again() {
    let bench = Bench::new(&[Profile::default(), Profile::default()]);
    let free = bench.free();
    bench.dead.store(true, Ordering::Relaxed);
    let error = bench.try_start(2, Some(regs::CMDQ_CONS.offset())).unwrap_err();
    let DriverError::Bringup { smmu: SmmuId(1), error: BringupError::Invalidate(why) } = error
    else {
        panic!("{error:?}")
    };
    assert!(matches!(why, SinkError::Timeout { .. }), "{why:?}");
    assert!(!bench.translates(0) && !bench.translates(1));
    assert_eq!(bench.free(), free);
}

#[test]
fn a_dropped_driver_keeps_its_memory_and_a_start_that_fails_at_once_does_not() {
    let bench = Bench::new(&[Profile::default()]);
    let free = bench.free();
    // CR0ACK reads as 0 from the beginning, so the driver sees an SMMU that is off. The start fails
    // at the first bit that it sets, and the memory comes back.
    bench.dead.store(true, Ordering::Relaxed);
    let error = bench.try_start(1, Some(regs::CR0ACK.offset())).unwrap_err();
    let DriverError::Bringup { error: BringupError::NoAck { register, .. }, .. } = error else {
        panic!("{error:?}")
    };
    assert_eq!((register, bench.free()), ("CR0ACK", free));

    bench.dead.store(false, Ordering::Relaxed);
    let driver = bench.try_start(1, None).unwrap();
    let running = bench.free();
    drop(driver);
    assert_eq!(bench.free(), running, "a driver that is dropped keeps its memory");
    assert!(bench.translates(0), "and its SMMUs run on");
}

#[test]
fn a_shutdown_without_an_answer_is_an_error_and_keeps_the_memory() {
    /// Registers whose `CR0ACK` stays at the last value before `stuck`.
    #[derive(Clone)]
    struct Stuck(ModelRegisters, Arc<AtomicBool>);
    impl Registers for Stuck {
        fn read32(&self, offset: u32) -> u32 {
            let value = self.0.read32(offset);
            let stuck = self.1.load(Ordering::Relaxed) && offset == regs::CR0ACK.offset();
            if stuck { value | regs::cr0::SMMUEN } else { value }
        }
        fn write32(&self, offset: u32, value: u32) {
            self.0.write32(offset, value);
        }
        fn read64(&self, offset: u32) -> u64 {
            self.0.read64(offset)
        }
        fn write64(&self, offset: u32, value: u64) {
            self.0.write64(offset, value);
        }
    }
    type Platform = Parts<Stuck, Pool<HeapWindow>, TestClock, parking_lot::RawMutex, VmTables>;

    let model = Model::new(8 << 20, &[Profile::default(), Profile::default()]);
    let (pool, stuck) = (Pool::new(model.window()), Arc::<AtomicBool>::default());
    let mut setup = Setup::<Platform>::new(pool.clone(), TestClock(Arc::default()), ());
    for n in 0..2 {
        let stuck = if n == 0 { Arc::clone(&stuck) } else { Arc::default() };
        let registers = Stuck(model.registers(n).unwrap(), stuck);
        setup.smmu(registers, SmmuOptions::default()).unwrap();
    }
    let driver = setup.start().unwrap();
    let running = pool.free_bytes();
    stuck.store(true, Ordering::Relaxed);
    let error = driver.shutdown().unwrap_err();
    assert!(error.to_string().starts_with("smmu0: CR0ACK"), "{error}");
    assert_eq!(pool.free_bytes(), running);
    let other = model.registers(1).unwrap().read32(regs::CR0ACK.offset());
    assert_eq!(other & regs::cr0::SMMUEN, 0, "the other SMMU is off all the same");
}

#[test]
fn a_virtual_queue_takes_what_it_accepts_and_is_stopped_at_the_end() {
    let profile = Profile { second_queue: Some(SecondQueue::Restricted), ..Profile::default() };
    let bench = Bench::new(&[profile]);
    let free = bench.free();
    let mut setup = bench.setup();
    let smmu = setup.smmu(bench.registers(0, None), SmmuOptions::default()).unwrap();
    let second = TestRegisters { model: bench.model.second_queue(0).unwrap(), dead: None };
    setup.virtual_queue(smmu, second.clone(), Opcodes::VCMDQ_GUEST).unwrap();
    let driver = setup.start().unwrap();
    bench.model.listen(0);
    let flush = Command::TlbiNhAsid { vmid: Default::default(), asid: Default::default() };
    let sink = driver.sink();
    let _proof = sink.run(smmu, &[flush]).unwrap();
    let _proof = sink.run(smmu, &[Command::CfgiAll]).unwrap();
    let sync = Command::SYNC.encode();
    let [main, virtual_queue] = bench.model.take_carried_out(0);
    assert_eq!(
        (main.as_slice(), virtual_queue.as_slice()),
        (&[Command::CfgiAll.encode(), sync][..], &[flush.encode(), sync][..],)
    );
    driver.shutdown().unwrap();
    assert_eq!(second.read32(regs::vcmdq::STATUS), 0);
    assert_eq!(bench.free(), free);
}

#[test]
fn wrong_numbers_are_typed_errors() {
    let bench = Bench::new(&[Profile::default()]);
    let mut setup = bench.setup();
    let unknown = |count| DriverError::UnknownSmmu { smmu: SmmuId(3), count };
    assert_eq!(setup.probed(SmmuId(3)).unwrap_err(), unknown(0));
    let smmu = setup.smmu(bench.registers(0, None), SmmuOptions::default()).unwrap();
    assert!(setup.probed(smmu).unwrap().caps.stage2);
    let second = bench.registers(0, None);
    assert_eq!(setup.virtual_queue(SmmuId(3), second, Opcodes::ALL).unwrap_err(), unknown(1));
    let driver = setup.start().unwrap();
    assert_eq!(driver.add_device(SmmuId(3), &[STREAM]).unwrap_err(), unknown(1));
    assert_eq!(driver.drain_events(SmmuId(3), |_| ()).unwrap_err(), unknown(1));
    assert_eq!(driver.handle_gerror(SmmuId(3)).unwrap_err(), unknown(1));
    let quiet = driver.handle_gerror(smmu).unwrap();
    assert_eq!(quiet.command, None);
    assert!(quiet.others.is_some_and(|gerror| gerror.is_empty()));
    driver.shutdown().unwrap();
}
