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

use crate::entry::{Contents, Entry, Head};
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

/// Commands are copied from a template and then get their tag or stream: building each anew costs more than all else.
trait Name: Copy {
    fn put(self, command: &mut Command);
}

impl Name for Asid {
    #[inline]
    fn put(self, command: &mut Command) {
        match command {
            Command::TlbiNhVa { asid, .. }
            | Command::TlbiEl2Va { asid, .. }
            | Command::TlbiNhAsid { asid, .. }
            | Command::TlbiEl2Asid { asid } => *asid = self,
            _ => {}
        }
    }
}

impl Name for Vmid {
    #[inline]
    fn put(self, command: &mut Command) {
        match command {
            Command::TlbiS2Ipa { vmid, .. }
            | Command::TlbiS12Vmall { vmid }
            | Command::TlbiNhAll { vmid } => *vmid = self,
            _ => {}
        }
    }
}

impl Name for (StreamId, Option<SubstreamId>) {
    #[inline]
    fn put(self, command: &mut Command) {
        if let Command::AtcInv { stream, substream, .. } = command {
            (*stream, *substream) = self;
        }
    }
}

const CLEAR: Command = Command::TlbiNhAll { vmid: Vmid(0) };

const ATC_ALL: Command = atc_inv(AtcSpan::EVERYTHING);

const fn atc_inv(span: AtcSpan) -> Command {
    let (stream, scope) = (StreamId(0), AtcScope::Substream);
    Command::AtcInv { stream, substream: None, scope, span }
}

/// A [`Plan`] that is carried out for many tags.
enum Planned<A> {
    /// One command, without its tag.
    One(Command),
    Many(Spans<A>, fn(Span<A>) -> Command),
}

impl<A: SpanAddress> Planned<A> {
    fn new(
        support: RangeSupport,
        extent: &Extent,
        tag: CacheTag,
        command: fn(Span<A>) -> Command,
    ) -> Self {
        let Plan::Spans(spans) = plan(support, *extent) else {
            return Planned::One(tag.flush_command());
        };
        let mut rest = spans.clone();
        match (rest.next(), rest.next()) {
            (Some(span), None) => Planned::One(command(span)),
            _ => Planned::Many(spans, command),
        }
    }
}

/// How an extent is invalidated in each way, once somebody needs to know.
struct Plans<'e> {
    extent: &'e Extent,
    el1: [Option<Planned<Iova>>; 2],
    el2: [Option<Planned<Iova>>; 2],
    stage2: [Option<Planned<Ipa>>; 2],
    atc: Option<Command>,
}

impl<'e> Plans<'e> {
    #[inline]
    const fn of(extent: &'e Extent) -> Self {
        Plans { extent, el1: [None, None], el2: [None, None], stage2: [None, None], atc: None }
    }

    #[inline]
    fn el1(&mut self, support: RangeSupport) -> &Planned<Iova> {
        self.el1[support as usize].get_or_insert_with(|| {
            let tag = CacheTag::Asid(Regime::El1, Asid(0));
            Planned::new(support, self.extent, tag, |span| Command::TlbiNhVa {
                vmid: Vmid(0),
                asid: Asid(0),
                span,
            })
        })
    }

    #[inline]
    fn el2(&mut self, support: RangeSupport) -> &Planned<Iova> {
        self.el2[support as usize].get_or_insert_with(|| {
            let tag = CacheTag::Asid(Regime::El2, Asid(0));
            Planned::new(support, self.extent, tag, |span| Command::TlbiEl2Va {
                asid: Asid(0),
                span,
            })
        })
    }

    #[inline]
    fn stage2(&mut self, support: RangeSupport) -> &Planned<Ipa> {
        self.stage2[support as usize].get_or_insert_with(|| {
            Planned::new(support, self.extent, CacheTag::Vmid(Vmid(0)), |span| Command::TlbiS2Ipa {
                vmid: Vmid(0),
                span,
            })
        })
    }

