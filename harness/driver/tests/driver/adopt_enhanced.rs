//! An old owner left enhanced command queues (ECMDQ) on.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::atomic::Ordering;

use super::adopt::{Left, OTHER, SMMU, keep, options, why};
use super::bench::{STREAM, TestBlock, Tested, VmTables};
use rstest::rstest;
use smmu_driver::smmu_attach::Outcome;
use smmu_driver::smmu_attach::adopt::ReadBudget;
use smmu_driver::smmu_hw_mmio::{ControlPages, OldCommands, TakeoverError};
use smmu_driver::smmu_types::regs::ecmdq::{self, Interface};
use smmu_driver::smmu_types::seam::{DmaBlock, DmaLayout, DmaMemory, RegistersExt};
use smmu_driver::smmu_types::{Command, CommandErrorCode, EnhancedQueues, regs};
use smmu_driver::{AdoptPlan, Driver, DriverError, NotAdopted, OnDoubt, Origin, SmmuOptions};
use smmu_model::{InjectedFault, Profile};

const EN: u32 = 1 << 31;
const LOG2: u32 = 4;
/// Queue 1 of page 1, counted over both pages.
const QUEUE: usize = 3;

/// A queue of the old owner, with commands that the SMMU has not carried out.
struct Enhanced {
    left: Left,
    at: Interface,
    ring: TestBlock,
}

impl Enhanced {
    fn new(commands: u32) -> Self {
        let has = EnhancedQueues { pages_log2: 1, queues_log2: 1 };
        let left = Left::new(Profile { enhanced_queues: Some(has), ..Profile::default() });
        let r = left.bench.registers(0, None);
        let base = r.read(regs::cmdq_control_page_base(1));
        let at = ecmdq::interface(r.read(regs::IDR6), base, 1).unwrap();
        let ring = left.bench.memory.allocate(DmaLayout::new(256, 256).unwrap()).unwrap();
        r.write(at.base, ring.address().0 | u64::from(LOG2));
        r.write(at.producer, EN);
        assert!((0..2).any(|_| r.read(at.consumer) & EN != 0));
        let enhanced = Enhanced { left, at, ring };
        enhanced.send(commands);
        enhanced
    }

    fn send(&self, commands: u32) {
        let r = self.left.bench.registers(0, None);
        let mut producer = r.read(self.at.producer);
        for _ in 0..commands {
            let slot = (producer & ((1 << LOG2) - 1)) as usize * 2;
            for (n, word) in Command::CfgiAll.encode().0.iter().enumerate() {
                self.ring.words()[slot + n].store(*word, Ordering::Relaxed);
            }
            producer += 1;
        }
        r.write(self.at.producer, producer);
    }

    /// `ECMDQ_PROD` and `ECMDQ_CONS`.
    fn pointers(&self) -> (u32, u32) {
        let r = self.left.bench.registers(0, None);
        (r.read(self.at.producer), r.read(self.at.consumer))
    }

    fn adopt(
        &self,
        pages: Option<ControlPages>,
        on_doubt: OnDoubt,
        budget: ReadBudget,
    ) -> Result<Driver<Tested>, DriverError> {
        let options = SmmuOptions { control_pages: pages, ..options() };
        let mut keep = keep;
        let plan = AdoptPlan::new(&self.left.bench.memory, &mut keep);
        self.left.setup_with(options, None).adopt(plan.on_doubt(on_doubt).budget(budget))
    }
}

const REACHABLE: Option<ControlPages> = Some(ControlPages::Reachable);

#[test]
fn a_queue_that_runs_is_carried_out_and_turned_off() {
    // More than the SMMU carries out at one look.
    let enhanced = Enhanced::new(10);
    let left = &enhanced.left;
    let driver = enhanced.adopt(REACHABLE, OnDoubt::Refuse, ReadBudget::default()).unwrap();
    let commands = OldCommands::default();
    assert_eq!(driver.smmu(SMMU).unwrap().origin(), Origin::Adopted { kept: 1, commands });
    assert_eq!(enhanced.pointers(), (10, 10));
    assert_eq!((left.reaches(STREAM), left.reaches(OTHER)), (Some(0), None));
    // What the old owner still writes reaches no cache.
    enhanced.send(2);
    left.bench.model.settle(0);
    assert_eq!(enhanced.pointers(), (12, 10));
    driver.restart(SMMU).unwrap();
    driver.shutdown().unwrap();
    left.quiet();
}

