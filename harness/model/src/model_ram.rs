//! The RAM that the driver, the SMMUs and the devices share.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use smmu_types::PhysAddr;
use smmu_types::pool::HeapWindow;

/// Where RAM begins.
pub(crate) const BASE: u64 = 0x4000_0000;

/// RAM on the bus. An access outside of it aborts: the methods return `None`.
#[derive(Debug)]
pub(crate) struct ModelRam {
    window: HeapWindow,
    words: Arc<[AtomicU64]>,
    /// What the driver has freed: first and last address of each piece.
    freed: Mutex<Vec<(u64, u64)>>,
    /// The address of a word whose reads are counted, or 0.
    watched: AtomicU64,
    watched_reads: AtomicU64,
    /// Each word that is read goes into `notes`.
    notes_reads: AtomicBool,
    notes: Mutex<Vec<Word>>,
}

/// A word of memory: its index, and its value when it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    index: usize,
    value: u64,
}

impl ModelRam {
    pub(crate) fn new(bytes: usize) -> Self {
        let window = HeapWindow::new(PhysAddr(BASE), bytes);
        let words = window.share();
        let (watched, watched_reads) = (AtomicU64::new(0), AtomicU64::new(0));
        ModelRam {
            window,
            words,
            freed: Mutex::default(),
            watched,
            watched_reads,
            notes_reads: AtomicBool::new(false),
            notes: Mutex::default(),
        }
    }

    fn notes(&self) -> MutexGuard<'_, Vec<Word>> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes each word that is read from now on.
    pub(crate) fn note_reads(&self) {
        if !self.is_watched() {
            self.notes().clear();
            self.notes_reads.store(true, Ordering::Relaxed);
        }
    }

    /// The words that were read since [`note_reads`](Self::note_reads), each value once. `None` if
    /// none were noted.
    pub(crate) fn take_reads(&self) -> Option<Vec<Word>> {
        let noted = self.notes_reads.load(Ordering::Relaxed);
        self.notes_reads.store(false, Ordering::Relaxed);
        noted.then(|| self.notes().clone())
    }

    fn note(&self, index: usize, value: u64) {
        let word = Word { index, value };
        let mut notes = self.notes();
        if !notes.contains(&word) {
            notes.push(word);
        }
    }

    /// Whether memory still has each of `words`. No, while a word is watched: each read of it counts.
    pub(crate) fn still_has(&self, words: &[Word]) -> bool {
        !self.is_watched()
            && words.iter().all(|word| {
                let now = self.words.get(word.index).map(|word| word.load(Ordering::Acquire));
                now == Some(word.value)
            })
    }

    fn freed(&self) -> MutexGuard<'_, Vec<(u64, u64)>> {
        self.freed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The driver frees memory.
    pub(crate) fn free(&self, at: PhysAddr, bytes: u64) {
        if let Some(size) = bytes.checked_sub(1) {
            self.freed().push((at.0, at.0.saturating_add(size)));
        }
    }

    /// The driver uses memory again: forget each freed piece that overlaps it.
    pub(crate) fn reuse(&self, at: PhysAddr, bytes: u64) {
        let last = at.0.saturating_add(bytes.saturating_sub(1));
        self.freed().retain(|(first, end)| *end < at.0 || last < *first);
    }

    pub(crate) fn has_freed(&self) -> bool {
        !self.freed().is_empty()
    }

    /// Whether a byte of a piece of memory is freed.
    pub(crate) fn is_freed(&self, at: PhysAddr, bytes: u64) -> bool {
        let last = at.0.saturating_add(bytes.saturating_sub(1));
        self.freed().iter().any(|(first, end)| *first <= last && at.0 <= *end)
    }

    pub(crate) fn window(&self) -> HeapWindow {
        self.window.clone()
    }

    /// The word that holds `address`.
    fn word(&self, address: u64) -> Option<&AtomicU64> {
        self.words.get(index_of(address)?)
    }

    /// Counts the reads of one word from now on, or of none.
    pub(crate) fn watch(&self, word: Option<PhysAddr>) {
        self.watched.store(word.map_or(0, |word| word.0), Ordering::SeqCst);
    }

    fn is_watched(&self) -> bool {
        self.watched.load(Ordering::Relaxed) != 0
    }

