//! The numbers of one space and how many are in which state.
//!
//! 1. A number is given out only while its bit in `taken` is clear; 0's is set from the start.
//! 2. `free` plus the count of every state is `capacity`, after each call.
//! 3. A bit is cleared only by [`Table::put_back`], which takes the state that the number leaves;
//!    nothing leaves [`Life::Quarantined`].

use crate::bitmap::Bitmap;
use crate::{TagError, TagKind};

/// How many numbers of a space are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TagStats {
    /// Numbers that the space can give out: all but 0 and the reserved ones. The sum of the others.
    pub capacity: u32,
    /// Not given out.
    pub free: u32,
    /// Given out, not yet seen by hardware.
    pub fresh: u32,
    /// Named by an STE or CD.
    pub in_use: u32,
    /// No longer named; the flush is not proven yet.
    pub retiring: u32,
    /// Lost: the flush was never proven.
    pub quarantined: u32,
}

/// The state of a number that is given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    Fresh,
    InUse,
    Retiring,
    Quarantined,
}

#[derive(Debug)]
pub(crate) struct Table {
    kind: TagKind,
    numbers: u32,
    taken: Bitmap,
    reserved: Bitmap,
    reserved_count: u32,
    stats: TagStats,
}

/// A width that exists, as the number of values it has.
pub(crate) fn width(kind: TagKind, bits: u8) -> Result<u32, TagError> {
    match bits {
        8 | 16 => Ok(1 << bits),
        _ => Err(TagError::BadWidth { kind, bits }),
    }
}

impl Table {
    pub(crate) fn new(kind: TagKind, bits: u8) -> Result<Self, TagError> {
        let numbers = width(kind, bits)?;
        let map = || {
            Bitmap::new(numbers as usize).map_err(|short| TagError::OutOfMemory {
                kind,
                numbers,
                bytes: short.0,
            })
        };
        let mut taken = map()?;
        taken.set(0);
        let capacity = numbers - 1;
        let stats = TagStats { capacity, free: capacity, ..TagStats::default() };
        Ok(Table { kind, numbers, taken, reserved: map()?, reserved_count: 0, stats })
    }

    pub(crate) fn stats(&self) -> TagStats {
        self.stats
    }

    pub(crate) fn reserved_count(&self) -> u32 {
        self.reserved_count
    }

    /// The lowest free number below `limit`, now fresh.
    pub(crate) fn take(&mut self, limit: u32) -> Option<u16> {
        let number = self.taken.lowest_clear(limit.min(self.numbers) as usize)?;
        self.taken.set(number);
        self.stats.free -= 1;
        self.stats.fresh += 1;
        Some(number as u16)
    }

    pub(crate) fn change(&mut self, from: Life, to: Life) {
        *self.count(from) -= 1;
        *self.count(to) += 1;
    }

    pub(crate) fn put_back(&mut self, number: u16, from: Life) {
        *self.count(from) -= 1;
        self.stats.free += 1;
        self.taken.clear(number.into());
    }

    pub(crate) fn reserve(&mut self, number: u16) -> Result<(), TagError> {
        let kind = self.kind;
        let bit = usize::from(number);
        if u32::from(number) >= self.numbers {
            return Err(TagError::OutOfRange { kind, number, last: self.numbers - 1 });
        }
        // Firmware may name a number many times, and 0 is nobody's anyway.
        if number == 0 || self.reserved.contains(bit) {
            return Ok(());
        }
        if self.taken.contains(bit) {
            return Err(TagError::AlreadyGivenOut { kind, number });
        }
        self.taken.set(bit);
        self.reserved.set(bit);
        self.reserved_count += 1;
        self.stats.free -= 1;
        self.stats.capacity -= 1;
        Ok(())
    }

    fn count(&mut self, life: Life) -> &mut u32 {
        match life {
            Life::Fresh => &mut self.stats.fresh,
            Life::InUse => &mut self.stats.in_use,
            Life::Retiring => &mut self.stats.retiring,
            Life::Quarantined => &mut self.stats.quarantined,
        }
    }
}
