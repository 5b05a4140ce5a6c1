//! Stalled transactions of substreams through the composed driver, on the model.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::time::Duration;

use rstest::rstest;
use smmu_driver::smmu_attach::faults::Answered;
use smmu_driver::smmu_attach::{Attachment, DeviceConfig};
use smmu_driver::smmu_types::seam::{DmaBlock, DmaLayout, DmaMemory};
use smmu_driver::smmu_types::{EventKind, StallModel, SubstreamId};
use smmu_driver::{Device, Driver, DriverError, SmmuOptions, Stalled, Substream};
use smmu_model::{DmaProgress, InjectedFault, Profile, StallId};

use super::bench::{Bench, GUEST_PAGE, STREAM, Tested, VmTables};
use super::faults::{Keeper, SMMU};

/// A device whose transactions stall, with three attached substreams and transactions of no
/// substream. Each has a domain of its own.
struct World {
    bench: Bench,
    driver: Driver<Tested>,
    device: Device<Tested>,
    substreams: [Substream<Tested>; 3],
}

/// In one leaf of a two-level table of CDs, and in another one.
const IDS: [u32; 3] = [1, 2, 0x80];

fn id(substream: u32) -> SubstreamId {
    SubstreamId::new(substream).unwrap()
}

impl World {
    fn new(options: SmmuOptions) -> Self {
        let substream_bits = 8;
        let profile =
            Profile { stall_model: StallModel::Both, substream_bits, ..Profile::default() };
        let bench = Bench::new(&[profile]);
        let mut setup = bench.setup();
        setup.smmu(bench.registers(0, None), options).unwrap();
        let driver = setup.start().unwrap();
        let config = DeviceConfig::default().with_stalls().with_substream_bits(substream_bits);
        let device = driver.add_device_with(SMMU, &[STREAM], config).unwrap();
        let domain = || driver.domain(VmTables::stage1(&bench.memory)).unwrap();
        assert_eq!(device.attach(&domain()).unwrap().settled(), Ok(()));
        let substreams = IDS.map(|n| {
            let substream = device.substream(id(n)).unwrap();
            assert_eq!(substream.attach(&domain()).unwrap().settled(), Ok(()));
            substream
        });
        World { bench, driver, device, substreams }
    }

    /// A write of the device, which must stall.
    fn write(&self, substream: Option<u32>, page: u64) -> StallId {
        let plain = self.bench.model.device(0, STREAM);
        let sender = substream.map_or(plain.clone(), |n| plain.with_substream(id(n)));
        match sender.start_write32(GUEST_PAGE + page * 4096, 7) {
            DmaProgress::Stalled(id) => id,
            other => panic!("{other:?}"),
        }
    }

    fn progress(&self, id: StallId) -> DmaProgress {
        self.bench.model.settle(0);
        self.bench.model.progress(0, id)
    }

    fn stalls(&self, id: StallId) -> bool {
        matches!(self.progress(id), DmaProgress::Stalled(_))
    }

    /// Maps the page of a substream.
    fn map(&self, substream: &Substream<Tested>) {
        let page = self.bench.memory.allocate(DmaLayout::new(4096, 4096).unwrap()).unwrap();
        let Attachment::Domain(domain) = substream.attachment() else {
            panic!("the substream is attached")
        };
        domain.tables().map(Some(page.address()));
        // Nothing may reach it once the test has dropped it; the model looks at what is freed.
        core::mem::forget(page);
    }

    /// Nothing waits, and no answer was wrong.
    fn end(self) {
        self.bench.model.settle(0);
        assert_eq!(self.device.block_all().settled(), Ok(()));
        assert_eq!(self.bench.model.unanswered(), []);
        assert_eq!(self.bench.model.take_hazards(), []);
        self.driver.shutdown().unwrap();
    }
}

/// The same address stalls for each substream, with a tag of its own.
#[test]
fn a_stall_reaches_its_handler_by_device_and_substream() {
    let world = World::new(SmmuOptions::default());
    let all = [None, Some(IDS[0]), Some(IDS[1]), Some(IDS[2])];
    let writes = all.map(|substream| world.write(substream, 0));
    let mut keeper = Keeper::default();
    assert_eq!(world.driver.handle_events(SMMU, &mut keeper).unwrap().handed, 4);
    let mut tags = Vec::new();
    for ((of, fault), substream) in keeper.stalls.iter().zip(all) {
        assert!(of.is_same(&world.device));
        assert_eq!(fault.substream(), substream.map(id));
        assert_eq!(fault.record().kind(), EventKind::F_TRANSLATION);
        tags.push(fault.record().stall_tag());
    }
    tags.sort_unstable();
    tags.dedup();
    assert_eq!(tags.len(), 4);
    // The page of one substream is no page of another.
    world.map(&world.substreams[1]);
    let [none, first, second, third] = <[_; 4]>::try_from(keeper.stalls).unwrap();
    assert_eq!(second.1.retry(), Answered::Sent);
    assert_eq!(world.progress(writes[2]), DmaProgress::Written);
    assert!(world.stalls(writes[1]) && world.stalls(writes[0]) && world.stalls(writes[3]));
    assert_eq!(first.1.retry(), Answered::Sent);
    assert!(world.stalls(writes[1]), "its domain has no such page: it stalls anew");
    assert_eq!(third.1.abort(), Answered::Sent);
    drop(none);
    assert_eq!([writes[0], writes[3]].map(|id| world.progress(id)), [DmaProgress::Refused; 2]);
    let mut again = Keeper::default();
    assert_eq!(world.driver.handle_events(SMMU, &mut again).unwrap().handed, 1);
    assert_eq!(again.stalls[0].1.substream(), Some(id(IDS[0])));
    drop(again);
    assert_eq!(world.progress(writes[1]), DmaProgress::Refused);
    world.end();
}

