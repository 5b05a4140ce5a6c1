//! Context descriptors (IHI 0070, 5.4): 64 bytes.

use core::fmt;

use crate::fields::cd as field;
use crate::layout::{Key, attempt};
use crate::{Asid, Cacheability, Cd, FieldError, Granule, OutputSize, PhysAddr, Shareability};

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

/// `TTB0` of VMSAv8-64, whose addresses have 52 bits at most.
const TTB0: Key<Cd> = field::TTB0.up_to(64 + 51);

impl Cd {
    /// Bytes of a CD.
    pub const BYTES: usize = 64;

    /// `V` = 0: the SMMU refuses transactions with `C_BAD_CD`.
    pub const INVALID: Cd = Cd([0; 8]);

    /// Translation through `TTB0`. `TTB1` is off; the SMMU aborts faulting transactions and records
    /// the fault.
    ///
    /// # Errors
    ///
    /// A value does not fit or is reserved, or the table is not aligned to 16 bytes.
    #[inline]
    pub const fn stage1(config: Stage1Config) -> Result<Cd, FieldError> {
        let cd = Cd::INVALID
            .put(field::V, 1)
            .put(field::AA64, 1)
            .put(field::EPD1, 1)
            .put(field::R, 1)
            .put(field::A, 1)
            .put(field::ASET, 1)
            .put(field::TG0, config.granule.tg0())
            .put(field::IR0, config.inner as u64)
            .put(field::OR0, config.outer as u64)
            .put(field::IPS, config.output_size as u64)
            .put(field::S, config.stall as u64)
            .put(field::ASID, config.asid.0 as u64)
            .put(field::MAIR0, config.mair)
            .put(field::MAIR1, config.mair >> 32);
        let cd = attempt!(cd.fit(field::T0SZ, config.t0sz as u64));
        let shareability = attempt!(config.shareability.checked(field::SH0.name()));
        cd.put(field::SH0, shareability).fit(TTB0, config.table.0)
    }

    /// `V`.
    #[must_use]
    pub const fn is_valid(&self) -> bool {
        self.is_set(field::V)
    }

    /// `ASID`.
    #[must_use]
    pub const fn asid(&self) -> Asid {
        Asid(self.get(field::ASID) as u16)
    }

    /// The translation that a CD describes. `None` for an invalid CD, and for one that
    /// [`Stage1Config`] cannot describe: AArch32 tables, big-endian tables, `TTB1`, no `TTB0`, a
    /// reserved value.
    #[must_use]
    pub const fn decode(&self) -> Option<Stage1Config> {
        let (Some(granule), Some(output_size)) = (
            Granule::from_tg0(self.get(field::TG0)),
            OutputSize::from_encoding(self.get(field::IPS) as u8),
        ) else {
            return None;
        };
        let usable = self.is_set(field::V)
            && self.is_set(field::AA64)
            && self.is_set(field::EPD1)
            && !self.is_set(field::EPD0)
            && !self.is_set(field::ENDI);
        if !usable {
            return None;
        }
        Some(Stage1Config {
            asid: self.asid(),
            t0sz: self.get(field::T0SZ) as u8,
            granule,
            inner: Cacheability::from_encoding(self.get(field::IR0)),
            outer: Cacheability::from_encoding(self.get(field::OR0)),
            shareability: Shareability::from_encoding(self.get(field::SH0)),
            output_size,
            table: PhysAddr(self.get(TTB0)),
            mair: self.get(field::MAIR1) << 32 | self.get(field::MAIR0),
            stall: self.is_set(field::S),
        })
    }

    /// `R`: the SMMU records faults as events.
    #[must_use]
    pub const fn records(&self) -> bool {
        self.is_set(field::R)
    }

    /// `A`: a fault aborts the transaction. Otherwise reads return zero, and writes are ignored.
    #[must_use]
    pub const fn aborts(&self) -> bool {
        self.is_set(field::A)
    }

    /// The bits that the SMMU uses in a descriptor with this content.
    #[must_use]
    pub const fn used(&self) -> [u64; 8] {
        if !self.is_valid() {
            return [field::V.mask(), 0, 0, 0, 0, 0, 0, 0];
        }
        let mut used = [u64::MAX; 8];
        if self.is_set(field::EPD0) {
            used[0] &= !(field::T0SZ.mask()
                | field::TG0.mask()
                | field::IR0.mask()
                | field::OR0.mask()
                | field::SH0.mask());
            used[1] &= !TTB0.mask();
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
        assert_eq!(Cd([1 << 31 | 1 << 41, 0, 0, 0, 0, 0, 0, 0]).decode(), None, "TTB1 in use");
        assert_eq!(Cd([1 << 31 | 1 << 30, 0, 0, 0, 0, 0, 0, 0]).decode(), None, "AArch32");
    }
}
