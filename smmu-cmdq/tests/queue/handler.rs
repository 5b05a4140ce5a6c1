//! The error handler, and other callers while it is active.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::Duration;

use crate::common::{PATIENT, QueueFixture, SMMU, illegal, nth, refused};
use rstest::rstest;
use smmu_cmdq::fake::Pace;
use smmu_cmdq::{GlobalErrors, Port, QueueConfig};
use smmu_types::regs::gerror;
use smmu_types::seam::{CountingWait, Registers, RegistersExt, SinkError, Wait};
use smmu_types::{CommandErrorCode, regs};

/// Stops at each write of `GERRORN` until the test lets it go on.
struct BlockingGerrorn<'f> {
    fixture: &'f QueueFixture,
    active: SyncSender<()>,
    go_on: Mutex<Receiver<()>>,
}

impl Registers for BlockingGerrorn<'_> {
    fn read32(&self, offset: u32) -> u32 {
        self.fixture.device.read32(offset)
    }

    fn write32(&self, offset: u32, value: u32) {
        if offset == regs::GERRORN.offset() {
            self.active.send(()).unwrap();
            self.go_on.lock().unwrap().recv().unwrap();
        }
        self.fixture.device.write32(offset, value);
    }

    fn read64(&self, offset: u32) -> u64 {
        self.fixture.device.read64(offset)
    }

    fn write64(&self, offset: u32, value: u64) {
        self.fixture.device.write64(offset, value);
    }
}

#[test]
fn the_registers_are_locked_while_the_handler_is_active() {
    let fixture = QueueFixture::new(Pace::OnWrite);
    let ((active, is_active), (go_on, may_go_on)) = (mpsc::sync_channel(0), mpsc::channel());
    let registers = BlockingGerrorn { fixture: &fixture, active, go_on: Mutex::new(may_go_on) };
    let wait = CountingWait::new();
    let queue = fixture.queue_on(&registers, wait, 3, PATIENT);
    let ticket = queue.issue(&[illegal(0)]).unwrap();
    thread::scope(|scope| {
        let handler = scope.spawn(|| queue.handle_gerror());
        is_active.recv().unwrap();
        assert_eq!(queue.with_registers(|_| ()), None);
        // A second handler returns, and does not see the error twice.
        assert_eq!(queue.handle_gerror(), None);
        go_on.send(()).unwrap();
        assert!(handler.join().unwrap().is_some());
    });
    assert_eq!(queue.with_registers(|_| ()), Some(()));
    assert_eq!(queue.wait(ticket), Err(refused(illegal(0), CommandErrorCode::ILL)));
    assert_eq!(queue.failure_counts().total, 1);
}

/// The interrupt is an edge: it does not come again. Its handler returns at once.
#[rstest]
#[case::a_waiter_handles_a_refused_command(&[illegal(0)])]
#[case::a_caller_uses_the_registers(&[])]
fn a_caller_inside_does_the_work_of_an_interrupt(#[case] commands: &[smmu_types::Command]) {
    let fixture = QueueFixture::new(Pace::OnWrite);
    let ((active, is_active), (go_on, may_go_on)) = (mpsc::sync_channel(0), mpsc::channel());
    let registers = BlockingGerrorn { fixture: &fixture, active, go_on: Mutex::new(may_go_on) };
    let queue = fixture.queue_on(&registers, CountingWait::new(), 3, PATIENT);
    let ticket = queue.issue(commands).unwrap();
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            if commands.is_empty() {
                queue.with_registers(|registers| registers.write(regs::GERRORN, 0));
            } else {
                queue.handle_gerror();
            }
        });
        is_active.recv().unwrap();
        for error in [gerror::EVENTQ_ABT, gerror::MSI_GERROR_ABT] {
            fixture.device.raise_global_errors(error);
            assert_eq!(queue.handle_global_errors(), GlobalErrors { command: None, active: None });
        }
        // The second write is the acknowledgement on behalf of both handlers.
        go_on.send(()).unwrap();
        is_active.recv().unwrap();
        go_on.send(()).unwrap();
        inside.join().unwrap();
    });
    let errors = gerror::EVENTQ_ABT | gerror::MSI_GERROR_ABT;
    assert_eq!(fixture.device.read(regs::GERRORN) & !gerror::CMDQ, errors);
    let report = |active| GlobalErrors { command: None, active: Some(active) };
    assert_eq!(queue.handle_global_errors(), report(errors));
    assert_eq!(queue.handle_global_errors(), report(0));
    let failed = queue.wait(ticket).map(|_proof| ()).err();
    let refused = commands.first().map(|command| refused(*command, CommandErrorCode::ILL));
    assert_eq!(failed, refused);
}

