//! The walk: from an extent to commands, in a safe order.
//!
//! 1. Three phases: tags first, then stage-1 translations of guests, then devices' own caches. A
//!    phase is complete on every SMMU before the next one begins. Otherwise the SMMU refills stage
//!    1 from stale stage-2 translations, and a device refills its cache from a stale SMMU.
//! 2. In a phase the last batch of each SMMU ends with a `CMD_SYNC`. The walk issues all batches
//!    before it waits for one, up to [`batch::TICKETS`].
//! 3. Each batch of `ATC_INV`s has its own `CMD_SYNC`: the SMMU reports the timeout of an `ATC_INV`
//!    at the next `CMD_SYNC`, whichever CPU issued it.
//! 4. After a failure the walk sends no more commands to that SMMU. It completes the other SMMUs.
//! 5. The walk allocates nothing, takes no lock, and waits only in the sink.

use smmu_types::range::{Extent, Plan, plan};
use smmu_types::seam::{CommandSink, EncodedBatch, SinkError};
use smmu_types::{Ipa, RawCommand, SmmuId};

mod batch;
mod commands;
mod phase;

use batch::{Batch, Walk};
use commands::{EntryPlan, EntryPlans, Template, with_only_command};
use phase::{Phase, Turn};

use crate::inv_entry::{Contents, Head, InvEntry};
use crate::{InvArray, InvKey, InvKind, InvalidateError, SmmuFailure};

/// The most commands in a batch.
const BATCH: usize = EncodedBatch::MAX;

impl InvArray {
    /// Invalidates `extent` for all devices of the domain, and waits until it is done.
    ///
    /// It takes no lock and does not allocate. It may run at any time, beside writers, in any
    /// context that may use the sink.
    ///
    /// For a published array use [`invalidate_published`](crate::invalidate_published). It orders
    /// the change of the page table before the read of the array, and passes the
    /// [`AtsGate`](crate::AtsGate) if the array has ATS entries.
    ///
    /// # Errors
    ///
    /// [`InvalidateError`] if at least one SMMU did not confirm it.
    pub fn invalidate<S>(&self, extent: Extent, sink: &S) -> Result<(), InvalidateError>
    where
        S: CommandSink + ?Sized,
    {
        self.invalidate_reporting(extent, sink, &mut |_| {})
    }

    /// Like [`invalidate`](Self::invalidate); `report` gets each SMMU that did not confirm it, with
    /// the first entry of the failed batch and the error.
    ///
    /// `report` gets each SMMU once. Beyond the first 16 failed SMMUs, it may get one again.
    ///
    /// # Errors
    ///
    /// [`InvalidateError`] if at least one SMMU did not confirm it.
    pub fn invalidate_reporting<S>(
        &self,
        extent: Extent,
        sink: &S,
        report: &mut dyn FnMut(SmmuFailure),
    ) -> Result<(), InvalidateError>
    where
        S: CommandSink + ?Sized,
    {
        // Most invalidations are a few commands: a large batch would cost more than the commands.
        if let [entry] = self.entries()
            && let head = entry.head()
            && !head.is_trash()
            && let Some(ran) =
                with_only_command(entry, head, &extent, |command| run_one(head, command, sink))
        {
            return ran.map_err(|error| {
                report(SmmuFailure { from: entry.key(), error });
                InvalidateError { first: error, failed: 1 }
            });
        }
        match self.commands(&extent) {
            0..=4 => self.in_batches::<4, S>(&extent, sink, report),
            5..=16 => self.in_batches::<16, S>(&extent, sink, report),
            _ => self.in_batches::<BATCH, S>(&extent, sink, report),
        }
    }

    /// An estimate of the commands of a walk.
    fn commands(&self, extent: &Extent) -> usize {
        let entries = self.entries().len();
        if extent.size == 0 {
            return entries;
        }
        let pages = (extent.size >> extent.granule.shift()).saturating_add(1);
        let each = match self.contents().has(Contents::SINGLE) {
            true => pages.min(BATCH as u64) as usize,
            // A range command has five bits for its size.
            false => (u64::BITS - pages.leading_zeros()).div_ceil(5) as usize,
        };
        entries.saturating_mul(each)
    }

