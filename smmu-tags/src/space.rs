//! The public spaces: handles that share the numbers, and how a space is set up.

use core::fmt;
use core::ops::Deref;

use smmu_types::{Asid, CacheTag, Counted, OutOfMemory, Regime, SmmuId, Vmid};

use crate::home::{Anchor, Home, Listener, SpaceInner};
use crate::numbers::{Choice, Numbers, PARTS, TagStats};
use crate::vsmmu::VsmmuVmid;
use crate::{FreshTag, TagError, TagKind};

/// How long a space keeps its memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Keep {
    /// Until the last handle and the last tag are dropped. Each tag counts as a user: two more
    /// atomic steps in its life, on a cache line that all tags share.
    #[default]
    WhileUsed,
    /// For ever. Meant for an SMMU that lasts as long as the system.
    Forever,
}

/// The set-up of a space; `N` is [`Asid`] or [`Vmid`].
///
/// ```
/// use smmu_tags::{AsidSpace, Choice, SpaceConfig};
/// use smmu_types::{Asid, CacheTag, Regime, SmmuId};
///
/// let reserved = &[Asid(1)];
/// let config = SpaceConfig { reserved, choice: Choice::NextFit, ..Default::default() };
/// let space = AsidSpace::with_config(8, config)?;
/// let next = || space.allocate(SmmuId(0), Regime::El1, 8).map(|fresh| fresh.tag());
/// assert_eq!(next()?, CacheTag::Asid(Regime::El1, Asid(2)));
/// assert_eq!(next()?, CacheTag::Asid(Regime::El1, Asid(3)), "though 2 is free again");
/// # Ok::<(), smmu_tags::TagError>(())
/// ```
#[derive(Clone)]
pub struct SpaceConfig<'a, N> {
    /// Numbers that firmware uses; the space never gives them out. 0 is always reserved. A number
    /// may appear twice.
    pub reserved: &'a [N],
    /// Which number the space gives out next.
    pub choice: Choice,
    /// How long the space keeps its memory.
    pub keep: Keep,
    /// Receives a [`Notice::TagDropped`] for each dropped tag that the hardware may know.
    ///
    /// The thread that drops the tag calls it, without a lock and without allocating.
    ///
    /// [`Notice::TagDropped`]: smmu_types::seam::Notice::TagDropped
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

/// A handle's references, one for the tags of each part.
#[derive(Clone)]
struct Homes([Home; PARTS]);

impl Deref for Homes {
    type Target = SpaceInner;

    fn deref(&self) -> &SpaceInner {
        &self.0[0]
    }
}

