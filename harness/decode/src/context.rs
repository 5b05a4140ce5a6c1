//! What is known besides the words: the ID registers, and the STE and CD of the same input.

use smmu_types::fields::{cd, ste};
use smmu_types::{Cd, IdRegisters, Ste, legal};

use crate::item::FoundWords;
use crate::kind::StructureKind;

/// What is known besides the words.
#[derive(Clone, Copy, Debug, Default)]
pub struct DecodeContext {
    /// The ID registers.
    pub ids: Option<IdRegisters>,
    /// The latest STE of the same input.
    pub ste: Option<Ste>,
    /// The latest CD of the same input.
    pub cd: Option<Cd>,
}

impl DecodeContext {
    /// Keeps an STE or a CD of the input, for the events that may be about it.
    pub fn remember(&mut self, found: &FoundWords) {
        let words = || std::array::from_fn(|n| found.words.get(n).copied().unwrap_or(0));
        match found.kind {
            StructureKind::Ste => self.ste = Some(Ste(words())),
            StructureKind::Cd => self.cd = Some(Cd(words())),
            _ => {}
        }
    }

    /// What is illegal in the input's STE; `None` if the STE or the ID registers are unknown.
    pub(crate) fn illegal_ste(&self) -> Option<Vec<String>> {
        let (ste, ids) = (self.ste?, self.ids?);
        Some(illegal(|report| legal::ste(&ste, &legal::SmmuView::new(ids), report)))
    }

    /// What is illegal in the input's CD; `None` if the CD or the ID registers are unknown.
    pub(crate) fn illegal_cd(&self) -> Option<Vec<String>> {
        let (cd, ids) = (self.cd?, self.ids?);
        let ste = self.ste.unwrap_or(STAGE1);
        Some(illegal(|report| legal::cd(&cd, &ste, &legal::SmmuView::new(ids), report)))
    }

    /// All findings of the rules about a structure; none if the ID registers are unknown.
    pub(crate) fn findings(&self, kind: StructureKind, words: &[u64]) -> Vec<String> {
        let Some(ids) = self.ids else { return Vec::new() };
        let smmu = legal::SmmuView::new(ids);
        let words = std::array::from_fn(|n| words.get(n).copied().unwrap_or(0));
        let mut found = Vec::new();
        let mut report = |finding: legal::Finding| {
            found.push(format!("{finding} ({}; {})", finding.effect(), finding.rule().remedy()));
        };
        match kind {
            StructureKind::Ste => legal::ste(&Ste(words), &smmu, &mut report),
            StructureKind::Cd => {
                legal::cd(&Cd(words), &self.ste.unwrap_or(STAGE1), &smmu, &mut report);
            }
            _ => {}
        }
        found
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

fn illegal(judge: impl FnOnce(&mut dyn FnMut(legal::Finding))) -> Vec<String> {
    let mut found = Vec::new();
    judge(&mut |finding| {
        if matches!(finding.effect(), legal::Effect::Illegal(_)) {
            found.push(finding.to_string());
        }
    });
    found
}
