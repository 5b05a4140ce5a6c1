//! From the kind of an entry to its commands.
//!
//! [`plan_kind`] chooses the commands of each kind, and [`Template::command`] puts the tag or stream
//! of an entry in. No other code of the crate does either.

use smmu_types::fields::commands as fields;
use smmu_types::layout::Key;
use smmu_types::range::{Extent, Plan, Span, SpanAddress, Spans, plan};
use smmu_types::{
    Asid, AtcScope, AtcSpan, CacheTag, Command, Iova, Ipa, RawCommand, Regime, StreamId,
    SubstreamId, Vmid,
};

use crate::inv_entry::{EntryOptions, Head, InvEntry};
use crate::{InvKey, InvKind};

/// A command as words, without the tag or the stream of its entry.
///
/// A walk encodes a template once for all entries that share it, and ors the tag or the stream of
/// each entry in. All commands by ASID, by VMID or by stream have it in the same place.
#[derive(Clone, Copy)]
pub(super) struct Template {
    words: RawCommand,
    // The lowest bit of the tag or the stream in the first word.
    id_shift: u32,
    // Whether the command names the substream of its entry.
    names_substreams: bool,
}

const ASID: Key<RawCommand> = fields::tlbi_nh_asid::ASID;
const VMID: Key<RawCommand> = fields::tlbi_nh_all::VMID;
const STREAM: Key<RawCommand> = fields::atc_inv::STREAMID;
const SUBSTREAM: Key<RawCommand> = fields::atc_inv::SUBSTREAMID;

/// The same bits of the same word.
const fn is_same(one: Key<RawCommand>, other: Key<RawCommand>) -> bool {
    one.lo() == other.lo() && one.hi() == other.hi()
}

const _: () = {
    assert!(ASID.word() == 0 && VMID.word() == 0 && STREAM.word() == 0 && SUBSTREAM.word() == 0);
    assert!(is_same(ASID, fields::tlbi_nh_va::ASID) && is_same(ASID, fields::tlbi_el2_va::ASID));
    assert!(is_same(ASID, fields::tlbi_el2_asid::ASID));
    assert!(
        is_same(VMID, fields::tlbi_s2_ipa::VMID) && is_same(VMID, fields::tlbi_s12_vmall::VMID)
    );
};

impl Template {
    #[inline(always)]
    const fn new(command: Command, id: Key<RawCommand>) -> Self {
        Template { words: command.encode(), id_shift: id.lo() as u32, names_substreams: false }
    }

    /// Some addresses of an ASID.
    #[inline(always)]
    pub(super) const fn stage1(regime: Regime, span: Span<Iova>) -> Self {
        let asid = Asid(0);
        match regime {
            // Without stage 2 the SMMU tags stage-1 entries with VMID 0.
            Regime::El1 => Self::new(Command::TlbiNhVa { vmid: Vmid(0), asid, span }, ASID),
            Regime::El2 => Self::new(Command::TlbiEl2Va { asid, span }, ASID),
        }
    }

    /// All non-global entries of an ASID.
    #[inline(always)]
    const fn stage1_all(regime: Regime) -> Self {
        Self::new(CacheTag::Asid(regime, Asid(0)).flush_command(), ASID)
    }

    /// Some addresses of a VMID.
    #[inline(always)]
    pub(super) const fn stage2(span: Span<Ipa>) -> Self {
        Self::new(Command::TlbiS2Ipa { vmid: Vmid(0), span }, VMID)
    }

    /// All entries of a VMID.
    const STAGE2_ALL: Self = Self::new(CacheTag::Vmid(Vmid(0)).flush_command(), VMID);

    /// All stage-1 entries of a VMID.
    pub(super) const NESTED_STAGE1: Self = Self::new(Command::TlbiNhAll { vmid: Vmid(0) }, VMID);

    /// Some addresses in the device's own cache, of all substreams.
    #[inline(always)]
    const fn device(span: AtcSpan) -> Self {
        let (stream, scope) = (StreamId(0), AtcScope::Substream);
        Self::new(Command::AtcInv { stream, substream: None, scope, span }, STREAM)
    }

    /// Some addresses of a substream, in the device's own cache.
    #[inline(always)]
    const fn substream(span: AtcSpan) -> Self {
        Template { names_substreams: true, ..Self::device(span) }
    }

    /// Everything in the device's own cache.
    const DEVICE_CACHE: Self = Self::device(AtcSpan::EVERYTHING);

