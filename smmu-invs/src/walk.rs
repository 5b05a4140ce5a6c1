//! From an extent to commands, in the order that makes them safe.
//!
//! 1. Tags first, then what guests cached at stage 1, then what devices cached: each phase is
//!    complete on every SMMU before the next begins. Otherwise stage 1 is refilled from stale
//!    stage-2 translations, and a device from the stale SMMU.
//! 2. In a phase the last batch of every SMMU ends with a `CMD_SYNC`; all are issued before any is
//!    waited for, as far as [`TICKETS`] reach.
//! 3. Every batch of `ATC_INV` has a `CMD_SYNC` of its own: the timeout of one is reported at the
//!    next `CMD_SYNC`, whoever issued it.
//! 4. An SMMU that fails is left alone for the rest of the walk; the others are walked to the end.
//! 5. No allocation, no lock, no wait but the sink's.

use smmu_types::range::{Extent, Plan, RangeSupport, Span, SpanAddress, Spans, plan};
use smmu_types::seam::{CommandSink, SinkError};
use smmu_types::{
    Asid, AtcScope, AtcSpan, CacheTag, Command, Iova, Ipa, Regime, SmmuId, StreamId, SubstreamId,
    Vmid,
};

use crate::entry::{Contents, Entry, EntryState};
use crate::{InvArray, InvKey, InvKind, InvalidateError, SmmuFailure};

/// Commands that are queued at once, at most.
const BATCH: usize = 64;
/// `CMD_SYNC`s on their way at once.
const TICKETS: usize = 16;
/// Failed SMMUs that are told apart.
const FAILURES: usize = 16;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Tags,
    NestedStage1,
    DeviceCaches,
}

impl Phase {
    const fn of(kind: InvKind) -> Self {
        match kind {
            InvKind::S1Asid | InvKind::S2Vmid | InvKind::S2VmidVsmmu => Phase::Tags,
            InvKind::S2VmidS1Clear => Phase::NestedStage1,
            InvKind::Ats | InvKind::AtsFull => Phase::DeviceCaches,
        }
    }

    const fn contents(self) -> Contents {
        match self {
            Phase::Tags => Contents::TAGS,
            Phase::NestedStage1 => Contents::NESTED_STAGE_1,
            Phase::DeviceCaches => Contents::DEVICE_CACHES,
        }
    }
}

impl InvArray {
    /// Invalidate `extent` wherever the domain is in use, and wait for it.
    ///
    /// Takes no lock and does not allocate; it may run at any time, beside writers, in any context
    /// in which the sink may. For an array that is published use
    /// [`invalidate_published`](crate::invalidate_published), which orders the change of the page
    /// table before the read of the array.
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
        let mut batch = [Command::SYNC; N];
        let mut walk = Walk::new(self.entries(), sink, &mut batch, report);
        let mut plans = Plans::of(extent);
        for phase in [Phase::Tags, Phase::NestedStage1, Phase::DeviceCaches] {
            if !self.contents().has(phase.contents()) {
                continue;
            }
            walk.begin(phase);
            for (index, entry) in self.entries().iter().enumerate() {
                if Phase::of(entry.kind()) == phase
                    && entry.state() != EntryState::Trash
                    && walk.enter(index, entry.smmu())
                {
                    self.send(entry, &mut plans, &mut walk);
                }
            }
            walk.finish();
        }
        walk.result()
    }

    #[inline]
    fn send<S>(&self, entry: &Entry, plans: &mut Plans<'_>, walk: &mut Walk<'_, S>)
    where
        S: CommandSink + ?Sized,
    {
        let stream = StreamId(entry.id());
        match entry.kind() {
            InvKind::S1Asid => {
                let asid = Asid(entry.id() as u16);
                let regime = entry.regime();
                walk.spans(plans.iova(entry.range()), CacheTag::Asid(regime, asid), |span| {
                    match regime {
                        Regime::El1 => Command::TlbiNhVa { vmid: Vmid(0), asid, span },
                        Regime::El2 => Command::TlbiEl2Va { asid, span },
                    }
                });
            }
            InvKind::S2Vmid | InvKind::S2VmidVsmmu => {
                let vmid = Vmid(entry.id() as u16);
                walk.spans(plans.ipa(entry.range()), CacheTag::Vmid(vmid), |span| {
                    Command::TlbiS2Ipa { vmid, span }
                });
            }
            InvKind::S2VmidS1Clear => {
                if !self.vmid_was_flushed(&entry.key(), plans) {
                    walk.add(Command::TlbiNhAll { vmid: Vmid(entry.id() as u16) });
                }
            }
            InvKind::Ats => {
                let substream = SubstreamId::new(entry.key().ssid);
                let (scope, span) = (AtcScope::Substream, plans.atc());
                walk.add(Command::AtcInv { stream, substream, scope, span });
            }
            InvKind::AtsFull => {
                let (scope, span) = (AtcScope::Substream, AtcSpan::EVERYTHING);
                walk.add(Command::AtcInv { stream, substream: None, scope, span });
            }
        }
    }

    /// Whether this walk has sent `TLBI_S12_VMALL` for the VMID, which takes stage 1 with it.
    ///
    /// An entry that is not trash now was not trash in the phase before.
    fn vmid_was_flushed(&self, key: &InvKey, plans: &mut Plans<'_>) -> bool {
        [InvKind::S2Vmid, InvKind::S2VmidVsmmu].into_iter().any(|kind| {
            self.get(&InvKey { kind, ..*key }).is_some_and(|entry| {
                entry.state() != EntryState::Trash
                    && matches!(plans.ipa(entry.range()), Planned::Everything)
            })
        })
    }
}

