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
//! would. [`Slots::publish`] is a release and no more, [`Slots::observe`] an acquire and no more, which is what `dmb oshst` and
//! `dmb oshld` are worth here.
//!
//! For each barrier there is a test of a build without it, which must fail.
#![cfg(loom)]
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
#![expect(unsafe_code, reason = "accesses that the checker watches over")]

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicU64 as Plain;
use std::time::Duration;

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use loom::thread;
use rstest::rstest;
use smmu_cmdq::sync::{Barrier, without};
use smmu_cmdq::{
    CommandQueue, CompareExchange, FetchAdd, Opcodes, Port, QueueConfig, Reserve, Slots, SyncBy,
};
use smmu_types::queue::QueueSize;
use smmu_types::seam::{Registers, SinkError, Wait};
use smmu_types::{
    Asid, Command, CommandErrorCode, MsiAttributes, PhysAddr, RawCommand, SmmuId, SyncProof, Vmid,
};

const SMMU: SmmuId = SmmuId(0);
const BASE: PhysAddr = PhysAddr(0x1_0000);
/// Behind a ring of up to 4.
const MSI_SLOT: usize = 4;
const SYNC: u8 = 0x46;
const POINTER: u32 = 0xf_ffff;
/// The waits of all after which a run goes on in one way only, unless `SMMU_LOOM_WAITS` says otherwise.
const RESTS: u64 = 2;

/// A caller's command: the caller in bits 7:4 of its ASID, and a number.
const fn command(caller: u16, number: u16) -> Command {
    Command::TlbiNhAsid { vmid: Vmid(0), asid: Asid(caller << 4 | number) }
}

/// A number that no SMMU knows.
const BAD: u16 = 15;

fn is_sync(word: u64) -> bool {
    word as u8 == SYNC
}

fn caller_of(word: u64) -> usize {
    (word >> 52) as usize
}

/// One command. The second word is for the SMMU alone.
struct Slot {
    word: AtomicU64,
    fetched: UnsafeCell<u64>,
}

fn rests() -> u64 {
    let Ok(told) = std::env::var("SMMU_LOOM_WAITS") else { return RESTS };
    told.parse().expect("SMMU_LOOM_WAITS is a number")
}

struct Hardware {
    slots: Vec<Slot>,
    msi: AtomicU32,
    prod: AtomicU32,
    cons: AtomicU32,
    gerror: AtomicU32,
    gerrorn: AtomicU32,
    told: UnsafeCell<()>,
    pages: [UnsafeCell<()>; 2],
    /// Time passes when somebody waits.
    ticks: Plain,
    rests: u64,
}

impl Hardware {
    fn new(entries: usize) -> Self {
        let slot = || Slot { word: AtomicU64::new(0), fetched: UnsafeCell::new(0) };
        Hardware {
            slots: (0..entries).map(|_| slot()).collect(),
            msi: AtomicU32::new(0),
            prod: AtomicU32::new(0),
            cons: AtomicU32::new(0),
            gerror: AtomicU32::new(0),
            gerrorn: AtomicU32::new(0),
            told: UnsafeCell::new(()),
            pages: [UnsafeCell::new(()), UnsafeCell::new(())],
            ticks: Plain::new(0),
            rests: rests(),
        }
    }

    /// Wait for somebody else. Without a limit there would be no end to the ways in which two can wait for a third.
    fn rest(&self) {
        if self.ticks.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == self.rests {
            loom::skip_branch();
        }
        thread::yield_now();
    }

    fn touch_page(&self, caller: usize) {
        self.pages[caller].with_mut(|_| ());
    }
}

// To the checker only read-modify-writes have one order that all agree on, as accesses to a device's registers have. They
// are relaxed: nothing else is ordered by them.
fn now(register: &AtomicU32) -> u32 {
    register.fetch_add(0, Ordering::Relaxed)
}

fn put(register: &AtomicU32, value: u32) {
    register.swap(value, Ordering::Relaxed);
}

#[derive(Clone)]
struct Mmio(Arc<Hardware>);

