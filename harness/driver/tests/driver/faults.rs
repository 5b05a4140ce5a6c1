//! Stalled transactions and page requests through the composed driver, on the model.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::time::Duration;

use super::bench::{Bench, GUEST_PAGE, STREAM, Tested, VmTables};
use rstest::rstest;
use smmu_driver::smmu_attach::DeviceConfig;
use smmu_driver::smmu_attach::faults::{Answered, SieveConfig, StormConfig};
use smmu_driver::smmu_types::seam::{DmaBlock, DmaLayout, DmaMemory};
use smmu_driver::smmu_types::{
    EventRecord, Iova, PrgIndex, PriRecord, PriResponse, RequestedAccess, SmmuId, StallModel,
    StreamId,
};
use smmu_driver::{
    Device, Driver, DriverError, FaultHandler, PageRequestGroup, SmmuOptions, Stalled,
};
use smmu_model::{DmaProgress, InjectedFault, PageResponse, Profile, StallId};

pub(crate) const SMMU: SmmuId = SmmuId(0);
const OTHER: StreamId = StreamId(0x20);

/// Keeps everything.
#[derive(Default)]
pub(crate) struct Keeper {
    pub(crate) events: Vec<(EventRecord, u64)>,
    pub(crate) stalls: Vec<(Device<Tested>, Stalled<Tested>)>,
    requests: Vec<PriRecord>,
    groups: Vec<(Device<Tested>, PageRequestGroup<Tested>)>,
    lost: u32,
}

impl FaultHandler<Tested> for Keeper {
    fn event(&mut self, record: EventRecord, left_out: u64) {
        self.events.push((record, left_out));
    }
    fn stalled(&mut self, device: Device<Tested>, fault: Stalled<Tested>) {
        self.stalls.push((device, fault));
    }
    fn page_request(&mut self, _: Device<Tested>, record: PriRecord) {
        self.requests.push(record);
    }
    fn page_group(&mut self, device: Device<Tested>, group: PageRequestGroup<Tested>) {
        self.groups.push((device, group));
    }
    fn groups_lost(&mut self) {
        self.lost += 1;
    }
}

/// A handler that answers nothing.
struct Forgetful;
impl FaultHandler<Tested> for Forgetful {}

struct World {
    bench: Bench,
    driver: Driver<Tested>,
}

impl World {
    fn new(options: SmmuOptions) -> Self {
        let profile = Profile { stall_model: StallModel::Both, pri: true, ..Profile::default() };
        let bench = Bench::new(&[profile]);
        let mut setup = bench.setup();
        setup.smmu(bench.registers(0, None), options).unwrap();
        let driver = setup.start().unwrap();
        World { bench, driver }
    }

    fn usual() -> Self {
        World::new(options())
    }

    /// A device with stalls, attached to a domain of its own.
    fn device(&self, stream: StreamId) -> Device<Tested> {
        let config = DeviceConfig::default().with_stalls();
        let device = self.driver.add_device_with(SMMU, &[stream], config).unwrap();
        let domain = self.driver.domain(VmTables::new(&self.bench.memory)).unwrap();
        assert_eq!(device.attach(&domain).unwrap().settled(), Ok(()));
        device
    }

    fn write(&self, stream: StreamId, page: u64) -> StallId {
        match self.bench.model.start_write32(0, stream, GUEST_PAGE + page * 4096, 7) {
            DmaProgress::Stalled(id) => id,
            other => panic!("{other:?}"),
        }
    }

    fn progress(&self, id: StallId) -> DmaProgress {
        self.bench.model.settle(0);
        self.bench.model.progress(0, id)
    }

    fn asks(&self, stream: StreamId, group: u16) {
        self.bench.model.page_request(0, request(stream, group).with_last());
    }

    fn responses(&self) -> Vec<(StreamId, u16, PriResponse)> {
        self.bench.model.settle(0);
        let responses = self.bench.model.take_page_responses(0).into_iter();
        responses
            .map(|PageResponse { stream, group, response, .. }| (stream, group.get(), response))
            .collect()
    }

    /// Nothing waits, and no answer was wrong.
    fn end(self) {
        self.bench.model.settle(0);
        assert_eq!(self.bench.model.unanswered(), []);
        assert_eq!(self.bench.model.take_hazards(), []);
        self.driver.shutdown().unwrap();
    }
}

fn options() -> SmmuOptions {
    SmmuOptions { pri_queue_log2: Some(2), event_queue_log2: 3, ..SmmuOptions::default() }
}

