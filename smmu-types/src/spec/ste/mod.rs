//! Stream table entries (IHI 0070, 5.2): 64 bytes.

#[cfg(test)]
mod tests;

use core::fmt;

use crate::spec::bits::{address, attempt, bit, fit, get, mask, put};
use crate::{Cacheability, FieldError, Granule, OutputSize, PhysAddr, Shareability, Vmid};

/// `S1DSS`: what a transaction without a SubstreamID does when the stream has substreams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum SubstreamDefault {
    /// It is terminated.
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
    /// Answered; translated transactions pass.
    Full = 1,
    /// Answered with stage 1; translated transactions go through stage 2.
    Split = 2,
    /// Full ATS with DPT checks: as [`Full`](Self::Full), and the device permission table is asked about each granule
    /// of a translated transaction. Where `IDR3.DPT` is 0 the value is reserved, and ATS is refused.
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

/// The stage-1 part of an STE: where the context descriptors are.
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
    /// `S2FWB`: the attributes of the tables are encoded for forced write-back.
    pub forced_write_back: bool,
    /// `S2PTW`: stage-1 walks through Device memory fault.
    pub protected_walk: bool,
    /// `S2S`: faults stall.
    pub stall: bool,
    /// `S2R`: faults are recorded.
    pub record: bool,
}

/// What an STE says, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SteConfig {
    /// `V` = 0: transactions end in `C_BAD_STE`.
    Invalid,
    /// `Config` = 0: transactions are aborted without an event.
    Abort,
    /// `Config` = 4: no translation.
    Bypass,
    /// `Config` = 5: stage 1.
    Stage1(TableConfig),
    /// `Config` = 6: stage 2.
    Stage2(Stage2Config),
    /// `Config` = 7: both.
    Nested(TableConfig, Stage2Config),
    /// `Config` = 6 with other tables than VMSAv8-64 (`S2AA64` = 0): VMSAv9-128 where `IDR5.D128` is set, VMSAv8-32
    /// LPAE otherwise. The fields say what they say by [key](crate::fields::ste).
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
    /// A stage 2 whose granule or output size is a reserved value.
    Reserved {
        /// `Config`.
        config: u8,
    },
}

/// A stream table entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ste(pub [u64; 8]);

crate::layout::keyed!(Ste);

const V: u64 = 1;
const MEV: u64 = 1 << 19;

impl Ste {
    /// Bytes of an STE.
    pub const BYTES: usize = 64;

    /// `V` = 0.
    pub const INVALID: Ste = Ste([0; 8]);

    /// Transactions are aborted, without an event.
    pub const ABORT: Ste = Ste([V, 0, 0, 0, 0, 0, 0, 0]);

    /// No translation.
    #[must_use]
    pub const fn bypass(shareability: ShareabilityOverride) -> Ste {
        Ste([V | 4 << 1, put(shareability as u64, 45, 44), 0, 0, 0, 0, 0, 0])
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
        let (w0, w1) = attempt!(encode_table(table));
        let w1 = w1 | put(ats as u64, 29, 28) | put(shareability as u64, 45, 44);
        Ok(Ste([V | 5 << 1 | w0, w1, 0, 0, 0, 0, 0, 0]))
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
        let (w2, w3) = attempt!(encode_stage2(stage2));
        let w1 = (stage2.forced_write_back as u64) << 25
            | put(ats as u64, 29, 28)
            | put(shareability as u64, 45, 44);
        Ok(Ste([V | 6 << 1, w1, w2, w3, 0, 0, 0, 0]))
    }

    /// `EATS`.
    #[must_use]
    pub const fn ats(&self) -> AtsMode {
        match get(self.0[1], 29, 28) {
            0 => AtsMode::Off,
            1 => AtsMode::Full,
            2 => AtsMode::Split,
            _ => AtsMode::FullChecked,
        }
    }

