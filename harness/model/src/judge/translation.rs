//! Compares one cached translation with the tables in memory.

use smmu_types::{Iova, Leaf, PhysAddr, StreamId};

use crate::cache::tlb::{TlbKey, TlbLine};
use crate::hazard::{Hazard, Now};
use crate::judge::missing_command::{tlbi_address, tlbi_tag};
use crate::model_ram::ModelRam;
use crate::model_smmu::ModelSmmu;
use crate::walk::space::Space;
use crate::walk::table_walk::{TableWalk, walk};
use crate::walk::translation::{CachedTable, Translation, WalkStep};

impl ModelSmmu {
    /// The hazard of a line that differs from the tables at address `at`.
    pub(crate) fn stale_line(
        &self,
        ram: &ModelRam,
        stream: StreamId,
        t: &Translation,
        key: &TlbKey,
        line: &TlbLine,
        at: u64,
    ) -> Option<Hazard> {
        self.judge(stream, t, key, line, at, &walk(ram, t, at, None))
    }

    /// [`stale_line`](Self::stale_line) against a walk that the caller has done.
    pub(crate) fn judge(
        &self,
        stream: StreamId,
        t: &Translation,
        key: &TlbKey,
        line: &TlbLine,
        at: u64,
        fresh: &TableWalk,
    ) -> Option<Hazard> {
        let (smmu, iova, tag) = (self.index, Iova(at), key.space.tag());
        let reached = PhysAddr(line.output | at & (key.size() - 1));
        // Before staleness: both tables may map the same page, and a clash needs a tag flush.
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

    /// The hazard of a walk that starts from a cached table descriptor which memory no longer
    /// holds.
    pub(crate) fn stale_way(
        &self,
        ram: &ModelRam,
        stream: StreamId,
        t: &Translation,
        at: u64,
    ) -> Option<Hazard> {
        let (key, table) = self.tlb.find_table(t.space, at)?;
        self.judge_table(ram, stream, t, &key, &table, at)
    }

    pub(crate) fn judge_table(
        &self,
        ram: &ModelRam,
        stream: StreamId,
        t: &Translation,
        key: &TlbKey,
        table: &CachedTable,
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
}

/// Whether a fresh walk passes the cached table descriptor.
fn is_current(t: &Translation, key: &TlbKey, table: &CachedTable, fresh: &TableWalk) -> bool {
    let cached = WalkStep { level: key.level, table: table.table, limits: table.limits };
    table.root == t.root && fresh.steps.contains(&cached)
}

/// Whether entries of a space carry a tag, and so belong to one root table. Global entries may
/// come from any.
fn is_tagged(space: Space) -> bool {
    !matches!(space, Space::Stage1 { asid: None, .. })
}
