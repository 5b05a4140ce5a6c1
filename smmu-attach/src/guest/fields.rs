//! What the host does with each field of a guest's STE.

use smmu_types::Ste;
use smmu_types::fields::ste as field;
use smmu_types::layout::Key;

/// What the host does with a field of a guest's STE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Treatment {
    /// Allowed: the host reads the value and follows it, within its permission. The value chooses
    /// what the host's entry does.
    Followed,
    /// Allowed: the value is copied into the host's entry.
    Copied,
    /// Forced: any value is accepted and has no effect. The host's entry has the host's value.
    Forced,
    /// Refused unless it is 0. The host's entry has the host's value.
    Refused,
}

/// A field of a guest's STE with its treatment.
#[derive(Clone, Copy, Debug)]
pub struct GuestField {
    /// The field.
    pub key: Key<Ste>,
    /// What the host does with it.
    pub treatment: Treatment,
    /// Why.
    pub reason: &'static str,
}

const fn row(key: Key<Ste>, treatment: Treatment, reason: &'static str) -> GuestField {
    GuestField { key, treatment, reason }
}

use Treatment::{Copied, Followed, Forced, Refused};

const STAGE2: &str = "stage 2 is the host's; the guest's SMMU has none (IDR0.S2P = 0)";
const TYPES: &str = "the guest's SMMU cannot replace memory types (IDR1.ATTR_TYPES_OVR = 0)";
const PERMISSIONS: &str = "the guest's SMMU cannot replace permissions (IDR1.ATTR_PERMS_OVR = 0)";
const PARTITIONS: &str = "the guest's SMMU has no MPAM (IDR3.MPAM = 0)";
const IMPDEF: &str = "what it does is up to the implementation of the host's SMMU";
const HARDENING: &str = "the guest's SMMU has no translation hardening (IDR3.THE = 0)";

/// The treatment of every field of an STE with `V` = 1 and `Config` = 4 or 5. Bits outside of all
/// fields are [`Refused`].
///
/// Nothing but `V` and `Config` counts in an entry that is invalid or that aborts.
#[rustfmt::skip]
pub const STE_FIELDS: &[GuestField] = &[
    row(field::V, Followed, "an invalid entry aborts"),
    row(field::CONFIG, Followed, "abort, bypass and stage 1 become abort, stage 2 and nested"),
    row(field::S1FMT, Copied, "the SMMU reads the CD table through stage 2"),
    row(field::S1CONTEXTPTR, Copied, "the address is an IPA: it goes through stage 2"),
    row(field::S1CDMAX, Copied, "the size of the guest's CD table"),
    row(field::S1DSS, Copied, "what the guest's substreams do"),
    row(field::S1CIR, Copied, "an attribute of fetches from the guest's memory"),
    row(field::S1COR, Copied, "an attribute of fetches from the guest's memory"),
    row(field::S1CSH, Copied, "an attribute of fetches from the guest's memory"),
    row(field::S2HWU59, Refused, STAGE2),
    row(field::S2HWU60, Refused, STAGE2),
    row(field::S2HWU61, Refused, STAGE2),
    row(field::S2HWU62, Refused, STAGE2),
    row(field::DRE, Refused, "destructive reads are the host's decision"),
    row(field::CONT, Refused, "the host's neighbouring entries differ"),
    row(field::DCP, Refused, "directed prefetches into caches are the host's decision"),
    row(field::PPAR, Refused, "the host answers page requests that no guest answers"),
    row(field::MEV, Forced, "1: the guest's events may be merged, so that they do not flood the host"),
    row(field::SW_RESERVED, Forced, "the SMMU ignores it"),
    row(field::S1PIE, Refused, "the guest's SMMU has no permission indirection (IDR3.S1PI = 0)"),
    row(field::S2FWB, Refused, STAGE2),
    row(field::S1MPAM, Refused, PARTITIONS),
    row(field::S1STALLD, Copied, "whether the guest's faults stall"),
    row(field::EATS, Followed, "0 or 1; 1 needs the host's permission"),
    row(field::STRW, Refused, "the guest's SMMU has no EL2 (IDR0.Hyp = 0)"),
    row(field::MEMATTR, Refused, TYPES),
    row(field::MTCFG, Refused, TYPES),
    row(field::ALLOCCFG, Refused, TYPES),
    row(field::SHCFG, Refused, TYPES),
    row(field::NSCFG, Forced, "a Non-secure stream ignores it"),
    row(field::PRIVCFG, Refused, PERMISSIONS),
    row(field::INSTCFG, Refused, PERMISSIONS),
    row(field::IMPDEF_127_116, Refused, IMPDEF),
    row(field::S2VMID, Refused, STAGE2),
    row(field::IMPDEF_159_144, Refused, IMPDEF),
    row(field::S2T0SZ, Refused, STAGE2),
    row(field::S2SL0, Refused, STAGE2),
    row(field::S2IR0, Refused, STAGE2),
    row(field::S2OR0, Refused, STAGE2),
    row(field::S2SH0, Refused, STAGE2),
    row(field::S2TG, Refused, STAGE2),
    row(field::S2PS, Refused, STAGE2),
    row(field::S2AA64, Refused, STAGE2),
    row(field::S2ENDI, Refused, STAGE2),
    row(field::S2AFFD, Refused, STAGE2),
    row(field::S2PTW, Refused, STAGE2),
    row(field::S2HD, Refused, STAGE2),
    row(field::S2HA, Refused, STAGE2),
    row(field::S2S, Refused, STAGE2),
    row(field::S2R, Refused, STAGE2),
    row(field::S2HAFT, Refused, STAGE2),
    row(field::S2PIE, Refused, STAGE2),
    row(field::S2POE, Refused, STAGE2),
    row(field::DPT_VMATCH, Refused, "the guest's SMMU has no device permission table (IDR3.DPT = 0)"),
    row(field::S2SL0_2, Refused, STAGE2),
    row(field::S2DS, Refused, STAGE2),
    row(field::S2TTB, Refused, STAGE2),
    row(field::S2SKL, Refused, STAGE2),
    row(field::IMPDEF_271_256, Refused, IMPDEF),
    row(field::PARTID, Refused, PARTITIONS),
    row(field::PMG, Refused, PARTITIONS),
    row(field::ASSUREDONLY, Refused, HARDENING),
    row(field::TL0, Refused, HARDENING),
    row(field::TL1, Refused, HARDENING),
    row(field::VMSPTR, Refused, PARTITIONS),
    row(field::S2POI, Refused, STAGE2),
];

/// The bits of the fields with one of these treatments.
const fn mask(wanted: &[Treatment]) -> [u64; 8] {
    let mut mask = [0; 8];
    let mut n = 0;
    while n < STE_FIELDS.len() {
        let of = &STE_FIELDS[n];
        let mut at = 0;
        while at < wanted.len() {
            if of.treatment as u8 == wanted[at] as u8 {
                mask[of.key.word()] |= of.key.mask();
            }
            at += 1;
        }
        n += 1;
    }
    mask
}

/// Bits that are copied.
pub(super) const COPIED: [u64; 8] = mask(&[Copied]);

/// Bits that may be set.
pub(super) const ACCEPTED: [u64; 8] = mask(&[Followed, Copied, Forced]);