    #[inline]
    fn atc(&mut self) -> &Command {
        self.atc.get_or_insert_with(|| atc_inv(atc_span(self.extent)))
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

/// Commands for one SMMU that are not queued yet.
struct Batch {
    smmu: SmmuId,
    phase: Phase,
    // The first entry that they are for.
    first: usize,
    queued: usize,
}

impl Batch {
    const fn of(phase: Phase) -> Self {
        Batch { smmu: SmmuId(0), phase, first: 0, queued: 0 }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Added {
    Queued,
    /// The SMMU has failed, and there is no point in more.
    Failed,
}

struct Walk<'s, S: CommandSink + ?Sized> {
    entries: &'s [Entry],
    sink: &'s S,
    report: &'s mut dyn FnMut(SmmuFailure),
    commands: &'s mut [Command],
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
        commands: &'s mut [Command],
        report: &'s mut dyn FnMut(SmmuFailure),
    ) -> Self {
        Walk {
            entries,
            sink,
            report,
            commands,
            tickets: [const { None }; TICKETS],
            oldest: 0,
            flying: 0,
            failures: Failures::default(),
        }
    }

    #[inline]
    fn wait_all(&mut self) {
        while self.flying > 0 {
            self.wait_oldest();
        }
    }

    /// The next command is for `smmu`; `false` if that has failed.
    #[inline]
    fn enter(&mut self, batch: &mut Batch, smmu: SmmuId) -> bool {
        if batch.smmu != smmu {
            self.issue(batch);
            batch.smmu = smmu;
        }
        !self.failures.contains(smmu)
    }

    /// Carry out a plan for an entry and those behind it that it is the plan of as well.
    #[inline]
    fn tags<A: SpanAddress, N: Name>(
        &mut self,
        at: usize,
        entry: &Entry,
        plan: &Planned<A>,
        batch: &mut Batch,
        name: impl Fn(Head) -> N,
    ) -> usize {
        match plan {
            Planned::One(command) => {
                let options = entry.aux();
                let same = |entry: &Entry| entry.aux() == options;
                self.alike(at, entry.head(), same, command, batch, |head, _| name(head))
            }
            Planned::Many(spans, command) => {
                let head = entry.head();
                if !head.is_trash() {
                    for span in spans.clone() {
                        if self.add(at, &command(span), name(head), batch) == Added::Failed {
                            break;
                        }
                    }
                }
                at + 1
            }
        }
    }

    /// Add a command for each entry from `at` on that is of the first one's kind and `same`. Returns where the others
    /// begin.
    #[inline]
    fn alike<N: Name>(
        &mut self,
        mut at: usize,
        first: Head,
        same: impl Fn(&Entry) -> bool,
        command: &Command,
        batch: &mut Batch,
        name: impl Fn(Head, &Entry) -> N,
    ) -> usize {
        loop {
            let room = self.commands.get_mut(batch.queued..).unwrap_or_default();
            let mut added = 0;
            let mut full = false;
            for entry in &self.entries[at..] {
                let head = entry.head();
                if !head.is_beside(first) || !same(entry) {
                    break;
                }
                if !head.is_trash() {
                    let Some(slot) = room.get_mut(added) else {
                        full = true;
                        break;
                    };
                    *slot = *command;
                    name(head, entry).put(slot);
                    if added == 0 && batch.queued == 0 {
                        batch.first = at;
                    }
                    added += 1;
                }
                at += 1;
            }
            batch.queued += added;
            if !full || self.make_room(batch) == Added::Failed {
                return at;
            }
        }
    }

    fn add(&mut self, at: usize, command: &Command, name: impl Name, batch: &mut Batch) -> Added {
        if batch.queued == self.commands.len() && self.make_room(batch) == Added::Failed {
            return Added::Failed;
        }
        let Some(slot) = self.commands.get_mut(batch.queued) else { return Added::Failed };
        *slot = *command;
        name.put(slot);
        if batch.queued == 0 {
            batch.first = at;
        }
        batch.queued += 1;
        Added::Queued
    }

    #[inline(never)]
    fn make_room(&mut self, batch: &mut Batch) -> Added {
        match batch.phase {
            Phase::DeviceCaches => self.issue(batch),
            Phase::Tags | Phase::NestedStage1 => {
                let pushed = self.sink.push(batch.smmu, &self.commands[..batch.queued]);
                batch.queued = 0;
                if let Err(error) = pushed {
                    self.fail(batch.smmu, batch.first, error);
                }
            }
        }
        match self.failures.contains(batch.smmu) {
            true => Added::Failed,
            false => Added::Queued,
        }
    }

    /// Send what is queued, with a `CMD_SYNC`.
    #[inline]
    fn issue(&mut self, batch: &mut Batch) {
        if batch.queued == 0 {
            return;
        }
        if self.flying == TICKETS {
            self.wait_oldest();
        }
        let issued = self.sink.issue(batch.smmu, &self.commands[..batch.queued]);
        batch.queued = 0;
        match issued {
            Ok(ticket) => {
                let place = (self.oldest + self.flying) % TICKETS;
                self.tickets[place] = Some((batch.first as u32, ticket));
                self.flying += 1;
            }
            Err(error) => self.fail(batch.smmu, batch.first, error),
        }
    }

    #[inline]
    fn wait_oldest(&mut self) {
        let ticket = self.tickets[self.oldest].take();
        self.oldest = (self.oldest + 1) % TICKETS;
        self.flying -= 1;
        let Some((first, ticket)) = ticket else { return };
        let first = first as usize;
        let Some(smmu) = self.entries.get(first).map(|entry| entry.head().smmu()) else { return };
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
        self.count > 0 && self.smmus.iter().take(self.count as usize).any(|&failed| failed == smmu)
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
