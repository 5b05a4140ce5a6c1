//! The seam to the registers of one SMMU.

use crate::regs::{Readable, Reg, Width, Writable};

/// The registers of one SMMU: two pages of 64 KiB.
///
/// # What an implementor owes
///
/// - `offset` counts from the base of page 0; page 1 begins at `0x1_0000`. Callers keep accesses
///   naturally aligned and within [`crate::regs::WINDOW`].
/// - Each call is one access of that width, made once, in program order with the other calls of
///   the same thread. A 64-bit access may be made as two 32-bit ones, low half first, as the
///   architecture allows.
/// - Ordering against *memory* is not implied; callers use [`DmaBlock`](super::DmaBlock) for that.
/// - Calls may come from several threads and from interrupt context at once.
/// - An access cannot fail. A transport that can break (an emulator behind a socket) reads as all
///   ones and ignores writes from then on, and reports the break by its own means; every wait of the
///   driver is bounded, so nothing hangs on it.
pub trait Registers {
    /// Read 32 bits.
    fn read32(&self, offset: u32) -> u32;
    /// Write 32 bits.
    fn write32(&self, offset: u32, value: u32);
    /// Read 64 bits.
    fn read64(&self, offset: u32) -> u64;
    /// Write 64 bits.
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
#[cfg(feature = "std")]
through_pointer!(std::sync::Arc<R>);

/// One access of a register's width: what [`RegistersExt`] is made of.
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

/// Typed access: the register knows its width and whether it may be read or written.
pub trait RegistersExt: Registers {
    /// Read a register that may be read.
    fn read<W: Transfer, A: Readable>(&self, register: Reg<W, A>) -> W {
        W::read(self, register.offset())
    }

    /// Write a register that may be written.
    fn write<W: Transfer, A: Writable>(&self, register: Reg<W, A>, value: W) {
        W::write(self, register.offset(), value);
    }
}

impl<R: Registers + ?Sized> RegistersExt for R {}
