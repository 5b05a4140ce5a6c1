//! Context descriptors (IHI 0070, 5.4): 64 bytes.

use core::fmt;

use crate::spec::attributes::{Cacheability, Shareability};
use crate::spec::bits::{address, attempt, bit, fit, get, mask, put};
use crate::{Asid, FieldError, Granule, OutputSize, PhysAddr};

/// Stage-1 translation through `TTB0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stage1Config {
    /// `ASID`.
    pub asid: Asid,
    /// `T0SZ`: 64 minus the number of input bits.
    pub t0sz: u8,
    /// `TG0`.
    pub granule: Granule,
    /// `IRGN0`.
    pub inner: Cacheability,
    /// `ORGN0`.
    pub outer: Cacheability,
    /// `SH0`.
    pub shareability: Shareability,
    /// `IPS`.
    pub output_size: OutputSize,
    /// `TTB0`, aligned to 16 bytes at least.
    pub table: PhysAddr,
    /// `MAIR`: memory attributes by index.
    pub mair: u64,
    /// `S`: faults stall.
    pub stall: bool,
}

/// A context descriptor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Cd(pub [u64; 8]);

crate::layout::keyed!(Cd);

const EPD0: u64 = 1 << 14;
const EPD1: u64 = 1 << 30;
const V: u64 = 1 << 31;
const AA64: u64 = 1 << 41;
const R: u64 = 1 << 45;
const A: u64 = 1 << 46;
const ASET: u64 = 1 << 47;

impl Cd {
    /// Bytes of a CD.
    pub const BYTES: usize = 64;

    /// `V` = 0: transactions end in `C_BAD_CD`.
    pub const INVALID: Cd = Cd([0; 8]);

    /// Translation through `TTB0`; `TTB1` is off, faults abort and are recorded.
    ///
    /// # Errors
    ///
    /// A value does not fit or is reserved, or the table is not aligned to 16 bytes.
    #[inline]
    pub const fn stage1(config: Stage1Config) -> Result<Cd, FieldError> {
        let w0 = attempt!(fit("T0SZ", config.t0sz as u64, 5, 0))
            | put(config.granule.tg0(), 7, 6)
            | put(config.inner as u64, 9, 8)
            | put(config.outer as u64, 11, 10)
            | attempt!(config.shareability.place("SH0", 12))
            | EPD1
            | V
            | put(config.output_size as u64, 34, 32)
            | AA64
            | (config.stall as u64) << 44
            | R
            | A
            | ASET
            | put(config.asid.0 as u64, 63, 48);
        let w1 = attempt!(address("TTB0", config.table.0, 51, 4));
        Ok(Cd([w0, w1, 0, config.mair, 0, 0, 0, 0]))
    }

    /// `V`.
    #[must_use]
    pub const fn is_valid(&self) -> bool {
        self.0[0] & V != 0
    }

    /// `ASID`.
    #[must_use]
    pub const fn asid(&self) -> Asid {
        Asid(get(self.0[0], 63, 48) as u16)
    }

    /// The translation that a valid CD describes, or `None` when it is invalid or uses what
    /// [`Stage1Config`] cannot say: AArch32 tables, big-endian tables, `TTB1`, no `TTB0`, a reserved value.
    #[must_use]
    pub const fn decode(&self) -> Option<Stage1Config> {
        let [w0, w1, _, mair, ..] = self.0;
        let (Some(granule), Some(output_size)) =
            (Granule::from_tg0(get(w0, 7, 6)), OutputSize::from_encoding(get(w0, 34, 32) as u8))
        else {
            return None;
        };
        if w0 & V == 0 || w0 & AA64 == 0 || w0 & EPD0 != 0 || w0 & EPD1 == 0 || bit(w0, 15) {
            return None;
        }
        Some(Stage1Config {
            asid: self.asid(),
            t0sz: get(w0, 5, 0) as u8,
            granule,
            inner: Cacheability::from_encoding(get(w0, 9, 8)),
            outer: Cacheability::from_encoding(get(w0, 11, 10)),
            shareability: Shareability::from_encoding(get(w0, 13, 12)),
            output_size,
            table: PhysAddr(w1 & mask(51, 4)),
            mair,
            stall: bit(w0, 44),
        })
    }

    /// `R`: faults are recorded as events.
    #[must_use]
    pub const fn records(&self) -> bool {
        self.0[0] & R != 0
    }

    /// `A`: a fault aborts the transaction, instead of reading as zero and ignoring writes.
    #[must_use]
    pub const fn aborts(&self) -> bool {
        self.0[0] & A != 0
    }

    /// The bits that hardware looks at in a descriptor with this content.
    #[must_use]
    pub const fn used(&self) -> [u64; 8] {
        let w0 = self.0[0];
        let mut used = [V, 0, 0, 0, 0, 0, 0, 0];
        if w0 & V == 0 {
            return used;
        }
        used = [u64::MAX; 8];
        if w0 & EPD0 != 0 {
            used[0] &= !mask(13, 0);
            used[1] &= !mask(51, 4);
        }
        used
    }
}

impl fmt::Display for Cd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_valid() { write!(f, "asid={}", self.asid()) } else { f.write_str("invalid") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Value from outside: what Linux's driver writes for this descriptor in its tests.
    #[test]
    fn matches_vector() {
        let config = Stage1Config {
            asid: Asid(778),
            t0sz: 4,
            granule: Granule::K16,
            inner: Cacheability::WriteThrough,
            outer: Cacheability::WriteBack,
            shareability: Shareability::Inner,
            output_size: OutputSize::Bits36,
            table: PhysAddr(0x000d_beef_dead_bee0),
            mair: 0x0abc_def0_1234_5678,
            stall: false,
        };
        let cd = Cd::stage1(config).unwrap();
        let words = [0x030a_e201_c000_3684, 0x000d_beef_dead_bee0, 0, 0x0abc_def0_1234_5678];
        assert_eq!(cd.0[..4], words);
        assert_eq!(cd.decode(), Some(config));
        assert!(cd.records() && cd.aborts());
        let reserved = Stage1Config { shareability: Shareability::Reserved, ..config };
        assert_eq!(Cd::stage1(reserved), Err(FieldError::Reserved { field: "SH0", value: 1 }));
    }

    #[test]
    fn refuses_to_decode_what_it_cannot_say() {
        assert_eq!(Cd::INVALID.decode(), None);
        assert_eq!(Cd([V | AA64, 0, 0, 0, 0, 0, 0, 0]).decode(), None, "TTB1 in use");
        assert_eq!(Cd([V | EPD1, 0, 0, 0, 0, 0, 0, 0]).decode(), None, "AArch32");
    }
}