    /// The command of an entry, whose kind the template was chosen for.
    #[inline(always)]
    pub(super) fn command(self, head: Head, entry: &InvEntry) -> RawCommand {
        match self.names_substreams {
            true => self.with_substream(head, entry),
            false => self.tagged(head),
        }
    }

    /// The command of an entry with its substream.
    #[inline(always)]
    pub(super) fn with_substream(self, head: Head, entry: &InvEntry) -> RawCommand {
        let RawCommand([low, high]) = self.tagged(head);
        RawCommand([low | substream(entry.aux()), high])
    }

    /// The command of an entry without its substream.
    #[inline(always)]
    pub(super) fn tagged(self, head: Head) -> RawCommand {
        let RawCommand([low, high]) = self.words;
        RawCommand([low | u64::from(head.id()) << self.id_shift, high])
    }

    /// Whether the command names the substream of its entry.
    #[inline(always)]
    pub(super) const fn names_substreams(self) -> bool {
        self.names_substreams
    }
}

/// The substream of an ATS entry in its place. [`InvKey::NO_SSID`], which is
/// above every SubstreamID, gives none.
#[inline(always)]
const fn substream(ssid: u32) -> u64 {
    if ssid > SubstreamId::MAX {
        return 0;
    }
    fields::atc_inv::SSV.mask() | (ssid as u64) << SUBSTREAM.lo()
}

/// The commands of an entry: one, or one for each span.
pub(super) enum EntryPlan {
    One(Template),
    Stage1(Regime, Spans<Iova>),
    Stage2(Spans<Ipa>),
}

/// Code that uses the commands of a kind. As a trait, so that the compiler knows each template
/// where it is used.
trait UseCommands {
    type Output;

    /// The kind takes a single command.
    fn one(self, template: Template) -> Self::Output;
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
            Plan::Everything => user.one(Template::stage1_all(options.regime())),
            Plan::Spans(spans) => match only_span(&spans) {
                Some(span) => user.one(Template::stage1(options.regime(), span)),
                None => user.many(EntryPlan::Stage1(options.regime(), spans)),
            },
        },
        InvKind::S2Vmid | InvKind::S2VmidVsmmu => match plan(options.range(), *extent) {
            Plan::Everything => user.one(Template::STAGE2_ALL),
            Plan::Spans(spans) => match only_span(&spans) {
                Some(span) => user.one(Template::stage2(span)),
                None => user.many(EntryPlan::Stage2(spans)),
            },
        },
        InvKind::S2VmidS1Clear => user.one(Template::NESTED_STAGE1),
        InvKind::Ats => user.one(Template::substream(atc_span(extent))),
        InvKind::AtsFull => user.one(Template::DEVICE_CACHE),
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
    then: impl FnOnce(&RawCommand) -> T,
) -> Option<T> {
    let kind = head.kind();
    plan_kind(kind, entry.options(kind), extent, OnlyCommand { entry, head, then })
}

struct OnlyCommand<'a, F> {
    entry: &'a InvEntry,
    head: Head,
    then: F,
}

impl<T, F: FnOnce(&RawCommand) -> T> UseCommands for OnlyCommand<'_, F> {
    type Output = Option<T>;

    #[inline(always)]
    fn one(self, template: Template) -> Option<T> {
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
    // The kind and the options of `last`, as their entries have them.
    of: (u8, u32),
    last: EntryPlan,
}

impl<'e> EntryPlans<'e> {
    #[inline]
    pub(super) const fn new(extent: &'e Extent) -> Self {
        let last = EntryPlan::One(Template::DEVICE_CACHE);
        EntryPlans { extent, of: (InvKind::AtsFull as u8, InvKey::NO_SSID), last }
    }

    #[inline]
    pub(super) fn of(&mut self, head: Head, entry: &InvEntry) -> &EntryPlan {
        let of = (head.kind_number(), entry.aux());
        if self.of != of {
            let kind = head.kind();
            self.last = plan_kind(kind, entry.options(kind), self.extent, KeepPlan);
            self.of = of;
        }
        &self.last
    }
}

struct KeepPlan;

impl UseCommands for KeepPlan {
    type Output = EntryPlan;

    #[inline(always)]
    fn one(self, template: Template) -> EntryPlan {
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
        with_only_command(&entry, entry.head(), extent, |command| Command::decode(*command))
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
