//! The numbers of one space: which are free, how many are in which state, and when the space is
//! exhausted.

use core::fmt;

use crate::bitmap::{Bitmap, Claimed, NoMemory};
use crate::sync::{AtomicU32, AtomicU64, Barrier, Ordering, is_kept, order};

/// Which free number a space gives out next.
#[derive(Clone, Copy, Debug, Default)]
pub enum Choice {
    /// The lowest. The same calls give the same numbers. A freed number comes back at once, so a
    /// forgotten flush shows in the first test. Threads that allocate at the same time contend,
    /// because all want the same number.
    #[default]
    Lowest,
    /// The first number after the last one given out, round and round. A freed number comes back as
    /// late as possible, so a forgotten flush does the least harm. SMMUs of 8 bits and of 16 bits
    /// have a round each.
    NextFit,
    /// Next-fit with one round for each of four groups of CPUs. The rounds begin in different
    /// quarters of the space and avoid each other. Meant for CPUs that attach and detach at the
    /// same time.
    ///
    /// The function returns the number of the CPU that calls it. Any number will do; the group is
    /// that number modulo 4.
    NextFitByCpu(fn() -> usize),
}

/// How many numbers of a space are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TagStats {
    /// Numbers that the space can give out: all but 0 and the reserved ones. The sum of the other
    /// fields.
    pub capacity: u32,
    /// Not given out.
    pub free: u32,
    /// Given out; the hardware has not seen them.
    pub fresh: u32,
    /// Named by an STE or CD.
    pub in_use: u32,
    /// No STE or CD names them; their flush is not proven.
    pub retiring: u32,
    /// Lost for good: their flush was never proven.
    pub quarantined: u32,
}

/// The state of a number that is given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TagState {
    /// The hardware has not seen it.
    Fresh,
    /// An STE or CD names it.
    InUse,
    /// No STE or CD names it any more.
    Retiring,
    /// Lost for good.
    Quarantined,
}

impl TagState {
    /// One number of this state, in the lanes of [`PartCounts::states`]. Zero for states that are
    /// not counted there.
    const fn one(self) -> u64 {
        match self {
            TagState::Fresh | TagState::Quarantined => 0,
            TagState::InUse => 1,
            TagState::Retiring => 1 << LANE,
        }
    }
}

/// Bits of a lane: one more than a number has, because a number that one thread frees while another
/// takes it may count twice.
const LANE: u32 = 17;
const LANE_MASK: u64 = (1 << LANE) - 1;
/// The first bit of the count of frees, which wraps at 2^30.
const FREES: u32 = 2 * LANE;

/// How often a search looks at all words before it calls the space exhausted while other threads
/// keep freeing.
const PASSES: usize = 16;

/// The parts into which the counts are split, so that threads seldom write the same cache line.
pub(crate) const PARTS: usize = 4;

/// The counts of one part of the numbers, and the position of a CPU's round; on a cache line of its
/// own.
#[repr(align(64))]
struct PartCounts {
    // Numbers in use, numbers retiring, frees.
    states: AtomicU64,
    // Where the next search begins: for narrow SMMUs of a wide space, and for the others.
    cursors: [AtomicU32; 2],
}

/// The numbers of one space, from 0 on; 0 is reserved.
///
/// A number changes its state by one addition. A number that is given out and in no other state is
/// fresh. Fresh numbers are not counted, so allocating writes nothing but the bitmap.
///
/// Why *exhausted* is true, in continuation of the steps at [`Bitmap`]:
///
/// 7. *Count*: the thread that gave back a bit (1) then counts a free. A release. The free takes
///    effect only now.
/// 8. *Scan*: a thread that finds nothing by the marks reads the counts of frees, then looks at
///    every word.
/// 9. *Recount*: if it found no bit, it reads the counts again. If they are unchanged, no free took
///    effect in between. So each bit that it saw claimed is claimed still, or its free has not
///    taken effect yet: at the moment before the recount no number was free. If a count has
///    changed, it looks again, 16 times at most.
///
/// Step 9 needs two orderings. By the release of 7 and the acquire of the first reading, the scan
/// sees every free that was counted before it. And a claim is a release too (2) and the scan an
/// acquire, so a thread that sees the claim of another thread also sees in the recount what that
/// thread freed before.
pub struct Numbers<const SHIFT: u32> {
    map: Bitmap<SHIFT>,
    parts: [PartCounts; PARTS],
    quarantined: AtomicU32,
    reserved: AtomicU32,
    high_water: AtomicU32,
    choice: Choice,
    numbers: u32,
    // The part of a number is its quarter where CPUs have rounds of their own. Otherwise it is the
    // number's low bits, because threads that run side by side have neighbouring numbers.
    shift: u32,
}

