//! Whoever handles errors, and others beside it.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::Duration;

use crate::common::{Machine, illegal, nth, refused};
use rstest::rstest;
use smmu_cmdq::fake::Pace;
use smmu_cmdq::{CompareExchange, QueueConfig};
use smmu_types::seam::{CountingWait, Registers, RegistersExt, SinkError, Wait};
use smmu_types::{CommandErrorCode, SmmuId, regs};

const SMMU: SmmuId = SmmuId(0);

/// Time by count, of which there is no end: a thread that is not scheduled is no time-out.
const PATIENT: QueueConfig = QueueConfig {
    takes: smmu_cmdq::Opcodes::ALL,
    timeout: Duration::from_secs(u64::MAX),
    sync_by: smmu_cmdq::SyncBy::Polling,
    port: smmu_cmdq::Port::MAIN,
    sync_every: None,
};

/// Holds up each write of `GERRORN`, and says so.
struct HeldUp<'m> {
    machine: &'m Machine,
    inside: SyncSender<()>,
    go_on: Mutex<Receiver<()>>,
}

impl Registers for HeldUp<'_> {
    fn read32(&self, offset: u32) -> u32 {
        self.machine.device.read32(offset)
    }

    fn write32(&self, offset: u32, value: u32) {
        if offset == regs::GERRORN.offset() {
            self.inside.send(()).unwrap();
            self.go_on.lock().unwrap().recv().unwrap();
        }
        self.machine.device.write32(offset, value);
    }

    fn read64(&self, offset: u32) -> u64 {
        self.machine.device.read64(offset)
    }

    fn write64(&self, offset: u32, value: u64) {
        self.machine.device.write64(offset, value);
    }
}

#[test]
fn nobody_is_let_to_the_registers_while_the_handler_is_inside() {
    let machine = Machine::new(Pace::OnWrite);
    let ((inside, is_inside), (go_on, may_go_on)) = (mpsc::sync_channel(0), mpsc::channel());
    let registers = HeldUp { machine: &machine, inside, go_on: Mutex::new(may_go_on) };
    let wait = CountingWait::new();
    let queue = machine.queue_through::<_, _, CompareExchange, 256>(&registers, wait, 3, PATIENT);
    let ticket = queue.issue(&[illegal(0)]).unwrap();
    thread::scope(|scope| {
        let handler = scope.spawn(|| queue.handle_gerror());
        is_inside.recv().unwrap();
        assert_eq!(queue.with_registers(|_| ()), None);
        // Nor is there anything to do for another handler, or an error to be seen twice.
        assert_eq!(queue.handle_gerror(), None);
        go_on.send(()).unwrap();
        assert!(handler.join().unwrap().is_some());
    });
    assert_eq!(queue.with_registers(|_| ()), Some(()));
    assert_eq!(queue.wait(ticket), Err(refused(illegal(0), CommandErrorCode::ILL)));
    assert_eq!(queue.failure_counts().total, 1);
}

/// Counts looks of whoever waits.
#[derive(Default)]
struct Looks(CountingWait, AtomicU32);

impl Wait for Looks {
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
fn the_handler_leaves_gerrorn_alone_while_somebody_else_has_the_registers() {
    let machine = Machine::new(Pace::OnWrite);
    let looks = Looks::default();
    let queue =
        machine.queue_through::<_, _, CompareExchange, 256>(&machine.device, &looks, 3, PATIENT);
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
    assert_eq!(machine.device.read(regs::GERRORN), 0x101);
}

/// Tickets of as many threads, all of which wait before the SMMU does anything.
fn all_wait(
    machine: &Machine,
    looks: &Looks,
    commands: [&[smmu_types::Command]; 4],
    meanwhile: impl FnOnce(),
) -> [Result<(), SinkError>; 4] {
    let queue =
        machine.queue_through::<_, _, CompareExchange, 256>(&machine.device, looks, 5, PATIENT);
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
fn a_loss_is_told_to_everybody_alike(#[case] cons: u32) {
    let machine = Machine::new(Pace::Dead);
    let looks = Looks::default();
    let commands = [0, 1, 2, 3].map(|n| [nth(n)]);
    let told = all_wait(&machine, &looks, commands.each_ref().map(|c| &c[..]), || {
        machine.device.lie(Some(cons));
    });
    assert_eq!(told, [Err(SinkError::Lost { smmu: SMMU, cons }); 4]);
}

#[rstest]
fn an_error_that_stays_is_told_to_all_behind_it_and_to_nobody_before(
    #[values(CommandErrorCode::ABT, CommandErrorCode(9))] code: CommandErrorCode,
    #[values(Pace::PerRead(1), Pace::PerRead(5))] pace: Pace,
) {
    let machine = Machine::new(Pace::Dead);
    machine.device.fail_at(3, &[code; 3]);
    let looks = Looks::default();
    let commands = [0, 1, 2, 3].map(|n| [nth(n), nth(n + 4)]);
    let told = all_wait(&machine, &looks, commands.each_ref().map(|c| &c[..]), || {
        machine.device.set_pace(pace);
    });
    let stuck = Err(refused(nth(1), code));
    assert_eq!(told, [Ok(()), stuck, stuck, stuck]);
    assert_eq!(machine.device.executed().len(), 3);
}

/// Sixteen failures are told apart, and of more the oldest are not.
#[rstest]
fn of_more_failures_than_there_is_room_for_the_oldest_lose_their_names(
    #[values(1, 15, 16, 17, 18, 31)] failures: u64,
) {
    let machine = Machine::new(Pace::OnWrite);
    let queue = machine.queue(6);
    let before = queue.issue(&[nth(0)]).unwrap();
    let _proof = queue.wait(before).unwrap();
    let mut tickets = Vec::new();
    for n in 0..failures {
        tickets.push((None, queue.issue(&[nth(n)]).unwrap()));
        tickets.push((Some(n), queue.issue(&[illegal(n)]).unwrap()));
        assert!(queue.handle_gerror().is_some());
    }
    let nameless = failures.saturating_sub(16);
    // The youngest first, so that nothing makes room for those that are forgotten already.
    for (n, ticket) in tickets.into_iter().rev() {
        let start = ticket.positions().start;
        let want = match n {
            Some(n) if n >= nameless => Err(refused(illegal(n), CommandErrorCode::ILL)),
            Some(_) => Err(SinkError::TooManyFailures { smmu: SMMU }),
            // From before a failure that was forgotten: it might be theirs, as far as the queue knows.
            None if start.0 < 2 + nameless * 4 => Err(SinkError::TooManyFailures { smmu: SMMU }),
            None => Ok(()),
        };
        assert_eq!(queue.wait(ticket).map(|_proof| ()), want, "{start:?}");
    }
    assert_eq!(queue.failure_counts().evicted, nameless);
    let _proof = queue.run(&[nth(1)]).unwrap();
}
