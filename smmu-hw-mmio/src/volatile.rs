use core::ptr::NonNull;

use smmu_types::regs::WINDOW;
use smmu_types::seam::Registers;

/// The registers of one SMMU at an address of this program.
///
/// A 64-bit access is one access on a 64-bit target and two 32-bit ones, low half first, on others.
/// An access that is not aligned, or lies outside the window, does not reach the device: it reads as
/// all ones and writes nothing.
#[derive(Debug)]
pub struct VolatileRegisters {
    base: NonNull<u8>,
}

// SAFETY: the window stays valid and device memory may be accessed from every thread; the architecture
// makes each access single-copy atomic, and nothing here is cached between calls.
#[expect(unsafe_code, reason = "a pointer is not Send by itself")]
unsafe impl Send for VolatileRegisters {}
// SAFETY: as for Send; every method is one volatile access and keeps no state.
#[expect(unsafe_code, reason = "a pointer is not Sync by itself")]
unsafe impl Sync for VolatileRegisters {}

impl VolatileRegisters {
    /// Bytes that must be mapped: page 0 and page 1, 64 KiB each.
    pub const BYTES: usize = WINDOW as usize;

    /// The registers at `base`.
    ///
    /// # Safety
    ///
    /// For as long as the value lives,
    ///
    /// - *lifetime*: [`BYTES`](Self::BYTES) from `base` on are mapped, readable and writable;
    /// - *alignment*: `base` is a multiple of 8, as every register's offset is of its width;
    /// - *aliasing*: they are the two register pages of one SMMU (or memory that plays one), and no Rust
    ///   reference to any part of them exists;
    /// - *order*: they are mapped so that accesses are neither merged, split, repeated nor reordered among
    ///   each other: Device-nGnRE or stricter.
    ///
    /// What the SMMU does to *memory* when its registers are written is the caller's business, as
    /// with every [`Registers`].
    #[must_use]
    #[expect(unsafe_code, reason = "turns a number of the caller into accesses of hardware")]
    pub const unsafe fn new(base: NonNull<u8>) -> Self {
        VolatileRegisters { base }
    }

    fn at<T>(&self, offset: u32) -> Option<NonNull<T>> {
        let bytes = size_of::<T>() as u32;
        if offset > WINDOW - bytes || !offset.is_multiple_of(bytes) {
            return None;
        }
        let base = self.base.as_ptr().wrapping_add(offset as usize);
        NonNull::new(base.cast())
    }
}

#[expect(unsafe_code, reason = "volatile access is what this type is for")]
impl Registers for VolatileRegisters {
    fn read32(&self, offset: u32) -> u32 {
        match self.at::<u32>(offset) {
            // SAFETY: `at` keeps the access aligned and inside the window, which the constructor's caller
            // promised is mapped and not aliased; volatile makes it one access.
            Some(register) => u32::from_le(unsafe { register.read_volatile() }),
            None => u32::MAX,
        }
    }

    fn write32(&self, offset: u32, value: u32) {
        if let Some(register) = self.at::<u32>(offset) {
            // SAFETY: as in `read32`; the window is writable.
            unsafe { register.write_volatile(value.to_le()) };
        }
    }

    #[cfg(target_pointer_width = "64")]
    fn read64(&self, offset: u32) -> u64 {
        match self.at::<u64>(offset) {
            // SAFETY: as in `read32`.
            Some(register) => u64::from_le(unsafe { register.read_volatile() }),
            None => u64::MAX,
        }
    }

    #[cfg(target_pointer_width = "64")]
    fn write64(&self, offset: u32, value: u64) {
        if let Some(register) = self.at::<u64>(offset) {
            // SAFETY: as in `read32`; the window is writable.
            unsafe { register.write_volatile(value.to_le()) };
        }
    }

    #[cfg(not(target_pointer_width = "64"))]
    fn read64(&self, offset: u32) -> u64 {
        if self.at::<u64>(offset).is_none() {
            return u64::MAX;
        }
        let low = self.read32(offset);
        u64::from(low) | u64::from(self.read32(offset + 4)) << 32
    }

    #[cfg(not(target_pointer_width = "64"))]
    fn write64(&self, offset: u32, value: u64) {
        if self.at::<u64>(offset).is_some() {
            self.write32(offset, value as u32);
            self.write32(offset + 4, (value >> 32) as u32);
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::alloc::{Layout, alloc_zeroed, dealloc};

    struct Memory(NonNull<u8>);

    const LAYOUT: Layout = match Layout::from_size_align(VolatileRegisters::BYTES, 0x1_0000) {
        Ok(layout) => layout,
        Err(_) => unreachable!(),
    };

    impl Memory {
        #[expect(unsafe_code, reason = "a page-aligned block for the test")]
        fn new() -> Self {
            // SAFETY: the layout is not empty.
            Memory(NonNull::new(unsafe { alloc_zeroed(LAYOUT) }).unwrap())
        }
    }

    impl Drop for Memory {
        #[expect(unsafe_code, reason = "gives the test's block back")]
        fn drop(&mut self) {
            // SAFETY: allocated in `new` with the same layout, and freed once.
            unsafe { dealloc(self.0.as_ptr(), LAYOUT) };
        }
    }

    #[test]
    #[expect(unsafe_code, reason = "plays the device with memory")]
    fn accesses_reach_their_offset_and_nothing_else() {
        let memory = Memory::new();
        // SAFETY: the block is as large and as aligned as the window, outlives the registers, and is only
        // reached through them.
        let registers = unsafe { VolatileRegisters::new(memory.0) };
        registers.write64(0x80, 0x4000_0000_1234_5678);
        assert_eq!(registers.read32(0x80), 0x1234_5678);
        assert_eq!(registers.read32(0x84), 0x4000_0000);
        registers.write32(0x1_fffc, 7);
        assert_eq!(registers.read64(0x1_fff8), 7 << 32);
        assert_eq!(registers.read32(0x7c), 0);
        assert_eq!(registers.read32(0x88), 0);
    }

    #[test]
    #[expect(unsafe_code, reason = "plays the device with memory")]
    fn wrong_offsets_do_not_reach_the_device() {
        let memory = Memory::new();
        // SAFETY: as above.
        let registers = unsafe { VolatileRegisters::new(memory.0) };
        for offset in [2, WINDOW, u32::MAX - 3, u32::MAX] {
            registers.write32(offset, 1);
            assert_eq!(registers.read32(offset), u32::MAX);
        }
        for offset in [4, WINDOW - 4, WINDOW] {
            registers.write64(offset, 1);
            assert_eq!(registers.read64(offset), u64::MAX);
        }
        assert_eq!(registers.read32(WINDOW - 4), 0);
    }
}
