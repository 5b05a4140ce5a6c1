//! The rules by which an SMMU refuses a configuration, or treats a value as another one.
//!
//! ```
//! use smmu_types::{IdRegisters, Ste, fields, legal};
//!
//! // QEMU's SMMUv3: 44 bits of output, no ATS, little-endian tables.
//! let id = IdRegisters {
//!     idr0: 0x0d44_101b, idr1: 0x0273_0010, idr3: 0x1414, idr5: 0x74, aidr: 1,
//!     ..IdRegisters::default()
//! };
//! let entry = Ste([0x8000_000b, 0xd4, 0, 0, 0, 0, 0, 0])
//!     .with(fields::ste::S1CONTEXTPTR, 1 << 44)?
//!     .with(fields::ste::EATS, 1)?;
//! let mut found = Vec::new();
//! legal::ste(&entry, &legal::SmmuView::new(id), &mut |finding| found.push(finding));
//!
//! assert_eq!(found[0].to_string(), "EATS = 1: the field is ignored without ATS (IDR0.ATS = 0)");
//! assert_eq!(
//!     found[1].to_string(),
//!     "S1ContextPtr = 0x100000000000: the address does not fit into the 44 bits of IDR5.OAS"
//! );
//! assert_eq!(found[1].effect().to_string(), "refused with C_BAD_STE");
//! assert_eq!(found[1].rule().remedy(), "allocate lower memory");
//! # Ok::<(), smmu_types::FieldError>(())
//! ```
//!
//! A finding is not always an error. Its [`Effect`] says whether the SMMU refuses the structure,
//! treats a value as another one, or ignores it, or whether the implementation decides. Without a
//! finding the SMMU does what the fields say, within the table below.
//!
//! The rules ignore fields that a structure does not use: those of a bypassed stage, or of a table
//! whose walks are off. They also ignore bits that a format leaves out of a field (`T0SZ` of
//! VMSAv8-32 LPAE). They accept every bit pattern, and do not allocate.
//!
//! # What is covered
//!
//! | function | fields | what can happen |
//! |---|---|---|
//! | [`ste`] | `V`, `Config` | `C_BAD_STE` without the stage; values 1 to 3 abort |
//! | | `EATS`, `DPT_VMATCH` | `C_BAD_STE` with stalls, without both stages, for EL2; ignored without ATS; off without `ATSCHK` |
//! | | `STRW`, `S1STALLD` | `C_BAD_STE` for reserved values and where stalls are not a choice |
//! | | `S1Fmt`, `S1CDMax`, `S1DSS`, `S1ContextPtr` | `C_BAD_STE` beyond `SSIDSIZE`, `CD2L`, `OAS`; unpredictable when misaligned |
//! | | `S2T0SZ`, `S2SL0`, `S2SL0_2`, `S2TG`, `S2DS`, `S2SKL` | `C_BAD_STE` for absent features and values that do not fit together; `S2T0SZ` is unpredictable in SMMUv3.0 |
//! | | `S2TTB`, `S2PS` | `C_BAD_STE` beyond the output size; capped; rounded down |
//! | | `S2AA64`, `S2ENDI`, `S2S`, `S2HA`, `S2HD`, `S2HAFT`, `S2AFFD` | `C_BAD_STE` without the feature |
//! | | `S2FWB`, `S2PTW`, `S2PIE`, `S2POE`, `S2POI`, `S2HWU*`, `AssuredOnly` | `C_BAD_STE` with excluded fields; reserved without the feature |
//! | | `S2VMID`, `PARTID`, `PMG`, `VMSPtr` | `C_BAD_STE` beyond 8 bits and `OAS`; an unknown partition |
//! | | `SHCFG`, `MTCFG`, `MemAttr`, `ALLOCCFG`, `PRIVCFG`, `INSTCFG`, `NSCFG` | reserved without the override; reserved values |
//! | [`cd`] | `V`, `AA64`, `ENDI`, `S`, `A` | `C_BAD_CD` without the feature, or if the STE excludes it |
//! | | `T0SZ`, `T1SZ`, `TG0`, `TG1`, `DS`, `TTB0`, `TTB1`, `IPS`, `SKL` | as stage 2, with `C_BAD_CD`; `F_TRANSLATION` later beyond the input of stage 2 |
//! | | `EPD0`, `EPD1` | `F_TRANSLATION` later when both are set; ignored in EL2 |
//! | | `HA`, `HD`, `HAFT`, `AFFD` | `C_BAD_CD` without the feature |
//! | | `ASID`, `PARTID`, `PMG` | `C_BAD_CD` beyond 8 bits; ignored in EL2 |
//! | | `PAN`, `UWXN`, `E0PD*`, `EPAN`, `PnCH`, `HAD*`, `HWU*`, `AIE`, `PIE`, `NSCFG*` | ignored or reserved without the feature |
//! | | `PIIU`, `PIIP`, `MAIR0`, `MAIR1` | `C_BAD_CD` for reserved permissions; reserved attributes behave as others |
//! | [`stream_id`] | `LOG2SIZE`, `SPLIT`, `FMT`, `Span`, `L2Ptr` | `C_BAD_STREAMID`; capped; reserved values |
//! | [`substream_id`] | `Config`, `S1CDMax`, `S1DSS` | `C_BAD_SUBSTREAMID`, `F_STREAM_DISABLED` |
//! | [`context_table`] | `V`, `L2Ptr` | `C_BAD_SUBSTREAMID`; unpredictable in SMMUv3.0 and behind stage 2 |
//!
//! Each variant of [`Rule`] is one rule, with its section, sentence, effect and remedy.
//!
//! # What is not
//!
//! - Secure and Realm structures, and `S_IDR*`: the rules know only the Non-secure side of an SMMU.
//! - Set bits that belong to no field: [`Layout::residue`](crate::layout::Layout::residue) finds
//!   them. Their effect is [`Effect::Reserved`].
//! - Rules about more than one structure: `CONT` spans, equal STEs for one VMID, equal CDs for one
//!   ASID.
//! - Faults that depend on memory or on the address of a transaction: failed fetches, table walks,
//!   Address Size faults.
//! - The alignment of VMSAv8-32 LPAE and VMSAv9-128 tables. The output size of a start level,
//!   beyond what the A-profile architecture requires of `VTCR_EL2`, to which chapter 5 refers.
//! - Embedded implementations, whose structures may not keep every bit.
//!
//! Where the text of 5.2 and its pseudocode differ, the rules follow the pseudocode:
//!
//! - `S1Fmt` = 3 without `CD2L` is a linear table.
//! - `S2PIE` with VMSAv8-32 LPAE is refused.
//! - `S2HWU*` forbid overlays with `IDR3.PBHA` only.
//! - Without `IDR3.STT` the largest `T0SZ` and `S2T0SZ` of VMSAv9-128 tables is 39 as well.

