//! Fields of `STRTAB_BASE` and `STRTAB_BASE_CFG`, and the level-1 descriptor.
//!
//! Drivers write a [`StreamTableFormat`]. [`DecodedConfig`] and [`DecodedBase`] decode any value of
//! the registers.

use core::fmt;

use crate::fields::{strtab_base, strtab_base_cfg};
use crate::layout::attempt;
use crate::{FieldError, PhysAddr, StreamId, StreamTableDescriptor};

/// Read-allocate hint of `STRTAB_BASE`.
pub const READ_ALLOCATE: u64 = strtab_base::RA.mask();

/// Format and size of a stream table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamTableFormat {
    /// One array of 2^`log2` STEs.
    Linear {
        /// log2 of the number of STEs, 0 to 32.
        log2: u8,
    },
    /// An array of 2^(`log2` - `split`) L1 descriptors, each pointing at up to 2^`split` STEs.
    ///
    /// With `log2` below `split` there is one descriptor. It may span more STEs than 2^`log2`, and
    /// the SMMU does not use those (6.3.25). Arm recommends a linear table instead.
    TwoLevel {
        /// log2 of the number of StreamIDs that the table covers, 0 to 32.
        log2: u8,
        /// How many low bits of a StreamID the second level indexes.
        split: Split,
    },
}

impl fmt::Display for StreamTableFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StreamTableFormat::Linear { log2 } => write!(f, "a linear table of 2^{log2} STEs"),
            StreamTableFormat::TwoLevel { split: Split::Reserved(value), .. } => {
                write!(f, "a two-level table with the reserved SPLIT = {value}")
            }
            StreamTableFormat::TwoLevel { log2, split } => {
                let split = split.bits();
                write!(f, "a two-level table of 2^{log2} STEs, 2^{split} in a second level")
            }
        }
    }
}

impl StreamTableFormat {
    /// The value of `STRTAB_BASE_CFG`.
    ///
    /// # Errors
    ///
    /// The format cannot have this size; see [`bytes`](Self::bytes).
    pub const fn config(self) -> Result<u32, FieldError> {
        attempt!(self.bytes());
        Ok(match self {
            StreamTableFormat::Linear { log2 } => log2 as u32,
            StreamTableFormat::TwoLevel { log2, split } => {
                let fmt = strtab_base_cfg::FMT.cut(Levels::TWO);
                let split = strtab_base_cfg::SPLIT.cut(split.bits() as u64);
                (fmt | split | strtab_base_cfg::LOG2SIZE.cut(log2 as u64)) as u32
            }
        })
    }

    /// log2 of the number of StreamIDs that the table covers.
    #[must_use]
    pub const fn log2(self) -> u8 {
        match self {
            StreamTableFormat::Linear { log2 } | StreamTableFormat::TwoLevel { log2, .. } => log2,
        }
    }

    /// How many low bits of a StreamID the second level indexes; `None` for a linear table.
    #[must_use]
    pub const fn split(self) -> Option<Split> {
        match self {
            StreamTableFormat::Linear { .. } => None,
            StreamTableFormat::TwoLevel { split, .. } => Some(split),
        }
    }

    /// Index of a stream's level-1 descriptor, and of its STE in the array behind it. A linear table
    /// is one such array.
    #[must_use]
    pub const fn place(self, stream: StreamId) -> (u32, u32) {
        match self {
            StreamTableFormat::Linear { .. } => (0, stream.0),
            StreamTableFormat::TwoLevel { split, .. } => {
                (stream.0 >> split.bits(), stream.0 & ((1 << split.bits()) - 1))
            }
        }
    }

    /// Bytes of the first level.
    ///
    /// # Errors
    ///
    /// More than 32 bits of StreamIDs, or a reserved split.
    pub const fn bytes(self) -> Result<u64, FieldError> {
        const FIELD: &str = strtab_base_cfg::LOG2SIZE.name();
        let value = self.log2() as u64;
        match self {
            _ if value > 32 => Err(FieldError::TooLarge { field: FIELD, value, max: 32 }),
            StreamTableFormat::Linear { log2 } => Ok(64 << log2),
            StreamTableFormat::TwoLevel { split: Split::Reserved(value), .. } => {
                let field = strtab_base_cfg::SPLIT.name();
                Err(FieldError::Reserved { field, value: value as u64 })
            }
            StreamTableFormat::TwoLevel { log2, split } => {
                Ok(8 << log2.saturating_sub(split.bits()))
            }
        }
    }
}