impl Homes {
    fn bytes(&self) -> usize {
        let shared = Counted::<SpaceInner>::BYTES + self.numbers.bytes();
        match self.0[0] {
            Home::Counted(_) | Home::Forever(_) => shared,
            Home::CountedApart(_) => shared + PARTS * Counted::<Anchor>::BYTES,
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
        let no_memory = |bytes| TagError::OutOfMemory { kind, numbers: size, bytes };
        let numbers = Numbers::new(size, choice).map_err(|short| no_memory(short.0))?;
        let shared = SpaceInner { numbers, kind, listener };
        for &named in reserved {
            match shared.reserve(number(named)) {
                // No number is given out yet, so the list names this one twice.
                Ok(()) | Err(TagError::AlreadyTaken { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let no_memory = |short: OutOfMemory| no_memory(short.bytes);
        let shared = Counted::new(shared).map_err(no_memory)?;
        Ok(Homes(match (keep, choice) {
            (Keep::Forever, _) => {
                let shared = Counted::leak(shared);
                core::array::from_fn(|_| Home::Forever(shared))
            }
            (Keep::WhileUsed, Choice::NextFitByCpu(_)) => {
                let anchor = || {
                    let anchor = Anchor { _apart: [0; 9], shared: shared.clone() };
                    Counted::new(anchor).map(Home::CountedApart).map_err(no_memory)
                };
                [anchor()?, anchor()?, anchor()?, anchor()?]
            }
            (Keep::WhileUsed, Choice::Lowest | Choice::NextFit) => {
                core::array::from_fn(|_| Home::Counted(shared.clone()))
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

    fn take_this(
        &self,
        smmu: SmmuId,
        limit: u32,
        number: u16,
        tag: CacheTag,
    ) -> Result<FreshTag, TagError> {
        let (kind, last) = (self.kind, limit - 1);
        if number == 0 {
            return Err(TagError::Zero { kind, last });
        }
        if u32::from(number) > last {
            return Err(TagError::OutOfRange { kind, number, last });
        }
        if !self.numbers.take_this(number) {
            return Err(TagError::NotFree { kind, smmu, number });
        }
        let home = self.0[self.numbers.part_of(number)].clone();
        Ok(FreshTag::new(home, smmu, tag))
    }
}

/// The number of values of a width, if the architecture has that width.
fn width(kind: TagKind, bits: u8) -> Result<u32, TagError> {
    match bits {
        8 | 16 => Ok(1 << bits),
        _ => Err(TagError::BadWidth { kind, bits }),
    }
}

macro_rules! common {
    ($space:ident, $number:ident) => {
        impl $space {
            /// Reserves a number that firmware uses: the space never gives it out. 0 is always
            /// reserved.
            ///
            /// Put numbers that are known beforehand into [`SpaceConfig::reserved`]. This call may
            /// race with allocations: in one atomic step it takes the number, or finds that it is
            /// taken.
            ///
            /// # Errors
            ///
            /// [`TagError::OutOfRange`]; [`TagError::AlreadyTaken`], also if the number was
            /// reserved before.
            pub fn reserve(&self, number: $number) -> Result<(), TagError> {
                self.shared.reserve(number.0)
            }

            /// How many numbers are in which state. Reads every word of the bitmap.
            ///
            /// Exact while no other thread uses the space. Otherwise each count is true of some
            /// moment during the call, but not all of the same moment: a number that changes its
            /// state meanwhile may count in either state or in both. If none does, the counts add
            /// up to the capacity.
            #[must_use]
            pub fn stats(&self) -> TagStats {
                self.shared.numbers.stats()
            }

            /// The most numbers that the hardware ever knew at once: in use, retiring or
            /// quarantined.
            ///
            /// Updated whenever a tag is installed. A tag that another thread installs or frees at
            /// the same time may count or not.
            #[must_use]
            pub fn high_water(&self) -> u32 {
                self.shared.numbers.high_water()
            }

            /// The size of the space in bytes: 8,840 at 16 bits, of which 8,328 are the bitmap, and
            /// 552 at 8 bits, on a 64-bit machine; 352 more with [`Choice::NextFitByCpu`].
            #[must_use]
            pub fn bytes(&self) -> usize {
                self.shared.bytes()
            }
        }
    };
}

/// A space of ASIDs, for one SMMU or several.
///
/// A handle: clones share the numbers. A space that serves several SMMUs never gives one number to
/// two of them at once. If they differ in width, the narrow SMMUs compete with the wide ones for
/// the lowest 255 numbers. A space for each SMMU avoids that.
#[derive(Clone)]
pub struct AsidSpace {
    shared: Homes,
}

common!(AsidSpace, Asid);

impl AsidSpace {
    /// A space of 2^`bits` numbers, which never gives out 0. `bits` is 8 or 16.
    ///
    /// # Errors
    ///
    /// [`TagError::BadWidth`] or [`TagError::OutOfMemory`].
    pub fn new(bits: u8) -> Result<Self, TagError> {
        Self::with_config(bits, SpaceConfig::default())
    }

    /// Like [`new`](Self::new), with reserved numbers and other choices.
    ///
    /// # Errors
    ///
    /// As for [`new`](Self::new), or [`TagError::OutOfRange`] for a reserved number.
    pub fn with_config(bits: u8, config: SpaceConfig<'_, Asid>) -> Result<Self, TagError> {
        let shared = Homes::new(TagKind::Asid, bits, config, |asid| asid.0)?;
        Ok(AsidSpace { shared })
    }

    /// Gives out a free ASID for `smmu`, whose ASIDs are `bits` wide. [`Choice`] says which. Does
    /// not allocate memory.
    ///
    /// # Errors
    ///
    /// [`TagError::Exhausted`], or [`TagError::BadWidth`].
    #[inline]
    pub fn allocate(&self, smmu: SmmuId, regime: Regime, bits: u8) -> Result<FreshTag, TagError> {
        let limit = width(TagKind::Asid, bits)?.min(self.shared.numbers.numbers());
        self.shared.take(smmu, limit, |number| CacheTag::Asid(regime, Asid(number)))
    }

    /// Gives out exactly this ASID, for example the one that a CPU uses for the same tables.
    ///
    /// One atomic step takes the number, or finds that it is not free. Any thread may call it in
    /// any context, also while others allocate. Does not allocate memory. `bits` is the width of
    /// the ASIDs of `smmu`.
    ///
    /// # Errors
    ///
    /// [`TagError::NotFree`], [`TagError::Zero`], [`TagError::OutOfRange`] or
    /// [`TagError::BadWidth`].
    pub fn claim(
        &self,
        smmu: SmmuId,
        regime: Regime,
        bits: u8,
        asid: Asid,
    ) -> Result<FreshTag, TagError> {
        let limit = width(TagKind::Asid, bits)?.min(self.shared.numbers.numbers());
        self.shared.take_this(smmu, limit, asid.0, CacheTag::Asid(regime, asid))
    }

    /// Whether both are handles of one space.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        core::ptr::eq::<SpaceInner>(&*self.shared, &*other.shared)
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
    /// The 2^`bits` VMIDs of `smmu`. The space never gives out 0. `bits` is 8 or 16.
    ///
    /// # Errors
    ///
    /// [`TagError::BadWidth`] or [`TagError::OutOfMemory`].
    pub fn new(smmu: SmmuId, bits: u8) -> Result<Self, TagError> {
        Self::with_config(smmu, bits, SpaceConfig::default())
    }

    /// Like [`new`](Self::new), with reserved numbers and other choices.
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

    /// Gives out a free VMID. [`Choice`] says which. Does not allocate memory.
    ///
    /// # Errors
    ///
    /// [`TagError::Exhausted`].
    #[inline]
    pub fn allocate(&self) -> Result<FreshTag, TagError> {
        let tag = |number| CacheTag::Vmid(Vmid(number));
        self.shared.take(self.smmu, self.shared.numbers.numbers(), tag)
    }

    /// Gives out exactly this VMID. A hypervisor calls it if a virtual machine has one VMID for
    /// the CPUs and the SMMU.
    ///
    /// One atomic step takes the number, or finds that it is not free. Any thread may call it in
    /// any context, also while others allocate. Does not allocate memory.
    ///
    /// ```
    /// use smmu_tags::{TagError, VmidSpace};
    /// use smmu_types::{CacheTag, SmmuId, Vmid};
    ///
    /// let space = VmidSpace::new(SmmuId(0), 16)?;
    /// let of_the_machine = Vmid(7); // VTTBR_EL2.VMID
    /// let fresh = space.claim(of_the_machine)?;
    /// assert_eq!(fresh.tag(), CacheTag::Vmid(Vmid(7)));
    /// assert!(matches!(space.claim(Vmid(7)), Err(TagError::NotFree { number: 7, .. })));
    /// drop(fresh); // free again
    /// assert!(space.claim(Vmid(7)).is_ok());
    /// # Ok::<(), TagError>(())
    /// ```
    ///
    /// [`allocate`](Self::allocate) does not know which numbers a caller will claim, and may give
    /// them out before. So a hypervisor either claims every VMID, or reserves a range, gives that
    /// range to guests without devices, and allocates the VMIDs of the others here.
    ///
    /// # Errors
    ///
    /// [`TagError::NotFree`], [`TagError::Zero`] or [`TagError::OutOfRange`].
    pub fn claim(&self, vmid: Vmid) -> Result<FreshTag, TagError> {
        let limit = self.shared.numbers.numbers();
        self.shared.take_this(self.smmu, limit, vmid.0, CacheTag::Vmid(vmid))
    }

    /// Gives out a free VMID for a virtual SMMU, which owns it from now to its end.
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
