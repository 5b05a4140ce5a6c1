//! A bitmap whose bits threads claim and give back with atomics alone.

use alloc::vec::Vec;
use core::fmt;

use crate::sync::{AtomicU64, Barrier, Ordering, acq_rel, is_kept, order};

/// The most levels: 16 bits of number need three of 64-bit words, and tests use narrower words.
const LEVELS: usize = 6;

/// How often a search follows the marks before it looks at every word instead.
const DESCENTS: usize = 64;

/// Bits that are free (set) or claimed (clear), in words of 2^`SHIFT` bits, with *marks* above
/// them.
///
/// Bit *i* of a level is the mark of word *i* of the level below. The top level is one word.
///
/// Invariants:
///
/// 1. A thread claims a bit by one compare-exchange or `fetch_and` that saw it set. No other thread
///    gets the bit before its owner gives it back: no bit has two owners.
/// 2. While no call is under way, a word that has a set bit is marked. A mark may stand above an
///    empty word: marks are hints on where to look, never a reason to hand a bit out.
/// 3. A bit that is set is found: when the marks lead nowhere, the search looks at every word.
/// 4. Work is bounded by the number of words, with one exception: a compare-exchange is tried again
///    when another thread has changed the word meanwhile. So some thread always makes progress.
///
/// Why 2 holds, in steps. [`Barrier`] names the ordering of each:
///
/// 1. *Give*: the owner sets the bit in the word. A release: it follows all that the owner did with
///    the number.
/// 2. *Claim*: a thread clears the bit. An acquire: the new owner sees all that the last owner did.
///    Claims in between do not break the chain, because they are read-modify-writes of the same
///    word.
/// 3. *Mark*: the thread that made a word non-empty then sets the mark above it. If that made the
///    upper word non-empty, it sets the mark above that one too. A release.
/// 4. *Unmark*: the thread that made a word empty, or found an empty word below a mark, clears the
///    mark. An acquire.
/// 5. *Recheck*: the thread that cleared a mark looks at the word again, and marks it anew (3) if
///    it is not empty.
/// 6. Take the last time that a word became non-empty, and the last time that its mark was cleared.
///    Either the mark of 3 comes after that clearing, and stays. Or it comes before; then by the
///    release of 3 and the acquire of 4 the recheck of 5 sees the word non-empty, and marks it. All
///    changes of a word of marks are read-modify-writes, so no release is lost on the way.
pub struct Bitmap<const SHIFT: u32> {
    // Level 0 first.
    words: Vec<AtomicU64>,
    // Where each level begins, and after the last one where it ends.
    starts: [usize; LEVELS + 1],
    depth: usize,
}

/// The allocation that failed, in bytes.
#[derive(Debug)]
pub struct NoMemory(pub usize);

/// A bit that the caller owns now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// The bit.
    pub bit: usize,
    /// Whether another thread changed the word at the same time.
    pub disputed: bool,
}

enum Seek {
    /// A word of level 0 that had a free bit, and its value then.
    Word(usize, u64),
    /// A mark stood above an empty word; it is cleared now.
    Stale,
    /// No mark leads to a bit below the limit.
    Nothing,
}

/// The success ordering of a claim.
#[inline]
fn claim_order() -> Ordering {
    acq_rel(Barrier::ClaimAcquire, Barrier::ClaimRelease)
}

/// The ordering with which a scan reads a word.
#[inline]
fn scan_order() -> Ordering {
    order(Barrier::ScanAcquire, Ordering::Acquire)
}

impl<const SHIFT: u32> Bitmap<SHIFT> {
    const MASK: usize = (1 << SHIFT) - 1;

    /// A bitmap of `bits` free bits: at least one word, and no more than [`LEVELS`] levels hold.
    pub fn new(bits: usize) -> Result<Self, NoMemory> {
        let mut starts = [0; LEVELS + 1];
        let (mut depth, mut total, mut below) = (0, 0, bits);
        while depth == 0 || (below > 1 && depth < LEVELS) {
            below = below.div_ceil(1 << SHIFT);
            total += below;
            depth += 1;
            starts[depth] = total;
        }
        let mut words = Vec::new();
        words.try_reserve_exact(total).map_err(|_| NoMemory(total * size_of::<AtomicU64>()))?;
        let mut left = bits;
        for level in 0..depth {
            let here = starts[level + 1] - starts[level];
            for index in 0..here {
                let set = left.saturating_sub(index << SHIFT).min(1 << SHIFT);
                words.push(AtomicU64::new(u64::MAX.checked_shr(64 - set as u32).unwrap_or(0)));
            }
            left = here;
        }
        Ok(Bitmap { words, starts, depth })
    }

