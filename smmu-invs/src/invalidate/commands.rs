//! How an extent is invalidated in each way: commands without their tags.

use smmu_types::range::{Extent, Plan, RangeSupport, Span, SpanAddress, Spans, plan};
use smmu_types::{
    Asid, AtcScope, AtcSpan, CacheTag, Command, Iova, Ipa, Regime, StreamId, SubstreamId, Vmid,
};

/// Commands are copied from a template and then get their tag or stream: building each anew costs more than all else.
pub(super) trait Name: Copy {
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

pub(super) const CLEAR: Command = Command::TlbiNhAll { vmid: Vmid(0) };

pub(super) const ATC_ALL: Command = atc_inv(AtcSpan::EVERYTHING);

pub(super) const fn atc_inv(span: AtcSpan) -> Command {
    let (stream, scope) = (StreamId(0), AtcScope::Substream);
    Command::AtcInv { stream, substream: None, scope, span }
}

/// A [`Plan`] that is carried out for many tags.
pub(super) enum Planned<A> {
    /// One command, without its tag.
    One(Command),
    Many(Spans<A>, fn(Span<A>) -> Command),
}

impl<A: SpanAddress> Planned<A> {
    pub(super) fn new(
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
pub(super) struct Plans<'e> {
    pub(super) extent: &'e Extent,
    el1: [Option<Planned<Iova>>; 2],
    el2: [Option<Planned<Iova>>; 2],
    stage2: [Option<Planned<Ipa>>; 2],
    atc: Option<Command>,
}

impl<'e> Plans<'e> {
    #[inline]
    pub(super) const fn of(extent: &'e Extent) -> Self {
        Plans { extent, el1: [None, None], el2: [None, None], stage2: [None, None], atc: None }
    }

    #[inline]
    pub(super) fn el1(&mut self, support: RangeSupport) -> &Planned<Iova> {
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
    pub(super) fn el2(&mut self, support: RangeSupport) -> &Planned<Iova> {
        self.el2[support as usize].get_or_insert_with(|| {
            let tag = CacheTag::Asid(Regime::El2, Asid(0));
            Planned::new(support, self.extent, tag, |span| Command::TlbiEl2Va {
                asid: Asid(0),
                span,
            })
        })
    }

    #[inline]
    pub(super) fn stage2(&mut self, support: RangeSupport) -> &Planned<Ipa> {
        self.stage2[support as usize].get_or_insert_with(|| {
            Planned::new(support, self.extent, CacheTag::Vmid(Vmid(0)), |span| Command::TlbiS2Ipa {
                vmid: Vmid(0),
                span,
            })
        })
    }

    #[inline]
    pub(super) fn atc(&mut self) -> &Command {
        self.atc.get_or_insert_with(|| atc_inv(atc_span(self.extent)))
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
        let extent = Extent::range(address, bytes, Granule::K4, Leaf::Last).with_page_hint();
        assert_eq!(Ok(atc_span(&extent)), AtcSpan::new(Iova(want), size));
    }

    #[test]
    fn atc_spans_cover_whole_granules() {
        let extent = Extent::range(0x1_2000, 0x1000, Granule::K64, Leaf::Last).with_page_hint();
        assert_eq!(Ok(atc_span(&extent)), AtcSpan::new(Iova(0x1_0000), 4));
    }
}