    #[inline(never)]
    fn in_batches<const N: usize, S>(
        &self,
        extent: &Extent,
        sink: &S,
        report: &mut dyn FnMut(SmmuFailure),
    ) -> Result<(), InvalidateError>
    where
        S: CommandSink + ?Sized,
    {
        self.walk(extent, sink, &mut [RawCommand([0; 2]); N], report)
    }

    /// The walk, with room for a batch of commands. One function for all sizes of batches.
    #[inline(never)]
    fn walk<S>(
        &self,
        extent: &Extent,
        sink: &S,
        commands: &mut [RawCommand],
        report: &mut dyn FnMut(SmmuFailure),
    ) -> Result<(), InvalidateError>
    where
        S: CommandSink + ?Sized,
    {
        let mut walk = Walk::new(self.entries(), sink, commands, report);
        let mut plans = EntryPlans::new(extent);
        let last = self.entries().last().map_or(SmmuId(0), |entry| entry.head().smmu());
        // Where the entries of later phases begin.
        let mut later_from = None;
        for phase in [Phase::Tags, Phase::NestedStage1, Phase::DeviceCaches] {
            if !self.contents().has(phase.contents()) {
                continue;
            }
            let mut batch = Batch::of(phase);
            let mut at = later_from.take().unwrap_or(0);
            while let Some(entry) = self.entries().get(at) {
                let head = entry.head();
                match phase.turn(head) {
                    Turn::Now if !head.is_trash() && walk.enter(&mut batch, head.smmu()) => {
                        at = self.send(at, entry, &mut plans, &mut batch, &mut walk);
                        continue;
                    }
                    Turn::Now | Turn::Earlier => {}
                    Turn::Later => {
                        later_from.get_or_insert(at);
                        // Kinds ascend: nothing of this phase follows behind the last SMMU's.
                        if head.smmu() == last {
                            break;
                        }
                    }
                }
                at += 1;
            }
            walk.issue(&mut batch);
            walk.wait_all();
        }
        walk.result()
    }

    /// Adds the commands of an entry, and of the entries behind it with the same plan. Returns the
    /// index of the next entry.
    #[inline(always)]
    fn send<S>(
        &self,
        at: usize,
        entry: &InvEntry,
        plans: &mut EntryPlans<'_>,
        batch: &mut Batch,
        walk: &mut Walk<'_, S>,
    ) -> usize
    where
        S: CommandSink + ?Sized,
    {
        let head = entry.head();
        if head.kind_number() == InvKind::S2VmidS1Clear as u8 {
            if !head.is_trash() && !self.vmid_was_flushed(&entry.key(), plans.extent) {
                walk.add(at, Template::NESTED_STAGE1.command(head, entry), batch);
            }
            return at + 1;
        }
        match plans.of(head, entry) {
            EntryPlan::One(template) => walk.add_run(at, entry, head, *template, batch),
            EntryPlan::Stage1(regime, spans) => {
                let templates = spans.clone().map(|span| Template::stage1(*regime, span));
                walk.add_all(at, entry, templates, batch)
            }
            EntryPlan::Stage2(spans) => {
                walk.add_all(at, entry, spans.clone().map(Template::stage2), batch)
            }
        }
    }

    /// Whether this walk has sent `TLBI_S12_VMALL` for the VMID, which includes stage 1.
    ///
    /// An entry that is not trash now was not trash in the earlier phase.
    fn vmid_was_flushed(&self, key: &InvKey, extent: &Extent) -> bool {
        [InvKind::S2Vmid, InvKind::S2VmidVsmmu].into_iter().any(|kind| {
            self.get(&InvKey { kind, ..*key }).is_some_and(|entry| {
                let range = entry.options(kind).range();
                !entry.is_trash() && matches!(plan::<Ipa>(range, *extent), Plan::Everything)
            })
        })
    }
}

#[inline]
fn run_one<S>(head: Head, command: &RawCommand, sink: &S) -> Result<(), SinkError>
where
    S: CommandSink + ?Sized,
{
    let want = head.smmu();
    let ticket = sink.issue_encoded(want, EncodedBatch::one(command))?;
    match sink.wait(ticket)? {
        proof if proof.smmu() == want => Ok(()),
        proof => Err(SinkError::ForeignProof { want, got: proof.smmu() }),
    }
}
