//! Caches without a limit that keep to MESI.

use std::collections::HashMap;

use crate::trace::Access;

/// The caches of some cores, and how many lines have moved.
#[derive(Debug)]
pub(crate) struct Caches {
    cores: usize,
    lines: HashMap<usize, Line>,
    /// Moves for loads.
    pub(crate) loads: usize,
    /// Moves for stores, from another cache or to be held alone.
    pub(crate) stores: usize,
}

/// The cores that hold a line. Only one that holds it alone may store.
#[derive(Debug)]
struct Line {
    holders: Vec<bool>,
}

impl Caches {
    pub(crate) fn new(cores: usize) -> Self {
        Caches { cores, lines: HashMap::new(), loads: 0, stores: 0 }
    }

    pub(crate) fn forget_counts(&mut self) {
        (self.loads, self.stores) = (0, 0);
    }

    pub(crate) fn access(&mut self, core: usize, access: Access) {
        let Access { line, stores } = access;
        let cores = self.cores;
        let line = self.lines.entry(line).or_insert_with(|| Line { holders: vec![false; cores] });
        let is_held = line.holders[core];
        if stores {
            if !is_held || line.holders.iter().filter(|held| **held).count() > 1 {
                self.stores += 1;
            }
            line.holders.fill(false);
        } else if !is_held {
            self.loads += 1;
        }
        line.holders[core] = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_moves_to_whoever_lacks_it() {
        let mut caches = Caches::new(2);
        let steps = [
            // Core, store?, moves for loads and for stores so far.
            (0, true, (0, 1)),
            (0, true, (0, 1)),
            (0, false, (0, 1)),
            (1, false, (1, 1)),
            (0, false, (1, 1)),
            // Both hold it.
            (0, true, (1, 2)),
            (1, true, (1, 3)),
            (0, false, (2, 3)),
        ];
        for (core, stores, moves) in steps {
            caches.access(core, Access { line: 7, stores });
            assert_eq!((caches.loads, caches.stores), moves, "{core} {stores}");
        }
        caches.forget_counts();
        caches.access(0, Access { line: 7, stores: false });
        assert_eq!((caches.loads, caches.stores), (0, 0));
    }
}
