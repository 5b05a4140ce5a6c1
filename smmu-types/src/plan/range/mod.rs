//! From a range of addresses to TLB invalidation commands (IHI 0070, 4.4.1.1).
//!
//! An SMMU with range invalidation (`IDR3.RIL`) takes spans of `(NUM + 1) << SCALE` pages. `SCALE` is
//! at most 31, and with `IDR5.DS` at most 39. Without range invalidation each command covers one leaf entry. For a large range one flush of the whole tag is then
//! cheaper than the commands.
//!
//! ```
//! use smmu_types::range::{Extent, Plan, RangeSupport, plan};
//! use smmu_types::{Granule, Iova, Leaf};
//!
//! let extent = Extent::range(0, 513 * 4096, Granule::K4, Leaf::Last).with_page_hint();
//! let Plan::Spans(spans) = plan::<Iova>(RangeSupport::Ril, extent) else {
//!     unreachable!("513 pages are not everything");
//! };
//! let spans: Vec<_> = spans.map(|s| (s.address(), s.num(), s.scale())).collect();
//! assert_eq!(spans, [(Iova(0), 0, 0), (Iova(0x1000), 0, 9)]);
//! ```

use core::marker::PhantomData;

pub use crate::spec::caps::RangeSupport;
pub use crate::spec::command::{Level, LevelHint, RangeGranule, Span, SpanAddress};

use crate::{Granule, Leaf};

/// What to send for a range.
#[derive(Clone, Debug)]
pub enum Plan<A> {
    /// Flush the whole tag: the range is too large for commands by address.
    Everything,
    /// One command for each span.
    Spans(Spans<A>),
}

/// A range of addresses whose translations changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Extent {
    /// First address.
    pub address: u64,
    /// Bytes; 0 means everything.
    pub size: u64,
    /// Granule of the table.
    pub granule: Granule,
    /// log2 of the bytes that each leaf of the range maps. `None` if the leaves differ or their
    /// size is unknown. A wrong value lets the SMMU keep an entry that it must drop.
    ///
    /// A size that no level of the granule's tables maps counts as `None`, for example a contiguous
    /// run: the SMMU may cache its pages one by one.
    pub block_shift: Option<u32>,
    /// Whether the tables above the leaves are unchanged.
    pub leaf: Leaf,
}

impl Extent {
    /// All addresses of a tag.
    #[must_use]
    pub const fn everything(granule: Granule) -> Self {
        Extent { address: 0, size: 0, granule, block_shift: None, leaf: Leaf::All }
    }

    /// A range of addresses without a level hint. It is correct for every table.
    #[must_use]
    pub const fn range(address: u64, size: u64, granule: Granule, leaf: Leaf) -> Self {
        Extent { address, size, granule, block_shift: None, leaf }
    }

    /// Adds the hint that each leaf of the range maps `1 << shift` bytes.
    ///
    /// A caller gives it only if every leaf of the range had this size. After a wrong hint the SMMU
    /// may keep the entry that the command must drop, and a device continues to use it (`TTL`, IHI
    /// 0070, 4.4.1). A size that no level of the granule's tables maps gives no hint.
    #[must_use]
    pub const fn with_leaf_hint(self, shift: u32) -> Self {
        Extent { block_shift: Some(shift), ..self }
    }

    /// Adds the hint that pages map the whole range, and no block maps any of it.
    ///
    /// [`with_leaf_hint`](Self::with_leaf_hint) says what a wrong hint costs. The usual mistake is
    /// a 2 MiB range that one block maps.
    #[must_use]
    pub const fn with_page_hint(self) -> Self {
        self.with_leaf_hint(self.granule.shift())
    }

    /// The level of the range's leaves, or `None` if no level that `TTL` can name has leaves of
    /// that size.
    const fn level(&self) -> Option<Level> {
        let (Some(shift), granule) = (self.block_shift, self.granule.shift()) else {
            return None;
        };
        if shift == granule {
            // The usual case, without the division.
            return Some(Level::L3);
        }
        if shift < granule || !(shift - granule).is_multiple_of(granule - 3) {
            return None;
        }
        match (shift - granule) / (granule - 3) {
            1 => Some(Level::L2),
            2 => Some(Level::L1),
            _ => None,
        }
    }
}

/// Ranges of so many pages and more are flushed as a whole: a chunk may not fit into `SCALE`.
const MAX_PAGES: u64 = 1 << 32;
/// The same where `SCALE` has 6 bits. Values above 39 count as 39.
const MAX_PAGES_DS: u64 = 1 << 40;

