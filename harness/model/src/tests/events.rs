//! Faults of transactions, and the event queue.

use rstest::rstest;
use smmu_types::seam::RegistersExt;
use smmu_types::{Irq, StreamId, regs};

use super::model_rig::{A, EVENTQ_LOG2, IOVA, ModelRig, RAM, S1_RW, S2_RW, SID, cfgi_cd, cfgi_ste};
use crate::InjectedFault;

const AF: u64 = 1 << 10;

// The event of a write through each stage-1 page descriptor.
#[rstest]
#[case::invalid(0, "F_TRANSLATION sid=0x8 write iova=0x50000120 class=IN stage=1")]
#[case::block_at_level_3(A | 1 | S1_RW, "F_TRANSLATION sid=0x8 write iova=0x50000120 class=IN stage=1")]
#[case::read_only(A | 3 | S1_RW | 1 << 7, "F_PERMISSION sid=0x8 write iova=0x50000120 class=IN stage=1")]
#[case::privileged(A | 3 | S1_RW & !(1 << 6), "F_PERMISSION sid=0x8 write iova=0x50000120 class=IN stage=1")]
#[case::access_flag(A | 3 | S1_RW & !AF, "F_ACCESS sid=0x8 write iova=0x50000120 class=IN stage=1")]
#[case::too_far(1 << 45 | 3 | S1_RW, "F_ADDR_SIZE sid=0x8 write iova=0x50000120 class=IN stage=1")]
fn stage1_faults(#[case] descriptor: u64, #[case] event: &str) {
    let rig = ModelRig::new();
    let root = rig.stage1(SID, 5);
    rig.put(rig.slot(root, IOVA, 3), descriptor);
    assert_eq!(rig.dma(SID, IOVA + 0x120), None);
    assert_eq!(rig.event_lines(), [event]);
}

#[rstest]
#[case::invalid(0, "F_TRANSLATION")]
#[case::read_only(A | 3 | S2_RW & !(1 << 7), "F_PERMISSION")]
#[case::access_flag(A | 3 | S2_RW & !AF, "F_ACCESS")]
#[case::too_far(1 << 45 | 3 | S2_RW, "F_ADDR_SIZE")]
fn stage2_faults(#[case] descriptor: u64, #[case] event: &str) {
    let rig = ModelRig::new();
    let root = rig.stage2(SID, 3);
    // S2AFFD = 0: access flag faults are on.
    rig.put(rig.ste(SID) + 16, rig.get(rig.ste(SID) + 16) & !(1 << 53));
    rig.run(&[cfgi_ste(SID)]);
    rig.put(rig.slot(root, IOVA, 3), descriptor);
    assert_eq!(rig.dma(SID, IOVA + 0x120), None);
    assert_eq!(
        rig.event_lines(),
        [format!("{event} sid=0x8 write iova=0x50000120 class=IN stage=2 ipa=0x50000000")]
    );
}

#[test]
fn the_words_of_a_record() {
    let rig = ModelRig::new();
    rig.stage2(SID, 3);
    assert_eq!(rig.read(SID, IOVA + 0x120), None);
    let events = rig.events();
    assert_eq!(
        events[0].0,
        [0x0000_0008_0000_0010, 1 << 35 | 1 << 39 | 2 << 40, 0x5000_0120, 0x5000_0000]
    );
}

#[test]
fn clear_access_flags_may_be_allowed() {
    let rig = ModelRig::new();
    let root = rig.stage1(SID, 5);
    rig.map(root, IOVA, A, S1_RW & !AF);
    assert_eq!(rig.dma(SID, IOVA), None);
    rig.put(rig.cd(SID), rig.get(rig.cd(SID)) | 1 << 35);
    rig.run(&[cfgi_cd(SID)]);
    assert_eq!(rig.dma(SID, IOVA), Some(A));
}

#[test]
fn table_descriptors_take_permissions_away() {
    let rig = ModelRig::new();
    let root = rig.stage1(SID, 5);
    rig.map(root, IOVA, A, S1_RW);
    let upper = rig.slot(root, IOVA, 1);
    rig.put(upper, rig.get(upper) | 1 << 62);
    assert_eq!(rig.dma(SID, IOVA), None);
    assert_eq!(rig.read(SID, IOVA), Some(0));
    rig.put(upper, rig.get(upper) | 1 << 61);
    rig.run(&[smmu_types::Command::TlbiNsnhAll]);
    assert_eq!(rig.read(SID, IOVA), None);
}

