//! No plan takes more commands than needed: plans against the best of all, by exhaustive search on
//! small ranges.

#![expect(clippy::unwrap_used, reason = "a helper of tests")]

use rstest::rstest;
use smmu_types::range::{Extent, Plan, RangeSupport, plan};
use smmu_types::{AtcSpan, Granule, Iova, Leaf};

const PAGES: usize = 4200;

/// Whether one command may cover so many pages: a single page without a level is reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum One {
    Allowed,
    Reserved,
}

/// The fewest commands of `(NUM + 1) << SCALE` pages that exactly cover each number of pages.
fn fewest(one: One) -> Vec<usize> {
    let mut sizes: Vec<usize> =
        (1..=32).flat_map(|chunks| (0..=31).map(move |scale| chunks << scale)).collect();
    sizes.retain(|size| *size <= PAGES && (one == One::Allowed || *size > 1));
    sizes.sort_unstable();
    sizes.dedup();
    let mut fewest = vec![0];
    for pages in 1..=PAGES {
        let before = sizes.iter().take_while(|size| **size <= pages).map(|size| pages - size);
        let best = before.map(|rest| fewest[rest]).min().unwrap_or(usize::MAX / 2);
        fewest.push(best + 1);
    }
    fewest
}

/// `None` for a flush of the whole tag.
fn commands(support: RangeSupport, extent: Extent) -> Option<usize> {
    match plan::<Iova>(support, extent) {
        Plan::Everything => None,
        Plan::Spans(spans) => Some(spans.count()),
    }
}

#[rstest]
fn no_ranged_plan_has_a_command_too_many(
    #[values(Granule::K4, Granule::K16, Granule::K64)] granule: Granule,
    // Leaves of levels 3, 2 and 1.
    #[values(0, 1, 2)] level: u32,
    #[values((RangeSupport::Ril, 32), (RangeSupport::RilDs, 40))] limits: (RangeSupport, u32),
) {
    let (support, pages_log2) = limits;
    let shift = granule.shift() + level * (granule.shift() - 3);
    for (leaves, best) in fewest(One::Allowed).into_iter().enumerate().skip(1) {
        let size = (leaves as u64) << shift;
        if size >> granule.shift() >= 1 << pages_log2 {
            // The plan flushes the whole tag for such a range.
            break;
        }
        let (address, block_shift, leaf) = (3 << shift, Some(shift), Leaf::Last);
        let extent = Extent { address, size, granule, block_shift, leaf };
        assert_eq!(commands(support, extent), Some(best), "{leaves} leaves of 2^{shift}");
    }
}

/// A number of pages that ends with so many zeros takes as many commands as the number without
/// them.
#[rstest]
fn nor_has_a_plan_of_2_to_the_32_pages_and_more(#[values(28, 30, 32, 35)] zeros: u32) {
    let granule = Granule::K4;
    for (chunks, best) in fewest(One::Allowed).into_iter().enumerate().skip(1) {
        let pages = (chunks as u64) << zeros;
        if pages >= 1 << 40 {
            break;
        }
        let extent = Extent::range(0, pages << 12, granule, Leaf::Last).with_page_hint();
        assert_eq!(commands(RangeSupport::RilDs, extent), Some(best), "{chunks} << {zeros} pages");
    }
}

/// A plan may cover one page more, if a single page would remain. That never takes a further
/// command.
#[rstest]
fn nor_has_one_without_a_level(
    #[values(Granule::K4, Granule::K16, Granule::K64)] granule: Granule,
) {
    let fewest = fewest(One::Reserved);
    for pages in 1..PAGES {
        let size = (pages as u64) << granule.shift();
        let (block_shift, leaf) = (None, Leaf::All);
        let extent = Extent { address: 0, size, granule, block_shift, leaf };
        let best = match pages & 31 {
            1 => fewest[pages].min(fewest[pages + 1]),
            _ => fewest[pages],
        };
        assert_eq!(commands(RangeSupport::Ril, extent), Some(best), "{pages} pages");
        assert_eq!(commands(RangeSupport::RilDs, extent), Some(best), "{pages} pages");
    }
}

/// The smallest aligned power of two that covers both addresses, by search.
fn smallest_around(one: u64, other: u64) -> AtcSpan {
    let holds = |size: u32| one >> (12 + size) == other >> (12 + size);
    match (0..52).find(|size| holds(*size)) {
        Some(size) => AtcSpan::new(Iova(one >> (12 + size) << (12 + size)), size as u8).unwrap(),
        None => AtcSpan::EVERYTHING,
    }
}

#[rstest]
#[case::at_the_start(0)]
#[case::in_the_midst(0x1_2345_6000)]
#[case::across_a_high_bit((1 << 40) - (40 << 12))]
#[case::across_the_middle((1 << 63) - (40 << 12))]
#[case::at_the_end(0_u64.wrapping_sub(80 << 12))]
fn an_atc_span_is_the_smallest_with_both_ends(#[case] base: u64) {
    for one in 0..80 {
        for other in 0..80 {
            // Any byte of the two pages.
            let (one, other) = (base + (one << 12) + 0xfff, base + (other << 12));
            let span = AtcSpan::covering(Iova(one), Iova(other));
            assert_eq!(span, smallest_around(one, other), "{one:#x} {other:#x}");
        }
    }
}

#[test]
fn an_atc_span_has_every_size() {
    for bit in 0..64 {
        let span = AtcSpan::covering(Iova(0), Iova(1 << bit));
        assert_eq!(u32::from(span.size()), (bit + 1_u32).saturating_sub(12), "bit {bit}");
        assert_eq!(span, smallest_around(0, 1 << bit));
    }
}