/// A [`Plan`] that is carried out for many tags.
enum Planned<A> {
    Everything,
    One(Span<A>),
    Many(Spans<A>),
}

impl<A: SpanAddress> Planned<A> {
    fn new(support: RangeSupport, extent: &Extent) -> Self {
        let Plan::Spans(spans) = plan(support, *extent) else { return Planned::Everything };
        let mut rest = spans.clone();
        match (rest.next(), rest.next()) {
            (Some(span), None) => Planned::One(span),
            _ => Planned::Many(spans),
        }
    }
}

/// How an extent is invalidated in each way, once somebody needs to know.
struct Plans<'e> {
    extent: &'e Extent,
    iova: [Option<Planned<Iova>>; 2],
    ipa: [Option<Planned<Ipa>>; 2],
    atc: Option<AtcSpan>,
}

impl<'e> Plans<'e> {
    const fn of(extent: &'e Extent) -> Self {
        Plans { extent, iova: [None, None], ipa: [None, None], atc: None }
    }

    #[inline]
    fn iova(&mut self, support: RangeSupport) -> &Planned<Iova> {
        self.iova[support as usize].get_or_insert_with(|| Planned::new(support, self.extent))
    }

    #[inline]
    fn ipa(&mut self, support: RangeSupport) -> &Planned<Ipa> {
        self.ipa[support as usize].get_or_insert_with(|| Planned::new(support, self.extent))
    }

    #[inline]
    fn atc(&mut self) -> AtcSpan {
        *self.atc.get_or_insert_with(|| atc_span(self.extent))
    }
}

/// The smallest span of an `ATC_INV` that covers the extent.
fn atc_span(extent: &Extent) -> AtcSpan {
    let in_granule = extent.granule.bytes() - 1;
    match extent.size.checked_sub(1).and_then(|more| extent.address.checked_add(more)) {
        Some(last) => {
            AtcSpan::covering(Iova(extent.address & !in_granule), Iova(last | in_granule))
        }
        None => AtcSpan::EVERYTHING,
    }
}

/// A `CMD_SYNC` on its way, and the first entry that it is for.
type Flying<T> = Option<(u32, T)>;

struct Walk<'s, S: CommandSink + ?Sized> {
    entries: &'s [Entry],
    sink: &'s S,
    report: &'s mut dyn FnMut(SmmuFailure),
    phase: Phase,
    smmu: Option<SmmuId>,
    // The first entry of the batch.
    first: usize,
    batch: &'s mut [Command],
    queued: usize,
    tickets: [Flying<S::Ticket>; TICKETS],
    oldest: usize,
    flying: usize,
    failures: Failures,
}

impl<'s, S: CommandSink + ?Sized> Walk<'s, S> {
    #[inline]
    fn new(
        entries: &'s [Entry],
        sink: &'s S,
        batch: &'s mut [Command],
        report: &'s mut dyn FnMut(SmmuFailure),
    ) -> Self {
        Walk {
            entries,
            sink,
            report,
            phase: Phase::Tags,
            smmu: None,
            first: 0,
            batch,
            queued: 0,
            tickets: [const { None }; TICKETS],
            oldest: 0,
            flying: 0,
            failures: Failures::default(),
        }
    }

    fn begin(&mut self, phase: Phase) {
        self.phase = phase;
        self.smmu = None;
    }

    /// The next command is for an entry of `smmu`; `false` if that has failed.
    #[inline]
    fn enter(&mut self, index: usize, smmu: SmmuId) -> bool {
        if self.smmu != Some(smmu) {
            self.issue();
            self.smmu = Some(smmu);
        }
        if self.queued == 0 {
            self.first = index;
        }
        !self.failures.contains(smmu)
    }

    fn finish(&mut self) {
        self.issue();
        while self.flying > 0 {
            self.wait_oldest();
        }
    }

    #[inline]
    fn spans<A: SpanAddress>(
        &mut self,
        plan: &Planned<A>,
        tag: CacheTag,
        command: impl Fn(Span<A>) -> Command,
    ) {
        match plan {
            Planned::One(span) => {
                self.add(command(*span));
            }
            Planned::Everything => {
                self.add(tag.flush_command());
            }
            Planned::Many(spans) => {
                let mut spans = spans.clone();
                while let Some(span) = spans.next()
                    && self.add(command(span))
                {}
            }
        }
    }

