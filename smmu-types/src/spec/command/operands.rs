//! Operands of commands, with checked constructors.

use core::fmt;

use super::RawCommand;
use crate::fields::commands::{atc_inv, cfgi_ste_range, prefetch_addr, sync};
use crate::layout::attempt;
use crate::{FieldError, Iova, PhysAddr, Shareability};

/// Whether the SMMU may keep cached entries of the levels above the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Leaf {
    /// Only the last level changed: `Leaf` = 1.
    Last,
    /// Any level may have changed: `Leaf` = 0.
    All,
}

impl fmt::Display for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Leaf::Last => "leaf=1",
            Leaf::All => "leaf=0",
        })
    }
}

/// `Range` of a `CMD_CFGI_STE_RANGE` that is not a `CMD_CFGI_ALL`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SteRange(u8);

impl SteRange {
    /// The largest range, of 2^31 STEs.
    pub const MAX: u8 = 30;

    /// The range of 2^(`range` + 1) STEs.
    ///
    /// # Errors
    ///
    /// `range` is above 30: 31 is [`CfgiAll`](crate::Command::CfgiAll).
    pub const fn new(range: u8) -> Result<Self, FieldError> {
        if range > Self::MAX {
            let (value, max) = (range as u64, Self::MAX as u64);
            return Err(FieldError::TooLarge { field: cfgi_ste_range::RANGE.name(), value, max });
        }
        Ok(SteRange(range))
    }

    /// The field: log2 of the number of STEs, minus 1.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }

    /// Number of STEs.
    #[must_use]
    pub const fn entries(self) -> u32 {
        2 << self.0
    }
}

impl fmt::Display for SteRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The addresses of a `CMD_ATC_INV`: `1 << size` pages of 4 KiB, aligned to that size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AtcSpan {
    address: u64,
    size: u8,
}

impl AtcSpan {
    /// The size that means all addresses.
    pub const MAX_SIZE: u8 = 52;
    /// All addresses.
    pub const EVERYTHING: Self = AtcSpan { address: 0, size: Self::MAX_SIZE };

    /// The span of `1 << size` pages, beginning at an address.
    ///
    /// # Errors
    ///
    /// The size is above 52, or the address is not aligned to it.
    pub const fn new(address: Iova, size: u8) -> Result<Self, FieldError> {
        let value = address.0;
        if size > Self::MAX_SIZE {
            let (value, max) = (size as u64, Self::MAX_SIZE as u64);
            return Err(FieldError::TooLarge { field: atc_inv::SIZE.name(), value, max });
        }
        if size == Self::MAX_SIZE && value != 0 {
            return Err(FieldError::TooLarge { field: atc_inv::ADDRESS.name(), value, max: 0 });
        }
        if size < Self::MAX_SIZE && value & ((1 << (size + 12)) - 1) != 0 {
            let align = 1 << (size + 12);
            return Err(FieldError::Misaligned { field: atc_inv::ADDRESS.name(), value, align });
        }
        Ok(AtcSpan { address: value, size })
    }

    /// The smallest span that contains both addresses.
    #[must_use]
    pub const fn covering(one: Iova, other: Iova) -> Self {
        let size = (u64::BITS - ((one.0 ^ other.0) >> 12).leading_zeros()) as u8;
        if size >= Self::MAX_SIZE {
            return Self::EVERYTHING;
        }
        AtcSpan { address: one.0 >> (size + 12) << (size + 12), size }
    }

    /// The first address.
    #[must_use]
    pub const fn address(self) -> Iova {
        Iova(self.address)
    }

    /// log2 of the number of 4 KiB pages; 52 for everything.
    #[must_use]
    pub const fn size(self) -> u8 {
        self.size
    }
}

impl fmt::Display for AtcSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} size={}", self.address(), self.size)
    }
}

/// Whether a `CMD_ATC_INV` with a SubstreamID drops the entries of every PASID (`Global`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AtcScope {
    /// `Global` = 0: entries of the SubstreamID.
    #[default]
    Substream,
    /// `Global` = 1: global entries, whatever the PASID. Ignored without a SubstreamID.
    Global,
}

