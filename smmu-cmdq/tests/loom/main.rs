//! The queue under a model checker: two callers and an SMMU, with up to two preemptions.
//!
//!     RUSTFLAGS="--cfg loom" cargo test --release -p smmu-cmdq --test loom
//!
//! The SMMU is a thread that fetches and carries out commands, stops at errors, and may stop for
//! good. The checker treats the following as plain memory. Two accesses without an order between
//! them fail the test, even if the values are right:
//!
//! - each slot: a caller writes it, the SMMU reads it;
//! - one page per caller: the SMMU writes it when it carries out that caller's command. The caller
//!   writes it when it has its proof, as if it gave the page to another owner;
//! - `CMDQ_PROD`: each write of the register is a write.
//!
//! Registers order nothing by themselves. A read of a register that the SMMU writes returns its
//! present value. A read of `GERRORN`, which only callers write, may return an older value unless a
//! barrier orders it, as with a posted write. The seam's `publish` is a release and its `observe`
//! an acquire, and no more: that is what `dmb oshst` and `dmb oshld` guarantee here.
//!
//! For each barrier, one test leaves it out and must fail.
#![cfg(loom)]
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
#![expect(unsafe_code, reason = "accesses that the checker watches over")]

mod hardware;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use hardware::{
    BAD, CommandLog, ENHANCED, EVENTQ_ABT, ErrorReport, LoomMmio, LoomRing, LoomSmmu, MsiDelivery,
    PRIQ_ABT, SMMU, SmmuScript, all, caller_of, command, is_sync, put, smmu,
};
use loom::sync::Arc;
use loom::sync::atomic::Ordering;
use loom::thread;
use rstest::rstest;
use smmu_cmdq::sync::{Barrier, without};
use smmu_cmdq::{CommandQueue, Opcodes, Port, QueueConfig, SyncBy};
use smmu_types::queue::QueueSize;
use smmu_types::seam::SinkError;
use smmu_types::{Command, CommandErrorCode, MsiAttributes, RawCommand, SyncProof};

type QueueUnderLoom = CommandQueue<LoomMmio, LoomRing, LoomMmio, 4>;

/// A queue, its SMMU, and the SMMU's thread.
struct LoomQueue {
    queue: Arc<QueueUnderLoom>,
    hardware: Arc<LoomSmmu>,
    smmu: thread::JoinHandle<CommandLog>,
}

fn loom_queue(log2: u8, config: QueueConfig, script: SmmuScript) -> LoomQueue {
    let hardware = Arc::new(LoomSmmu::new(1 << log2));
    if script.errors == ErrorReport::InPointerRegisters {
        put(&hardware.prod, ENHANCED.enable);
        put(&hardware.cons, ENHANCED.enable);
    }
    let (mmio, ring) = (LoomMmio(hardware.clone()), LoomRing(hardware.clone()));
    let size = QueueSize::from_log2(log2).unwrap();
    let queue = QueueUnderLoom::with_cells(SMMU, mmio.clone(), ring, size, mmio, config).unwrap();
    let smmu = {
        let hardware = hardware.clone();
        thread::spawn(move || smmu(&hardware, script))
    };
    LoomQueue { queue: Arc::new(queue), hardware, smmu }
}

/// The caller has a proof, and may use its page.
fn proven(hardware: &LoomSmmu, caller: usize, done: Result<SyncProof, SinkError>) {
    assert_eq!(done.unwrap().smmu(), SMMU);
    hardware.touch_page(caller);
}

const PATIENT: QueueConfig = QueueConfig {
    takes: Opcodes::ALL,
    timeout: Duration::MAX,
    sync_by: SyncBy::Polling,
    port: Port::MAIN,
    sync_every: None,
};

