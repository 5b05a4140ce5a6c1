//! From the kind of an entry to its commands.
//!
//! [`plan_kind`] chooses the commands of each kind, and [`CommandTemplate::with_builder`] puts the
//! tag or stream of an entry in. No other code of the crate does either.

use smmu_types::range::{Extent, Plan, Span, SpanAddress, Spans, plan};
use smmu_types::{
    Asid, AtcScope, AtcSpan, CacheTag, Command, Iova, Ipa, Regime, StreamId, SubstreamId, Vmid,
};

use crate::InvKind;
use crate::inv_entry::{EntryOptions, Head, InvEntry};

/// A command without the tag or stream of its entry.
#[derive(Clone, Copy)]
pub(super) enum CommandTemplate {
    /// Some addresses of an ASID.
    Stage1(Regime, Span<Iova>),
    /// All non-global entries of an ASID.
    Stage1All(Regime),
    /// Some addresses of a VMID.
    Stage2(Span<Ipa>),
    /// All entries of a VMID.
    Stage2All,
    /// All stage-1 entries of a VMID.
    NestedStage1,
    /// Some addresses of a substream, in the device's own cache.
    Substream(AtcSpan),
    /// Everything in the device's own cache.
    DeviceCache,
}

/// Code that builds the same command for one entry or for many.
pub(super) trait UseBuilder {
    type Output;

    fn use_builder(self, build: impl Fn(Head, &InvEntry) -> Command) -> Self::Output;
}

impl CommandTemplate {
    /// Gives `user` the function that builds the command of an entry.
    ///
    /// This function matches the template once for a run of entries. With a match for each entry, a
    /// walk of 64 entries takes 1.8 times the instructions.
    #[inline(always)]
    pub(super) fn with_builder<U: UseBuilder>(self, user: U) -> U::Output {
        let asid = |head: Head| Asid(head.id() as u16);
        let vmid = |head: Head| Vmid(head.id() as u16);
        let stream = |head: Head| StreamId(head.id());
        let scope = AtcScope::Substream;
        match self {
            // Without stage 2 the SMMU tags stage-1 entries with VMID 0.
            CommandTemplate::Stage1(Regime::El1, span) => user
                .use_builder(|head, _| Command::TlbiNhVa { vmid: Vmid(0), asid: asid(head), span }),
            CommandTemplate::Stage1(Regime::El2, span) => {
                user.use_builder(|head, _| Command::TlbiEl2Va { asid: asid(head), span })
            }
            CommandTemplate::Stage1All(regime) => {
                user.use_builder(|head, _| CacheTag::Asid(regime, asid(head)).flush_command())
            }
            CommandTemplate::Stage2(span) => {
                user.use_builder(|head, _| Command::TlbiS2Ipa { vmid: vmid(head), span })
            }
            CommandTemplate::Stage2All => {
                user.use_builder(|head, _| CacheTag::Vmid(vmid(head)).flush_command())
            }
            CommandTemplate::NestedStage1 => {
                user.use_builder(|head, _| Command::TlbiNhAll { vmid: vmid(head) })
            }
            CommandTemplate::Substream(span) => user.use_builder(|head, entry| {
                // `None` for `InvKey::NO_SSID`, which is above every SubstreamID.
                let substream = SubstreamId::new(entry.aux());
                Command::AtcInv { stream: stream(head), substream, scope, span }
            }),
            CommandTemplate::DeviceCache => user.use_builder(|head, _| {
                let span = AtcSpan::EVERYTHING;
                Command::AtcInv { stream: stream(head), substream: None, scope, span }
            }),
        }
    }

    /// The command of one entry, whose kind the template was chosen for.
    #[inline(always)]
    pub(super) fn command(self, head: Head, entry: &InvEntry) -> Command {
        self.with_builder(OneEntry(head, entry))
    }
}

struct OneEntry<'a>(Head, &'a InvEntry);

