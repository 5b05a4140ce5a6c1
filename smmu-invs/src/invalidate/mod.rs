//! From an extent to commands, in the order that makes them safe.
//!
//! 1. Tags first, then what guests cached at stage 1, then what devices cached: each phase is
//!    complete on every SMMU before the next begins. Otherwise stage 1 is refilled from stale
//!    stage-2 translations, and a device from the stale SMMU.
//! 2. In a phase the last batch of every SMMU ends with a `CMD_SYNC`; all are issued before any is
//!    waited for, as far as [`batch::TICKETS`] reach.
//! 3. Every batch of `ATC_INV` has a `CMD_SYNC` of its own: the timeout of one is reported at the
//!    next `CMD_SYNC`, whoever issued it.
//! 4. An SMMU that fails is left alone for the rest of the walk; the others are walked to the end.
//! 5. No allocation, no lock, no wait but the sink's.

use smmu_types::range::{Extent, Plan, RangeSupport, Span, SpanAddress, plan};
use smmu_types::seam::{CommandSink, SinkError};
use smmu_types::{Asid, CacheTag, Command, Ipa, Regime, StreamId, SubstreamId, Vmid};

mod batch;
mod commands;
mod phase;

use batch::{Batch, Walk};
use commands::{ATC_ALL, CLEAR, Plans};
use phase::Phase;

use crate::entry::{Contents, Entry};
use crate::{InvArray, InvKey, InvKind, InvalidateError, SmmuFailure};

/// Commands that are queued at once, at most.
const BATCH: usize = 64;

impl InvArray {
    /// Invalidate `extent` wherever the domain is in use, and wait for it.
    ///
    /// Takes no lock and does not allocate; it may run at any time, beside writers, in any context
    /// in which the sink may. For an array that is published use
    /// [`invalidate_published`](crate::invalidate_published), which orders the change of the page
    /// table before the read of the array, and passes the [`AtsGate`](crate::AtsGate) where there are ATS entries.
    ///
    /// # Errors
    ///
    /// [`InvalidateError`] if any SMMU did not confirm it.
    pub fn invalidate<S>(&self, extent: Extent, sink: &S) -> Result<(), InvalidateError>
    where
        S: CommandSink + ?Sized,
    {
        self.invalidate_reporting(extent, sink, &mut |_| {})
    }

    /// The same, and tell `report` of every SMMU that did not confirm it, what it was asked and why: once for each, but
    /// for SMMUs beyond the first 16 that fail, which may be reported again.
    ///
    /// # Errors
    ///
    /// [`InvalidateError`] if any SMMU did not confirm it.
    pub fn invalidate_reporting<S>(
        &self,
        extent: Extent,
        sink: &S,
        report: &mut dyn FnMut(SmmuFailure),
    ) -> Result<(), InvalidateError>
    where
        S: CommandSink + ?Sized,
    {
        // Most invalidations are a few commands, for which a large batch would cost more than the commands.
        if let [entry] = self.entries()
            && let Some(command) = only_command(entry, &extent)
        {
            return run_one(entry, command, sink, report);
        }
        match self.commands(&extent) {
            0..=4 => self.in_batches::<4, S>(&extent, sink, report),
            5..=16 => self.in_batches::<16, S>(&extent, sink, report),
            _ => self.in_batches::<BATCH, S>(&extent, sink, report),
        }
    }