/// The SMMU carried out each batch once, in one piece, and no other command but `CMD_SYNC`s.
fn assert_carried_out(log: &CommandLog, batches: &[&[Command]]) {
    let words = &log.words;
    let mut left = words.len();
    for batch in batches {
        let batch: Vec<u64> = batch.iter().map(|command| command.encode().0[0]).collect();
        let found = words.windows(batch.len()).filter(|words| *words == batch).count();
        assert_eq!(found, 1, "{batch:x?} in {words:x?}");
        left -= batch.len();
    }
    let syncs = words.iter().filter(|word| is_sync(**word)).count();
    assert_eq!(left, syncs, "{words:x?}");
}

fn check(model: impl Fn() + Sync + Send + 'static) {
    check_within(2, model);
}

/// Interleavings in which threads are preempted at most `preemptions` times.
fn check_within(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 5_000;
    builder.check(model);
}

/// Two callers, each with a command and its `CMD_SYNC`, on a ring that holds both calls or one.
fn two_run(log2: u8, sync_by: SyncBy, msi: MsiDelivery) {
    check(move || {
        let config = QueueConfig { sync_by, ..PATIENT };
        let LoomQueue { queue, hardware, smmu } =
            loom_queue(log2, config, SmmuScript { msi, ..all(4) });
        let other = {
            let (queue, hardware) = (queue.clone(), hardware.clone());
            thread::spawn(move || proven(&hardware, 1, queue.run(&[command(1, 0)])))
        };
        proven(&hardware, 0, queue.run(&[command(0, 0)]));
        other.join().unwrap();
        assert_carried_out(&smmu.join().unwrap(), &[&[command(0, 0)], &[command(1, 0)]]);
    });
}

#[rstest]
fn no_command_is_lost_and_no_proof_is_early(#[values(1, 2)] log2: u8) {
    two_run(log2, SyncBy::Polling, MsiDelivery::Written);
}

const BY_MSI: SyncBy = SyncBy::Msi(MsiAttributes::WRITE_BACK);

#[rstest]
fn an_msi_is_proof_and_a_lost_msi_does_not_hang_a_waiter(
    #[values(MsiDelivery::Written, MsiDelivery::Lost)] msi: MsiDelivery,
) {
    two_run(2, BY_MSI, msi);
    two_run(1, BY_MSI, msi);
}

/// One caller pushes and proves, the other runs a batch. The ring is one slot short of both.
fn push_and_prove() {
    check(|| {
        let LoomQueue { queue, hardware, smmu } = loom_queue(2, PATIENT, all(5));
        let other = {
            let (queue, hardware) = (queue.clone(), hardware.clone());
            thread::spawn(move || proven(&hardware, 1, queue.run(&[command(1, 0)])))
        };
        let pushed = queue.push(None, &[command(0, 0)]).unwrap();
        let ticket = queue.prove(pushed, &[command(0, 1)]).unwrap();
        proven(&hardware, 0, queue.wait(ticket));
        other.join().unwrap();
        let log = smmu.join().unwrap();
        assert_carried_out(&log, &[&[command(0, 0)], &[command(0, 1)], &[command(1, 0)]]);
        let at = |number| {
            let word = command(0, number).encode().0[0];
            log.words.iter().position(|found| *found == word)
        };
        assert!(at(0) < at(1), "{:x?}", log.words);
    });
}

#[test]
fn pushed_commands_stay_in_order_and_are_proven() {
    push_and_prove();
}

/// One caller waits for room, and another pushes into room that the first one found. One preemption
/// shows each missing barrier; two take four minutes.
fn room_found_by_another() {
    check_within(1, || {
        let LoomQueue { queue, hardware, smmu } = loom_queue(1, PATIENT, all(4));
        let other = {
            let queue = queue.clone();
            thread::spawn(move || drop(queue.push(None, &[command(1, 0)]).unwrap()))
        };
        proven(&hardware, 0, queue.run(&[command(0, 0)]));
        let _pushed = queue.push(None, &[command(0, 1)]).unwrap();
        other.join().unwrap();
        let log = smmu.join().unwrap();
        assert_carried_out(&log, &[&[command(0, 0)], &[command(0, 1)], &[command(1, 0)]]);
    });
}

