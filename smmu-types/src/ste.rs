//! Stream table entries (IHI 0070, 5.2): 64 bytes.

use core::fmt;

use crate::bits::{address, attempt, bit, fit, get, mask, put};
use crate::{Granule, LayoutError, OutputSize, PhysAddr, Vmid};

/// Cacheability of table walks (`IR`/`OR` fields).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Cacheability {
    /// Non-cacheable.
    #[default]
    NonCacheable = 0,
    /// Write-Back, Read-Allocate, Write-Allocate.
    WriteBack = 1,
    /// Write-Through, Read-Allocate.
    WriteThrough = 2,
    /// Write-Back, Read-Allocate, no Write-Allocate.
    WriteBackNoAllocate = 3,
}

impl Cacheability {
    pub(crate) const fn from_encoding(value: u64) -> Self {
        match value & 3 {
            0 => Cacheability::NonCacheable,
            1 => Cacheability::WriteBack,
            2 => Cacheability::WriteThrough,
            _ => Cacheability::WriteBackNoAllocate,
        }
    }
}

/// Shareability of table walks (`SH` fields). The value 1 is reserved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Shareability {
    /// Non-shareable.
    #[default]
    NonShareable = 0,
    /// The reserved value 1.
    Reserved = 1,
    /// Outer Shareable.
    Outer = 2,
    /// Inner Shareable.
    Inner = 3,
}

impl Shareability {
    pub(crate) const fn from_encoding(value: u64) -> Self {
        match value & 3 {
            0 => Shareability::NonShareable,
            1 => Shareability::Reserved,
            2 => Shareability::Outer,
            _ => Shareability::Inner,
        }
    }

