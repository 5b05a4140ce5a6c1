//! The queue under a model checker: every interleaving of two callers and an SMMU, with up to two preemptions.
//!
//!     RUSTFLAGS="--cfg loom" cargo test --release -p smmu-cmdq --test loom
//!
//! The SMMU is a thread that fetches, carries out, stops at what it refuses, and dies. To the checker are plain memory, so
//! that two accesses which nothing orders are a failure even where the values are right:
//!
//! - each slot: filling it is a write, fetching it a read;
//! - a page for each caller: the SMMU touches it when it carries out that caller's command, and the caller when it has its
//!   proof, as if to give the page to somebody else;
//! - `CMDQ_PROD`: each write of it is a write.
//!
//! Registers order nothing by themselves. A read of one that the SMMU writes finds what is in it; a read of
//! `GERRORN`, which only callers write, may find an older value unless something orders it, as a posted write
//! would. The seam's `publish` is a release and no more, its `observe` an acquire and no more, which is what `dmb oshst` and
//! `dmb oshld` are worth here.
//!
//! For each barrier there is a test of a build without it, which must fail.
#![cfg(loom)]
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
#![expect(unsafe_code, reason = "accesses that the checker watches over")]

mod hardware;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use hardware::{
    BAD, ENHANCED, Errors, Hardware, Log, Mmio, Msi, Ring, SMMU, Script, all, caller_of, command,
    is_sync, put, smmu,
};
use loom::sync::Arc;
use loom::sync::atomic::Ordering;
use loom::thread;
use rstest::rstest;
use smmu_cmdq::sync::{Barrier, without};
use smmu_cmdq::{
    CommandQueue, CompareExchange, FetchAdd, Opcodes, Port, QueueConfig, Reserve, SyncBy,
};
use smmu_types::queue::QueueSize;
use smmu_types::seam::SinkError;
use smmu_types::{Command, CommandErrorCode, MsiAttributes, RawCommand, SyncProof};

type Queue<S> = CommandQueue<Mmio, Ring, Mmio, S, 4>;

/// A queue, its hardware, and the SMMU's thread.
struct Rig<S: Reserve> {
    queue: Arc<Queue<S>>,
    hardware: Arc<Hardware>,
    smmu: thread::JoinHandle<Log>,
}

fn rig<S: Reserve + 'static>(log2: u8, config: QueueConfig, script: Script) -> Rig<S> {
    let hardware = Arc::new(Hardware::new(1 << log2));
    if script.errors == Errors::BesidePointers {
        put(&hardware.prod, ENHANCED.enable);
        put(&hardware.cons, ENHANCED.enable);
    }
    let (mmio, ring) = (Mmio(hardware.clone()), Ring(hardware.clone()));
    let size = QueueSize::from_log2(log2).unwrap();
    let queue = Queue::reserving(SMMU, mmio.clone(), ring, size, mmio, config).unwrap();
    let smmu = {
        let hardware = hardware.clone();
        thread::spawn(move || smmu(&hardware, script))
    };
    Rig { queue: Arc::new(queue), hardware, smmu }
}

