//! Stream table entries (IHI 0070, 5.2): 64 bytes.

#[cfg(test)]
mod tests;
mod used;

use core::fmt;

use crate::fields::ste as field;
use crate::layout::{Key, attempt};
use crate::{Cacheability, FieldError, Granule, OutputSize, PhysAddr, Shareability, Ste, Vmid};

/// `S1DSS`: what a transaction without a SubstreamID does when the stream has substreams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum SubstreamDefault {
    /// The SMMU terminates it.
    #[default]
    Terminate = 0,
    /// It bypasses stage 1.
    Bypass = 1,
    /// It uses the CD of substream 0.
    Substream0 = 2,
    /// The reserved value 3.
    Reserved = 3,
}

/// `EATS`: ATS translation requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum AtsMode {
    /// Refused.
    #[default]
    Off = 0,
    /// The SMMU answers; translated transactions pass.
    Full = 1,
    /// The SMMU answers with stage 1; translated transactions go through stage 2.
    Split = 2,
    /// Full ATS with DPT checks: as [`Full`](Self::Full), and the SMMU checks each granule of a
    /// translated transaction against the device permission table. With `IDR3.DPT` = 0 the value is
    /// reserved, and the SMMU refuses ATS.
    FullChecked = 3,
}

/// `STRW`: regime of a stage-1 stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum StreamWorld {
    /// Non-secure EL1.
    #[default]
    El1 = 0,
    /// The value 1, reserved for Non-secure streams.
    Reserved1 = 1,
    /// EL2, or EL2-E2H with `CR2.E2H`.
    El2 = 2,
    /// The reserved value 3.
    Reserved3 = 3,
}

/// `SHCFG`: shareability of the transactions themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ShareabilityOverride {
    /// Non-shareable.
    #[default]
    NonShareable = 0,
    /// As the transaction came.
    Incoming = 1,
    /// Outer Shareable.
    Outer = 2,
    /// Inner Shareable.
    Inner = 3,
}

/// The stage-1 part of an STE: the table of context descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TableConfig {
    /// `S1Fmt`: 0 linear, 1 two-level with 4 KiB leaves, 2 two-level with 64 KiB leaves.
    pub format: u8,
    /// `S1ContextPtr`, aligned to 64 bytes.
    pub context: PhysAddr,
    /// `S1CDMax`: log2 of the number of CDs.
    pub cd_max: u8,
    /// `S1DSS`.
    pub substream_default: SubstreamDefault,
    /// `S1CIR`.
    pub inner: Cacheability,
    /// `S1COR`.
    pub outer: Cacheability,
    /// `S1CSH`.
    pub shareability: Shareability,
    /// `S1STALLD`: faults never stall.
    pub stall_disable: bool,
    /// `STRW`.
    pub world: StreamWorld,
}

/// The stage-2 part of an STE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stage2Config {
    /// `S2VMID`.
    pub vmid: Vmid,
    /// `S2T0SZ`: 64 minus the number of input bits.
    pub t0sz: u8,
    /// `S2SL0`.
    pub start_level: u8,
    /// `S2IR0`.
    pub inner: Cacheability,
    /// `S2OR0`.
    pub outer: Cacheability,
    /// `S2SH0`.
    pub shareability: Shareability,
    /// `S2TG`.
    pub granule: Granule,
    /// `S2PS`.
    pub output_size: OutputSize,
    /// `S2TTB`, aligned to 16 bytes at least.
    pub table: PhysAddr,
    /// `S2FWB`: the tables encode attributes for forced write-back.
    pub forced_write_back: bool,
    /// `S2PTW`: stage-1 walks through Device memory fault.
    pub protected_walk: bool,
    /// `S2S`: faults stall.
    pub stall: bool,
    /// `S2R`: faults are recorded.
    pub record: bool,
}

/// The decoded configuration of an STE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SteConfig {
    /// `V` = 0: the SMMU refuses transactions with `C_BAD_STE`.
    Invalid,
    /// `Config` = 0: the SMMU aborts transactions without an event.
    Abort,
    /// `Config` = 4: no translation.
    Bypass,
    /// `Config` = 5: stage 1.
    Stage1(TableConfig),
    /// `Config` = 6: stage 2.
    Stage2(Stage2Config),
    /// `Config` = 7: both.
    Nested(TableConfig, Stage2Config),
    /// `Config` = 6 with other tables than VMSAv8-64 (`S2AA64` = 0): VMSAv9-128 if `IDR5.D128` is
    /// set, VMSAv8-32 LPAE otherwise. Read the other fields by [key](crate::fields::ste).
    Stage2Other {
        /// `S2VMID`.
        vmid: Vmid,
    },
    /// `Config` = 7 with such tables for stage 2.
    NestedOther {
        /// Stage 1.
        table: TableConfig,
        /// `S2VMID`.
        vmid: Vmid,
    },
    /// Stage 2 with a reserved granule or output size.
    Reserved {
        /// `Config`.
        config: u8,
    },
}

