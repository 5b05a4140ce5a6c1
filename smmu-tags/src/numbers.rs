//! The numbers of one space: which are free, how many are in which state, and when there are none.

use core::fmt;

use crate::bitmap::{Bitmap, Claimed, NoMemory};
use crate::steps::{Sound, Steps, Taken};
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// Which of the free numbers is given out.
#[derive(Clone, Copy, Debug, Default)]
pub enum Choice {
    /// The lowest: the same calls give the same numbers, and a number comes back at once, so that a flush which was forgotten
    /// shows in the first test. Threads that allocate at once get into each other's way, as all want the same number.
    #[default]
    Lowest,
    /// The first behind the one that was given out last, round and round: a number comes back as late as it can, so that a
    /// flush which was forgotten does as little harm as it can. SMMUs of 8 and of 16 bits have a round each.
    NextFit,
    /// Next-fit with rounds of their own for the CPUs, which begin in different quarters of the space and avoid each other: for
    /// CPUs that attach and detach all at once. The function says on which CPU it is called; any number will do, four
    /// in a row have each a round of their own.
    NextFitByCpu(fn() -> usize),
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
    /// One number of this state, in the lanes of [`Part::states`]. The others are counted elsewhere.
    const fn one(self) -> u64 {
        match self {
            Life::Fresh | Life::Quarantined => 0,
            Life::InUse => 1,
            Life::Retiring => 1 << LANE,
        }
    }
}

/// Bits of a lane: a number that one thread frees while another takes it may be in two.
const LANE: u32 = 17;
const LANE_MASK: u64 = (1 << LANE) - 1;
/// The bits above the lanes count frees, modulo 2^30.
const FREES: u32 = 2 * LANE;

/// Looks at all words before a space in which others free all the time is called exhausted.
const PASSES: usize = 16;

/// Parts into which counts are split, so that threads seldom write the same cache line.
pub const PARTS: usize = 4;

/// What is counted of a part of the numbers, and where the round of a CPU goes on; on a cache line of its own.
#[repr(align(64))]
struct Part {
    // Numbers in use, numbers retiring, frees.
    states: AtomicU64,
    // Where the next search begins: for narrow SMMUs of a wide space, and for the others.
    cursors: [AtomicU32; 2],
}

/// Numbers from 0 on, 0 reserved.
///
/// A number that leaves one state for the next does so in one addition. What is given out and in no other state is fresh, and
/// is not counted: allocating writes nothing but the bitmap.
///
/// Why *exhausted* is true, in continuation of the steps at [`Bitmap`]:
///
/// 7. *Count*: who has given back a bit (1) then counts a free. A release. Only now the free has taken effect.
/// 8. *Scan*: who finds nothing by the marks reads the counts of frees, then looks for a bit, in the end in every word.
/// 9. *Recount*: having found none, it reads the counts again. If they are still the same, no free took effect in between. So
///    what it saw claimed, word by word, is claimed still, or its free has not taken effect yet: there was a moment at
///    which no number was free, the one before the recount. If a count is another one, it looks again, 16 times at most. Two
///    orderings are needed: by the release of 7 and the acquire of the first reading, a free that was counted before the
///    scan is seen by it. And a claim is a release too (2), and the scan an acquire, so that who sees the claim of a
///    thread also sees in the recount what that thread freed before.
pub struct Numbers<const SHIFT: u32, S = Sound> {
    map: Bitmap<SHIFT, S>,
    parts: [Part; PARTS],
    quarantined: AtomicU32,
    reserved: AtomicU32,
    high_water: AtomicU32,
    choice: Choice,
    numbers: u32,
    // From a number to its part: the quarter where each CPU has one, else its low bits, as threads have neighbours.
    shift: u32,
}

impl<const SHIFT: u32, S: Steps> Numbers<SHIFT, S> {
    /// `numbers` numbers, a power of two, of which 0 is reserved.
    pub fn new(numbers: u32, choice: Choice) -> Result<Self, NoMemory> {
        let part = |at: usize| Part {
            states: AtomicU64::new(0),
            // A narrow SMMU of a wide space has 256 numbers.
            cursors: [256, numbers].map(|limit| AtomicU32::new(limit / PARTS as u32 * at as u32)),
        };
        let this = Numbers {
            map: Bitmap::new(numbers as usize)?,
            parts: core::array::from_fn(part),
            quarantined: AtomicU32::new(0),
            reserved: AtomicU32::new(0),
            high_water: AtomicU32::new(0),
            choice,
            numbers,
            shift: match choice {
                Choice::Lowest | Choice::NextFit => 0,
                Choice::NextFitByCpu(_) => numbers.ilog2().saturating_sub(PARTS.ilog2()),
            },
        };
        this.map.claim_this(0);
        Ok(this)
    }