/// Plans the invalidation of an extent.
///
/// The plan covers whole granules, and whole leaves if their level is known. It widens the range by
/// less than one leaf at each end, which is up to 4 TiB for level 1 of 64 KiB granules. Without a
/// level a span may reach one granule further, because the encoding of a single granule is
/// reserved. The SMMU then drops entries beyond the end of the extent as well.
///
/// The result is [`Plan::Everything`] for a range that reaches the end of the address space or that
/// `A` cannot hold. It is also that
///
/// - for 2^32 pages and more with [`RangeSupport::Ril`], 2^40 with [`RangeSupport::RilDs`];
/// - with [`RangeSupport::Single`], for a range that needs as many commands as a table of the granule
///   has entries of 8 bytes.
#[must_use]
pub fn plan<A: SpanAddress>(support: RangeSupport, extent: Extent) -> Plan<A> {
    let Extent { address, size, granule, block_shift: _, leaf } = extent;
    let leaves = extent.level().map_or(LevelHint::Unknown, LevelHint::Bits64);
    let hint = match leaf {
        Leaf::Last => leaves,
        Leaf::All => LevelHint::Unknown,
    };
    // The bytes that one command without a range covers; both ends of the range are widened to it.
    let (step, align) = match support {
        RangeSupport::Ril | RangeSupport::RilDs => (granule.shift(), hint.leaf_shift(granule)),
        // One command drops the entry that translates its address, whatever its size.
        RangeSupport::Single => (leaves.leaf_shift(granule), leaves.leaf_shift(granule)),
    };
    let mask = (1u64 << align) - 1;
    let Some(end) = address.checked_add(size).and_then(|e| e.checked_add(mask)) else {
        return Plan::Everything;
    };
    let (address, end) = (address & !mask, end & !mask);
    let mut steps = (end - address) >> step;
    // The limit is one command per entry of a table, whatever each entry maps.
    let too_many = match support {
        RangeSupport::Ril => MAX_PAGES,
        RangeSupport::RilDs => MAX_PAGES_DS,
        RangeSupport::Single => 1 << (granule.shift() - 3),
    };
    if size == 0 || steps >= too_many || end - 1 > A::MAX | 0xfff {
        return Plan::Everything;
    }
    if support != RangeSupport::Single && hint == LevelHint::Unknown && steps & 31 == 1 {
        // NUM = SCALE = TTL = 0 with TG set is reserved, so invalidate one page more.
        steps += 1;
    }
    Plan::Spans(Spans { support, address, steps, step, granule, leaf, hint, of: PhantomData })
}

/// The spans of a [`Plan`], smallest chunk first.
#[derive(Clone, Debug)]
pub struct Spans<A> {
    support: RangeSupport,
    address: u64,
    steps: u64,
    step: u32,
    granule: Granule,
    leaf: Leaf,
    hint: LevelHint,
    of: PhantomData<A>,
}

impl<A: SpanAddress> Iterator for Spans<A> {
    type Item = Span<A>;