impl UseBuilder for OneEntry<'_> {
    type Output = Command;

    #[inline(always)]
    fn use_builder(self, build: impl Fn(Head, &InvEntry) -> Command) -> Command {
        build(self.0, self.1)
    }
}

/// The commands of an entry: one, or one for each span.
pub(super) enum EntryPlan {
    One(CommandTemplate),
    Stage1(Regime, Spans<Iova>),
    Stage2(Spans<Ipa>),
}

/// Code that uses the commands of a kind. As a trait, so that the compiler knows each template
/// where it is used.
trait UseCommands {
    type Output;

    /// The kind takes a single command.
    fn one(self, template: CommandTemplate) -> Self::Output;
    /// The kind takes several commands.
    fn many(self, plan: EntryPlan) -> Self::Output;
}

/// Gives `user` the commands for the entries of a kind with these options.
#[inline(always)]
fn plan_kind<U: UseCommands>(
    kind: InvKind,
    options: EntryOptions,
    extent: &Extent,
    user: U,
) -> U::Output {
    match kind {
        InvKind::S1Asid => match plan(options.range(), *extent) {
            Plan::Everything => user.one(CommandTemplate::Stage1All(options.regime())),
            Plan::Spans(spans) => match only_span(&spans) {
                Some(span) => user.one(CommandTemplate::Stage1(options.regime(), span)),
                None => user.many(EntryPlan::Stage1(options.regime(), spans)),
            },
        },
        InvKind::S2Vmid | InvKind::S2VmidVsmmu => match plan(options.range(), *extent) {
            Plan::Everything => user.one(CommandTemplate::Stage2All),
            Plan::Spans(spans) => match only_span(&spans) {
                Some(span) => user.one(CommandTemplate::Stage2(span)),
                None => user.many(EntryPlan::Stage2(spans)),
            },
        },
        InvKind::S2VmidS1Clear => user.one(CommandTemplate::NestedStage1),
        InvKind::Ats => user.one(CommandTemplate::Substream(atc_span(extent))),
        InvKind::AtsFull => user.one(CommandTemplate::DeviceCache),
    }
}

/// The span of a plan that has one span and no more.
#[inline(always)]
fn only_span<A: SpanAddress>(spans: &Spans<A>) -> Option<Span<A>> {
    let mut spans = spans.clone();
    let span = spans.next()?;
    spans.next().is_none().then_some(span)
}

/// Calls `then` with the command of an entry. `None` if the entry needs several commands.
#[inline(always)]
pub(super) fn with_only_command<T>(
    entry: &InvEntry,
    head: Head,
    extent: &Extent,
    then: impl FnOnce(&Command) -> T,
) -> Option<T> {
    let kind = head.kind();
    plan_kind(kind, entry.options(kind), extent, OnlyCommand { entry, head, then })
}

struct OnlyCommand<'a, F> {
    entry: &'a InvEntry,
    head: Head,
    then: F,
}

impl<T, F: FnOnce(&Command) -> T> UseCommands for OnlyCommand<'_, F> {
    type Output = Option<T>;

    #[inline(always)]
    fn one(self, template: CommandTemplate) -> Option<T> {
        Some((self.then)(&template.command(self.head, self.entry)))
    }

    #[inline(always)]
    fn many(self, _: EntryPlan) -> Option<T> {
        None
    }
}

/// The plans of an extent. Only the last one is kept: the entries of a phase mostly share a plan.
pub(super) struct EntryPlans<'e> {
    pub(super) extent: &'e Extent,
    // The kind and the options of `last`.
    of: (InvKind, EntryOptions),
    last: EntryPlan,
}

impl<'e> EntryPlans<'e> {
    #[inline]
    pub(super) const fn new(extent: &'e Extent) -> Self {
        let last = EntryPlan::One(CommandTemplate::DeviceCache);
        EntryPlans { extent, of: (InvKind::AtsFull, EntryOptions::NONE), last }
    }