    /// The size of all words in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.words.len() * size_of::<u64>()
    }

    #[inline]
    fn word(&self, level: usize, index: usize) -> Option<&AtomicU64> {
        let at = self.starts[level] + index;
        if at < self.starts[level + 1] { self.words.get(at) } else { None }
    }

    /// Claims the first free bit from `from` on and below `limit`, or else the first below `from`.
    ///
    /// Exact while no other thread claims or gives back; otherwise some bit that was free.
    pub fn claim(&self, from: usize, limit: usize) -> Option<Claimed> {
        let from = if from < limit { from } else { 0 };
        let by_marks = match is_kept(Barrier::ByMarks) {
            true => self.claim_by_marks(from, limit),
            false => None,
        };
        by_marks
            .or_else(|| self.claim_by_words(from, limit))
            .or_else(|| self.claim_by_words(0, from))
    }

    /// Like [`claim`](Self::claim), but finds only what the marks lead to.
    #[inline]
    pub fn claim_by_marks(&self, from: usize, limit: usize) -> Option<Claimed> {
        let from = if from < limit { from } else { 0 };
        if from == 0
            && let Some(claimed) = self.claim_lowest(limit)
        {
            return Some(claimed);
        }
        let behind = self.descend(from, limit);
        behind.or_else(|| if from > 0 { self.descend(0, from) } else { None })
    }

    /// The usual case of [`descend`](Self::descend) from 0 in few instructions: no stale mark, and no
    /// other thread in the word. The loads and the claim are those of [`seek`](Self::seek) and
    /// [`claim_in`](Self::claim_in).
    #[inline(always)]
    fn claim_lowest(&self, limit: usize) -> Option<Claimed> {
        let (&leaves, marks) = self.starts.get(..self.depth)?.split_first()?;
        let mut index = 0;
        for start in marks.iter().rev() {
            let seen = self.words.get(start + index)?.load(Ordering::Relaxed);
            if seen == 0 {
                return None;
            }
            index = index << SHIFT | seen.trailing_zeros() as usize;
        }
        let word = self.words.get(leaves + index)?;
        let seen = word.load(Ordering::Relaxed);
        let bit = index << SHIFT | seen.trailing_zeros() as usize;
        if seen == 0 || bit >= limit {
            return None;
        }
        let rest = seen & (seen - 1);
        word.compare_exchange(seen, rest, claim_order(), Ordering::Relaxed).ok()?;
        if rest == 0 {
            self.emptied(0, index);
        }
        Some(Claimed { bit, disputed: false })
    }

    #[cold]
    fn descend(&self, from: usize, limit: usize) -> Option<Claimed> {
        for _ in 0..DESCENTS {
            match self.seek(from, limit) {
                Seek::Word(index, seen) => {
                    let claimed = self.claim_in(index, Some(seen), from, limit);
                    if claimed.is_some() {
                        return claimed;
                    }
                }
                Seek::Stale => {}
                Seek::Nothing => break,
            }
        }
        None
    }

    /// Looks at every word (invariant 3).
    fn claim_by_words(&self, from: usize, limit: usize) -> Option<Claimed> {
        (from >> SHIFT..limit.div_ceil(1 << SHIFT))
            .find_map(|index| self.claim_in(index, None, from, limit))
    }

    /// Claims this bit. Returns whether it was free.
    pub fn claim_this(&self, bit: usize) -> bool {
        let Some(word) = self.word(0, bit >> SHIFT) else { return false };
        let mask = 1 << (bit & Self::MASK);
        let old = word.fetch_and(!mask, claim_order());
        if old == mask {
            self.emptied(0, bit >> SHIFT);
        }
        old & mask != 0
    }

    /// Gives back a bit that the caller owns.
    #[inline]
    pub fn give(&self, bit: usize) {
        let Some(word) = self.word(0, bit >> SHIFT) else { return };
        // The bit is clear and the caller owns it, so adding sets it. Unlike `or`, an addition that
        // returns the old value is one instruction.
        let release = order(Barrier::GiveRelease, Ordering::Release);
        let old = word.fetch_add(1 << (bit & Self::MASK), release);
        if old == 0 {
            self.filled(0, bit >> SHIFT);
        }
    }

    /// How many bits are free. Reads the words one after the other, so the sum may fit no single
    /// moment.
    pub fn free(&self) -> u32 {
        let leaves = self.words.get(..self.starts[1]).unwrap_or_default();
        leaves.iter().map(|word| word.load(Ordering::Relaxed).count_ones()).sum()
    }

    /// Whether every word that has a set bit is marked (invariant 2). For tests, while no call is
    /// under way.
    #[cfg(any(test, loom))]
    pub fn is_marked(&self) -> bool {
        let set = |level: usize, bit: usize| {
            let word = self.word(level, bit >> SHIFT).map(|word| word.load(Ordering::Acquire));
            word.unwrap_or(0) >> (bit & Self::MASK) & 1 != 0
        };
        (1..self.depth).all(|level| {
            let below = self.starts[level] - self.starts[level - 1];
            (0..below).all(|index| {
                let word = self.word(level - 1, index).map(|word| word.load(Ordering::Acquire));
                word == Some(0) || set(level, index)
            })
        })
    }

    /// Steps 4 and 5, from a word that is empty to the top.
    #[cold]
    fn emptied(&self, mut level: usize, mut index: usize) {
        while level + 1 < self.depth {
            let (Some(word), Some(above)) =
                (self.word(level, index), self.word(level + 1, index >> SHIFT))
            else {
                return;
            };
            let mark = 1 << (index & Self::MASK);
            let old = above.fetch_and(!mark, order(Barrier::UnmarkAcquire, Ordering::Acquire));
            if is_kept(Barrier::Recheck) && word.load(Ordering::Relaxed) != 0 {
                self.filled(level, index);
                return;
            }
            if old != mark {
                return;
            }
            level += 1;
            index >>= SHIFT;
        }
    }

    /// Step 3, from a word that was empty to the top.
    #[cold]
    fn filled(&self, mut level: usize, mut index: usize) {
        let release = order(Barrier::MarkRelease, Ordering::Release);
        while level + 1 < self.depth && is_kept(Barrier::Mark) {
            let Some(above) = self.word(level + 1, index >> SHIFT) else { return };
            if above.fetch_or(1 << (index & Self::MASK), release) != 0 {
                return;
            }
            level += 1;
            index >>= SHIFT;
        }
    }

    /// Follows the marks to a word with a free bit.
    #[inline]
    fn seek(&self, from: usize, limit: usize) -> Seek {
        let (mut level, mut at) = if from == 0 { (self.depth - 1, 0) } else { (0, from) };
        let mut seen;
        // Up to the first word that has a bit at or behind `from`; `at` counts the bits of the
        // level.
        loop {
            let index = at >> SHIFT;
            let Some(word) = self.word(level, index) else { return Seek::Nothing };
            seen = word.load(Ordering::Relaxed);
            let bits = seen & (u64::MAX << (at & Self::MASK));
            if bits != 0 {
                at = index << SHIFT | bits.trailing_zeros() as usize;
                break;
            }
            level += 1;
            at = index + 1;
            if level == self.depth {
                return Seek::Nothing;
            }
        }
        // Down again, to the first bit.
        while level > 0 {
            level -= 1;
            let Some(word) = self.word(level, at) else { return Seek::Nothing };
            seen = word.load(Ordering::Relaxed);
            if seen == 0 {
                self.emptied(level, at);
                return Seek::Stale;
            }
            at = at << SHIFT | seen.trailing_zeros() as usize;
        }
        if at < limit { Seek::Word(at >> SHIFT, seen) } else { Seek::Nothing }
    }

    /// Claims the first free bit of a word.
    #[inline]
    fn claim_in(
        &self,
        index: usize,
        seen: Option<u64>,
        from: usize,
        limit: usize,
    ) -> Option<Claimed> {
        let word = self.word(0, index)?;
        let base = index << SHIFT;
        let behind = u64::MAX << from.saturating_sub(base).min(Self::MASK);
        let room = limit.saturating_sub(base).min(1 << SHIFT) as u32;
        let window = behind & u64::MAX.checked_shr(64 - room).unwrap_or(0);
        let mut now = seen.unwrap_or_else(|| word.load(scan_order()));
        let mut disputed = false;
        loop {
            let free = now & window;
            if free == 0 {
                return None;
            }
            let bit = free & free.wrapping_neg();
            match word.compare_exchange_weak(now, now & !bit, claim_order(), scan_order()) {
                Ok(_) => {
                    if now == bit {
                        self.emptied(0, index);
                    }
                    return Some(Claimed { bit: base + bit.trailing_zeros() as usize, disputed });
                }
                Err(seen) => (now, disputed) = (seen, true),
            }
        }
    }
}

