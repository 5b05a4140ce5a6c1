//! An SMMU sleeps, its tables change meanwhile, and it wakes over them; and the state it is left in.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::atomic::Ordering;

use super::bench::{Bench, Composition, GUEST_PAGE, STREAM, Tested, TestedHazard, VmTables};
use rstest::rstest;
use smmu_driver::smmu_attach::Outcome;
use smmu_driver::smmu_hw_mmio::{BringupError, ExitPolicy, Quirk, Quirks};
use smmu_driver::smmu_types::range::Extent;
use smmu_driver::smmu_types::seam::{
    CommandSink, DmaBlock, DmaLayout, DmaMemory, Registers, RegistersExt, SinkError,
};
use smmu_driver::smmu_types::{AtcScope, AtcSpan, Command, Granule, Leaf, SmmuId, StreamId, regs};
use smmu_driver::{Device, Domain, Driver, DriverError, SmmuOptions};
use smmu_model::{InjectedFault, Profile, SecondQueue};

const SMMU: SmmuId = SmmuId(0);
const OTHER: StreamId = StreamId(0x10);

/// A driver with one attached device.
struct Sleeper<P: Composition = Tested> {
    driver: Driver<P>,
    device: Device<P>,
    domain: Domain<P>,
}

impl<P: Composition> Sleeper<P> {
    fn new(bench: &Bench) -> Self {
        Sleeper::with(bench, SmmuOptions::default())
    }

    fn with(bench: &Bench, options: SmmuOptions) -> Self {
        let mut setup = bench.setup_of::<P>();
        setup.smmu(bench.registers(0, None), options).unwrap();
        let driver = setup.start().unwrap();
        let domain = driver.domain(VmTables::new(&bench.memory)).unwrap();
        let device = driver.add_device(SMMU, &[STREAM]).unwrap();
        assert_eq!(device.attach(&domain), Ok(Outcome::Done));
        Sleeper { driver, device, domain }
    }

    fn invalidate(&self) -> Result<(), SinkError> {
        let extent = Extent::range(GUEST_PAGE, 4096, Granule::K4, Leaf::Last);
        self.domain.invalidate(extent).map_err(|error| error.first)
    }

    fn end(self) {
        let _ = self.device.block();
        assert!(self.domain.into_tables().is_ok());
        self.driver.shutdown().unwrap();
    }
}

fn quiet(bench: &Bench) {
    assert_eq!(bench.model.take_hazards(), []);
    assert_eq!(bench.model.audit(), []);
}

#[rstest]
#[case::power_stays_behind_a_lock(sleeps::<Tested>, false)]
#[case::power_is_lost_behind_a_lock(sleeps::<Tested>, true)]
#[case::power_stays_in_hazard_slots(sleeps::<TestedHazard>, false)]
#[case::power_is_lost_in_hazard_slots(sleeps::<TestedHazard>, true)]
fn an_unmap_in_the_sleep_holds_after_the_wake(#[case] test: fn(bool), #[case] lost: bool) {
    test(lost);
}

fn sleeps<P: Composition>(lost: bool) {
    let bench = Bench::new(&[Profile::default()]);
    let free = bench.free();
    {
        let sleeper = Sleeper::<P>::new(&bench);
        let running = bench.free();
        let page = bench.memory.allocate(DmaLayout::new(4096, 4096).unwrap()).unwrap();
        let write = || bench.model.dma_write32(0, STREAM, GUEST_PAGE, 7);
        for _ in 0..3 {
            sleeper.domain.tables().map(Some(page.address()));
            assert!(write().is_ok(), "and the SMMU has the translation in its TLB");
            let mut events = 0;
            sleeper.driver.suspend(SMMU, |_| events += 1).unwrap();
            assert_eq!(events, 0);
            assert!(!bench.translates(0));
            assert!(write().is_err(), "a transaction aborts");
            // The unmap needs no command, and sends none.
            sleeper.domain.tables().map(None);
            assert_eq!(sleeper.invalidate(), Ok(()));
            if lost {
                bench.model.reset();
            }
            sleeper.driver.resume(SMMU).unwrap();
            assert!(bench.translates(0));
            assert!(write().is_err(), "the unmapped page is out of reach");
            assert_eq!(sleeper.driver.drain_events(SMMU, |_| ()).unwrap().records, 1);
            quiet(&bench);
            assert_eq!(bench.free() + 4096, running, "the old queues' memory is back");
        }
        // A mapping from before the sleep is there after it.
        sleeper.domain.tables().map(Some(page.address()));
        sleeper.driver.suspend(SMMU, |_| ()).unwrap();
        sleeper.driver.resume(SMMU).unwrap();
        assert!(write().is_ok());
        sleeper.domain.tables().map(None);
        assert_eq!(sleeper.invalidate(), Ok(()));
        quiet(&bench);
        sleeper.end();
        drop(page);
    }
    assert_eq!(bench.free(), free);
}