    /// How many numbers there are, 0 included.
    pub fn numbers(&self) -> u32 {
        self.numbers
    }

    /// Take a number below `limit`, now fresh.
    #[inline]
    pub fn take(&self, limit: u32) -> Option<u16> {
        let limit = limit.min(self.numbers);
        let cpu = match self.choice {
            Choice::Lowest => return self.search(0, limit).map(|claimed| claimed.bit as u16),
            Choice::NextFit => 0,
            Choice::NextFitByCpu(cpu) => cpu() % PARTS,
        };
        let cursor = &self.parts[cpu].cursors[usize::from(limit == self.numbers)];
        let claimed = self.search(cursor.load(Ordering::Relaxed), limit)?;
        let mut next = claimed.bit as u32 + 1;
        if claimed.disputed && matches!(self.choice, Choice::NextFitByCpu(_)) {
            // Another CPU's round is here.
            next += limit / PARTS as u32;
        }
        cursor.store(if next < limit { next } else { next - limit }, Ordering::Relaxed);
        Some(claimed.bit as u16)
    }

    #[inline]
    fn search(&self, from: u32, limit: u32) -> Option<Claimed> {
        let (from, limit) = (from as usize, limit as usize);
        if S::BY_MARKS == Taken::Yes
            && let Some(claimed) = self.map.claim_by_marks(from, limit)
        {
            return Some(claimed);
        }
        self.search_long(from, limit)
    }

    #[cold]
    fn search_long(&self, from: usize, limit: usize) -> Option<Claimed> {
        for _ in 0..PASSES {
            let before = self.frees();
            if let Some(claimed) = self.map.claim(from, limit) {
                return Some(claimed);
            }
            if S::RECOUNT == Taken::No || self.frees() == before {
                return None;
            }
        }
        None
    }

    fn frees(&self) -> [u64; PARTS] {
        self.parts.each_ref().map(|part| part.states.load(Ordering::Acquire) >> FREES)
    }

    /// The part that a number belongs to.
    #[inline]
    pub fn part_of(&self, number: u16) -> usize {
        usize::from(number) >> self.shift & (PARTS - 1)
    }

    #[inline]
    fn part(&self, number: u16) -> &Part {
        &self.parts[self.part_of(number)]
    }

    /// A number that the caller took enters the next state.
    #[inline]
    pub fn change(&self, number: u16, from: Life, to: Life) {
        if to == Life::Quarantined {
            self.quarantined.fetch_add(1, Ordering::Relaxed);
        }
        let step = to.one().wrapping_sub(from.one());
        self.part(number).states.fetch_add(step, Ordering::Release);
        if from == Life::Fresh {
            let now: u32 = self.known().iter().sum();
            if now > self.high_water.load(Ordering::Relaxed) {
                self.high_water.fetch_max(now, Ordering::Relaxed);
            }
        }
    }

    /// A number that the caller took is free again.
    #[inline]
    pub fn put_back(&self, number: u16, from: Life) {
        // Out of its state first: the next owner must not be counted beside this one.
        if from.one() != 0 {
            self.part(number).states.fetch_sub(from.one(), Ordering::Relaxed);
        }
        self.map.give(number.into());
        self.part(number).states.fetch_add(1 << FREES, S::COUNT);
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

    /// Lost numbers.
    pub fn quarantined(&self) -> u32 {
        self.quarantined.load(Ordering::Relaxed)
    }

    /// The most numbers that hardware knew at once.
    pub fn high_water(&self) -> u32 {
        self.high_water.load(Ordering::Relaxed).min(self.numbers - 1 - self.reserved())
    }

    /// Bytes of the bitmap.
    pub fn bytes(&self) -> usize {
        self.map.bytes()
    }

    /// In use, retiring, quarantined.
    fn known(&self) -> [u32; 3] {
        let mut known = [0, 0, 0];
        for part in &self.parts {
            // Acquire, and the quarantined ones last: a number that leaves a state for them is not missed by both.
            let states = part.states.load(Ordering::Acquire);
            known[0] += (states & LANE_MASK) as u32;
            known[1] += (states >> LANE & LANE_MASK) as u32;
        }
        known[2] = self.quarantined();
        known
    }

    /// See `AsidSpace::stats`.
    pub fn stats(&self) -> TagStats {
        let [in_use, retiring, quarantined] = self.known();
        let capacity = self.numbers - 1 - self.reserved();
        let rest = capacity.saturating_sub(in_use + retiring + quarantined);
        let free = self.map.free().min(rest);
        TagStats { capacity, free, fresh: rest - free, in_use, retiring, quarantined }
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
