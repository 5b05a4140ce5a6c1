//! Several SMMUs over one RAM, and an absent one.

use smmu_types::StreamId;

use super::model_rig::{A, B, BYTES, IOVA, ModelRig, S1_RW, SID, nh_asid};
use crate::{DmaRefused, Model, Profile};
use smmu_types::Irq;

#[test]
fn smmus_share_memory_and_nothing_else() {
    let model = Model::new(BYTES, &[Profile::default(), Profile::default()]);
    let rigs = [ModelRig::of(model.clone(), 0), ModelRig::of(model.clone(), 1)];
    for rig in &rigs {
        rig.bring_up();
    }
    // One table under ASID 5 on the first and ASID 9 on the second.
    let root = rigs[0].stage1(SID, 5);
    rigs[1].write_stage1(SID, 9, root);
    rigs[1].run(&[super::model_rig::cfgi_ste(SID)]);
    rigs[0].map(root, IOVA, A, S1_RW);
    let reached = || rigs.each_ref().map(|rig| rig.dma(SID, IOVA));
    assert_eq!(reached(), [Some(A), Some(A)]);
    rigs[0].map(root, IOVA, B, S1_RW);
    assert_eq!(reached(), [Some(A), Some(A)]);
    rigs[0].run(&[nh_asid(0, 5)]);
    assert_eq!(reached(), [Some(B), Some(A)]);
    rigs[1].run(&[nh_asid(0, 5)]);
    assert_eq!(reached(), [Some(B), Some(A)], "the wrong tag");
    rigs[1].run(&[nh_asid(0, 9)]);
    assert_eq!(reached(), [Some(B), Some(B)]);
    model.take_interrupts();
    assert_eq!(rigs[1].dma(SID, IOVA + 0x1000), None);
    assert_eq!(model.take_interrupts(), [(1, Irq::EventQueue)]);
    assert_eq!((rigs[0].events().len(), rigs[1].events().len()), (0, 1));
    assert_eq!(model.audit(), []);
}

#[test]
fn an_index_without_an_smmu() {
    let model = Model::new(BYTES, &[]);
    assert!(model.registers(0).is_none());
    assert_eq!(model.dma_write32(0, StreamId(0), A, 1), Err(DmaRefused));
    assert_eq!(model.dma_read32(0, StreamId(0), A), Err(DmaRefused));
    model.settle(0);
}

#[test]
fn the_model_can_be_used_from_many_threads() {
    fn check<T: Send + Sync + Clone>(_: &T) {}
    let model = Model::new(BYTES, &[Profile::default()]);
    check(&model);
    check(&model.registers(0).unwrap());
}
