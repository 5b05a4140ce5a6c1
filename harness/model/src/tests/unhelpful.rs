//! What the architecture lets an SMMU do and few do: fetch ahead, and drop late.

use rstest::rstest;
use smmu_types::{Command, CommandErrorCode, StreamId};

use super::faults::atc_inv;
use super::model_rig::{A, B, IOVA, ModelRig, S1_RW, SID, cfgi_ste, nh_asid};
use super::queue::{acknowledge, error};
use super::second::SecondQueueRig;
use crate::{InjectedFault, Profile, SecondQueue};

fn late() -> Profile {
    Profile {
        until_sync: true,
        ats: true,
        second_queue: Some(SecondQueue::Full),
        ..Profile::default()
    }
}

/// A stream that has used page A, where the table now has page B.
fn moved(profile: Profile) -> ModelRig {
    let rig = ModelRig::with(profile);
    let root = rig.stage1(SID, 5);
    rig.map(root, IOVA, A, S1_RW);
    assert_eq!(rig.dma(SID, IOVA), Some(A));
    rig.map(root, IOVA, B, S1_RW);
    rig
}

/// 4.7.3: only the `CMD_SYNC` guarantees that an invalidation is complete.
#[test]
fn an_invalidation_drops_nothing_before_a_sync() {
    let rig = moved(late());
    rig.send(nh_asid(0, 5));
    assert!(rig.wait());
    assert_eq!(rig.dma(SID, IOVA), Some(A));
    assert_eq!(rig.missing(), ["TLBI_NH_VA vmid=0 asid=5 va=0x50000000 leaf=1"]);
    rig.run(&[]);
    assert_eq!(rig.dma(SID, IOVA), Some(B));
    assert_eq!(rig.missing(), Vec::<String>::new());
    // By default it drops at once.
    let rig = moved(Profile::default());
    rig.send(nh_asid(0, 5));
    assert!(rig.wait());
    assert_eq!(rig.dma(SID, IOVA), Some(B));
}

/// The next `CMD_SYNC` of the same queue, and of no other.
#[test]
fn a_sync_of_another_queue_drops_nothing() {
    let rig = moved(late());
    let second = SecondQueueRig::of(&rig);
    rig.send(nh_asid(0, 5));
    assert!(rig.wait());
    assert_eq!(second.run(Command::SYNC), Ok(()));
    assert_eq!(rig.dma(SID, IOVA), Some(A));
    rig.run(&[]);
    assert_eq!(rig.dma(SID, IOVA), Some(B));
}

/// An SMMU refuses a command when it consumes it, however late it carries it out.
#[test]
fn a_late_invalidation_is_refused_at_once() {
    let rig = ModelRig::with(Profile { stage1: false, ..late() });
    rig.send(nh_asid(0, 5));
    assert!(!rig.wait());
    assert_eq!(error(&rig), Some(CommandErrorCode::ILL));
}

/// 3.9.1.4: a `CMD_SYNC` that fails completes nothing. The one after it does.
#[test]
fn a_sync_that_fails_drops_nothing() {
    let rig = moved(late());
    rig.model.inject(0, InjectedFault::AtcTimeout { stream: SID });
    rig.send(nh_asid(0, 5));
    rig.send(atc_inv(SID));
    rig.send(Command::SYNC);
    assert!(!rig.wait());
    assert_eq!(error(&rig), Some(CommandErrorCode::ATC_INV_SYNC));
    assert_eq!(rig.dma(SID, IOVA), Some(A));
    acknowledge(&rig);
    assert!(rig.wait());
    assert_eq!(rig.dma(SID, IOVA), Some(B));
}

/// A driver that leaves the `CFGI_STE` of a new entry out makes no mistake that a helpful SMMU shows:
/// it has fetched nothing yet. One that fetches ahead has the old entry.
#[rstest]
#[case::ahead(vec![SID], Some("CFGI_STE sid=0x8 leaf=1"))]
#[case::another(vec![StreamId(0x10)], None)]
#[case::none(vec![], None)]
fn an_ste_fetched_ahead_is_stale_without_dma(
    #[case] ahead: Vec<StreamId>,
    #[case] missing: Option<&str>,
) {
    let rig = ModelRig::with(Profile { ahead, ..Profile::default() });
    rig.put_all(rig.ste(SID), &[1 | 4 << 1, 0]);
    assert_eq!(rig.audit(), missing.into_iter().collect::<Vec<_>>());
    rig.run(&[cfgi_ste(SID)]);
    assert_eq!(rig.audit(), Vec::<String>::new());
}

/// It fetches the first CD as well.
#[test]
fn a_cd_fetched_ahead_is_stale_without_dma() {
    let rig = ModelRig::with(Profile { ahead: vec![SID], ..Profile::default() });
    rig.stage1(SID, 5);
    rig.put(rig.cd(SID), rig.get(rig.cd(SID)) ^ 1 << 48);
    assert_eq!(rig.audit(), ["CFGI_CD sid=0x8 ssid=0x0 leaf=1"]);
}
