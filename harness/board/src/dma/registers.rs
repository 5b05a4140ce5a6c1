//! The registers in a BAR.

use core::ptr::NonNull;

use crate::pci::{Bar, Function};

/// A function lacks a BAR that its driver needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("BAR {bar} is missing, or has fewer than {need:#x} bytes")]
pub struct NoBar {
    /// The number of the BAR.
    pub bar: usize,
    /// Bytes that the driver needs.
    pub need: u64,
}

/// A BAR of registers, accessed by volatile loads and stores.
#[derive(Debug)]
pub(crate) struct BarRegisters {
    base: NonNull<u8>,
    bytes: u64,
}

// SAFETY: device memory that any thread may access.
unsafe impl Send for BarRegisters {}

impl BarRegisters {
    /// The registers of BAR `bar`, of which the driver uses `need` bytes.
    ///
    /// # Safety
    ///
    /// The BAR is mapped as Device memory for ever, and nothing else uses it.
    pub(crate) unsafe fn new(function: &Function, bar: usize, need: u64) -> Result<Self, NoBar> {
        let missing = NoBar { bar, need };
        let found = function.bars.get(bar).copied().flatten();
        let Bar { address, bytes } = found.filter(|bar| bar.bytes >= need).ok_or(missing)?;
        let base = NonNull::new(address as *mut u8).ok_or(missing)?;
        Ok(BarRegisters { base, bytes })
    }

    /// The register at `offset`; `None` outside of the BAR or misaligned.
    fn at<T>(&self, offset: u64) -> Option<NonNull<T>> {
        let bytes = size_of::<T>() as u64;
        let inside = offset.checked_add(bytes).is_some_and(|end| end <= self.bytes);
        (inside && offset.is_multiple_of(bytes))
            .then(|| NonNull::new(self.base.as_ptr().wrapping_add(offset as usize).cast()))
            .flatten()
    }

    pub(crate) fn read32(&self, offset: u64) -> u32 {
        // SAFETY: `at` keeps the access aligned and in the BAR, which the caller of `new` has
        // mapped.
        self.at::<u32>(offset).map_or(u32::MAX, |at| unsafe { at.read_volatile() })
    }

    pub(crate) fn write32(&self, offset: u64, value: u32) {
        if let Some(at) = self.at::<u32>(offset) {
            // SAFETY: as in `read32`.
            unsafe { at.write_volatile(value) };
        }
    }

    #[cfg(target_arch = "aarch64")]
    pub(crate) fn read64(&self, offset: u64) -> u64 {
        // SAFETY: as in `read32`.
        self.at::<u64>(offset).map_or(u64::MAX, |at| unsafe { at.read_volatile() })
    }

    #[cfg(target_arch = "aarch64")]
    pub(crate) fn write64(&self, offset: u64, value: u64) {
        if let Some(at) = self.at::<u64>(offset) {
            // SAFETY: as in `read32`.
            unsafe { at.write_volatile(value) };
        }
    }
}
