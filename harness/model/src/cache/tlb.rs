//! The IOTLB and the walk cache: an entry stays until a command drops it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use smmu_types::{CacheTag, Granule};

use crate::hazard::Permissions;
use crate::requester::Requester;
use crate::walk::space::Space;
use crate::walk::translation::{CachedTable, LeafMapping, Level, Roots, Stage1Part, WalkStep};

/// The place of a cached descriptor: space, level and input address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TlbKey {
    pub(crate) space: Space,
    /// Level of the descriptor.
    pub(crate) level: Level,
    /// First input address.
    pub(crate) base: u64,
}

impl TlbKey {
    fn of(space: Space, level: Level, input: u64) -> Self {
        TlbKey { space, level, base: input & !(level.bytes() - 1) }
    }

    pub(crate) fn size(&self) -> u64 {
        self.level.bytes()
    }

    /// The last input address.
    fn last(&self) -> u64 {
        self.base + (self.size() - 1)
    }
}

/// A cached mapping: one leaf descriptor, or the leaves of both stages combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TlbLine {
    pub(crate) output: u64,
    pub(crate) permissions: Permissions,
    /// Stage 1 of a combined line.
    pub(crate) stage1: Option<Stage1Part>,
    /// Roots of the tables that the walk started from.
    pub(crate) roots: Roots,
    /// The source of the transaction whose walk filled the line.
    pub(crate) source: Requester,
    /// Serial number: where several lines match, the smallest age serves.
    age: u64,
}

impl TlbLine {
    /// The descriptor that a TLBI of the line's space must match: of a combined line the leaf of
    /// stage 1, of which the line may be a part.
    fn descriptor(&self, key: &TlbKey) -> TlbKey {
        self.stage1.map_or(*key, |stage1| TlbKey::of(key.space, stage1.level, key.base))
    }

    /// The mapping, as the walk found it.
    pub(crate) fn mapping(&self, key: &TlbKey) -> LeafMapping {
        LeafMapping {
            level: key.level,
            output: self.output,
            permissions: self.permissions,
            global: false,
            stage1: self.stage1,
        }
    }
}

/// The input addresses that an invalidation covers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TlbExtent {
    /// First address.
    pub(crate) first: u64,
    /// Last address.
    pub(crate) last: u64,
    /// Drop table descriptors as well as leaves (`Leaf` = 0).
    pub(crate) tables: bool,
    /// Drop only leaves of this level, and table descriptors above it (`TTL`).
    pub(crate) level: Option<u8>,
    /// Drop only descriptors of this granule (`TG`).
    pub(crate) granule: Option<Granule>,
}

impl TlbExtent {
    fn overlaps(&self, key: &TlbKey) -> bool {
        let of_granule = self.granule.is_none_or(|granule| granule == key.level.granule);
        of_granule && key.base <= self.last && self.first <= key.last()
    }
}

#[derive(Debug, Default)]
pub(crate) struct Tlb {
    lines: BTreeMap<TlbKey, TlbLine>,
    tables: BTreeMap<TlbKey, CachedTable>,
    /// Number of lines of each of [`Level::LEAVES`].
    lines_of_level: [usize; Level::LEAVES.len()],
    age: u64,
}

impl Tlb {
    /// The line that translates `input`. Where [several match](Self::matching), the oldest serves.
    pub(crate) fn find(&self, space: Space, input: u64) -> Option<(TlbKey, TlbLine)> {
        let oldest = self.matching(space, input).min_by_key(|(_, line)| line.age);
        oldest.map(|(key, line)| (key, *line))
    }

    /// The lines that may translate `input`. Several match if a table became a block or the reverse,
    /// or if two streams with other tables share a tag.
    pub(crate) fn matching(
        &self,
        space: Space,
        input: u64,
    ) -> impl Iterator<Item = (TlbKey, &TlbLine)> {
        let levels = Level::LEAVES.into_iter().zip(self.lines_of_level);
        let there = levels.filter(|(_, count)| *count > 0);
        let keys = there.flat_map(move |(level, _)| {
            [space, space.global()].map(|space| TlbKey::of(space, level, input))
        });
        keys.filter_map(|key| self.lines.get(&key).map(|line| (key, line)))
    }

    /// The cached table descriptor of the deepest level of a granule on the way to `input`.
    pub(crate) fn find_table(
        &self,
        space: Space,
        granule: Granule,
        input: u64,
    ) -> Option<(TlbKey, CachedTable)> {
        (0..3).rev().find_map(|number| {
            let level = Level { granule, number };
            let key = TlbKey::of(space, level, input);
            self.tables.get(&key).map(|table| (key, *table))
        })
    }

    /// Keep a mapping. A line that exists under its key stays unchanged.
    pub(crate) fn insert(
        &mut self,
        space: Space,
        input: u64,
        mapping: &LeafMapping,
        roots: Roots,
        source: Requester,
    ) {
        let space = if mapping.global { space.global() } else { space };
        self.age += 1;
        let line = TlbLine {
            output: mapping.output,
            permissions: mapping.permissions,
            stage1: mapping.stage1,
            roots,
            source,
            age: self.age,
        };
        // The old line stays: it is the worst case for a driver that forgets an invalidation.
        let key = TlbKey::of(space, mapping.level, input);
        if let Entry::Vacant(place) = self.lines.entry(key) {
            place.insert(line);
            self.count_level(key.level, 1);
        }
    }

    fn count_level(&mut self, level: Level, change: isize) {
        let levels = Level::LEAVES.into_iter().zip(&mut self.lines_of_level);
        for (_, count) in levels.filter(|(of, _)| *of == level) {
            *count = count.saturating_add_signed(change);
        }
    }

    pub(crate) fn insert_table(&mut self, space: Space, input: u64, step: &WalkStep, roots: Roots) {
        let table = CachedTable { step: *step, roots };
        self.tables.entry(TlbKey::of(space, step.level, input)).or_insert(table);
    }

    /// Drop the entries of all accepted spaces, within `extent` if given. Returns the dropped
    /// lines.
    pub(crate) fn invalidate(
        &mut self,
        spaces: impl Fn(Space) -> bool,
        extent: Option<TlbExtent>,
    ) -> Vec<(TlbKey, TlbLine)> {
        let mut gone = Vec::new();
        self.lines.retain(|key, line| {
            let leaf = line.descriptor(key);
            let hit = spaces(key.space)
                && extent.is_none_or(|e| {
                    e.overlaps(&leaf) && e.level.is_none_or(|level| level == leaf.level.number)
                });
            if hit {
                gone.push((*key, *line));
            }
            !hit
        });
        for (key, _) in &gone {
            self.count_level(key.level, -1);
        }
        self.tables.retain(|key, _| {
            let hit = spaces(key.space)
                && extent.is_none_or(|e| {
                    e.tables
                        && e.overlaps(key)
                        && e.level.is_none_or(|level| key.level.number < level)
                });
            !hit
        });
        gone
    }

    /// How many lines and table descriptors are cached.
    pub(crate) fn entries(&self) -> usize {
        self.lines.len() + self.tables.len()
    }

    pub(crate) fn lines(&self) -> impl Iterator<Item = (&TlbKey, &TlbLine)> {
        self.lines.iter()
    }

    pub(crate) fn tables(&self) -> impl Iterator<Item = (&TlbKey, &CachedTable)> {
        self.tables.iter()
    }

    /// How many lines and table descriptors carry `tag`.
    pub(crate) fn count(&self, tag: CacheTag) -> usize {
        self.lines.keys().chain(self.tables.keys()).filter(|key| key.space.has(tag)).count()
    }
}
