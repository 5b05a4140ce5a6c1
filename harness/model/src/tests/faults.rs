//! Queues that misbehave, and the MSI of a `CMD_SYNC`.

use rstest::rstest;
use smmu_types::seam::RegistersExt;
use smmu_types::{
    AtcScope, AtcSpan, Command, CommandErrorCode, Completion, Leaf, PhysAddr, StreamId, SyncMsi,
    regs,
};

use super::model_rig::{A, CMDQ, IOVA, ModelRig, OTHER, RAM, SID, nh_asid, nh_va};
use super::queue::{acknowledge, error};
use crate::{Hazard, InjectedFault, Profile, Violation};
use smmu_types::Irq;

fn with_ats() -> ModelRig {
    ModelRig::with(Profile { ats: true, ..Profile::default() })
}

fn with_msi() -> ModelRig {
    let rig = ModelRig::with(Profile { msi: true, ..Profile::default() });
    rig.model.take_interrupts();
    rig
}

pub(super) fn atc_inv(stream: StreamId) -> Command {
    let (scope, span) = (AtcScope::Substream, AtcSpan::EVERYTHING);
    Command::AtcInv { stream, substream: None, scope, span }
}

pub(super) fn sync_with_msi(address: u64, data: u32) -> Command {
    Command::sync(Completion::Msi(SyncMsi::new(PhysAddr(address), data).unwrap()))
}

#[rstest]
#[case::low_half(A + 8)]
#[case::high_half(A + 12)]
fn an_msi_writes_its_32_bits_and_no_more(#[case] address: u64) {
    let rig = with_msi();
    rig.put_all(A, &[u64::MAX; 3]);
    rig.run(&[sync_with_msi(address, 0x1234_5678)]);
    let want = match address % 8 {
        0 => 0xffff_ffff_1234_5678,
        _ => 0x1234_5678_ffff_ffff,
    };
    assert_eq!([A, A + 8, A + 16].map(|at| rig.get(at)), [u64::MAX, want, u64::MAX]);
    assert_eq!(rig.model.take_interrupts(), [], "no wire");
    assert_eq!(rig.regs.read(regs::GERROR), 0);
}

/// As Linux places it: over the completed command.
#[test]
fn an_msi_may_lie_in_the_queue_itself() {
    let rig = with_msi();
    let slot = CMDQ + u64::from(rig.regs.read(regs::CMDQ_PROD) & 0xf) * 16;
    let command = sync_with_msi(slot, 0);
    rig.run(&[command]);
    let [w0, w1] = command.encode().0;
    assert_eq!([rig.get(slot), rig.get(slot + 8)], [w0 & !0xffff_ffff, w1]);
}

#[test]
fn an_msi_comes_after_what_was_queued_before_it() {
    let rig = with_msi();
    for _ in 0..5 {
        rig.send(nh_asid(0, 5));
    }
    rig.send(sync_with_msi(A, 7));
    rig.model.tick();
    assert_eq!(rig.get(A), 0, "four commands at once");
    rig.model.tick();
    assert_eq!(rig.get(A), 7);
    assert!(rig.idle());
}

#[test]
fn without_an_address_the_wire_signals() {
    let rig = with_msi();
    rig.run(&[Command::sync(Completion::Interrupt)]);
    assert_eq!(rig.model.take_interrupts(), [(0, Irq::CmdSync)]);
}

#[test]
fn time_does_not_move_an_smmu_without_msis() {
    let rig = ModelRig::new();
    rig.send(Command::SYNC);
    rig.model.listen(0);
    rig.model.tick();
    assert_eq!(rig.model.take_carried_out(0), [vec![], vec![]]);
}

#[rstest]
#[case::below(RAM - 4)]
#[case::above(0x00ff_ffff_ffff_fffc)]
fn an_msi_to_nowhere_is_a_global_error_and_the_sync_is_complete(#[case] address: u64) {
    let rig = with_msi();
    rig.run(&[sync_with_msi(address, 7), nh_asid(0, 5)]);
    let active = rig.regs.read(regs::GERROR) ^ rig.regs.read(regs::GERRORN);
    assert_eq!(active, regs::gerror::MSI_CMDQ_ABT, "the queue itself runs");
    assert_eq!(rig.model.take_interrupts(), [(0, Irq::Gerror)]);
    acknowledge(&rig);
    rig.run(&[sync_with_msi(A, 7)]);
    assert_eq!((rig.get(A), rig.model.take_interrupts()), (7, vec![]));
}

#[test]
fn an_msi_that_is_lost() {
    let rig = with_msi();
    rig.model.inject(0, InjectedFault::MsiLost);
    rig.run(&[sync_with_msi(A, 7)]);
    assert_eq!((rig.get(A), rig.regs.read(regs::GERROR)), (0, 0));
    rig.model.mend(0);
    rig.run(&[sync_with_msi(A, 8)]);
    assert_eq!(rig.get(A), 8);
}

