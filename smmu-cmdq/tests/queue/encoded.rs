//! Encoded commands: each call does what the call with the typed ones does.

use rstest::rstest;
use smmu_cmdq::fake::Pace;
use smmu_cmdq::{Opcodes, Passes, QueueConfig, QueueGroup, QueueSet, RepeatingSink};
use smmu_types::seam::{CommandSink, EncodedBatch, SinkError};
use smmu_types::{Command, RawCommand, SmmuId};

use crate::common::{FixtureQueue, QueueFixture, SMMU, atc, nth};

/// How a script calls a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Typed,
    Encoded,
}

impl Form {
    fn issue<S: CommandSink>(self, sink: &S, commands: &[Command]) -> Result<S::Ticket, SinkError> {
        let words: Vec<_> = commands.iter().map(|command| command.encode()).collect();
        match self {
            Form::Typed => sink.issue(SMMU, commands),
            Form::Encoded => sink.issue_encoded(SMMU, EncodedBatch::new(&words).unwrap()),
        }
    }

    fn push<S: CommandSink>(
        self,
        sink: &S,
        pushed: Option<S::Pushed>,
        commands: &[Command],
    ) -> Result<S::Pushed, SinkError> {
        let words: Vec<_> = commands.iter().map(|command| command.encode()).collect();
        match self {
            Form::Typed => sink.push(SMMU, pushed, commands),
            Form::Encoded => sink.push_encoded(SMMU, pushed, EncodedBatch::new(&words).unwrap()),
        }
    }

    fn prove<S: CommandSink>(
        self,
        sink: &S,
        pushed: S::Pushed,
        commands: &[Command],
    ) -> Result<S::Ticket, SinkError> {
        let words: Vec<_> = commands.iter().map(|command| command.encode()).collect();
        match self {
            Form::Typed => sink.prove(pushed, commands),
            Form::Encoded => sink.prove_encoded(pushed, EncodedBatch::new(&words).unwrap()),
        }
    }

    /// Calls of every kind and length, and the errors among their results.
    fn run<S: CommandSink>(self, sink: &S) -> Vec<Option<SinkError>> {
        let mut errors = Vec::new();
        let flushes: Vec<_> = (0..64).map(nth).collect();
        let mixed = [nth(1), Command::CfgiAll, atc(), Command::TlbiNsnhAll, nth(2)];
        for commands in [&flushes[..0], &flushes[..1], &flushes[..3], &flushes, &mixed] {
            let issued = self.issue(sink, commands);
            errors.push(issued.and_then(|ticket| sink.wait(ticket)).err());
            let pushed = self.push(sink, None, commands);
            let pushed = pushed.and_then(|pushed| self.push(sink, Some(pushed), &flushes[..2]));
            let proven = pushed.and_then(|pushed| self.prove(sink, pushed, commands));
            errors.push(proven.and_then(|ticket| sink.wait(ticket)).err());
        }
        errors
    }
}

/// What the devices have executed, and the errors of the calls.
type Outcome = (Vec<Vec<Command>>, Vec<Option<SinkError>>);

/// Runs the script on a sink over queues of one SMMU.
fn outcome<'f, S: CommandSink>(
    form: Form,
    fixtures: &'f [QueueFixture],
    sink: impl FnOnce(Vec<FixtureQueue<'f>>) -> S,
) -> Outcome {
    // Smaller than the longest batch, so that commands wrap and go in pieces.
    let guest = QueueConfig { takes: Opcodes::VCMDQ_GUEST, ..QueueConfig::default() };
    let queues = fixtures.iter().enumerate().map(|(n, fixture)| match n {
        0 => fixture.queue(4),
        _ => fixture.queue_with(4, guest),
    });
    let errors = form.run(&sink(queues.collect()));
    (fixtures.iter().map(|fixture| fixture.device.executed()).collect(), errors)
}

/// Checks that both forms have the same outcome, and that the script reaches the devices.
fn check(number: usize, run: impl Fn(Form, &[QueueFixture]) -> Outcome) {
    let [typed, encoded] = [Form::Typed, Form::Encoded].map(|form| {
        let fixtures: Vec<_> = (0..number).map(|_| QueueFixture::new(Pace::OnWrite)).collect();
        run(form, &fixtures)
    });
    assert_eq!(typed, encoded);
    assert!(typed.0.concat().len() > 200, "{} commands", typed.0.concat().len());
    assert!(typed.1.iter().any(Option::is_none));
}

#[test]
fn a_queue_gets_the_same_words() {
    check(1, |form, fixtures| outcome(form, fixtures, |mut queues| queues.remove(0)));
}

#[test]
fn a_queue_refuses_an_atc_inv_that_is_pushed() {
    let fixture = QueueFixture::new(Pace::OnWrite);
    let queue = fixture.queue(4);
    for words in [vec![atc().encode()], vec![nth(1).encode(), atc().encode()]] {
        let error = queue.push_encoded(None, &words).unwrap_err();
        assert_eq!(error, SinkError::AtcInvPushed { smmu: SMMU });
    }
    let ticket = queue.issue_encoded(&[atc().encode()]).unwrap();
    assert_eq!(queue.wait(ticket).unwrap().smmu(), SMMU);
    let sync = Command::SYNC;
    assert_eq!(fixture.device.executed(), [sync, nth(1), sync, atc(), sync]);
}

#[test]
fn a_queue_takes_any_number_of_words() {
    let fixture = QueueFixture::new(Pace::OnWrite);
    let queue = fixture.queue(4);
    let commands: Vec<_> = (0..1000).map(nth).collect();
    let words: Vec<RawCommand> = commands.iter().map(|command| command.encode()).collect();
    let ticket = queue.issue_encoded(&words).unwrap();
    assert_eq!(queue.wait(ticket).unwrap().smmu(), SMMU);
    assert_eq!(fixture.device.executed()[..1000], commands);
}

#[rstest]
fn a_repeating_sink_sends_them_as_often(#[values(Passes::One, Passes::Two)] passes: Passes) {
    check(1, |form, fixtures| {
        outcome(form, fixtures, |mut queues| RepeatingSink::new(queues.remove(0), passes))
    });
}

#[rstest]
fn a_group_picks_the_same_queue(#[values(1, 3)] queues: usize) {
    let by_asid = |commands: &[Command]| match commands.first() {
        Some(Command::TlbiNhAsid { asid, .. }) => asid.0.into(),
        _ => 1,
    };
    check(queues, |form, fixtures| {
        outcome(form, fixtures, |queues| QueueGroup::new(queues, by_asid).unwrap())
    });
}

#[test]
fn a_set_finds_the_same_smmu() {
    check(1, |form, fixtures| outcome(form, fixtures, |queues| QueueSet::new(queues).unwrap()));
    let fixture = QueueFixture::new(Pace::OnWrite);
    let (set, other) = (QueueSet::new([fixture.queue(4)]).unwrap(), SmmuId(1));
    let words = [nth(1).encode()];
    let unknown = Some(SinkError::UnknownSmmu { smmu: other });
    assert_eq!(set.issue_encoded(other, EncodedBatch::one(&words[0])).err(), unknown);
    assert_eq!(set.push_encoded(other, None, EncodedBatch::one(&words[0])).err(), unknown);
}
