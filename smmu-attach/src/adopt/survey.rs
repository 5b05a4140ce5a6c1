//! The list of streams that a running SMMU translates or lets pass.

use alloc::vec::Vec;
use core::ops::Range;

use smmu_types::{Asid, CacheTag, Regime, Ste, StreamId, TableConfig, Vmid};

use super::doubt::Doubt;
use super::memory::PhysicalMemory;
use super::read::{LiveStream, ReadBudget, RunningTables, StreamKind, StreamTableShape};

/// What was read of a running SMMU, without a doubt: its stream table, and each stream whose
/// transactions reach memory.
#[derive(Clone, Debug)]
pub struct Survey {
    tables: RunningTables,
    shape: StreamTableShape,
    streams: Vec<Surveyed>,
    asids: Vec<Asid>,
}

#[derive(Clone, Debug)]
struct Surveyed {
    stream: StreamId,
    ste: Ste,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Bypass,
    Stage1(TableConfig, Regime, Range<usize>),
    Stage2(Vmid),
    Nested(TableConfig, Vmid),
}

impl Survey {
    /// Read the tables, and list the streams that do not abort.
    ///
    /// # Errors
    ///
    /// As of [`RunningTables::visit`].
    pub fn new<M: PhysicalMemory + ?Sized>(
        tables: RunningTables,
        memory: &M,
        budget: ReadBudget,
    ) -> Result<Self, Doubt> {
        let (mut streams, mut asids): (Vec<Surveyed>, Vec<Asid>) = (Vec::new(), Vec::new());
        let shape = tables.visit(memory, budget, &mut |live| {
            let kind = match live.kind {
                StreamKind::Abort => return Ok(()),
                StreamKind::Bypass => Kind::Bypass,
                StreamKind::Stage1 { table, regime, asids: found } => {
                    let range = match streams.last() {
                        // Streams of one device share the table and the list.
                        Some(Surveyed { ste, kind: Kind::Stage1(_, _, range), .. })
                            if *ste == live.ste =>
                        {
                            range.clone()
                        }
                        _ => {
                            let from = asids.len();
                            asids.try_reserve(found.len()).map_err(|_| Doubt::OutOfMemory)?;
                            asids.extend_from_slice(found);
                            from..asids.len()
                        }
                    };
                    Kind::Stage1(table, regime, range)
                }
                StreamKind::Stage2 { vmid } => Kind::Stage2(vmid),
                StreamKind::Nested { table, vmid } => Kind::Nested(table, vmid),
            };
            streams.try_reserve(1).map_err(|_| Doubt::OutOfMemory)?;
            streams.push(Surveyed { stream: live.stream, ste: live.ste, kind });
            Ok(())
        })?;
        Ok(Survey { tables, shape, streams, asids })
    }

    /// The registers that were read.
    #[must_use]
    pub const fn tables(&self) -> &RunningTables {
        &self.tables
    }

    /// The stream table.
    #[must_use]
    pub const fn shape(&self) -> &StreamTableShape {
        &self.shape
    }

    /// The streams whose transactions reach memory, ascending.
    pub fn streams(&self) -> impl ExactSizeIterator<Item = LiveStream<'_>> {
        self.streams.iter().map(|found| self.live(found))
    }

    /// One of the streams.
    #[must_use]
    pub fn stream(&self, stream: StreamId) -> Option<LiveStream<'_>> {
        let at = self.streams.binary_search_by_key(&stream, |found| found.stream).ok()?;
        self.streams.get(at).map(|found| self.live(found))
    }

    fn live(&self, found: &Surveyed) -> LiveStream<'_> {
        let kind = match &found.kind {
            Kind::Bypass => StreamKind::Bypass,
            Kind::Stage1(table, regime, range) => StreamKind::Stage1 {
                table: *table,
                regime: *regime,
                asids: self.asids.get(range.clone()).unwrap_or(&[]),
            },
            Kind::Stage2(vmid) => StreamKind::Stage2 { vmid: *vmid },
            Kind::Nested(table, vmid) => StreamKind::Nested { table: *table, vmid: *vmid },
        };
        LiveStream { stream: found.stream, ste: found.ste, kind }
    }
}

impl LiveStream<'_> {
    /// The tags of the translations that the SMMU caches for the stream.
    ///
    /// EL2 without E2H has no ASIDs, and counts as EL2 ASID 0.
    pub fn tags(&self) -> impl Iterator<Item = CacheTag> {
        let (asids, other) = match self.kind {
            StreamKind::Abort | StreamKind::Bypass => (&[][..], None),
            StreamKind::Stage1 { regime, asids, .. } => {
                let untagged = regime == Regime::El2 && asids.is_empty();
                (asids, untagged.then_some(CacheTag::Asid(Regime::El2, Asid(0))))
            }
            StreamKind::Stage2 { vmid } | StreamKind::Nested { vmid, .. } => {
                (&[][..], Some(CacheTag::Vmid(vmid)))
            }
        };
        let regime = match self.kind {
            StreamKind::Stage1 { regime, .. } => regime,
            _ => Regime::El1,
        };
        asids.iter().map(move |asid| CacheTag::Asid(regime, *asid)).chain(other)
    }
}