/// The value of `STRTAB_BASE`. The base is aligned to the size of the table, and to at least
/// 64 bytes.
///
/// # Errors
///
/// The format cannot have its size, or the base is not aligned or too large.
pub const fn base(address: PhysAddr, format: StreamTableFormat) -> Result<u64, FieldError> {
    let bytes = attempt!(format.bytes());
    let align = if bytes < 64 { 64 } else { bytes.next_power_of_two() };
    let (field, value, max) = ("STRTAB_BASE.ADDR", address.0, strtab_base::ADDR.max());
    if value & (align - 1) != 0 {
        return Err(FieldError::Misaligned { field, value, align });
    }
    match strtab_base::ADDR.place(value) {
        Ok(address) => Ok(READ_ALLOCATE | address),
        Err(_) => Err(FieldError::TooLarge { field, value, max }),
    }
}

/// A level-1 descriptor that points at a whole second-level table, aligned to its size.
///
/// # Errors
///
/// The address is not aligned, or too large.
pub const fn l1_descriptor(l2: PhysAddr, split: Split) -> Result<u64, FieldError> {
    match StreamTableDescriptor::new(l2, split.bits()) {
        Ok(descriptor) => Ok(descriptor.0[0]),
        Err(error) => Err(error),
    }
}

/// `STRTAB_BASE_CFG.FMT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Levels {
    /// One array of STEs.
    Linear,
    /// An array of L1 descriptors.
    Two,
    /// A reserved value, 2 or 3. It behaves as linear.
    Reserved(u8),
}

impl Levels {
    const LINEAR: u64 = 0;
    const TWO: u64 = 1;
}

/// `STRTAB_BASE_CFG.SPLIT`: how many low bits of a StreamID index the second level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Split {
    /// 6 bits: tables of 4 KiB.
    Six,
    /// 8 bits: tables of 16 KiB.
    Eight,
    /// 10 bits: tables of 64 KiB.
    Ten,
    /// A reserved value. It behaves as 6.
    Reserved(u8),
}

impl Split {
    /// The number of bits that the SMMU uses.
    #[must_use]
    pub const fn bits(self) -> u8 {
        match self {
            Split::Six | Split::Reserved(_) => 6,
            Split::Eight => 8,
            Split::Ten => 10,
        }
    }
}

/// The decoded value of `STRTAB_BASE_CFG`. Every value decodes, and encodes to the same value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DecodedConfig {
    /// `FMT`.
    pub levels: Levels,
    /// `SPLIT`, which a linear table ignores.
    pub split: Split,
    /// `LOG2SIZE`: log2 of the number of StreamIDs that the table covers, 0 to 63.
    pub log2: u8,
}

impl DecodedConfig {
    /// Decodes the register. Reserved bits are dropped.
    #[must_use]
    pub const fn decode(value: u32) -> Self {
        let register = strtab_base_cfg::StrtabBaseCfg::from_bits(value);
        DecodedConfig {
            levels: match register.get(strtab_base_cfg::FMT) {
                Levels::LINEAR => Levels::Linear,
                Levels::TWO => Levels::Two,
                other => Levels::Reserved(other as u8),
            },
            split: match register.get(strtab_base_cfg::SPLIT) {
                6 => Split::Six,
                8 => Split::Eight,
                10 => Split::Ten,
                other => Split::Reserved(other as u8),
            },
            log2: register.get(strtab_base_cfg::LOG2SIZE) as u8,
        }
    }

    /// The register's value.
    ///
    /// # Errors
    ///
    /// A value does not fit into its field.
    pub const fn encode(self) -> Result<u32, FieldError> {
        let fmt = match self.levels {
            Levels::Linear => Levels::LINEAR,
            Levels::Two => Levels::TWO,
            Levels::Reserved(value) => value as u64,
        };
        let split = match self.split {
            Split::Six => 6,
            Split::Eight => 8,
            Split::Ten => 10,
            Split::Reserved(value) => value,
        };
        match (
            strtab_base_cfg::FMT.place(fmt),
            strtab_base_cfg::SPLIT.place(split as u64),
            strtab_base_cfg::LOG2SIZE.place(self.log2 as u64),
        ) {
            (Ok(fmt), Ok(split), Ok(log2)) => Ok((fmt | split | log2) as u32),
            (Err(error), ..) | (_, Err(error), _) | (.., Err(error)) => Err(error),
        }
    }

    /// How many low bits of a StreamID the second level indexes; `None` for a linear table.
    #[must_use]
    pub const fn second_level_bits(self) -> Option<u8> {
        match self.levels {
            Levels::Two => Some(self.split.bits()),
            Levels::Linear | Levels::Reserved(_) => None,
        }
    }

    /// log2 of the number of StreamIDs that the table covers, on an SMMU with StreamIDs of
    /// `sid_bits`.
    #[must_use]
    pub const fn covered_bits(self, sid_bits: u8) -> u8 {
        if self.log2 < sid_bits { self.log2 } else { sid_bits }
    }

