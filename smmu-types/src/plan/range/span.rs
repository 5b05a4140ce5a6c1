//! The address operands of a TLB invalidation, checked.

use core::fmt;
use core::marker::PhantomData;

use super::RangeGranule;
use crate::spec::bits::{bit, get, mask};
use crate::{FieldError, Granule, Iova, Ipa, Leaf};

mod sealed {
    pub trait Sealed {}
    impl Sealed for crate::Iova {}
    impl Sealed for crate::Ipa {}
}

/// What an invalidation is of: [`Iova`] or [`Ipa`].
pub trait SpanAddress: Copy + sealed::Sealed {
    /// The largest address that the `Address` field holds.
    const MAX: u64;

    #[doc(hidden)]
    fn from_bits(bits: u64) -> Self;
    #[doc(hidden)]
    fn bits(self) -> u64;
}

impl SpanAddress for Iova {
    const MAX: u64 = mask(63, 12);

    fn from_bits(bits: u64) -> Self {
        Iova(bits)
    }
    fn bits(self) -> u64 {
        self.0
    }
}

impl SpanAddress for Ipa {
    const MAX: u64 = mask(55, 12);

    fn from_bits(bits: u64) -> Self {
        Ipa(bits)
    }
    fn bits(self) -> u64 {
        self.0
    }
}

/// A level of translation tables that has leaf entries which `TTL` can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Level {
    /// Level 1.
    L1 = 1,
    /// Level 2.
    L2 = 2,
    /// Level 3.
    L3 = 3,
}

/// `TTL` and `TTL128`: which level holds the leaf entries of a range.
///
/// A wrong hint lets the SMMU keep what it should drop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LevelHint {
    /// Any level.
    Unknown,
    /// A level of tables with 64-bit descriptors.
    Bits64(Level),
    /// A level of tables with 128-bit descriptors.
    Bits128(Level),
}

impl LevelHint {
    /// The hint of a `TTL` with 64-bit descriptors, or `None` above 3.
    #[must_use]
    pub const fn from_ttl(ttl: u8) -> Option<Self> {
        Some(match ttl {
            0 => LevelHint::Unknown,
            1 => LevelHint::Bits64(Level::L1),
            2 => LevelHint::Bits64(Level::L2),
            3 => LevelHint::Bits64(Level::L3),
            _ => return None,
        })
    }

    /// `TTL`.
    #[must_use]
    pub const fn ttl(self) -> u8 {
        match self {
            LevelHint::Unknown => 0,
            LevelHint::Bits64(level) | LevelHint::Bits128(level) => level as u8,
        }
    }

    /// `TTL128`.
    #[must_use]
    pub const fn ttl128(self) -> u8 {
        matches!(self, LevelHint::Bits128(_)) as u8
    }

    /// log2 of what a leaf entry of the level maps; of the granule without a hint.
    #[must_use]
    pub const fn leaf_shift(self, granule: Granule) -> u32 {
        let bits = match self {
            LevelHint::Unknown => return granule.shift(),
            LevelHint::Bits64(_) => granule.shift() - 3,
            LevelHint::Bits128(_) => granule.shift() - 4,
        };
        granule.shift() + (3 - self.ttl() as u32) * bits
    }
}

/// The address operands of one invalidation command (4.4.1.1).
///
/// Only what a command can say, and what has a defined effect, can be built:
///
/// ```
/// use smmu_types::range::{Level, LevelHint, Span};
/// use smmu_types::{Granule, Iova, Ipa, Leaf};
///
/// let blocks = LevelHint::Bits64(Level::L2);
/// let span = Span::ranged(Iova(0x20_0000), Leaf::Last, Granule::K4, 0, 9, blocks).unwrap();
/// assert_eq!(span.bytes(), Some(0x20_0000));
/// // Not aligned to a block of level 2.
/// assert!(Span::ranged(Iova(0x1000), Leaf::Last, Granule::K4, 0, 9, blocks).is_err());
/// assert!(Span::single(Ipa(1 << 56), Leaf::All).is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Span<A> {
    address: u64,
    leaf: Leaf,
    num: u8,
    scale: u8,
    tg: RangeGranule,
    hint: LevelHint,
    of: PhantomData<A>,
}

