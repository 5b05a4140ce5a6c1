//! The driver learns of events, page requests and errors by MSI, and keeps its MSIs through a reset, a
//! sleep and a change of owners.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::atomic::Ordering;

use super::adopt::{Left, OTHER, keep};
use super::bench::{Bench, GUEST_PAGE, STREAM, TestBlock, Tested};
use rstest::rstest;
use smmu_driver::adopt::AdoptPlan;
use smmu_driver::smmu_attach::Attachment;
use smmu_driver::smmu_hw_mmio::{BringupError, Interrupts, Msi, Msis, probe};
use smmu_driver::smmu_types::seam::{DmaBlock, DmaLayout, DmaMemory, RegistersExt};
use smmu_driver::smmu_types::{
    Iova, MsiAttributes, PhysAddr, PrgIndex, PriRecord, RequestedAccess, SmmuId, regs,
};
use smmu_driver::{Driver, DriverError, FaultHandler, SmmuOptions};
use smmu_model::Profile;

const SMMU: SmmuId = SmmuId(0);

fn profile() -> Profile {
    Profile { msi: true, pri: true, ..Profile::default() }
}

/// Memory that MSIs are written to: a word for each, in the order of [`Msis`].
struct Doorbell(TestBlock);

impl Doorbell {
    fn new(bench: &Bench) -> Self {
        Doorbell(bench.memory.allocate(DmaLayout::new(4096, 4096).unwrap()).unwrap())
    }

    fn msi(&self, index: u64) -> Option<Msi> {
        let to = PhysAddr(self.0.address().0 + 8 * index);
        Some(Msi::new(to, index as u32 + 1, MsiAttributes::WRITE_BACK).unwrap())
    }

    fn msis(&self) -> Msis {
        Msis { gerror: self.msi(0), events: self.msi(1), page_requests: self.msi(2) }
    }

    /// The data that came since the last call.
    fn rings(&self) -> [u64; 3] {
        [0, 1, 2].map(|n| self.0.words()[n].swap(0, Ordering::Relaxed))
    }
}

fn options(bench: &Bench, msis: Msis) -> SmmuOptions {
    let caps = probe(&bench.registers(0, None)).unwrap().caps;
    let interrupts = Interrupts::msis(&caps, msis).unwrap();
    SmmuOptions { interrupts, pri_queue_log2: Some(3), ..SmmuOptions::default() }
}

fn start(bench: &Bench, options: SmmuOptions) -> Result<Driver<Tested>, DriverError> {
    let mut setup = bench.setup();
    setup.smmu(bench.registers(0, None), options).unwrap();
    setup.start()
}

fn fault(bench: &Bench) {
    assert!(bench.model.dma_write32(0, STREAM, GUEST_PAGE, 7).is_err());
}

fn ask(bench: &Bench, group: u16) {
    let access = RequestedAccess { read: true, ..RequestedAccess::default() };
    let group = PrgIndex::new(group).unwrap();
    let request = PriRecord::new(STREAM, group, Iova(GUEST_PAGE), access).unwrap();
    bench.model.page_request(0, request.with_last());
}

struct Quiet;

impl FaultHandler<Tested> for Quiet {}

/// An event and a page request each ring once, and the driver finds them.
fn rings_for_each(bench: &Bench, driver: &Driver<Tested>, doorbell: &Doorbell) {
    for group in 0..3 {
        fault(bench);
        assert_eq!(doorbell.rings(), [0, 2, 0]);
        ask(bench, group);
        assert_eq!(doorbell.rings(), [0, 0, 3]);
        assert_eq!(driver.drain_events(SMMU, |_| ()).unwrap().records, 1);
        assert_eq!(driver.handle_page_requests(SMMU, &mut Quiet).unwrap().records, 1);
    }
    assert_eq!(bench.model.take_interrupts(), [], "no wire");
    assert_eq!(bench.model.take_hazards(), []);
}

type Change = fn(&Bench, &Driver<Tested>);

const NOTHING: Change = |_, _| ();

const RESTART: Change = |bench, driver| {
    bench.model.reset();
    driver.restart(SMMU).unwrap();
};

const SLEEP: Change = |_, driver| {
    driver.suspend(SMMU, |_| ()).unwrap();
    driver.resume(SMMU).unwrap();
};