#[test]
fn room_found_by_another_caller_is_free() {
    room_found_by_another();
}

/// One caller has more commands than the ring, beside another caller.
fn long_batch() {
    check(|| {
        const LONG: [Command; 3] = [command(0, 0), command(0, 1), command(0, 2)];
        let LoomQueue { queue, hardware, smmu } = loom_queue(1, PATIENT, all(6));
        let other = {
            let (queue, hardware) = (queue.clone(), hardware.clone());
            thread::spawn(move || proven(&hardware, 1, queue.run(&[command(1, 0)])))
        };
        proven(&hardware, 0, queue.run(&LONG));
        other.join().unwrap();
        assert_carried_out(&smmu.join().unwrap(), &[&LONG, &[command(1, 0)]]);
    });
}

#[test]
fn a_batch_longer_than_the_ring_stays_in_one_piece() {
    long_batch();
}

/// The SMMU refuses the command of one of two callers.
fn refused_command(errors: ErrorReport) {
    check(move || {
        let bad = command(1, 0).encode();
        let refuses = Some((bad.0[0], CommandErrorCode::ILL, 1));
        let port = if errors == ErrorReport::InGerror { Port::MAIN } else { ENHANCED };
        let config = QueueConfig { port, ..PATIENT };
        let script = SmmuScript { errors, refuses, ..all(4) };
        let LoomQueue { queue, hardware, smmu } = loom_queue(2, config, script);
        let other = {
            let queue = queue.clone();
            thread::spawn(move || queue.run(&[command(1, 0)]).unwrap_err())
        };
        proven(&hardware, 0, queue.run(&[command(0, 0)]));
        let error = SinkError::Command { smmu: SMMU, command: bad, code: CommandErrorCode::ILL };
        assert_eq!(other.join().unwrap(), error);
        let log = smmu.join().unwrap();
        assert_eq!(log.acknowledged, 1);
        assert_carried_out(&log, &[&[command(0, 0)]]);
    });
}

#[test]
fn a_refused_command_fails_its_own_caller_only() {
    refused_command(ErrorReport::InGerror);
}

#[test]
fn the_prod_owner_acknowledges_an_error_of_an_enhanced_queue() {
    refused_command(ErrorReport::InPointerRegisters);
}

/// The `ATC_INV`s before the first `CMD_SYNC` time out.
fn atc_timeout() {
    check(|| {
        let sync = Command::SYNC.encode();
        let code = CommandErrorCode::ATC_INV_SYNC;
        let script = SmmuScript { refuses: Some((sync.0[0], code, 1)), ..all(4) };
        let LoomQueue { queue, hardware: _, smmu } = loom_queue(2, PATIENT, script);
        let other = {
            let queue = queue.clone();
            thread::spawn(move || queue.run(&[command(1, 0)]).map(|proof| proof.smmu()))
        };
        let mine = queue.run(&[command(0, 0)]).map(|proof| proof.smmu());
        let mut done = [mine, other.join().unwrap()];
        let log = smmu.join().unwrap();
        // The caller whose commands came first has the `CMD_SYNC` with the error.
        done.rotate_left(caller_of(log.words[0]));
        let error = SinkError::Command { smmu: SMMU, command: sync, code };
        assert_eq!(done, [Err(error), Ok(SMMU)]);
    });
}

#[test]
fn an_atc_timeout_fails_the_sync_that_reported_it() {
    atc_timeout();
}

