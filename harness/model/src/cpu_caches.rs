//! RAM behind the caches of the CPUs, for SMMUs that do not snoop them.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use smmu_types::PhysAddr;
use smmu_types::pool::{HeapWindow, Window};

use crate::model::Model;

const LINE_WORDS: usize = 8;

/// The RAM of a model as CPUs see it whose caches no SMMU snoops (`IDR0.COHACC` = 0). Give it to the
/// driver instead of [`Model::window`](crate::Model::window). Clones are the same caches.
///
/// They are the least helpful ones. They hold every line, and write back and load again only what the
/// driver cleans and invalidates. So an SMMU sees no store before [`publish`](Window::publish), and
/// the driver sees no store of an SMMU before [`observe`](Window::observe). A line with one store is
/// written back as a whole, which undoes what an SMMU has stored beside it.
///
/// ```
/// use std::sync::atomic::Ordering;
///
/// use smmu_model::{CpuCaches, Model, Profile};
/// use smmu_types::pool::Window;
///
/// let model = Model::new(1 << 20, &[Profile { coherent: false, ..Profile::default() }]);
/// let ram = CpuCaches::of(&model);
/// ram.words()[3].store(7, Ordering::Relaxed);
/// assert_eq!(model.window().words()[3].load(Ordering::Relaxed), 0);
/// assert_eq!(ram.unpublished(), [ram.base()]);
/// ram.publish(3..4);
/// assert_eq!(model.window().words()[3].load(Ordering::Relaxed), 7);
/// assert!(ram.unpublished().is_empty());
/// ```
#[derive(Clone)]
pub struct CpuCaches {
    model: Model,
    /// What SMMUs and devices see.
    memory: HeapWindow,
    /// What the CPUs see.
    copy: HeapWindow,
    state: Arc<Mutex<State>>,
}

/// A word that a write-back changed in memory: what became of one or more stores of CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CachedStore {
    /// The word.
    pub at: PhysAddr,
    /// Its value before.
    pub old: u64,
    /// Its value behind the store.
    pub new: u64,
    /// Which of [`CpuCaches::publications`] writes it back. An [`observe`](Window::observe) that does
    /// counts as the next one.
    pub publication: usize,
}

/// What a driver is made to forget, by its number from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lapse {
    /// One of [`CpuCaches::publications`]: it does nothing.
    Publication(usize),
    /// One of [`CpuCaches::stores`]: memory keeps the old value until a later store to the word. CPUs
    /// see the new value until they load the line again.
    Store(usize),
}

/// One thread cleans at a time.
#[derive(Default)]
struct State {
    /// Each word as it was when its line was last the same as memory.
    clean: Box<[u64]>,
    /// The first word of each publication that had something to write back.
    published: Vec<PhysAddr>,
    stores: Vec<CachedStore>,
    /// How many publications and stores a call of [`CpuCaches::unpublished`] came after.
    judged: (usize, usize),
    lapse: Option<Lapse>,
    /// The word, by its index, of which memory has no store, and the value that it lacks.
    lacking: Option<(usize, u64)>,
}

impl CpuCaches {
    /// Caches of the RAM of a model that no driver has used yet.
    #[must_use]
    pub fn of(model: &Model) -> Self {
        let memory = model.window();
        let words = memory.words().len();
        let state = State { clean: vec![0; words].into(), ..State::default() };
        let copy = HeapWindow::new(memory.base(), words * 8);
        CpuCaches { model: model.clone(), memory, copy, state: Arc::new(Mutex::new(state)) }
    }

    /// The lines that hold stores which no publication has shown, by their address. A driver leaves
    /// none when its call returns.
    #[must_use]
    pub fn unpublished(&self) -> Vec<PhysAddr> {
        let State { clean, published, stores, judged, .. } = &mut *self.lock();
        *judged = (published.len(), stores.len());
        let all = self.lines(0..clean.len());
        let dirty = all.filter(|line| self.dirty(line.clone(), clean).is_some());
        dirty.map(|line| self.address(line.start)).collect()
    }

    /// Publications that had something to write back, each by the address of the first such word. Those
    /// after the last call of [`unpublished`](Self::unpublished) are left out: nothing judges them.
    #[must_use]
    pub fn publications(&self) -> Vec<PhysAddr> {
        let state = self.lock();
        state.published.get(..state.judged.0).unwrap_or_default().to_vec()
    }

    /// The words that write-backs changed, in their order. Those after the last call of
    /// [`unpublished`](Self::unpublished) are left out: nothing judges them.
    #[must_use]
    pub fn stores(&self) -> Vec<CachedStore> {
        let state = self.lock();
        state.stores.get(..state.judged.1).unwrap_or_default().to_vec()
    }

    /// Makes the driver forget a publication or a store. A test of the driver should notice.
    pub fn forget(&self, lapse: Lapse) {
        self.lock().lapse = Some(lapse);
    }

