use alloc::boxed::Box;
use core::fmt;
use core::ops::Deref;

use smmu_types::seam::{Notice, Observer};
use smmu_types::{Asid, CacheTag, Regime, SmmuId, Vmid};

use crate::numbers::{Choice, Numbers, PARTS, TagStats};
use crate::sync::Arc;
use crate::vsmmu::VsmmuVmid;
use crate::{FreshTag, TagError, TagKind};

/// Hears of numbers that are lost because their tag was dropped.
pub type Listener = Arc<dyn Observer + Send + Sync>;

/// How long the memory of a space is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Keep {
    /// Until the last handle and the last tag are gone. Each tag counts, which are two more atomic steps in its life, on
    /// one cache line for all.
    #[default]
    WhileUsed,
    /// For ever: for an SMMU that is there for as long as the system is.
    Forever,
}

/// How a space is set up; `N` is [`Asid`] or [`Vmid`].
///
/// ```
/// use smmu_tags::{AsidSpace, Choice, SpaceConfig};
/// use smmu_types::{Asid, CacheTag, Regime, SmmuId};
///
/// let config = SpaceConfig { reserved: &[Asid(1)], choice: Choice::NextFit, ..Default::default() };
/// let space = AsidSpace::with_config(8, config)?;
/// let next = || space.allocate(SmmuId(0), Regime::El1, 8).map(|fresh| fresh.tag());
/// assert_eq!(next()?, CacheTag::Asid(Regime::El1, Asid(2)));
/// assert_eq!(next()?, CacheTag::Asid(Regime::El1, Asid(3)), "though 2 is free again");
/// # Ok::<(), smmu_tags::TagError>(())
/// ```
#[derive(Clone)]
pub struct SpaceConfig<'a, N> {
    /// Never given out: firmware uses them. 0 is reserved anyway, and naming a number twice is no error.
    pub reserved: &'a [N],
    /// Which number is given out.
    pub choice: Choice,
    /// How long the memory is kept.
    pub keep: Keep,
    /// Hears [`Notice::TagDropped`] when a tag that hardware may know is dropped.
    ///
    /// It is called from wherever the tag is dropped; the call itself takes no lock and allocates nothing.
    pub listener: Option<Listener>,
}

impl<N> Default for SpaceConfig<'_, N> {
    fn default() -> Self {
        SpaceConfig {
            reserved: &[],
            choice: Choice::default(),
            keep: Keep::default(),
            listener: None,
        }
    }
}

impl<N: fmt::Debug> fmt::Debug for SpaceConfig<'_, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpaceConfig")
            .field("reserved", &self.reserved)
            .field("choice", &self.choice)
            .field("keep", &self.keep)
            .finish_non_exhaustive()
    }
}

/// Words of 64 bits.
const SHIFT: u32 = 6;

/// The numbers of a space, shared by its handles and by every tag that it gave out.
pub(crate) struct Shared {
    pub(crate) numbers: Numbers<SHIFT>,
    kind: TagKind,
    listener: Option<Listener>,
}

/// What the tags of one part of the numbers count on, so that CPUs with a round each do not write one count. The counts lie
/// before the pointer, and the block is so long that those of two blocks are never on one cache line.
pub(crate) struct Anchor {
    shared: Arc<Shared>,
    _apart: [u64; 9],
}

/// A tag's way to its space.
#[derive(Clone)]
pub(crate) enum Home {
    Counted(Arc<Shared>),
    CountedApart(Arc<Anchor>),
    Forever(&'static Shared),
}

/// A handle's way: that of the tags of each part.
#[derive(Clone)]
struct Homes([Home; PARTS]);

impl Deref for Homes {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0[0]
    }
}

impl Deref for Home {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        match self {
            Home::Counted(shared) => shared,
            Home::CountedApart(anchor) => &anchor.shared,
            Home::Forever(shared) => shared,
        }
    }
}

impl Homes {
    fn bytes(&self) -> usize {
        // Two counts precede what an `Arc` holds.
        const COUNTS: usize = 2 * size_of::<usize>();
        let shared = size_of::<Shared>() + self.numbers.bytes();
        match self.0[0] {
            Home::Counted(_) => COUNTS + shared,
            Home::CountedApart(_) => COUNTS + shared + PARTS * (COUNTS + size_of::<Anchor>()),
            Home::Forever(_) => shared,
        }
    }