    fn next(&mut self) -> Option<Span<A>> {
        if self.steps == 0 {
            return None;
        }
        let address = self.address;
        // `plan` has checked the address and its alignment; each chunk is a multiple of the
        // alignment.
        let (span, steps) = match self.support {
            RangeSupport::Single => (Span::single_unchecked(address, self.leaf), 1),
            RangeSupport::Ril | RangeSupport::RilDs => {
                let scale = self.steps.trailing_zeros();
                let chunks = self.steps >> scale & 31;
                let tg = RangeGranule::from_granule(self.granule);
                let (num, scale8) = ((chunks - 1) as u8, scale as u8);
                let span = Span::ranged_unchecked(address, self.leaf, tg, num, scale8, self.hint);
                (span, chunks << scale)
            }
        };
        self.steps -= steps;
        self.address = address.wrapping_add(steps << self.step);
        Some(span)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use crate::{Iova, Ipa};
    use rstest::rstest;
    use std::vec::Vec;

    const K: u64 = 1 << 10;
    const M: u64 = 1 << 20;
    const G: u64 = 1 << 30;

    type SpanRow = (u64, u8, u8, u64, u8);

    fn rows(support: RangeSupport, extent: Extent) -> Option<Vec<SpanRow>> {
        let row = |s: Span<Iova>| {
            // The planner's unchecked spans equal those of the checked constructors.
            let checked = match s.tg().granule() {
                None => Span::single(s.address(), s.leaf()),
                Some(tg) => Span::ranged(s.address(), s.leaf(), tg, s.num(), s.scale(), s.hint()),
            };
            assert_eq!(checked, Ok(s));
            (s.start(), s.num(), s.scale(), s.tg().encoding(), s.hint().ttl())
        };
        match plan(support, extent) {
            Plan::Everything => None,
            Plan::Spans(spans) => Some(spans.map(row).collect()),
        }
    }

    fn extent(address: u64, size: u64, block: u32, leaf: Leaf) -> Extent {
        Extent { address, size, granule: Granule::K4, block_shift: Some(block), leaf }
    }

    // Values from outside: what Linux's driver sends for these ranges.
    #[rstest]
    #[case(extent(0x1000, 4 * K, 12, Leaf::Last), &[(0x1000, 0, 0, 1, 3)])]
    #[case(extent(0x1000, 4 * K, 12, Leaf::All), &[(0x1000, 0, 1, 1, 0)])]
    #[case(extent(2 * M, 2 * M, 21, Leaf::Last), &[(2 * M, 0, 9, 1, 2)])]
    #[case(extent(G, G, 30, Leaf::Last), &[(G, 0, 18, 1, 1)])]
    #[case(extent(0, 513 * 4 * K, 12, Leaf::Last), &[(0, 0, 0, 1, 3), (0x1000, 0, 9, 1, 3)])]
    #[case(extent(0, 31 * 4 * K, 12, Leaf::Last), &[(0, 30, 0, 1, 3)])]
    #[case(extent(0, 32 * 4 * K, 12, Leaf::Last), &[(0, 0, 5, 1, 3)])]
    fn ril_matches_vectors(#[case] extent: Extent, #[case] want: &[SpanRow]) {
        assert_eq!(rows(RangeSupport::Ril, extent).unwrap(), want);
    }

    #[rstest]
    #[case(12, 2 * M - 4 * K, Some(511))]
    #[case(12, 2 * M, None)]
    #[case(21, 2 * M, Some(1))]
    #[case(21, G - 2 * M, Some(511))]
    #[case(21, G, None)]
    #[case(30, 511 * G, Some(511))]
    #[case(30, 512 * G, None)]
    // A contiguous run of 16 pages is not a leaf.
    #[case(16, 64 * K, Some(16))]
    fn without_ril_storms_become_one_flush(
        #[case] block: u32,
        #[case] size: u64,
        #[case] commands: Option<usize>,
    ) {
        let got = rows(RangeSupport::Single, extent(0, size, block, Leaf::Last));
        assert_eq!(got.map(|r| r.len()), commands);
    }

    #[rstest]
    fn ril_covers_exactly_and_never_uses_the_reserved_form(
        #[values(Leaf::Last, Leaf::All)] leaf: Leaf,
        #[values(None, Some(12))] block_shift: Option<u32>,
    ) {
        for pages in 1..5000u64 {
            let extent = Extent {
                address: 0x7000,
                size: pages << 12,
                granule: Granule::K4,
                block_shift,
                leaf,
            };
            let Plan::Spans(spans) = plan::<Iova>(RangeSupport::Ril, extent) else {
                panic!("too large")
            };
            let mut next = 0x7000;
            for span in spans {
                assert_eq!(span.start(), next);
                assert!(span.hint().ttl() != 0 || span.num() != 0 || span.scale() != 0);
                assert!(span.num() < 32 && span.scale() <= 31);
                next += span.bytes().unwrap();
            }
            let end = 0x7000 + (pages << 12);
            assert!(next == end || (next == end + 4096 && pages & 31 == 1), "{pages} pages");
        }
    }

    #[rstest]
    fn every_power_of_two_survives_its_encoding(
        #[values(Granule::K4, Granule::K16, Granule::K64)] granule: Granule,
        #[values(1, 3, 31)] factor: u64,
        #[values((RangeSupport::Ril, 32, 31), (RangeSupport::RilDs, 40, 39))] limits: (
            RangeSupport,
            u32,
            u8,
        ),
    ) {
        use crate::{Asid, Command, Vmid};
        let (support, pages_log2, max_scale) = limits;
        for log2 in 0..44 {
            let size = (factor << log2) << granule.shift();
            let extent = Extent::range(0, size, granule, Leaf::Last).with_page_hint();
            let Plan::Spans(spans) = plan(support, extent) else {
                let limit = 1 << pages_log2;
                assert!(factor << log2 >= limit, "{factor} << {log2} pages are not everything");
                continue;
            };
            assert!(factor << log2 < 1 << pages_log2, "{factor} << {log2} pages have a plan");
            let covered: u64 = spans
                .map(|span| {
                    assert!(span.scale() <= max_scale);
                    let (vmid, asid) = (Vmid(0), Asid(1));
                    let sent = Command::TlbiNhVa { vmid, asid, span };
                    match Command::decode(sent.encode()) {
                        Command::TlbiNhVa { span, .. } => span.bytes().unwrap(),
                        other => panic!("{other}"),
                    }
                })
                .sum();
            assert_eq!(covered, size);
        }
    }

