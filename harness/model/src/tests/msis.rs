//! MSIs of global errors, events and page requests (IHI 0070, 3.18).

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rstest::rstest;
use smmu_types::pool::Window;
use smmu_types::regs::{self, gerror, irq_ctrl, priq_irq_cfg2};
use smmu_types::seam::{Registers, RegistersExt};
use smmu_types::{Iova, Irq, OutputSize, PrgIndex, PriRecord, RequestedAccess};

use super::model_rig::{A, EVENTQ, IOVA, ModelRig, RAM, SID};
use crate::{Hazard, InjectedFault, Profile, Violation};

const PRIQ: u64 = RAM + 0x3000;
const PRIQ_LOG2: u64 = 2;
const ALL: u32 = irq_ctrl::GERROR | irq_ctrl::EVENTQ | irq_ctrl::PRIQ;
/// Where the MSIs go, each with its data.
const GERROR_MSI: (u64, u32) = (A, 0x11);
const EVENTQ_MSI: (u64, u32) = (A + 8, 0x22);
const PRIQ_MSI: (u64, u32) = (A + 16, 0x33);

const NOWHERE: u64 = RAM - 4;

const CFG: [(u32, &str, &str); 9] = [
    (0x68, "GERROR_IRQ_CFG0", "IRQ_CTRL.GERROR_IRQEN"),
    (0x70, "GERROR_IRQ_CFG1", "IRQ_CTRL.GERROR_IRQEN"),
    (0x74, "GERROR_IRQ_CFG2", "IRQ_CTRL.GERROR_IRQEN"),
    (0xb0, "EVENTQ_IRQ_CFG0", "IRQ_CTRL.EVENTQ_IRQEN"),
    (0xb8, "EVENTQ_IRQ_CFG1", "IRQ_CTRL.EVENTQ_IRQEN"),
    (0xbc, "EVENTQ_IRQ_CFG2", "IRQ_CTRL.EVENTQ_IRQEN"),
    (0xd0, "PRIQ_IRQ_CFG0", "IRQ_CTRL.PRIQ_IRQEN"),
    (0xd8, "PRIQ_IRQ_CFG1", "IRQ_CTRL.PRIQ_IRQEN"),
    (0xdc, "PRIQ_IRQ_CFG2", "IRQ_CTRL.PRIQ_IRQEN"),
];

/// A rig with all queues on, whose MSIs go to `gerror`, `events` and `pages`.
fn rig([gerror, events, pages]: [(u64, u32); 3], last_only: u32) -> ModelRig {
    let rig = ModelRig::with(Profile { msi: true, pri: true, ..Profile::default() });
    let r = &rig.regs;
    r.write(regs::IRQ_CTRL, 0);
    r.write(regs::GERROR_IRQ_CFG0, gerror.0);
    r.write(regs::GERROR_IRQ_CFG1, gerror.1);
    r.write(regs::EVENTQ_IRQ_CFG0, events.0);
    r.write(regs::EVENTQ_IRQ_CFG1, events.1);
    r.write(regs::PRIQ_IRQ_CFG0, pages.0);
    r.write(regs::PRIQ_IRQ_CFG1, pages.1);
    r.write(regs::PRIQ_IRQ_CFG2, last_only);
    r.write(regs::IRQ_CTRL, ALL);
    r.write(regs::PRIQ_BASE, 1 << 62 | PRIQ | PRIQ_LOG2);
    r.write(regs::PRIQ_PROD, 0);
    r.write(regs::PRIQ_CONS, 0);
    r.write(regs::CR0, 0xf);
    rig.model.take_interrupts();
    rig
}

fn ask(rig: &ModelRig, group: u16, last: bool) {
    let access = RequestedAccess { read: true, ..RequestedAccess::default() };
    let request = PriRecord::new(SID, PrgIndex::new(group).unwrap(), Iova(IOVA), access).unwrap();
    rig.model.page_request(0, if last { request.with_last() } else { request });
}

/// The data that came, each once.
fn came(rig: &ModelRig) -> [u64; 3] {
    [A, A + 8, A + 16].map(|at| {
        let data = rig.get(at);
        rig.put(at, 0);
        data
    })
}

fn consume(rig: &ModelRig) {
    rig.regs.write(regs::EVENTQ_CONS, rig.regs.read(regs::EVENTQ_PROD));
    rig.regs.write(regs::PRIQ_CONS, rig.regs.read(regs::PRIQ_PROD));
}