impl<const SHIFT: u32> Numbers<SHIFT> {
    /// A space of `numbers` numbers, a power of two. Reserves 0.
    pub fn new(numbers: u32, choice: Choice) -> Result<Self, NoMemory> {
        let part = |at: usize| PartCounts {
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

    /// The size of the space, 0 included.
    pub fn numbers(&self) -> u32 {
        self.numbers
    }

    /// Takes a free number below `limit`, which is fresh now.
    #[inline]
    pub fn take(&self, limit: u32) -> Option<u16> {
        let limit = limit.min(self.numbers);
        let cpu = match self.choice {
            Choice::Lowest => return self.search(0, limit).map(|claimed| claimed.bit as u16),
            Choice::NextFit => 0,
            Choice::NextFitByCpu(cpu) => cpu() % PARTS,
        };
        // Relaxed: the cursor says where a search begins. A search covers all numbers anyway.
        let cursor = &self.parts[cpu].cursors[usize::from(limit == self.numbers)];
        let claimed = self.search(cursor.load(Ordering::Relaxed), limit)?;
        let mut next = claimed.bit as u32 + 1;
        if claimed.disputed && matches!(self.choice, Choice::NextFitByCpu(_)) {
            // Another CPU's round is here; move on by a quarter.
            next += limit / PARTS as u32;
        }
        cursor.store(if next < limit { next } else { next - limit }, Ordering::Relaxed);
        Some(claimed.bit as u16)
    }

    #[inline]
    fn search(&self, from: u32, limit: u32) -> Option<Claimed> {
        let (from, limit) = (from as usize, limit as usize);
        if is_kept(Barrier::ByMarks)
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
            if !is_kept(Barrier::Recount) || self.frees() == before {
                return None;
            }
        }
        None
    }

    fn frees(&self) -> [u64; PARTS] {
        self.parts.each_ref().map(|part| part.states.load(Ordering::Acquire) >> FREES)
    }

    /// The part that counts a number.
    #[inline]
    pub fn part_of(&self, number: u16) -> usize {
        usize::from(number) >> self.shift & (PARTS - 1)
    }

    #[inline]
    fn part(&self, number: u16) -> &PartCounts {
        &self.parts[self.part_of(number)]
    }

    /// Moves a number that the caller took to its next state.
    #[inline]
    pub fn change(&self, number: u16, from: TagState, to: TagState) {
        if to == TagState::Quarantined {
            self.quarantined.fetch_add(1, Ordering::Relaxed);
        }
        let step = to.one().wrapping_sub(from.one());
        // Release: a thread whose `known` misses the old state finds the number quarantined.
        self.part(number).states.fetch_add(step, Ordering::Release);
        if from == TagState::Fresh {
            let now: u32 = self.known().iter().sum();
            if now > self.high_water.load(Ordering::Relaxed) {
                self.high_water.fetch_max(now, Ordering::Relaxed);
            }
        }
    }

    /// Frees a number that the caller took.
    #[inline]
    pub fn put_back(&self, number: u16, from: TagState) {
        // The state is left first: the next owner of the number must not count beside this one.
        if from.one() != 0 {
            self.part(number).states.fetch_sub(from.one(), Ordering::Relaxed);
        }
        self.map.give(number.into());
        let release = order(Barrier::CountRelease, Ordering::Release);
        self.part(number).states.fetch_add(1 << FREES, release);
    }

    /// Takes exactly this number, which is fresh now. Returns whether it was free.
    #[inline]
    pub fn take_this(&self, number: u16) -> bool {
        self.map.claim_this(number.into())
    }

    /// Takes a number for good. Returns whether it was free; `true` for 0.
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

    /// How many numbers are reserved, without 0.
    pub fn reserved(&self) -> u32 {
        self.reserved.load(Ordering::Relaxed)
    }

    /// How many numbers are lost.
    pub fn quarantined(&self) -> u32 {
        self.quarantined.load(Ordering::Relaxed)
    }

    /// The most numbers that the hardware knew at once.
    pub fn high_water(&self) -> u32 {
        self.high_water.load(Ordering::Relaxed).min(self.numbers - 1 - self.reserved())
    }

    /// The size of the bitmap in bytes.
    pub fn bytes(&self) -> usize {
        self.map.bytes()
    }

    /// The counts of numbers in use, retiring and quarantined.
    fn known(&self) -> [u32; 3] {
        let mut known = [0, 0, 0];
        for part in &self.parts {
            // Acquire, and the quarantined numbers last: a number that becomes quarantined
            // meanwhile counts somewhere.
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

impl<const SHIFT: u32> fmt::Debug for Numbers<SHIFT> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Numbers").field("stats", &self.stats()).finish_non_exhaustive()
    }
}
