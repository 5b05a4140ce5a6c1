//! The driver under several threads at once, on the model.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use smmu_driver::smmu_types::range::Extent;
use smmu_driver::smmu_types::seam::{CommandSink, Registers, StdWait};
use smmu_driver::smmu_types::{Asid, Command, Granule, Leaf, StreamId, Vmid};

use super::*;
use crate::machine::{
    AtsPower, Backend, Clock, MachineDevice, MachineSmmu, MachineSpec, SecondQueueKind,
};
use crate::machine::{BackendError, DmaWriteOutcome};
use crate::mock::Mock;
use crate::page_tables::PAGE;
use crate::page_tables::Permission;
use crate::run::{RunOptions, setup};

const SCENARIO: &str = r#"
title = "threads"
needs = ["stage1", "several-smmus"]
pages = ["A"]
smmu = [{ name = "smmu0" }, { name = "smmu1" }]
device = [
    { name = "d0", smmu = "smmu0", stream = 0x08 },
    { name = "d1", smmu = "smmu0", stream = 0x10 },
    { name = "d2", smmu = "smmu1", stream = 0x900 },
]
domain = [{ name = "D", stage = "s1" }, { name = "E", stage = "s1" }]
step = [{ expect = { smmu = "smmu0", asids_in_use = 0 } }]
"#;

const IOVA: u64 = 0x10000;

/// Runs `test` on the SMMUs, devices and domains of a scenario, on a machine of this description.
fn with_rig(text: &str, spec: &MachineSpec, test: impl FnOnce(&mut Rig<'_>)) {
    let scenario = Scenario::parse("threads", "threads", text).unwrap();
    let machine: Arc<dyn Machine> = Mock.start(spec).unwrap().into();
    let recorder = Recorder::default();
    let options = RunOptions::default();
    let (driver, taps, early) = setup::start(&scenario, &machine, &recorder, options).unwrap();
    let driver = Arc::new(driver);
    let mut rig = Rig::new(&scenario, machine, recorder, options, driver, taps, early).unwrap();
    test(&mut rig);
}

/// One thread maps a page, unmaps it and invalidates, for ever. One thread for each device attaches
/// and detaches it, for ever. When an invalidation has returned, no device reaches the page.
#[test]
fn an_unmap_that_races_attaches_leaves_no_way_to_the_page() {
    const ROUNDS: u32 = 4000;
    let smmus = vec![MachineSmmu::default(); 2];
    let devices = [(0, 0x08), (0, 0x10), (1, 0x900)].map(|(smmu, stream)| MachineDevice {
        smmu,
        stream: StreamId(stream),
        ats: AtsPower::Off,
    });
    let spec = MachineSpec { smmus, devices: devices.to_vec(), ..MachineSpec::default() };
    with_rig(SCENARIO, &spec, |rig| race(rig, ROUNDS));
}

fn race(rig: &mut Rig<'_>, rounds: u32) {
    let Rig { devices, domains, machine, pages, .. } = rig;
    let (d, e) = (&domains["D"], &domains["E"]);
    let page = pages.address("A").unwrap();
    let (done, reached) = (AtomicBool::new(false), AtomicU32::new(0));
    let writes = [0, 1, 2].map(|device| DmaWrite::of(&**machine, device, IOVA).unwrap());
    let extent = Extent::range(IOVA, PAGE, Granule::K4, Leaf::Last).with_page_hint();
    std::thread::scope(|scope| {
        for (_, device) in devices.iter() {
            let done = &done;
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    for domain in [d, e, d] {
                        assert_eq!(device.attach(domain).unwrap().settled(), Ok(()));
                    }
                    assert_eq!(device.block().settled(), Ok(()));
                }
            });
        }
        // Ends the other threads also when an assertion fails.
        let _end = Defer(|| done.store(true, Ordering::Relaxed));
        let table = || d.tables().lock();
        for round in 0..rounds {
            table().map(IOVA, page, Permission::ReadWrite).unwrap();
            for (device, write) in writes.iter().enumerate() {
                pages.expect(write);
                machine.dma_write(device, IOVA).unwrap();
                if pages.reached(write) != Reached::Nothing {
                    reached.fetch_add(1, Ordering::Relaxed);
                }
            }
            table().unmap(IOVA).unwrap();
            d.invalidate(extent).unwrap();
            for (device, write) in writes.iter().enumerate() {
                pages.expect(write);
                machine.dma_write(device, IOVA).unwrap();
                assert_eq!(
                    pages.reached(write),
                    Reached::Nothing,
                    "round {round}, device {device}"
                );
            }
        }
    });
    // Without a DMA that lands now and then the test would prove nothing.
    assert!(reached.load(Ordering::Relaxed) > rounds / 20, "{reached:?} of {}", rounds * 3);
    assert!(d.array().is_empty() && e.array().is_empty());
}

