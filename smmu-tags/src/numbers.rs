//! The numbers of one space: which are free, how many are in which state, and when there are none.

use core::fmt;

use crate::bitmap::{Bitmap, NoMemory};
use crate::steps::{Sound, Steps, Taken};
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// Which of the free numbers is given out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Choice {
    /// The lowest: the same calls give the same numbers, and a number comes back at once, so that a flush which was forgotten
    /// shows in the first test.
    #[default]
    Lowest,
    /// The first behind the one that was given out last, round and round: a number comes back as late as it can, so that a
    /// flush which was forgotten does as little harm as it can. SMMUs of 8 and of 16 bits have a round each.
    NextFit,
}

/// How many numbers of a space are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TagStats {
    /// Numbers that the space can give out: all but 0 and the reserved ones. The sum of the others.
    pub capacity: u32,
    /// Not given out.
    pub free: u32,
    /// Given out, not yet seen by hardware.
    pub fresh: u32,
    /// Named by an STE or CD.
    pub in_use: u32,
    /// No longer named; the flush is not proven yet.
    pub retiring: u32,
    /// Lost: the flush was never proven.
    pub quarantined: u32,
}

/// The state of a number that is given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// Not yet seen by hardware.
    Fresh,
    /// Named by an STE or CD.
    InUse,
    /// No longer named.
    Retiring,
    /// Lost.
    Quarantined,
}

impl Life {
    /// One number of this state, in the lanes of `states`. Fresh ones are what is left.
    const fn one(self) -> u64 {
        match self {
            Life::Fresh => 0,
            Life::InUse => 1,
            Life::Retiring => 1 << LANE,
            Life::Quarantined => 1 << (2 * LANE),
        }
    }
}

const LANE: u32 = 21;
const LANE_MASK: u64 = (1 << LANE) - 1;

/// Bits of `out` that count numbers; the others count frees, modulo 2^44.
const OUT: u32 = 20;
const OUT_MASK: u64 = (1 << OUT) - 1;

/// Looks at all words before a space in which others free all the time is called exhausted.
const PASSES: usize = 16;

/// Numbers from 0 on, 0 reserved.
///
/// Every count is changed by adding, in one atomic step:
///
/// - `out` holds how many numbers are given out, whatever their state, and how many frees there have been;
/// - `states` holds how many are in use, retiring and quarantined: what leaves one state enters the next in the same step.
///
/// Why *exhausted* is true, in continuation of the steps at [`Bitmap`]:
///
/// 7. *Count*: who has given back a bit (1) then counts a free. A release. Only now the free has taken effect.
/// 8. *Scan*: who allocates reads the count of frees, then looks for a bit, in the end in every word.
/// 9. *Recount*: having found none, it reads the count again. If that is still the same, no free took effect in between. So
///    what it saw claimed, word by word, is claimed still, or its free has not taken effect yet: there was a moment at
///    which no number was free, the recount. If the count is another one, it looks again, [`PASSES`] times at most. Two
///    orderings are needed: by the release of 7 and the acquire of the first reading, a free that was counted before the
///    scan is seen by it. And a claim is a release too (2), and the scan an acquire, so that who sees the claim of a
///    thread also sees in the recount what that thread freed before.
pub struct Numbers<const SHIFT: u32, S = Sound> {
    map: Bitmap<SHIFT, S>,
    out: AtomicU64,
    states: AtomicU64,
    reserved: AtomicU32,
    high_water: AtomicU32,
    // Where the next search begins: for narrow SMMUs of a wide space, and for the others.
    cursors: [AtomicU32; 2],
    choice: Choice,
    numbers: u32,
}

impl<const SHIFT: u32, S: Steps> Numbers<SHIFT, S> {
    /// `numbers` numbers, of which 0 is reserved.
    pub fn new(numbers: u32, choice: Choice) -> Result<Self, NoMemory> {
        let this = Numbers {
            map: Bitmap::new(numbers as usize)?,
            out: AtomicU64::new(0),
            states: AtomicU64::new(0),
            reserved: AtomicU32::new(0),
            high_water: AtomicU32::new(0),
            cursors: [AtomicU32::new(0), AtomicU32::new(0)],
            choice,
            numbers,
        };
        this.map.claim_this(0);
        Ok(this)
    }

