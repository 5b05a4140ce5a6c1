//! The size of a queue.

/// log2 of the number of entries of a queue: 0 to 19 (20 is not encodable in `IDR1`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueSize(pub(crate) u8);

impl QueueSize {
    /// The largest log2 that the architecture has.
    pub const MAX_LOG2: u8 = 19;

    /// A queue of `1 << log2` entries, or `None` when the architecture has none of that size.
    #[must_use]
    pub const fn from_log2(log2: u8) -> Option<Self> {
        if log2 <= Self::MAX_LOG2 { Some(Self(log2)) } else { None }
    }

    /// log2 of the number of entries.
    #[must_use]
    pub const fn log2(self) -> u8 {
        self.0
    }

    /// Number of entries.
    #[must_use]
    pub const fn entries(self) -> u32 {
        1 << self.0
    }

    /// Mask of index and wrap bit in a pointer register.
    #[must_use]
    pub const fn pointer_mask(self) -> u32 {
        (2 << self.0) - 1
    }

    /// Number of entries between two register values. `None` if `consumer` is not within one queue
    /// length behind `producer`, which the architecture forbids.
    #[must_use]
    pub const fn used(self, producer: u32, consumer: u32) -> Option<u32> {
        let used = producer.wrapping_sub(consumer) & self.pointer_mask();
        if used <= self.entries() { Some(used) } else { None }
    }
}
