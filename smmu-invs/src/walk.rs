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

use smmu_types::range::{Extent, Plan, RangeSupport, Span, SpanAddress, plan};
use smmu_types::seam::{CommandSink, SinkError};
use smmu_types::{
    Asid, AtcScope, AtcSpan, CacheTag, Command, Iova, Ipa, Regime, SmmuId, StreamId, SubstreamId,
    Vmid,
};

use crate::entry::{Entry, EntryState};
use crate::{InvArray, InvKey, InvKind, InvalidateError};

/// Commands that are queued at once.
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
    fn of(kind: InvKind) -> Self {
        match kind {
            InvKind::S1Asid | InvKind::S2Vmid | InvKind::S2VmidVsmmu => Phase::Tags,
            InvKind::S2VmidS1Clear => Phase::NestedStage1,
            InvKind::Ats | InvKind::AtsFull => Phase::DeviceCaches,
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
        let mut walk = Walk::new(sink);
        for phase in [Phase::Tags, Phase::NestedStage1, Phase::DeviceCaches] {
            walk.begin(phase);
            for entry in self.entries().iter().filter(|e| Phase::of(e.kind()) == phase) {
                if entry.state() != EntryState::Trash && walk.enter(entry.smmu()) {
                    self.send(entry, &extent, &mut walk);
                }
            }
            walk.finish();
        }
        walk.failures.result()
    }

    fn send<S>(&self, entry: &Entry, extent: &Extent, walk: &mut Walk<'_, S>)
    where
        S: CommandSink + ?Sized,
    {
        let spec = entry.spec();
        let stream = StreamId(spec.key.id);
        match spec.key.kind {
            InvKind::S1Asid => {
                let asid = Asid(spec.key.id as u16);
                let flush = CacheTag::Asid(spec.regime, asid);
                match spec.regime {
                    Regime::El1 => walk.spans(spec.range, extent, flush, |span| {
                        Command::TlbiNhVa { vmid: Vmid(0), asid, span }
                    }),
                    Regime::El2 => walk
                        .spans(spec.range, extent, flush, |span| Command::TlbiEl2Va { asid, span }),
                }
            }
            InvKind::S2Vmid | InvKind::S2VmidVsmmu => {
                let vmid = Vmid(spec.key.id as u16);
                walk.spans(spec.range, extent, CacheTag::Vmid(vmid), |span| Command::TlbiS2Ipa {
                    vmid,
                    span,
                });
            }
            InvKind::S2VmidS1Clear => {
                if !self.vmid_was_flushed(&spec.key, extent) {
                    walk.add(Command::TlbiNhAll { vmid: Vmid(spec.key.id as u16) });
                }
            }
            InvKind::Ats => {
                let substream = SubstreamId::new(spec.key.ssid);
                let (scope, span) = (AtcScope::Substream, atc_span(extent));
                walk.add(Command::AtcInv { stream, substream, scope, span });
            }
            InvKind::AtsFull => {
                walk.add(Command::AtcInv {
                    stream,
                    substream: None,
                    scope: AtcScope::Substream,
                    span: AtcSpan::EVERYTHING,
                });
            }
        }
    }

    /// Whether this walk has sent `TLBI_S12_VMALL` for the VMID, which takes stage 1 with it.
    ///
    /// An entry that is not trash now was not trash in the phase before.
    fn vmid_was_flushed(&self, key: &InvKey, extent: &Extent) -> bool {
        [InvKind::S2Vmid, InvKind::S2VmidVsmmu].into_iter().any(|kind| {
            self.get(&InvKey { kind, ..*key }).is_some_and(|entry| {
                entry.state() != EntryState::Trash
                    && matches!(plan::<Ipa>(entry.spec().range, *extent), Plan::Everything)
            })
        })
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

struct Walk<'s, S: CommandSink + ?Sized> {
    sink: &'s S,
    phase: Phase,
    smmu: Option<SmmuId>,
    batch: [Command; BATCH],
    queued: usize,
    tickets: [Option<(SmmuId, S::Ticket)>; TICKETS],
    oldest: usize,
    flying: usize,
    failures: Failures,
}

impl<'s, S: CommandSink + ?Sized> Walk<'s, S> {
    fn new(sink: &'s S) -> Self {
        Walk {
            sink,
            phase: Phase::Tags,
            smmu: None,
            batch: [Command::SYNC; BATCH],
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

    /// The next command is for `smmu`; `false` if it has failed.
    fn enter(&mut self, smmu: SmmuId) -> bool {
        if self.smmu != Some(smmu) {
            self.issue();
            self.smmu = Some(smmu);
        }
        !self.failures.contains(smmu)
    }

    fn finish(&mut self) {
        self.issue();
        while self.flying > 0 {
            self.wait_oldest();
        }
    }

    fn spans<A: SpanAddress>(
        &mut self,
        support: RangeSupport,
        extent: &Extent,
        tag: CacheTag,
        command: impl Fn(Span<A>) -> Command,
    ) {
        match plan(support, *extent) {
            Plan::Everything => {
                self.add(tag.flush_command());
            }
            Plan::Spans(mut spans) => {
                while let Some(span) = spans.next()
                    && self.add(command(span))
                {}
            }
        }
    }

    /// `false` if the SMMU has failed, and there is no point in more.
    fn add(&mut self, command: Command) -> bool {
        let Some(smmu) = self.smmu else { return false };
        if self.queued == BATCH {
            match self.phase {
                Phase::DeviceCaches => self.issue(),
                Phase::Tags | Phase::NestedStage1 => {
                    let pushed = self.sink.push(smmu, &self.batch);
                    self.queued = 0;
                    if let Err(error) = pushed {
                        self.failures.add(smmu, error);
                    }
                }
            }
            if self.failures.contains(smmu) {
                return false;
            }
        }
        self.batch[self.queued] = command;
        self.queued += 1;
        true
    }

    /// Send what is queued, with a `CMD_SYNC`.
    fn issue(&mut self) {
        let (Some(smmu), 1..) = (self.smmu, self.queued) else { return };
        if self.flying == TICKETS {
            self.wait_oldest();
        }
        let issued = self.sink.issue(smmu, &self.batch[..self.queued]);
        self.queued = 0;
        match issued {
            Ok(ticket) => {
                self.tickets[(self.oldest + self.flying) % TICKETS] = Some((smmu, ticket));
                self.flying += 1;
            }
            Err(error) => self.failures.add(smmu, error),
        }
    }

    fn wait_oldest(&mut self) {
        let ticket = self.tickets[self.oldest].take();
        self.oldest = (self.oldest + 1) % TICKETS;
        self.flying -= 1;
        let Some((smmu, ticket)) = ticket else { return };
        match self.sink.wait(ticket) {
            Ok(proof) if proof.smmu() == smmu => {}
            Ok(proof) => {
                let error = SinkError::ForeignProof { want: smmu, got: proof.smmu() };
                self.failures.add(smmu, error);
            }
            Err(error) => self.failures.add(smmu, error),
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
    fn contains(&self, smmu: SmmuId) -> bool {
        self.smmus.iter().take(self.count as usize).any(|&failed| failed == smmu)
    }

    fn add(&mut self, smmu: SmmuId, error: SinkError) {
        self.first.get_or_insert(error);
        if self.contains(smmu) {
            return;
        }
        if let Some(slot) = self.smmus.get_mut(self.count as usize) {
            *slot = smmu;
        }
        self.count = self.count.saturating_add(1);
    }

    fn result(&self) -> Result<(), InvalidateError> {
        match self.first {
            None => Ok(()),
            Some(first) => Err(InvalidateError { first, failed: self.count }),
        }
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