/// The SMMU cannot fetch the first slot, `times` in a row.
fn aborts(times: u32) {
    check(move || {
        let script = SmmuScript { aborts: times, ..all(4) };
        let LoomQueue { queue, hardware, smmu } = loom_queue(2, PATIENT, script);
        let other = {
            let (queue, hardware) = (queue.clone(), hardware.clone());
            thread::spawn(move || {
                let done = queue.run(&[command(1, 0)]);
                if done.is_ok() {
                    hardware.touch_page(1);
                }
                done.map(|proof| proof.smmu())
            })
        };
        let mine = queue.run(&[command(0, 0)]).map(|proof| proof.smmu());
        let done = [mine, other.join().unwrap()];
        // The queue lets the SMMU try twice. Then every caller gets the command in that slot.
        let first = hardware.slots[0].word.load(Ordering::Relaxed);
        let code = CommandErrorCode::ABT;
        let error = SinkError::Command { smmu: SMMU, command: RawCommand([first, 0]), code };
        let expected = if times < 3 { Ok(SMMU) } else { Err(error) };
        assert_eq!(done, [expected; 2]);
        assert_eq!(smmu.join().unwrap().acknowledged, times.min(2));
    });
}

#[test]
fn an_abort_is_retried_twice() {
    aborts(2);
}

#[test]
fn the_third_abort_halts_the_queue_for_all_callers() {
    aborts(3);
}

/// The SMMU stops after so many commands.
fn dies(log2: u8, after: usize) {
    check(move || {
        let config = QueueConfig { timeout: Duration::from_micros(3), ..PATIENT };
        let LoomQueue { queue, hardware, smmu } = loom_queue(log2, config, all(after));
        let run = |queue: &QueueUnderLoom, hardware: &LoomSmmu, caller: u16| match queue
            .run(&[command(caller, 0)])
        {
            Ok(_) => {
                hardware.touch_page(caller.into());
                1
            }
            Err(SinkError::Timeout { smmu: SMMU, stall: Some(_) }) => 0,
            Err(other) => panic!("{other}"),
        };
        let other = {
            let (queue, hardware) = (queue.clone(), hardware.clone());
            thread::spawn(move || run(&queue, &hardware, 1))
        };
        let mine = run(&queue, &hardware, 0);
        let proven = mine + other.join().unwrap();
        let log = smmu.join().unwrap();
        let syncs = log.words.iter().filter(|word| is_sync(**word)).count();
        assert!(proven <= syncs, "{proven} proofs of {:x?}", log.words);
    });
}

#[rstest]
fn no_waiter_hangs_when_the_smmu_dies(#[values(1, 2)] log2: u8, #[values(1, 2)] after: usize) {
    dies(log2, after);
}

/// A waiter's time is up while another thread records that its command was refused.
fn refused_and_late() {
    check(|| {
        let bad = command(0, 0).encode();
        let refuses = Some((bad.0[0], CommandErrorCode::ILL, 1));
        let config = QueueConfig { timeout: Duration::from_micros(1), ..PATIENT };
        let LoomQueue { queue, hardware: _, smmu } =
            loom_queue(2, config, SmmuScript { refuses, ..all(2) });
        // The waiter must not have made the queue: a thread always reads its own earlier stores.
        let waiter = {
            let queue = queue.clone();
            thread::spawn(move || queue.run(&[command(0, 0)]).map(|proof| proof.smmu()))
        };
        for _ in 0..2 {
            if queue.handle_gerror().is_some() {
                break;
            }
            thread::yield_now();
        }
        let error = SinkError::Command { smmu: SMMU, command: bad, code: CommandErrorCode::ILL };
        match waiter.join().unwrap().unwrap_err() {
            SinkError::Timeout { .. } => {}
            result => assert_eq!(result, error),
        }
        drop(smmu.join());
    });
}

#[test]
fn a_failure_is_read_whole_or_not_at_all() {
    refused_and_late();
}

/// The SMMU refuses two commands, and the queue has one record. Each waiter looks for its own.
fn evicted() {
    check(|| {
        let LoomQueue { queue, hardware: _, smmu } = loom_queue(2, PATIENT, all(4));
        let run = |queue: &QueueUnderLoom, caller| {
            let bad = command(caller, BAD);
            let result = queue.run(&[bad]).map(|proof| proof.smmu());
            let (command, code) = (bad.encode(), CommandErrorCode::ILL);
            let own = SinkError::Command { smmu: SMMU, command, code };
            let result = result.expect_err("a refused command is proven");
            assert!(
                result == own || result == SinkError::TooManyFailures { smmu: SMMU },
                "{result}"
            );
        };
        let other = {
            let queue = queue.clone();
            thread::spawn(move || run(&queue, 1))
        };
        run(&queue, 0);
        other.join().unwrap();
        assert_eq!(smmu.join().unwrap().acknowledged, 2);
    });
}

