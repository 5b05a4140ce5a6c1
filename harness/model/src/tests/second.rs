//! The second command queue.

use rstest::rstest;
use smmu_types::seam::Registers;
use smmu_types::{Command, CommandErrorCode, Completion, Leaf, regs};

use super::faults::{atc_inv, sync_with_msi};
use super::model_rig::{
    A, B, IOVA, ModelRig, OTHER, RAM, S1_RW, SID, cfgi_cd, cfgi_ste, nh_asid, nh_va, s2_ipa,
};
use crate::{InjectedFault, Model, ModelRegisters, Profile, SecondQueue, Violation};
use smmu_types::Irq;
use smmu_types::regs::vcmdq::{
    BASE, CONFIG, CONS, CONS_INDX_BASE, ENABLE, ERROR, GERROR, GERRORN, PROD, STATUS,
};

const QUEUE: u64 = RAM + 0x3000;
const LOG2: u32 = 3;
const POINTER: u32 = (2 << LOG2) - 1;

pub(super) struct SecondQueueRig<'a> {
    rig: &'a ModelRig,
    regs: ModelRegisters,
}

fn rig(kind: SecondQueue) -> ModelRig {
    ModelRig::with(Profile { second_queue: Some(kind), ats: true, msi: true, ..Profile::default() })
}

impl<'a> SecondQueueRig<'a> {
    pub(super) fn of(rig: &'a ModelRig) -> Self {
        let second = SecondQueueRig { rig, regs: rig.model.second_queue(0).unwrap() };
        second.regs.write64(BASE, QUEUE | u64::from(LOG2));
        second.regs.write32(PROD, 0);
        second.regs.write32(CONS, 0);
        second.regs.write32(CONFIG, ENABLE);
        assert_eq!(second.regs.read32(STATUS), ENABLE);
        assert_eq!(rig.model.take_hazards(), []);
        rig.model.take_interrupts();
        second
    }

    fn send(&self, command: Command) {
        let prod = self.regs.read32(PROD);
        let slot = QUEUE + u64::from(prod & (POINTER >> 1)) * 16;
        self.rig.put_all(slot, &command.encode().0);
        self.regs.write32(PROD, (prod + 1) & POINTER);
    }

    fn wait(&self) -> bool {
        (0..100).any(|_| self.regs.read32(CONS) & POINTER == self.regs.read32(PROD))
    }

    /// Send a command and a `CMD_SYNC`. The error is the code that the queue stops with.
    pub(super) fn run(&self, command: Command) -> Result<(), CommandErrorCode> {
        self.send(command);
        self.send(Command::SYNC);
        if self.wait() {
            return Ok(());
        }
        assert_eq!(self.regs.read32(GERROR) ^ self.regs.read32(GERRORN), ERROR);
        Err(regs::cmdq_cons::error(self.regs.read32(CONS)))
    }

    fn acknowledge(&self) {
        self.regs.write32(GERRORN, self.regs.read32(GERROR));
    }
}

#[test]
fn only_where_the_profile_has_one() {
    assert!(Model::new(0x1000, &[Profile::default()]).second_queue(0).is_none());
    assert!(rig(SecondQueue::Full).model.second_queue(1).is_none());
}

#[test]
fn both_queues_act_on_one_tlb() {
    let rig = rig(SecondQueue::Restricted);
    let second = SecondQueueRig::of(&rig);
    let root = rig.stage1(SID, 5);
    for (n, page) in [A, B, A, B].into_iter().enumerate() {
        rig.map(root, IOVA, page, S1_RW);
        match n % 2 {
            0 => second.run(nh_va(0, 5, IOVA, Leaf::Last)).unwrap(),
            _ => rig.run(&[nh_asid(0, 5)]),
        }
        assert_eq!(rig.dma(SID, IOVA), Some(page));
    }
    assert_eq!((rig.audit(), rig.missing()), (vec![], vec![]));
}

#[test]
fn a_full_queue_accepts_what_the_main_queue_accepts() {
    let rig = rig(SecondQueue::Full);
    let second = SecondQueueRig::of(&rig);
    for command in [cfgi_ste(SID), cfgi_cd(SID), s2_ipa(3, 0, Leaf::Last), atc_inv(SID)] {
        assert_eq!(second.run(command), Ok(()), "{command}");
    }
}

#[rstest]
#[case::asid(nh_asid(0, 5), true)]
#[case::va(nh_va(0, 5, IOVA, Leaf::Last), true)]
#[case::atc(atc_inv(SID), true)]
#[case::sync(Command::SYNC, true)]
#[case::ste(cfgi_ste(SID), false)]
#[case::everything(Command::TlbiNsnhAll, false)]
#[case::stage2(s2_ipa(3, 0, Leaf::Last), false)]
#[case::irq(Command::sync(Completion::Interrupt), false)]
#[case::event(Command::sync(Completion::Event), false)]
#[case::msi(sync_with_msi(A, 7), false)]
fn a_restricted_queue_accepts_few_commands(#[case] command: Command, #[case] taken: bool) {
    let rig = rig(SecondQueue::Restricted);
    let second = SecondQueueRig::of(&rig);
    let want = if taken { Ok(()) } else { Err(CommandErrorCode::ILL) };
    assert_eq!(second.run(command), want);
    if !taken {
        assert_eq!(second.regs.read32(CONS) & POINTER, 0, "it stays at the command");
        assert_eq!(rig.model.take_interrupts(), [(0, Irq::SecondQueue)]);
        rig.run(&[nh_asid(0, 5)]);
        rig.put_all(QUEUE, &Command::SYNC.encode().0);
        second.acknowledge();
        assert!(second.wait());
    }
    assert_eq!(rig.get(A), 0);
}

