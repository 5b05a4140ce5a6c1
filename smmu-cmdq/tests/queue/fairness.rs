//! Fairness: faster callers do not keep a caller waiting for long.
//!
//! The tests count looks and batches instead of seconds. So a machine that does not schedule a
//! thread for a while fails no test.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use crate::common::{PATIENT, QueueFixture};
use rstest::rstest;
use smmu_cmdq::fake::Pace;
use smmu_types::seam::{CountingWait, Wait};
use smmu_types::{Asid, Command, Vmid};

/// Looks at a full ring before a caller takes an exclusive reservation.
const LOOKS_BEFORE_EXCLUSIVE: u64 = 32;

fn command(caller: u16, n: u64) -> Command {
    Command::TlbiNhAsid { vmid: Vmid(caller), asid: Asid(n as u16) }
}

thread_local! {
    static IS_COUNTED: Cell<bool> = const { Cell::new(false) };
}

/// A clock that counts the looks of one thread among several.
#[derive(Default)]
struct OneThreadLookCounter {
    clock: CountingWait,
    counted: AtomicU64,
}

impl Wait for OneThreadLookCounter {
    fn now(&self) -> Duration {
        self.clock.now()
    }

    fn relax(&self, round: u32) {
        self.counted.fetch_add(IS_COUNTED.get().into(), SeqCst);
        self.clock.relax(round);
        thread::yield_now();
    }
}

/// The number of batches that go before one large batch. Another caller refills the ring after
/// every look.
fn batches_before_a_large_batch(log2: u8, length: u64, small: u64) -> u64 {
    let fixture = QueueFixture::new(Pace::Dead);
    let looks = OneThreadLookCounter::default();
    let queue = fixture.queue_on(&fixture.device, &looks, log2, PATIENT);
    for n in 0..1 << log2 {
        let _pushed = queue.push(None, &[command(0, n)]).unwrap();
    }
    fixture.device.set_pace(Pace::PerRead(1));
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        let hammer = scope.spawn(|| {
            let (mut batches, mut seen) = (0, 0);
            while !is_done.load(SeqCst) && batches < 100 * LOOKS_BEFORE_EXCLUSIVE {
                // One batch for each look of the other caller, so this one is faster every time.
                let now = looks.counted.load(SeqCst);
                if now > seen {
                    let batch: Vec<_> = (0..small).map(|n| command(1, n)).collect();
                    let _pushed = queue.push(None, &batch).unwrap();
                    batches += u64::from(!is_done.load(SeqCst));
                    seen = now;
                }
                thread::yield_now();
            }
            batches
        });
        let large: Vec<_> = (0..length).map(|n| command(2, n)).collect();
        IS_COUNTED.set(true);
        let _pushed = queue.push(None, &large).unwrap();
        is_done.store(true, SeqCst);
        hammer.join().unwrap()
    })
}

#[rstest]
fn a_batch_as_long_as_the_ring_waits_for_few_other_batches(
    #[values(1, 2, 4, 6)] log2: u8,
    #[values(1, 2)] small: u64,
) {
    // The longest batch in one piece: one less than the ring, for the CMD_SYNC.
    let length = (1 << log2) - 1;
    let batches = batches_before_a_large_batch(log2, length, small);
    // One batch may be on its way when the exclusive reservation begins.
    assert!(batches <= LOOKS_BEFORE_EXCLUSIVE + 2, "{batches}");
}

#[rstest]
fn a_batch_longer_than_the_ring_waits_for_two_other_batches_at_most(
    #[values(1, 2, 4, 6)] log2: u8,
    #[values(1, 2)] small: u64,
    #[values(1, 4)] rings: u64,
) {
    let length = rings << log2;
    let batches = batches_before_a_large_batch(log2, length, small);
    assert!(batches <= 2, "{batches}");
}

/// A clock that runs one thread at a time. At each look, and between calls, it draws the next
/// thread by lot.
///
/// So only the queue can favour a caller.
struct LotteryScheduler {
    clock: CountingWait,
    drawn: AtomicUsize,
    lot: AtomicU64,
    is_over: AtomicBool,
}

thread_local! {
    static NUMBER: Cell<usize> = const { Cell::new(0) };
}

impl LotteryScheduler {
    const THREADS: u64 = 3;

    fn draw(&self) {
        // A xorshift generator, which only the thread that runs touches.
        let mut lot = self.lot.load(SeqCst);
        lot ^= lot << 13;
        lot ^= lot >> 7;
        lot ^= lot << 17;
        self.lot.store(lot, SeqCst);
        self.drawn.store((lot % Self::THREADS) as usize, SeqCst);
        self.until_drawn();
    }

    fn until_drawn(&self) {
        while self.drawn.load(SeqCst) != NUMBER.get() && !self.is_over.load(SeqCst) {
            thread::yield_now();
        }
    }
}

impl Wait for LotteryScheduler {
    fn now(&self) -> Duration {
        self.clock.now()
    }

    fn relax(&self, round: u32) {
        self.clock.relax(round);
        self.draw();
    }
}

/// The number of batches of each caller that are carried out. Each caller has its own length of
/// batch.
fn shares(log2: u8, lengths: [u64; 3], seed: u64) -> [usize; 3] {
    const BATCHES: usize = 1_500;
    let fixture = QueueFixture::new(Pace::PerRead(1));
    let lots = LotteryScheduler {
        clock: CountingWait::new(),
        drawn: AtomicUsize::new(0),
        lot: AtomicU64::new(seed),
        is_over: AtomicBool::new(false),
    };
    let queue = fixture.queue_on(&fixture.device, &lots, log2, PATIENT);
    let shares = [0, 1, 2].map(|_| AtomicUsize::new(0));
    thread::scope(|scope| {
        for (number, length) in lengths.into_iter().enumerate() {
            let (queue, lots, shares) = (&queue, &lots, &shares);
            scope.spawn(move || {
                NUMBER.set(number);
                lots.until_drawn();
                let batch: Vec<_> = (0..length).map(|n| command(number as u16, n)).collect();
                while !lots.is_over.load(SeqCst) {
                    let ticket = queue.issue(&batch).unwrap();
                    lots.draw();
                    let _proof = queue.wait(ticket).unwrap();
                    lots.draw();
                    shares[number].fetch_add(1, SeqCst);
                    let all: usize = shares.iter().map(|share| share.load(SeqCst)).sum();
                    if all >= BATCHES {
                        lots.is_over.store(true, SeqCst);
                    }
                }
            });
        }
    });
    shares.map(AtomicUsize::into_inner)
}

/// Three callers share a ring of 2 or 4. The slowest completes at least half as many batches as the
/// fastest.
#[rstest]
#[case::alike([1, 1, 1])]
#[case::alike_and_longer_than_a_ring([5, 5, 5])]
#[case::as_long_as_a_ring_beside_short_ones([1, 1, 3])]
#[case::longer_beside_short_ones([1, 1, 9])]
fn none_of_three_callers_starves_on_a_small_ring(
    #[case] lengths: [u64; 3],
    #[values(1, 2)] log2: u8,
    #[values(1, 2, 3)] seed: u64,
) {
    let shares = shares(log2, lengths, seed << 32 | 1);
    let (least, most) = (shares.iter().min(), shares.iter().max());
    assert!(least.zip(most).is_some_and(|(least, most)| least * 2 >= *most), "{shares:?}");
}