impl<const SHIFT: u32> fmt::Debug for Bitmap<SHIFT> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bitmap({} words)", self.words.len())
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;
    use std::collections::BTreeSet;

    fn claim<const SHIFT: u32>(map: &Bitmap<SHIFT>, from: usize, limit: usize) -> Option<usize> {
        map.claim(from, limit).map(|claimed| claimed.bit)
    }

    #[rstest]
    #[case(256, 40)]
    #[case(65536, 8328)]
    fn inv_1_fills_in_order_and_refills_the_lowest(#[case] bits: usize, #[case] bytes: usize) {
        let map = Bitmap::<6>::new(bits).unwrap();
        assert_eq!(map.bytes(), bytes);
        for want in 0..bits {
            assert_eq!(claim(&map, 0, bits), Some(want));
            assert!(!map.claim_this(want));
        }
        assert!(map.is_marked());
        assert_eq!(claim(&map, 0, bits), None);
        for bit in [bits - 1, 130, 64, 63, 0] {
            map.give(bit);
            assert!(map.is_marked());
            assert_eq!(claim(&map, 0, bits), Some(bit));
        }
    }

    #[test]
    fn bits_above_the_limit_are_not_claimed() {
        let map = Bitmap::<6>::new(65536).unwrap();
        (0..256).for_each(|bit| assert!(map.claim_this(bit)));
        assert_eq!(claim(&map, 0, 256), None);
        assert_eq!(claim(&map, 0, 65536), Some(256));
        assert_eq!(claim(&map, 70, 256), None);
    }

    #[test]
    fn inv_2_a_search_clears_a_mark_above_an_empty_word() {
        let map = Bitmap::<1>::new(16).unwrap();
        (0..14).for_each(|bit| assert!(map.claim_this(bit)));
        (0..6).for_each(|index| map.filled(0, index));
        assert_eq!(claim(&map, 0, 16), Some(14));
        assert!(matches!(map.seek(0, 16), Seek::Word(7, 0b10)));
    }

    #[test]
    fn inv_3_a_bit_without_a_mark_is_found() {
        let map = Bitmap::<1>::new(16).unwrap();
        (0..16).for_each(|bit| assert!(map.claim_this(bit)));
        map.word(0, 5).unwrap().store(0b10, Ordering::Relaxed);
        assert!(matches!(map.seek(0, 16), Seek::Nothing));
        assert_eq!(claim(&map, 3, 16), Some(11));
    }

    fn agrees<const SHIFT: u32>(bits: usize, steps: &[(u8, usize, usize)]) {
        let map = Bitmap::<SHIFT>::new(bits).unwrap();
        let mut free: BTreeSet<usize> = (0..bits).collect();
        let mut claimed = std::vec::Vec::new();
        for &(step, a, b) in steps {
            match step {
                0 if !claimed.is_empty() => {
                    let bit = claimed.swap_remove(a % claimed.len());
                    map.give(bit);
                    free.insert(bit);
                }
                1 => {
                    let bit = a % bits;
                    assert_eq!(map.claim_this(bit), free.remove(&bit));
                    if !claimed.contains(&bit) {
                        claimed.push(bit);
                    }
                }
                _ => {
                    let (from, limit) = (a % bits, b % (bits + 1));
                    let from = if from < limit { from } else { 0 };
                    let behind = free.range(from..limit).next();
                    let want = behind.or_else(|| free.range(..from).next()).copied();
                    assert_eq!(claim(&map, from, limit), want, "from {from} below {limit}");
                    if let Some(bit) = want {
                        free.remove(&bit);
                        claimed.push(bit);
                    }
                }
            }
            assert!(map.is_marked());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]
        #[test]
        fn agrees_with_a_set_of_free_numbers(
            steps in prop::collection::vec((0..5u8, 0..4096usize, 0..4096usize), 0..200),
        ) {
            agrees::<1>(2, &steps);
            agrees::<1>(13, &steps);
            agrees::<2>(64, &steps);
            agrees::<6>(256, &steps);
        }
    }
}