    /// What the entry says.
    #[must_use]
    pub const fn decode(&self) -> SteConfig {
        let w0 = self.0[0];
        if w0 & V == 0 {
            return SteConfig::Invalid;
        }
        let (config, vmid) = (get(w0, 3, 1) as u8, Vmid(get(self.0[2], 15, 0) as u16));
        match (config, decode_stage2(&self.0)) {
            (0..=3, _) => SteConfig::Abort,
            (4, _) => SteConfig::Bypass,
            (5, _) => SteConfig::Stage1(decode_table(&self.0)),
            (6, Stage2::Long(stage2)) => SteConfig::Stage2(stage2),
            (6, Stage2::Other) => SteConfig::Stage2Other { vmid },
            (_, Stage2::Long(stage2)) => SteConfig::Nested(decode_table(&self.0), stage2),
            (_, Stage2::Other) => SteConfig::NestedOther { table: decode_table(&self.0), vmid },
            (_, Stage2::Reserved) => SteConfig::Reserved { config },
        }
    }

    /// The bits that hardware looks at in an entry with this content.
    ///
    /// An update that leaves every used bit either old or new is one that hardware cannot see half of.
    #[must_use]
    pub const fn used(&self) -> [u64; 8] {
        let [w0, w1, ..] = self.0;
        let mut used = [V, 0, 0, 0, 0, 0, 0, 0];
        if w0 & V == 0 {
            return used;
        }
        used[0] |= mask(3, 1);
        let config = get(w0, 3, 1);
        if config & 4 == 0 {
            return used;
        }
        // DRE to PPAR, MemAttr to ALLOCCFG, PRIVCFG, INSTCFG; MPAM; what is implementation defined.
        used[1] |= mask(18, 12) | mask(40, 32) | mask(51, 48) | mask(63, 52);
        used[2] |= mask(31, 16);
        used[4] |= mask(31, 0);
        used[5] |= mask(7, 0);
        if config == 4 {
            used[1] |= mask(45, 44);
        }
        if config & 1 != 0 {
            used[0] |= mask(5, 4) | mask(55, 6) | mask(63, 59);
            used[1] |= mask(7, 0) | MEV | 1 << 24 | mask(31, 26);
            used[2] |= mask(15, 0);
            if get(w1, 1, 0) == SubstreamDefault::Bypass as u64 {
                used[1] |= mask(45, 44);
            }
            // Without stage 2 as well: SMMUv3.0 may refuse S2S with full ATS, and DPT_VMATCH is of the DPT alone.
            match get(w1, 29, 28) {
                1 => used[2] |= 1 << 57,
                3 => used[2] |= mask(63, 62),
                _ => {}
            }
        }
        if config & 2 != 0 {
            used[1] |= mask(11, 8) | 1 << 25 | MEV | mask(29, 28) | mask(45, 44);
            used[2] |= mask(15, 0) | mask(63, 32);
            used[3] |= mask(3, 2) | mask(55, 4) | mask(62, 61);
            used[5] |= mask(11, 9);
            used[7] = u64::MAX;
        }
        if config & 3 == 3 {
            used[5] |= mask(55, 12);
        }
        used
    }

    /// The used bits that may change at any moment in the step from `self` to `to`.
    ///
    /// The low bit of `EATS` may while neither side uses split ATS, ATS with DPT checks or stage-2 stalls, because ATS
    /// is turned off at the device first. With the high bit set on a side, changing the low one alone could make split
    /// ATS of something else. `MEV` only decides how events are merged. Where `EATS` may change, `S2S`, which counts
    /// beside it, is 0 on both sides.
    #[must_use]
    pub const fn safe(&self, to: &Ste) -> [u64; 8] {
        const fn pinned(ste: &Ste) -> bool {
            bit(ste.0[1], 29) || bit(ste.0[2], 57)
        }
        let mut safe = [0; 8];
        safe[1] = MEV;
        if !pinned(self) && !pinned(to) {
            safe[1] |= 1 << 28;
        }
        safe
    }
}