#[test]
fn attaches_and_detaches_in_the_sleep_hold_after_the_wake() {
    let bench = Bench::new(&[Profile::default()]);
    let sleeper = Sleeper::<Tested>::new(&bench);
    let page = bench.memory.allocate(DmaLayout::new(4096, 4096).unwrap()).unwrap();
    sleeper.domain.tables().map(Some(page.address()));
    assert!(bench.model.dma_write32(0, STREAM, GUEST_PAGE, 7).is_ok());
    sleeper.driver.suspend(SMMU, |_| ()).unwrap();
    // The last user leaves: the flush is owed, and the tag is free.
    assert!(matches!(sleeper.device.block(), Outcome::Freed(_)));
    let other = sleeper.driver.add_device(SMMU, &[OTHER]).unwrap();
    assert_eq!(other.attach(&sleeper.domain), Ok(Outcome::Done));
    bench.model.reset();
    sleeper.driver.resume(SMMU).unwrap();
    assert!(bench.model.dma_write32(0, STREAM, GUEST_PAGE, 7).is_err());
    assert!(bench.model.dma_write32(0, OTHER, GUEST_PAGE, 7).is_ok());
    assert!(matches!(other.block(), Outcome::Freed(_)));
    quiet(&bench);
    assert_eq!(sleeper.driver.smmus()[0].attach().vmids().stats().in_use, 0);
    sleeper.end();
}

#[test]
fn only_what_the_wake_pays_for_succeeds_in_the_sleep() {
    let bench = Bench::new(&[Profile::default()]);
    let sleeper = Sleeper::<Tested>::new(&bench);
    let sink = sleeper.driver.sink();
    let (scope, span) = (AtcScope::Substream, AtcSpan::EVERYTHING);
    let atc = Command::AtcInv { stream: STREAM, substream: None, scope, span };
    // Queued before the sleep, and waited for in it.
    let payable = sink.issue(SMMU, &[Command::CfgiAll]).unwrap();
    let answer = Command::StallTerm { stream: STREAM };
    let unpayable = sink.issue(SMMU, &[Command::CfgiAll, answer]).unwrap();
    let pushed = sink.push(SMMU, None, &[Command::CfgiAll]).unwrap();
    sleeper.driver.suspend(SMMU, |_| ()).unwrap();
    let asleep = SinkError::Asleep { smmu: SMMU };
    assert_eq!(sink.wait(payable).unwrap().smmu(), SMMU);
    assert_eq!(sink.wait(unpayable).map(drop), Err(asleep));
    assert_eq!(sink.run(SMMU, &[Command::CfgiAll, atc]).map(drop), Err(asleep));
    let proven = sink.prove(pushed, &[Command::TlbiNsnhAll]).unwrap();
    assert_eq!(sink.wait(proven).unwrap().smmu(), SMMU);
    // Owed in the sleep, and continued after it.
    let owed = sink.issue(SMMU, &[Command::CfgiAll]).unwrap();
    let pushed = sink.push(SMMU, None, &[Command::CfgiAll]).unwrap();
    sleeper.driver.resume(SMMU).unwrap();
    assert_eq!(sink.wait(owed).unwrap().smmu(), SMMU);
    let proven = sink.prove(pushed, &[Command::TlbiNsnhAll]).unwrap();
    assert_eq!(sink.wait(proven).unwrap().smmu(), SMMU);
    sleeper.end();
}

#[test]
fn a_ticket_from_before_the_sleep_is_lost_after_the_wake() {
    let bench = Bench::new(&[Profile::default()]);
    let sleeper = Sleeper::<Tested>::new(&bench);
    let sink = sleeper.driver.sink();
    let ticket = sink.issue(SMMU, &[Command::CfgiAll]).unwrap();
    sleeper.driver.suspend(SMMU, |_| ()).unwrap();
    sleeper.driver.resume(SMMU).unwrap();
    assert_eq!(sink.wait(ticket).map(drop), Err(SinkError::Lost { smmu: SMMU, cons: 0 }));
    sleeper.end();
}

