//! From a range of addresses to TLB invalidation commands (IHI 0070, 4.4.1.1).
//!
//! An SMMU with range invalidation (`IDR3.RIL`) takes spans of `(NUM + 1) << SCALE` pages. Without
//! it each command covers one granule, and from a certain size on one flush of the whole tag is
//! cheaper than a storm of commands.
//!
//! ```
//! use smmu_types::range::{Extent, Plan, RangeSupport, plan};
//! use smmu_types::{Granule, Leaf};
//!
//! let extent = Extent::pages(0, 513 * 4096, Granule::K4, Leaf::Last);
//! let Plan::Spans(spans) = plan(RangeSupport::Ril, extent) else {
//!     unreachable!("513 pages are not everything");
//! };
//! let spans: Vec<_> = spans.map(|s| (s.address, s.num, s.scale)).collect();
//! assert_eq!(spans, [(0, 0, 0), (0x1000, 0, 9)]);
//! ```

use core::fmt;

use crate::{Granule, Leaf};

/// The `TG` field of a ranged command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RangeGranule {
    /// 0: no range, and no level hint; one address.
    Single,
    /// 4 KiB pages.
    K4,
    /// 16 KiB pages.
    K16,
    /// 64 KiB pages.
    K64,
}

impl RangeGranule {
    pub(crate) const fn encoding(self) -> u64 {
        match self {
            RangeGranule::Single => 0,
            RangeGranule::K4 => 1,
            RangeGranule::K16 => 2,
            RangeGranule::K64 => 3,
        }
    }

    pub(crate) const fn from_encoding(value: u64) -> Self {
        match value & 3 {
            1 => RangeGranule::K4,
            2 => RangeGranule::K16,
            3 => RangeGranule::K64,
            _ => RangeGranule::Single,
        }
    }

    /// The page size that `NUM` and `SCALE` count in, or `None` for a single address.
    #[must_use]
    pub const fn granule(self) -> Option<Granule> {
        match self {
            RangeGranule::Single => None,
            RangeGranule::K4 => Some(Granule::K4),
            RangeGranule::K16 => Some(Granule::K16),
            RangeGranule::K64 => Some(Granule::K64),
        }
    }
}

impl From<Granule> for RangeGranule {
    fn from(granule: Granule) -> Self {
        match granule {
            Granule::K4 => RangeGranule::K4,
            Granule::K16 => RangeGranule::K16,
            Granule::K64 => RangeGranule::K64,
        }
    }
}

/// The address operands of one invalidation command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Span<A> {
    /// First address; bits 11:0 are not encoded.
    pub address: A,
    /// Whether only last-level entries need to go.
    pub leaf: Leaf,
    /// `NUM`: (number of chunks) - 1. The field has 5 bits; the others are not encoded.
    pub num: u8,
    /// `SCALE`: a chunk is `1 << SCALE` pages. The field has 5 bits; the others are not encoded.
    pub scale: u8,
    /// `TG`.
    pub tg: RangeGranule,
    /// `TTL`, 2 bits: level of the leaf entries, 0 for unknown.
    pub ttl: u8,
}

impl<A> Span<A> {
    /// One address, in the form every SMMU takes.
    pub const fn single(address: A, leaf: Leaf) -> Self {
        Span { address, leaf, num: 0, scale: 0, tg: RangeGranule::Single, ttl: 0 }
    }

    /// The same span with its address converted.
    pub fn map<B>(self, convert: impl FnOnce(A) -> B) -> Span<B> {
        let Span { address, leaf, num, scale, tg, ttl } = self;
        Span { address: convert(address), leaf, num, scale, tg, ttl }
    }

    /// Number of bytes that the command covers, or `None` for a single address, which covers
    /// whatever entry translates it.
    #[must_use]
    pub const fn bytes(&self) -> Option<u64> {
        match self.tg.granule() {
            // Fields of 5 bits: at most 32 << (31 + 16).
            Some(granule) => {
                Some(((self.num & 31) as u64 + 1) << ((self.scale & 31) as u32 + granule.shift()))
            }
            None => None,
        }
    }
}

impl<A: fmt::Display> fmt::Display for Span<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.address, self.leaf)?;
        if let Some(granule) = self.tg.granule() {
            let pages = (u64::from(self.num & 31) + 1) << (self.scale & 31);
            write!(f, " pages={pages}x{granule} ttl={}", self.ttl)?;
        }
        Ok(())
    }
}

/// Whether an SMMU takes ranged commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RangeSupport {
    /// `IDR3.RIL` = 1.
    Ril,
    /// `IDR3.RIL` = 0: one command per granule.
    Single,
}

/// What to send for a range.
#[derive(Clone, Debug)]
pub enum Plan {
    /// The range is so large that one flush of the whole tag is better.
    Everything,
    /// One command for each span.
    Spans(Spans),
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
    /// log2 of the bytes that each leaf of the range maps, where all are alike; `None` where they
    /// differ or nobody knows. A wrong value lets the SMMU keep what it should drop.
    pub block_shift: Option<u32>,
    /// Whether tables above the leaves are untouched.
    pub leaf: Leaf,
}

impl Extent {
    /// Everything that a tag may hold.
    #[must_use]
    pub const fn everything(granule: Granule) -> Self {
        Extent { address: 0, size: 0, granule, block_shift: None, leaf: Leaf::All }
    }

    /// A range mapped by pages of the granule's own size.
    #[must_use]
    pub const fn pages(address: u64, size: u64, granule: Granule, leaf: Leaf) -> Self {
        Extent { address, size, granule, block_shift: Some(granule.shift()), leaf }
    }