#[test]
fn global_errors_and_events_have_msis_too() {
    let rig = with_msi();
    let write = |register, value| rig.regs.write(register, value);
    rig.regs.write(regs::IRQ_CTRL, 0);
    write(regs::GERROR_IRQ_CFG0, A);
    rig.regs.write(regs::GERROR_IRQ_CFG1, 1);
    write(regs::EVENTQ_IRQ_CFG0, A + 4);
    rig.regs.write(regs::EVENTQ_IRQ_CFG1, 2);
    rig.regs.write(regs::EVENTQ_IRQ_CFG2, 0x3f);
    rig.regs.write(regs::IRQ_CTRL, regs::irq_ctrl::GERROR | regs::irq_ctrl::EVENTQ);
    assert_eq!(rig.regs.read(regs::GERROR_IRQ_CFG0), A);
    assert_eq!(rig.regs.read(regs::EVENTQ_IRQ_CFG2), 0x3f);
    rig.run(&[sync_with_msi(RAM - 4, 7)]);
    assert_eq!(rig.dma(SID, IOVA), None, "there is no STE");
    assert_eq!(rig.get(A), 2 << 32 | 1);
    assert_eq!((rig.model.take_interrupts(), rig.model.take_hazards()), (vec![], vec![]));
    write(regs::GERROR_IRQ_CFG0, 0);
    let [Hazard::Protocol { violation, .. }] = rig.model.take_hazards()[..] else { panic!() };
    let by = "IRQ_CTRL.GERROR_IRQEN";
    assert_eq!(violation, Violation::Enabled { register: "GERROR_IRQ_CFG0", by });
}

#[test]
fn an_msi_of_a_global_error_to_nowhere_ends() {
    let rig = with_msi();
    rig.regs.write(regs::IRQ_CTRL, 0);
    rig.regs.write(regs::GERROR_IRQ_CFG0, RAM - 4);
    rig.regs.write(regs::IRQ_CTRL, regs::irq_ctrl::GERROR);
    rig.run(&[sync_with_msi(RAM - 4, 7)]);
    let both = regs::gerror::MSI_CMDQ_ABT | regs::gerror::MSI_GERROR_ABT;
    assert_eq!(rig.regs.read(regs::GERROR), both);
}

#[test]
fn a_slow_queue() {
    let rig = ModelRig::new();
    rig.model.listen(0);
    rig.model.inject(0, InjectedFault::CommandQueueSlow { per_look: 1 });
    let commands = [nh_asid(0, 5), nh_va(0, 5, IOVA, Leaf::Last), Command::SYNC];
    for command in commands {
        rig.send(command);
    }
    for done in 1..=3 {
        assert_eq!(rig.idle(), done == 3);
    }
    let raw: Vec<_> = commands.iter().map(|command| command.encode()).collect();
    assert_eq!(rig.model.take_carried_out(0), [raw, vec![]]);
    rig.model.mend(0);
    for command in commands {
        rig.send(command);
    }
    assert!(rig.idle());
}

#[test]
fn fetches_that_abort() {
    let rig = ModelRig::new();
    rig.model.inject(0, InjectedFault::FetchAbort { times: 2 });
    rig.send(nh_asid(0, 5));
    rig.send(Command::SYNC);
    for _ in 0..2 {
        assert!(!rig.wait());
        assert_eq!(error(&rig), Some(CommandErrorCode::ABT));
        acknowledge(&rig);
    }
    assert!(rig.wait());
    rig.model.inject(0, InjectedFault::FetchAbort { times: u32::MAX });
    rig.send(Command::SYNC);
    assert!(!rig.wait());
    rig.model.mend(0);
    assert!(!rig.wait(), "the error is still active");
    acknowledge(&rig);
    assert!(rig.wait());
}

#[test]
fn an_unanswered_atc_inv_stops_the_next_sync() {
    let rig = with_ats();
    rig.run(&[atc_inv(SID), atc_inv(OTHER)]);
    rig.model.inject(0, InjectedFault::AtcTimeout { stream: SID });
    rig.run(&[atc_inv(OTHER)]);
    rig.model.listen(0);
    let at = rig.regs.read(regs::CMDQ_PROD);
    rig.send(atc_inv(SID));
    rig.send(nh_asid(0, 5));
    rig.send(Command::SYNC);
    rig.send(Command::SYNC);
    assert!(!rig.wait());
    assert_eq!(error(&rig), Some(CommandErrorCode::ATC_INV_SYNC));
    assert_eq!(rig.regs.read(regs::CMDQ_CONS) & 0x1f, (at + 2) & 0x1f, "it stays at the sync");
    assert_eq!(rig.model.take_carried_out(0)[0].len(), 2);
    acknowledge(&rig);
    assert!(rig.wait());
    assert_eq!(rig.model.take_carried_out(0)[0], [Command::SYNC.encode(); 2]);
    rig.model.mend(0);
    rig.run(&[atc_inv(SID)]);
}

#[test]
fn ats_lets_the_driver_set_atschk() {
    let rig = with_ats();
    rig.regs.write(regs::CR0, 0x1d);
    assert_eq!((rig.regs.read(regs::CR0ACK), rig.model.take_hazards()), (0x1d, vec![]));
}

#[test]
fn power_on_forgets_the_timeout_and_keeps_the_fault() {
    let rig = with_ats();
    rig.model.inject(0, InjectedFault::AtcTimeout { stream: SID });
    rig.send(atc_inv(SID));
    rig.regs.read(regs::CMDQ_CONS);
    rig.model.reset();
    rig.bring_up();
    rig.send(atc_inv(SID));
    rig.send(Command::SYNC);
    assert!(!rig.wait());
}