fn request(stream: StreamId, group: u16) -> PriRecord {
    let access = RequestedAccess { write: true, ..RequestedAccess::default() };
    PriRecord::new(stream, PrgIndex::new(group).unwrap(), Iova(0x7000), access).unwrap()
}

#[test]
fn a_stall_reaches_its_handler_by_device_and_is_retried() {
    let world = World::usual();
    let (device, other) = (world.device(STREAM), world.device(OTHER));
    let (first, second) = (world.write(OTHER, 0), world.write(STREAM, 0));
    let mut keeper = Keeper::default();
    let found = world.driver.handle_events(SMMU, &mut keeper).unwrap();
    assert_eq!((found.records, found.handed, found.refused), (2, 2, 0));
    let [(of_first, fault), (of_second, kept)] = <[_; 2]>::try_from(keeper.stalls).unwrap();
    assert!(of_first.is_same(&other) && of_second.is_same(&device));
    // The handler maps the page, then lets the write go on.
    let page = world.bench.memory.allocate(DmaLayout::new(4096, 4096).unwrap()).unwrap();
    let smmu_driver::smmu_attach::Attachment::Domain(domain) = other.attachment() else {
        panic!("the device is attached")
    };
    domain.tables().map(Some(page.address()));
    assert_eq!(fault.retry(), Answered::Sent);
    assert_eq!(world.progress(first), DmaProgress::Written);
    assert_eq!(kept.abort(), Answered::Sent);
    assert_eq!(world.progress(second), DmaProgress::Refused);
    drop((domain, other.block(), device.block()));
    world.end();
}

#[test]
fn groups_reach_their_handler_and_are_answered() {
    let world = World::usual();
    let device = world.device(STREAM);
    world.bench.model.page_request(0, request(STREAM, 4));
    world.asks(STREAM, 4);
    let mut keeper = Keeper::default();
    let found = world.driver.handle_page_requests(SMMU, &mut keeper).unwrap();
    assert_eq!((found.records, found.handed), (2, 1));
    assert_eq!(keeper.requests, [request(STREAM, 4)]);
    let (of, group) = keeper.groups.pop().unwrap();
    assert!(of.is_same(&device));
    assert_eq!(group.success(), Answered::Sent);
    assert_eq!(world.responses(), [(STREAM, 4, PriResponse::Success)]);
    world.end();
}

#[test]
fn a_handler_that_answers_nothing_refuses() {
    let world = World::usual();
    let _device = world.device(STREAM);
    let id = world.write(STREAM, 0);
    world.asks(STREAM, 1);
    assert_eq!(world.driver.handle_events(SMMU, &mut Forgetful).unwrap().handed, 1);
    assert_eq!(world.driver.handle_page_requests(SMMU, &mut Forgetful).unwrap().handed, 1);
    assert_eq!(world.progress(id), DmaProgress::Refused);
    assert_eq!(world.responses(), [(STREAM, 1, PriResponse::Invalid)]);
    world.end();
}

/// No device owns the stream: nothing else could answer.
#[test]
fn a_fault_without_a_device_is_answered_by_the_driver() {
    let world = World::usual();
    world.asks(OTHER, 1);
    let device = world.device(STREAM);
    let id = world.write(STREAM, 0);
    assert_eq!(device.block().settled(), Ok(()));
    world.driver.smmu(SMMU).unwrap().attach().remove_device(&device).unwrap();
    let mut keeper = Keeper::default();
    let found = world.driver.handle_events(SMMU, &mut keeper).unwrap();
    assert_eq!((found.handed, found.refused), (0, 1));
    let found = world.driver.handle_page_requests(SMMU, &mut keeper).unwrap();
    assert_eq!((found.handed, found.refused), (0, 1));
    assert_eq!(world.progress(id), DmaProgress::Refused);
    assert_eq!(world.responses(), [(OTHER, 1, PriResponse::Invalid)]);
    world.end();
}

