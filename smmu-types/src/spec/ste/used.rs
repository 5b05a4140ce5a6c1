//! The bits of an STE that the SMMU uses, and the used bits that may change at any moment.

use super::{Ste, SubstreamDefault};
use crate::fields::ste::*;
use crate::layout::Key;

/// A set of bits of an entry.
type Mask = [u64; 8];

const fn bits_of(keys: &[Key<Ste>]) -> Mask {
    or([0; 8], keys)
}

const fn or(mut mask: Mask, keys: &[Key<Ste>]) -> Mask {
    let mut n = 0;
    while n < keys.len() {
        mask[keys[n].word()] |= keys[n].mask();
        n += 1;
    }
    mask
}

#[inline]
const fn both(mut mask: Mask, other: Mask) -> Mask {
    let mut word = 0;
    while word < mask.len() {
        mask[word] |= other[word];
        word += 1;
    }
    mask
}

const VALID: Mask = bits_of(&[V]);
const ABORT: Mask = bits_of(&[V, CONFIG]);

/// The bits that the SMMU uses in every STE that does not abort.
#[rustfmt::skip]
const PASSES: Mask = or(ABORT, &[
    DRE, CONT, DCP, PPAR, MEMATTR, MTCFG, ALLOCCFG, PRIVCFG, INSTCFG, PARTID, PMG,
    IMPDEF_127_116, IMPDEF_159_144, IMPDEF_271_256,
]);

const SHAREABILITY: Mask = bits_of(&[SHCFG]);

#[rustfmt::skip]
const STAGE1: Mask = bits_of(&[
    S1FMT, S1CONTEXTPTR, S1CDMAX, S1DSS, S1CIR, S1COR, S1CSH, MEV, S1PIE, S1MPAM, S1STALLD, EATS, STRW, S2VMID,
]);

#[rustfmt::skip]
const STAGE2: Mask = bits_of(&[
    S2HWU59, S2HWU60, S2HWU61, S2HWU62, S2FWB, MEV, EATS, SHCFG,
    S2VMID, S2T0SZ, S2SL0, S2IR0, S2OR0, S2SH0, S2TG, S2PS, S2AA64, S2ENDI, S2AFFD, S2PTW, S2HD, S2HA, S2S, S2R,
    S2HAFT, S2PIE, S2POE, DPT_VMATCH, S2SL0_2, S2DS, S2TTB, S2SKL, ASSUREDONLY, TL0, TL1, S2POI,
]);

const NESTED: Mask = bits_of(&[VMSPTR]);

/// `EATS`: full ATS, and full ATS with checks against the device permission table.
const FULL_ATS: u64 = 1;
const CHECKED_ATS: u64 = 3;

impl Ste {
    /// The bits that the SMMU uses in an entry with this content.
    ///
    /// The SMMU cannot see half of an update in which every used bit is either old or new.
    #[must_use]
    pub const fn used(&self) -> [u64; 8] {
        if !self.is_set(V) {
            return VALID;
        }
        let config = self.get(CONFIG);
        if config & 4 == 0 {
            return ABORT;
        }
        let mut used = PASSES;
        if config == 4 {
            used = both(used, SHAREABILITY);
        }
        if config & 1 != 0 {
            used = both(used, STAGE1);
            if self.get(S1DSS) == SubstreamDefault::Bypass as u64 {
                used = both(used, SHAREABILITY);
            }
            // Also without stage 2: SMMUv3.0 may refuse S2S with full ATS, and DPT_VMATCH belongs
            // to the DPT alone.
            match self.get(EATS) {
                FULL_ATS => used[S2S.word()] |= S2S.mask(),
                CHECKED_ATS => used[DPT_VMATCH.word()] |= DPT_VMATCH.mask(),
                _ => {}
            }
        }
        if config & 2 != 0 {
            used = both(used, STAGE2);
        }
        if config & 3 == 3 {
            used = both(used, NESTED);
        }
        used
    }

    /// The used bits that may change at any moment in the step from `self` to `to`.
    ///
    /// - `MEV`: it only decides how the SMMU merges events.
    /// - The low bit of `EATS`, because the driver turns ATS off at the device first. It may not
    ///   change if `self` or `to` uses split ATS, ATS with DPT checks or stage-2 stalls. With a set
    ///   high bit, a change of the low bit alone could turn another mode into split ATS. Where
    ///   `EATS` may change, `S2S` is 0 on both sides.
    #[must_use]
    pub const fn safe(&self, to: &Ste) -> [u64; 8] {
        const fn pinned(ste: &Ste) -> bool {
            ste.get(EATS) >= 2 || ste.is_set(S2S)
        }
        let mut safe = bits_of(&[MEV]);
        if !pinned(self) && !pinned(to) {
            safe[EATS.word()] |= EATS.mask() & !(EATS.mask() << 1);
        }
        safe
    }
}