#[test]
fn an_evicted_failure_is_never_a_proof() {
    evicted();
}

/// An interrupt of an event queue error, while another caller may be inside the error handler. The
/// SMMU signals it once.
fn interrupted_inside() {
    check(|| {
        let hardware = Arc::new(LoomSmmu { gerror_needs_order: true, ..LoomSmmu::new(4) });
        let (mmio, ring) = (LoomMmio(hardware.clone()), LoomRing(hardware.clone()));
        let size = QueueSize::from_log2(2).unwrap();
        let queue: QueueUnderLoom =
            QueueUnderLoom::with_cells(SMMU, mmio.clone(), ring, size, mmio, PATIENT).unwrap();
        let queue = Arc::new(queue);
        let other = {
            let queue = queue.clone();
            thread::spawn(move || {
                queue.with_registers(|_| ());
                queue.with_registers(|_| ());
            })
        };
        hardware.abort_event();
        let found = queue.handle_global_errors();
        other.join().unwrap();
        assert_eq!(hardware.gerrorn.load(Ordering::Relaxed), EVENTQ_ABT, "lost: {found:?}");
        let reported = found.active.or_else(|| queue.handle_global_errors().active);
        assert_eq!(reported, Some(EVENTQ_ABT));
    });
}

#[test]
fn an_interrupt_is_not_lost_on_a_caller_inside_the_handler() {
    interrupted_inside();
}

/// Two handlers at once, and a caller inside: each error is acknowledged and reported once.
fn two_interrupts() {
    check(|| {
        let hardware = Arc::new(LoomSmmu { gerror_needs_order: true, ..LoomSmmu::new(4) });
        let (mmio, ring) = (LoomMmio(hardware.clone()), LoomRing(hardware.clone()));
        let size = QueueSize::from_log2(2).unwrap();
        let queue: QueueUnderLoom =
            QueueUnderLoom::with_cells(SMMU, mmio.clone(), ring, size, mmio, PATIENT).unwrap();
        let queue = Arc::new(queue);
        let second = {
            let (queue, hardware) = (queue.clone(), hardware.clone());
            thread::spawn(move || {
                hardware.gerror.fetch_or(PRIQ_ABT, Ordering::Relaxed);
                queue.handle_global_errors().active.unwrap_or(0)
            })
        };
        hardware.abort_event();
        let mine = queue.handle_global_errors().active.unwrap_or(0);
        let theirs = second.join().unwrap();
        let rest = queue.handle_global_errors().active.unwrap_or(0);
        assert_eq!(hardware.gerrorn.load(Ordering::Relaxed), EVENTQ_ABT | PRIQ_ABT);
        assert_eq!(mine | theirs | rest, EVENTQ_ABT | PRIQ_ABT);
        assert_eq!(mine & theirs | mine & rest | theirs & rest, 0, "reported twice");
    });
}

#[test]
fn two_interrupts_at_once_are_both_served() {
    two_interrupts();
}