/// The addresses of a `CMD_PREFETCH_ADDR`: `1 << size` translations, `4096 << stride` bytes apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PrefetchSpan {
    address: u64,
    stride: u8,
    size: u8,
}

impl PrefetchSpan {
    /// The span that begins at an address. On SMMUv3.0 the `stride` must be 0.
    ///
    /// # Errors
    ///
    /// The address is not aligned to 4 KiB, or a number is above 31.
    pub const fn new(address: Iova, stride: u8, size: u8) -> Result<Self, FieldError> {
        attempt!(prefetch_addr::ADDRESS.place(address.0));
        attempt!(prefetch_addr::STRIDE.place(stride as u64));
        attempt!(prefetch_addr::SIZE.place(size as u64));
        Ok(PrefetchSpan { address: address.0, stride, size })
    }

    /// The first address.
    #[must_use]
    pub const fn address(self) -> Iova {
        Iova(self.address)
    }

    /// log2 of the distance between two translations, in 4 KiB.
    #[must_use]
    pub const fn stride(self) -> u8 {
        self.stride
    }

    /// log2 of the number of translations.
    #[must_use]
    pub const fn size(self) -> u8 {
        self.size
    }

    pub(super) const fn encode(self, command: RawCommand) -> RawCommand {
        command
            .put(prefetch_addr::SIZE, self.size as u64)
            .put(prefetch_addr::STRIDE, self.stride as u64)
            .put(prefetch_addr::ADDRESS, self.address)
    }

    pub(super) fn decode(raw: RawCommand) -> Option<Self> {
        let address = Iova(raw.get(prefetch_addr::ADDRESS));
        let (stride, size) = (raw.get(prefetch_addr::STRIDE), raw.get(prefetch_addr::SIZE));
        Self::new(address, stride as u8, size as u8).ok()
    }
}

impl fmt::Display for PrefetchSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} stride={} size={}", self.address(), self.stride, self.size)
    }
}

/// `Resp` of a `CMD_PRI_RESP`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum PriResponse {
    /// `ResponseFailure`: the device must not send requests again.
    Failure = 0,
    /// `InvalidRequest`: software could not provide a page of the group.
    Invalid = 1,
    /// `Success`: software has provided all pages of the group.
    Success = 2,
}

impl fmt::Display for PriResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PriResponse::Failure => "failure",
            PriResponse::Invalid => "invalid",
            PriResponse::Success => "success",
        })
    }
}

/// What a `CMD_RESUME` does with a stalled transaction (`Ac` and `Ab`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ResumeAction {
    /// It completes: reads return zero, writes are ignored. With `IDR0.TERM_MODEL` = 1 the SMMU
    /// aborts it.
    Terminate = 0,
    /// The SMMU retries it.
    Retry = 1,
    /// The SMMU aborts it.
    Abort = 2,
}

impl fmt::Display for ResumeAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ResumeAction::Terminate => "terminate",
            ResumeAction::Retry => "retry",
            ResumeAction::Abort => "abort",
        })
    }
}

/// The attributes of a `CMD_SYNC`'s MSI write: `MSH` and `MSIAttr`. Without an MSI they have no
/// meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MsiAttributes {
    shareability: Shareability,
    memory: u8,
}

impl MsiAttributes {
    /// Normal memory, Inner Shareable, Write-Back inside and outside.
    pub const WRITE_BACK: Self = MsiAttributes { shareability: Shareability::Inner, memory: 0xf };

    /// All zero: Device-nGnRnE.
    pub const DEVICE: Self = MsiAttributes { shareability: Shareability::NonShareable, memory: 0 };

    /// A shareability and a memory type, encoded as `STE.MemAttr`.
    ///
    /// # Errors
    ///
    /// The shareability is the reserved one, or the memory type does not fit into 4 bits.
    pub const fn new(shareability: Shareability, memory: u8) -> Result<Self, FieldError> {
        attempt!(sync::MSIATTR.place(memory as u64));
        attempt!(shareability.checked(sync::MSH.name()));
        Ok(MsiAttributes { shareability, memory })
    }

