//! Memory that firmware reserves for a stream.

use core::fmt;

use smmu_types::{Iova, PhysAddr};

/// IOVAs that a stream uses from before bring-up on, and the memory behind them.
///
/// The driver maps the memory before the SMMU translates, so that a device which firmware left
/// running never faults. IOVAs without memory only stay free. Nothing is checked here: a length may
/// be 0 or pass 2^64, and windows may overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReservedWindow {
    /// The first IOVA.
    pub iova: Iova,
    /// The length in bytes.
    pub length: u64,
    /// The memory behind it, which the driver must map. `None`: the IOVAs only stay free.
    pub memory: Option<PhysAddr>,
    /// How the device accesses the memory, if the table tells.
    pub memory_type: Option<MemoryType>,
    /// Whether the device accesses the memory with privilege.
    pub privileged: bool,
    /// Whether software may map the memory at other IOVAs later, once it has told the device.
    pub may_move: bool,
    /// The byte of the table at which its description begins.
    pub at: u32,
}

impl ReservedWindow {
    /// A window of memory at IOVAs of its own, of which no more is known.
    #[must_use]
    pub const fn new(iova: Iova, memory: PhysAddr, length: u64) -> Self {
        Self {
            iova,
            length,
            memory: Some(memory),
            memory_type: None,
            privileged: false,
            may_move: false,
            at: 0,
        }
    }

    /// A window whose IOVAs are its physical addresses, of which no more is known.
    #[must_use]
    pub const fn identity(memory: PhysAddr, length: u64) -> Self {
        Self::new(Iova(memory.0), memory, length)
    }

    /// IOVAs that stay free.
    #[must_use]
    pub const fn hole(iova: Iova, length: u64) -> Self {
        Self { memory: None, ..Self::new(iova, PhysAddr(0), length) }
    }
}

/// How a device accesses reserved memory: the memory type and cacheability of its transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryType {
    /// Device-nGnRnE.
    DeviceNGnRnE,
    /// Device-nGnRE.
    DeviceNGnRE,
    /// Device-nGRE.
    DeviceNGRE,
    /// Device-GRE.
    DeviceGRE,
    /// Normal, Inner and Outer Non-cacheable.
    NormalNonCacheable,
    /// Normal, Inner and Outer Write-Back, Inner Shareable.
    NormalWriteBack,
}

impl fmt::Display for MemoryType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DeviceNGnRnE => "Device-nGnRnE",
            Self::DeviceNGnRE => "Device-nGnRE",
            Self::DeviceNGRE => "Device-nGRE",
            Self::DeviceGRE => "Device-GRE",
            Self::NormalNonCacheable => "Normal Non-cacheable",
            Self::NormalWriteBack => "Normal Write-Back",
        })
    }
}