#[test]
fn one_call_handles_a_command_error_and_all_other_errors() {
    let fixture = QueueFixture::new(Pace::OnWrite);
    let queue = fixture.queue(3);
    let ticket = queue.issue(&[illegal(0)]).unwrap();
    // CMDQP and DPT have acknowledgements of their own.
    let unacknowledged = gerror::CMDQP | gerror::DPT;
    fixture.device.raise_global_errors(gerror::SFM | unacknowledged);
    let found = queue.handle_global_errors();
    assert_eq!(found.command.unwrap().command, illegal(0).encode());
    assert_eq!(found.active, Some(gerror::SFM | unacknowledged));
    assert_eq!(fixture.device.read(regs::GERRORN), gerror::SFM | gerror::CMDQ);
    let again = GlobalErrors { command: None, active: Some(unacknowledged) };
    assert_eq!(queue.handle_global_errors(), again);
    assert!(queue.wait(ticket).is_err());
}

#[test]
fn a_queue_with_other_registers_leaves_global_errors_alone() {
    let fixture = QueueFixture::new(Pace::OnWrite);
    let config = QueueConfig { port: Port::vcmdq(0x4_0000), ..PATIENT };
    let queue = fixture.queue_with(3, config);
    fixture.device.raise_global_errors(gerror::SFM);
    assert_eq!(queue.handle_global_errors(), GlobalErrors { command: None, active: Some(0) });
    assert_eq!(fixture.device.read(regs::GERRORN), 0);
}

#[test]
fn a_halted_queue_still_acknowledges_global_errors() {
    let fixture = QueueFixture::new(Pace::Dead);
    let queue = fixture.queue(3);
    let ticket = queue.issue(&[nth(0)]).unwrap();
    fixture.device.lie(Some(u32::MAX));
    assert!(queue.wait(ticket).is_err());
    fixture.device.raise_global_errors(gerror::PRIQ_ABT);
    assert_eq!(queue.handle_global_errors().active, Some(gerror::PRIQ_ABT));
    assert_eq!(fixture.device.read(regs::GERRORN), gerror::PRIQ_ABT);
}

/// A clock that counts the looks of all waiters.
#[derive(Default)]
struct LookCounter(CountingWait, AtomicU32);

impl Wait for LookCounter {
    fn now(&self) -> Duration {
        self.0.now()
    }

    fn relax(&self, round: u32) {
        self.1.fetch_add(1, Relaxed);
        self.0.relax(round);
        thread::yield_now();
    }
}

#[test]
fn the_handler_does_not_write_gerrorn_inside_with_registers() {
    let fixture = QueueFixture::new(Pace::OnWrite);
    let looks = LookCounter::default();
    let queue = fixture.queue_on(&fixture.device, &looks, 3, PATIENT);
    thread::scope(|scope| {
        let waiter = queue.with_registers(|registers| {
            let waiter = scope.spawn(|| queue.run(&[illegal(0)]));
            while looks.1.load(Relaxed) < 200 {
                thread::yield_now();
            }
            assert_eq!(registers.read(regs::GERROR), 1);
            registers.write(regs::GERRORN, 0x100);
            waiter
        });
        let error = refused(illegal(0), CommandErrorCode::ILL);
        assert_eq!(waiter.unwrap().join().unwrap(), Err(error));
    });
    assert_eq!(fixture.device.read(regs::GERRORN), 0x101);
}