    fn new<N: Copy>(
        kind: TagKind,
        bits: u8,
        config: SpaceConfig<'_, N>,
        number: impl Fn(N) -> u16,
    ) -> Result<Self, TagError> {
        let SpaceConfig { reserved, choice, keep, listener } = config;
        let size = width(kind, bits)?;
        let numbers = Numbers::new(size, choice).map_err(|short| TagError::OutOfMemory {
            kind,
            numbers: size,
            bytes: short.0,
        })?;
        let shared = Shared { numbers, kind, listener };
        for &named in reserved {
            match shared.reserve(number(named)) {
                // Nothing is given out yet, so it was named before.
                Ok(()) | Err(TagError::AlreadyTaken { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Homes(match (keep, choice) {
            (Keep::Forever, _) => {
                let shared: &'static Shared = Box::leak(Box::new(shared));
                core::array::from_fn(|_| Home::Forever(shared))
            }
            (Keep::WhileUsed, Choice::NextFitByCpu(_)) => {
                let shared = Arc::new(shared);
                core::array::from_fn(|_| {
                    let shared = Arc::clone(&shared);
                    Home::CountedApart(Arc::new(Anchor { shared, _apart: [0; 9] }))
                })
            }
            (Keep::WhileUsed, Choice::Lowest | Choice::NextFit) => {
                let shared = Arc::new(shared);
                core::array::from_fn(|_| Home::Counted(Arc::clone(&shared)))
            }
        }))
    }

    #[inline]
    fn take(
        &self,
        smmu: SmmuId,
        limit: u32,
        tag: impl FnOnce(u16) -> CacheTag,
    ) -> Result<FreshTag, TagError> {
        match self.numbers.take(limit) {
            Some(number) => {
                let home = self.0[self.numbers.part_of(number)].clone();
                Ok(FreshTag::new(home, smmu, tag(number)))
            }
            None => Err(self.exhausted(smmu, limit)),
        }
    }
}

/// A width that exists, as the number of values it has.
fn width(kind: TagKind, bits: u8) -> Result<u32, TagError> {
    match bits {
        8 | 16 => Ok(1 << bits),
        _ => Err(TagError::BadWidth { kind, bits }),
    }
}

impl Shared {
    fn reserve(&self, number: u16) -> Result<(), TagError> {
        let kind = self.kind;
        if u32::from(number) >= self.numbers.numbers() {
            return Err(TagError::OutOfRange { kind, number, last: self.numbers.numbers() - 1 });
        }
        match self.numbers.reserve(number) {
            true => Ok(()),
            false => Err(TagError::AlreadyTaken { kind, number }),
        }
    }

    #[cold]
    fn exhausted(&self, smmu: SmmuId, limit: u32) -> TagError {
        TagError::Exhausted {
            kind: self.kind,
            smmu,
            limit: limit - 1,
            reserved: self.numbers.reserved(),
            quarantined: self.numbers.quarantined(),
        }
    }

    /// A tag that hardware may know was dropped.
    pub(crate) fn lost(&self, smmu: SmmuId, tag: CacheTag) {
        if let Some(listener) = &self.listener {
            listener.notice(Notice::TagDropped { smmu, tag });
        }
    }
}

macro_rules! common {
    ($space:ident, $number:ident) => {
        impl $space {
            /// Never give out this number: firmware uses it. 0 never is.
            ///
            /// Numbers that are known beforehand belong into [`SpaceConfig::reserved`]. This one may race with
            /// allocations; it takes the number if nobody has it, in one atomic step, or says that somebody does.
            ///
            /// # Errors
            ///
            /// [`TagError::OutOfRange`]; or [`TagError::AlreadyTaken`], also if it was reserved before.
            pub fn reserve(&self, number: $number) -> Result<(), TagError> {
                self.shared.reserve(number.0)
            }

            /// How many numbers are in which state.
            ///
            /// Exact while no other thread changes anything. Otherwise each count is that of a moment of its own during the
            /// call, where a number on its way from one state to another counts in either, or in both. Where that
            /// makes no difference they add up to the capacity. Reads every word of the bitmap.
            #[must_use]
            pub fn stats(&self) -> TagStats {
                self.shared.numbers.stats()
            }

            /// The most numbers that hardware ever knew at once: in use, retiring or quarantined.
            ///
            /// Counted whenever a tag is installed. If other threads install or free at that very moment, theirs may be
            /// counted or not.
            #[must_use]
            pub fn high_water(&self) -> u32 {
                self.shared.numbers.high_water()
            }

            /// The bytes of memory that the space has, all told: 8,792 at 16 bits, of which 8,328 are
            /// the bitmap, and 504 at 8 bits, on a 64-bit machine; 384 more with [`Choice::NextFitByCpu`].
            #[must_use]
            pub fn bytes(&self) -> usize {
                self.shared.bytes()
            }
        }
    };
}

/// A space of ASIDs, for one SMMU or several.
///
/// A handle: clones share the numbers. A space that serves several SMMUs gives no number to two of
/// them at once. If they differ in width, the narrow ones compete with the wide ones for the
/// lowest 255 numbers; a space of its own for each SMMU avoids that.
#[derive(Clone)]
pub struct AsidSpace {
    shared: Homes,
}

common!(AsidSpace, Asid);

impl AsidSpace {
    /// A space of 2^`bits` numbers, of which 0 is never given out. `bits` is 8 or 16.
    ///
    /// # Errors
    ///
    /// [`TagError::BadWidth`], or [`TagError::OutOfMemory`] for the bitmap (8,328 bytes at most).
    pub fn new(bits: u8) -> Result<Self, TagError> {
        Self::with_config(bits, SpaceConfig::default())
    }

    /// The same, with reserved numbers and other choices.
    ///
    /// # Errors
    ///
    /// As for [`new`](Self::new), or [`TagError::OutOfRange`] for a reserved number.
    pub fn with_config(bits: u8, config: SpaceConfig<'_, Asid>) -> Result<Self, TagError> {
        let shared = Homes::new(TagKind::Asid, bits, config, |asid| asid.0)?;
        Ok(AsidSpace { shared })
    }

    /// A free ASID that `smmu`, whose ASIDs are `bits` wide, can use: the one that [`Choice`] says. Does not allocate
    /// memory.
    ///
    /// # Errors
    ///
    /// [`TagError::Exhausted`], or [`TagError::BadWidth`].
    #[inline]
    pub fn allocate(&self, smmu: SmmuId, regime: Regime, bits: u8) -> Result<FreshTag, TagError> {
        let limit = width(TagKind::Asid, bits)?.min(self.shared.numbers.numbers());
        self.shared.take(smmu, limit, |number| CacheTag::Asid(regime, Asid(number)))
    }
}

impl fmt::Debug for AsidSpace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsidSpace").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

/// The VMIDs of one SMMU.
///
/// A handle: clones share the numbers.
#[derive(Clone)]
pub struct VmidSpace {
    shared: Homes,
    smmu: SmmuId,
}

common!(VmidSpace, Vmid);

impl VmidSpace {
    /// The 2^`bits` VMIDs of `smmu`, of which 0 is never given out. `bits` is 8 or 16.
    ///
    /// # Errors
    ///
    /// [`TagError::BadWidth`], or [`TagError::OutOfMemory`] for the bitmap (8,328 bytes at most).
    pub fn new(smmu: SmmuId, bits: u8) -> Result<Self, TagError> {
        Self::with_config(smmu, bits, SpaceConfig::default())
    }

    /// The same, with reserved numbers and other choices.
    ///
    /// # Errors
    ///
    /// As for [`new`](Self::new), or [`TagError::OutOfRange`] for a reserved number.
    pub fn with_config(
        smmu: SmmuId,
        bits: u8,
        config: SpaceConfig<'_, Vmid>,
    ) -> Result<Self, TagError> {
        let shared = Homes::new(TagKind::Vmid, bits, config, |vmid| vmid.0)?;
        Ok(VmidSpace { shared, smmu })
    }

    /// A free VMID: the one that [`Choice`] says. Does not allocate memory.
    ///
    /// # Errors
    ///
    /// [`TagError::Exhausted`].
    #[inline]
    pub fn allocate(&self) -> Result<FreshTag, TagError> {
        let tag = |number| CacheTag::Vmid(Vmid(number));
        self.shared.take(self.smmu, self.shared.numbers.numbers(), tag)
    }

    /// A free VMID that a virtual SMMU has from now to its end.
    ///
    /// # Errors
    ///
    /// [`TagError::Exhausted`].
    pub fn allocate_for_vsmmu(&self) -> Result<VsmmuVmid, TagError> {
        Ok(VsmmuVmid::new(self.allocate()?))
    }

    /// The SMMU whose VMIDs these are.
    #[must_use]
    pub fn smmu(&self) -> SmmuId {
        self.smmu
    }
}

impl fmt::Debug for VmidSpace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VmidSpace")
            .field("smmu", &self.smmu)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
