//! The main command queue: pace, errors, forms of commands.

use rstest::rstest;
use smmu_types::seam::RegistersExt;
use smmu_types::{
    Command, CommandErrorCode, Completion, Leaf, PhysAddr, RawCommand, SyncMsi, Vmid, regs,
};

use super::model_rig::{
    A, B, CMDQ, IOVA, ModelRig, S1_RW, SID, cfgi_cd, cfgi_ste, nh_asid, nh_va, s2_ipa,
};
use crate::{InjectedFault, Profile, Violation};
use smmu_types::Irq;

pub(super) fn error(rig: &ModelRig) -> Option<CommandErrorCode> {
    let active = rig.regs.read(regs::GERROR) ^ rig.regs.read(regs::GERRORN);
    let cons = rig.regs.read(regs::CMDQ_CONS);
    (active & regs::gerror::CMDQ != 0).then(|| regs::cmdq_cons::error(cons))
}

pub(super) fn acknowledge(rig: &ModelRig) {
    rig.regs.write(regs::GERRORN, rig.regs.read(regs::GERROR));
}

#[test]
fn commands_wait_for_a_read_of_cmdq_cons() {
    let rig = ModelRig::new();
    let root = rig.stage1(SID, 5);
    rig.map(root, IOVA, A, S1_RW);
    rig.dma(SID, IOVA);
    rig.map(root, IOVA, B, S1_RW);
    for _ in 0..4 {
        rig.send(nh_asid(0, 7));
    }
    rig.send(nh_va(0, 5, IOVA, Leaf::Last));
    rig.send(Command::SYNC);
    assert_eq!(rig.dma(SID, IOVA), Some(A));
    assert!(!rig.idle(), "four commands a look");
    assert_eq!(rig.dma(SID, IOVA), Some(A));
    assert!(rig.idle());
    assert_eq!(rig.dma(SID, IOVA), Some(B));
}

#[test]
fn many_laps() {
    let rig = ModelRig::with(Profile { consume_per_poll: 3, ..Profile::default() });
    let root = rig.stage1(SID, 5);
    for lap in 0..200 {
        let page = if lap % 2 == 0 { A } else { B };
        rig.map(root, IOVA, page, S1_RW);
        rig.run(&[nh_asid(0, 6), nh_va(0, 5, IOVA, Leaf::Last)]);
        assert_eq!(rig.dma(SID, IOVA), Some(page), "lap {lap}");
    }
    assert_eq!(rig.missing(), Vec::<String>::new());
}

#[test]
fn a_full_ring_is_consumed() {
    let rig = ModelRig::new();
    for _ in 0..16 {
        rig.send(nh_asid(0, 5));
    }
    assert_eq!(rig.missing(), Vec::<String>::new());
    assert!(rig.wait());
}

#[rstest]
#[case::unknown([0xff, 0])]
#[case::zero([0, 0])]
#[case::secure([0x0000_0008_0000_0403, 1])]
#[case::reserved_completion([0x0fc0_3046, 0])]
#[case::atc_inv([0x0000_0008_0000_0040, 0x1000])]
#[case::el2([0x20, 0])]
fn an_illegal_command_stops_the_queue(#[case] words: [u64; 2]) {
    let rig = ModelRig::new();
    rig.model.take_interrupts();
    let root = rig.stage1(SID, 5);
    rig.map(root, IOVA, A, S1_RW);
    rig.dma(SID, IOVA);
    rig.map(root, IOVA, B, S1_RW);
    let at = rig.regs.read(regs::CMDQ_PROD);
    rig.send_raw(words);
    rig.send(nh_va(0, 5, IOVA, Leaf::Last));
    rig.send(Command::SYNC);
    assert!(!rig.wait());
    assert_eq!(error(&rig), Some(CommandErrorCode::ILL));
    assert_eq!(rig.regs.read(regs::CMDQ_CONS) & 0x1f, at, "it stays at the command");
    assert_eq!(rig.model.take_interrupts(), [(0, Irq::Gerror)]);
    assert_eq!(rig.dma(SID, IOVA), Some(A));
    // The driver replaces the command and acknowledges the error; the SMMU continues there.
    rig.put_all(CMDQ + u64::from(at & 0xf) * 16, &Command::SYNC.encode().0);
    acknowledge(&rig);
    assert!(rig.wait());
    assert_eq!(error(&rig), None);
    assert_eq!(rig.dma(SID, IOVA), Some(B));
}

/// A `TLBI_NH_VA` of ASID 5 and address 0 in any form, also in illegal ones.
fn va(num: u64, tg: u64, ttl: u64) -> Command {
    Command::decode(RawCommand([0x12 | num << 12 | 5 << 48, 1 | ttl << 8 | tg << 10]))
}

#[rstest]
#[case::range(va(1, 1, 0), true)]
#[case::hint(va(0, 1, 3), true)]
#[case::reserved_form(va(0, 1, 0), false)]
#[case::num_without_granule(va(1, 0, 0), false)]
#[case::ttl_without_granule(va(0, 0, 3), false)]
fn forms_of_a_range(#[case] command: Command, #[case] legal: bool) {
    let rig = ModelRig::new();
    rig.send(command);
    assert_eq!(rig.wait(), legal);
    let old = ModelRig::with(Profile { range_invalidation: false, ..Profile::default() });
    old.send(command);
    assert!(!old.wait(), "no form of a range is legal without RIL");
    assert_eq!(error(&old), Some(CommandErrorCode::ILL));
}