/// Results of four threads. All of them wait before `meanwhile` lets the SMMU do anything.
fn wait_in_four_threads(
    fixture: &QueueFixture,
    looks: &LookCounter,
    commands: [&[smmu_types::Command]; 4],
    meanwhile: impl FnOnce(),
) -> [Result<(), SinkError>; 4] {
    let queue = fixture.queue_on(&fixture.device, looks, 5, PATIENT);
    let tickets = commands.map(|commands| queue.issue(commands).unwrap());
    let all = Barrier::new(tickets.len() + 1);
    thread::scope(|scope| {
        let waiters = tickets.map(|ticket| {
            let (queue, all) = (&queue, &all);
            scope.spawn(move || {
                all.wait();
                queue.wait(ticket).map(|_proof| ())
            })
        });
        all.wait();
        while looks.1.load(Relaxed) < 40 {
            thread::yield_now();
        }
        meanwhile();
        waiters.map(|waiter| waiter.join().unwrap())
    })
}

#[rstest]
#[case::all_ones(u32::MAX)]
#[case::ahead_of_the_producer(9)]
fn every_waiter_learns_of_a_loss(#[case] cons: u32) {
    let fixture = QueueFixture::new(Pace::Dead);
    let looks = LookCounter::default();
    let commands = [0, 1, 2, 3].map(|n| [nth(n)]);
    let told = wait_in_four_threads(&fixture, &looks, commands.each_ref().map(|c| &c[..]), || {
        fixture.device.lie(Some(cons));
    });
    assert_eq!(told, [Err(SinkError::Lost { smmu: SMMU, cons }); 4]);
}

#[rstest]
fn a_persistent_error_fails_all_tickets_behind_it_and_none_before(
    #[values(CommandErrorCode::ABT, CommandErrorCode(9))] code: CommandErrorCode,
    #[values(Pace::PerRead(1), Pace::PerRead(5))] pace: Pace,
) {
    let fixture = QueueFixture::new(Pace::Dead);
    fixture.device.fail_at(3, &[code; 3]);
    let looks = LookCounter::default();
    let commands = [0, 1, 2, 3].map(|n| [nth(n), nth(n + 4)]);
    let told = wait_in_four_threads(&fixture, &looks, commands.each_ref().map(|c| &c[..]), || {
        fixture.device.set_pace(pace);
    });
    let stuck = Err(refused(nth(1), code));
    assert_eq!(told, [Ok(()), stuck, stuck, stuck]);
    assert_eq!(fixture.device.executed().len(), 3);
}

/// The queue has 16 records. A further failure evicts the oldest.
#[rstest]
fn the_oldest_of_too_many_failures_are_evicted(#[values(1, 15, 16, 17, 18, 31)] failures: u64) {
    let fixture = QueueFixture::new(Pace::OnWrite);
    let queue = fixture.queue(6);
    let before = queue.issue(&[nth(0)]).unwrap();
    let _proof = queue.wait(before).unwrap();
    let mut tickets = Vec::new();
    for n in 0..failures {
        tickets.push((None, queue.issue(&[nth(n)]).unwrap()));
        tickets.push((Some(n), queue.issue(&[illegal(n)]).unwrap()));
        assert!(queue.handle_gerror().is_some());
    }
    let evicted = failures.saturating_sub(16);
    // The youngest first, so that no claim makes room before the evicted ones are asked for.
    for (n, ticket) in tickets.into_iter().rev() {
        let start = ticket.positions().start;
        let want = match n {
            Some(n) if n >= evicted => Err(refused(illegal(n), CommandErrorCode::ILL)),
            Some(_) => Err(SinkError::TooManyFailures { smmu: SMMU }),
            // A ticket from before an evicted failure: the queue cannot rule out that it was
            // theirs.
            None if start.0 < 2 + evicted * 4 => Err(SinkError::TooManyFailures { smmu: SMMU }),
            None => Ok(()),
        };
        assert_eq!(queue.wait(ticket).map(|_proof| ()), want, "{start:?}");
    }
    assert_eq!(queue.failure_counts().evicted, evicted);
    let _proof = queue.run(&[nth(1)]).unwrap();
}
