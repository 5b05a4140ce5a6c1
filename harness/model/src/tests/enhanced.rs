//! Enhanced command queues (IHI 0070, 3.5.6).

use rstest::rstest;
use smmu_types::regs::ecmdq::{self, Interface};
use smmu_types::seam::{Registers, RegistersExt};
use smmu_types::{Capabilities, Command, CommandErrorCode, EnhancedQueues, Irq, regs};

use super::faults::atc_inv;
use super::model_rig::{A, B, IOVA, ModelRig, RAM, S1_RW, SID, nh_asid};
use crate::{AtsSwitch, Hazard, InjectedFault, Profile, Violation};

const QUEUE: u64 = RAM + 0x3000;
const LOG2: u32 = 3;
const POINTER: u32 = (2 << LOG2) - 1;
const EN: u32 = 1 << 31;
const ERR: u32 = 1 << 23;

fn profile() -> Profile {
    let has = EnhancedQueues { pages_log2: 1, queues_log2: 2 };
    Profile { enhanced_queues: Some(has), ats: true, ..Profile::default() }
}

struct EnhancedRig {
    rig: ModelRig,
    at: Interface,
}

impl EnhancedRig {
    /// Queue 3 of page 1, on.
    fn new() -> Self {
        let enhanced = Self::off();
        enhanced.turn(EN);
        enhanced
    }

    fn off() -> Self {
        let rig = ModelRig::with(profile());
        let base = rig.regs.read(regs::cmdq_control_page_base(1));
        let at = ecmdq::interface(rig.regs.read(regs::IDR6), base, 3).unwrap();
        rig.regs.write(at.base, QUEUE | u64::from(LOG2));
        EnhancedRig { rig, at }
    }

    /// Write `EN`, and wait for `ENACK`.
    fn turn(&self, on: u32) {
        let r = &self.rig.regs;
        r.write(self.at.producer, r.read(self.at.producer) & !EN | on);
        assert!((0..2).any(|_| r.read(self.at.consumer) & EN == on), "no ENACK");
    }

    fn send(&self, command: Command) {
        let prod = self.rig.regs.read(self.at.producer);
        let slot = QUEUE + u64::from(prod & (POINTER >> 1)) * 16;
        self.rig.put_all(slot, &command.encode().0);
        let next = prod & !POINTER | prod.wrapping_add(1) & POINTER;
        self.rig.regs.write(self.at.producer, next);
    }

    fn is_empty(&self) -> bool {
        let r = &self.rig.regs;
        (r.read(self.at.producer) ^ r.read(self.at.consumer)) & POINTER == 0
    }

    fn error(&self) -> Option<CommandErrorCode> {
        let r = &self.rig.regs;
        let consumer = r.read(self.at.consumer);
        let failed = (r.read(self.at.producer) ^ consumer) & ERR != 0;
        failed.then_some(CommandErrorCode((consumer >> 24 & 7) as u8))
    }
}

#[test]
fn id_registers_and_control_pages_tell_of_the_queues() {
    let caps = Capabilities::decode(profile().id_registers());
    assert_eq!(caps.enhanced_queues, profile().enhanced_queues);
    assert_eq!(Capabilities::decode(Profile::default().id_registers()).enhanced_queues, None);
    let large = EnhancedQueues { pages_log2: 8, queues_log2: 15 };
    let large = Profile { enhanced_queues: Some(large), ..Profile::default() };
    let bounded = EnhancedQueues { pages_log2: 4, queues_log2: 8 };
    assert_eq!(Capabilities::decode(large.id_registers()).enhanced_queues, Some(bounded));

    let rig = ModelRig::with(profile());
    for (page, at) in [(0, 0x2_0000), (1, 0x3_0000)] {
        assert_eq!(rig.regs.read(regs::cmdq_control_page_base(page)), at | 3);
        assert_eq!(rig.regs.read(regs::cmdq_control_page_cfg(page)), 1);
        assert_eq!(rig.regs.read(regs::cmdq_control_page_status(page)), 1);
    }
    assert_eq!(rig.model.take_hazards(), []);
    // Beyond the pages, between the queues, and without queues at all.
    for offset in [0x4040, 0x4_0000, 0x2_0010] {
        assert_eq!(rig.regs.read32(offset), 0);
        let violation = Violation::Undefined { offset };
        assert_eq!(rig.model.take_hazards(), [Hazard::Protocol { smmu: 0, violation }]);
    }
    let without = ModelRig::new();
    without.regs.read32(0x2_0000);
    assert_eq!(without.model.take_hazards().len(), 1);
}

