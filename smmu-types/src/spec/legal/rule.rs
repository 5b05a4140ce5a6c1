//! The table of the rules: the sentence, section, effect and remedy of each.

use core::fmt;

use crate::EventKind;

/// What the SMMU does about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Effect {
    /// The structure is ILLEGAL, or the SMMU refuses the transaction: it terminates it, and records
    /// this event. It records `C_BAD_STREAMID` with `CR2.RECINVSID` only.
    Illegal(EventKind),
    /// The SMMU treats the value as another one.
    TreatedAs(&'static str),
    /// The field is IGNORED.
    Ignored,
    /// The structure is legal, but transactions through it end in this event.
    FaultsLater(EventKind),
    /// CONSTRAINED UNPREDICTABLE: the implementation may refuse the value, cut it, or use it as it
    /// is.
    ConstrainedUnpredictable,
    /// IMPLEMENTATION DEFINED.
    ImplementationDefined,
    /// A RES0 field is set. An implementation may ignore it or give it a meaning; software must
    /// write 0.
    Reserved,
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Effect::Illegal(event) => write!(f, "refused with {event}"),
            Effect::TreatedAs(other) => write!(f, "treated as {other}"),
            Effect::Ignored => f.write_str("ignored"),
            Effect::FaultsLater(event) => write!(f, "faults later with {event}"),
            Effect::ConstrainedUnpredictable => f.write_str("constrained unpredictable"),
            Effect::ImplementationDefined => f.write_str("implementation defined"),
            Effect::Reserved => f.write_str("reserved, must be 0"),
        }
    }
}

/// The stage of a rule: the CD is at fault for stage 1, the STE for stage 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleStage {
    /// Stage 1: the CD.
    One,
    /// Stage 2: the STE.
    Two,
}

impl RuleStage {
    const fn refused(self) -> Effect {
        Effect::Illegal(match self {
            RuleStage::One => EventKind::C_BAD_CD,
            RuleStage::Two => EventKind::C_BAD_STE,
        })
    }

    const fn section(self) -> &'static str {
        match self {
            RuleStage::One => "5.4",
            RuleStage::Two => "5.2",
        }
    }
}

const BAD_STE: Effect = Effect::Illegal(EventKind::C_BAD_STE);
const BAD_CD: Effect = Effect::Illegal(EventKind::C_BAD_CD);
const BAD_STREAM: Effect = Effect::Illegal(EventKind::C_BAD_STREAMID);
const BAD_SUBSTREAM: Effect = Effect::Illegal(EventKind::C_BAD_SUBSTREAMID);

/// SMMUv3.0 may behave differently.
const fn since_minor_1(minor: u8, effect: Effect) -> Effect {
    if minor == 0 { Effect::ConstrainedUnpredictable } else { effect }
}