impl Registers for Mmio {
    fn read32(&self, offset: u32) -> u32 {
        match offset {
            o if [Port::MAIN.producer, ENHANCED.producer].contains(&o) => now(&self.0.prod),
            o if [Port::MAIN.consumer, ENHANCED.consumer].contains(&o) => now(&self.0.cons),
            o if o == Port::MAIN.error => now(&self.0.gerror),
            o if o == Port::MAIN.acknowledge => self.0.gerrorn.load(Ordering::Relaxed),
            o => panic!("read of {o:#x}"),
        }
    }
    fn write32(&self, offset: u32, value: u32) {
        match offset {
            o if [Port::MAIN.producer, ENHANCED.producer].contains(&o) => {
                self.0.told.with_mut(|_| ());
                put(&self.0.prod, value);
            }
            o if o == Port::MAIN.acknowledge => self.0.gerrorn.store(value, Ordering::Relaxed),
            o => panic!("write of {o:#x}"),
        }
    }
    fn read64(&self, offset: u32) -> u64 {
        panic!("64-bit read of {offset:#x}")
    }
    fn write64(&self, offset: u32, _: u64) {
        panic!("64-bit write of {offset:#x}")
    }
}

#[derive(Clone)]
struct Ring(Arc<Hardware>);

impl Slots for Ring {
    fn fill(&self, first: usize, commands: &[Command]) -> bool {
        for (at, command) in commands.iter().enumerate() {
            self.store(first + at, command.encode());
        }
        false
    }
    fn store(&self, slot: usize, command: RawCommand) {
        // Once, before there is anybody else: the place of the MSIs.
        let Some(slot) = self.0.slots.get(slot) else { return };
        // SAFETY: the checker watches over the access.
        slot.fetched.with_mut(|high| unsafe { *high = command.0[1] });
        slot.word.store(command.0[0], Ordering::Relaxed);
    }
    fn load(&self, slot: usize) -> RawCommand {
        RawCommand([self.0.slots[slot].word.load(Ordering::Relaxed), 0])
    }
    fn msi(&self, slot: usize) -> u32 {
        assert_eq!(slot, MSI_SLOT);
        self.0.msi.load(Ordering::Relaxed)
    }
    fn publish(&self, _: Range<usize>) {
        fence(Ordering::Release);
    }
    fn observe(&self, _: Range<usize>) {
        fence(Ordering::Acquire);
    }
    fn address(&self) -> PhysAddr {
        BASE
    }
    fn slots(&self) -> u64 {
        MSI_SLOT as u64 + 4
    }
}

impl Wait for Mmio {
    fn now(&self) -> Duration {
        Duration::from_micros(self.0.ticks.load(std::sync::atomic::Ordering::Relaxed))
    }
    fn relax(&self, _: u32) {
        self.0.rest();
    }
}

/// Where the SMMU reports errors, and has them acknowledged.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Errors {
    InGerror,
    /// Of an enhanced command queue.
    BesidePointers,
}

/// Such a queue, at offsets of its own.
const ENHANCED: Port = Port {
    producer: 0x8,
    consumer: 0xc,
    error: 0xc,
    acknowledge: 0x8,
    error_bit: 1 << 23,
    enable: 1 << 31,
};

