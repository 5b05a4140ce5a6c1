//! Fields of the queue base registers, `CMDQ_BASE`, `EVENTQ_BASE` and `PRIQ_BASE`.

use crate::fields::cmdq_base::{ADDR, LOG2SIZE, RA};
use crate::layout::attempt;
use crate::spec::queue_size::QueueSize;
use crate::{FieldError, PhysAddr};

/// Read-allocate (command queue) or write-allocate (event and PRI queue) hint.
pub const ALLOCATE: u64 = RA.mask();

/// The register's value. The base is aligned to the size of the queue, and to at least 32 bytes.
pub const fn encode(base: PhysAddr, size: QueueSize, entry_bytes: u64) -> Result<u64, FieldError> {
    QueueBase { address: base, log2: size.log2(), allocate: true }.encode(entry_bytes)
}

/// The decoded value of a queue base register.
///
/// ```
/// use smmu_types::{PhysAddr, queue::QueueSize, regs::queue_base::QueueBase};
///
/// let base = QueueBase::decode(1 << 62 | 0x4001_0006);
/// assert_eq!((base.address, base.log2, base.allocate), (PhysAddr(0x4001_0000), 6, true));
/// assert_eq!(base.encode(16), Ok(1 << 62 | 0x4001_0006));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct QueueBase {
    /// `ADDR`: the start of the queue. The SMMU uses
    /// [`effective_address`](Self::effective_address).
    pub address: PhysAddr,
    /// `LOG2SIZE`: log2 of the number of entries, 0 to 31. The SMMU uses
    /// [`effective_size`](Self::effective_size).
    pub log2: u8,
    /// `RA` or `WA`: accesses to the queue hint to allocate cache lines.
    pub allocate: bool,
}

impl QueueBase {
    /// Decodes the register. Reserved bits are dropped.
    #[must_use]
    pub const fn decode(value: u64) -> Self {
        QueueBase {
            address: PhysAddr(ADDR.get(&[value])),
            log2: LOG2SIZE.get(&[value]) as u8,
            allocate: value & ALLOCATE != 0,
        }
    }

    /// The register's value, for entries of this size.
    ///
    /// # Errors
    ///
    /// The architecture has no queue of that size. Or the address is not aligned to the size of the
    /// queue and to 32 bytes: the SMMU would ignore the low bits.
    pub const fn encode(self, entry_bytes: u64) -> Result<u64, FieldError> {
        let Some(size) = QueueSize::from_log2(self.log2) else {
            let max = QueueSize::MAX_LOG2 as u64;
            return Err(FieldError::TooLarge {
                field: LOG2SIZE.name(),
                value: self.log2 as u64,
                max,
            });
        };
        let align = alignment(size, entry_bytes);
        if !self.address.0.is_multiple_of(align) {
            return Err(FieldError::Misaligned {
                field: ADDR.name(),
                value: self.address.0,
                align,
            });
        }
        let address = attempt!(ADDR.place(self.address.0));
        let hint = if self.allocate { ALLOCATE } else { 0 };
        Ok(hint | address | LOG2SIZE.cut(self.log2 as u64))
    }

    /// The size that the SMMU uses: at most `max`, which `IDR1` gives for each queue.
    #[must_use]
    pub const fn effective_size(self, max: QueueSize) -> QueueSize {
        match QueueSize::from_log2(self.log2) {
            Some(size) if size.log2() < max.log2() => size,
            _ => max,
        }
    }

    /// The address that the SMMU uses. It aligns the address down to the size of the queue, at
    /// least to 32 bytes.
    #[must_use]
    pub const fn effective_address(self, max: QueueSize, entry_bytes: u64) -> PhysAddr {
        let align = alignment(self.effective_size(max), entry_bytes);
        PhysAddr(self.address.0 - self.address.0 % align)
    }
}

const fn alignment(size: QueueSize, entry_bytes: u64) -> u64 {
    let bytes = (size.entries() as u64).saturating_mul(entry_bytes);
    if bytes < 32 { 32 } else { bytes }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_total_and_keeps_what_is_defined() {
        for log2 in 0..32u8 {
            for allocate in [false, true] {
                let address = PhysAddr(0x00ff_ffff_f000_0000);
                let base = QueueBase { address, log2, allocate };
                let value = address.0 | u64::from(log2) | u64::from(allocate) << 62;
                assert_eq!(QueueBase::decode(value), base);
                assert_eq!(QueueBase::decode(value | 1 << 63 | 0x3f << 56), base);
                assert_eq!(base.encode(16).ok(), (log2 <= 19).then_some(value));
            }
        }
        assert_eq!(
            QueueBase { log2: 20, ..QueueBase::default() }.encode(32),
            Err(FieldError::TooLarge { field: "LOG2SIZE", value: 20, max: 19 })
        );
    }

    #[test]
    fn the_smmu_caps_the_size_and_aligns_the_base() {
        let max = QueueSize::from_log2(8).unwrap();
        let base = QueueBase::decode(0x4000_1fe0 | 31);
        assert_eq!(base.effective_size(max).log2(), 8);
        assert_eq!(base.effective_address(max, 16), PhysAddr(0x4000_1000));
        let one = QueueBase::decode(0x4000_1fe0);
        assert_eq!(one.effective_size(max).log2(), 0);
        assert_eq!(one.effective_address(max, 16), PhysAddr(0x4000_1fe0));
        assert!(one.encode(16).is_ok());
        assert!(QueueBase { address: PhysAddr(0x4000_1ff0), ..one }.encode(16).is_err());
        assert!(QueueBase { address: PhysAddr(1 << 56), ..one }.encode(16).is_err());
    }
}