#[test]
fn a_queue_that_has_stopped_is_told_and_turned_off() {
    let enhanced = Enhanced::new(0);
    let left = &enhanced.left;
    left.bench.model.inject_enhanced(0, QUEUE, InjectedFault::RefuseCommand { after: 2 });
    enhanced.send(5);
    left.bench.model.settle(0);
    let driver = enhanced.adopt(REACHABLE, OnDoubt::Refuse, ReadBudget::default()).unwrap();
    let commands = OldCommands { cut_off: 3, error: Some(CommandErrorCode::ILL) };
    assert_eq!(driver.smmu(SMMU).unwrap().origin(), Origin::Adopted { kept: 1, commands });
    let registers = left.bench.registers(0, None);
    assert_eq!(registers.read(regs::GERROR), registers.read(regs::GERRORN));
    assert_eq!((left.reaches(STREAM), left.reaches(OTHER)), (Some(0), None));
    driver.shutdown().unwrap();
    left.quiet();
}

/// Neither taken over nor reset: the queue may be on.
#[rstest]
fn a_queue_of_which_nothing_is_known_is_refused(
    #[values(OnDoubt::Refuse, OnDoubt::Reset)] on_doubt: OnDoubt,
) {
    let enhanced = Enhanced::new(3);
    let error = why(enhanced.adopt(None, on_doubt, ReadBudget::default()));
    let unknown = TakeoverError::ControlPagesUnknown { pages: 2, queues: 2 };
    assert_eq!(error, NotAdopted::Registers(unknown));
    let left = &enhanced.left;
    assert_eq!((left.reaches(STREAM), left.reaches(OTHER)), (Some(0), Some(1)));
    assert_eq!(enhanced.pointers().0, EN | 3);
    left.quiet();
}

/// The queue does not move; or the tables are a doubt, and the queue is as it was.
#[rstest]
#[case::stuck(true)]
#[case::tables(false)]
fn a_reset_turns_the_queues_off(#[case] stuck: bool) {
    let enhanced = Enhanced::new(0);
    let left = &enhanced.left;
    let budget = if stuck {
        left.bench.model.inject_enhanced(0, QUEUE, InjectedFault::CommandQueueStuck);
        ReadBudget::default()
    } else {
        ReadBudget::new(1)
    };
    enhanced.send(3);
    let error = why(enhanced.adopt(REACHABLE, OnDoubt::Refuse, budget));
    let named = match error {
        NotAdopted::Registers(TakeoverError::EnhancedQueue { page: 1, queue: 1, .. }) => stuck,
        NotAdopted::Tables(_) => !stuck,
        _ => false,
    };
    assert!(named, "{error:?}");
    assert_eq!((left.reaches(STREAM), enhanced.pointers().0), (Some(0), EN | 3));

    let driver = enhanced.adopt(REACHABLE, OnDoubt::Reset, budget).unwrap();
    assert!(matches!(driver.smmu(SMMU).unwrap().origin(), Origin::Reset(_)));
    let (producer, consumer) = enhanced.pointers();
    assert_eq!((producer, consumer & EN), (3, 0));
    assert_eq!((left.reaches(STREAM), left.reaches(OTHER)), (None, None));
    let tables = VmTables::new(&left.bench.memory);
    tables.map(Some(left.pages[0].address()));
    let domain = driver.domain(tables).unwrap();
    let device = driver.add_device(SMMU, &[STREAM]).unwrap();
    assert_eq!(device.attach(&domain), Ok(Outcome::Done));
    assert_eq!(left.reaches(STREAM), Some(0));
    driver.shutdown().unwrap();
    left.quiet();
}