    #[inline]
    pub(super) fn of(&mut self, kind: InvKind, options: EntryOptions) -> &EntryPlan {
        if self.of != (kind, options) {
            self.last = plan_kind(kind, options, self.extent, KeepPlan);
            self.of = (kind, options);
        }
        &self.last
    }
}

struct KeepPlan;

impl UseCommands for KeepPlan {
    type Output = EntryPlan;

    #[inline(always)]
    fn one(self, template: CommandTemplate) -> EntryPlan {
        EntryPlan::One(template)
    }

    #[inline(always)]
    fn many(self, plan: EntryPlan) -> EntryPlan {
        plan
    }
}

/// The smallest span of an `ATC_INV` that covers the extent.
pub(super) fn atc_span(extent: &Extent) -> AtcSpan {
    let in_granule = extent.granule.bytes() - 1;
    match extent.size.checked_sub(1).and_then(|more| extent.address.checked_add(more)) {
        Some(last) => {
            AtcSpan::covering(Iova(extent.address & !in_granule), Iova(last | in_granule))
        }
        None => AtcSpan::EVERYTHING,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::InvSpec;
    use rstest::rstest;
    use smmu_types::range::RangeSupport;
    use smmu_types::{Granule, Leaf, SmmuId};

    const SMMU: SmmuId = SmmuId(3);
    const EVERYTHING: Extent = Extent::everything(Granule::K4);

    fn only(spec: InvSpec, extent: &Extent) -> Option<Command> {
        let entry = InvEntry::new(&spec);
        with_only_command(&entry, entry.head(), extent, |command| *command)
    }

    #[test]
    fn the_command_of_every_kind_has_the_tag_of_its_entry() {
        let ril = RangeSupport::Ril;
        for regime in [Regime::El1, Regime::El2] {
            let tag = CacheTag::Asid(regime, Asid(7));
            let command = only(InvSpec::tagged(SMMU, tag, ril), &EVERYTHING);
            assert_eq!(command, Some(tag.flush_command()));
        }
        let vmid = Vmid(9);
        let flush = Some(CacheTag::Vmid(vmid).flush_command());
        assert_eq!(only(InvSpec::tagged(SMMU, CacheTag::Vmid(vmid), ril), &EVERYTHING), flush);
        assert_eq!(only(InvSpec::vsmmu(SMMU, vmid, ril), &EVERYTHING), flush);
        let clear = only(InvSpec::s1_clear(SMMU, vmid), &EVERYTHING);
        assert_eq!(clear, Some(Command::TlbiNhAll { vmid }));

        let (stream, scope, span) = (StreamId(0x1_2345), AtcScope::Substream, AtcSpan::EVERYTHING);
        for substream in [None, SubstreamId::new(5)] {
            let command = Some(Command::AtcInv { stream, substream, scope, span });
            assert_eq!(only(InvSpec::ats(SMMU, stream, substream), &EVERYTHING), command);
        }
        let mut full = InvSpec::ats_full(SMMU, stream);
        full.key.ssid = 5;
        let command = Some(Command::AtcInv { stream, substream: None, scope, span });
        assert_eq!(only(full, &EVERYTHING), command, "an SSID has no meaning for ATS_FULL");
    }

    #[test]
    fn several_spans_are_several_commands() {
        let tag = CacheTag::Vmid(Vmid(9));
        let pages = Extent::range(0x1000, 0x2000, Granule::K4, Leaf::Last).with_page_hint();
        assert_eq!(only(InvSpec::tagged(SMMU, tag, RangeSupport::Single), &pages), None);
    }

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
        let extent = Extent::range(address, bytes, Granule::K4, Leaf::Last).with_page_hint();
        assert_eq!(Ok(atc_span(&extent)), AtcSpan::new(Iova(want), size));
    }

    #[test]
    fn atc_spans_cover_whole_granules() {
        let extent = Extent::range(0x1_2000, 0x1000, Granule::K64, Leaf::Last).with_page_hint();
        assert_eq!(Ok(atc_span(&extent)), AtcSpan::new(Iova(0x1_0000), 4));
    }
}
