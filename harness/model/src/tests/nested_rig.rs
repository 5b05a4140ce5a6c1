//! A guest behind both stages, for the tests of nested translation.

use super::model_rig::{
    A, B, C, IOVA, ModelRig, S1_RW, S2_RW, SID, cd, cfgi_cd, cfgi_ste, stage2_ste,
};
use crate::Profile;

pub(super) const VMID: u16 = 3;
pub(super) const ASID: u16 = 5;

/// The IPA at which the guest of the rig sees a page of RAM.
pub(super) fn ipa(page: u64) -> u64 {
    page + 0x1_0000_0000
}

/// A rig whose `SID` belongs to a guest: stage 2 shows it the pages that the guest uses, each at
/// [`ipa`], and stage 1 maps `IOVA` to the IPA of `A`.
pub(super) struct Guest {
    pub(super) rig: ModelRig,
    /// Root table of stage 2.
    pub(super) stage2: u64,
    /// Root table of stage 1, as the hypervisor sees it.
    pub(super) root: u64,
}

impl Guest {
    pub(super) fn new() -> Self {
        Self::with(Profile::default())
    }

    pub(super) fn with(profile: Profile) -> Self {
        let guest = Self::without_config(profile);
        guest.rig.put_all(guest.rig.cd(SID), &cd(ASID, ipa(guest.root)));
        guest.configure(guest.rig.cd(SID), 0);
        guest
    }

    /// The tables of both stages, without CD and STE.
    pub(super) fn without_config(profile: Profile) -> Self {
        let rig = ModelRig::with(profile);
        let (stage2, root) = (rig.table(), rig.table());
        let guest = Guest { rig, stage2, root };
        for page in [A, B, C, root, guest.rig.cd(SID) & !0xfff] {
            guest.show(page);
        }
        guest.map(IOVA, ipa(A), S1_RW);
        guest
    }

    /// A rig that has done one DMA to `A`.
    pub(super) fn warm() -> Self {
        let guest = Self::new();
        assert_eq!(guest.dma(), Some(A));
        assert_eq!((guest.rig.missing(), guest.rig.audit()), (vec![], vec![]));
        guest
    }

    /// Write the STE, with the table of CDs at this page of RAM, and send `CFGI_STE`.
    pub(super) fn configure(&self, cds: u64, word1: u64) {
        self.write_ste(cds, word1, VMID, self.stage2);
        self.rig.run(&[cfgi_ste(SID)]);
    }

    pub(super) fn write_ste(&self, cds: u64, word1: u64, vmid: u16, stage2: u64) {
        let [_, _, w2, w3] = stage2_ste(vmid, stage2);
        self.rig.put_all(self.rig.ste(SID), &[1 | 7 << 1 | ipa(cds), word1, w2, w3]);
    }

    /// The hypervisor shows a page of RAM to the guest.
    pub(super) fn show(&self, page: u64) {
        self.back(page, page, S2_RW);
    }

    /// The hypervisor puts the page `to` behind the IPA of `page`.
    pub(super) fn back(&self, page: u64, to: u64, attributes: u64) {
        self.rig.map(self.stage2, ipa(page), to, attributes);
    }

    /// The hypervisor takes the IPA of a page away.
    pub(super) fn hide(&self, page: u64) {
        self.rig.unmap(self.stage2, ipa(page));
    }

    /// A zeroed table of the guest.
    pub(super) fn table(&self) -> u64 {
        let table = self.rig.table();
        self.show(table);
        table
    }

    /// Where RAM holds the descriptor of stage 1 at a level. Creates missing tables.
    pub(super) fn slot(&self, iova: u64, level: u32) -> u64 {
        let mut table = self.root;
        let mut at = 1;
        loop {
            let slot = table + (iova >> (39 - 9 * at) & 0x1ff) * 8;
            if at == level {
                return slot;
            }
            if self.rig.get(slot) & 3 != 3 {
                self.rig.put(slot, ipa(self.table()) | 3);
            }
            table = (self.rig.get(slot) & 0xffff_ffff_f000) - ipa(0);
            at += 1;
        }
    }

    /// The guest maps a page to an IPA.
    pub(super) fn map(&self, iova: u64, to: u64, attributes: u64) {
        self.rig.put(self.slot(iova, 3), to | 3 | attributes);
    }

    /// The last-level table of stage 1 for `IOVA`.
    pub(super) fn leaf_table(&self) -> u64 {
        self.slot(IOVA, 3) & !0xfff
    }

    /// The page that a DMA to `IOVA` lands in.
    pub(super) fn dma(&self) -> Option<u64> {
        self.rig.dma(SID, IOVA)
    }

    /// Let the SMMU see the CD in memory again.
    pub(super) fn forget_cd(&self) {
        self.rig.run(&[cfgi_cd(SID)]);
    }
}