#[test]
fn a_device_that_leaves_has_all_its_faults_answered() {
    let world = World::usual();
    let (device, other) = (world.device(STREAM), world.device(OTHER));
    let (held, theirs) = (world.write(STREAM, 0), world.write(OTHER, 0));
    let mut keeper = Keeper::default();
    world.driver.handle_events(SMMU, &mut keeper).unwrap();
    // More comes, and nobody has looked when the device leaves.
    let unseen = world.write(STREAM, 1);
    world.asks(STREAM, 1);
    world.asks(OTHER, 1);
    assert_eq!(device.block().settled(), Ok(()));
    let withdrawn = world.driver.withdraw_faults(&device, &mut keeper).unwrap();
    assert_eq!(withdrawn.answered, 3);
    assert!(withdrawn.left.is_none());
    assert_eq!([held, unseen].map(|id| world.progress(id)), [DmaProgress::Refused; 2]);
    assert_eq!(world.responses(), [(STREAM, 1, PriResponse::Invalid)]);
    assert!(matches!(world.progress(theirs), DmaProgress::Stalled(_)), "of another device");
    for (of, fault) in keeper.stalls {
        let late = fault.retry();
        assert_eq!(late == Answered::Withdrawn, of.is_same(&device));
    }
    for (of, group) in keeper.groups {
        assert_eq!(group.success() == Answered::Withdrawn, of.is_same(&device));
    }
    // The retry of the other device's write found no page, and stalls again.
    // It is carried out before the STE changes, as the model judges each access by the STE in memory.
    assert!(matches!(world.progress(theirs), DmaProgress::Stalled(_)));
    assert_eq!(other.block().settled(), Ok(()));
    assert_eq!(world.driver.withdraw_faults(&other, &mut Keeper::default()).unwrap().answered, 1);
    world.end();
}

/// A command queue that is full takes no answer; each one is sent later, once.
#[rstest]
fn answers_that_the_queue_does_not_take_are_sent_later(#[values(false, true)] drops: bool) {
    let world = World::new(SmmuOptions {
        command_queue_log2: 1,
        timeout: Duration::from_millis(5),
        ..options()
    });
    let device = world.device(STREAM);
    let ids: Vec<_> = (0..6).map(|page| world.write(STREAM, page)).collect();
    let mut keeper = Keeper::default();
    world.driver.handle_events(SMMU, &mut keeper).unwrap();
    world.bench.model.inject(0, InjectedFault::CommandQueueStuck);
    let ends: Vec<_> = keeper
        .stalls
        .drain(..)
        .map(|(_, fault)| {
            if drops {
                drop(fault);
                return None;
            }
            Some(fault.abort())
        })
        .collect();
    if !drops {
        assert!(ends.iter().any(|end| matches!(end, Some(Answered::Kept(_)))), "{ends:?}");
    }
    let faults = world.driver.smmu(SMMU).unwrap().faults();
    let kept = faults.outstanding().kept;
    assert!(kept > 0 && faults.outstanding().waiting == 0);
    world.bench.model.mend(0);
    world.bench.model.settle(0);
    // The next look at the event queue sends them, as far as the queue has room.
    for _ in 0..kept {
        let _ = world.driver.handle_events(SMMU, &mut keeper).unwrap();
        world.bench.model.settle(0);
    }
    assert!(faults.outstanding().is_none());
    assert!(ids.iter().all(|id| world.progress(*id) == DmaProgress::Refused));
    assert_eq!(device.block().settled(), Ok(()));
    world.end();
}

/// No slot, and a queue that takes no answer: the record stays in the event queue.
#[test]
fn a_record_that_cannot_be_answered_stays_in_its_queue() {
    let world = World::new(SmmuOptions {
        waiting_faults: 1,
        command_queue_log2: 1,
        timeout: Duration::from_millis(5),
        ..options()
    });
    let device = world.device(STREAM);
    let ids: Vec<_> = (0..8).map(|page| world.write(STREAM, page)).collect();
    world.bench.model.inject(0, InjectedFault::CommandQueueStuck);
    let mut keeper = Keeper::default();
    let error = world.driver.handle_events(SMMU, &mut keeper).unwrap_err();
    assert!(matches!(error, DriverError::Answer { smmu: SMMU, .. }), "{error}");
    assert_eq!(keeper.stalls.len(), 1);
    world.bench.model.mend(0);
    for _ in 0..8 {
        world.bench.model.settle(0);
        let _ = world.driver.handle_events(SMMU, &mut keeper);
    }
    drop(keeper);
    assert!(ids.iter().all(|id| world.progress(*id) == DmaProgress::Refused));
    assert_eq!(device.block().settled(), Ok(()));
    world.end();
}