    /// How many numbers there are, 0 included.
    pub fn numbers(&self) -> u32 {
        self.numbers
    }

    /// Take a number below `limit`, now fresh.
    pub fn take(&self, limit: u32) -> Option<u16> {
        let limit = limit.min(self.numbers);
        let cursor = &self.cursors[usize::from(limit == self.numbers)];
        for _ in 0..PASSES {
            let before = self.out.load(Ordering::Acquire) >> OUT;
            let from = match self.choice {
                Choice::Lowest => 0,
                Choice::NextFit => cursor.load(Ordering::Relaxed) as usize,
            };
            if let Some(number) = self.map.claim(from, limit as usize) {
                if self.choice == Choice::NextFit {
                    let next = number as u32 + 1;
                    cursor.store(if next < limit { next } else { 0 }, Ordering::Relaxed);
                }
                let out = self.out.fetch_add(1, Ordering::Relaxed) & OUT_MASK;
                let now = out as u32 + 1;
                if now > self.high_water.load(Ordering::Relaxed) {
                    self.high_water.fetch_max(now, Ordering::Relaxed);
                }
                return Some(number as u16);
            }
            let after = self.out.load(Ordering::Acquire) >> OUT;
            if S::RECOUNT == Taken::No || after == before {
                return None;
            }
        }
        None
    }

    /// A number that the caller took enters the next state.
    pub fn change(&self, from: Life, to: Life) {
        self.states.fetch_add(to.one().wrapping_sub(from.one()), Ordering::Release);
    }

    /// A number that the caller took is free again.
    pub fn put_back(&self, number: u16, from: Life) {
        if from != Life::Fresh {
            self.change(from, Life::Fresh);
        }
        self.map.give(number.into());
        self.out.fetch_add((1 << OUT) - 1, S::COUNT);
    }

    /// Take a number for good; whether it was free. 0 always was.
    pub fn reserve(&self, number: u16) -> bool {
        if number == 0 {
            return true;
        }
        let free = self.map.claim_this(number.into());
        if free {
            self.reserved.fetch_add(1, Ordering::Relaxed);
        }
        free
    }

    /// Reserved numbers, without 0.
    pub fn reserved(&self) -> u32 {
        self.reserved.load(Ordering::Relaxed)
    }

    /// The most numbers that were given out at once.
    pub fn high_water(&self) -> u32 {
        self.high_water.load(Ordering::Relaxed).min(self.numbers - 1)
    }

    /// Bytes of the bitmap.
    pub fn bytes(&self) -> usize {
        self.map.bytes()
    }

    /// See `AsidSpace::stats`.
    pub fn stats(&self) -> TagStats {
        let mut states = self.states.load(Ordering::Acquire);
        let mut out = self.out.load(Ordering::Acquire);
        for _ in 0..PASSES {
            let again = self.states.load(Ordering::Acquire);
            if again == states {
                break;
            }
            states = again;
            out = self.out.load(Ordering::Acquire);
        }
        let lane = |at: u32| (states >> (at * LANE) & LANE_MASK) as u32;
        let (in_use, retiring, quarantined) = (lane(0), lane(1), lane(2));
        let capacity = self.numbers - 1 - self.reserved();
        let known = in_use + retiring + quarantined;
        let out = ((out & OUT_MASK) as u32).clamp(known, capacity.max(known));
        TagStats {
            capacity,
            free: capacity.saturating_sub(out),
            fresh: out - known,
            in_use,
            retiring,
            quarantined,
        }
    }

    /// Whether the marks of the bitmap hold. For tests.
    #[cfg(loom)]
    pub fn is_marked(&self) -> bool {
        self.map.is_marked()
    }
}

impl<const SHIFT: u32, S: Steps> fmt::Debug for Numbers<SHIFT, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Numbers").field("stats", &self.stats()).finish_non_exhaustive()
    }
}