/// A substream leaves while its writes wait: with its handler, and in a queue that nobody has read.
/// Each is answered once, and those of the others wait on.
#[rstest]
fn a_substream_that_leaves_has_its_faults_answered(#[values(0, 1, 2)] leaves: usize) {
    let world = World::new(SmmuOptions::default());
    let leaver = &world.substreams[leaves];
    let held = [None, Some(IDS[0]), Some(IDS[1]), Some(IDS[2])].map(|of| (of, world.write(of, 0)));
    let mut keeper = Keeper::default();
    world.driver.handle_events(SMMU, &mut keeper).unwrap();
    let unseen = world.write(Some(IDS[leaves]), 1);
    let other = world.write(None, 1);
    assert_eq!(leaver.block().settled(), Ok(()));
    let withdrawn = world.driver.withdraw_substream_faults(leaver, &mut keeper).unwrap();
    assert_eq!((withdrawn.answered, withdrawn.left.is_none()), (2, true));
    let refused = |id| world.progress(id) == DmaProgress::Refused;
    assert!(refused(unseen) && world.stalls(other));
    for (of, write) in held {
        assert_eq!(refused(write), of == Some(IDS[leaves]), "{of:?}");
    }
    // A second call finds nothing, and late tokens send nothing.
    let again = world.driver.withdraw_substream_faults(leaver, &mut keeper).unwrap();
    assert_eq!(again.answered, 0);
    for (_, fault) in keeper.stalls {
        let of_leaver = fault.substream() == Some(leaver.id());
        assert_eq!(fault.abort() == Answered::Withdrawn, of_leaver);
    }
    world.end();
}

/// A handler retries after the substream has left, and before the withdrawal: the write sees the new
/// entry and ends.
#[test]
fn a_retry_behind_a_block_ends_the_write() {
    let world = World::new(SmmuOptions::default());
    let leaver = &world.substreams[0];
    let write = world.write(Some(IDS[0]), 0);
    let mut keeper = Keeper::default();
    world.driver.handle_events(SMMU, &mut keeper).unwrap();
    assert_eq!(leaver.block().settled(), Ok(()));
    let (_, fault) = keeper.stalls.pop().unwrap();
    assert_eq!(fault.retry(), Answered::Sent);
    assert_eq!(world.progress(write), DmaProgress::Refused);
    let withdrawn = world.driver.withdraw_substream_faults(leaver, &mut keeper).unwrap();
    assert_eq!(withdrawn.answered, 0);
    let kinds: Vec<_> = keeper.events.iter().map(|(event, _)| event.kind()).collect();
    assert_eq!(kinds, [EventKind::C_BAD_CD]);
    world.end();
}

/// The command queue takes no answer of the withdrawal: each is kept, and sent once later.
#[test]
fn answers_of_a_substream_that_leaves_are_kept() {
    let world = World::new(SmmuOptions {
        command_queue_log2: 1,
        timeout: Duration::from_millis(5),
        ..SmmuOptions::default()
    });
    let leaver = &world.substreams[1];
    let writes: Vec<_> = (0..6).map(|page| world.write(Some(IDS[1]), page)).collect();
    let theirs = world.write(Some(IDS[0]), 0);
    let mut keeper = Keeper::default();
    world.driver.handle_events(SMMU, &mut keeper).unwrap();
    assert_eq!(leaver.block().settled(), Ok(()));
    world.bench.model.inject(0, InjectedFault::CommandQueueStuck);
    let failed = world.driver.withdraw_substream_faults(leaver, &mut keeper).unwrap_err();
    assert!(matches!(failed, DriverError::Answer { smmu: SMMU, .. }), "{failed}");
    let faults = world.driver.smmu(SMMU).unwrap().faults();
    let left = faults.outstanding();
    assert_eq!(left.waiting, 1, "that of the other substream");
    assert!(left.kept > 0 && left.kept <= 6);
    // The tokens are late.
    let of_leaver = |fault: &Stalled<Tested>| fault.substream() == Some(id(IDS[1]));
    let (late, mut others): (Vec<_>, Vec<_>) =
        keeper.stalls.drain(..).partition(|(_, fault)| of_leaver(fault));
    assert!(late.into_iter().all(|(_, fault)| fault.retry() == Answered::Withdrawn));
    world.bench.model.mend(0);
    for _ in 0..6 {
        world.bench.model.settle(0);
        let _ = world.driver.withdraw_substream_faults(leaver, &mut keeper);
    }
    assert!(faults.outstanding_of(|fault| fault.substream == Some(id(IDS[1]))).is_none());
    assert!(writes.iter().all(|write| world.progress(*write) == DmaProgress::Refused));
    assert!(world.stalls(theirs), "of another substream");
    let (_, fault) = others.pop().unwrap();
    assert_eq!(fault.abort(), Answered::Sent);
    assert_eq!(world.progress(theirs), DmaProgress::Refused);
    world.end();
}