    /// Reads of words while they were watched, by SMMUs, devices and audits.
    pub(crate) fn watched_reads(&self) -> u64 {
        self.watched_reads.load(Ordering::SeqCst)
    }

    /// The 64-bit word that holds `address`: bits 2:0 are ignored.
    pub(crate) fn read64(&self, address: PhysAddr) -> Option<u64> {
        if self.watched.load(Ordering::Relaxed) == address.0 & !7 {
            self.watched_reads.fetch_add(1, Ordering::SeqCst);
        }
        let index = index_of(address.0)?;
        // Acquire pairs with the barrier after which the driver published its stores.
        let value = self.words.get(index)?.load(Ordering::Acquire);
        if self.notes_reads.load(Ordering::Relaxed) {
            self.note(index, value);
        }
        Some(value)
    }

    pub(crate) fn read_words<const N: usize>(&self, address: PhysAddr) -> Option<[u64; N]> {
        let mut words = [0; N];
        for (i, word) in (0u64..).zip(&mut words) {
            *word = self.read64(PhysAddr(address.0.checked_add(i * 8)?))?;
        }
        Some(words)
    }

    /// Write all words, or none if one of them is outside.
    pub(crate) fn write_words(&self, address: PhysAddr, words: &[u64]) -> Option<()> {
        let last = address.0.checked_add(words.len() as u64 * 8)?.checked_sub(8)?;
        self.word(last)?;
        for (i, word) in (0u64..).zip(words) {
            self.word(address.0 + i * 8)?.store(*word, Ordering::Release);
        }
        Some(())
    }

    /// Four bytes at any alignment.
    pub(crate) fn read32(&self, address: PhysAddr) -> Option<u32> {
        let shift = address.0 % 8 * 8;
        let low = self.read64(address)? >> shift;
        let high = match shift {
            0..=32 => 0,
            _ => self.read64(PhysAddr(address.0.checked_add(4)?))? << (64 - shift),
        };
        Some((low | high) as u32)
    }

    /// Write four bytes at any alignment, or none if part of them is outside.
    pub(crate) fn write32(&self, address: PhysAddr, value: u32) -> Option<()> {
        let shift = address.0 % 8 * 8;
        let low = self.word(address.0)?;
        if shift > 32 {
            let high = self.word(address.0.checked_add(4)?)?;
            let back = 64 - shift;
            merge(high, u64::from(u32::MAX) >> back, u64::from(value) >> back);
        }
        merge(low, u64::from(u32::MAX) << shift, u64::from(value) << shift);
        Some(())
    }
}

/// Index of the word that holds `address`.
fn index_of(address: u64) -> Option<usize> {
    usize::try_from(address.checked_sub(BASE)? / 8).ok()
}

fn merge(word: &AtomicU64, mask: u64, bits: u64) {
    let mut old = word.load(Ordering::Relaxed);
    // The driver may write the neighbouring bytes at the same time: a plain store would lose them.
    while let Err(now) =
        word.compare_exchange_weak(old, old & !mask | bits, Ordering::AcqRel, Ordering::Relaxed)
    {
        old = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_at_any_alignment_and_keeps_the_neighbours() {
        for offset in 0..12u64 {
            let ram = ModelRam::new(24);
            ram.write_words(PhysAddr(BASE), &[u64::MAX; 3]).unwrap();
            let address = PhysAddr(BASE + offset);
            ram.write32(address, 0x1234_5678).unwrap();
            assert_eq!(ram.read32(address), Some(0x1234_5678), "offset {offset}");
            let ones: u32 =
                (0..3).map(|i| ram.read64(PhysAddr(BASE + i * 8)).unwrap().count_ones()).sum();
            assert_eq!(ones, 160 + 0x1234_5678u32.count_ones(), "offset {offset}");
        }
    }

    #[test]
    fn outside_is_refused_whole() {
        let ram = ModelRam::new(16);
        assert_eq!(ram.read64(PhysAddr(BASE - 8)), None);
        assert_eq!(ram.write32(PhysAddr(BASE + 14), 7), None);
        assert_eq!(ram.write_words(PhysAddr(BASE + 8), &[1, 2]), None);
        assert_eq!(ram.read_words::<2>(PhysAddr(BASE)), Some([0, 0]));
        assert_eq!(ram.read_words::<2>(PhysAddr(u64::MAX - 7)), None);
    }
}