#[inline]
const fn encode_table(table: TableConfig) -> Result<(u64, u64), FieldError> {
    const fn reserved(field: &'static str, value: u64) -> Result<(u64, u64), FieldError> {
        Err(FieldError::Reserved { field, value })
    }
    if let SubstreamDefault::Reserved = table.substream_default {
        return reserved("S1DSS", table.substream_default as u64);
    }
    if let StreamWorld::Reserved1 | StreamWorld::Reserved3 = table.world {
        return reserved("STRW", table.world as u64);
    }
    if table.format == 3 {
        return reserved("S1Fmt", 3);
    }
    let w0 = attempt!(fit("S1Fmt", table.format as u64, 5, 4))
        | attempt!(address("S1ContextPtr", table.context.0, 55, 6))
        | attempt!(fit("S1CDMax", table.cd_max as u64, 63, 59));
    let w1 = put(table.substream_default as u64, 1, 0)
        | put(table.inner as u64, 3, 2)
        | put(table.outer as u64, 5, 4)
        | attempt!(table.shareability.place("S1CSH", 6))
        | (table.stall_disable as u64) << 27
        | put(table.world as u64, 31, 30);
    Ok((w0, w1))
}

const fn decode_table(words: &[u64; 8]) -> TableConfig {
    let [w0, w1, ..] = *words;
    TableConfig {
        format: get(w0, 5, 4) as u8,
        context: PhysAddr(w0 & mask(55, 6)),
        cd_max: get(w0, 63, 59) as u8,
        substream_default: match get(w1, 1, 0) {
            0 => SubstreamDefault::Terminate,
            1 => SubstreamDefault::Bypass,
            2 => SubstreamDefault::Substream0,
            _ => SubstreamDefault::Reserved,
        },
        inner: Cacheability::from_encoding(get(w1, 3, 2)),
        outer: Cacheability::from_encoding(get(w1, 5, 4)),
        shareability: Shareability::from_encoding(get(w1, 7, 6)),
        stall_disable: bit(w1, 27),
        world: match get(w1, 31, 30) {
            0 => StreamWorld::El1,
            1 => StreamWorld::Reserved1,
            2 => StreamWorld::El2,
            _ => StreamWorld::Reserved3,
        },
    }
}

const S2AA64: u64 = 1 << 51;

#[inline]
const fn encode_stage2(s2: Stage2Config) -> Result<(u64, u64), FieldError> {
    let w2 = s2.vmid.0 as u64
        | attempt!(fit("S2T0SZ", s2.t0sz as u64, 37, 32))
        | attempt!(fit("S2SL0", s2.start_level as u64, 39, 38))
        | put(s2.inner as u64, 41, 40)
        | put(s2.outer as u64, 43, 42)
        | attempt!(s2.shareability.place("S2SH0", 44))
        | put(s2.granule.tg0(), 47, 46)
        | put(s2.output_size as u64, 50, 48)
        | S2AA64
        | (s2.protected_walk as u64) << 54
        | (s2.stall as u64) << 57
        | (s2.record as u64) << 58;
    Ok((w2, attempt!(address("S2TTB", s2.table.0, 51, 4))))
}

/// What the fields of stage 2 say.
enum Stage2 {
    /// Tables of VMSAv8-64.
    Long(Stage2Config),
    /// Tables of another format.
    Other,
    /// A value is reserved.
    Reserved,
}

const fn decode_stage2(words: &[u64; 8]) -> Stage2 {
    let [_, w1, w2, w3, ..] = *words;
    if w2 & S2AA64 == 0 {
        return Stage2::Other;
    }
    let (Some(granule), Some(output_size)) =
        (Granule::from_tg0(get(w2, 47, 46)), OutputSize::from_encoding(get(w2, 50, 48) as u8))
    else {
        return Stage2::Reserved;
    };
    Stage2::Long(Stage2Config {
        vmid: Vmid(get(w2, 15, 0) as u16),
        t0sz: get(w2, 37, 32) as u8,
        start_level: get(w2, 39, 38) as u8,
        inner: Cacheability::from_encoding(get(w2, 41, 40)),
        outer: Cacheability::from_encoding(get(w2, 43, 42)),
        shareability: Shareability::from_encoding(get(w2, 45, 44)),
        granule,
        output_size,
        table: PhysAddr(w3 & mask(51, 4)),
        forced_write_back: bit(w1, 25),
        protected_walk: bit(w2, 54),
        stall: bit(w2, 57),
        record: bit(w2, 58),
    })
}

/// What stands behind an entry with `S2AA64` = 0.
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