#[test]
fn walks_and_fetches_outside_of_memory() {
    let rig = ModelRig::new();
    let root = rig.stage1(SID, 5);
    rig.put(rig.slot(root, IOVA, 2), 0x8000_0000 | 3);
    assert_eq!(rig.dma(SID, IOVA), None);
    rig.put(rig.ste(SID), 1 | 5 << 1 | 0x8000_0000);
    rig.run(&[cfgi_ste(SID)]);
    assert_eq!(rig.dma(SID, IOVA), None);
    rig.regs.write(regs::CR0, 0xc);
    rig.regs.write(regs::STRTAB_BASE, 0x8000_0000);
    rig.regs.write(regs::CR0, 0xd);
    rig.put(rig.ste(SID), 0);
    rig.run(&[cfgi_ste(SID)]);
    assert_eq!(rig.dma(SID, IOVA), None);
    let events: Vec<_> = rig.events().iter().map(|e| (e.kind().to_string(), e.0[3])).collect();
    let expected = [
        ("F_WALK_EABT".to_owned(), 0x8000_0000 + (IOVA >> 12 & 0x1ff) * 8),
        ("F_CD_FETCH".to_owned(), 0x8000_0000),
        ("F_STE_FETCH".to_owned(), 0x8000_0000 + 8 * 64),
    ];
    assert_eq!(events, expected);
}

#[test]
fn an_output_outside_of_ram_is_a_bus_abort() {
    let rig = ModelRig::new();
    let root = rig.stage1(SID, 5);
    rig.map(root, IOVA, 0x8000_0000, S1_RW);
    assert_eq!(rig.dma(SID, IOVA), None);
    assert_eq!(rig.read(SID, IOVA), None);
    assert_eq!(rig.events(), []);
}

#[test]
fn faults_of_a_stream_may_go_unrecorded() {
    let rig = ModelRig::new();
    rig.stage1(SID, 5);
    rig.put(rig.cd(SID), rig.get(rig.cd(SID)) & !(1 << 45));
    rig.run(&[cfgi_cd(SID)]);
    assert_eq!(rig.dma(SID, IOVA), None);
    assert_eq!(rig.events(), []);
    rig.stage2(SID, 3);
    rig.put(rig.ste(SID) + 16, rig.get(rig.ste(SID) + 16) & !(1 << 58));
    rig.run(&[cfgi_ste(SID)]);
    assert_eq!(rig.dma(SID, IOVA), None);
    assert_eq!(rig.events(), []);
}

#[test]
fn only_the_first_record_interrupts() {
    let rig = ModelRig::new();
    rig.stage1(SID, 5);
    rig.model.take_interrupts();
    rig.dma(SID, IOVA);
    rig.dma(SID, IOVA);
    assert_eq!(rig.model.take_interrupts(), [(0, Irq::EventQueue)]);
    assert_eq!(rig.events().len(), 2);
    rig.dma(SID, IOVA);
    assert_eq!(rig.model.take_interrupts(), [(0, Irq::EventQueue)]);
    rig.events();
    rig.regs.write(regs::IRQ_CTRL, 0);
    rig.dma(SID, IOVA);
    assert_eq!(rig.model.take_interrupts(), []);
}

#[test]
fn a_full_queue_overflows_and_recovers() {
    let rig = ModelRig::new();
    rig.stage1(SID, 5);
    let entries = 1u64 << EVENTQ_LOG2;
    let overflow = |rig: &ModelRig| {
        (rig.regs.read(regs::EVENTQ_PROD) ^ rig.regs.read(regs::EVENTQ_CONS)) >> 31 != 0
    };
    for lap in 0..5 {
        for i in 0..entries {
            rig.dma(SID, IOVA + i * 0x1000);
        }
        assert!(!overflow(&rig), "lap {lap}");
        rig.dma(SID, IOVA + entries * 0x1000);
        rig.dma(SID, IOVA + entries * 0x1000);
        assert!(overflow(&rig), "lap {lap}");
        let addresses: Vec<_> = rig.events().iter().map(|e| e.address().0).collect();
        let kept: Vec<_> = (0..entries).map(|i| IOVA + i * 0x1000).collect();
        assert_eq!(addresses, kept, "lap {lap}");
        assert!(!overflow(&rig), "acknowledged with CONS");
    }
    assert_eq!(rig.missing(), Vec::<String>::new());
}