fn active(rig: &ModelRig) -> u32 {
    rig.regs.read(regs::GERROR) ^ rig.regs.read(regs::GERRORN)
}

#[test]
fn a_queue_sends_one_when_it_becomes_non_empty() {
    let rig = rig([GERROR_MSI, EVENTQ_MSI, PRIQ_MSI], 0);
    for _ in 0..2 {
        assert_eq!(rig.dma(SID, IOVA), None, "there is no STE");
        assert_eq!(came(&rig), [0, 0x22, 0]);
        assert_eq!(rig.dma(SID, IOVA), None);
        ask(&rig, 1, false);
        assert_eq!(came(&rig), [0, 0, 0x33], "the event queue was not empty");
        ask(&rig, 1, true);
        assert_eq!(came(&rig), [0; 3]);
        consume(&rig);
    }
    assert_eq!((rig.model.take_interrupts(), rig.model.take_hazards()), (vec![], vec![]));
}

#[test]
fn none_while_the_interrupt_is_off_and_none_for_what_came_then() {
    let rig = rig([GERROR_MSI, EVENTQ_MSI, PRIQ_MSI], 0);
    rig.regs.write(regs::IRQ_CTRL, 0);
    rig.model.inject(0, InjectedFault::PriQueueAbort);
    ask(&rig, 1, true);
    assert_eq!((rig.dma(SID, IOVA), active(&rig)), (None, gerror::PRIQ_ABT));
    rig.regs.write(regs::IRQ_CTRL, ALL);
    assert_eq!(rig.dma(SID, IOVA), None, "a second record");
    assert_eq!((came(&rig), rig.model.take_interrupts()), ([0; 3], vec![]));
}

#[test]
fn without_an_address_the_wire_signals() {
    let rig = rig([GERROR_MSI, (0, 7), PRIQ_MSI], 0);
    assert_eq!(rig.dma(SID, IOVA), None);
    assert_eq!((came(&rig), rig.model.take_interrupts()), ([0; 3], vec![(0, Irq::EventQueue)]));
}

/// 6.3.36: with `LO`, each last request interrupts, also one that a full queue discards.
#[rstest]
#[case::by_msi(PRIQ_MSI, 0x33, vec![])]
#[case::by_wire((0, 0), 0, vec![(0, Irq::PriQueue)])]
fn only_the_last_request(
    #[case] to: (u64, u32),
    #[case] data: u64,
    #[case] wire: Vec<(usize, Irq)>,
) {
    let rig = rig([GERROR_MSI, EVENTQ_MSI, to], priq_irq_cfg2::LO);
    let none = ([0; 3], vec![]);
    let seen = || (came(&rig), rig.model.take_interrupts());
    ask(&rig, 1, false);
    assert_eq!(seen(), none, "the queue became non-empty");
    for _ in 0..2 {
        ask(&rig, 1, true);
        assert_eq!(seen(), ([0, 0, data], wire.clone()));
    }
    ask(&rig, 2, false);
    ask(&rig, 2, false);
    assert_eq!(seen(), none, "and full");
    ask(&rig, 2, true);
    assert_eq!(seen(), ([0, 0, data], wire));
    assert_eq!(rig.model.take_page_responses(0).len(), 1, "the SMMU has answered it");
}

#[test]
fn one_that_aborts_is_a_global_error_and_the_record_stays() {
    let rig = rig([GERROR_MSI, (NOWHERE, 1), (NOWHERE, 2)], 0);
    assert_eq!(rig.dma(SID, IOVA), None);
    assert_eq!((active(&rig), came(&rig)), (gerror::MSI_EVENTQ_ABT, [0x11, 0, 0]));
    assert_eq!(rig.regs.read(regs::EVENTQ_PROD), 1);
    ask(&rig, 1, true);
    let both = gerror::MSI_EVENTQ_ABT | gerror::MSI_PRIQ_ABT;
    assert_eq!((active(&rig), came(&rig)), (both, [0x11, 0, 0]));
    assert_eq!(rig.regs.read(regs::PRIQ_PROD), 1);
    rig.regs.write(regs::GERRORN, rig.regs.read(regs::GERROR));
    // The queues go on, and so do the aborts.
    consume(&rig);
    assert_eq!(rig.dma(SID, IOVA), None);
    assert_eq!((active(&rig), came(&rig)), (gerror::MSI_EVENTQ_ABT, [0x11, 0, 0]));
    assert_eq!((rig.model.take_interrupts(), rig.model.take_hazards()), (vec![], vec![]));
}

