//! A bitmap that finds its lowest clear bit in two steps.
//!
//! 1. A bit of `full` is set if and only if all 64 bits of the word below it are set.
//! 2. Nothing is allocated after [`Bitmap::new`].

use alloc::vec::Vec;

const WORD: usize = 64;
const SUMMARY: usize = (1 << 16) / WORD / WORD;

#[derive(Debug)]
pub(crate) struct Bitmap {
    words: Vec<u64>,
    full: [u64; SUMMARY],
}

/// The bytes that could not be had.
pub(crate) struct NoMemory(pub(crate) usize);

impl Bitmap {
    /// `bits` clear bits; at least 64, at most 65,536, a multiple of 64.
    pub(crate) fn new(bits: usize) -> Result<Self, NoMemory> {
        let len = bits / WORD;
        let mut words = Vec::new();
        words.try_reserve_exact(len).map_err(|_| NoMemory(len * size_of::<u64>()))?;
        words.resize(len, 0);
        Ok(Bitmap { words, full: [0; SUMMARY] })
    }

    pub(crate) fn contains(&self, bit: usize) -> bool {
        self.words.get(bit / WORD).is_some_and(|word| word >> (bit % WORD) & 1 != 0)
    }

    pub(crate) fn set(&mut self, bit: usize) {
        let index = bit / WORD;
        let Some(word) = self.words.get_mut(index) else { return };
        *word |= 1 << (bit % WORD);
        if *word == u64::MAX {
            self.full[index / WORD] |= 1 << (index % WORD);
        }
    }

    pub(crate) fn clear(&mut self, bit: usize) {
        let index = bit / WORD;
        let Some(word) = self.words.get_mut(index) else { return };
        *word &= !(1 << (bit % WORD));
        self.full[index / WORD] &= !(1 << (index % WORD));
    }

    /// The lowest clear bit below `limit`.
    pub(crate) fn lowest_clear(&self, limit: usize) -> Option<usize> {
        for (group, &full) in self.full.iter().enumerate() {
            if full == u64::MAX {
                continue;
            }
            let index = group * WORD + full.trailing_ones() as usize;
            let word = self.words.get(index)?;
            let bit = index * WORD + word.trailing_ones() as usize;
            return (bit < limit).then_some(bit);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(256)]
    #[case(65536)]
    fn inv_1_fills_in_order_and_refills_the_lowest(#[case] bits: usize) {
        let mut map = Bitmap::new(bits).ok().unwrap();
        for want in 0..bits {
            assert_eq!(map.lowest_clear(bits), Some(want));
            assert!(!map.contains(want));
            map.set(want);
        }
        assert_eq!(map.lowest_clear(bits), None);
        for bit in [bits - 1, 130, 64, 63, 0] {
            map.clear(bit);
            assert_eq!(map.lowest_clear(bits), Some(bit));
        }
    }

    #[test]
    fn a_limit_hides_what_lies_above_it() {
        let mut map = Bitmap::new(65536).ok().unwrap();
        (0..256).for_each(|bit| map.set(bit));
        assert_eq!(map.lowest_clear(256), None);
        assert_eq!(map.lowest_clear(65536), Some(256));
    }
}