#[test]
fn events_from_before_the_sleep_are_handed_over() {
    let bench = Bench::new(&[Profile::default()]);
    let sleeper = Sleeper::<Tested>::new(&bench);
    assert!(bench.model.dma_write32(0, STREAM, GUEST_PAGE, 7).is_err());
    let mut events = Vec::new();
    sleeper.driver.suspend(SMMU, |event| events.push(event)).unwrap();
    assert_eq!(events.len(), 1);
    let refused = sleeper.driver.drain_events(SMMU, |_| ()).map(drop);
    assert_eq!(refused, Err(DriverError::Restarting { smmu: SMMU }));
    assert_eq!(sleeper.driver.handle_gerror(SMMU).unwrap().command, None);
    sleeper.driver.resume(SMMU).unwrap();
    assert_eq!(sleeper.driver.drain_events(SMMU, |_| ()).unwrap().records, 0);
    sleeper.end();
}

#[test]
fn the_msi_settings_of_the_integrator_come_back() {
    let bench = Bench::new(&[Profile { msi: true, ..Profile::default() }]);
    let sleeper = Sleeper::<Tested>::new(&bench);
    let registers = bench.registers(0, None);
    registers.write32(regs::IRQ_CTRL.offset(), 0);
    registers.write(regs::EVENTQ_IRQ_CFG0, 0x4000_0100);
    registers.write(regs::EVENTQ_IRQ_CFG1, 0x55);
    registers.write(regs::EVENTQ_IRQ_CFG2, 0x1);
    registers.write32(regs::IRQ_CTRL.offset(), 0b100);
    sleeper.driver.suspend(SMMU, |_| ()).unwrap();
    bench.model.reset();
    assert_eq!(registers.read(regs::EVENTQ_IRQ_CFG0), 0, "the model loses it");
    sleeper.driver.resume(SMMU).unwrap();
    assert_eq!(registers.read(regs::EVENTQ_IRQ_CFG0), 0x4000_0100);
    assert_eq!(registers.read(regs::EVENTQ_IRQ_CFG1), 0x55);
    assert_eq!(registers.read(regs::EVENTQ_IRQ_CFG2), 0x1);
    assert_eq!(registers.read(regs::IRQ_CTRL), 0b100);
    sleeper.end();
}

#[test]
fn a_sleep_and_a_wake_need_each_other() {
    let bench = Bench::new(&[Profile::default()]);
    let sleeper = Sleeper::<Tested>::new(&bench);
    assert_eq!(sleeper.driver.resume(SMMU), Err(DriverError::Awake { smmu: SMMU }));
    sleeper.driver.suspend(SMMU, |_| ()).unwrap();
    let again = sleeper.driver.suspend(SMMU, |_| ());
    assert_eq!(again, Err(DriverError::Asleep { smmu: SMMU }));
    sleeper.driver.resume(SMMU).unwrap();
    assert_eq!(sleeper.driver.resume(SMMU), Err(DriverError::Awake { smmu: SMMU }));
    let unknown = DriverError::UnknownSmmu { smmu: SmmuId(1), count: 1 };
    assert_eq!(sleeper.driver.suspend(SmmuId(1), |_| ()), Err(unknown));
    sleeper.end();
}

#[rstest]
#[case::restart_wakes_as_well(true)]
#[case::shutdown_touches_no_register(false)]
fn a_sleep_ends_otherwise(#[case] restart: bool) {
    let bench = Bench::new(&[Profile::default()]);
    let free = bench.free();
    {
        let sleeper = Sleeper::<Tested>::new(&bench);
        sleeper.driver.suspend(SMMU, |_| ()).unwrap();
        bench.model.reset();
        if restart {
            sleeper.driver.restart(SMMU).unwrap();
            assert_eq!(sleeper.driver.resume(SMMU), Err(DriverError::Awake { smmu: SMMU }));
        }
        sleeper.end();
        // After the reset GBPA is 0 unless the driver wrote it.
        let gbpa = bench.registers(0, None).read(regs::GBPA);
        assert_eq!(gbpa & 1 << 20 != 0, restart);
    }
    assert_eq!(bench.free(), free);
}

