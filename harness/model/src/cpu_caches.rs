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
    /// What SMMUs and devices see.
    memory: HeapWindow,
    /// What the CPUs see.
    copy: HeapWindow,
    state: Arc<Mutex<State>>,
}

/// One thread cleans at a time.
struct State {
    /// Each word as it was when its line was last the same as memory.
    clean: Box<[u64]>,
    /// The first word of each publication that had something to write back.
    published: Vec<PhysAddr>,
    /// How many of them a call of [`CpuCaches::unpublished`] came after.
    judged: usize,
    left_out: Option<usize>,
}

impl CpuCaches {
    /// Caches of the RAM of a model that no driver has used yet.
    #[must_use]
    pub fn of(model: &Model) -> Self {
        let memory = model.window();
        let words = memory.words().len();
        let (clean, published) = (vec![0; words].into(), Vec::new());
        let state = State { clean, published, judged: 0, left_out: None };
        let copy = HeapWindow::new(memory.base(), words * 8);
        CpuCaches { memory, copy, state: Arc::new(Mutex::new(state)) }
    }

    /// The lines that hold stores which no publication has shown, by their address. A driver leaves
    /// none when its call returns.
    #[must_use]
    pub fn unpublished(&self) -> Vec<PhysAddr> {
        let State { clean, published, judged, .. } = &mut *self.lock();
        *judged = published.len();
        let all = self.lines(0..clean.len());
        let dirty = all.filter(|line| self.dirty(line.clone(), clean).is_some());
        dirty.map(|line| self.address(line.start)).collect()
    }

    /// Publications that had something to write back, each by the address of the first such word. Those
    /// after the last call of [`unpublished`](Self::unpublished) are left out: nothing judges them.
    #[must_use]
    pub fn publications(&self) -> Vec<PhysAddr> {
        let state = self.lock();
        state.published.get(..state.judged).unwrap_or_default().to_vec()
    }

    /// Lets the publication of this number, from 0, do nothing: a driver that forgets it. A test of the
    /// driver should notice.
    pub fn leave_out(&self, number: usize) {
        self.lock().left_out = Some(number);
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
    fn write_back(&self, line: Range<usize>, clean: &mut [u64]) {
        if self.dirty(line.clone(), clean).is_none() {
            return;
        }
        for n in line {
            clean[n] = self.copy.words()[n].load(Ordering::SeqCst);
            self.memory.words()[n].store(clean[n], Ordering::SeqCst);
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
        let State { clean, published, left_out, .. } = &mut *self.lock();
        let Some(first) = self.lines(words.clone()).find_map(|line| self.dirty(line, clean)) else {
            return;
        };
        published.push(self.address(first));
        if *left_out == Some(published.len() - 1) {
            return;
        }
        for line in self.lines(words) {
            self.write_back(line, clean);
        }
    }

    fn observe(&self, words: Range<usize>) {
        let State { clean, .. } = &mut *self.lock();
        for line in self.lines(words) {
            self.write_back(line.clone(), clean);
            for n in line {
                let (old, new) = (clean[n], self.memory.words()[n].load(Ordering::SeqCst));
                let word = &self.copy.words()[n];
                // A CPU that stores at the same time has the line again.
                if word.compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
                    clean[n] = new;
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
}
