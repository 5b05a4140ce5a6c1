//! Level-1 descriptors of stream tables and CD tables, and the Virtual Machine Structure (IHI 0070,
//! 5.1, 5.3, 5.6).

use core::fmt;

use crate::fields::{l1cd, l1std};
use crate::{ContextTableDescriptor, FieldError, PhysAddr, StreamTableDescriptor, Vms};

impl StreamTableDescriptor {
    /// Bytes of a descriptor.
    pub const BYTES: usize = 8;

    /// No level-2 array: the SMMU refuses every StreamID of this descriptor.
    pub const INVALID: Self = Self([0]);

    /// The largest `log2` of [`new`](Self::new).
    pub const MAX_LOG2: u8 = 10;

    /// A descriptor of an array of 2^`log2` STEs, aligned to its size.
    ///
    /// # Errors
    ///
    /// The array is larger than 2^10 STEs, or the address is not aligned to its size or too large.
    pub const fn new(l2: PhysAddr, log2: u8) -> Result<Self, FieldError> {
        if log2 > Self::MAX_LOG2 {
            let (value, max) = (log2 as u64 + 1, Self::MAX_LOG2 as u64 + 1);
            let field = l1std::SPAN.name();
            return Err(FieldError::TooLarge { field, value, max });
        }
        let align = 64 << log2;
        if l2.0 & (align - 1) != 0 {
            return Err(FieldError::Misaligned { field: l1std::L2PTR.name(), value: l2.0, align });
        }
        Self::INVALID.put(l1std::SPAN, log2 as u64 + 1).fit(l1std::L2PTR, l2.0)
    }

    /// The address of the array and log2 of its number of STEs. `None` without an array; a reserved
    /// `Span` means the same. Address bits below the array's size do not count.
    #[must_use]
    pub const fn array(&self) -> Option<(PhysAddr, u8)> {
        match self.get(l1std::SPAN) {
            span @ 1..=11 => {
                let log2 = span as u8 - 1;
                Some((PhysAddr(self.get(l1std::L2PTR) & !((64 << log2) - 1)), log2))
            }
            _ => None,
        }
    }
}

impl fmt::Display for StreamTableDescriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.array() {
            Some((l2, log2)) => write!(f, "l2={l2} stes={}", 1u32 << log2),
            None => f.write_str("invalid"),
        }
    }
}

impl ContextTableDescriptor {
    /// Bytes of a descriptor.
    pub const BYTES: usize = 8;

    /// No level-2 table: the SMMU refuses every SubstreamID of this descriptor.
    pub const INVALID: Self = Self([0]);

    /// A descriptor of a table of CDs.
    ///
    /// `STE.S1Fmt` selects the size of the table, 4 KiB or 64 KiB. The table must be aligned to its
    /// size; this function checks only 4 KiB.
    ///
    /// # Errors
    ///
    /// The address is not aligned to 4 KiB, or too large.
    pub const fn new(l2: PhysAddr) -> Result<Self, FieldError> {
        Self::INVALID.put(l1cd::V, 1).fit(l1cd::L2PTR, l2.0)
    }

    /// The address of the table; `None` without one.
    #[must_use]
    pub const fn table(&self) -> Option<PhysAddr> {
        if self.get(l1cd::V) == 0 { None } else { Some(PhysAddr(self.get(l1cd::L2PTR))) }
    }
}

impl fmt::Display for ContextTableDescriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.table() {
            Some(l2) => write!(f, "l2={l2}"),
            None => f.write_str("invalid"),
        }
    }
}

impl Vms {
    /// Bytes of the whole structure, to which it is aligned.
    pub const BYTES: usize = 4096;
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::string::ToString;

    #[test]
    fn stream_table_descriptors() {
        let whole = StreamTableDescriptor::new(PhysAddr(0x4004_0000), 8).unwrap();
        assert_eq!(
            (whole.0, whole.to_string().as_str()),
            ([0x4004_0009], "l2=0x40040000 stes=256")
        );
        assert_eq!(whole.array(), Some((PhysAddr(0x4004_0000), 8)));
        assert_eq!(StreamTableDescriptor([0x4004_0fcb]).array(), Some((PhysAddr(0x4004_0000), 10)));
        for invalid in [0, 12, 31] {
            assert_eq!(StreamTableDescriptor([0x4004_0000 | invalid]).array(), None);
        }
        assert_eq!(StreamTableDescriptor::INVALID.to_string(), "invalid");
        assert_eq!(
            StreamTableDescriptor::new(PhysAddr(0), 11),
            Err(FieldError::TooLarge { field: "Span", value: 12, max: 11 })
        );
        assert_eq!(
            StreamTableDescriptor::new(PhysAddr(0x1000), 8),
            Err(FieldError::Misaligned { field: "L2Ptr", value: 0x1000, align: 0x4000 })
        );
        assert!(StreamTableDescriptor::new(PhysAddr(1 << 56), 8).is_err());
        assert!(StreamTableDescriptor::new(PhysAddr(1 << 55), 0).is_ok());
    }

    #[test]
    fn context_table_descriptors() {
        let table = ContextTableDescriptor::new(PhysAddr(0x4004_1000)).unwrap();
        assert_eq!((table.0, table.to_string().as_str()), ([0x4004_1001], "l2=0x40041000"));
        assert_eq!(table.table(), Some(PhysAddr(0x4004_1000)));
        assert_eq!(ContextTableDescriptor([0x4004_1000]).to_string(), "invalid");
        assert!(ContextTableDescriptor::new(PhysAddr(0x800)).is_err());
        assert!(ContextTableDescriptor::new(PhysAddr(1 << 56)).is_err());
    }
}