/// The interrupt comes while a waiter may handle its refused command.
fn interrupted_waiter() {
    check(|| {
        let bad = command(0, 0).encode();
        let refuses = Some((bad.0[0], CommandErrorCode::ILL, 1));
        let LoomQueue { queue, hardware, smmu } =
            loom_queue(2, PATIENT, SmmuScript { refuses, ..all(2) });
        let handler = {
            let (queue, hardware) = (queue.clone(), hardware.clone());
            thread::spawn(move || {
                hardware.abort_event();
                queue.handle_global_errors().active
            })
        };
        let error = SinkError::Command { smmu: SMMU, command: bad, code: CommandErrorCode::ILL };
        assert_eq!(queue.run(&[command(0, 0)]).map(|proof| proof.smmu()), Err(error));
        let reported = handler.join().unwrap();
        assert_eq!(smmu.join().unwrap().acknowledged, 1);
        let now = hardware.gerrorn.load(Ordering::Relaxed);
        assert_eq!(now & EVENTQ_ABT, EVENTQ_ABT, "lost: {reported:?}");
        let rest = queue.handle_global_errors().active.unwrap();
        assert_eq!((reported.unwrap_or(0) | rest) & EVENTQ_ABT, EVENTQ_ABT);
    });
}

#[test]
fn an_interrupt_beside_a_refused_command_is_not_lost() {
    interrupted_waiter();
}

/// Run a model without a barrier. It must fail, and for one of the expected reasons.
fn must_fail(barrier: Barrier, model: fn()) {
    let message = catch_unwind(AssertUnwindSafe(|| without(barrier, model)))
        .expect_err("no failure without the barrier");
    let message = message.downcast_ref::<String>().map_or_else(
        || message.downcast_ref::<&str>().copied().unwrap_or_default(),
        |message| message.as_str(),
    );
    let expected = ["Causality violation", "assertion", "a refused command is proven"];
    assert!(expected.iter().any(|part| message.contains(part)), "another failure: {message}");
}

fn two_on_four() {
    two_run(2, SyncBy::Polling, MsiDelivery::Written);
}

fn two_on_two() {
    two_run(1, SyncBy::Polling, MsiDelivery::Written);
}

fn two_by_msi() {
    two_run(2, BY_MSI, MsiDelivery::Written);
}

#[rstest]
#[case::publish(Barrier::Publish, two_on_four)]
#[case::commit_acquire(Barrier::CommitAcquire, two_on_four)]
#[case::publish_committed(Barrier::PublishCommitted, two_on_four)]
#[case::ack_acquire(Barrier::AckAcquire, || {
    refused_command(ErrorReport::InPointerRegisters);
})]
#[case::owner_release(Barrier::OwnerRelease, two_on_four)]
#[case::owner_acquire(Barrier::OwnerAcquire, two_on_four)]
#[case::observe(Barrier::Observe, two_on_four)]
#[case::observe_msi(Barrier::ObserveMsi, two_by_msi)]
#[case::consumer_release(Barrier::ConsumerRelease, two_on_two)]
#[case::consumer_acquire(Barrier::ConsumerAcquire, two_on_two)]
#[case::room_release(Barrier::RoomRelease, room_found_by_another)]
#[case::room_acquire(Barrier::RoomAcquire, room_found_by_another)]
#[case::record_release(Barrier::RecordRelease, refused_and_late)]
#[case::record_acquire(Barrier::RecordAcquire, refused_and_late)]
#[case::evict_release(Barrier::EvictRelease, evicted)]
#[case::evict_acquire(Barrier::EvictAcquire, evicted)]
#[case::gerror_release(Barrier::GerrorRelease, || aborts(2))]
#[case::gerror_acquire(Barrier::GerrorAcquire, || aborts(2))]
#[case::gerror_request(Barrier::GerrorRequest, interrupted_inside)]
#[case::gerror_take(Barrier::GerrorTake, interrupted_inside)]
#[case::gerror_hand_over(Barrier::GerrorHandOver, interrupted_inside)]
#[case::publish_repeated(Barrier::PublishRepeated, interrupted_waiter)]
#[case::halt_release(Barrier::HaltRelease, || aborts(3))]
#[case::halt_acquire(Barrier::HaltAcquire, || aborts(3))]
#[case::publish_replaced(Barrier::PublishReplaced, || {
    refused_command(ErrorReport::InGerror);
})]
fn without_a_barrier_the_checker_finds_a_failure(#[case] barrier: Barrier, #[case] model: fn()) {
    must_fail(barrier, model);
}
