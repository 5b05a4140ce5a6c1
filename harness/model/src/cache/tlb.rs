//! The IOTLB and the walk cache: an entry stays until a command drops it.

use std::collections::BTreeMap;

use smmu_types::{CacheTag, PhysAddr, StreamId};

use crate::hazard::Permissions;
use crate::walk::space::Space;
use crate::walk::translation::{CachedTable, LeafMapping, WalkStep, level_shift};

/// Where in a space an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TlbKey {
    pub(crate) space: Space,
    /// Level of the descriptor.
    pub(crate) level: u8,
    /// First input address.
    pub(crate) base: u64,
}

impl TlbKey {
    fn of(space: Space, level: u8, input: u64) -> Self {
        TlbKey { space, level, base: input & !(self::size(level) - 1) }
    }

    pub(crate) fn size(&self) -> u64 {
        size(self.level)
    }

    /// The last input address.
    fn last(&self) -> u64 {
        self.base + (self.size() - 1)
    }
}

fn size(level: u8) -> u64 {
    1 << level_shift(level)
}

/// A cached leaf descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TlbLine {
    pub(crate) output: u64,
    pub(crate) permissions: Permissions,
    /// The table that it was found in.
    pub(crate) root: PhysAddr,
    /// Whose transaction made it.
    pub(crate) stream: StreamId,
    /// Older lines win where two match.
    age: u64,
}

/// Input addresses that a command covers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TlbExtent {
    /// First address.
    pub(crate) first: u64,
    /// Last address.
    pub(crate) last: u64,
    /// Table descriptors go as well.
    pub(crate) tables: bool,
    /// Only leaves of this level are meant.
    pub(crate) level: Option<u8>,
}

impl TlbExtent {
    fn overlaps(&self, key: &TlbKey) -> bool {
        key.base <= self.last && self.first <= key.last()
    }
}

#[derive(Debug, Default)]
pub(crate) struct Tlb {
    lines: BTreeMap<TlbKey, TlbLine>,
    tables: BTreeMap<TlbKey, CachedTable>,
    age: u64,
}

impl Tlb {
    /// The line that translates `input`: the oldest one, where the tables changed their shape.
    pub(crate) fn find(&self, space: Space, input: u64) -> Option<(TlbKey, TlbLine)> {
        let mut found: Option<(TlbKey, TlbLine)> = None;
        for space in [space, space.global()] {
            for level in 1..=3 {
                let key = TlbKey::of(space, level, input);
                if let Some(line) = self.lines.get(&key)
                    && found.is_none_or(|(_, best)| line.age < best.age)
                {
                    found = Some((key, *line));
                }
            }
        }
        found
    }

    /// The cached table descriptor that gets closest to `input`.
    pub(crate) fn find_table(&self, space: Space, input: u64) -> Option<(TlbKey, CachedTable)> {
        (0..3).rev().find_map(|level| {
            let key = TlbKey::of(space, level, input);
            self.tables.get(&key).map(|table| (key, *table))
        })
    }

    /// Keep what a walk found. A line that is there already stays as it is.
    pub(crate) fn insert(
        &mut self,
        space: Space,
        input: u64,
        mapping: &LeafMapping,
        root: PhysAddr,
        stream: StreamId,
    ) {
        let space = if mapping.global { space.global() } else { space };
        self.age += 1;
        let line = TlbLine {
            output: mapping.output,
            permissions: mapping.permissions,
            root,
            stream,
            age: self.age,
        };
        self.lines.entry(TlbKey::of(space, mapping.level, input)).or_insert(line);
    }

    pub(crate) fn insert_table(
        &mut self,
        space: Space,
        input: u64,
        step: &WalkStep,
        root: PhysAddr,
    ) {
        let table = CachedTable { table: step.table, limits: step.limits, root };
        self.tables.entry(TlbKey::of(space, step.level, input)).or_insert(table);
    }

    /// Drop what `spaces` accepts, within `extent` if there is one; returns the lines that went.
    pub(crate) fn invalidate(
        &mut self,
        spaces: impl Fn(Space) -> bool,
        extent: Option<TlbExtent>,
    ) -> Vec<(TlbKey, TlbLine)> {
        let mut gone = Vec::new();
        self.lines.retain(|key, line| {
            let hit = spaces(key.space)
                && extent.is_none_or(|e| {
                    e.overlaps(key) && e.level.is_none_or(|level| level == key.level)
                });
            if hit {
                gone.push((*key, *line));
            }
            !hit
        });
        self.tables.retain(|key, _| {
            let hit = spaces(key.space)
                && extent.is_none_or(|e| {
                    e.tables && e.overlaps(key) && e.level.is_none_or(|level| key.level < level)
                });
            !hit
        });
        gone
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