/// `S2TTB` of VMSAv8-64, whose addresses have 52 bits at most.
const S2TTB: Key<Ste> = field::S2TTB.up_to(3 * 64 + 51);

/// Values of `Config`. Its bits, from the highest: not abort, stage 2, stage 1.
const BYPASS: u64 = 4;
const STAGE1: u64 = 5;
const STAGE2: u64 = 6;

/// A valid entry with this `Config`.
const fn valid(config: u64) -> Ste {
    Ste::INVALID.put(field::V, 1).put(field::CONFIG, config)
}

impl Ste {
    /// Bytes of an STE.
    pub const BYTES: usize = 64;

    /// `V` = 0.
    pub const INVALID: Ste = Ste([0; 8]);

    /// The SMMU aborts transactions without an event.
    pub const ABORT: Ste = valid(0);

    /// No translation.
    #[must_use]
    pub const fn bypass(shareability: ShareabilityOverride) -> Ste {
        valid(BYPASS).put(field::SHCFG, shareability as u64)
    }

    /// Stage 1 only.
    ///
    /// # Errors
    ///
    /// A value does not fit or is reserved, or the table is not aligned to 64 bytes.
    #[inline]
    pub const fn stage1(
        table: TableConfig,
        ats: AtsMode,
        shareability: ShareabilityOverride,
    ) -> Result<Ste, FieldError> {
        let entry =
            valid(STAGE1).put(field::EATS, ats as u64).put(field::SHCFG, shareability as u64);
        entry.with_table(table)
    }

    /// Stage 2 only.
    ///
    /// # Errors
    ///
    /// A value does not fit or is reserved, or the table is not aligned to 16 bytes.
    #[inline]
    pub const fn stage2(
        stage2: Stage2Config,
        ats: AtsMode,
        shareability: ShareabilityOverride,
    ) -> Result<Ste, FieldError> {
        let entry =
            valid(STAGE2).put(field::EATS, ats as u64).put(field::SHCFG, shareability as u64);
        entry.with_stage2(stage2)
    }

    #[inline]
    const fn with_table(self, table: TableConfig) -> Result<Ste, FieldError> {
        const fn reserved(key: Key<Ste>, value: u64) -> Result<Ste, FieldError> {
            Err(FieldError::Reserved { field: key.name(), value })
        }
        if let SubstreamDefault::Reserved = table.substream_default {
            return reserved(field::S1DSS, table.substream_default as u64);
        }
        if let StreamWorld::Reserved1 | StreamWorld::Reserved3 = table.world {
            return reserved(field::STRW, table.world as u64);
        }
        if table.format == 3 {
            return reserved(field::S1FMT, 3);
        }
        let entry = attempt!(self.fit(field::S1FMT, table.format as u64));
        let entry = attempt!(entry.fit(field::S1CONTEXTPTR, table.context.0));
        let entry = attempt!(entry.fit(field::S1CDMAX, table.cd_max as u64));
        let shareability = attempt!(table.shareability.checked(field::S1CSH.name()));
        Ok(entry
            .put(field::S1DSS, table.substream_default as u64)
            .put(field::S1CIR, table.inner as u64)
            .put(field::S1COR, table.outer as u64)
            .put(field::S1CSH, shareability)
            .put(field::S1STALLD, table.stall_disable as u64)
            .put(field::STRW, table.world as u64))
    }

    #[inline]
    const fn with_stage2(self, s2: Stage2Config) -> Result<Ste, FieldError> {
        let entry = attempt!(self.fit(field::S2T0SZ, s2.t0sz as u64));
        let entry = attempt!(entry.fit(field::S2SL0, s2.start_level as u64));
        let shareability = attempt!(s2.shareability.checked(field::S2SH0.name()));
        entry
            .put(field::S2FWB, s2.forced_write_back as u64)
            .put(field::S2VMID, s2.vmid.0 as u64)
            .put(field::S2IR0, s2.inner as u64)
            .put(field::S2OR0, s2.outer as u64)
            .put(field::S2SH0, shareability)
            .put(field::S2TG, s2.granule.tg0())
            .put(field::S2PS, s2.output_size as u64)
            .put(field::S2AA64, 1)
            .put(field::S2PTW, s2.protected_walk as u64)
            .put(field::S2S, s2.stall as u64)
            .put(field::S2R, s2.record as u64)
            .fit(S2TTB, s2.table.0)
    }