/// The model, with an SMMU whose `CMDQ_CONS` never moves.
struct Stuck;

struct StuckMachine(Box<dyn Machine>);

struct StuckRegisters(Arc<dyn Registers + Send + Sync>);

impl Registers for StuckRegisters {
    fn read32(&self, offset: u32) -> u32 {
        if offset == smmu_driver::smmu_types::regs::CMDQ_CONS.offset() {
            0
        } else {
            self.0.read32(offset)
        }
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

impl Machine for StuckMachine {
    fn ram(&self) -> Ram {
        self.0.ram()
    }
    fn registers(&self, smmu: usize) -> Result<Arc<dyn Registers + Send + Sync>, BackendError> {
        Ok(Arc::new(StuckRegisters(self.0.registers(smmu)?)))
    }
    fn dma_write(&self, device: usize, iova: u64) -> Result<DmaWriteOutcome, BackendError> {
        self.0.dma_write(device, iova)
    }
    fn take_interrupts(&self) -> Vec<(usize, Irq)> {
        self.0.take_interrupts()
    }
    fn clock(&self) -> Clock {
        // That of the standard library, as of a machine that runs by itself.
        Clock::new(StdWait::new())
    }
    fn check(&self) -> Result<(), BackendError> {
        self.0.check()
    }
}

impl Backend for Stuck {
    fn name(&self) -> &'static str {
        "stuck"
    }
    fn describe(&self) -> String {
        "an SMMU that does not answer".into()
    }
    fn offers(&self, _need: crate::machine::Need) -> bool {
        true
    }
    fn start(&self, spec: &MachineSpec) -> Result<Box<dyn Machine>, BackendError> {
        Ok(Box::new(StuckMachine(Mock.start(spec)?)))
    }
}

#[test]
fn an_smmu_that_does_not_answer_is_a_timeout() {
    let scenario = Scenario::parse("threads", "threads", SCENARIO).unwrap();
    let report = crate::run::run(&scenario, &Stuck, RunOptions::default());
    let crate::run::RunOutcome::TimedOut(why) = report.outcome else {
        panic!("{:?}", report.outcome)
    };
    assert!(why.to_string().contains("no CMD_SYNC completion in time"), "{why}");
}

struct Defer<F: Fn()>(F);

impl<F: Fn()> Drop for Defer<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[test]
fn commands_that_are_proven_together_keep_their_order_over_two_queues() {
    let text = "title = \"t\"\nneeds = [\"second-queue\"]\n[[smmu]]\nname = \"s\"\n\
        second_queue = \"restricted\"\n[[step]]\nmend = { smmu = \"s\" }\n";
    let second_queue = Some(SecondQueueKind::Restricted);
    let smmus = vec![MachineSmmu { second_queue, ..MachineSmmu::default() }];
    let spec = MachineSpec { smmus, ..MachineSpec::default() };
    with_rig(text, &spec, |rig| prove_together(rig));
}

fn prove_together(rig: &Rig<'_>) {
    let (recorder, sink, id) = (&rig.recorder, rig.sink(), SmmuId(0));
    let from = recorder.len();
    let flush = |asid| Command::TlbiNhAsid { vmid: Vmid(0), asid: Asid(asid) };
    let pushed = sink.push(id, None, &[flush(1)]).unwrap();
    let pushed = sink.push(id, Some(pushed), &[flush(2)]).unwrap();
    // Not for the second queue, so what went there is waited for; from here on all is for the main
    // one.
    let pushed = sink.push(id, Some(pushed), &[Command::CfgiAll]).unwrap();
    let pushed = sink.push(id, Some(pushed), &[flush(3)]).unwrap();
    let ticket = sink.prove(pushed, &[flush(4)]).unwrap();
    assert_eq!(sink.wait(ticket).unwrap().smmu(), id);
    let pushed = sink.push(id, None, &[flush(5)]).unwrap();
    let ticket = sink.prove(pushed, &[Command::CfgiAll]).unwrap();
    assert_eq!(sink.wait(ticket).unwrap().smmu(), id);
    let lines: Vec<String> =
        recorder.drop_from(from).iter().map(|line| line.to_string().split_off(14)).collect();
    let want = [
        "s/second TLBI_NH_ASID vmid=0 asid=1",
        "s/second TLBI_NH_ASID vmid=0 asid=2",
        "s/second SYNC",
        "s CFGI_ALL",
        "s TLBI_NH_ASID vmid=0 asid=3",
        "s TLBI_NH_ASID vmid=0 asid=4",
        "s SYNC",
        "s/second TLBI_NH_ASID vmid=0 asid=5",
        "s/second SYNC",
        "s CFGI_ALL",
        "s SYNC",
    ];
    assert_eq!(lines, want);
}
