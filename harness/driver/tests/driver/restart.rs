//! An SMMU that lost its state comes up again over the same tables.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::bench::{
    Bench, Composition, GUEST_PAGE, STREAM, TestRegisters, Tested, TestedHazard, VmTables,
};
use rstest::rstest;
use smmu_driver::smmu_attach::Outcome;
use smmu_driver::smmu_cmdq::Opcodes;
use smmu_driver::smmu_hw_mmio::BringupError;
use smmu_driver::smmu_types::range::Extent;
use smmu_driver::smmu_types::seam::{CommandSink, DmaBlock, DmaLayout, DmaMemory, SinkError};
use smmu_driver::smmu_types::{Command, Granule, Leaf, SmmuId, StreamId, regs};
use smmu_driver::{Device, Domain, Driver, DriverError, SmmuOptions};
use smmu_model::{InjectedFault, Profile, SecondQueue};

const SMMU: SmmuId = SmmuId(0);

/// A driver with one device, whose guest page is mapped.
struct Guest<P: Composition = Tested> {
    driver: Driver<P>,
    device: Device<P>,
    domain: Domain<P>,
}

impl Guest {
    fn new(bench: &Bench, dead: Option<u32>) -> Self {
        Guest::of(bench, dead)
    }
}

impl<P: Composition> Guest<P> {
    fn of(bench: &Bench, dead: Option<u32>) -> Self {
        let driver = bench.try_start_of(1, dead).unwrap();
        let domain = driver.domain(VmTables::new(&bench.memory)).unwrap();
        let device = driver.add_device(SMMU, &[STREAM]).unwrap();
        assert_eq!(device.attach(&domain), Ok(Outcome::Done));
        Guest { driver, device, domain }
    }

    fn invalidate(&self) -> Result<(), SinkError> {
        let extent = Extent::range(GUEST_PAGE, 4096, Granule::K4, Leaf::Last);
        self.domain.invalidate(extent).map_err(|error| error.first)
    }

    /// The device reaches the page while it is mapped, and not after an unmap.
    fn works(&self, bench: &Bench) {
        let page = bench.memory.allocate(DmaLayout::new(4096, 4096).unwrap()).unwrap();
        let write = || bench.model.dma_write32(0, STREAM, GUEST_PAGE, 7);
        self.domain.tables().map(Some(page.address()));
        assert!(write().is_ok());
        self.domain.tables().map(None);
        assert_eq!(self.invalidate(), Ok(()));
        assert!(write().is_err(), "the unmapped page is out of reach");
        let drained = self.driver.drain_events(SMMU, |_| ()).unwrap();
        assert_eq!((drained.records, drained.overflowed), (1, false));
        assert_eq!(bench.model.take_hazards(), []);
        assert_eq!(bench.model.audit(), []);
    }

    fn end(self) {
        let _ = self.device.block();
        assert!(self.domain.into_tables().is_ok());
        self.driver.shutdown().unwrap();
    }
}

#[rstest]
#[case::behind_a_lock(resets_and_restarts::<Tested>)]
#[case::in_hazard_slots(resets_and_restarts::<TestedHazard>)]
fn a_reset_smmu_translates_again_and_its_unmaps_reach_it(#[case] test: fn()) {
    test();
}

fn resets_and_restarts<P: Composition>() {
    let bench = Bench::new(&[Profile::default()]);
    let free = bench.free();
    {
        let guest = Guest::<P>::of(&bench, None);
        guest.works(&bench);
        let running = bench.free();
        bench.model.reset();
        assert!(!bench.translates(0));
        // The driver notices the reset at its next command.
        assert!(matches!(guest.invalidate(), Err(SinkError::Lost { .. })));
        assert!(matches!(guest.invalidate(), Err(SinkError::Lost { .. })));
        for _ in 0..3 {
            guest.driver.restart(SMMU).unwrap();
            assert_eq!(guest.driver.smmus()[0].attach().settle(), Ok(()));
            assert_eq!(bench.free(), running, "the old queues' memory is back");
            guest.works(&bench);
        }
        guest.end();
    }
    assert_eq!(bench.free(), free);
}

#[test]
fn what_a_stopped_smmu_did_not_confirm_is_settled_after_the_restart() {
    let bench = Bench::new(&[Profile::default()]);
    let guest = Guest::new(&bench, None);
    bench.model.inject(0, InjectedFault::CommandQueueStuck);
    assert!(matches!(guest.device.block(), Outcome::Unconfirmed(SinkError::Timeout { .. })));
    bench.model.reset();
    bench.model.mend(0);
    guest.driver.restart(SMMU).unwrap();
    assert!(!guest.device.is_settled());
    assert_eq!(guest.driver.smmus()[0].attach().settle(), Ok(()));
    assert!(guest.device.is_settled() && guest.domain.array().is_empty());
    assert_eq!(guest.driver.smmus()[0].attach().vmids().stats().in_use, 0);
    assert_eq!(guest.device.attach(&guest.domain), Ok(Outcome::Done));
    guest.works(&bench);
    guest.end();
}