    /// `EATS`.
    #[must_use]
    pub const fn ats(&self) -> AtsMode {
        match self.get(field::EATS) {
            0 => AtsMode::Off,
            1 => AtsMode::Full,
            2 => AtsMode::Split,
            _ => AtsMode::FullChecked,
        }
    }

    /// Decodes the entry.
    #[must_use]
    pub const fn decode(&self) -> SteConfig {
        if !self.is_set(field::V) {
            return SteConfig::Invalid;
        }
        let config = self.get(field::CONFIG);
        let vmid = Vmid(self.get(field::S2VMID) as u16);
        match (config, self.decode_stage2()) {
            (0..BYPASS, _) => SteConfig::Abort,
            (BYPASS, _) => SteConfig::Bypass,
            (STAGE1, _) => SteConfig::Stage1(self.decode_table()),
            (STAGE2, Stage2::Long(stage2)) => SteConfig::Stage2(stage2),
            (STAGE2, Stage2::Other) => SteConfig::Stage2Other { vmid },
            (_, Stage2::Long(stage2)) => SteConfig::Nested(self.decode_table(), stage2),
            (_, Stage2::Other) => SteConfig::NestedOther { table: self.decode_table(), vmid },
            (_, Stage2::Reserved) => SteConfig::Reserved { config: config as u8 },
        }
    }

    const fn decode_table(&self) -> TableConfig {
        TableConfig {
            format: self.get(field::S1FMT) as u8,
            context: PhysAddr(self.get(field::S1CONTEXTPTR)),
            cd_max: self.get(field::S1CDMAX) as u8,
            substream_default: match self.get(field::S1DSS) {
                0 => SubstreamDefault::Terminate,
                1 => SubstreamDefault::Bypass,
                2 => SubstreamDefault::Substream0,
                _ => SubstreamDefault::Reserved,
            },
            inner: Cacheability::from_encoding(self.get(field::S1CIR)),
            outer: Cacheability::from_encoding(self.get(field::S1COR)),
            shareability: Shareability::from_encoding(self.get(field::S1CSH)),
            stall_disable: self.is_set(field::S1STALLD),
            world: match self.get(field::STRW) {
                0 => StreamWorld::El1,
                1 => StreamWorld::Reserved1,
                2 => StreamWorld::El2,
                _ => StreamWorld::Reserved3,
            },
        }
    }

    const fn decode_stage2(&self) -> Stage2 {
        if !self.is_set(field::S2AA64) {
            return Stage2::Other;
        }
        let (Some(granule), Some(output_size)) = (
            Granule::from_tg0(self.get(field::S2TG)),
            OutputSize::from_encoding(self.get(field::S2PS) as u8),
        ) else {
            return Stage2::Reserved;
        };
        Stage2::Long(Stage2Config {
            vmid: Vmid(self.get(field::S2VMID) as u16),
            t0sz: self.get(field::S2T0SZ) as u8,
            start_level: self.get(field::S2SL0) as u8,
            inner: Cacheability::from_encoding(self.get(field::S2IR0)),
            outer: Cacheability::from_encoding(self.get(field::S2OR0)),
            shareability: Shareability::from_encoding(self.get(field::S2SH0)),
            granule,
            output_size,
            table: PhysAddr(self.get(S2TTB)),
            forced_write_back: self.is_set(field::S2FWB),
            protected_walk: self.is_set(field::S2PTW),
            stall: self.is_set(field::S2S),
            record: self.is_set(field::S2R),
        })
    }
}

/// The decoded fields of stage 2.
enum Stage2 {
    /// Tables of VMSAv8-64.
    Long(Stage2Config),
    /// Tables of another format.
    Other,
    /// A value is reserved.
    Reserved,
}

/// How an entry with `S2AA64` = 0 prints its tables.
const OTHER_TABLES: &str = "tables=VMSAv8-32|VMSAv9-128";

impl fmt::Display for Ste {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.decode() {
            SteConfig::Invalid => f.write_str("invalid"),
            SteConfig::Abort => f.write_str("abort"),
            SteConfig::Bypass => f.write_str("bypass"),
            SteConfig::Stage1(_) => f.write_str("stage 1"),
            SteConfig::Stage2(s2) => write!(f, "stage 2 vmid={}", s2.vmid),
            SteConfig::Nested(_, s2) => write!(f, "nested vmid={}", s2.vmid),
            SteConfig::Stage2Other { vmid } => write!(f, "stage 2 vmid={vmid} {OTHER_TABLES}"),
            SteConfig::NestedOther { vmid, .. } => write!(f, "nested vmid={vmid} {OTHER_TABLES}"),
            SteConfig::Reserved { config } => write!(f, "reserved config={config}"),
        }
    }
}
