//! What the architecture lets an SMMU do and few do: fetch ahead, and drop late.

use rstest::rstest;
use smmu_types::seam::RegistersExt;
use smmu_types::{Command, CommandErrorCode, StreamId, regs};

use super::faults::atc_inv;
use super::model_rig::{A, B, IOVA, ModelRig, S1_RW, SID, cfgi_ste, nh_asid};
use super::queue::{acknowledge, error};
use super::second::SecondQueueRig;
use crate::{AtsSwitch, InjectedFault, Profile, SecondQueue};

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

/// A page that no DMA has used is stale like any other, in the IOTLB and in the device's ATC.
#[rstest]
#[case::helpful(false, &[])]
#[case::unhelpful(true, &["ATC_INV sid=0x8 iova=0x50000000 size=0", "TLBI_NH_VA vmid=0 asid=5 va=0x50000000 leaf=1"])]
fn a_translation_fetched_ahead_is_stale_without_dma(
    #[case] translations_ahead: bool,
    #[case] missing: &[&str],
) {
    let profile = Profile { ahead: vec![SID], translations_ahead, ats: true, ..Profile::default() };
    let rig = ModelRig::with(profile);
    rig.regs.write(regs::CR0, 0xd | regs::cr0::ATSCHK);
    let root = rig.stage1(SID, 5);
    rig.put(rig.ste(SID) + 8, 1 << 28);
    rig.run(&[cfgi_ste(SID)]);
    rig.model.device(0, SID).switch_ats(AtsSwitch::On);
    rig.map(root, IOVA, A, S1_RW);
    assert_eq!(rig.audit(), Vec::<String>::new());
    rig.unmap(root, IOVA);
    assert_eq!(rig.audit(), missing);
    rig.run(&[Command::TlbiNsnhAll]);
    rig.run(&[atc_inv(SID)]);
    assert_eq!(rig.audit(), Vec::<String>::new());
}

/// 3.11: a driver invalidates all caches before it enables translation, and waits for that.
#[rstest]
#[case::nothing(false, &[], &["CFGI_ALL", "TLBI_NSNH_ALL"])]
#[case::configuration(false, &[Command::CfgiAll], &["TLBI_NSNH_ALL"])]
#[case::translations(false, &[Command::TlbiNsnhAll], &["CFGI_ALL"])]
#[case::both(false, &[Command::CfgiAll, Command::TlbiNsnhAll], &[])]
#[case::el2_as_well(true, &[Command::CfgiAll, Command::TlbiNsnhAll], &["TLBI_EL2_ALL"])]
#[case::all(true, &[Command::CfgiAll, Command::TlbiNsnhAll, Command::TlbiEl2All], &[])]
fn caches_are_unknown_at_reset(
    #[case] hyp: bool,
    #[case] commands: &[Command],
    #[case] missing: &[&str],
) {
    let rig = ModelRig::off(Profile { hyp, unknown_at_reset: true, ..late() });
    for at_reset in [false, true] {
        if at_reset {
            rig.model.reset();
        }
        rig.queues();
        rig.run(commands);
        rig.regs.write(regs::CR0, 0xd);
        assert_eq!(rig.missing(), missing);
    }
}

/// `TLBI_EL2_ALL` is legal only where there is stage 1, so no driver owes it elsewhere.
#[test]
fn without_stage_1_no_translation_of_el2_is_unknown() {
    let profile = Profile { hyp: true, stage1: false, unknown_at_reset: true, ..late() };
    let rig = ModelRig::off(profile);
    rig.queues();
    rig.run(&[Command::CfgiAll, Command::TlbiNsnhAll]);
    rig.regs.write(regs::CR0, 0xd);
    assert_eq!(rig.missing(), Vec::<String>::new());
}

/// What is sent and not synced does not count.
#[test]
fn an_invalidation_without_sync_is_due() {
    let rig = ModelRig::off(Profile { unknown_at_reset: true, ..late() });
    rig.queues();
    rig.run(&[Command::CfgiAll]);
    rig.send(Command::TlbiNsnhAll);
    assert!(rig.wait());
    rig.regs.write(regs::CR0, 0xd);
    assert_eq!(rig.missing(), ["TLBI_NSNH_ALL"]);
}

/// 4.7.3: an `ATC_INV` as well is complete only with its `CMD_SYNC`.
#[rstest]
#[case::helpful(false, None)]
#[case::unhelpful(true, Some("ATC_INV sid=0x8 iova=0x50000000 size=0"))]
fn an_atc_drops_nothing_before_a_sync(#[case] until_sync: bool, #[case] missing: Option<&str>) {
    let rig = ModelRig::with(Profile { until_sync, ..late() });
    rig.regs.write(regs::CR0, 0xd | regs::cr0::ATSCHK);
    let root = rig.stage1(SID, 5);
    rig.put(rig.ste(SID) + 8, 1 << 28);
    rig.run(&[cfgi_ste(SID)]);
    let device = rig.model.device(0, SID);
    device.switch_ats(AtsSwitch::On);
    rig.map(root, IOVA, A, S1_RW);
    device.ats_request(IOVA).unwrap();
    rig.unmap(root, IOVA);
    rig.run(&[nh_asid(0, 5)]);
    rig.send(atc_inv(SID));
    assert!(rig.wait());
    assert_eq!(rig.audit(), missing.into_iter().collect::<Vec<_>>());
    rig.run(&[]);
    assert_eq!(rig.audit(), Vec::<String>::new());
}
