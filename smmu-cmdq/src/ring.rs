//! The ring in the queue's block: slots of one command each, and behind them the word for MSIs.

use core::ops::Range;
use core::sync::atomic::Ordering;

use smmu_types::queue::QueueSize;
use smmu_types::seam::DmaBlock;
use smmu_types::{Command, PhysAddr, RawCommand};

use crate::SyncBy;

pub(crate) const BYTES: u64 = RawCommand::BYTES as u64;
pub(crate) const ATC_INV: u8 = 0x40;
pub(crate) const WORDS: usize = RawCommand::BYTES / 8;
/// Slots in a cache line of 64 bytes.
const SLOTS_PER_LINE: usize = 64 / RawCommand::BYTES;

/// The slot at which MSIs are written: the first of a cache line behind the ring.
pub(crate) const fn msi(size: QueueSize) -> usize {
    let entries = size.entries() as usize;
    if entries < SLOTS_PER_LINE { SLOTS_PER_LINE } else { entries }
}

/// The slots that the block must have.
pub(crate) const fn needed(size: QueueSize, sync_by: SyncBy) -> u64 {
    match sync_by {
        SyncBy::Msi(_) => (msi(size) + SLOTS_PER_LINE) as u64,
        SyncBy::Polling | SyncBy::Event => size.entries() as u64,
    }
}

/// What a queue needs of its memory. Every [`DmaBlock`] provides it, and so does the model
/// checker's memory.
#[doc(hidden)]
pub trait Slots {
    /// Store commands into consecutive slots. Returns whether `ATC_INV` is among them.
    fn fill(&self, first: usize, commands: &[Command]) -> bool;
    /// As [`fill`](Self::fill), with encoded commands.
    fn copy(&self, first: usize, commands: &[RawCommand]) -> bool;
    /// Store one command.
    fn store(&self, slot: usize, command: RawCommand);
    /// Load one command.
    fn load(&self, slot: usize) -> RawCommand;
    /// Load the data of the last MSI, which the SMMU stores at the start of this slot.
    fn msi(&self, slot: usize) -> u32;
    /// As [`DmaBlock::publish`], in slots.
    fn publish(&self, slots: Range<usize>);
    /// As [`DmaBlock::observe`], in slots.
    fn observe(&self, slots: Range<usize>);
    /// As [`DmaBlock::address`].
    fn address(&self) -> PhysAddr;
    /// The number of slots.
    fn slots(&self) -> u64;
}

impl<B: DmaBlock> Slots for B {
    // Out of line: the compiler would otherwise make a call of its own for each command.
    #[inline(never)]
    fn fill(&self, first: usize, commands: &[Command]) -> bool {
        let words = self.words().get(words(first..first + commands.len())).unwrap_or_default();
        let mut atc = false;
        for ([low, high], command) in words.as_chunks::<WORDS>().0.iter().zip(commands) {
            let command = command.encode();
            low.store(command.0[0], Ordering::Relaxed);
            high.store(command.0[1], Ordering::Relaxed);
            atc |= command.opcode() == ATC_INV;
        }
        atc
    }

    #[inline(never)]
    fn copy(&self, first: usize, commands: &[RawCommand]) -> bool {
        let words = self.words().get(words(first..first + commands.len())).unwrap_or_default();
        let mut atc = false;
        for ([low, high], command) in words.as_chunks::<WORDS>().0.iter().zip(commands) {
            low.store(command.0[0], Ordering::Relaxed);
            high.store(command.0[1], Ordering::Relaxed);
            atc |= command.opcode() == ATC_INV;
        }
        atc
    }

    #[inline]
    fn store(&self, slot: usize, command: RawCommand) {
        let found = self.words().get(words(slot..slot + 1)).unwrap_or_default();
        for (word, value) in found.iter().zip(command.0) {
            word.store(value, Ordering::Relaxed);
        }
    }

    fn load(&self, slot: usize) -> RawCommand {
        let mut command = RawCommand::default();
        let found = self.words().get(words(slot..slot + 1)).unwrap_or_default();
        for (word, value) in found.iter().zip(&mut command.0) {
            *value = word.load(Ordering::Relaxed);
        }
        command
    }

    #[inline]
    fn msi(&self, slot: usize) -> u32 {
        let word = self.words().get(slot * WORDS).map_or(0, |word| word.load(Ordering::Relaxed));
        // The SMMU stores the data little-endian, whatever the CPU's byte order.
        u64::from_le(word) as u32
    }

    #[inline]
    fn publish(&self, slots: Range<usize>) {
        DmaBlock::publish(self, words(slots));
    }

    #[inline]
    fn observe(&self, slots: Range<usize>) {
        DmaBlock::observe(self, words(slots));
    }

    fn address(&self) -> PhysAddr {
        DmaBlock::address(self)
    }

    fn slots(&self) -> u64 {
        (self.words().len() / WORDS) as u64
    }
}

const fn words(slots: Range<usize>) -> Range<usize> {
    slots.start * WORDS..slots.end * WORDS
}