impl<A> Span<A> {
    /// The largest `NUM`.
    pub const MAX_NUM: u8 = 31;
    /// The largest `SCALE`. Values above 31 need `IDR5.DS`.
    pub const MAX_SCALE: u8 = 39;

    /// From parts that are known to be right: a page of its address type.
    pub(super) const fn single_unchecked(address: u64, leaf: Leaf) -> Self {
        Span {
            address,
            leaf,
            num: 0,
            scale: 0,
            tg: RangeGranule::Single,
            hint: LevelHint::Unknown,
            of: PhantomData,
        }
    }

    /// From parts that are known to be right, as [`ranged`](Self::ranged) checks them.
    pub(super) const fn ranged_unchecked(
        address: u64,
        leaf: Leaf,
        tg: RangeGranule,
        num: u8,
        scale: u8,
        hint: LevelHint,
    ) -> Self {
        Span { address, leaf, num, scale, tg, hint, of: PhantomData }
    }

    /// Whether only last-level entries need to go.
    #[must_use]
    pub const fn leaf(&self) -> Leaf {
        self.leaf
    }

    /// `NUM`: (number of chunks) - 1.
    #[must_use]
    pub const fn num(&self) -> u8 {
        self.num
    }

    /// `SCALE`: a chunk is `1 << SCALE` pages.
    #[must_use]
    pub const fn scale(&self) -> u8 {
        self.scale
    }

    /// `TG`.
    #[must_use]
    pub const fn tg(&self) -> RangeGranule {
        self.tg
    }

    /// `TTL` and `TTL128`.
    #[must_use]
    pub const fn hint(&self) -> LevelHint {
        self.hint
    }

    /// The first address, as a number.
    #[must_use]
    pub const fn start(&self) -> u64 {
        self.address
    }

    /// Number of bytes that the command covers, or `None` for a single address, which covers
    /// whatever entry translates it.
    #[must_use]
    pub const fn bytes(&self) -> Option<u64> {
        match self.tg.granule() {
            // At most 32 << (39 + 16).
            Some(granule) => Some((self.num as u64 + 1) << (self.scale as u32 + granule.shift())),
            None => None,
        }
    }

    // For the same reason as `Command::encode`.
    #[inline(always)]
    pub(crate) const fn encode(&self, w0: u64) -> [u64; 2] {
        // Every part fits, since a span was built of it.
        let w1 = matches!(self.leaf, Leaf::Last) as u64
            | (self.hint.ttl128() as u64) << 7
            | (self.hint.ttl() as u64) << 8
            | self.tg.encoding() << 10;
        [w0 | (self.num as u64) << 12 | (self.scale as u64) << 20, w1 | self.address]
    }
}

impl<A: SpanAddress> Span<A> {
    /// One address, in the form every SMMU takes.
    ///
    /// # Errors
    ///
    /// The address is not aligned to 4 KiB, or an IPA has more than 56 bits.
    pub fn single(address: A, leaf: Leaf) -> Result<Self, FieldError> {
        let address = address.bits();
        check_address::<A>(address, 1 << 12)?;
        Ok(Self::single_unchecked(address, leaf))
    }

    /// `(num + 1) << scale` granules from an address on. Needs `IDR3.RIL`; a scale above 31, and level 1 of
    /// 16 KiB granules, need `IDR5.DS` as well.
    ///
    /// # Errors
    ///
    /// - `num` is above 31 or `scale` above 39.
    /// - The address is not aligned to what a leaf entry of the hinted level maps, or, without a hint, to the
    ///   granule: the range would be unpredictable.
    /// - An IPA has more than 56 bits.
    /// - `num` and `scale` are 0 and there is no hint, which is reserved.
    pub fn ranged(
        address: A,
        leaf: Leaf,
        granule: Granule,
        num: u8,
        scale: u8,
        hint: LevelHint,
    ) -> Result<Self, FieldError> {
        let at_most = |field, value: u8, max: u8| match value > max {
            true => Err(FieldError::TooLarge { field, value: value.into(), max: max.into() }),
            false => Ok(()),
        };
        at_most("NUM", num, Self::MAX_NUM)?;
        at_most("SCALE", scale, Self::MAX_SCALE)?;
        if num == 0 && scale == 0 && hint == LevelHint::Unknown {
            return Err(FieldError::Reserved { field: "TTL", value: 0 });
        }
        let address = address.bits();
        check_address::<A>(address, 1 << hint.leaf_shift(granule))?;
        let tg = RangeGranule::from_granule(granule);
        Ok(Self::ranged_unchecked(address, leaf, tg, num, scale, hint))
    }

