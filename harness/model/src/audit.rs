//! Compares what is cached with what memory says.

use std::collections::{BTreeMap, BTreeSet};

use smmu_types::{Iova, Leaf, PhysAddr, StreamId};

use super::cmdq::{tlbi_address, tlbi_tag};
use super::device::Smmu;
use super::dma::Config;
use super::hazard::{Hazard, Now};
use super::memory::Ram;
use super::tlb::{Key, Line, Space, Table};
use super::walk::{Step, Translation, Walk, walk};

impl Smmu {
    /// Whether a line of a stream's space differs, at one address, from what the tables say.
    pub(super) fn stale_line(
        &self,
        ram: &Ram,
        stream: StreamId,
        t: &Translation,
        key: &Key,
        line: &Line,
        at: u64,
    ) -> Option<Hazard> {
        self.judge(stream, t, key, line, at, &walk(ram, t, at, None))
    }

    fn judge(
        &self,
        stream: StreamId,
        t: &Translation,
        key: &Key,
        line: &Line,
        at: u64,
        fresh: &Walk,
    ) -> Option<Hazard> {
        let (smmu, iova, tag) = (self.index, Iova(at), key.space.tag());
        let reached = PhysAddr(line.output | at & (key.size() - 1));
        if line.root != t.root && t.walks && is_tagged(key.space) {
            let missing = tlbi_tag(key.space);
            let (origin, table) = (line.root, t.root);
            return Some(Hazard::TagClash {
                smmu,
                stream,
                iova,
                tag,
                reached,
                origin,
                table,
                missing,
            });
        }
        let now = fresh.now(at);
        if now == (Now::Page { address: reached, permissions: line.permissions }) {
            return None;
        }
        let leaf = match self.tlb.find_table(t.space, at) {
            Some((key, table)) if t.walks && !is_current(t, &key, &table, fresh) => Leaf::All,
            _ => Leaf::Last,
        };
        let missing = tlbi_address(key.space, t.space, at, leaf);
        Some(Hazard::StaleTranslation { smmu, stream, iova, tag, reached, now, missing })
    }

    /// Whether a walk for an address would start from a descriptor that memory no longer holds.
    pub(super) fn stale_way(
        &self,
        ram: &Ram,
        stream: StreamId,
        t: &Translation,
        at: u64,
    ) -> Option<Hazard> {
        let (key, table) = self.tlb.find_table(t.space, at)?;
        self.judge_table(ram, stream, t, &key, &table, at)
    }

    fn judge_table(
        &self,
        ram: &Ram,
        stream: StreamId,
        t: &Translation,
        key: &Key,
        table: &Table,
        at: u64,
    ) -> Option<Hazard> {
        let fresh = walk(ram, t, at, None);
        if !t.walks || !t.takes(at) || is_current(t, key, table, &fresh) {
            return None;
        }
        let (smmu, iova, tag) = (self.index, Iova(at), key.space.tag());
        if table.root != t.root {
            return Some(Hazard::TagClash {
                smmu,
                stream,
                iova,
                tag,
                reached: table.table,
                origin: table.root,
                table: t.root,
                missing: tlbi_tag(key.space),
            });
        }
        let missing = tlbi_address(key.space, t.space, at, Leaf::All);
        let (table, now) = (table.table, fresh.now(at));
        Some(Hazard::StaleTable { smmu, stream, iova, tag, table, now, missing })
    }

    /// Everything that is cached, that a stream can reach, and that memory no longer says.
    pub(super) fn audit(&self, ram: &Ram) -> Vec<Hazard> {
        let mut found = Vec::new();
        if !self.translates() {
            return found;
        }
        let mut l1 = BTreeSet::new();
        let mut spaces: BTreeMap<Space, Vec<(StreamId, Translation)>> = BTreeMap::new();
        for stream in self.streams(ram) {
            // One descriptor stands for many streams.
            if let Some(index) = self.stream_table().l1_index(stream)
                && l1.insert(index)
            {
                found.extend(self.stale_l1(ram, stream));
            }
            found.extend(self.stale_entry(ram, stream));
            let cached = self.cached_configuration(ram, stream);
            let current = self.current_configuration(ram, stream);
            for config in [cached, current].into_iter().flatten() {
                if let Config::Translate(t) = config {
                    let users = spaces.entry(t.space).or_default();
                    if !users.iter().any(|(_, other)| *other == t) {
                        users.push((stream, t));
                    }
                }
            }
        }
        let mut seen = BTreeSet::new();
        for (space, users) in &spaces {
            for (stream, t) in users {
                for (key, line) in self.tlb.lines() {
                    let theirs = key.space == *space || key.space == space.global();
                    if theirs
                        && !seen.contains(key)
                        && let Some(hazard) = self.audit_line(ram, *stream, t, key, line)
                    {
                        seen.insert(*key);
                        found.push(hazard);
                    }
                }
            }
        }
        let mut seen = BTreeSet::new();
        for (space, users) in &spaces {
            for (stream, t) in users {
                for (key, table) in self.tlb.tables().filter(|(key, _)| key.space == *space) {
                    if !seen.contains(key)
                        && let Some(hazard) =
                            self.judge_table(ram, *stream, t, key, table, key.base)
                    {
                        seen.insert(*key);
                        found.push(hazard);
                    }
                }
            }
        }
        found
    }

    /// The first address of a line at which it is stale.
    fn audit_line(
        &self,
        ram: &Ram,
        stream: StreamId,
        t: &Translation,
        key: &Key,
        line: &Line,
    ) -> Option<Hazard> {
        let mut at = key.base;
        while at - key.base < key.size() {
            let fresh = walk(ram, t, at, None);
            if let Some(hazard) = self.judge(stream, t, key, line, at, &fresh) {
                return Some(hazard);
            }
            // A block may have become pages: look at each of them.
            at = (at | ((1 << fresh.shift()) - 1)) + 1;
        }
        None
    }

    /// Streams that are cached, or that the stream table has a valid entry of.
    fn streams(&self, ram: &Ram) -> BTreeSet<StreamId> {
        let mut streams: BTreeSet<_> = self.config.stes.keys().map(|s| StreamId(*s)).collect();
        let table = self.stream_table();
        let mut stream = 0u32;
        while u64::from(stream) >> table.log2 == 0 {
            let at = table.locate(StreamId(stream), |_, address| ram.read64(address));
            if let Ok(at) = at
                && ram.read64(at).is_some_and(|word| word & 1 != 0)
            {
                streams.insert(StreamId(stream));
            }
            stream += 1;
        }
        streams
    }
}

/// Whether a fresh walk passes the very descriptor that is cached.
fn is_current(t: &Translation, key: &Key, table: &Table, fresh: &Walk) -> bool {
    let cached = Step { level: key.level, table: table.table, limits: table.limits };
    table.root == t.root && fresh.steps.contains(&cached)
}

/// Lines of a tag belong to one table; global ones may come from any.
fn is_tagged(space: Space) -> bool {
    !matches!(space, Space::Stage1 { asid: None, .. })
}