mod check;
mod context;
mod entry;
mod finding;
mod lookup;
mod rule;
mod smmu;
mod stage2;
mod structure;
mod walk;

pub use finding::Finding;
pub use lookup::StreamLookup;
pub use rule::{Effect, Rule, RuleStage};
pub use smmu::{El2Regime, Partitions, SmmuView, TranslatedTraffic};

use check::Check;

use crate::{Cd, ContextTableDescriptor, Ste, StreamId, SubstreamId};

/// Reports what is wrong with an STE.
pub fn ste(ste: &Ste, smmu: &SmmuView, report: &mut dyn FnMut(Finding)) {
    let mut check = Check::<_, true>::new(&ste.0, report);
    entry::judge(ste, smmu, &mut check);
}

/// As [`ste`], without the findings that change nothing: those with [`Effect::Ignored`] or
/// [`Effect::Reserved`].
///
/// A driver that asks only whether the SMMU takes its entry as it stands needs no more, and its image
/// has neither those rules nor their texts.
pub fn ste_effects(ste: &Ste, smmu: &SmmuView, report: &mut dyn FnMut(Finding)) {
    let mut check = Check::<_, false>::new(&ste.0, report);
    entry::judge(ste, smmu, &mut check);
}

/// Reports what is wrong with a CD that the SMMU reaches through this STE. No finding if the STE
/// has no CD.
///
/// [`ste`] reports what is wrong with the STE itself.
pub fn cd(cd: &Cd, ste: &Ste, smmu: &SmmuView, report: &mut dyn FnMut(Finding)) {
    let mut check = Check::<_, true>::new(&cd.0, report);
    context::judge(ste, smmu, &mut check);
}

/// As [`cd`], without the findings that change nothing; see [`ste_effects`].
pub fn cd_effects(cd: &Cd, ste: &Ste, smmu: &SmmuView, report: &mut dyn FnMut(Finding)) {
    let mut check = Check::<_, false>::new(&cd.0, report);
    context::judge(ste, smmu, &mut check);
}

/// Reports why a StreamID does not lead to an STE.
pub fn stream_id(
    stream: StreamId,
    table: StreamLookup,
    smmu: &SmmuView,
    report: &mut dyn FnMut(Finding),
) {
    lookup::stream(stream, table, smmu, report);
}

/// Reports why a transaction, with or without a SubstreamID, reaches no CD through this STE and
/// does not bypass stage 1.
///
/// [`ste`] reports an STE that is invalid or aborts; [`context_table`] checks the level-1
/// descriptor.
pub fn substream_id(
    substream: Option<SubstreamId>,
    ste: &Ste,
    smmu: &SmmuView,
    report: &mut dyn FnMut(Finding),
) {
    let mut check = Check::<_, true>::new(&ste.0, report);
    lookup::substream(substream, smmu, &mut check);
}

/// Reports why a level-1 context descriptor, reached through this STE, does not lead to a CD.
pub fn context_table(
    descriptor: ContextTableDescriptor,
    ste: &Ste,
    smmu: &SmmuView,
    report: &mut dyn FnMut(Finding),
) {
    let mut check = Check::<_, true>::new(&descriptor.0, report);
    lookup::context_table(ste, smmu, &mut check);
}
