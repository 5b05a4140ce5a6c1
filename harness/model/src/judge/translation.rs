//! Compares one cached translation with the tables in memory.

use smmu_types::{CacheTag, Command, Iova, Leaf, PhysAddr, StreamId};

use crate::cache::tlb::{TlbKey, TlbLine};
use crate::hazard::{Hazard, Now};
use crate::judge::missing_command::{tlbi_address, tlbi_tag};
use crate::model_ram::ModelRam;
use crate::model_smmu::ModelSmmu;
use crate::walk::in_memory::walk;
use crate::walk::space::Space;
use crate::walk::table_walk::TableWalk;
use crate::walk::translation::{CachedTable, Roots, Stages, Translation, WalkStep};

/// A line that a stream uses at an input address.
#[derive(Clone, Copy)]
pub(super) struct LineUse<'a> {
    pub(super) stream: StreamId,
    pub(super) stages: &'a Stages,
    pub(super) key: &'a TlbKey,
    pub(super) line: &'a TlbLine,
    pub(super) at: u64,
}

/// Two sets of root tables under one tag.
struct Clash {
    tag: Option<CacheTag>,
    origin: PhysAddr,
    table: PhysAddr,
    missing: Command,
}

impl ModelSmmu {
    /// The hazard of a line that differs from the tables at address `at`.
    pub(crate) fn stale_line(
        &self,
        ram: &ModelRam,
        stream: StreamId,
        stages: &Stages,
        key: &TlbKey,
        line: &TlbLine,
        at: u64,
    ) -> Option<Hazard> {
        let used = LineUse { stream, stages, key, line, at };
        self.judge(ram, used, &walk(ram, stages, at))
    }