#[test]
fn records_that_cannot_be_written() {
    let rig = ModelRig::new();
    rig.stage1(SID, 5);
    rig.model.take_interrupts();
    rig.model.inject(0, InjectedFault::EventQueueAbort);
    rig.dma(SID, IOVA);
    rig.dma(SID, IOVA);
    let active = rig.regs.read(regs::GERROR) ^ rig.regs.read(regs::GERRORN);
    assert_eq!(active, regs::gerror::EVENTQ_ABT);
    assert_eq!(rig.model.take_interrupts(), [(0, Irq::Gerror)]);
    assert_eq!(rig.events(), []);
    rig.model.mend(0);
    rig.regs.write(regs::GERRORN, rig.regs.read(regs::GERROR));
    rig.dma(SID, IOVA);
    assert_eq!(rig.events().len(), 1);
}

#[test]
fn no_records_while_an_abort_is_unacknowledged() {
    let rig = ModelRig::new();
    rig.stage1(SID, 5);
    rig.model.inject(0, InjectedFault::EventQueueAbort);
    rig.dma(SID, IOVA);
    rig.model.mend(0);
    for _ in 0..2 << EVENTQ_LOG2 {
        rig.dma(SID, IOVA);
    }
    assert_eq!(rig.regs.read(regs::EVENTQ_PROD), 0, "neither a record nor an overflow");
    rig.regs.write(regs::GERRORN, rig.regs.read(regs::GERROR));
    rig.dma(SID, IOVA);
    assert_eq!(rig.events().len(), 1);
}

#[test]
fn no_records_while_the_queue_is_off() {
    let rig = ModelRig::new();
    rig.stage1(SID, 5);
    rig.regs.write(regs::CR0, regs::cr0::SMMUEN | regs::cr0::CMDQEN);
    rig.dma(SID, IOVA);
    assert_eq!(rig.regs.read(regs::EVENTQ_PROD), 0);
    assert_eq!(rig.get(RAM + 0x2000), 0);
}

#[test]
fn events_that_no_queue_has_are_told_apart() {
    let rig = ModelRig::new();
    let root = rig.stage1(SID, 5);
    let take = || -> Vec<String> {
        rig.model.take_unrecorded(0).iter().map(ToString::to_string).collect()
    };
    let fault = "F_TRANSLATION sid=0x8 write iova=0x50000000 class=IN stage=1";
    assert_eq!(rig.dma(SID, IOVA), None);
    assert_eq!((rig.event_lines(), take()), (vec![fault.to_owned()], vec![]));
    // The queue takes 8 records.
    for _ in 0..10 {
        assert_eq!(rig.dma(SID, IOVA), None);
    }
    assert_eq!((rig.events().len(), take()), (8, vec![fault.to_owned(); 2]));
    // The queue is off.
    rig.regs.write(regs::CR0, 0x9);
    assert_eq!(rig.dma(SID, IOVA), None);
    assert_eq!(take(), [fault]);
    rig.regs.write(regs::CR0, 0xd);
    // CD.R = 0.
    rig.put(rig.cd(SID), rig.get(rig.cd(SID)) & !(1 << 45));
    rig.run(&[cfgi_cd(SID)]);
    assert_eq!(rig.dma(SID, IOVA), None);
    assert_eq!((rig.event_lines(), take()), (vec![], vec![fault.to_owned()]));
    // CR2.RECINVSID = 0, and a StreamID beyond the stream table.
    rig.regs.write(regs::CR0, 0xc);
    rig.regs.write(regs::CR2, 0);
    rig.regs.write(regs::CR0, 0xd);
    rig.map(root, IOVA, A, S1_RW);
    assert_eq!(rig.dma(StreamId(0x1000), IOVA), None);
    assert_eq!((rig.event_lines(), take()), (vec![], vec!["C_BAD_STREAMID sid=0x1000".to_owned()]));
    // At most 64 are kept.
    for _ in 0..70 {
        assert_eq!(rig.dma(StreamId(0x1000), IOVA), None);
    }
    assert_eq!((take().len(), take().len()), (64, 0));
}
