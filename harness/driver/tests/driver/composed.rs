//! The composed driver on the model: start, failed start, unmap, and the memory that stays.
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::bench::{Bench, GUEST_PAGE, STREAM, TestClock, TestRegisters, VmTables};
use rstest::rstest;
use smmu_driver::smmu_attach::Outcome;
use smmu_driver::smmu_cmdq::{Opcodes, SyncBy};
use smmu_driver::smmu_hw_mmio::BringupError;
use smmu_driver::smmu_types::pool::{HeapWindow, Pool};
use smmu_driver::smmu_types::range::Extent;
use smmu_driver::smmu_types::regs;
use smmu_driver::smmu_types::seam::{
    CommandSink, DmaBlock, DmaLayout, DmaMemory, Registers, SinkError,
};
use smmu_driver::smmu_types::{Command, EventKind, Granule, Leaf, MsiAttributes, SmmuId};
use smmu_driver::{DriverError, Parts, Setup, SmmuOptions};
use smmu_model::{Model, ModelRegisters, Profile, SecondQueue};

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
    let second = TestRegisters::of(bench.model.second_queue(0).unwrap());
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

/// A way to complete a `CMD_SYNC` that the SMMU lacks would end each wait late, or never.
#[rstest]
#[case::msi(Profile::default(), SyncBy::Msi(MsiAttributes::WRITE_BACK), Some("MSIs (IDR0.MSI)"))]
#[case::msi_not_snooped(
    Profile { msi: true, coherent: false, ..Profile::default() },
    SyncBy::Msi(MsiAttributes::WRITE_BACK),
    Some("coherent access (IDR0.COHACC)")
)]
#[case::msi_snooped(
    Profile { msi: true, ..Profile::default() },
    SyncBy::Msi(MsiAttributes::WRITE_BACK),
    None
)]
#[case::event(Profile::default(), SyncBy::Event, Some("events (IDR0.SEV)"))]
#[case::event_sent(Profile { sev: true, ..Profile::default() }, SyncBy::Event, None)]
#[case::polling(Profile::default(), SyncBy::Polling, None)]
fn a_completion_that_the_smmu_lacks_is_refused(
    #[case] profile: Profile,
    #[case] sync_by: SyncBy,
    #[case] lacks: Option<&'static str>,
) {
    let bench = Bench::new(&[profile]);
    let options = SmmuOptions { sync_by: Some(sync_by), ..SmmuOptions::default() };
    let added = bench.setup().smmu(bench.registers(0, None), options);
    let refused = lacks.map(|lacks| DriverError::SyncBy { smmu: SmmuId(0), lacks });
    assert_eq!(added.err(), refused);
}
