//! What is known besides the words: the ID registers, and the STE and CD of the same input.

use smmu_types::fields::{cd, ste};
use smmu_types::{Cd, Ste, legal};

use crate::ids::KnownIds;
use crate::item::FoundWords;
use crate::judge::{Judgement, judge};
use crate::kind::StructureKind;
use crate::resolver::{NoResolver, StreamResolver};

/// What is known besides the words.
#[derive(Clone, Copy, Debug)]
pub struct DecodeContext<'r> {
    /// The ID registers.
    pub ids: Option<KnownIds>,
    /// The latest STE of the same input.
    pub ste: Option<Ste>,
    /// The latest CD of the same input.
    pub cd: Option<Cd>,
    /// Names the devices behind StreamIDs.
    pub resolver: &'r dyn StreamResolver,
}

impl Default for DecodeContext<'_> {
    fn default() -> Self {
        DecodeContext { ids: None, ste: None, cd: None, resolver: &NoResolver }
    }
}

impl DecodeContext<'_> {
    /// Keeps an STE or a CD of the input, for the events that may be about it.
    pub fn remember(&mut self, found: &FoundWords) {
        let words = || std::array::from_fn(|n| found.words.get(n).copied().unwrap_or(0));
        match found.kind {
            StructureKind::Ste => self.ste = Some(Ste(words())),
            StructureKind::Cd => self.cd = Some(Cd(words())),
            _ => {}
        }
    }

    /// The judgement on the input's STE; `None` if the STE or all ID registers are unknown.
    pub(crate) fn judged_ste(&self) -> Option<Judgement> {
        self.judged(StructureKind::Ste, &self.ste?.0)
    }

    /// The judgement on the input's CD; `None` if the CD or all ID registers are unknown.
    pub(crate) fn judged_cd(&self) -> Option<Judgement> {
        self.judged(StructureKind::Cd, &self.cd?.0)
    }

    /// The judgement on a structure; `None` if all ID registers are unknown, or no rules are about
    /// it.
    pub(crate) fn judged(&self, kind: StructureKind, words: &[u64]) -> Option<Judgement> {
        let ids = self.ids?;
        let view = legal::SmmuView::new(ids.values);
        let words = std::array::from_fn(|n| words.get(n).copied().unwrap_or(0));
        match kind {
            StructureKind::Ste => {
                Some(judge(&ids, &view, |smmu, report| legal::ste(&Ste(words), smmu, report)))
            }
            StructureKind::Cd => {
                let ste = self.ste.unwrap_or(STAGE1);
                Some(judge(&ids, &view, |smmu, report| legal::cd(&Cd(words), &ste, smmu, report)))
            }
            _ => None,
        }
    }

    /// log2 of the page size, and the input bits, of a stage, if a descriptor says them.
    pub(crate) fn walk(&self, stage2: bool, address: u64) -> Option<(u32, u32)> {
        let (granule, size) = match stage2 {
            true => (self.ste?.get(ste::S2TG), self.ste?.get(ste::S2T0SZ)),
            // The upper half of the addresses has a table of its own.
            false if address >> 55 & 1 != 0 && self.cd?.get(cd::EPD1) == 0 => {
                let granule = match self.cd?.get(cd::TG1) {
                    1 => 2,
                    2 => 0,
                    3 => 1,
                    _ => return None,
                };
                (granule, self.cd?.get(cd::T1SZ))
            }
            false => (self.cd?.get(cd::TG0), self.cd?.get(cd::T0SZ)),
        };
        let shift = match granule {
            0 => 12,
            1 => 16,
            2 => 14,
            _ => return None,
        };
        let input = 64 - size.min(39) as u32;
        Some((shift, input.min(52)))
    }

    /// The level at which stage 2 starts, if the STE says it.
    pub(crate) fn start_level(&self, stage2: bool) -> Option<i8> {
        let ste = self.ste.filter(|_| stage2)?;
        let level = ste.get(ste::S2SL0) as i8;
        match ste.get(ste::S2TG) {
            0 if level < 3 => Some(2 - level),
            1 | 2 if level < 3 => Some(3 - level),
            _ => None,
        }
    }
}

/// The STE by which a CD is judged when the STE is unknown.
const STAGE1: Ste = Ste([0xb, 0, 0, 0, 0, 0, 0, 0]);