    /// The value, unless it is the reserved one.
    pub(crate) const fn place(self, field: &'static str, lo: u32) -> Result<u64, LayoutError> {
        match self {
            Shareability::Reserved => Err(LayoutError::Reserved { field, value: self as u64 }),
            _ => Ok((self as u64) << lo),
        }
    }
}

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
    ) -> Result<Ste, LayoutError> {
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
    ) -> Result<Ste, LayoutError> {
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
const fn encode_table(table: TableConfig) -> Result<(u64, u64), LayoutError> {
    const fn reserved(field: &'static str, value: u64) -> Result<(u64, u64), LayoutError> {
        Err(LayoutError::Reserved { field, value })
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
const fn encode_stage2(s2: Stage2Config) -> Result<(u64, u64), LayoutError> {
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

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use rstest::rstest;
    use std::string::ToString;

    fn table(default: SubstreamDefault) -> TableConfig {
        TableConfig {
            format: 2,
            context: PhysAddr(0x0000_f0f0_f0f0_f0c0),
            cd_max: 0x1f,
            substream_default: default,
            inner: Cacheability::WriteBack,
            outer: Cacheability::WriteBack,
            shareability: Shareability::Inner,
            stall_disable: true,
            world: StreamWorld::El1,
        }
    }

    fn stage2() -> Stage2Config {
        Stage2Config {
            vmid: Vmid(0),
            t0sz: 4,
            start_level: 3,
            inner: Cacheability::WriteThrough,
            outer: Cacheability::WriteBack,
            shareability: Shareability::Inner,
            granule: Granule::K16,
            output_size: OutputSize::Bits36,
            table: PhysAddr(0x000d_beef_dead_bee0),
            forced_write_back: false,
            protected_walk: true,
            stall: false,
            record: true,
        }
    }

    // Values from outside: what Linux's driver writes for these entries in its tests.
    #[rstest]
    #[case::abort(Ste::ABORT, [1, 0, 0, 0])]
    #[case::bypass(
        Ste::bypass(ShareabilityOverride::Incoming),
        [0x9, 0x0000_1000_0000_0000, 0, 0]
    )]
    #[case::cd_table_ssid0(
        Ste::stage1(table(SubstreamDefault::Substream0), AtsMode::Full, ShareabilityOverride::NonShareable)
            .unwrap(),
        [0xf800_f0f0_f0f0_f0eb, 0x1800_00d6, 0, 0]
    )]
    #[case::cd_table_bypass(
        Ste::stage1(table(SubstreamDefault::Bypass), AtsMode::Full, ShareabilityOverride::Incoming)
            .unwrap(),
        [0xf800_f0f0_f0f0_f0eb, 0x0000_1000_1800_00d5, 0, 0]
    )]
    #[case::stage2_ats(
        Ste::stage2(stage2(), AtsMode::Full, ShareabilityOverride::Incoming).unwrap(),
        [0xd, 0x0000_1000_1000_0000, 0x0449_b6c4_0000_0000, 0x000d_beef_dead_bee0]
    )]
    #[case::stage2(
        Ste::stage2(stage2(), AtsMode::Off, ShareabilityOverride::Incoming).unwrap(),
        [0xd, 0x0000_1000_0000_0000, 0x0449_b6c4_0000_0000, 0x000d_beef_dead_bee0]
    )]
    fn matches_vectors(#[case] ste: Ste, #[case] words: [u64; 4]) {
        assert_eq!(ste.0[..4], words);
        assert_eq!(ste.0[4..], [0; 4]);
    }

    #[test]
    fn decode_is_the_inverse() {
        let s1 = Ste::stage1(
            table(SubstreamDefault::Substream0),
            AtsMode::Off,
            ShareabilityOverride::NonShareable,
        );
        assert_eq!(s1.unwrap().decode(), SteConfig::Stage1(table(SubstreamDefault::Substream0)));
        let s2 = Ste::stage2(stage2(), AtsMode::Split, ShareabilityOverride::Incoming).unwrap();
        assert_eq!(s2.decode(), SteConfig::Stage2(stage2()));
        assert_eq!(s2.ats(), AtsMode::Split);
        let forced = Stage2Config { forced_write_back: true, ..stage2() };
        let fwb = Ste::stage2(forced, AtsMode::Off, ShareabilityOverride::Incoming).unwrap();
        assert_eq!((fwb.0[1], fwb.decode()), (1 << 44 | 1 << 25, SteConfig::Stage2(forced)));
        assert_eq!(Ste::INVALID.decode(), SteConfig::Invalid);
        assert_eq!(Ste::ABORT.decode(), SteConfig::Abort);
    }

    #[rstest]
    #[case::other_tables(0xd, 0x5, "stage 2 vmid=5 tables=VMSAv8-32|VMSAv9-128")]
    // VMSAv8-32 does not look at the granule and the output size.
    #[case::other_tables_alone(
        0xd,
        0x0007_c000_0000_0005,
        "stage 2 vmid=5 tables=VMSAv8-32|VMSAv9-128"
    )]
    #[case::nested(0xf, 0x5, "nested vmid=5 tables=VMSAv8-32|VMSAv9-128")]
    #[case::reserved_granule(0xd, 0x0008_c000_0000_0005, "reserved config=6")]
    fn stage_2_of_other_tables_is_named(#[case] w0: u64, #[case] w2: u64, #[case] text: &str) {
        assert_eq!(Ste([w0, 0, w2, 0, 0, 0, 0, 0]).to_string(), text);
    }

    #[test]
    fn reserved_values_are_refused() {
        let reserved = |field, value| Err(LayoutError::Reserved { field, value });
        let good = table(SubstreamDefault::Substream0);
        for (config, field, value) in [
            (TableConfig { format: 3, ..good }, "S1Fmt", 3),
            (table(SubstreamDefault::Reserved), "S1DSS", 3),
            (TableConfig { shareability: Shareability::Reserved, ..good }, "S1CSH", 1),
            (TableConfig { world: StreamWorld::Reserved1, ..good }, "STRW", 1),
            (TableConfig { world: StreamWorld::Reserved3, ..good }, "STRW", 3),
        ] {
            let made = Ste::stage1(config, AtsMode::Off, ShareabilityOverride::Incoming);
            assert_eq!(made, reserved(field, value));
        }
        let config = Stage2Config { shareability: Shareability::Reserved, ..stage2() };
        let made = Ste::stage2(config, AtsMode::Off, ShareabilityOverride::Incoming);
        assert_eq!(made, reserved("S2SH0", 1));
    }

    #[rstest]
    #[case::on_to_off(1, 0, 1)]
    #[case::off_to_on(0, 1, 1)]
    #[case::checked_to_off(3, 0, 0)]
    #[case::off_to_checked(0, 3, 0)]
    #[case::checked_to_on(3, 1, 0)]
    #[case::split_to_off(2, 0, 0)]
    fn ats_never_passes_through_split(#[case] from: u64, #[case] to: u64, #[case] safe: u64) {
        let ste = |eats: u64| Ste([0xb, eats << 28, 0, 0, 0, 0, 0, 0]);
        let bits = ste(from).safe(&ste(to));
        assert_eq!(get(bits[1], 29, 28), safe);
        // Whatever the safe bits are in between, it is one of the ends, or neither of them is split.
        let mid = ste(from).0[1] & !bits[1] | ste(to).0[1] & bits[1];
        assert!(get(mid, 29, 28) != 2 || from == 2 || to == 2);
    }

    #[rstest]
    // 5.2: the check of EATS may look at S2S although stage 2 is bypassed.
    #[case::full(1, 1 << 57)]
    #[case::checked(3, 3 << 62)]
    #[case::off(0, 0)]
    fn ats_of_stage_1_uses_fields_of_word_2(#[case] eats: u64, #[case] used: u64) {
        let ste = Ste([0xb, eats << 28, 0, 0, 0, 0, 0, 0]);
        assert_eq!(ste.used()[2] & mask(63, 32), used);
    }

    #[test]
    fn a_misaligned_table_is_refused_not_cut() {
        let mut config = table(SubstreamDefault::Substream0);
        config.context = PhysAddr(0x0000_f0f0_f0f0_f0f0);
        let refused = Ste::stage1(config, AtsMode::Off, ShareabilityOverride::NonShareable);
        assert_eq!(
            refused,
            Err(LayoutError::Misaligned {
                field: "S1ContextPtr",
                value: 0xf0f0_f0f0_f0f0,
                align: 64
            })
        );
        config.context = PhysAddr(0x1000);
        config.cd_max = 0xff;
        let refused = Ste::stage1(config, AtsMode::Off, ShareabilityOverride::NonShareable);
        assert_eq!(
            refused,
            Err(LayoutError::TooLarge { field: "S1CDMax", value: 0xff, max: 0x1f })
        );
    }

    #[test]
    fn every_bit_that_an_encoder_sets_is_used() {
        let entries = [
            Ste::ABORT,
            Ste::bypass(ShareabilityOverride::Incoming),
            Ste::stage1(
                table(SubstreamDefault::Bypass),
                AtsMode::Full,
                ShareabilityOverride::Inner,
            )
            .unwrap(),
            Ste::stage2(stage2(), AtsMode::Full, ShareabilityOverride::Incoming).unwrap(),
        ];
        for entry in entries {
            for (word, used) in entry.0.iter().zip(entry.used()) {
                assert_eq!(word & !used, 0, "{entry:?}");
            }
        }
    }
}
