//! Registers at an address of this program, by volatile accesses.

use core::ptr::NonNull;

use smmu_types::regs::WINDOW;
use smmu_types::seam::Registers;

/// The registers of one SMMU at an address of this program.
///
/// A 64-bit access is one access on a 64-bit target. On other targets it is two 32-bit accesses,
/// low half first.
///
/// A misaligned access, or one outside the window, does not reach the device: a read returns all
/// ones, a write has no effect.
#[derive(Debug)]
pub struct VolatileRegisters {
    base: NonNull<u8>,
}

// SAFETY: the window stays valid, and any thread may access device memory. The architecture makes
// each access single-copy atomic, and this type caches nothing between calls.
#[expect(unsafe_code, reason = "a pointer is not Send by itself")]
unsafe impl Send for VolatileRegisters {}
// SAFETY: as for Send; every method is one volatile access and keeps no state.
#[expect(unsafe_code, reason = "a pointer is not Sync by itself")]
unsafe impl Sync for VolatileRegisters {}

impl VolatileRegisters {
    /// Bytes to map: page 0 and page 1, 64 KiB each.
    pub const BYTES: usize = WINDOW as usize;

    /// The registers at `base`.
    ///
    /// # Safety
    ///
    /// As long as the value lives:
    ///
    /// - *lifetime*: [`BYTES`](Self::BYTES) bytes from `base` are mapped, readable and writable;
    /// - *alignment*: `base` is a multiple of 8;
    /// - *aliasing*: the bytes are the two register pages of one SMMU, or memory that acts as one,
    ///   and no Rust reference to any of them exists;
    /// - *order*: the mapping does not merge, split, repeat or reorder accesses: Device-nGnRE or
    ///   stricter.
    ///
    /// The caller answers for what the SMMU does to *memory* after a register write, as with every
    /// [`Registers`].
    #[must_use]
    #[expect(unsafe_code, reason = "the caller's address becomes hardware accesses")]
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

#[expect(unsafe_code, reason = "this type exists for volatile accesses")]
impl Registers for VolatileRegisters {
    fn read32(&self, offset: u32) -> u32 {
        match self.at::<u32>(offset) {
            // SAFETY: `at` keeps the access aligned and inside the window. The caller of `new`
            // promised that the window is mapped and not aliased. Volatile makes it one access.
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

    struct WindowMemory(NonNull<u8>);

    const LAYOUT: Layout = match Layout::from_size_align(VolatileRegisters::BYTES, 0x1_0000) {
        Ok(layout) => layout,
        Err(_) => unreachable!(),
    };

    impl WindowMemory {
        #[expect(unsafe_code, reason = "a page-aligned block for the test")]
        fn new() -> Self {
            // SAFETY: the layout is not empty.
            WindowMemory(NonNull::new(unsafe { alloc_zeroed(LAYOUT) }).unwrap())
        }
    }

    impl Drop for WindowMemory {
        #[expect(unsafe_code, reason = "frees the test's block")]
        fn drop(&mut self) {
            // SAFETY: allocated in `new` with the same layout, and freed once.
            unsafe { dealloc(self.0.as_ptr(), LAYOUT) };
        }
    }

    #[test]
    #[expect(unsafe_code, reason = "memory acts as the device")]
    fn accesses_reach_only_their_offset() {
        let memory = WindowMemory::new();
        // SAFETY: the block has the size and alignment of the window, outlives the registers, and
        // only they access it.
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
    #[expect(unsafe_code, reason = "memory acts as the device")]
    fn wrong_offsets_do_not_reach_the_device() {
        let memory = WindowMemory::new();
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