const SLEEP_WITHOUT_POWER: Change = |bench, driver| {
    driver.suspend(SMMU, |_| ()).unwrap();
    bench.model.reset();
    driver.resume(SMMU).unwrap();
};

#[rstest]
#[case::a_start(NOTHING)]
#[case::a_restart(RESTART)]
#[case::a_sleep(SLEEP)]
#[case::a_sleep_without_power(SLEEP_WITHOUT_POWER)]
fn they_ring_after(#[case] change: Change) {
    let bench = Bench::new(&[profile()]);
    let doorbell = Doorbell::new(&bench);
    let driver = start(&bench, options(&bench, doorbell.msis())).unwrap();
    change(&bench, &driver);
    assert_eq!(doorbell.rings(), [0; 3]);
    rings_for_each(&bench, &driver, &doorbell);
    driver.shutdown().unwrap();
    fault(&bench);
    assert_eq!(doorbell.rings(), [0; 3], "an SMMU that is off sends none");
}

#[test]
fn one_that_aborts_is_reported_and_its_event_is_there() {
    let bench = Bench::new(&[profile()]);
    let doorbell = Doorbell::new(&bench);
    let nowhere = Msi::new(PhysAddr(0x1000), 9, MsiAttributes::DEVICE).unwrap();
    let msis = Msis { events: Some(nowhere), page_requests: None, ..doorbell.msis() };
    let driver = start(&bench, options(&bench, msis)).unwrap();
    for _ in 0..2 {
        fault(&bench);
        assert_eq!(doorbell.rings(), [1, 0, 0], "an MSI of the global error");
        let report = driver.handle_gerror(SMMU).unwrap();
        assert_eq!(report.others.unwrap().to_string(), "MSI_EVENTQ_ABT_ERR");
        assert_eq!(driver.drain_events(SMMU, |_| ()).unwrap().records, 1);
    }
    assert_eq!(bench.model.take_hazards(), []);
    driver.shutdown().unwrap();
}

#[test]
fn an_smmu_without_them_is_not_driven() {
    let bench = Bench::new(&[profile(), Profile { msi: false, ..profile() }]);
    let doorbell = Doorbell::new(&bench);
    // The first SMMU has MSIs. Its abilities are not those of the second one.
    let options = options(&bench, doorbell.msis());
    let mut setup = bench.setup();
    setup.smmu(bench.registers(1, None), options).unwrap();
    let wrote = doorbell.0.address().0;
    let error = BringupError::NotKept { register: "GERROR_IRQ_CFG0", wrote, read: 0 };
    assert_eq!(setup.start().err(), Some(DriverError::Bringup { smmu: SMMU, error }));
    assert_eq!(bench.model.registers(1).unwrap().read(regs::CR0), 0);
}

/// The old owner's MSIs end with its command queue; a record that it has not read rings for nobody.
#[test]
fn a_new_owner_has_its_own() {
    let old_rings = std::cell::OnceCell::new();
    let left = Left::of(profile(), |bench| {
        let old = Doorbell::new(bench);
        let chosen = options(bench, old.msis());
        assert!(old_rings.set(old).is_ok());
        chosen
    });
    let (bench, old) = (&left.bench, old_rings.get().unwrap());
    assert!(bench.model.dma_write32(0, OTHER, 0x10_0000, 7).is_err());
    assert_eq!(old.rings(), [0, 2, 0]);
    let new = Doorbell::new(bench);
    let mut keep = keep;
    let plan = AdoptPlan::new(&bench.memory, &mut keep);
    let driver = left.setup_with(options(bench, new.msis()), None).adopt(plan).unwrap();
    assert_eq!((old.rings(), new.rings()), ([0; 3], [0; 3]));
    assert_eq!(driver.drain_events(SMMU, |_| ()).unwrap().records, 1, "the old owner's event");
    assert!(bench.model.dma_write32(0, STREAM, 0x10_0000, 7).is_err());
    assert_eq!((old.rings(), new.rings()), ([0; 3], [0, 2, 0]));
    assert_eq!(driver.drain_events(SMMU, |_| ()).unwrap().records, 1);
    let device = driver.add_device(SMMU, &[STREAM]).unwrap();
    assert!(matches!(device.attachment(), Attachment::Foreign));
    let _ = device.block();
    driver.shutdown().unwrap();
    assert_eq!(bench.model.take_hazards(), []);
}