    // Values from the architecture: SCALE 32 to 39 need IDR5.DS.
    #[rstest]
    #[case::the_first_that_ril_flushes(1 << 32, &[(0, 0, 32, 1, 3)])]
    #[case::one_page_more((1 << 32) + 1, &[(0, 0, 0, 1, 3), (0x1000, 0, 32, 1, 3)])]
    #[case::largest_scale(1 << 39, &[(0, 0, 39, 1, 3)])]
    #[case::two_chunks(3 << 38, &[(0, 2, 38, 1, 3)])]
    fn ds_has_spans_of_2_to_the_32_pages(#[case] pages: u64, #[case] want: &[SpanRow]) {
        let extent = extent(0, pages << 12, 12, Leaf::Last);
        assert_eq!(rows(RangeSupport::RilDs, extent).unwrap(), want);
        assert_eq!(rows(RangeSupport::Ril, extent), None);
    }

    #[test]
    fn ds_flushes_2_to_the_40_pages_as_a_whole() {
        let largest = rows(RangeSupport::RilDs, extent(0, ((1 << 40) - 1) << 12, 12, Leaf::Last));
        assert_eq!(largest.unwrap().len(), 8);
        assert_eq!(rows(RangeSupport::RilDs, extent(0, 1 << 52, 12, Leaf::Last)), None);
    }

    #[rstest]
    fn below_2_to_the_32_pages_ds_changes_nothing(
        #[values(Granule::K4, Granule::K16, Granule::K64)] granule: Granule,
        #[values(None, Some(0), Some(1))] level: Option<u32>,
        #[values(Leaf::Last, Leaf::All)] leaf: Leaf,
    ) {
        let block_shift = level.map(|level| granule.shift() + level * (granule.shift() - 3));
        for pages in (1..3000).chain((0..32).map(|log2| (1 << log2) | 0x21)) {
            let size = pages << granule.shift();
            let extent = Extent { address: 0x7_0000, size, granule, block_shift, leaf };
            assert_eq!(rows(RangeSupport::RilDs, extent), rows(RangeSupport::Ril, extent));
        }
    }

    #[rstest]
    #[case::size_zero(0, 0)]
    #[case::end_of_space(u64::MAX - 4095, 4096)]
    #[case::wraps(u64::MAX, u64::MAX)]
    #[case::huge(0, 1 << 44)]
    #[case::larger(1 << 44, 1 << 47)]
    fn everything(#[case] address: u64, #[case] size: u64) {
        assert_eq!(rows(RangeSupport::Ril, extent(address, size, 12, Leaf::Last)), None);
    }

    #[rstest]
    #[case::unaligned_start(2 * M + 4 * K, 2 * M, &[(2 * M, 0, 10, 1, 2)])]
    #[case::unaligned_end(2 * M, 4 * K, &[(2 * M, 0, 9, 1, 2)])]
    #[case::three_blocks(2 * M, 6 * M, &[(2 * M, 2, 9, 1, 2)])]
    fn ranges_with_a_hint_are_whole_leaves(
        #[case] address: u64,
        #[case] size: u64,
        #[case] want: &[SpanRow],
    ) {
        assert_eq!(rows(RangeSupport::Ril, extent(address, size, 21, Leaf::Last)).unwrap(), want);
    }

    #[rstest]
    #[case(RangeSupport::Ril)]
    #[case(RangeSupport::Single)]
    fn an_ipa_beyond_56_bits_is_everything(#[case] support: RangeSupport) {
        let within = extent((1 << 56) - 0x1000, 0x1000, 12, Leaf::Last);
        assert!(matches!(plan::<Ipa>(support, within), Plan::Spans(_)));
        let beyond = Extent { address: 1 << 56, ..within };
        assert!(matches!(plan::<Ipa>(support, beyond), Plan::Everything));
        assert!(matches!(plan::<Iova>(support, beyond), Plan::Spans(_)));
    }

    #[test]
    fn widens_to_whole_granules() {
        let got = rows(RangeSupport::Ril, extent(0x1fff, 2, 12, Leaf::Last)).unwrap();
        assert_eq!(got, [(0x1000, 0, 1, 1, 3)]);
    }
}