macro_rules! rules {
    ($(
        $(#[$doc:meta])*
        $name:ident $({ $($(#[$field_doc:meta])* $field:ident : $type:ty),* })?
            : $section:expr, $effect:expr, $text:literal, $remedy:literal;
    )*) => {
        /// A rule that a structure breaks, with the numbers that its sentence needs.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Rule {
            $(
                $(#[$doc])*
                $name $({ $($(#[$field_doc])* $field: $type),* })?,
            )*
        }

        #[expect(unused_variables, reason = "one list of patterns serves four uses")]
        impl Rule {
            /// The section of IHI 0070 that defines the rule.
            #[must_use]
            pub const fn section(&self) -> &'static str {
                match *self {
                    $(Rule::$name $({ $($field),* })? => $section,)*
                }
            }

            /// What the SMMU does about it.
            #[must_use]
            pub const fn effect(&self) -> Effect {
                match *self {
                    $(Rule::$name $({ $($field),* })? => $effect,)*
                }
            }

            /// What the caller can do.
            #[must_use]
            pub const fn remedy(&self) -> &'static str {
                match *self {
                    $(Rule::$name $({ $($field),* })? => $remedy,)*
                }
            }
        }

        #[expect(unused_variables, reason = "one list of patterns serves four uses")]
        impl fmt::Display for Rule {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match *self {
                    $(Rule::$name $({ $($field),* })? => write!(f, $text),)*
                }
            }
        }
    };
}

rules! {
    // Validity and stages.

    /// `V` is 0.
    Invalid {
        /// The stage.
        stage: RuleStage
    }: stage.section(), stage.refused(), "the structure is not valid",
        "set V once all other fields are in memory";
    /// `Config` is 1, 2 or 3.
    ReservedConfig: "5.2", Effect::TreatedAs("0b000: transactions abort without an event"),
        "the value is reserved and aborts every transaction without an event", "write 0 to abort, or 4 to 7";
    /// Stage 1 must translate, and the SMMU has none.
    Stage1Absent: "5.2", BAD_STE, "the SMMU has no stage 1 (IDR0.S1P = 0)", "use stage 2 or bypass";
    /// Stage 2 must translate, and the SMMU has none.
    Stage2Absent: "5.2", BAD_STE, "the SMMU has no stage 2 (IDR0.S2P = 0)", "use stage 1 or bypass";

    // Families.

    /// A field that is RES0 here is not 0.
    Res0 {
        /// What is missing, as in "without IDR3.S1PI".
        why: &'static str
    }: "5.2, 5.4", Effect::Reserved, "the field is RES0 {why}", "write 0";
    /// The SMMU ignores a field that is not 0.
    IgnoredField {
        /// Why, as in "while HA is 1".
        why: &'static str
    }: "5.2, 5.4", Effect::Ignored, "the field is ignored {why}", "do not rely on it";
    /// A reserved value that behaves as another one.
    ReservedValue {
        /// The value that it behaves as.
        behaves: &'static str
    }: "5.2, 5.4", Effect::TreatedAs(behaves), "the value is reserved and behaves as {behaves}",
        "write a value that has a meaning of its own";

    // ATS.

    /// `EATS` = 2 without both stages.
    SplitAtsNotNested: "5.2", BAD_STE, "split-stage ATS needs both stages (Config = 7)",
        "translate at both stages, or use full ATS";
    /// `EATS` = 2 and `IDR0.NS1ATS`.
    SplitAtsAbsent: "5.2", BAD_STE, "the SMMU has no split-stage ATS (IDR0.NS1ATS = 1)", "use full ATS";
    /// `EATS` = 2 or 3 without `CR0.ATSCHK`.
    AtsUnchecked: "5.2", Effect::TreatedAs("0b00: ATS is refused"),
        "without CR0.ATSCHK the value behaves as 0b00, and ATS is refused", "set CR0.ATSCHK first";
    /// ATS and `S2S`.
    AtsWithStall: "5.2", BAD_STE, "ATS does not go with stalls of stage 2 (S2S = 1)", "clear S2S";
    /// Full ATS and `S2S` while stage 2 is bypassed, in SMMUv3.0.
    AtsWithUnusedStall: "5.2", Effect::ConstrainedUnpredictable,
        "SMMUv3.0 may refuse ATS with S2S = 1 even though stage 2 is bypassed", "clear S2S";
    /// `EATS` = 3 without a device permission table.
    DptAbsent: "5.2", Effect::TreatedAs("0b00: ATS is refused"),
        "the SMMU has no device permission table (IDR3.DPT = 0), and ATS is refused", "use full ATS";
    /// `EATS` = 3 for a stream of EL2.
    DptNotEl1: "5.2", BAD_STE, "checks against the device permission table are for EL1 streams only",
        "write STRW = 0, or use full ATS";

    // Stage 1, in the STE.

    /// `STRW` is 1 or 3.
    ReservedStreamWorld: "5.2", BAD_STE, "the value is reserved for a Non-secure stream", "write 0 or 2";
    /// `S1STALLD` is set where stalls are not a choice.
    StallDisableAbsent {
        /// `IDR0.STALL_MODEL`.
        model: u8
    }: "5.2, 5.5", BAD_STE, "stalls cannot be disabled where they are not a choice (IDR0.STALL_MODEL = {model})",
        "write 0";
    /// `S1CDMax` is beyond the SMMU's SubstreamIDs.
    TooManySubstreams {
        /// `IDR1.SSIDSIZE`.
        max: u8
    }: "5.2", BAD_STE, "the SMMU has {max} bits of SubstreamID (IDR1.SSIDSIZE)", "write at most IDR1.SSIDSIZE";
    /// `S1Fmt` is two-level without `IDR0.CD2L`.
    TwoLevelAbsent: "5.2", BAD_STE, "the SMMU has no two-level CD tables (IDR0.CD2L = 0)", "use a linear table";
    /// The table of CDs is not aligned to its size.
    ContextsMisaligned {
        /// log2 of the alignment needed.
        align: u8
    }: "5.2", Effect::ConstrainedUnpredictable,
        "the table must be aligned to 2^{align} bytes; the SMMU may read any part of it otherwise",
        "align the table to its size";
    /// A physical address of a CD or a table of them is beyond the output size.
    ContextsBeyondOutput {
        /// Bits of an output address.
        bits: u8,
        /// Minor version of the SMMU.
        minor: u8
    }: "5.2, 3.4.3", since_minor_1(minor, BAD_STE), "the address does not fit into the {bits} bits of IDR5.OAS",
        "allocate lower memory";
    /// An intermediate address of a CD or a table of them is beyond every intermediate address.
    ContextsBeyondIntermediate {
        /// Bits of an intermediate address.
        bits: u8
    }: "5.2, 3.4.3", Effect::ConstrainedUnpredictable,
        "the address does not fit into the {bits} bits of an intermediate address", "use a lower address";
    /// An intermediate address is beyond what stage 2 of this stream translates.
    BeyondStage2Input {
        /// Bits of an input address of stage 2.
        bits: u8
    }: "3.4", Effect::FaultsLater(EventKind::F_TRANSLATION),
        "stage 2 translates {bits} bits, and the address is beyond them", "lower the address, or S2T0SZ";

    // Translation tables, either stage.

    /// The SMMU does not have the table format.
    FormatAbsent {
        /// The stage.
        stage: RuleStage,
        /// The format.
        format: &'static str
    }: stage.section(), stage.refused(), "the SMMU has no {format} tables (IDR0.TTF)", "use the other format";
    /// AArch32 tables for EL2-E2H.
    ShortFormatInE2h: "5.4", BAD_CD, "VMSAv8-32 LPAE tables do not go with EL2-E2H", "use VMSAv8-64 tables";
    /// AArch64 stage 1 over AArch32 stage 2.
    LongOverShort: "5.4", BAD_CD, "VMSAv8-64 at stage 1 does not go with VMSAv8-32 LPAE at stage 2",
        "use the same format at both stages";
    /// VMSAv9-128 for EL2.
    WideFormatInEl2: "5.4", BAD_CD, "VMSAv9-128 tables do not go with EL2 without E2H", "use VMSAv8-64 tables";
    /// VMSAv9-128 without `STE.S1PIE`.
    WideFormatDirect: "5.4", BAD_CD, "VMSAv9-128 tables need permission indirection (STE.S1PIE = 0)",
        "set STE.S1PIE";
    /// The SMMU does not have the granule, or the value is reserved.
    GranuleAbsent {
        /// The stage.
        stage: RuleStage
    }: stage.section(), stage.refused(), "the SMMU has no such granule (IDR5.GRAN*)",
        "use a granule that IDR5 lists";
    /// The size of the input is out of range.
    InputSize {
        /// The stage.
        stage: RuleStage,
        /// The smallest value.
        min: u8,
        /// The largest value.
        max: u8,
        /// Minor version of the SMMU.
        minor: u8
    }: stage.section(), since_minor_1(minor, stage.refused()), "the value must be from {min} to {max}",
        "choose another size of the input, or another granule";
    /// No such start level exists.
    StartLevelReserved: "5.2", BAD_STE, "there is no such start level with this granule",
        "choose the start level from the granule and the input size";
    /// The start level needs a larger output size.
    StartLevelOutput {
        /// Bits needed.
        bits: u8
    }: "5.2", BAD_STE, "the start level is for an output size of {bits} bits and more (IDR5.OAS)",
        "start one level lower";
    /// Start level and input size do not fit together.
    StartLevel {
        /// The fewest bits.
        min: u8,
        /// The most bits.
        max: u8,
        /// The bits that `S2T0SZ` says.
        bits: u8
    }: "5.2", BAD_STE, "a walk from this level resolves {min} to {max} bits, and S2T0SZ says {bits}",
        "choose the start level from the granule and the input size";
    /// `SKL` skips more levels than the walk has.
    SkipLevel {
        /// The stage.
        stage: RuleStage
    }: stage.section(), stage.refused(), "more levels are skipped than there are", "skip fewer levels";
    /// The tables are beyond the output size.
    TableBeyondOutput {
        /// The stage.
        stage: RuleStage,
        /// Bits of an address.
        bits: u8
    }: stage.section(), stage.refused(), "the table must lie within {bits} bits",
        "use lower memory, or a larger output size";
    /// The tables are not aligned to the size of the first one.
    TableRounded {
        /// log2 of the alignment.
        align: u8
    }: "5.1, 5.2, 5.4", Effect::TreatedAs("the address rounded down"),
        "the first table is aligned to 2^{align} bytes, and lower address bits count as 0",
        "align the first table to its size";
    /// The output size is beyond the SMMU's.
    OutputSizeCapped {
        /// Bits that remain.
        bits: u8
    }: "5.2, 5.4", Effect::TreatedAs("the output size of the SMMU"),
        "the output size is capped to {bits} bits", "write at most IDR5.OAS";
    /// The SMMU does not have the endianness.
    EndiannessAbsent {
        /// The stage.
        stage: RuleStage
    }: stage.section(), stage.refused(), "the SMMU has no tables of this endianness (IDR0.TTENDIAN)",
        "write the tables in the other endianness";

    // Hardware update of flags.

    /// Hardware update in AArch32 tables of stage 2.
    UpdateInShortFormat: "5.2", BAD_STE, "hardware update does not go with VMSAv8-32 LPAE tables", "write 0";
    /// No hardware update.
    UpdateAbsent {
        /// The stage.
        stage: RuleStage
    }: stage.section(), stage.refused(), "the SMMU does not update flags (IDR0.HTTU = 0)", "write 0";
    /// No hardware update of the dirty state.
    DirtyUpdateAbsent {
        /// The stage.
        stage: RuleStage
    }: stage.section(), stage.refused(), "the SMMU updates the access flag only (IDR0.HTTU = 1)", "write 0";
    /// Dirty state without access flag.
    DirtyWithoutAccess: "5.2, 5.4", Effect::TreatedAs("0: nothing is updated"),
        "the dirty state is updated together with the access flag or not at all", "set HA (S2HA) too";
    /// Access flags of tables without access flags of pages.
    TableAccessWithoutAccess {
        /// The stage.
        stage: RuleStage
    }: stage.section(), stage.refused(), "table descriptors are updated together with pages or not at all",
        "set HA (S2HA) too";
    /// Hardware update with walks that are not Write-Back.
    UpdateUncached: "5.2, 5.4", Effect::ImplementationDefined,
        "hardware update through walks that are not write-back may not be atomic, or abort",
        "use write-back walks";

    // Faults.

    /// Stalls that the SMMU does not have.
    StallAbsent {
        /// The stage.
        stage: RuleStage
    }: "5.5", stage.refused(), "the SMMU has no stalls (IDR0.STALL_MODEL = 1)", "write 0";
    /// No stall where the SMMU always stalls.
    StallForced {
        /// The stage.
        stage: RuleStage
    }: "5.5", stage.refused(), "the SMMU always stalls (IDR0.STALL_MODEL = 2)", "write 1";
    /// The STE disables stalls.
    StallDisabled: "5.5", BAD_CD, "the STE disables stalls (S1STALLD = 1)", "write 0, or clear STE.S1STALLD";
    /// `A` = 0 where faults always abort.
    AbortForced: "5.5", BAD_CD, "the SMMU always aborts (IDR0.TERM_MODEL = 1)", "write 1";

    // Permissions and attributes.

    /// `S2FWB` with AArch32 tables.
    ForcedWriteBackInShortFormat: "5.2", BAD_STE, "S2FWB does not go with VMSAv8-32 LPAE tables", "write 0";
    /// `S2PIE` with AArch32 tables.
    IndirectInShortFormat: "5.2", BAD_STE, "indirect permissions do not go with VMSAv8-32 LPAE tables", "write 0";
    /// `S2POE` without indirect permissions.
    OverlayNotIndirect: "5.2", BAD_STE, "overlays need indirect permissions (S2PIE = 0)", "set S2PIE";
    /// `S2POE` together with `S2HWU*`.
    OverlayWithHardwareBits: "5.2", BAD_STE, "overlays do not go with S2HWU59 to S2HWU62", "clear them";
    /// A reserved overlay.
    OverlayReserved {
        /// Which of the sixteen.
        index: u8
    }: "5.2", BAD_STE, "overlay {index} has a reserved value", "write another value than 1 and 5";
    /// A reserved permission.
    PermissionReserved {
        /// Which of the sixteen.
        index: u8
    }: "5.4", BAD_CD, "permission {index} has a reserved value", "write another value than 4 and 6";
    /// Privileged software may execute pages that user software can write.
    PermissionConflict {
        /// Which of the sixteen.
        index: u8
    }: "5.4", BAD_CD, "permission {index} lets privileged software execute what user software can write",
        "take away one of the two";
    /// `ALLOCCFG` without `MTCFG`.
    AllocationWithoutType: "5.2", Effect::ConstrainedUnpredictable,
        "allocation hints may or may not be replaced while MTCFG is 0", "set MTCFG, or clear ALLOCCFG";

    // Tags, partitions and the Virtual Machine Structure.

    /// A VMID of more than 8 bits.
    VmidTooLarge: "5.2", BAD_STE, "the SMMU has 8 bits of VMID (IDR0.VMID16 = 0)", "use a VMID below 256";
    /// An ASID of more than 8 bits.
    AsidTooLarge: "5.4", BAD_CD, "the SMMU has 8 bits of ASID (IDR0.ASID16 = 0)", "use an ASID below 256";
    /// The SMMU does not have the partition.
    PartitionTooLarge {
        /// `MPAMIDR.PARTID_MAX`.
        max: u16
    }: "5.2, 5.4", Effect::TreatedAs("an UNKNOWN PARTID"), "the largest PARTID is {max} (MPAMIDR.PARTID_MAX)",
        "use a smaller PARTID";
    /// The SMMU does not have the performance monitoring group.
    MonitorTooLarge {
        /// `MPAMIDR.PMG_MAX`.
        max: u8
    }: "5.2, 5.4", Effect::TreatedAs("an UNKNOWN PMG"), "the largest PMG is {max} (MPAMIDR.PMG_MAX)",
        "use a smaller PMG";
    /// The Virtual Machine Structure is beyond the output size.
    VmsBeyondOutput {
        /// Bits of an output address.
        bits: u8
    }: "5.2, 3.4.3", BAD_STE, "the address does not fit into the {bits} bits of IDR5.OAS", "allocate lower memory";

    // Nothing translates.

    /// Neither table is walked.
    WalksOff: "5.4.1.1", Effect::FaultsLater(EventKind::F_TRANSLATION),
        "neither TTB0 nor TTB1 is walked, so every address faults", "clear EPD0 or EPD1";

    // From a StreamID to its STE.

    /// The table is larger than the SMMU's StreamIDs.
    StreamTableCapped {
        /// `IDR1.SIDSIZE`.
        max: u8
    }: "6.3.25", Effect::TreatedAs("IDR1.SIDSIZE"), "the SMMU has {max} bits of StreamID (IDR1.SIDSIZE)",
        "write at most IDR1.SIDSIZE";
    /// The StreamID is beyond the table.
    StreamBeyondTable {
        /// The StreamID.
        stream: u32
    }: "7.3.3, 6.3.25", BAD_STREAM, "the table does not reach to StreamID {stream:#x}", "make the table larger";
    /// There is no level-2 array.
    NoSpan: "5.1, 7.3.3", BAD_STREAM, "there is no array of STEs for this StreamID", "install one";
    /// `Span` is 12 or more.
    SpanReserved: "5.1, 7.3.3", BAD_STREAM, "the value is reserved and behaves as 0: there is no array of STEs",
        "write at most 11";
    /// `Span` says more STEs than `SPLIT` lets the array have.
    SpanBeyondSplit {
        /// The largest value.
        max: u8
    }: "5.1, 7.3.3", BAD_STREAM, "STRTAB_BASE_CFG.SPLIT allows a Span of at most {max}", "write at most SPLIT + 1";
    /// The StreamID is beyond the level-2 array.
    StreamBeyondSpan {
        /// The index in the array.
        index: u32,
        /// How many STEs it has.
        stes: u32
    }: "5.1, 7.3.3", BAD_STREAM, "the array has {stes} STEs, and the StreamID is number {index}",
        "make the array larger";
    /// The level-2 array is beyond the output size.
    StesBeyondOutput {
        /// Bits of an output address.
        bits: u8
    }: "5.1, 3.4.3", Effect::ConstrainedUnpredictable,
        "the address does not fit into the {bits} bits of IDR5.OAS", "allocate lower memory";

    // From a SubstreamID to its CD.

    /// A SubstreamID where stage 1 does not translate.
    SubstreamWithoutStage1: "7.3.9", BAD_SUBSTREAM, "a SubstreamID needs stage 1 to translate",
        "translate at stage 1, or take PASIDs from the device";
    /// A SubstreamID where the SMMU has none.
    SubstreamsAbsent: "7.3.9", BAD_SUBSTREAM, "the SMMU has no SubstreamIDs (IDR1.SSIDSIZE = 0)",
        "take PASIDs from the device";
    /// A SubstreamID where the STE has none.
    SubstreamsOff: "7.3.9", BAD_SUBSTREAM, "the STE has one CD and no substreams (S1CDMax = 0)",
        "install a table of CDs";
    /// The SubstreamID is beyond the table of CDs.
    SubstreamBeyondTable {
        /// The SubstreamID.
        substream: u32
    }: "7.3.9", BAD_SUBSTREAM, "the table of CDs does not reach to SubstreamID {substream:#x}",
        "make the table larger";
    /// SubstreamID 0 where its CD is for transactions without one.
    Substream0Taken: "7.3.7", Effect::Illegal(EventKind::F_STREAM_DISABLED),
        "SubstreamID 0 is for transactions without a SubstreamID", "use another SubstreamID";
    /// No SubstreamID where one is needed.
    SubstreamMissing: "7.3.7", Effect::Illegal(EventKind::F_STREAM_DISABLED),
        "transactions without a SubstreamID are terminated", "write S1DSS = 1 or 2";
    /// There is no level-2 table of CDs.
    NoContextTable: "5.3, 7.3.9", BAD_SUBSTREAM, "there is no table of CDs for this SubstreamID", "install one";
    /// The level-2 table of CDs is beyond the output size.
    ContextTableBeyondOutput {
        /// Bits of an output address.
        bits: u8,
        /// Minor version of the SMMU.
        minor: u8
    }: "5.3, 3.4.3", since_minor_1(minor, BAD_SUBSTREAM), "the address does not fit into the {bits} bits of IDR5.OAS",
        "allocate lower memory";
}
