//! The IOTLB and the walk cache: they keep everything until a command takes it away.

use std::collections::BTreeMap;

use smmu_types::{Asid, CacheTag, PhysAddr, Regime, StreamId, Vmid};

use super::hazard::Permissions;
use super::walk::{Limits, Mapping, Step, level_shift};

/// What a cached translation belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Space {
    Stage1 {
        regime: Regime,
        vmid: Vmid,
        /// `None` for entries that every ASID matches.
        asid: Option<Asid>,
    },
    Stage2 {
        vmid: Vmid,
    },
}

impl Space {
    /// The space of entries that belong to every ASID.
    pub(super) fn global(self) -> Self {
        match self {
            Space::Stage1 { regime, vmid, .. } => Space::Stage1 { regime, vmid, asid: None },
            stage2 @ Space::Stage2 { .. } => stage2,
        }
    }

    pub(super) fn tag(self) -> Option<CacheTag> {
        match self {
            Space::Stage1 { regime, asid, .. } => asid.map(|asid| CacheTag::Asid(regime, asid)),
            Space::Stage2 { vmid } => Some(CacheTag::Vmid(vmid)),
        }
    }

    fn has(self, tag: CacheTag) -> bool {
        match (self, tag) {
            (Space::Stage1 { vmid, .. } | Space::Stage2 { vmid }, CacheTag::Vmid(of)) => vmid == of,
            // ASIDs under another VMID are a guest's own numbers.
            (space @ Space::Stage1 { vmid: Vmid(0), .. }, tag) => space.tag() == Some(tag),
            _ => false,
        }
    }
}

/// Where in a space an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) space: Space,
    /// Level of the descriptor.
    pub(super) level: u8,
    /// First input address.
    pub(super) base: u64,
}

impl Key {
    fn of(space: Space, level: u8, input: u64) -> Self {
        Key { space, level, base: input & !(self::size(level) - 1) }
    }

    pub(super) fn size(&self) -> u64 {
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
pub(super) struct Line {
    pub(super) output: u64,
    pub(super) permissions: Permissions,
    /// The table that it was found in.
    pub(super) root: PhysAddr,
    /// Whose transaction made it.
    pub(super) stream: StreamId,
    /// Older lines win where two match.
    age: u64,
}

/// A cached table descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) table: PhysAddr,
    pub(super) limits: Limits,
    pub(super) root: PhysAddr,
}

/// Input addresses that a command covers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    /// First address.
    pub(super) first: u64,
    /// Last address.
    pub(super) last: u64,
    /// Table descriptors go as well.
    pub(super) tables: bool,
    /// Only leaves of this level are meant.
    pub(super) level: Option<u8>,
}

impl Extent {
    fn overlaps(&self, key: &Key) -> bool {
        key.base <= self.last && self.first <= key.last()
    }
}

#[derive(Debug, Default)]
pub(super) struct Tlb {
    lines: BTreeMap<Key, Line>,
    tables: BTreeMap<Key, Table>,
    age: u64,
}

impl Tlb {
    /// The line that translates `input`: the oldest one, where the tables changed their shape.
    pub(super) fn find(&self, space: Space, input: u64) -> Option<(Key, Line)> {
        let mut found: Option<(Key, Line)> = None;
        for space in [space, space.global()] {
            for level in 1..=3 {
                let key = Key::of(space, level, input);
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
    pub(super) fn find_table(&self, space: Space, input: u64) -> Option<(Key, Table)> {
        (0..3).rev().find_map(|level| {
            let key = Key::of(space, level, input);
            self.tables.get(&key).map(|table| (key, *table))
        })
    }

    /// Keep what a walk found. A line that is there already stays as it is.
    pub(super) fn insert(
        &mut self,
        space: Space,
        input: u64,
        mapping: &Mapping,
        root: PhysAddr,
        stream: StreamId,
    ) {
        let space = if mapping.global { space.global() } else { space };
        self.age += 1;
        let line = Line {
            output: mapping.output,
            permissions: mapping.permissions,
            root,
            stream,
            age: self.age,
        };
        self.lines.entry(Key::of(space, mapping.level, input)).or_insert(line);
    }

    pub(super) fn insert_table(&mut self, space: Space, input: u64, step: &Step, root: PhysAddr) {
        let table = Table { table: step.table, limits: step.limits, root };
        self.tables.entry(Key::of(space, step.level, input)).or_insert(table);
    }

    /// Drop what `spaces` accepts, within `extent` if there is one; returns the lines that went.
    pub(super) fn invalidate(
        &mut self,
        spaces: impl Fn(Space) -> bool,
        extent: Option<Extent>,
    ) -> Vec<(Key, Line)> {
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

    pub(super) fn lines(&self) -> impl Iterator<Item = (&Key, &Line)> {
        self.lines.iter()
    }

    pub(super) fn tables(&self) -> impl Iterator<Item = (&Key, &Table)> {
        self.tables.iter()
    }

    /// How many lines and table descriptors carry `tag`.
    pub(super) fn count(&self, tag: CacheTag) -> usize {
        self.lines.keys().chain(self.tables.keys()).filter(|key| key.space.has(tag)).count()
    }
}