#[test]
fn commands_of_a_queue_act_on_the_same_caches() {
    let enhanced = EnhancedRig::new();
    let rig = &enhanced.rig;
    let root = rig.stage1(SID, 5);
    rig.map(root, IOVA, A, S1_RW);
    assert_eq!(rig.dma(SID, IOVA), Some(A));
    rig.map(root, IOVA, B, S1_RW);
    assert_eq!(rig.dma(SID, IOVA), Some(A));
    let missing = rig.missing();
    assert!(!missing.is_empty());
    enhanced.send(nh_asid(0, 5));
    enhanced.send(Command::SYNC);
    // Nothing is consumed before a read of ECMDQ_CONS, and a read of CMDQ_CONS is none.
    rig.regs.read(regs::CMDQ_CONS);
    assert_eq!(rig.dma(SID, IOVA), Some(A));
    rig.missing();
    assert!((0..9).any(|_| enhanced.is_empty()));
    assert_eq!(rig.dma(SID, IOVA), Some(B));
    assert_eq!(rig.missing(), Vec::<String>::new());
    // More than a lap.
    for _ in 0..20 {
        enhanced.send(Command::SYNC);
        rig.model.settle(0);
        assert!(enhanced.is_empty());
    }
    assert_eq!(rig.model.take_hazards(), []);
}

#[test]
fn a_change_of_en_takes_effect_after_a_read_of_enack() {
    let enhanced = EnhancedRig::off();
    let (r, at) = (&enhanced.rig.regs, enhanced.at);
    r.write(at.producer, EN);
    assert_eq!(r.read(at.consumer), 0);
    assert_eq!(r.read(at.consumer), EN);
    enhanced.send(Command::CfgiAll);
    r.write(at.producer, r.read(at.producer) & !EN);
    // Until the acknowledgement the SMMU consumes, and ignores writes (6.3.108).
    r.write(at.producer, EN | 5);
    assert_eq!(enhanced.rig.violations(), [Violation::Unacknowledged { register: "ECMDQ_PROD" }]);
    assert_eq!(r.read(at.producer), 1);
    assert_eq!(r.read(at.consumer), EN | 1);
    assert_eq!(r.read(at.consumer), 1);
    // Off: what is behind the pointer stays.
    r.write(at.producer, 3);
    enhanced.rig.model.settle(0);
    assert_eq!(r.read(at.consumer), 1);
    assert_eq!(enhanced.rig.violations(), []);
}

#[rstest]
#[case::illegal(InjectedFault::RefuseCommand { after: 1 }, CommandErrorCode::ILL)]
#[case::abort(InjectedFault::FetchAbort { times: 1 }, CommandErrorCode::ABT)]
fn an_error_stops_its_queue_alone(#[case] fault: InjectedFault, #[case] code: CommandErrorCode) {
    let enhanced = EnhancedRig::new();
    let (rig, r) = (&enhanced.rig, &enhanced.rig.regs);
    rig.model.inject_enhanced(0, 7, fault);
    for _ in 0..3 {
        enhanced.send(Command::SYNC);
    }
    rig.model.settle(0);
    let at = if code == CommandErrorCode::ILL { 1 } else { 0 };
    assert_eq!(enhanced.error(), Some(code));
    assert_eq!(r.read(enhanced.at.consumer) & POINTER, at);
    assert_eq!(r.read(regs::GERROR) ^ r.read(regs::GERRORN), regs::gerror::CMDQP);
    assert_eq!(rig.model.take_interrupts(), [(0, Irq::Gerror)]);
    // The main queue runs, and GERRORN alone lets nothing go on.
    rig.run(&[Command::CfgiAll]);
    r.write(regs::GERRORN, regs::gerror::CMDQP);
    rig.model.settle(0);
    assert_eq!(enhanced.error(), Some(code));
    r.write(enhanced.at.producer, r.read(enhanced.at.producer) ^ ERR);
    rig.model.settle(0);
    assert!(enhanced.is_empty() && enhanced.error().is_none());
    assert_eq!(rig.model.take_hazards(), []);
}

