//! Several queues of one SMMU.

use std::cell::Cell;

use rstest::rstest;
use smmu_cmdq::fake::Pace;
use smmu_cmdq::{Opcodes, QueueConfig, QueueError, QueueGroup, QueueSet};
use smmu_types::seam::{CommandSink, SinkError};
use smmu_types::{Command, SmmuId};

use crate::common::{Machine, Queue, illegal, nth};

const ID: SmmuId = SmmuId(0);

fn guest() -> QueueConfig {
    QueueConfig { takes: Opcodes::VCMDQ_GUEST, ..QueueConfig::default() }
}

/// A main queue and two others, each on a device of its own.
struct Rig {
    main: Machine,
    others: [Machine; 2],
}

impl Rig {
    fn new() -> Self {
        let machine = || Machine::new(Pace::PerRead(64));
        Rig { main: machine(), others: [machine(), machine()] }
    }

    fn queues(&self) -> [Queue<'_>; 3] {
        let [a, b] = &self.others;
        [self.main.queue(4), a.queue_with(4, guest()), b.queue_with(4, guest())]
    }

    fn executed(&self) -> [Vec<Command>; 3] {
        let [a, b] = &self.others;
        [&self.main, a, b].map(|machine| machine.device.executed())
    }
}

const CFGI: Command = Command::CfgiAll;
const SYNC: Command = Command::SYNC;

#[rstest]
#[case::the_first(0, 1)]
#[case::the_second(1, 2)]
#[case::come_round(7, 2)]
fn a_call_uses_the_queue_that_is_picked(#[case] picked: usize, #[case] queue: usize) {
    let rig = Rig::new();
    let sink = QueueGroup::new(rig.queues(), move |_: &[Command]| picked).unwrap();
    let ticket = sink.issue(ID, &[nth(1), nth(2)]).unwrap();
    assert_eq!(ticket.queue(), queue);
    assert_eq!(sink.wait(ticket).unwrap().smmu(), ID);
    let mut want = [vec![], vec![], vec![]];
    want[queue] = vec![nth(1), nth(2), SYNC];
    assert_eq!(rig.executed(), want);
}

#[test]
fn what_a_queue_does_not_take_goes_to_the_main_queue_in_one_piece() {
    let rig = Rig::new();
    let sink = QueueGroup::new(rig.queues(), |_: &[Command]| 0).unwrap();
    assert_eq!(sink.run(ID, &[nth(1), CFGI, nth(2)]).unwrap().smmu(), ID);
    assert_eq!(rig.executed(), [vec![nth(1), CFGI, nth(2), SYNC], vec![], vec![]]);
}

#[test]
fn a_queue_may_be_picked_by_the_commands() {
    let rig = Rig::new();
    let by_asid = |commands: &[Command]| match commands.first() {
        Some(Command::TlbiNhAsid { asid, .. }) => asid.0.into(),
        _ => 0,
    };
    let sink = QueueGroup::new(rig.queues(), by_asid).unwrap();
    for n in 0..4 {
        assert_eq!(sink.run(ID, &[nth(n)]).unwrap().smmu(), ID);
    }
    let [main, even, odd] = rig.executed();
    assert_eq!(main, []);
    assert_eq!(even, [nth(0), SYNC, nth(2), SYNC]);
    assert_eq!(odd, [nth(1), SYNC, nth(3), SYNC]);
}

#[test]
fn what_is_proven_together_stays_in_one_queue_wherever_the_caller_goes() {
    let rig = Rig::new();
    let cpu = Cell::new(0);
    let sink = QueueGroup::new(rig.queues(), |_: &[Command]| cpu.get()).unwrap();
    let pushed = sink.push(ID, None, &[nth(1)]).unwrap();
    cpu.set(1);
    let pushed = sink.push(ID, Some(pushed), &[nth(2)]).unwrap();
    let ticket = sink.prove(pushed, &[nth(3)]).unwrap();
    assert_eq!(sink.wait(ticket).unwrap().smmu(), ID);
    assert_eq!(rig.executed(), [vec![], vec![nth(1), nth(2), nth(3), SYNC], vec![]]);
}

#[test]
fn what_was_pushed_is_complete_before_another_queue_gets_the_rest() {
    let rig = Rig::new();
    let sink = QueueGroup::new(rig.queues(), |_: &[Command]| 0).unwrap();
    let pushed = sink.push(ID, None, &[nth(1)]).unwrap();
    let pushed = sink.push(ID, Some(pushed), &[CFGI]).unwrap();
    // The first queue has been waited for, while the main queue was only told.
    assert_eq!(rig.executed()[1], [nth(1), SYNC]);
    let ticket = sink.prove(pushed, &[nth(2)]).unwrap();
    assert_eq!(sink.wait(ticket).unwrap().smmu(), ID);
    assert_eq!(rig.executed()[0], [CFGI, nth(2), SYNC]);
}

#[test]
fn a_failure_in_the_queue_before_reaches_the_one_who_pushed() {
    let rig = Rig::new();
    let everything = QueueConfig { takes: Opcodes::NONE.with(0xff), ..QueueConfig::default() };
    let queues = [rig.main.queue(4), rig.others[0].queue_with(4, everything)];
    let sink = QueueGroup::new(queues, |_: &[Command]| 0).unwrap();
    let pushed = sink.push(ID, None, &[illegal(1)]).unwrap();
    let error = sink.push(ID, Some(pushed), &[CFGI]).unwrap_err();
    assert!(matches!(error, SinkError::Command { command, .. } if command == illegal(1).encode()));
    assert_eq!(rig.executed()[0], []);
}

#[test]
fn a_group_is_refused_that_could_not_carry_out_every_command_of_its_smmu() {
    let rig = Rig::new();
    let pick = |_: &[Command]| 0;
    let none: [Queue<'_>; 0] = [];
    assert_eq!(QueueGroup::new(none, pick).map(|_| ()), Err(QueueError::NoQueue));
    let [main, other, _] = rig.queues();
    let refused = QueueGroup::new([other, main], pick).map(|_| ());
    assert_eq!(refused, Err(QueueError::MainRefuses { smmu: ID }));
}

#[test]
fn groups_of_several_smmus_make_a_set() {
    let rig = Rig::new();
    let group = QueueGroup::new(rig.queues(), |_: &[Command]| 1).unwrap();
    let set = QueueSet::new([group]).unwrap();
    let pushed = set.push(ID, None, &[nth(1)]).unwrap();
    let ticket = set.prove(pushed, &[]).unwrap();
    assert_eq!(set.wait(ticket).unwrap().smmu(), ID);
    assert_eq!(rig.executed()[2], [nth(1), SYNC]);
    let unknown = SinkError::UnknownSmmu { smmu: SmmuId(1) };
    assert_eq!(set.run(SmmuId(1), &[nth(1)]).unwrap_err(), unknown);
}
