//! Streams with substreams, for the tests of substreams and of ATS.

use smmu_types::{StreamId, SubstreamId};

use super::model_rig::{A, B, C, IOVA, ModelRig, RAM, S1_RW, SID, cd, cfgi_ste};
use crate::{ModelDevice, Profile};

/// Where the first table of CDs lies: aligned for every size that the tests use.
pub(super) const CDTAB: u64 = RAM + 0x18_0000;
/// Places for level-1 tables and leaves, each aligned to 64 KiB.
pub(super) const L1CDS: u64 = RAM + 0x19_0000;
pub(super) const LEAF: u64 = RAM + 0x1a_0000;
pub(super) const LEAF2: u64 = RAM + 0x1b_0000;

/// `EATS` = 1, in word 1 of an STE.
pub(super) const FULL_ATS: u64 = 1 << 28;

/// What the pages `A`, `B` and `C` hold.
pub(super) const MARKS: [u32; 3] = [0xa, 0xb, 0xc];

pub(super) fn profile() -> Profile {
    Profile { substream_bits: 10, two_level_cd: true, ..Profile::default() }
}

pub(super) fn ssid(n: u32) -> SubstreamId {
    SubstreamId::new(n).unwrap()
}

/// The source of a transaction: with a SubstreamID, or without.
pub(super) fn device(rig: &ModelRig, stream: StreamId, substream: Option<u32>) -> ModelDevice {
    let device = rig.model.device(rig.smmu, stream);
    substream.map_or(device.clone(), |n| device.with_substream(ssid(n)))
}

/// A new table that maps `IOVA` to a page, and marks in the three pages.
pub(super) fn root_to(rig: &ModelRig, page: u64) -> u64 {
    for (page, mark) in [A, B, C].into_iter().zip(MARKS) {
        rig.put(page, mark.into());
    }
    let root = rig.table();
    rig.map(root, IOVA, page, S1_RW);
    root
}

/// Word 0 of an STE of stage 1 with a table of CDs.
pub(super) fn word0(table: u64, format: u64, log2: u64) -> u64 {
    1 | 5 << 1 | format << 4 | table | log2 << 59
}

/// `SID` with a linear table of 16 CDs: those of 0, 1 and 2 lead to `A`, `B` and `C`.
pub(super) fn linear(profile: Profile, word1: u64) -> ModelRig {
    let rig = ModelRig::with(profile);
    for (n, page) in [A, B, C].into_iter().enumerate() {
        let root = root_to(&rig, page);
        rig.put_all(CDTAB + n as u64 * 64, &cd(10 + n as u16, root));
    }
    rig.put_all(rig.ste(SID), &[word0(CDTAB, 0, 4), word1]);
    rig.run(&[cfgi_ste(SID)]);
    rig
}

/// Forget what the setup left in the queue of hazards.
pub(super) fn quiet(rig: &ModelRig) {
    assert_eq!(rig.missing(), Vec::<String>::new());
    assert_eq!(rig.audit(), Vec::<String>::new());
}