#[test]
fn a_ticket_of_the_old_queue_proves_nothing() {
    let bench = Bench::new(&[Profile::default()]);
    let guest = Guest::new(&bench, None);
    let sink = guest.driver.sink();
    let ticket = sink.issue(SMMU, &[Command::CfgiAll]).unwrap();
    let pushed = sink.push(SMMU, None, &[Command::CfgiAll]).unwrap();
    guest.driver.restart(SMMU).unwrap();
    let lost = SinkError::Lost { smmu: SMMU, cons: 0 };
    assert_eq!(sink.wait(ticket).map(drop), Err(lost));
    assert_eq!(sink.prove(pushed, &[]).map(drop), Err(lost));
    guest.works(&bench);
    guest.end();
}

#[rstest]
#[case::behind_a_lock(callers_hold_up_a_restart::<Tested>)]
#[case::in_hazard_slots(callers_hold_up_a_restart::<TestedHazard>)]
fn a_restart_waits_for_the_callers_of_the_old_queue_and_can_be_repeated(#[case] test: fn()) {
    test();
}

fn callers_hold_up_a_restart<P: Composition>() {
    let bench = Bench::new(&[Profile::default()]);
    let guest = Guest::<P>::of(&bench, None);
    let main = &guest.driver.sink().get(SMMU).unwrap().inner().queues()[0];
    let refused = main.with(|_| guest.driver.restart(SMMU)).unwrap();
    assert!(matches!(refused, Err(DriverError::QueueInUse { smmu: SMMU, .. })), "{refused:?}");
    guest.driver.restart(SMMU).unwrap();
    // A caller that one restart has not outwaited holds up the next one as well.
    let refused = main.with(|_| [(); 2].map(|()| guest.driver.restart(SMMU))).unwrap();
    for refused in refused {
        assert!(matches!(refused, Err(DriverError::QueueInUse { smmu: SMMU, .. })), "{refused:?}");
    }
    // The SMMU is off, aborts, and has no queue.
    assert!(!bench.translates(0));
    assert!(bench.model.dma_write32(0, STREAM, 0x4000_0000, 1).is_err());
    assert!(matches!(guest.invalidate(), Err(SinkError::Lost { .. })));
    assert!(main.with(|_| ()).is_none());
    let restarting = DriverError::Restarting { smmu: SMMU };
    assert_eq!(guest.driver.drain_events(SMMU, |_| ()), Err(restarting));
    assert_eq!(guest.driver.handle_gerror(SMMU).unwrap().others, None);
    guest.driver.restart(SMMU).unwrap();
    guest.works(&bench);
    guest.end();
}

#[test]
fn an_allocation_of_a_restart_that_fails_changes_nothing() {
    let bench = Bench::new(&[Profile::default()]);
    let guest = Guest::new(&bench, None);
    let free = bench.free();
    for n in 1.. {
        assert!(n < 10, "a restart does not need {n} blocks");
        bench.memory.countdown.store(n, Ordering::Relaxed);
        match guest.driver.restart(SMMU) {
            Ok(()) => {
                assert!(n > 2, "a command queue and an event queue");
                break;
            }
            Err(error) => assert!(matches!(error, DriverError::Dma { .. }), "{error}"),
        }
        assert_eq!(bench.free(), free);
        guest.works(&bench);
    }
    bench.memory.countdown.store(0, Ordering::Relaxed);
    guest.end();
}

#[test]
fn a_restart_that_the_smmu_does_not_acknowledge_can_be_repeated() {
    let bench = Bench::new(&[Profile::default()]);
    let free = bench.free();
    for (register, offset) in
        [("GBPA", regs::GBPA.offset()), ("CMDQ_CONS", regs::CMDQ_CONS.offset())]
    {
        {
            let guest = Guest::new(&bench, Some(offset));
            bench.dead.store(true, Ordering::Relaxed);
            let error = guest.driver.restart(SMMU).unwrap_err();
            let DriverError::Bringup { smmu: SMMU, error } = error else { panic!("{error:?}") };
            match error {
                BringupError::NoAck { register: "GBPA", .. } => assert_eq!(register, "GBPA"),
                BringupError::Invalidate(SinkError::Timeout { .. }) => {
                    assert_eq!(register, "CMDQ_CONS");
                    assert!(!bench.translates(0));
                }
                other => panic!("{other:?}"),
            }
            bench.dead.store(false, Ordering::Relaxed);
            guest.driver.restart(SMMU).unwrap();
            guest.works(&bench);
            guest.end();
        }
        assert_eq!(bench.free(), free, "{register}");
    }
}