    /// `TTL` of the range's leaves: 0 for unknown.
    const fn ttl(&self) -> u8 {
        let (Some(shift), Leaf::Last) = (self.block_shift, self.leaf) else { return 0 };
        let bits = self.granule.shift() - 3;
        if shift < self.granule.shift() {
            return 0;
        }
        match (shift - 3) / bits {
            above @ 1..=3 if (shift - self.granule.shift()).is_multiple_of(bits) => 4 - above as u8,
            _ => 0,
        }
    }
}

/// From 2^32 pages on a chunk may not fit into `SCALE`; no such range is worth spans.
const MAX_PAGES: u64 = 1 << 32;

/// Plan the invalidation of an extent, widened outwards to whole granules.
///
/// A range that reaches the end of the address space counts as everything.
#[must_use]
pub fn plan(support: RangeSupport, extent: Extent) -> Plan {
    let Extent { address, size, granule, block_shift, leaf } = extent;
    let step = match support {
        RangeSupport::Ril => granule.shift(),
        // One command drops the entry that translates its address, however large that is.
        RangeSupport::Single => match block_shift {
            Some(shift) if shift > granule.shift() && shift < 60 => shift,
            _ => granule.shift(),
        },
    };
    let mask = (1u64 << step) - 1;
    let Some(end) = address.checked_add(size).and_then(|e| e.checked_add(mask)) else {
        return Plan::Everything;
    };
    let address = address & !mask;
    let mut steps = ((end & !mask) - address) >> step;
    // One command per entry of a last-level table is where the storm begins.
    let too_many = match support {
        RangeSupport::Ril => MAX_PAGES,
        RangeSupport::Single => 1 << (step - 3).min(32),
    };
    if size == 0 || steps >= too_many {
        return Plan::Everything;
    }
    let ttl = extent.ttl();
    if support == RangeSupport::Ril && ttl == 0 && steps & 31 == 1 {
        // NUM = SCALE = TTL = 0 with TG set is reserved; one page more is harmless.
        steps += 1;
    }
    Plan::Spans(Spans { support, address, steps, step, granule, leaf, ttl })
}

/// The spans of a [`Plan`], smallest chunk first.
#[derive(Clone, Debug)]
pub struct Spans {
    support: RangeSupport,
    address: u64,
    steps: u64,
    step: u32,
    granule: Granule,
    leaf: Leaf,
    ttl: u8,
}

impl Iterator for Spans {
    type Item = Span<u64>;

    fn next(&mut self) -> Option<Span<u64>> {
        if self.steps == 0 {
            return None;
        }
        let address = self.address;
        let (span, steps) = match self.support {
            RangeSupport::Single => (Span::single(address, self.leaf), 1),
            RangeSupport::Ril => {
                let scale = self.steps.trailing_zeros();
                let chunks = self.steps >> scale & 31;
                let span = Span {
                    address,
                    leaf: self.leaf,
                    num: (chunks - 1) as u8,
                    scale: scale as u8,
                    tg: self.granule.into(),
                    ttl: self.ttl,
                };
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
    use rstest::rstest;
    use std::vec::Vec;

    const K: u64 = 1 << 10;
    const M: u64 = 1 << 20;
    const G: u64 = 1 << 30;

    type Row = (u64, u8, u8, u64, u8);

    fn rows(support: RangeSupport, extent: Extent) -> Option<Vec<Row>> {
        match plan(support, extent) {
            Plan::Everything => None,
            Plan::Spans(spans) => {
                Some(spans.map(|s| (s.address, s.num, s.scale, s.tg.encoding(), s.ttl)).collect())
            }
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
    fn ril_matches_vectors(#[case] extent: Extent, #[case] want: &[Row]) {
        assert_eq!(rows(RangeSupport::Ril, extent).unwrap(), want);
    }

    #[rstest]
    #[case(12, 2 * M - 4 * K, Some(511))]
    #[case(12, 2 * M, None)]
    #[case(21, 2 * M, Some(1))]
    #[case(21, 512 * G, None)]
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
            let Plan::Spans(spans) = plan(RangeSupport::Ril, extent) else { panic!("too large") };
            let mut next = 0x7000;
            for span in spans {
                assert_eq!(span.address, next);
                assert!(span.ttl != 0 || span.num != 0 || span.scale != 0);
                assert!(span.num < 32 && span.scale < 32);
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
    ) {
        use crate::{Asid, Command, Iova, Vmid};
        for log2 in 0..40 {
            let size = (factor << log2) << granule.shift();
            let extent = Extent::pages(0, size, granule, Leaf::Last);
            let Plan::Spans(spans) = plan(RangeSupport::Ril, extent) else {
                assert!(factor << log2 >= 1 << 32, "{factor} << {log2} pages are not everything");
                continue;
            };
            let covered: u64 = spans
                .map(|span| {
                    let (vmid, asid) = (Vmid(0), Asid(1));
                    let sent = Command::TlbiNhVa { vmid, asid, span: span.map(Iova) };
                    match Command::decode(sent.encode()) {
                        Command::TlbiNhVa { span, .. } => span.bytes().unwrap(),
                        other => panic!("{other}"),
                    }
                })
                .sum();
            assert_eq!(covered, size);
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

    #[test]
    fn widens_to_whole_granules() {
        let got = rows(RangeSupport::Ril, extent(0x1fff, 2, 12, Leaf::Last)).unwrap();
        assert_eq!(got, [(0x1000, 0, 1, 1, 3)]);
    }
}