#[rstest]
#[case(0)]
#[case(1)]
#[case(2)]
fn a_driver_that_writes_the_registers_of_one_that_is_on_is_told(#[case] on: usize) {
    let rig = rig([GERROR_MSI, EVENTQ_MSI, PRIQ_MSI], 0);
    let enable = [irq_ctrl::GERROR, irq_ctrl::EVENTQ, irq_ctrl::PRIQ][on];
    rig.regs.write(regs::IRQ_CTRL, enable);
    for (n, (offset, register, by)) in CFG.into_iter().enumerate() {
        let read = || match n % 3 {
            0 => rig.regs.read64(offset),
            _ => rig.regs.read32(offset).into(),
        };
        let before = read();
        match n % 3 {
            0 => rig.regs.write64(offset, B),
            _ => rig.regs.write32(offset, 5),
        }
        let hazards = rig.model.take_hazards();
        if n / 3 == on {
            let violation = Violation::Enabled { register, by };
            assert_eq!(hazards, [Hazard::Protocol { smmu: 0, violation }]);
            assert_eq!(read(), before, "the write is ignored");
        } else {
            assert_eq!((hazards, read()), (vec![], if n % 3 == 0 { B } else { 5 }), "{register}");
        }
    }
}

const B: u64 = A + 0x100;

#[rstest]
#[case::within(OutputSize::Bits32, 0xffff_fffc, 0)]
#[case::beyond_32_bits(OutputSize::Bits32, 0x1_0000_0000, 0x1_0000_0000)]
#[case::beyond_44_bits(OutputSize::Bits44, 0x80_0fff_ffff_fffc, 0x80_0000_0000_0000)]
#[case::beyond_56_bits(OutputSize::Bits48, 1 << 60, 1 << 60)]
#[case::unaligned(OutputSize::Bits48, 0x1002, 2)]
fn address_bits_that_the_smmu_does_not_output_are_reserved(
    #[case] output_size: OutputSize,
    #[case] address: u64,
    #[case] reserved: u64,
) {
    let rig = ModelRig::with(Profile { msi: true, output_size, ..Profile::default() });
    rig.regs.write(regs::IRQ_CTRL, 0);
    rig.regs.write(regs::EVENTQ_IRQ_CFG0, address);
    assert_eq!(rig.regs.read(regs::EVENTQ_IRQ_CFG0), address & !reserved);
    let bits = Violation::ReservedBits { register: "EVENTQ_IRQ_CFG0", bits: reserved };
    let wants = (reserved != 0).then_some(Hazard::Protocol { smmu: 0, violation: bits });
    assert_eq!(rig.model.take_hazards(), Vec::from_iter(wants));
}

/// 3.18: a thread that sees the MSI sees the record, and `EVENTQ_PROD` beyond it.
#[test]
fn an_msi_is_visible_after_its_record() {
    const ROUNDS: u64 = 200;
    let rig = rig([GERROR_MSI, EVENTQ_MSI, PRIQ_MSI], 0);
    let window = rig.model.window();
    let word = move |at: u64| window.words()[((at - RAM) / 8) as usize].load(Ordering::Acquire);
    let (device, regs) = (rig.model.clone(), rig.model.registers(0).unwrap());
    let (seen, failed) = (AtomicBool::new(true), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..ROUNDS {
                while !seen.swap(false, Ordering::AcqRel) {
                    thread::yield_now();
                }
                assert!(device.dma_write32(0, SID, IOVA, 7).is_err());
                if failed.load(Ordering::Acquire) {
                    return;
                }
            }
        });
        for round in 0..ROUNDS {
            while word(EVENTQ_MSI.0) == 0 {
                std::hint::spin_loop();
            }
            let record = word(EVENTQ + round % 8 * 32);
            let producer = regs.read(regs::EVENTQ_PROD);
            // C_BAD_STE, or what stands in its place, names the stream.
            if record >> 32 != u64::from(SID.0) || u64::from(producer) != (round + 1) % 16 {
                failed.store(true, Ordering::Release);
            }
            for at in 0..4 {
                rig.put(EVENTQ + round % 8 * 32 + at * 8, 0);
            }
            rig.put(EVENTQ_MSI.0, 0);
            regs.write(regs::EVENTQ_CONS, producer);
            seen.store(true, Ordering::Release);
            assert!(!failed.load(Ordering::Acquire), "round {round}: {record:#x}, {producer:#x}");
        }
    });
}