/// What the SMMU does.
#[derive(Clone, Copy)]
struct Script {
    errors: Errors,
    /// Commands after which it is done, or dies.
    commands: usize,
    /// What it refuses, with which code and how often.
    refuses: Option<(u64, CommandErrorCode, u32)>,
    /// How often it cannot fetch its first command.
    aborts: u32,
    /// Whether an MSI gets lost.
    msi: Msi,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Msi {
    Written,
    Lost,
}

const fn all(commands: usize) -> Script {
    Script { errors: Errors::InGerror, commands, refuses: None, aborts: 0, msi: Msi::Written }
}

/// What the SMMU has carried out, and how often it was told to go on.
struct Log {
    words: Vec<u64>,
    acknowledged: u32,
    /// What stands beside the pointer in the consumer's register.
    beside: u32,
}

fn smmu(hardware: &Hardware, script: Script) -> Log {
    let entries = hardware.slots.len() as u32;
    let beside = if script.errors == Errors::InGerror { 0 } else { ENHANCED.enable };
    let mut log = Log { words: Vec::new(), acknowledged: 0, beside };
    let (mut cons, mut refusals) = (0, 0);
    loop {
        let prod = hardware.prod.load(Ordering::Acquire) & POINTER;
        while cons != prod {
            let index = (cons % entries) as usize;
            if log.acknowledged < script.aborts && cons == 0 {
                if !is_acknowledged(hardware, &mut log, cons, CommandErrorCode::ABT) {
                    return log;
                }
                log.acknowledged += 1;
                continue;
            }
            let slot = &hardware.slots[index];
            // SAFETY: the checker watches over the access.
            let high = slot.fetched.with(|high| unsafe { *high });
            let word = slot.word.load(Ordering::Relaxed);
            if word >> 48 & 0xf == BAD.into() {
                if !is_acknowledged(hardware, &mut log, cons, CommandErrorCode::ILL) {
                    return log;
                }
                log.acknowledged += 1;
                continue;
            }
            match script.refuses {
                Some((refused, code, times)) if refused == word && refusals < times => {
                    refusals += 1;
                    if !is_acknowledged(hardware, &mut log, cons, code) {
                        return log;
                    }
                    log.acknowledged += 1;
                    continue;
                }
                _ => {}
            }
            if !is_sync(word) {
                hardware.touch_page(caller_of(word));
            }
            log.words.push(word);
            fence(Ordering::Release);
            // CS = 1: by MSI.
            if is_sync(word) && word >> 12 & 3 == 1 && script.msi == Msi::Written {
                assert_eq!(high, BASE.0 + MSI_SLOT as u64 * 16, "an MSI into the ring");
                hardware.msi.store((word >> 32) as u32, Ordering::Relaxed);
            }
            cons = (cons + 1) % (entries * 2);
            put(&hardware.cons, cons | log.beside);
            if log.words.len() == script.commands {
                return log;
            }
        }
        hardware.rest();
    }
}

/// Report an error, and wait until somebody says that it may go on. Nobody does if the queue has given up.
fn is_acknowledged(hardware: &Hardware, log: &mut Log, cons: u32, code: CommandErrorCode) -> bool {
    let code = u32::from(code.0) << 24;
    if log.beside != 0 {
        log.beside ^= ENHANCED.error_bit;
        fence(Ordering::Release);
        put(&hardware.cons, cons | code | log.beside);
        let is_acknowledged = |prod: u32| (prod ^ log.beside) & ENHANCED.error_bit == 0;
        return (0..20).any(|_| {
            let done = is_acknowledged(hardware.prod.load(Ordering::Acquire));
            if !done {
                hardware.rest();
            }
            done
        });
    }
    put(&hardware.cons, cons | code);
    let gerror = hardware.gerror.load(Ordering::Relaxed) ^ Port::MAIN.error_bit;
    fence(Ordering::Release);
    put(&hardware.gerror, gerror);
    for _ in 0..20 {
        if hardware.gerrorn.load(Ordering::Acquire) == gerror {
            return true;
        }
        hardware.rest();
    }
    false
}

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
            if queue.service().is_some() {
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
#[case::filled_acquire(Barrier::FilledAcquire, two_on_four)]
#[case::publish_gathered(Barrier::PublishGathered, two_on_four)]
#[case::beside_acquire(Barrier::BesideAcquire, || {
    refused_command::<CompareExchange>(Errors::BesidePointers);
})]
#[case::turn_release(Barrier::TurnRelease, two_on_four)]
#[case::turn_acquire(Barrier::TurnAcquire, two_on_four)]
#[case::observe(Barrier::Observe, two_on_four)]
#[case::observe_msi(Barrier::ObserveMsi, two_by_msi)]
#[case::space_release(Barrier::SpaceRelease, two_on_two)]
#[case::space_acquire(Barrier::SpaceAcquire, two_on_two)]
#[case::room_release(Barrier::RoomRelease, two_on_two_by_fetch_add)]
#[case::room_acquire(Barrier::RoomAcquire, two_on_two_by_fetch_add)]
#[case::place(Barrier::Place, push_and_prove::<FetchAdd>)]
#[case::record_release(Barrier::RecordRelease, refused_and_late::<CompareExchange>)]
#[case::record_acquire(Barrier::RecordAcquire, refused_and_late::<CompareExchange>)]
#[case::forget_release(Barrier::ForgetRelease, forgotten::<CompareExchange>)]
#[case::forget_acquire(Barrier::ForgetAcquire, forgotten::<CompareExchange>)]
#[case::service_release(Barrier::ServiceRelease, || aborts::<CompareExchange>(2))]
#[case::service_acquire(Barrier::ServiceAcquire, || aborts::<CompareExchange>(2))]
#[case::halt_release(Barrier::HaltRelease, || aborts::<CompareExchange>(3))]
#[case::halt_acquire(Barrier::HaltAcquire, || aborts::<CompareExchange>(3))]
#[case::publish_mended(Barrier::PublishMended, || {
    refused_command::<CompareExchange>(Errors::InGerror);
})]
fn without_a_barrier_the_checker_finds_a_failure(#[case] barrier: Barrier, #[case] model: fn()) {
    caught(barrier, model);
}