    /// How often an SMMU, a device or an audit read the word of a [`Lapse::Store`] while memory lacked
    /// the store. After 0 it can have done no harm.
    #[must_use]
    pub fn wrong_reads(&self) -> u64 {
        self.model.ram().watched_reads()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn address(&self, word: usize) -> PhysAddr {
        PhysAddr(self.copy.base().0 + 8 * word as u64)
    }

    /// The lines that hold these words.
    fn lines(&self, words: Range<usize>) -> impl Iterator<Item = Range<usize>> {
        let all = self.copy.words().len();
        let first = words.start / LINE_WORDS * LINE_WORDS;
        let lines = if words.is_empty() { 0..0 } else { first..words.end.min(all) };
        // RAM may end within a line.
        lines.step_by(LINE_WORDS).map(move |first| first..(first + LINE_WORDS).min(all))
    }

    /// The first word of a line that a CPU has stored to since it was clean.
    fn dirty(&self, line: Range<usize>, clean: &[u64]) -> Option<usize> {
        let both = self.copy.words()[line.clone()].iter().zip(&clean[line.clone()]);
        let at =
            both.into_iter().position(|(word, clean)| word.load(Ordering::SeqCst) != *clean)?;
        Some(line.start + at)
    }

    /// Writes a line back, if a CPU has stored to it.
    fn write_back(&self, line: Range<usize>, state: &mut State, publishes: bool) {
        if self.dirty(line.clone(), &state.clean).is_none() {
            return;
        }
        for n in line {
            let (old, new) = (state.clean[n], self.copy.words()[n].load(Ordering::SeqCst));
            state.clean[n] = new;
            if new != old {
                if state.lacking.is_some_and(|(word, _)| word == n) {
                    state.lacking = None;
                    self.model.ram().watch(None);
                }
                let at = self.address(n);
                let publication = state.published.len().saturating_sub(usize::from(publishes));
                state.stores.push(CachedStore { at, old, new, publication });
                if state.lapse == Some(Lapse::Store(state.stores.len() - 1)) {
                    state.lacking = Some((n, new));
                    self.model.ram().watch(Some(at));
                }
            }
            if state.lacking != Some((n, new)) {
                self.memory.words()[n].store(new, Ordering::SeqCst);
            }
        }
    }
}

#[expect(unsafe_code, reason = "implements the promise for a copy of the model's RAM")]
// SAFETY: the copy does not move while a clone lives. Its words reach the memory of `base` in
// `publish`, and those of the memory reach it in `observe`.
unsafe impl Window for CpuCaches {
    fn words(&self) -> &[AtomicU64] {
        self.copy.words()
    }

    fn base(&self) -> PhysAddr {
        self.copy.base()
    }

    fn publish(&self, words: Range<usize>) {
        let state = &mut *self.lock();
        let mut lines = self.lines(words.clone());
        let Some(first) = lines.find_map(|line| self.dirty(line, &state.clean)) else { return };
        state.published.push(self.address(first));
        if state.lapse == Some(Lapse::Publication(state.published.len() - 1)) {
            return;
        }
        for line in self.lines(words) {
            self.write_back(line, state, true);
        }
    }

    fn observe(&self, words: Range<usize>) {
        let state = &mut *self.lock();
        for line in self.lines(words) {
            self.write_back(line.clone(), state, false);
            for n in line {
                let (old, new) = (state.clean[n], self.memory.words()[n].load(Ordering::SeqCst));
                let word = &self.copy.words()[n];
                // A CPU that stores at the same time has the line again.
                if word.compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
                    state.clean[n] = new;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Profile;

    /// A line at the end of RAM that has fewer words than others.
    #[test]
    fn ram_may_end_within_a_line() {
        let model = Model::new(64 + 24, &[Profile::default()]);
        let ram = CpuCaches::of(&model);
        ram.words()[10].store(7, Ordering::Relaxed);
        assert_eq!(ram.unpublished(), [PhysAddr(ram.base().0 + 64)]);
        ram.publish(0..usize::MAX);
        assert_eq!(model.window().words()[10].load(Ordering::Relaxed), 7);
        model.window().words()[9].store(5, Ordering::Relaxed);
        ram.observe(8..11);
        assert_eq!(ram.words()[9].load(Ordering::Relaxed), 5);
        assert!(ram.unpublished().is_empty());
    }

    /// Memory lacks a store until a later one to the same word, also when the line is written back.
    #[test]
    fn a_store_that_is_left_out_stays_left_out() {
        let model = Model::new(1 << 12, &[Profile::default()]);
        let (ram, memory) = (CpuCaches::of(&model), model.window());
        let store = |word: usize, value| {
            ram.words()[word].store(value, Ordering::Relaxed);
            ram.publish(word..word + 1);
            memory.words()[3].load(Ordering::Relaxed)
        };
        ram.forget(Lapse::Store(1));
        assert_eq!((store(3, 1), store(3, 2), store(4, 5)), (1, 1, 1));
        let at = PhysAddr(ram.base().0 + 24);
        assert_eq!((ram.wrong_reads(), model.ram().read64(at), ram.wrong_reads()), (0, Some(1), 1));
        // A CPU that loads the line again sees that the store is missing.
        ram.observe(3..4);
        assert_eq!(ram.words()[3].load(Ordering::Relaxed), 1);
        assert_eq!((store(4, 6), store(3, 2)), (1, 2));
        assert_eq!((model.ram().read64(at), ram.wrong_reads()), (Some(2), 1));
        assert!(ram.unpublished().is_empty());
        let (word_4, word_3) = (PhysAddr(at.0 + 8), at);
        let all = [(word_3, 0, 1), (word_3, 1, 2), (word_4, 0, 5), (word_4, 5, 6), (word_3, 1, 2)];
        let of = |(publication, (at, old, new))| CachedStore { at, old, new, publication };
        assert!(ram.stores().into_iter().eq((0..).zip(all).map(of)));
    }
}
