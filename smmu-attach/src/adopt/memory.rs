//! The seams to memory that another owner has allocated: to read it, and to write to it.

use smmu_types::PhysAddr;
use smmu_types::seam::{DmaError, DmaLayout, DmaMemory};

/// Reads physical memory that the caller does not own.
///
/// The reader of [`RunningTables`](super::RunningTables) hands over any address that a register or an
/// entry names, so the addresses are not to be trusted.
pub trait PhysicalMemory {
    /// Read `words.len()` words from `address`, a multiple of 8. Each word is one 64-bit load.
    ///
    /// An implementation looks up each address in the platform's memory map first. A read of a device
    /// register may have an effect, and a read of an absent address may abort.
    ///
    /// # Errors
    ///
    /// A word of the range is not ordinary memory.
    fn read(&self, address: PhysAddr, words: &mut [u64]) -> Result<(), Unreadable>;
}

/// An address is not ordinary memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the address is not ordinary memory")]
pub struct Unreadable;

impl<F: Fn(PhysAddr, &mut [u64]) -> Result<(), Unreadable>> PhysicalMemory for F {
    fn read(&self, address: PhysAddr, words: &mut [u64]) -> Result<(), Unreadable> {
        self(address, words)
    }
}

/// DMA memory that can give a block over memory which another owner has allocated.
///
/// # Safety
///
/// *Implementation safety.* The block is the memory at `address`, with its content: no word is zeroed.
/// It has exactly the words of the layout, also where the platform maps whole pages.
/// No other software writes to it while the block lives. Its
/// [`publish`](smmu_types::seam::DmaBlock::publish) and
/// [`observe`](smmu_types::seam::DmaBlock::observe) keep their promises for it. The allocator gives
/// no part of it to another caller, also not after the block is dropped: the SMMU may still read it.
#[expect(unsafe_code, reason = "the trait's promise is about what hardware does to memory")]
pub unsafe trait AdoptMemory: DmaMemory {
    /// A block over existing memory. Dropping it unmaps the memory, and does not free it.
    ///
    /// # Errors
    ///
    /// The platform cannot map the range.
    fn adopt(&self, address: PhysAddr, layout: DmaLayout) -> Result<Self::Block, DmaError>;
}