    /// `false` if the SMMU has failed, and there is no point in more.
    #[inline]
    fn add(&mut self, command: Command) -> bool {
        if self.queued == self.batch.len() && !self.make_room() {
            return false;
        }
        self.batch[self.queued] = command;
        self.queued += 1;
        true
    }

    #[inline(never)]
    fn make_room(&mut self) -> bool {
        let Some(smmu) = self.smmu else { return false };
        match self.phase {
            Phase::DeviceCaches => self.issue(),
            Phase::Tags | Phase::NestedStage1 => {
                let pushed = self.sink.push(smmu, &self.batch[..self.queued]);
                self.queued = 0;
                if let Err(error) = pushed {
                    self.fail(smmu, self.first, error);
                }
            }
        }
        !self.failures.contains(smmu)
    }

    /// Send what is queued, with a `CMD_SYNC`.
    #[inline]
    fn issue(&mut self) {
        let (Some(smmu), 1..) = (self.smmu, self.queued) else { return };
        if self.flying == TICKETS {
            self.wait_oldest();
        }
        let issued = self.sink.issue(smmu, &self.batch[..self.queued]);
        self.queued = 0;
        match issued {
            Ok(ticket) => {
                let place = (self.oldest + self.flying) % TICKETS;
                self.tickets[place] = Some((self.first as u32, ticket));
                self.flying += 1;
            }
            Err(error) => self.fail(smmu, self.first, error),
        }
    }

    #[inline]
    fn wait_oldest(&mut self) {
        let ticket = self.tickets[self.oldest].take();
        self.oldest = (self.oldest + 1) % TICKETS;
        self.flying -= 1;
        let Some((first, ticket)) = ticket else { return };
        let first = first as usize;
        let Some(smmu) = self.entries.get(first).map(Entry::smmu) else { return };
        match self.sink.wait(ticket) {
            Ok(proof) if proof.smmu() == smmu => {}
            Ok(proof) => {
                let error = SinkError::ForeignProof { want: smmu, got: proof.smmu() };
                self.fail(smmu, first, error);
            }
            Err(error) => self.fail(smmu, first, error),
        }
    }

    #[cold]
    fn fail(&mut self, smmu: SmmuId, first: usize, error: SinkError) {
        if self.failures.add(smmu, error)
            && let Some(entry) = self.entries.get(first)
        {
            (self.report)(SmmuFailure { from: entry.key(), error });
        }
    }

    fn result(&self) -> Result<(), InvalidateError> {
        match self.failures.first {
            None => Ok(()),
            Some(first) => Err(InvalidateError { first, failed: self.failures.count }),
        }
    }
}

#[derive(Default)]
struct Failures {
    first: Option<SinkError>,
    smmus: [SmmuId; FAILURES],
    count: u32,
}

impl Failures {
    #[inline]
    fn contains(&self, smmu: SmmuId) -> bool {
        self.count > 0
            && self.smmus.iter().take(self.count as usize).any(|&failed| failed == smmu)
    }

    /// `false` if it is known.
    fn add(&mut self, smmu: SmmuId, error: SinkError) -> bool {
        self.first.get_or_insert(error);
        if self.contains(smmu) {
            return false;
        }
        if let Some(slot) = self.smmus.get_mut(self.count as usize) {
            *slot = smmu;
        }
        self.count = self.count.saturating_add(1);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use smmu_types::{Granule, Leaf};

    #[rstest]
    #[case(0x8000, 0x4000, 0x8000, 2)]
    #[case(0x1000, 0x1000, 0x1000, 0)]
    #[case(0x1fff, 2, 0, 2)]
    #[case::across_a_power_of_two(0x7000, 0x2000, 0, 4)]
    #[case(1 << 40, 1 << 30, 1 << 40, 18)]
    #[case::everything(0, 0, 0, 52)]
    #[case::wraps(u64::MAX - 1, 3, 0, 52)]
    #[case::all_but_nothing(0, u64::MAX, 0, 52)]
    #[case::half(1 << 63, 1 << 62, 1 << 63, 50)]
    #[case::last_page(u64::MAX - 0xfff, 0x1000, u64::MAX - 0xfff, 0)]
    fn atc_spans_cover(
        #[case] address: u64,
        #[case] bytes: u64,
        #[case] want: u64,
        #[case] size: u8,
    ) {
        let extent = Extent::pages(address, bytes, Granule::K4, Leaf::Last);
        assert_eq!(Ok(atc_span(&extent)), AtcSpan::new(Iova(want), size));
    }

    #[test]
    fn atc_spans_cover_whole_granules() {
        let extent = Extent::pages(0x1_2000, 0x1000, Granule::K64, Leaf::Last);
        assert_eq!(Ok(atc_span(&extent)), AtcSpan::new(Iova(0x1_0000), 4));
    }
}