#[test]
fn a_shutdown_after_a_failed_restart_gives_all_memory_back() {
    let bench = Bench::new(&[Profile::default()]);
    let free = bench.free();
    {
        let guest = Guest::new(&bench, Some(regs::CMDQ_CONS.offset()));
        bench.dead.store(true, Ordering::Relaxed);
        assert!(guest.driver.restart(SMMU).is_err());
        let Guest { driver, device, domain } = guest;
        driver.shutdown().unwrap();
        assert_eq!(device.block(), Outcome::Done);
        assert!(domain.into_tables().is_ok());
    }
    assert_eq!(bench.free(), free);
}

#[test]
fn a_restart_brings_virtual_queues_up_too() {
    let profile = Profile { second_queue: Some(SecondQueue::Restricted), ..Profile::default() };
    let bench = Bench::new(&[profile]);
    let free = bench.free();
    let mut setup = bench.setup();
    let smmu = setup.smmu(bench.registers(0, None), SmmuOptions::default()).unwrap();
    let second = TestRegisters::of(bench.model.second_queue(0).unwrap());
    setup.virtual_queue(smmu, second, Opcodes::VCMDQ_GUEST).unwrap();
    let driver = setup.start().unwrap();
    bench.model.reset();
    driver.restart(smmu).unwrap();
    bench.model.listen(0);
    let flush = Command::TlbiNhAsid { vmid: Default::default(), asid: Default::default() };
    let _proof = driver.sink().run(smmu, &[flush]).unwrap();
    let [_, virtual_queue] = bench.model.take_carried_out(0);
    assert_eq!(virtual_queue, [flush.encode(), Command::SYNC.encode()]);
    assert_eq!(
        driver.restart(SmmuId(3)),
        Err(DriverError::UnknownSmmu { smmu: SmmuId(3), count: 1 })
    );
    driver.shutdown().unwrap();
    assert_eq!(bench.free(), free);
}

/// Threads attach, block and invalidate while the SMMU is reset and restarted again and again. Their
/// calls may fail, and afterwards all is as it should be.
#[rstest]
#[case::behind_a_lock(restarts_beside_others::<Tested>)]
#[case::in_hazard_slots(restarts_beside_others::<TestedHazard>)]
fn restarts_beside_attaches_and_unmaps_leave_nothing_behind(#[case] test: fn()) {
    test();
}

fn restarts_beside_others<P: Composition>() {
    let bench = Bench::new(&[Profile::default()]);
    let free = bench.free();
    {
        let guest = Guest::<P>::of(&bench, None);
        let other = guest.driver.add_device(SMMU, &[StreamId(0x10)]).unwrap();
        let (done, refused) = (AtomicBool::new(false), AtomicU32::new(0));
        let mut wrong = Vec::new();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let attached = other.attach(&guest.domain).is_ok_and(|o| o.settled().is_ok());
                    let blocked = other.block().settled().is_ok();
                    refused.fetch_add(u32::from(!attached || !blocked), Ordering::Relaxed);
                }
            });
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    refused.fetch_add(guest.invalidate().is_err().into(), Ordering::Relaxed);
                }
            });
            // On a busy machine the threads may need more rounds to meet one.
            for round in 0..1_000_000 {
                if round >= 200 && refused.load(Ordering::Relaxed) > 0 {
                    break;
                }
                if round % 2 == 0 {
                    bench.model.reset();
                }
                std::thread::yield_now();
                let restarted = guest.driver.restart(SMMU);
                // The threads share one clock, so the waits of one let the time of another run out.
                let late = BringupError::Invalidate(SinkError::timeout(SMMU));
                let right = match restarted {
                    Ok(()) | Err(DriverError::QueueInUse { .. }) => true,
                    Err(DriverError::Bringup { error, .. }) => {
                        core::mem::discriminant(&error) == core::mem::discriminant(&late)
                    }
                    Err(_) => false,
                };
                wrong.extend((!right).then_some(restarted));
            }
            done.store(true, Ordering::Relaxed);
        });
        assert_eq!(wrong, []);
        assert!(refused.load(Ordering::Relaxed) > 0, "no call met a restart");
        guest.driver.restart(SMMU).unwrap();
        assert_eq!(guest.driver.smmus()[0].attach().settle(), Ok(()));
        assert_eq!(other.block().settled(), Ok(()));
        guest.works(&bench);
        assert_eq!(guest.driver.smmus()[0].attach().vmids().stats().in_use, 1);
        guest.end();
    }
    assert_eq!(bench.free(), free);
}
