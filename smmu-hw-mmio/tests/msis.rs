//! MSIs of global errors, events and page requests: what is refused, and the exact register writes.
#![cfg(feature = "fake")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use rstest::rstest;
use smmu_hw_mmio::fake::{ID, smmu};
use smmu_hw_mmio::{
    Bringup, BringupConfig, BringupError, Interrupts, Msi, MsiError, Msis, StreamTableBase,
};
use smmu_types::fake::{FakeRegisters, RecordingSink};
use smmu_types::queue::QueueSize;
use smmu_types::regs::strtab::StreamTableFormat;
use smmu_types::seam::CountingWait;
use smmu_types::{
    Capabilities, FieldError, IdRegisters, MsiAttributes, PhysAddr, Shareability, SmmuId,
};

const MSI: u32 = 1 << 13;
const PRI: u32 = 1 << 16;
const IRQ_CTRL: u32 = 0x50;
const CR0: u32 = 0x20;

/// The SMMU of the fake registers, which outputs 44 bits, with more in `IDR0`.
fn with(idr0: u32) -> Capabilities {
    Capabilities::decode(IdRegisters { idr0: ID.idr0 & !(MSI | PRI) | idr0, ..ID })
}

fn to(address: u64, data: u32) -> Option<Msi> {
    Some(Msi::new(PhysAddr(address), data, MsiAttributes::DEVICE).unwrap())
}

fn all() -> Msis {
    let outer = MsiAttributes::new(Shareability::Outer, 5).unwrap();
    Msis {
        gerror: to(0x0808_0040, 1),
        events: Some(Msi::new(PhysAddr(0x0808_0044), u32::MAX, MsiAttributes::WRITE_BACK).unwrap()),
        page_requests: Some(Msi::new(PhysAddr(0xfff_ffff_fffc), 3, outer).unwrap()),
    }
}

/// A bring-up of the event queue and, with `pages`, of the PRI queue.
fn bring_up(
    registers: &FakeRegisters,
    caps: &Capabilities,
    pages: bool,
    interrupts: Interrupts,
) -> Result<Vec<(u32, u64)>, BringupError> {
    let (wait, sink) = (CountingWait::new(), RecordingSink::new());
    let size = QueueSize::from_log2(4).unwrap();
    let (address, format) = (PhysAddr(0x4000_0000), StreamTableFormat::Linear { log2: 8 });
    let mut on = Bringup::begin(registers, &wait, BringupConfig::new(caps))?
        .set_tables(StreamTableBase { address, format })?
        .enable_commands(PhysAddr(0x4001_0000), size)?
        .invalidate_all(&sink, SmmuId(0))?
        .enable_events(PhysAddr(0x4002_0000), size)?;
    if pages {
        on = on.enable_page_requests(PhysAddr(0x4003_0000), size)?;
    }
    registers.take_writes();
    on.enable_interrupts(interrupts)?.enable_translation()?;
    Ok(registers.take_writes())
}

#[rstest]
#[case::without_a_pri_queue(false, 5, 0xd)]
#[case::with_a_pri_queue(true, 7, 0xf)]
fn written_while_the_interrupts_are_off(#[case] pages: bool, #[case] on: u64, #[case] cr0: u64) {
    let caps = with(MSI | PRI);
    let interrupts = Interrupts::msis(&caps, all()).unwrap();
    let writes = bring_up(&smmu(), &caps, pages, interrupts).unwrap();
    let want = [
        (IRQ_CTRL, 0),
        (0x68, 0x0808_0040),
        (0x70, 1),
        (0x74, 0),
        (0xb0, 0x0808_0044),
        (0xb8, 0xffff_ffff),
        (0xbc, 0x3f),
        (0xd0, 0xfff_ffff_fffc),
        (0xd8, 3),
        (0xdc, 0x25),
        (IRQ_CTRL, on),
        (CR0, cr0),
    ];
    assert_eq!(writes, want);
}

