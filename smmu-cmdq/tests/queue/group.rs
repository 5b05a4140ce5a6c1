//! Several queues of one SMMU in a group.

use std::cell::Cell;

use rstest::rstest;
use smmu_cmdq::fake::Pace;
use smmu_cmdq::{Opcodes, QueueConfig, QueueError, QueueGroup, QueueSet};
use smmu_types::seam::{CommandSink, SinkError};
use smmu_types::{Command, SmmuId};

use crate::common::{FixtureQueue, QueueFixture, illegal, nth};

const ID: SmmuId = SmmuId(0);

fn guest() -> QueueConfig {
    QueueConfig { takes: Opcodes::VCMDQ_GUEST, ..QueueConfig::default() }
}

/// A main queue and two others, each on a device of its own.
struct GroupFixture {
    main: QueueFixture,
    others: [QueueFixture; 2],
}

impl GroupFixture {
    fn new() -> Self {
        let fixture = || QueueFixture::new(Pace::PerRead(64));
        GroupFixture { main: fixture(), others: [fixture(), fixture()] }
    }

    fn queues(&self) -> [FixtureQueue<'_>; 3] {
        let [a, b] = &self.others;
        [self.main.queue(4), a.queue_with(4, guest()), b.queue_with(4, guest())]
    }

    fn executed(&self) -> [Vec<Command>; 3] {
        let [a, b] = &self.others;
        [&self.main, a, b].map(|fixture| fixture.device.executed())
    }
}

const CFGI: Command = Command::CfgiAll;
const SYNC: Command = Command::SYNC;

#[rstest]
#[case::the_first(0, 1)]
#[case::the_second(1, 2)]
#[case::modulo(7, 2)]
fn a_call_uses_the_queue_that_is_picked(#[case] picked: usize, #[case] queue: usize) {
    let fixture = GroupFixture::new();
    let sink = QueueGroup::new(fixture.queues(), move |_: &[Command]| picked).unwrap();
    let ticket = sink.issue(ID, &[nth(1), nth(2)]).unwrap();
    assert_eq!(ticket.queue(), queue);
    assert_eq!(sink.wait(ticket).unwrap().smmu(), ID);
    let mut want = [vec![], vec![], vec![]];
    want[queue] = vec![nth(1), nth(2), SYNC];
    assert_eq!(fixture.executed(), want);
}

#[test]
fn commands_that_a_queue_does_not_take_go_to_the_main_queue_in_one_piece() {
    let fixture = GroupFixture::new();
    let sink = QueueGroup::new(fixture.queues(), |_: &[Command]| 0).unwrap();
    assert_eq!(sink.run(ID, &[nth(1), CFGI, nth(2)]).unwrap().smmu(), ID);
    assert_eq!(fixture.executed(), [vec![nth(1), CFGI, nth(2), SYNC], vec![], vec![]]);
}

#[test]
fn a_pick_may_depend_on_the_commands() {
    let fixture = GroupFixture::new();
    let by_asid = |commands: &[Command]| match commands.first() {
        Some(Command::TlbiNhAsid { asid, .. }) => asid.0.into(),
        _ => 0,
    };
    let sink = QueueGroup::new(fixture.queues(), by_asid).unwrap();
    for n in 0..4 {
        assert_eq!(sink.run(ID, &[nth(n)]).unwrap().smmu(), ID);
    }
    let [main, even, odd] = fixture.executed();
    assert_eq!(main, []);
    assert_eq!(even, [nth(0), SYNC, nth(2), SYNC]);
    assert_eq!(odd, [nth(1), SYNC, nth(3), SYNC]);
}

#[test]
fn commands_proven_together_stay_in_one_queue_when_the_cpu_changes() {
    let fixture = GroupFixture::new();
    let cpu = Cell::new(0);
    let sink = QueueGroup::new(fixture.queues(), |_: &[Command]| cpu.get()).unwrap();
    let pushed = sink.push(ID, None, &[nth(1)]).unwrap();
    cpu.set(1);
    let pushed = sink.push(ID, Some(pushed), &[nth(2)]).unwrap();
    let ticket = sink.prove(pushed, &[nth(3)]).unwrap();
    assert_eq!(sink.wait(ticket).unwrap().smmu(), ID);
    assert_eq!(fixture.executed(), [vec![], vec![nth(1), nth(2), nth(3), SYNC], vec![]]);
}

#[test]
fn pushed_commands_are_complete_before_the_main_queue_gets_the_rest() {
    let fixture = GroupFixture::new();
    let sink = QueueGroup::new(fixture.queues(), |_: &[Command]| 0).unwrap();
    let pushed = sink.push(ID, None, &[nth(1)]).unwrap();
    let pushed = sink.push(ID, Some(pushed), &[CFGI]).unwrap();
    // The group has waited for the first queue, and only pushed to the main queue.
    assert_eq!(fixture.executed()[1], [nth(1), SYNC]);
    let ticket = sink.prove(pushed, &[nth(2)]).unwrap();
    assert_eq!(sink.wait(ticket).unwrap().smmu(), ID);
    assert_eq!(fixture.executed()[0], [CFGI, nth(2), SYNC]);
}

#[test]
fn a_failure_in_the_queue_before_reaches_the_caller_that_pushed() {
    let fixture = GroupFixture::new();
    let everything = QueueConfig { takes: Opcodes::NONE.with(0xff), ..QueueConfig::default() };
    let queues = [fixture.main.queue(4), fixture.others[0].queue_with(4, everything)];
    let sink = QueueGroup::new(queues, |_: &[Command]| 0).unwrap();
    let pushed = sink.push(ID, None, &[illegal(1)]).unwrap();
    let error = sink.push(ID, Some(pushed), &[CFGI]).unwrap_err();
    assert!(matches!(error, SinkError::Command { command, .. } if command == illegal(1).encode()));
    assert_eq!(fixture.executed()[0], []);
}

#[test]
fn a_group_without_a_queue_for_every_command_is_refused() {
    let fixture = GroupFixture::new();
    let pick = |_: &[Command]| 0;
    let none: [FixtureQueue<'_>; 0] = [];
    assert_eq!(QueueGroup::new(none, pick).map(|_| ()), Err(QueueError::NoQueue));
    let [main, other, _] = fixture.queues();
    let refused = QueueGroup::new([other, main], pick).map(|_| ());
    assert_eq!(refused, Err(QueueError::MainRefuses { smmu: ID }));
}

#[test]
fn groups_are_elements_of_a_set() {
    let fixture = GroupFixture::new();
    let group = QueueGroup::new(fixture.queues(), |_: &[Command]| 1).unwrap();
    let set = QueueSet::new([group]).unwrap();
    let pushed = set.push(ID, None, &[nth(1)]).unwrap();
    let ticket = set.prove(pushed, &[]).unwrap();
    assert_eq!(set.wait(ticket).unwrap().smmu(), ID);
    assert_eq!(fixture.executed()[2], [nth(1), SYNC]);
    let unknown = SinkError::UnknownSmmu { smmu: SmmuId(1) };
    assert_eq!(set.run(SmmuId(1), &[nth(1)]).unwrap_err(), unknown);
}
