//! The address operands of a TLB invalidation, checked.

use core::fmt;
use core::marker::PhantomData;

use super::range_granule::RangeGranule;
use crate::fields::commands::tlbi_nh_va::{self, LEAF, NUM, SCALE, TG, TTL, TTL128};
use crate::fields::commands::tlbi_s2_ipa;
use crate::spec::sealed::Sealed;
use crate::{FieldError, Granule, Iova, Ipa, Leaf, RawCommand};

/// The kind of address that a command invalidates: [`Iova`] or [`Ipa`].
pub trait SpanAddress: Copy + Sealed {
    /// The largest address that the `Address` field holds.
    const MAX: u64;

    #[doc(hidden)]
    fn from_bits(bits: u64) -> Self;
    #[doc(hidden)]
    fn bits(self) -> u64;
}

impl Sealed for Iova {}
impl Sealed for Ipa {}

impl SpanAddress for Iova {
    const MAX: u64 = tlbi_nh_va::ADDRESS.max();

    fn from_bits(bits: u64) -> Self {
        Iova(bits)
    }
    fn bits(self) -> u64 {
        self.0
    }
}

impl SpanAddress for Ipa {
    const MAX: u64 = tlbi_s2_ipa::ADDRESS.max();

    fn from_bits(bits: u64) -> Self {
        Ipa(bits)
    }
    fn bits(self) -> u64 {
        self.0
    }
}

/// A level of translation tables with leaf entries, as `TTL` names it.
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
/// A wrong hint lets the SMMU keep an entry that it must drop.
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

    /// log2 of the bytes that a leaf entry of the level maps; without a hint, of the granule.
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
/// The constructors accept only operands that a command can hold and that have a defined effect:
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

    /// One page of `A`, without a check: the caller knows that the parts are valid.
    pub(crate) const fn single_unchecked(address: u64, leaf: Leaf) -> Self {
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

    /// As [`ranged`](Self::ranged), without its checks: the caller knows that the parts are valid.
    pub(crate) const fn ranged_unchecked(
        address: u64,
        leaf: Leaf,
        tg: RangeGranule,
        num: u8,
        scale: u8,
        hint: LevelHint,
    ) -> Self {
        Span { address, leaf, num, scale, tg, hint, of: PhantomData }
    }

    /// Whether the SMMU may drop last-level entries only (`Leaf`).
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

    /// Number of bytes that the command covers. `None` for a single address: the command drops the
    /// entry that translates it, whatever its size.
    #[must_use]
    pub const fn bytes(&self) -> Option<u64> {
        match self.tg.granule() {
            // No overflow: at most 32 << (39 + 16).
            Some(granule) => Some((self.num as u64 + 1) << (self.scale as u32 + granule.shift())),
            None => None,
        }
    }

    // Inlined, as `Command::encode` is. All commands by address have these fields in the same
    // place.
    #[inline(always)]
    pub(crate) const fn encode(&self, command: RawCommand) -> RawCommand {
        // Every part fits, because a constructor has checked it.
        command
            .put(NUM, self.num as u64)
            .put(SCALE, self.scale as u64)
            .put(LEAF, matches!(self.leaf, Leaf::Last) as u64)
            .put(TTL128, self.hint.ttl128() as u64)
            .put(TTL, self.hint.ttl() as u64)
            .put(TG, self.tg.encoding())
            .put(tlbi_nh_va::ADDRESS, self.address)
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

    /// `(num + 1) << scale` granules, beginning at an address. The SMMU must have `IDR3.RIL`. A
    /// scale above 31 and level 1 of 16 KiB granules need `IDR5.DS` as well.
    ///
    /// # Errors
    ///
    /// - `num` is above 31 or `scale` above 39.
    /// - The address is not aligned to the size of a leaf entry of the hinted level or, without a
    ///   hint, to the granule. The SMMU would invalidate an unpredictable range.
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

    /// The operands of a command by address, or `None` if no constructor builds them.
    pub(crate) fn decode(command: RawCommand) -> Option<Self> {
        // Read with the wider of the two address fields; `single` and `ranged` check an IPA.
        let address = A::from_bits(command.get(tlbi_nh_va::ADDRESS));
        let leaf = if command.is_set(LEAF) { Leaf::Last } else { Leaf::All };
        let hint = hint(command)?;
        match RangeGranule::from_encoding(command.get(TG)).granule() {
            None => Self::single(address, leaf).ok(),
            Some(granule) => {
                let (num, scale) = (command.get(NUM) as u8, command.get(SCALE) as u8);
                Self::ranged(address, leaf, granule, num, scale, hint).ok()
            }
        }
    }
}

/// The operands as an SMMU uses them. It cuts a scale above 39. An address that is not aligned to
/// its level makes the range unpredictable; here the command loses its level. Reserved fields stay
/// as they are.
pub(crate) fn effective(command: RawCommand) -> RawCommand {
    let Some(granule) = RangeGranule::from_encoding(command.get(TG)).granule() else {
        return command;
    };
    let mut used = command;
    if command.get(SCALE) > Span::<Iova>::MAX_SCALE as u64 {
        used = used.without(SCALE).put(SCALE, Span::<Iova>::MAX_SCALE as u64);
    }
    let Some(hint) = hint(command) else {
        return used;
    };
    let address = command.get(tlbi_nh_va::ADDRESS);
    if address & ((1 << hint.leaf_shift(granule)) - 1) != 0 {
        let aligned = address & !(granule.bytes() - 1);
        used = used.without(tlbi_nh_va::ADDRESS).put(tlbi_nh_va::ADDRESS, aligned);
        // TTL128 without TTL is reserved and stays.
        if hint != LevelHint::Unknown {
            used = used.without(TTL).without(TTL128);
            if !used.is_set(NUM) && !used.is_set(SCALE) {
                // One page without a level is reserved; two pages drop more, which is safe.
                used = used.put(NUM, 1);
            }
        }
    }
    used
}

/// `TTL` and `TTL128`.
fn hint(command: RawCommand) -> Option<LevelHint> {
    Some(match (LevelHint::from_ttl(command.get(TTL) as u8)?, command.is_set(TTL128)) {
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