    /// The first address.
    #[must_use]
    pub fn address(&self) -> A {
        A::from_bits(self.address)
    }

    /// What the two words of a command say, or `None` for what cannot be built.
    pub(crate) fn decode(w0: u64, w1: u64) -> Option<Self> {
        let address = A::from_bits(w1 & mask(63, 12));
        let leaf = if bit(w1, 0) { Leaf::Last } else { Leaf::All };
        let hint = hint(w1)?;
        match RangeGranule::from_encoding(get(w1, 11, 10)).granule() {
            None => Self::single(address, leaf).ok(),
            Some(granule) => {
                let (num, scale) = (get(w0, 16, 12) as u8, get(w0, 25, 20) as u8);
                Self::ranged(address, leaf, granule, num, scale, hint).ok()
            }
        }
    }
}

/// The operands that an SMMU uses: a scale that the architecture cuts, and an address that is not aligned to its level,
/// for which it says nothing but that the range is unpredictable. Reserved fields stay as they are.
pub(crate) fn effective(w0: u64, w1: u64) -> [u64; 2] {
    const SCALE: u64 = mask(25, 20);
    const NUM: u64 = mask(16, 12);
    const LEVEL: u64 = mask(9, 7);

    let Some(granule) = RangeGranule::from_encoding(get(w1, 11, 10)).granule() else {
        return [w0, w1];
    };
    let (mut w0, mut w1) = (w0, w1);
    if get(w0, 25, 20) > Span::<Iova>::MAX_SCALE as u64 {
        w0 = w0 & !SCALE | (Span::<Iova>::MAX_SCALE as u64) << 20;
    }
    let Some(hint) = hint(w1) else {
        return [w0, w1];
    };
    let unaligned = w1 & mask(63, 12) & ((1 << hint.leaf_shift(granule)) - 1) != 0;
    if unaligned {
        w1 &= !mask(granule.shift() - 1, 0) | mask(11, 0);
        // TTL128 without TTL is reserved and stays.
        if hint != LevelHint::Unknown {
            w1 &= !LEVEL;
            if w0 & (NUM | SCALE) == 0 {
                // Without a level the range of one page is reserved; two pages drop more.
                w0 |= 1 << 12;
            }
        }
    }
    [w0, w1]
}

/// `TTL` and `TTL128`.
fn hint(w1: u64) -> Option<LevelHint> {
    Some(match (LevelHint::from_ttl(get(w1, 9, 8) as u8)?, bit(w1, 7)) {
        (LevelHint::Bits64(level), true) => LevelHint::Bits128(level),
        (hint, _) => hint,
    })
}

fn check_address<A: SpanAddress>(value: u64, align: u64) -> Result<(), FieldError> {
    let field = "Address";
    if value & (align - 1) != 0 {
        return Err(FieldError::Misaligned { field, value, align });
    }
    if value > A::MAX {
        return Err(FieldError::TooLarge { field, value, max: A::MAX });
    }
    Ok(())
}

impl<A: SpanAddress + fmt::Display> fmt::Display for Span<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.address(), self.leaf)?;
        if let Some(granule) = self.tg.granule() {
            let pages = (u64::from(self.num) + 1) << self.scale;
            write!(f, " pages={pages}x{granule} ttl={}", self.hint.ttl())?;
        }
        if let LevelHint::Bits128(_) = self.hint {
            f.write_str(" ttl128=1")?;
        }
        Ok(())
    }
}
