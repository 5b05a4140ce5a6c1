//! The seam to the registers of one SMMU.

use crate::regs::{Readable, Reg, Width, Writable};

/// The registers of one SMMU: two pages of 64 KiB.
///
/// # What an implementor owes
///
/// - `offset` counts from the base of page 0; page 1 begins at `0x1_0000`. Accesses of callers are
///   naturally aligned and within [`crate::regs::WINDOW`].
/// - Each call makes exactly one access of that width, in program order with the other calls of the
///   same thread. A 64-bit access may be two 32-bit accesses, low half first, as the architecture
///   allows.
/// - A call does not order accesses to *memory*. Callers use [`DmaBlock`](super::DmaBlock) for
///   that.
/// - Several threads and interrupt handlers may call at once.
/// - An access cannot fail. A broken transport, such as a closed socket to an emulator, reads as
///   all ones, ignores writes, and reports the break by its own means. Every wait of the driver is
///   bounded, so no caller hangs.
pub trait Registers {
    /// Reads 32 bits.
    fn read32(&self, offset: u32) -> u32;
    /// Writes 32 bits.
    fn write32(&self, offset: u32, value: u32);
    /// Reads 64 bits.
    fn read64(&self, offset: u32) -> u64;
    /// Writes 64 bits.
    fn write64(&self, offset: u32, value: u64);
}

macro_rules! through_pointer {
    ($pointer:ty) => {
        impl<R: Registers + ?Sized> Registers for $pointer {
            fn read32(&self, offset: u32) -> u32 {
                (**self).read32(offset)
            }
            fn write32(&self, offset: u32, value: u32) {
                (**self).write32(offset, value);
            }
            fn read64(&self, offset: u32) -> u64 {
                (**self).read64(offset)
            }
            fn write64(&self, offset: u32, value: u64) {
                (**self).write64(offset, value);
            }
        }
    };
}

through_pointer!(&R);
#[cfg(feature = "alloc")]
through_pointer!(alloc::sync::Arc<R>);

/// One access of a register's width: [`RegistersExt`] is made of these.
pub trait Transfer: Width {
    #[doc(hidden)]
    fn read<R: Registers + ?Sized>(registers: &R, offset: u32) -> Self;
    #[doc(hidden)]
    fn write<R: Registers + ?Sized>(registers: &R, offset: u32, value: Self);
}

impl Transfer for u32 {
    fn read<R: Registers + ?Sized>(registers: &R, offset: u32) -> Self {
        registers.read32(offset)
    }
    fn write<R: Registers + ?Sized>(registers: &R, offset: u32, value: Self) {
        registers.write32(offset, value);
    }
}

impl Transfer for u64 {
    fn read<R: Registers + ?Sized>(registers: &R, offset: u32) -> Self {
        registers.read64(offset)
    }
    fn write<R: Registers + ?Sized>(registers: &R, offset: u32, value: Self) {
        registers.write64(offset, value);
    }
}

/// Typed access: each register has its width and its access rights as types.
pub trait RegistersExt: Registers {
    /// Reads a readable register.
    fn read<W: Transfer, A: Readable>(&self, register: Reg<W, A>) -> W {
        W::read(self, register.offset())
    }

    /// Writes a writable register.
    fn write<W: Transfer, A: Writable>(&self, register: Reg<W, A>, value: W) {
        W::write(self, register.offset(), value);
    }
}

impl<R: Registers + ?Sized> RegistersExt for R {}