#[test]
fn a_restart_ends_stalls_and_keeps_groups() {
    let world = World::usual();
    let device = world.device(STREAM);
    let id = world.write(STREAM, 0);
    world.asks(STREAM, 1);
    let mut keeper = Keeper::default();
    world.driver.handle_events(SMMU, &mut keeper).unwrap();
    world.driver.handle_page_requests(SMMU, &mut keeper).unwrap();
    world.bench.model.reset_smmu(0);
    assert_eq!(world.progress(id), DmaProgress::Refused);
    world.driver.restart(SMMU).unwrap();
    // The SMMU uses the tag again: the old token must not answer the new transaction.
    let next = world.write(STREAM, 0);
    let (_, old) = keeper.stalls.pop().unwrap();
    assert_eq!(old.retry(), Answered::Withdrawn);
    assert!(matches!(world.progress(next), DmaProgress::Stalled(_)));
    let (_, group) = keeper.groups.pop().unwrap();
    assert_eq!(group.success(), Answered::Sent);
    assert_eq!(world.responses(), [(STREAM, 1, PriResponse::Success)]);
    // Both queues work.
    world.asks(STREAM, 1);
    world.driver.handle_page_requests(SMMU, &mut Forgetful).unwrap();
    world.driver.handle_events(SMMU, &mut Forgetful).unwrap();
    assert_eq!(world.progress(next), DmaProgress::Refused);
    assert_eq!(device.block().settled(), Ok(()));
    world.end();
}

#[test]
fn an_overflow_of_the_pri_queue_is_told_and_loses_no_answer() {
    let world = World::usual();
    let device = world.device(STREAM);
    for group in 0..3 {
        world.asks(STREAM, group);
    }
    // Group 9 begins in the queue and ends behind the overflow.
    world.bench.model.page_request(0, request(STREAM, 9));
    world.asks(STREAM, 9);
    assert_eq!(world.responses(), [(STREAM, 9, PriResponse::Success)]);
    let mut keeper = Keeper::default();
    let found = world.driver.handle_page_requests(SMMU, &mut keeper).unwrap();
    assert_eq!((found.records, found.handed, found.overflowed), (4, 3, true));
    assert_eq!(keeper.lost, 1);
    world.asks(STREAM, 9);
    let found = world.driver.handle_page_requests(SMMU, &mut keeper).unwrap();
    assert_eq!((found.handed, found.overflowed, keeper.lost), (1, false, 1));
    let groups: Vec<_> = keeper.groups.iter().map(|(_, g)| g.record().group().get()).collect();
    assert_eq!(groups, [0, 1, 2, 9]);
    assert!(keeper.groups.into_iter().all(|(_, group)| group.invalid().is_sent()));
    assert_eq!(world.responses().len(), 4);
    assert_eq!(device.block().settled(), Ok(()));
    world.end();
}

#[test]
fn a_storm_is_thinned_out_and_the_queue_stays_on() {
    let storm = StormConfig { window: Duration::from_secs(1), burst: 2 };
    let is_spurious = |record: &EventRecord| record.address() == Iova(GUEST_PAGE + 4096);
    let sieve = SieveConfig { storm, is_spurious };
    let world = World::new(SmmuOptions { sieve, ..options() });
    // A device without stalls.
    let device = world.driver.add_device(SMMU, &[STREAM]).unwrap();
    let domain = world.driver.domain(VmTables::new(&world.bench.memory)).unwrap();
    assert_eq!(device.attach(&domain).unwrap().settled(), Ok(()));
    let (mut keeper, mut left_out) = (Keeper::default(), 0);
    for n in 0..1_000 {
        // Each third one is known noise.
        let page = if n % 3 == 0 { 4096 } else { 0 };
        assert!(world.bench.model.dma_write32(0, STREAM, GUEST_PAGE + page, 1).is_err());
        let found = world.driver.handle_events(SMMU, &mut keeper).unwrap();
        assert!(!found.overflowed);
        left_out += found.left_out;
    }
    assert_eq!((keeper.events.len(), left_out), (2, 998));
    drop(domain);
    assert!(device.block().freed().is_some());
    world.end();
}

#[test]
fn page_requests_need_a_queue() {
    let world = World::new(SmmuOptions::default());
    let error = world.driver.handle_page_requests(SMMU, &mut Forgetful).unwrap_err();
    assert_eq!(error, DriverError::NoPriQueue { smmu: SMMU });
    // The SMMU answers for a driver that did not ask for the queue.
    world.asks(STREAM, 1);
    assert_eq!(world.responses(), [(STREAM, 1, PriResponse::Failure)]);
    world.end();
}