#[test]
fn each_queue_has_its_own_faults() {
    let rig = rig(SecondQueue::Full);
    let second = SecondQueueRig::of(&rig);
    rig.model.inject_second(0, InjectedFault::CommandQueueStuck);
    second.send(Command::SYNC);
    assert!(!second.wait());
    rig.run(&[nh_asid(0, 5)]);
    rig.model.mend(0);
    assert!(second.wait());
    rig.model.inject(0, InjectedFault::CommandQueueStuck);
    assert_eq!(second.run(nh_asid(0, 5)), Ok(()));
    rig.send(Command::SYNC);
    assert!(!rig.wait());
}

#[test]
fn a_timeout_is_reported_by_its_own_queue() {
    let rig = rig(SecondQueue::Restricted);
    let second = SecondQueueRig::of(&rig);
    rig.model.inject_second(0, InjectedFault::AtcTimeout { stream: SID });
    assert_eq!(second.run(atc_inv(OTHER)), Ok(()));
    assert_eq!(second.run(atc_inv(SID)), Err(CommandErrorCode::ATC_INV_SYNC));
    rig.run(&[]);
    second.acknowledge();
    assert!(second.wait());
}

#[test]
fn a_timeout_outlives_its_queue() {
    let rig = rig(SecondQueue::Restricted);
    let second = SecondQueueRig::of(&rig);
    rig.model.inject_second(0, InjectedFault::AtcTimeout { stream: SID });
    second.send(atc_inv(SID));
    assert!(second.wait());
    second.regs.write32(CONFIG, 0);
    rig.send(Command::SYNC);
    assert!(!rig.wait());
    assert_eq!(super::queue::error(&rig), Some(CommandErrorCode::ATC_INV_SYNC));
}

#[test]
fn carried_out_commands_are_reported_per_queue() {
    let rig = rig(SecondQueue::Full);
    let second = SecondQueueRig::of(&rig);
    rig.model.listen(0);
    rig.run(&[nh_asid(0, 1)]);
    second.run(nh_asid(0, 2)).unwrap();
    let sync = Command::SYNC.encode();
    let want = [1, 2].map(|asid| vec![nh_asid(0, asid).encode(), sync]);
    assert_eq!(rig.model.take_carried_out(0), want);
}

#[test]
fn registers_are_closed_while_the_queue_is_enabled() {
    let rig = rig(SecondQueue::Full);
    let second = SecondQueueRig::of(&rig);
    let r = &second.regs;
    r.write64(BASE, 0);
    r.write32(CONS, 1);
    let by = "VCMDQ_CONFIG.CMDQ_EN";
    let want =
        ["VCMDQ_BASE", "VCMDQ_CONS_INDX"].map(|register| Violation::Enabled { register, by });
    assert_eq!(second.rig.violations(), want);
    assert_eq!((r.read64(BASE), r.read32(CONS)), (QUEUE | u64::from(LOG2), 0));
}

#[test]
fn accesses_in_halves_and_illegal_accesses() {
    let rig = rig(SecondQueue::Full);
    let second = SecondQueueRig::of(&rig);
    let r = &second.regs;
    r.write32(CONFIG, 0);
    r.write32(BASE, 0x8000_0004);
    r.write32(BASE + 4, 0x1234);
    assert_eq!(r.read64(BASE), 0x1234_8000_0004);
    assert_eq!((r.read32(BASE), r.read32(BASE + 4)), (0x8000_0004, 0x1234));
    assert_eq!(second.rig.violations(), []);
    assert_eq!((r.read32(0x18), r.read64(CONS), r.read32(2)), (0, 0, 0));
    r.write32(STATUS, 1);
    r.write32(GERROR, 1);
    r.write32(GERRORN, ERROR);
    r.write64(CONS_INDX_BASE, 0);
    r.write64(CONS_INDX_BASE, 0x1000);
    assert_eq!(
        second.rig.violations(),
        [
            Violation::Undefined { offset: 0x18 },
            Violation::Width { offset: CONS, bytes: 8 },
            Violation::Width { offset: 2, bytes: 4 },
            Violation::ReadOnly { register: "VCMDQ_STATUS" },
            Violation::ReadOnly { register: "VCMDQ_GERROR" },
            Violation::NotActive { bits: ERROR },
            Violation::ReservedBits { register: "VCMDQ_CONS_INDX_BASE", bits: 0x1000 },
        ]
    );
}

#[test]
fn base_size_and_pointers_are_checked() {
    let rig = rig(SecondQueue::Full);
    let second = SecondQueueRig::of(&rig);
    let r = &second.regs;
    r.write32(PROD, POINTER);
    r.write32(CONFIG, 0);
    r.write64(BASE, (QUEUE + 0x20) | 9);
    r.write32(PROD, 0);
    r.write32(CONFIG, ENABLE);
    let register = "VCMDQ_BASE";
    assert_eq!(
        second.rig.violations(),
        [
            Violation::Pointer { register: "VCMDQ_PROD_INDX", value: POINTER },
            Violation::Unsupported { register, field: "LOG2SIZE", value: 9 },
            Violation::Alignment { register, address: QUEUE + 0x20, align: 0x1000 },
        ]
    );
    r.write32(PROD, 1);
    assert_eq!(regs::cmdq_cons::error(r.read32(CONS)), CommandErrorCode::ABT);
}

#[test]
fn the_registers_can_be_used_from_many_threads() {
    fn check<T: Send + Sync + Clone>(_: &T) {}
    check(&SecondQueueRig::of(&rig(SecondQueue::Full)).regs);
}
