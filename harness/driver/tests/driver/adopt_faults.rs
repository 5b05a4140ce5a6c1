//! Faults that wait in the queues of an old owner reach the new one, and are answered once.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use super::bench::{Bench, GUEST_PAGE, STREAM, Tested, VmTables};
use smmu_driver::smmu_attach::DeviceConfig;
use smmu_driver::smmu_attach::adopt::{Keep, LiveStream};
use smmu_driver::smmu_attach::faults::Answered;
use smmu_driver::smmu_types::seam::RegistersExt;
use smmu_driver::smmu_types::{
    Iova, PrgIndex, PriRecord, PriResponse, RequestedAccess, SmmuId, StallModel, regs,
};
use smmu_driver::{
    AdoptPlan, Device, Driver, FaultHandler, PageRequestGroup, SmmuOptions, Stalled,
};
use smmu_model::{DmaProgress, Profile, StallId};

const SMMU: SmmuId = SmmuId(0);

#[derive(Default)]
struct Keeper {
    stalls: Vec<Stalled<Tested>>,
    groups: Vec<PageRequestGroup<Tested>>,
}

impl FaultHandler<Tested> for Keeper {
    fn stalled(&mut self, _: Device<Tested>, fault: Stalled<Tested>) {
        self.stalls.push(fault);
    }
    fn page_group(&mut self, _: Device<Tested>, group: PageRequestGroup<Tested>) {
        self.groups.push(group);
    }
}

fn options(pri_queue_log2: Option<u8>) -> SmmuOptions {
    SmmuOptions { pri_queue_log2, ..SmmuOptions::default() }
}

fn config() -> DeviceConfig {
    DeviceConfig::default().with_stalls()
}

fn request(group: u16) -> PriRecord {
    let access = RequestedAccess { write: true, ..RequestedAccess::default() };
    let group = PrgIndex::new(group).unwrap();
    PriRecord::new(STREAM, group, Iova(GUEST_PAGE), access).unwrap().with_last()
}

/// An old owner vanishes while a write of its device stalls and a group of page requests waits.
fn left() -> (Bench, StallId) {
    let profile = Profile { stall_model: StallModel::Both, pri: true, ..Profile::default() };
    let bench = Bench::new(&[profile]);
    let mut setup = bench.setup();
    setup.smmu(bench.registers(0, None), options(Some(3))).unwrap();
    let driver = setup.start().unwrap();
    let device = driver.add_device_with(SMMU, &[STREAM], config()).unwrap();
    let domain = driver.domain(VmTables::new(&bench.memory)).unwrap();
    assert_eq!(device.attach(&domain).unwrap().settled(), Ok(()));
    let DmaProgress::Stalled(id) = bench.model.start_write32(0, STREAM, GUEST_PAGE, 7) else {
        panic!("no stall");
    };
    bench.model.page_request(0, request(5));
    std::mem::forget((driver, device, domain));
    (bench, id)
}

fn adopt(bench: &Bench, options: SmmuOptions) -> Driver<Tested> {
    let mut setup = bench.setup();
    setup.smmu(bench.registers(0, None), options).unwrap();
    let mut keep = |_, _: &LiveStream<'_>| Keep::Running;
    setup.adopt(AdoptPlan::new(&bench.memory, &mut keep)).unwrap()
}

#[test]
fn a_stall_and_a_group_that_wait_are_answered_by_the_new_owner() {
    let (bench, stalled) = left();
    let driver = adopt(&bench, options(Some(3)));
    assert!(matches!(bench.model.progress(0, stalled), DmaProgress::Stalled(_)));
    let _device = driver.add_device_with(SMMU, &[STREAM], config()).unwrap();
    let mut keeper = Keeper::default();
    driver.handle_events(SMMU, &mut keeper).unwrap();
    driver.handle_page_requests(SMMU, &mut keeper).unwrap();
    let (fault, group) = (keeper.stalls.pop().unwrap(), keeper.groups.pop().unwrap());
    assert_eq!((keeper.stalls.len(), keeper.groups.len()), (0, 0));
    assert_eq!((fault.abort(), group.success()), (Answered::Sent, Answered::Sent));
    bench.model.settle(0);
    assert_eq!(bench.model.progress(0, stalled), DmaProgress::Refused);
    let responses: Vec<_> = bench.model.take_page_responses(0);
    let answers: Vec<_> = responses.iter().map(|r| (r.group.get(), r.response)).collect();
    assert_eq!(answers, [(5, PriResponse::Success)]);
    assert_eq!(bench.model.unanswered(), []);
    assert_eq!(bench.model.take_hazards(), []);
    driver.shutdown().unwrap();
}

#[test]
fn without_a_pri_queue_of_the_driver_the_smmu_answers_itself() {
    let (bench, _) = left();
    let driver = adopt(&bench, options(None));
    let enabled = bench.registers(0, None).read(regs::CR0);
    assert_eq!(enabled & regs::cr0::PRIQEN, 0);
    let _before = bench.model.take_page_responses(0);
    bench.model.page_request(0, request(6));
    let responses = bench.model.take_page_responses(0);
    let answers: Vec<_> = responses.iter().map(|r| (r.group.get(), r.response)).collect();
    assert_eq!(answers, [(6, PriResponse::Failure)]);
    driver.shutdown().unwrap();
}