    /// About how many commands a walk sends.
    fn commands(&self, extent: &Extent) -> usize {
        let entries = self.entries().len();
        if extent.size == 0 {
            return entries;
        }
        let pages = (extent.size >> extent.granule.shift()).saturating_add(1);
        let each = match self.contents().has(Contents::SINGLE) {
            true => pages.min(BATCH as u64) as usize,
            // A command has five bits for the size of its range.
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
        // Any command would do; this one is cheap to write.
        let mut commands = [Command::CfgiAll; N];
        let mut walk = Walk::new(self.entries(), sink, &mut commands, report);
        let mut plans = Plans::of(extent);
        for phase in [Phase::Tags, Phase::NestedStage1, Phase::DeviceCaches] {
            if !self.contents().has(phase.contents()) {
                continue;
            }
            let mut batch = Batch::of(phase);
            let mut at = 0;
            while let Some(entry) = self.entries().get(at) {
                let head = entry.head();
                at = match Phase::of(head.kind()) == phase && walk.enter(&mut batch, head.smmu()) {
                    true => self.send(at, entry, &mut plans, &mut batch, &mut walk),
                    false => at + 1,
                };
            }
            walk.issue(&mut batch);
            walk.wait_all();
        }
        walk.result()
    }

    /// Add the commands of an entry, and of those behind it that differ from it in nothing but their number. Returns
    /// where the others begin.
    #[inline]
    fn send<S>(
        &self,
        at: usize,
        entry: &Entry,
        plans: &mut Plans<'_>,
        batch: &mut Batch,
        walk: &mut Walk<'_, S>,
    ) -> usize
    where
        S: CommandSink + ?Sized,
    {
        let head = entry.head();
        match head.kind() {
            InvKind::S1Asid => {
                let plan = match entry.regime() {
                    Regime::El1 => plans.el1(entry.range()),
                    Regime::El2 => plans.el2(entry.range()),
                };
                walk.tags(at, entry, plan, batch, |head| Asid(head.id() as u16))
            }
            InvKind::S2Vmid | InvKind::S2VmidVsmmu => {
                let plan = plans.stage2(entry.range());
                walk.tags(at, entry, plan, batch, |head| Vmid(head.id() as u16))
            }
            InvKind::S2VmidS1Clear => {
                if !head.is_trash() && !self.vmid_was_flushed(&entry.key(), plans.extent) {
                    walk.add(at, &CLEAR, Vmid(head.id() as u16), batch);
                }
                at + 1
            }
            InvKind::Ats => {
                let all = |_: &Entry| true;
                walk.alike(at, head, all, plans.atc(), batch, |head, entry| {
                    (StreamId(head.id()), SubstreamId::new(entry.aux()))
                })
            }
            InvKind::AtsFull => {
                let all = |_: &Entry| true;
                walk.alike(at, head, all, &ATC_ALL, batch, |head, _| (StreamId(head.id()), None))
            }
        }
    }

    /// Whether this walk has sent `TLBI_S12_VMALL` for the VMID, which takes stage 1 with it.
    ///
    /// An entry that is not trash now was not trash in the phase before.
    fn vmid_was_flushed(&self, key: &InvKey, extent: &Extent) -> bool {
        [InvKind::S2Vmid, InvKind::S2VmidVsmmu].into_iter().any(|kind| {
            self.get(&InvKey { kind, ..*key }).is_some_and(|entry| {
                !entry.is_trash() && matches!(plan::<Ipa>(entry.range(), *extent), Plan::Everything)
            })
        })
    }
}

/// The command of the only entry of an array, if it is one and no more.
#[inline]
fn only_command(entry: &Entry, extent: &Extent) -> Option<Command> {
    let head = entry.head();
    if head.is_trash() {
        return None;
    }
    match head.kind() {
        InvKind::S1Asid => {
            let asid = Asid(head.id() as u16);
            Some(match (one_span(entry.range(), extent)?, entry.regime()) {
                (Only::Span(span), Regime::El1) => Command::TlbiNhVa { vmid: Vmid(0), asid, span },
                (Only::Span(span), Regime::El2) => Command::TlbiEl2Va { asid, span },
                (Only::Everything, regime) => CacheTag::Asid(regime, asid).flush_command(),
            })
        }
        InvKind::S2Vmid | InvKind::S2VmidVsmmu => {
            let vmid = Vmid(head.id() as u16);
            Some(match one_span(entry.range(), extent)? {
                Only::Span(span) => Command::TlbiS2Ipa { vmid, span },
                Only::Everything => CacheTag::Vmid(vmid).flush_command(),
            })
        }
        InvKind::S2VmidS1Clear | InvKind::Ats | InvKind::AtsFull => None,
    }
}

enum Only<A> {
    Everything,
    Span(Span<A>),
}

#[inline]
fn one_span<A: SpanAddress>(support: RangeSupport, extent: &Extent) -> Option<Only<A>> {
    let Plan::Spans(mut spans) = plan(support, *extent) else { return Some(Only::Everything) };
    let span = spans.next()?;
    spans.next().is_none().then_some(Only::Span(span))
}

#[inline]
fn run_one<S>(
    entry: &Entry,
    command: Command,
    sink: &S,
    report: &mut dyn FnMut(SmmuFailure),
) -> Result<(), InvalidateError>
where
    S: CommandSink + ?Sized,
{
    let want = entry.head().smmu();
    let error = match sink.issue(want, &[command]).and_then(|ticket| sink.wait(ticket)) {
        Ok(proof) if proof.smmu() == want => return Ok(()),
        Ok(proof) => SinkError::ForeignProof { want, got: proof.smmu() },
        Err(error) => error,
    };
    report(SmmuFailure { from: entry.key(), error });
    Err(InvalidateError { first: error, failed: 1 })
}