#[rstest]
#[case::nh_all(Command::TlbiNhAll { vmid: Vmid(0) }, true, false)]
#[case::nh_asid(nh_asid(0, 5), true, false)]
#[case::nh_va(nh_va(0, 5, 0, Leaf::Last), true, false)]
#[case::cd(cfgi_cd(SID), true, false)]
#[case::cd_all(Command::CfgiCdAll { stream: SID }, true, false)]
#[case::s12(Command::TlbiS12Vmall { vmid: Vmid(0) }, false, true)]
#[case::ipa(s2_ipa(3, 0, Leaf::Last), false, true)]
#[case::nsnh(Command::TlbiNsnhAll, true, true)]
#[case::ste(cfgi_ste(SID), true, true)]
#[case::ipa_range(
    Command::decode(RawCommand([0x2a | 1 << 12 | 1 << 20 | 3 << 32, 1 | 1 << 10])),
    false,
    true
)]
fn commands_need_their_stage(
    #[case] command: Command,
    #[case] with_stage1: bool,
    #[case] with_stage2: bool,
) {
    let only1 = ModelRig::with(Profile { stage2: false, ..Profile::default() });
    only1.send(command);
    assert_eq!(only1.wait(), with_stage1);
    let only2 = ModelRig::with(Profile { stage1: false, ..Profile::default() });
    only2.send(command);
    assert_eq!(only2.wait(), with_stage2);
}

#[test]
fn base_bits_below_the_size_do_not_count() {
    let rig = ModelRig::off(Profile::default());
    rig.regs.write(regs::CMDQ_BASE, CMDQ | 0x20 | 4);
    rig.regs.write(regs::CR0, regs::cr0::CMDQEN);
    let (register, address) = ("CMDQ_BASE", CMDQ | 0x20);
    assert_eq!(rig.violations(), [Violation::Alignment { register, address, align: 0x100 }]);
    rig.put_all(CMDQ, &Command::SYNC.encode().0);
    rig.regs.write(regs::CMDQ_PROD, 1);
    assert_eq!((rig.regs.read(regs::CMDQ_CONS), error(&rig)), (1, None));
}

#[test]
fn a_base_that_cannot_be_fetched_from() {
    let rig = ModelRig::off(Profile::default());
    rig.regs.write(regs::CMDQ_BASE, 0x8000_0000 | 4);
    rig.regs.write(regs::CR0, regs::cr0::CMDQEN);
    rig.regs.write(regs::CMDQ_PROD, 1);
    rig.regs.read(regs::CMDQ_CONS);
    assert_eq!(error(&rig), Some(CommandErrorCode::ABT));
}

#[test]
fn syncs_signal() {
    let rig = ModelRig::new();
    rig.model.take_interrupts();
    rig.run(&[Command::sync(Completion::Interrupt)]);
    assert_eq!(rig.model.take_interrupts(), [(0, Irq::CmdSync)]);
    // Without MSIs the SMMU writes nothing.
    let msi = Completion::Msi(SyncMsi::new(PhysAddr(A), 7).unwrap());
    rig.run(&[Command::sync(msi), Command::sync(Completion::Event)]);
    assert_eq!(rig.model.take_interrupts(), [(0, Irq::CmdSync)]);
    assert_eq!(rig.get(A), 0);
}

#[test]
fn a_driver_that_waits_for_an_interrupt_gets_it() {
    let rig = ModelRig::new();
    rig.model.take_interrupts();
    rig.send(Command::sync(Completion::Interrupt));
    assert_eq!(rig.model.take_interrupts(), []);
    rig.model.settle(0);
    assert_eq!(rig.model.take_interrupts(), [(0, Irq::CmdSync)]);
}

#[test]
fn a_queue_that_is_stuck() {
    let rig = ModelRig::new();
    rig.model.inject(0, InjectedFault::CommandQueueStuck);
    rig.send(Command::SYNC);
    assert!(!rig.wait());
    rig.model.mend(0);
    assert!(rig.wait());
}

#[test]
fn an_injected_refusal() {
    let rig = ModelRig::with(Profile {
        faults: vec![InjectedFault::RefuseCommand { after: 5 }],
        ..Profile::default()
    });
    // Bring-up sent three commands.
    rig.run(&[nh_asid(0, 5)]);
    rig.send(Command::SYNC);
    assert!(!rig.wait());
    assert_eq!(error(&rig), Some(CommandErrorCode::ILL));
    acknowledge(&rig);
    assert!(rig.wait());
}

#[test]
fn a_disabled_queue_consumes_nothing() {
    let rig = ModelRig::new();
    rig.regs.write(regs::CR0, regs::cr0::SMMUEN);
    rig.send(Command::SYNC);
    assert!(!rig.wait());
    rig.regs.write(regs::CR0, regs::cr0::SMMUEN | regs::cr0::CMDQEN);
    assert!(rig.wait());
}