#[test]
fn every_lack_of_memory_leaves_it_as_it_was() {
    let bench = Bench::new(&[Profile::default()]);
    let sleeper = Sleeper::<Tested>::new(&bench);
    sleeper.driver.suspend(SMMU, |_| ()).unwrap();
    let mut failures = 0;
    for nth in 1.. {
        bench.memory.countdown.store(nth, Ordering::Relaxed);
        match sleeper.driver.resume(SMMU) {
            Ok(()) => break,
            Err(DriverError::Dma { .. }) => failures += 1,
            Err(other) => panic!("{other}"),
        }
        assert_eq!(sleeper.invalidate(), Ok(()), "it still sleeps");
    }
    bench.memory.countdown.store(0, Ordering::Relaxed);
    assert_eq!(failures, 2, "a command queue and an event queue");
    assert_eq!(sleeper.invalidate(), Ok(()));
    sleeper.end();
}

#[test]
fn an_smmu_that_does_not_flush_does_not_sleep_and_a_restart_helps() {
    let bench = Bench::new(&[Profile::default()]);
    let sleeper = Sleeper::<Tested>::new(&bench);
    bench.model.inject(0, InjectedFault::CommandQueueStuck);
    let error = sleeper.driver.suspend(SMMU, |_| ()).unwrap_err();
    let stuck = matches!(
        error,
        DriverError::Bringup { error: BringupError::Invalidate(SinkError::Timeout { .. }), .. }
    );
    assert!(stuck, "{error}");
    // Nothing is owed: an unmap is no success.
    assert!(matches!(sleeper.invalidate(), Err(SinkError::Timeout { .. })));
    assert_eq!(sleeper.driver.resume(SMMU), Err(DriverError::Awake { smmu: SMMU }));
    bench.model.mend(0);
    bench.model.reset();
    sleeper.driver.restart(SMMU).unwrap();
    assert_eq!(sleeper.invalidate(), Ok(()));
    sleeper.end();
}

#[test]
fn a_caller_in_the_queue_holds_up_the_sleep_and_nothing_is_lost() {
    let bench = Bench::new(&[Profile::default()]);
    let sleeper = Sleeper::<Tested>::new(&bench);
    let main = &sleeper.driver.sink().get(SMMU).unwrap().inner().queues()[0];
    let refused = main.with(|_| sleeper.driver.suspend(SMMU, |_| ())).unwrap();
    assert!(matches!(refused, Err(DriverError::QueueInUse { .. })), "{refused:?}");
    // It translates nothing, and its caches are empty.
    assert!(!bench.translates(0));
    assert_eq!(sleeper.invalidate(), Ok(()));
    sleeper.driver.restart(SMMU).unwrap();
    assert_eq!(sleeper.invalidate(), Ok(()));
    quiet(&bench);
    sleeper.end();
}

#[rstest]
#[case::aborts(ExitPolicy::Abort)]
#[case::bypasses(ExitPolicy::Bypass)]
fn a_shutdown_leaves_the_smmu_as_chosen(#[case] exit: ExitPolicy) {
    let bench = Bench::new(&[Profile::default()]);
    let sleeper = Sleeper::<Tested>::with(&bench, SmmuOptions { exit, ..SmmuOptions::default() });
    let page = bench.memory.allocate(DmaLayout::new(4096, 4096).unwrap()).unwrap();
    sleeper.end();
    let passes = bench.model.dma_write32(0, STREAM, page.address().0, 7).is_ok();
    assert_eq!(passes, exit == ExitPolicy::Bypass);
    let registers = bench.registers(0, None);
    assert_eq!(registers.read(regs::CR0), 0);
    assert_eq!(registers.read(regs::GBPA) & 1 << 20 == 0, passes);
}

#[test]
fn invalidations_are_repeated_where_firmware_says_so() {
    let commands = |quirks| {
        let profile = Profile { second_queue: Some(SecondQueue::Restricted), ..Profile::default() };
        let bench = Bench::new(&[profile]);
        let sleeper =
            Sleeper::<Tested>::with(&bench, SmmuOptions { quirks, ..SmmuOptions::default() });
        let producer = || bench.registers(0, None).read(regs::CMDQ_PROD) & 0xff;
        let before = producer();
        assert_eq!(sleeper.invalidate(), Ok(()));
        let sent = producer() - before;
        sleeper.end();
        sent
    };
    // A TLBI and its CMD_SYNC.
    assert_eq!(commands(Quirks::NONE), 2);
    assert_eq!(commands(Quirks::NONE.with(Quirk::RepeatInvalidations)), 4);
}