#[test]
fn an_interrupt_without_an_msi_is_a_wired_one() {
    let caps = with(MSI);
    let events = to(0x0808_0040, 9);
    let interrupts = Interrupts::msis(&caps, Msis { events, ..Msis::default() }).unwrap();
    let registers = smmu();
    // What an old owner left.
    for offset in [0x68, 0x70, 0x74, 0xb0, 0xb8, 0xbc, 0xd0, 0xd8, 0xdc] {
        registers.set(offset, 0x1234);
    }
    bring_up(&registers, &caps, false, interrupts).unwrap();
    let read = |offset| registers.get(offset);
    assert_eq!([0x68, 0x70, 0x74, 0xd0, 0xd8, 0xdc].map(read), [0; 6]);
    assert_eq!([0xb0, 0xb8, 0xbc].map(read), [0x0808_0040, 9, 0]);
    assert_eq!(read(IRQ_CTRL), 5);
}

#[rstest]
#[case::no_msis(PRI, all(), MsiError::NoMsis)]
#[case::none_chosen_and_no_msis(0, Msis::default(), MsiError::NoMsis)]
#[case::no_page_requests(MSI, all(), MsiError::NoPageRequests)]
#[case::beyond_44_bits(
    MSI,
    Msis { gerror: to(1 << 44, 0), ..Msis::default() },
    MsiError::BeyondOutputSize { register: "GERROR_IRQ_CFG0", address: PhysAddr(1 << 44), bits: 44 },
)]
#[case::far_beyond_44_bits(
    MSI | PRI,
    Msis { page_requests: to(1 << 55, 0), ..Msis::default() },
    MsiError::BeyondOutputSize { register: "PRIQ_IRQ_CFG0", address: PhysAddr(1 << 55), bits: 44 },
)]
fn refused(#[case] idr0: u32, #[case] msis: Msis, #[case] error: MsiError) {
    assert_eq!(Interrupts::msis(&with(idr0), msis), Err(error));
}

#[test]
fn every_refusal_says_what_to_do() {
    let caps = with(MSI);
    let beyond = Msis { events: to(1 << 45, 0), ..Msis::default() };
    let said = |caps, msis| Interrupts::msis(caps, msis).unwrap_err().to_string();
    assert_eq!(
        said(&caps, beyond),
        "EVENTQ_IRQ_CFG0: the SMMU outputs 44 address bits (IDR5.OAS), too few for an MSI to 0x200000000000"
    );
    assert_eq!(
        said(&with(0), beyond),
        "the SMMU sends no MSIs (IDR0.MSI = 0); use its wired interrupts, or poll"
    );
}

#[rstest]
#[case::no_msi(0, FieldError::Reserved { field: "ADDR", value: 0 })]
#[case::unaligned(0x1002, FieldError::Misaligned { field: "ADDR", value: 0x1002, align: 4 })]
#[case::too_wide(1 << 56, FieldError::TooLarge { field: "ADDR", value: 1 << 56, max: (1 << 56) - 4 })]
fn no_address_of_an_msi(#[case] address: u64, #[case] error: FieldError) {
    assert_eq!(Msi::new(PhysAddr(address), 0, MsiAttributes::DEVICE), Err(error));
}

#[test]
fn an_smmu_that_does_not_keep_the_address_is_not_driven() {
    // Its registers of MSIs are reserved, and the capabilities were those of another SMMU.
    let registers = FakeRegisters::with_hook(|registers, offset, value| match offset {
        0x20 => registers.set(0x24, value),
        0x50 => registers.set(0x54, value),
        0xb0 => registers.set(0xb0, 0),
        _ => {}
    });
    let caps = with(MSI);
    let events = to(0x0808_0040, 9);
    let interrupts = Interrupts::msis(&caps, Msis { events, ..Msis::default() }).unwrap();
    let error = bring_up(&registers, &caps, false, interrupts).unwrap_err();
    let (register, wrote) = ("EVENTQ_IRQ_CFG0", 0x0808_0040);
    assert_eq!(error, BringupError::NotKept { register, wrote, read: 0 });
    assert_eq!(registers.get(IRQ_CTRL), 0, "no interrupt is on");
}