#[test]
fn a_device_that_does_not_answer_stops_the_sync_of_its_queue() {
    let enhanced = EnhancedRig::new();
    let rig = &enhanced.rig;
    rig.stage1(SID, 5);
    rig.model.device(0, SID).switch_ats(AtsSwitch::On);
    rig.model.inject_enhanced(0, 7, InjectedFault::AtcTimeout { stream: SID });
    enhanced.send(atc_inv(SID));
    enhanced.send(Command::SYNC);
    rig.model.settle(0);
    assert_eq!(enhanced.error(), Some(CommandErrorCode::ATC_INV_SYNC));
    rig.run(&[Command::CfgiAll]);
}

type Break = fn(&EnhancedRig);

/// Rules of the registers, while the queue is on.
#[rstest]
#[case::base(|e: &EnhancedRig| e.rig.regs.write(e.at.base, QUEUE), Violation::Enabled { register: "ECMDQ_BASE", by: "ECMDQ_PROD.EN" })]
#[case::consumer(|e: &EnhancedRig| e.rig.regs.write(e.at.consumer, 0), Violation::Enabled { register: "ECMDQ_CONS", by: "ECMDQ_PROD.EN" })]
#[case::attributes(|e: &EnhancedRig| {
    let (r, on) = (&e.rig.regs, e.rig.regs.read(regs::CR0));
    r.write(regs::CR0, 0);
    r.write(regs::CR1, 0);
    r.write(regs::CR0, on);
}, Violation::Enabled { register: "CR1", by: "ECMDQ_PROD.EN" })]
#[case::beyond(|e: &EnhancedRig| e.rig.regs.write(e.at.producer, EN | 0x1_0000), Violation::Pointer { register: "ECMDQ_PROD", value: EN | 0x1_0000 })]
#[case::overfull(|e: &EnhancedRig| e.rig.regs.write(e.at.producer, EN | 9), Violation::Pointer { register: "ECMDQ_PROD", value: EN | 9 })]
#[case::no_error(|e: &EnhancedRig| e.rig.regs.write(e.at.producer, EN | ERR), Violation::Unsupported { register: "ECMDQ_PROD", field: "ERRACK", value: 1 })]
#[case::reserved(|e: &EnhancedRig| e.rig.regs.write(e.at.producer, EN | 1 << 20), Violation::ReservedBits { register: "ECMDQ_PROD", bits: 1 << 20 })]
#[case::width(|e: &EnhancedRig| e.rig.regs.write64(e.at.producer.offset(), 0), Violation::Width { offset: 0x3_c008, bytes: 8 })]
#[case::read_only(|e: &EnhancedRig| e.rig.regs.write32(0x4028, 0), Violation::ReadOnly { register: "CMDQ_CONTROL_PAGE_CFG" })]
fn rules_of_a_queue_that_is_on(#[case] breaks: Break, #[case] violation: Violation) {
    let enhanced = EnhancedRig::new();
    breaks(&enhanced);
    assert_eq!(enhanced.rig.violations(), [violation]);
}

#[rstest]
#[case::misaligned((QUEUE + 0x20) | 3, 0, Violation::Alignment { register: "ECMDQ_BASE", address: QUEUE + 0x20, align: 0x80 })]
#[case::too_large(QUEUE | 9, 0, Violation::Unsupported { register: "ECMDQ_BASE", field: "LOG2SIZE", value: 9 })]
#[case::pointers(QUEUE | 3, 9, Violation::Pointer { register: "ECMDQ_PROD", value: EN | 9 })]
fn rules_of_turning_a_queue_on(#[case] base: u64, #[case] prod: u32, #[case] violation: Violation) {
    let enhanced = EnhancedRig::off();
    let r = &enhanced.rig.regs;
    r.write(enhanced.at.base, base);
    r.write(enhanced.at.producer, prod);
    assert_eq!(enhanced.rig.violations(), []);
    r.write(enhanced.at.producer, EN | prod);
    assert_eq!(enhanced.rig.violations(), [violation]);
    // A reset turns it off.
    enhanced.rig.model.reset();
    assert_eq!((r.read(enhanced.at.base), r.read(enhanced.at.producer)), (0, 0));
    assert_eq!(r.read(enhanced.at.consumer), 0);
}