    /// The bytes to which the SMMU aligns the base: the size of the first level for this
    /// `LOG2SIZE`, at least 64. `None` for 2^64 and more.
    #[must_use]
    pub const fn alignment(self) -> Option<u64> {
        let log2 = match self.second_level_bits() {
            None => self.log2 as u32 + 6,
            Some(split) => (self.log2.saturating_sub(split) as u32) + 3,
        };
        1u64.checked_shl(if log2 < 6 { 6 } else { log2 })
    }

    /// The same as a [`StreamTableFormat`]. `None` for a reserved value, and for a size that the
    /// format does not allow.
    #[must_use]
    pub const fn format(self) -> Option<StreamTableFormat> {
        let format = match (self.levels, self.split) {
            (Levels::Linear, _) => StreamTableFormat::Linear { log2: self.log2 },
            (Levels::Reserved(_), _) | (Levels::Two, Split::Reserved(_)) => return None,
            (Levels::Two, split) => StreamTableFormat::TwoLevel { log2: self.log2, split },
        };
        match format.bytes() {
            Ok(_) => Some(format),
            Err(_) => None,
        }
    }
}

/// The decoded value of `STRTAB_BASE`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct DecodedBase {
    /// `ADDR`: the start of the table.
    pub address: PhysAddr,
    /// `RA`: accesses to the table hint to allocate cache lines.
    pub read_allocate: bool,
}

impl DecodedBase {
    /// Decodes the register. Reserved bits are dropped.
    #[must_use]
    pub const fn decode(value: u64) -> Self {
        DecodedBase {
            address: PhysAddr(value & strtab_base::ADDR.mask()),
            read_allocate: value & READ_ALLOCATE != 0,
        }
    }

    /// The address that the SMMU uses. It aligns the address down, to the alignment of `config`.
    #[must_use]
    pub const fn effective_address(self, config: DecodedConfig) -> PhysAddr {
        match config.alignment() {
            Some(align) => PhysAddr(self.address.0 & !(align - 1)),
            None => PhysAddr(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_configuration_is_read_and_written_back() {
        const DEFINED: u32 = 0x3_07ff;
        for value in (0..=DEFINED).filter(|value| value & !DEFINED == 0) {
            let config = DecodedConfig::decode(value);
            assert_eq!(config.encode(), Ok(value));
            assert_eq!(DecodedConfig::decode(value | !DEFINED), config);
            if let Some(format) = config.format() {
                assert_eq!(DecodedConfig::decode(format.config().unwrap()).format(), Some(format));
            }
        }
        let wrong = DecodedConfig { levels: Levels::Two, split: Split::Reserved(32), log2: 8 };
        let error = FieldError::TooLarge { field: "SPLIT", value: 32, max: 31 };
        assert_eq!(wrong.encode(), Err(error));
    }

    #[test]
    fn alignment_is_the_size_of_the_first_level() {
        for log2 in 0..=u8::MAX {
            let two_level =
                [Split::Six, Split::Eight, Split::Ten, Split::Reserved(6), Split::Reserved(7)]
                    .map(|split| StreamTableFormat::TwoLevel { log2, split });
            for format in [StreamTableFormat::Linear { log2 }].into_iter().chain(two_level) {
                let (bytes, config) = (format.bytes(), format.config());
                assert_eq!(bytes.map(|_| ()), config.map(|_| ()), "{format:?}");
                let (Ok(bytes), Ok(config)) = (bytes, config) else { continue };
                let config = DecodedConfig::decode(config);
                assert_eq!(config.format(), Some(format));
                assert_eq!(config.alignment(), Some(bytes.max(64)), "{format:?}");
            }
        }
        assert_eq!(DecodedConfig::decode(58).alignment(), None);
        assert_eq!(DecodedConfig::decode(58).covered_bits(16), 16);
        assert_eq!(DecodedConfig::decode(8).covered_bits(16), 8);
    }

    #[test]
    fn reserved_values_behave_as_the_architecture_says() {
        assert_eq!(DecodedConfig::decode(2 << 16 | 8 << 6 | 9).second_level_bits(), None);
        assert_eq!(DecodedConfig::decode(1 << 16 | 7 << 6 | 9).second_level_bits(), Some(6));
        let base = DecodedBase::decode(1 << 62 | 0x4000_7fc0);
        assert!(base.read_allocate);
        assert_eq!(base.effective_address(DecodedConfig::decode(4)), PhysAddr(0x4000_7c00));
        assert_eq!(base.effective_address(DecodedConfig::decode(63)), PhysAddr(0));
    }
}