    /// [`stale_line`](Self::stale_line) against a walk that the caller has done.
    pub(super) fn judge(
        &self,
        ram: &ModelRam,
        used: LineUse<'_>,
        fresh: &TableWalk,
    ) -> Option<Hazard> {
        let LineUse { stream, stages, key, line, at } = used;
        let (smmu, iova, tag) = (self.index, Iova(at), key.space.tag());
        let reached = line.mapping(key).at(at);
        // Before staleness: both tables may map the same page, and a clash needs a tag flush.
        if stages.first.walks
            && let Some(clash) = clash(key.space, &line.roots, &stages.roots())
        {
            let Clash { tag, origin, table, missing } = clash;
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
        let missing = self.below(ram, used, fresh).unwrap_or_else(|| {
            let leaf =
                match self.tlb.find_table(stages.first.space, stages.first.start_level.granule, at)
                {
                    Some((_, table))
                        if stages.first.walks && !is_current(stages, &table, fresh) =>
                    {
                        Leaf::All
                    }
                    _ => Leaf::Last,
                };
            tlbi_address(key.space, stages.first.space, at, leaf)
        });
        Some(Hazard::StaleTranslation { smmu, stream, iova, tag, reached, now, missing })
    }

    /// The command of stage 2 that a stale combined line lacks; `None` if stage 1 has changed.
    fn below(&self, ram: &ModelRam, used: LineUse<'_>, fresh: &TableWalk) -> Option<Command> {
        let LineUse { stream, stages, key, line, at } = used;
        let (second, old) = (stages.second.as_ref()?, line.stage1?);
        let ipa = old.ipa | at & (key.size() - 1);
        let faulted = match &fresh.result {
            Ok(mapping) => {
                let new = mapping.stage1?;
                let within = at & ((1 << fresh.shift()) - 1);
                if new.ipa | within != ipa || new.permissions != old.permissions {
                    return None;
                }
                ipa
            }
            Err(fault) => fault.stage2?.ipa.0,
        };
        Some(self.stage2_owes(ram, stream, second, faulted, key.space))
    }

    /// The command that a change of stage 2 at an IPA lacks for combined entries of `space`: first
    /// the one that drops what stage 2 has cached, because the SMMU fills combined entries from it.
    fn stage2_owes(
        &self,
        ram: &ModelRam,
        stream: StreamId,
        second: &Translation,
        ipa: u64,
        space: Space,
    ) -> Command {
        let stage2 = Stages::one(*second);
        let stale = match self.tlb.find(second.space, ipa) {
            Some((key, line)) => self.stale_line(ram, stream, &stage2, &key, &line, ipa),
            None => self.stale_way(ram, stream, &stage2, ipa),
        };
        let stale = stale.and_then(|hazard| hazard.missing().copied());
        // 4.4.3: `TLBI_S2_IPA` need not drop combined entries.
        stale.unwrap_or_else(|| tlbi_tag(space.global()))
    }

    /// The hazard of a walk that starts from a cached table descriptor which memory no longer
    /// holds.
    pub(crate) fn stale_way(
        &self,
        ram: &ModelRam,
        stream: StreamId,
        stages: &Stages,
        at: u64,
    ) -> Option<Hazard> {
        let (key, table) =
            self.tlb.find_table(stages.first.space, stages.first.start_level.granule, at)?;
        self.judge_table(ram, stream, stages, &key, &table, at)
    }

    pub(crate) fn judge_table(
        &self,
        ram: &ModelRam,
        stream: StreamId,
        stages: &Stages,
        key: &TlbKey,
        table: &CachedTable,
        at: u64,
    ) -> Option<Hazard> {
        let fresh = walk(ram, stages, at);
        let first = &stages.first;
        if !first.walks
            || !first.takes(at)
            || key.level.granule != first.start_level.granule
            || is_current(stages, table, &fresh)
        {
            return None;
        }
        let (smmu, iova, tag) = (self.index, Iova(at), key.space.tag());
        let reached = table.step.table;
        if table.roots != stages.roots() {
            // Table descriptors are tagged like any leaf that is not global.
            let clash = clash_of(key.space, &table.roots, &stages.roots());
            let Clash { tag, origin, table, missing } = clash;
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
        let moved = stages.second.as_ref().and_then(|second| {
            // The descriptor is the old one: stage 2 has changed below it.
            let named = fresh.steps.iter().any(|step| same_descriptor(table, step));
            let ipa = match &fresh.result {
                _ if named => Some(table.step.named),
                Err(fault) => fault.stage2.map(|access| access.ipa.0),
                Ok(_) => None,
            };
            ipa.map(|ipa| self.stage2_owes(ram, stream, second, ipa, key.space))
        });
        let missing = moved.unwrap_or_else(|| tlbi_address(key.space, first.space, at, Leaf::All));
        let (table, now) = (reached, fresh.now(at));
        Some(Hazard::StaleTable { smmu, stream, iova, tag, table, now, missing })
    }
}

/// Whether a fresh walk passes the cached table descriptor.
fn is_current(stages: &Stages, table: &CachedTable, fresh: &TableWalk) -> bool {
    table.roots == stages.roots() && fresh.steps.contains(&table.step)
}

/// Whether a fresh walk meets the cached table descriptor, wherever its table lies now.
fn same_descriptor(table: &CachedTable, step: &WalkStep) -> bool {
    let cached = &table.step;
    (cached.level, cached.named, cached.limits) == (step.level, step.named, step.limits)
}

/// The clash of an entry of other root tables. Global entries of stage 1 may come from any root of
/// stage 1, but from one root of stage 2 only: their VMID is their tag.
fn clash(space: Space, cached: &Roots, current: &Roots) -> Option<Clash> {
    let tagged = !matches!(space, Space::Stage1 { asid: None, .. });
    let differs = cached.second != current.second || tagged && cached.first != current.first;
    differs.then(|| clash_of(space, cached, current))
}

fn clash_of(space: Space, cached: &Roots, current: &Roots) -> Clash {
    match space {
        Space::Stage1 { vmid, .. } if cached.second != current.second => Clash {
            tag: Some(CacheTag::Vmid(vmid)),
            origin: cached.second.unwrap_or(cached.first),
            table: current.second.unwrap_or(current.first),
            missing: tlbi_tag(Space::Stage2 { vmid }),
        },
        _ => Clash {
            tag: space.tag(),
            origin: cached.first,
            table: current.first,
            missing: tlbi_tag(space),
        },
    }
}