/// The proof of a caller's commands has come.
fn proven(hardware: &Hardware, caller: usize, done: Result<SyncProof, SinkError>) {
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

/// Each batch is there once, in one piece, and no command is there that nobody queued.
fn assert_carried_out(log: &Log, batches: &[&[Command]]) {
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
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.max_branches = 5_000;
    builder.check(model);
}

/// Two callers, each with a command and its `CMD_SYNC`, on a ring that holds all, or one of them at a time.
fn two_run<S: Reserve + 'static>(log2: u8, sync_by: SyncBy, msi: Msi) {
    check(move || {
        let config = QueueConfig { sync_by, ..PATIENT };
        let Rig { queue, hardware, smmu } = rig::<S>(log2, config, Script { msi, ..all(4) });
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
fn nothing_is_lost_or_early_or_mixed(#[values(1, 2)] log2: u8) {
    two_run::<CompareExchange>(log2, SyncBy::Polling, Msi::Written);
    two_run::<FetchAdd>(log2, SyncBy::Polling, Msi::Written);
}

const BY_MSI: SyncBy = SyncBy::Msi(MsiAttributes::WRITE_BACK);

#[rstest]
fn an_msi_is_proof_and_a_lost_one_is_missed_by_nobody(#[values(Msi::Written, Msi::Lost)] msi: Msi) {
    two_run::<CompareExchange>(2, BY_MSI, msi);
    two_run::<FetchAdd>(1, BY_MSI, msi);
}

/// One pushes and proves, the other runs a batch; the ring is a slot short of both.
fn push_and_prove<S: Reserve + 'static>() {
    check(|| {
        let Rig { queue, hardware, smmu } = rig::<S>(2, PATIENT, all(5));
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
fn what_is_pushed_stays_in_order_and_is_proven() {
    push_and_prove::<CompareExchange>();
    push_and_prove::<FetchAdd>();
}

/// One has more commands than the ring, beside another.
fn long_batch<S: Reserve + 'static>() {
    check(|| {
        const LONG: [Command; 3] = [command(0, 0), command(0, 1), command(0, 2)];
        let Rig { queue, hardware, smmu } = rig::<S>(1, PATIENT, all(6));
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
    long_batch::<CompareExchange>();
    long_batch::<FetchAdd>();
}

/// The SMMU refuses the command of one of two.
fn refused_command<S: Reserve + 'static>(errors: Errors) {
    check(move || {
        let bad = command(1, 0).encode();
        let refuses = Some((bad.0[0], CommandErrorCode::ILL, 1));
        let port = if errors == Errors::InGerror { Port::MAIN } else { ENHANCED };
        let config = QueueConfig { port, ..PATIENT };
        let script = Script { errors, refuses, ..all(4) };
        let Rig { queue, hardware, smmu } = rig::<S>(2, config, script);
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
fn a_refused_command_is_told_to_its_owner_alone() {
    refused_command::<CompareExchange>(Errors::InGerror);
    refused_command::<FetchAdd>(Errors::InGerror);
}

#[test]
fn an_error_of_an_enhanced_queue_is_acknowledged_in_the_producers_turn() {
    refused_command::<CompareExchange>(Errors::BesidePointers);
}

/// A device does not answer the `ATC_INV`s before the first `CMD_SYNC`.
fn atc_timeout<S: Reserve + 'static>() {
    check(|| {
        let sync = Command::SYNC.encode();
        let code = CommandErrorCode::ATC_INV_SYNC;
        let script = Script { refuses: Some((sync.0[0], code, 1)), ..all(4) };
        let Rig { queue, hardware: _, smmu } = rig::<S>(2, PATIENT, script);
        let other = {
            let queue = queue.clone();
            thread::spawn(move || queue.run(&[command(1, 0)]).map(|proof| proof.smmu()))
        };
        let mine = queue.run(&[command(0, 0)]).map(|proof| proof.smmu());
        let mut done = [mine, other.join().unwrap()];
        let log = smmu.join().unwrap();
        // The first of the two is the one whose `CMD_SYNC` said so.
        done.rotate_left(caller_of(log.words[0]));
        let error = SinkError::Command { smmu: SMMU, command: sync, code };
        assert_eq!(done, [Err(error), Ok(SMMU)]);
    });
}

#[test]
fn an_atc_timeout_is_told_by_the_sync_that_found_it() {
    atc_timeout::<CompareExchange>();
    atc_timeout::<FetchAdd>();
}

/// The SMMU cannot fetch the first slot, `times` in a row.
fn aborts<S: Reserve + 'static>(times: u32) {
    check(move || {
        let script = Script { aborts: times, ..all(4) };
        let Rig { queue, hardware, smmu } = rig::<S>(2, PATIENT, script);
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
        // The queue lets it try twice. What stands there then is what each is told.
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
    aborts::<CompareExchange>(2);
}

#[test]
fn the_third_abort_ends_the_queue_and_all_are_told() {
    aborts::<CompareExchange>(3);
}

/// The SMMU stops after so many commands.
fn dies<S: Reserve + 'static>(log2: u8, after: usize) {
    check(move || {
        let config = QueueConfig { timeout: Duration::from_micros(3), ..PATIENT };
        let Rig { queue, hardware, smmu } = rig::<S>(log2, config, all(after));
        let run = |queue: &Queue<S>, hardware: &Hardware, caller: u16| match queue
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
    dies::<CompareExchange>(log2, after);
    dies::<FetchAdd>(log2, after);
}

/// A waiter's time is up while somebody else records that its command was refused.
fn refused_and_late<S: Reserve + 'static>() {
    check(|| {
        let bad = command(0, 0).encode();
        let refuses = Some((bad.0[0], CommandErrorCode::ILL, 1));
        let config = QueueConfig { timeout: Duration::from_micros(1), ..PATIENT };
        let Rig { queue, hardware: _, smmu } = rig::<S>(2, config, Script { refuses, ..all(2) });
        // The checker lets nobody read what they wrote before they waited. So the waiter is not the one who made the queue.
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
            told => assert_eq!(told, error),
        }
        drop(smmu.join());
    });
}

#[test]
fn a_failure_is_told_whole_or_not_at_all() {
    refused_and_late::<CompareExchange>();
}

/// More commands are refused than there is room to remember (1), while each waiter looks for its own.
fn forgotten<S: Reserve + 'static>() {
    check(|| {
        let Rig { queue, hardware: _, smmu } = rig::<S>(2, PATIENT, all(4));
        let run = |queue: &Queue<S>, caller| {
            let bad = command(caller, BAD);
            let told = queue.run(&[bad]).map(|proof| proof.smmu());
            let (command, code) = (bad.encode(), CommandErrorCode::ILL);
            let own = SinkError::Command { smmu: SMMU, command, code };
            let told = told.expect_err("a refused command is proven");
            assert!(told == own || told == SinkError::TooManyFailures { smmu: SMMU }, "{told}");
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
fn a_failure_that_is_forgotten_is_never_taken_for_success() {
    forgotten::<CompareExchange>();
}

/// Run a model that must fail, and fail with what the checker says if that is one of the failures that are looked for.
fn caught(barrier: Barrier, model: fn()) {
    let said = catch_unwind(AssertUnwindSafe(|| without(barrier, model)))
        .expect_err("nobody notices that it is left out");
    let said = said.downcast_ref::<String>().map_or_else(
        || said.downcast_ref::<&str>().copied().unwrap_or_default(),
        |said| said.as_str(),
    );
    let looked_for = ["Causality violation", "assertion", "a refused command is proven"];
    assert!(looked_for.iter().any(|part| said.contains(part)), "another failure: {said}");
}

fn two_on_four() {
    two_run::<CompareExchange>(2, SyncBy::Polling, Msi::Written);
}

fn two_on_two() {
    two_run::<CompareExchange>(1, SyncBy::Polling, Msi::Written);
}

fn two_on_two_by_fetch_add() {
    two_run::<FetchAdd>(1, SyncBy::Polling, Msi::Written);
}

fn two_by_msi() {
    two_run::<CompareExchange>(2, BY_MSI, Msi::Written);
}

#[rstest]
#[case::publish(Barrier::Publish, two_on_four)]
#[case::commit_acquire(Barrier::CommitAcquire, two_on_four)]
#[case::publish_committed(Barrier::PublishCommitted, two_on_four)]
#[case::ack_acquire(Barrier::AckAcquire, || {
    refused_command::<CompareExchange>(Errors::BesidePointers);
})]
#[case::owner_release(Barrier::OwnerRelease, two_on_four)]
#[case::owner_acquire(Barrier::OwnerAcquire, two_on_four)]
#[case::observe(Barrier::Observe, two_on_four)]
#[case::observe_msi(Barrier::ObserveMsi, two_by_msi)]
#[case::consumer_release(Barrier::ConsumerRelease, two_on_two)]
#[case::consumer_acquire(Barrier::ConsumerAcquire, two_on_two)]
#[case::free_release(Barrier::FreeRelease, two_on_two_by_fetch_add)]
#[case::free_acquire(Barrier::FreeAcquire, two_on_two_by_fetch_add)]
#[case::next_acq_rel(Barrier::NextAcqRel, push_and_prove::<FetchAdd>)]
#[case::record_release(Barrier::RecordRelease, refused_and_late::<CompareExchange>)]
#[case::record_acquire(Barrier::RecordAcquire, refused_and_late::<CompareExchange>)]
#[case::evict_release(Barrier::EvictRelease, forgotten::<CompareExchange>)]
#[case::evict_acquire(Barrier::EvictAcquire, forgotten::<CompareExchange>)]
#[case::gerror_release(Barrier::GerrorRelease, || aborts::<CompareExchange>(2))]
#[case::gerror_acquire(Barrier::GerrorAcquire, || aborts::<CompareExchange>(2))]
#[case::halt_release(Barrier::HaltRelease, || aborts::<CompareExchange>(3))]
#[case::halt_acquire(Barrier::HaltAcquire, || aborts::<CompareExchange>(3))]
#[case::publish_replaced(Barrier::PublishReplaced, || {
    refused_command::<CompareExchange>(Errors::InGerror);
})]
fn without_a_barrier_the_checker_finds_a_failure(#[case] barrier: Barrier, #[case] model: fn()) {
    caught(barrier, model);
}