    /// `MSH`.
    #[must_use]
    pub const fn shareability(self) -> Shareability {
        self.shareability
    }

    /// `MSIAttr`, encoded as `STE.MemAttr`.
    #[must_use]
    pub const fn memory(self) -> u8 {
        self.memory
    }

    pub(super) const fn encode(self, command: RawCommand) -> RawCommand {
        command.put(sync::MSH, self.shareability as u64).put(sync::MSIATTR, self.memory as u64)
    }

    pub(super) fn decode(raw: RawCommand) -> Option<Self> {
        let shareability = Shareability::from_encoding(raw.get(sync::MSH));
        Self::new(shareability, raw.get(sync::MSIATTR) as u8).ok()
    }
}

/// The MSI of a `CMD_SYNC`: 32 bits of data and an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SyncMsi {
    address: u64,
    data: u32,
}

impl SyncMsi {
    /// An MSI.
    ///
    /// # Errors
    ///
    /// The address is not aligned to 4 bytes, has more than 56 bits, or is 0, which means no MSI.
    pub const fn new(address: PhysAddr, data: u32) -> Result<Self, FieldError> {
        if address.0 == 0 {
            return Err(FieldError::Reserved { field: sync::MSIADDRESS.name(), value: 0 });
        }
        Ok(SyncMsi { address: attempt!(sync::MSIADDRESS.place(address.0)), data })
    }

    /// The address of the MSI.
    #[must_use]
    pub const fn address(self) -> PhysAddr {
        PhysAddr(self.address)
    }

    /// The data.
    #[must_use]
    pub const fn data(self) -> u32 {
        self.data
    }
}

/// How the SMMU signals that a `CMD_SYNC` is complete (`CS`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Completion {
    /// `SIG_NONE`: `CMDQ_CONS` moves past it, and there is no signal.
    None,
    /// `SIG_IRQ` without an address: the wired interrupt of `CMD_SYNC`.
    Interrupt,
    /// `SIG_IRQ` with an address: the SMMU writes 32 bits of data there.
    Msi(SyncMsi),
    /// `SIG_SEV`: an event for `WFE`.
    Event,
}

impl Completion {
    /// `CS`.
    pub(super) const SIG_NONE: u64 = 0;
    pub(super) const SIG_IRQ: u64 = 1;
    pub(super) const SIG_SEV: u64 = 2;

    pub(super) const fn encode(self, command: RawCommand) -> RawCommand {
        match self {
            Completion::None => command.put(sync::CS, Self::SIG_NONE),
            Completion::Interrupt => command.put(sync::CS, Self::SIG_IRQ),
            Completion::Event => command.put(sync::CS, Self::SIG_SEV),
            Completion::Msi(msi) => command
                .put(sync::CS, Self::SIG_IRQ)
                .put(sync::MSIDATA, msi.data as u64)
                .put(sync::MSIADDRESS, msi.address),
        }
    }

    pub(super) fn decode(raw: RawCommand) -> Option<Self> {
        let [_, w1] = raw.0;
        Some(match raw.get(sync::CS) {
            Self::SIG_NONE => Completion::None,
            Self::SIG_IRQ if w1 == 0 => Completion::Interrupt,
            Self::SIG_IRQ => {
                let data = raw.get(sync::MSIDATA) as u32;
                // Check the whole word: reserved bits beside the address are an error.
                Completion::Msi(SyncMsi::new(PhysAddr(w1), data).ok()?)
            }
            Self::SIG_SEV => Completion::Event,
            _ => return None,
        })
    }
}

impl fmt::Display for Completion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Completion::None => Ok(()),
            Completion::Interrupt => f.write_str(" cs=irq"),
            Completion::Msi(msi) => {
                write!(f, " cs=irq msi={}:{:#x}", msi.address(), msi.data)
            }
            Completion::Event => f.write_str(" cs=sev"),
        }
    }
}
