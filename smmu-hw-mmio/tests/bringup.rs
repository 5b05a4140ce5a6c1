//! The exact register writes of a bring-up, and its errors when the SMMU does not acknowledge.
#![cfg(feature = "fake")]

use core::time::Duration;

use rstest::rstest;
use smmu_hw_mmio::fake::{AbsentDevice, ID, Unacknowledged, smmu, smmu_without_ack};
use smmu_hw_mmio::{
    Bringup, BringupConfig, BringupError, Coherency, El2, Interrupts, ProbeError, Running,
    StreamTableBase, probe,
};
use smmu_types::fake::{FakeRegisters, RecordingSink, SinkCall};
use smmu_types::queue::QueueSize;
use smmu_types::regs::cr0;
use smmu_types::regs::strtab::{Split, StreamTableFormat};
use smmu_types::seam::{CommandSink, CountingWait, SinkError, Wait};
use smmu_types::{Capabilities, Command, FieldError, IdRegisters, PhysAddr, SmmuId};

const SMMU: SmmuId = SmmuId(3);
const TABLE: StreamTableBase = StreamTableBase {
    address: PhysAddr(0x4000_0000),
    format: StreamTableFormat::Linear { log2: 8 },
};
const CMDQ: PhysAddr = PhysAddr(0x4001_0000);
const EVENTQ: PhysAddr = PhysAddr(0x4002_0000);

fn config() -> BringupConfig {
    BringupConfig::new(&Capabilities::decode(ID))
}

const fn size(log2: u8) -> QueueSize {
    match QueueSize::from_log2(log2) {
        Some(size) => size,
        None => unreachable!(),
    }
}

fn bring_up<'a>(
    registers: &'a FakeRegisters,
    wait: &'a CountingWait,
    config: BringupConfig,
    sink: &RecordingSink,
    interrupts: Interrupts,
) -> Result<Running<&'a FakeRegisters, &'a CountingWait>, BringupError> {
    Bringup::begin(registers, wait, config)?
        .set_tables(TABLE)?
        .enable_commands(CMDQ, size(6))?
        .invalidate_all(sink, SMMU)?
        .enable_events(EVENTQ, size(5))?
        .enable_interrupts(interrupts)?
        .enable_translation()
}

// Values that QEMU's SMMUv3 accepted, in the order in which Linux's driver writes them.
const OFF: &[(u32, u64)] = &[(0x20, 0)];
const ATTRIBUTES: &[(u32, u64)] = &[(0x28, 0xd75), (0x2c, 6)];
const TABLES: &[(u32, u64)] = &[(0x80, 1 << 62 | 0x4000_0000), (0x88, 8)];
const COMMANDS: &[(u32, u64)] = &[(0x90, 1 << 62 | 0x4001_0006), (0x98, 0), (0x9c, 0), (0x20, 8)];
const EVENTS: &[(u32, u64)] =
    &[(0xa0, 1 << 62 | 0x4002_0005), (0x1_00a8, 0), (0x1_00ac, 0), (0x20, 0xc)];
// Linux's driver clears the addresses alone. `PRIQ_IRQ_CFG2.LO` counts for a wire, too.
const NO_INTERRUPTS: &[(u32, u64)] = &[
    (0x50, 0),
    (0x68, 0),
    (0x70, 0),
    (0x74, 0),
    (0xb0, 0),
    (0xb8, 0),
    (0xbc, 0),
    (0xd0, 0),
    (0xd8, 0),
    (0xdc, 0),
];
const INTERRUPTS: &[(u32, u64)] = &[(0x50, 5)];
const ON: &[(u32, u64)] = &[(0x20, 0xd)];

#[rstest]
#[case::wired(Interrupts::Wired, INTERRUPTS)]
#[case::polled(Interrupts::Polled, &[])]
fn the_write_sequence(#[case] interrupts: Interrupts, #[case] enable: &[(u32, u64)]) {
    let (registers, wait, sink) = (smmu(), CountingWait::new(), RecordingSink::new());
    let running = bring_up(&registers, &wait, config(), &sink, interrupts).unwrap();
    let want = [OFF, ATTRIBUTES, TABLES, COMMANDS, EVENTS, NO_INTERRUPTS, enable, ON].concat();
    assert_eq!(registers.take_writes(), want);
    assert_eq!(
        sink.take(),
        [
            SinkCall::Issue(SMMU, vec![Command::CfgiAll]),
            SinkCall::Wait(SMMU),
            SinkCall::Issue(SMMU, vec![Command::TlbiNsnhAll]),
            SinkCall::Wait(SMMU),
        ]
    );
    // Transactions abort before translation is off.
    let _disabled = running.disable().unwrap();
    assert_eq!(registers.take_writes(), [(0x44, 1 << 31 | 1 << 20), (0x20, 0)]);
    assert_eq!(wait.now(), Duration::ZERO);
}

#[test]
fn ats_check_is_on_before_translation() {
    let (registers, wait, sink) = (smmu(), CountingWait::new(), RecordingSink::new());
    let with_ats = IdRegisters { idr0: ID.idr0 | 1 << 10, ..ID };
    let config = BringupConfig::new(&Capabilities::decode(with_ats));
    let _running = bring_up(&registers, &wait, config, &sink, Interrupts::Polled).unwrap();
    let writes = registers.take_writes();
    assert_eq!(writes[writes.len() - 2..], [(0x20, 0x1c), (0x20, 0x1d)]);
}

#[test]
fn a_running_smmu_aborts_before_it_is_turned_off() {
    let (registers, wait) = (smmu(), CountingWait::new());
    registers.set(0x20, 0xd);
    registers.set(0x24, 0xd);
    registers.set(0x44, 0x3000);
    let _disabled = Bringup::begin(&registers, &wait, config()).unwrap();
    let want = [&[(0x44, 1 << 31 | 1 << 20 | 0x3000)], OFF, ATTRIBUTES].concat();
    assert_eq!(registers.take_writes(), want);
    assert_eq!(registers.get(0x44), 1 << 20 | 0x3000);
}

#[test]
fn an_old_error_is_acknowledged() {
    let (registers, wait) = (smmu(), CountingWait::new());
    registers.set(0x60, 0x5);
    registers.set(0x64, 0x4);
    let _disabled = Bringup::begin(&registers, &wait, config()).unwrap();
    assert_eq!(registers.take_writes(), [OFF, &[(0x64, 5)], ATTRIBUTES].concat());
}

#[rstest]
#[case(Coherency::Coherent, El2::Absent, 0xd75, 6)]
#[case(Coherency::NonCoherent, El2::Present, 0x820, 6)]
#[case(Coherency::Coherent, El2::PresentWithAsids, 0xd75, 7)]
fn attributes_follow_the_configuration(
    #[case] coherency: Coherency,
    #[case] el2: El2,
    #[case] cr1: u64,
    #[case] cr2: u64,
) {
    let (registers, wait, sink) = (smmu(), CountingWait::new(), RecordingSink::new());
    let config = BringupConfig { coherency, el2, ..config() };
    bring_up(&registers, &wait, config, &sink, Interrupts::Polled).unwrap();
    assert_eq!((registers.get(0x28), registers.get(0x2c)), (cr1, cr2));
    let flush = match el2 {
        El2::Absent => vec![Command::TlbiNsnhAll],
        El2::Present | El2::PresentWithAsids => vec![Command::TlbiEl2All, Command::TlbiNsnhAll],
    };
    assert!(sink.take().contains(&SinkCall::Issue(SMMU, flush)));
}

#[rstest]
#[case::command_queue(Unacknowledged::Cr0(cr0::CMDQEN), "CR0ACK", u32::MAX, 0x8, 0)]
#[case::event_queue(Unacknowledged::Cr0(cr0::EVENTQEN), "CR0ACK", u32::MAX, 0xc, 0x8)]
#[case::translation(Unacknowledged::Cr0(cr0::SMMUEN), "CR0ACK", u32::MAX, 0xd, 0xc)]
#[case::interrupts(Unacknowledged::IrqCtrl, "IRQ_CTRLACK", u32::MAX, 5, 0)]
fn a_missing_acknowledgement_is_a_bounded_error(
    #[case] unacknowledged: Unacknowledged,
    #[case] register: &'static str,
    #[case] mask: u32,
    #[case] wanted: u32,
    #[case] got: u32,
) {
    let (registers, wait, sink) =
        (smmu_without_ack(unacknowledged), CountingWait::new(), RecordingSink::new());
    let config = BringupConfig { timeout: Duration::from_micros(300), ..config() };
    let error = bring_up(&registers, &wait, config, &sink, Interrupts::Wired).unwrap_err();
    let timeout = config.timeout;
    assert_eq!(error, BringupError::NoAck { register, mask, wanted, got, timeout });
    assert!(wait.now() <= Duration::from_micros(301));
}

#[rstest]
// The write never takes effect.
#[case::after(Unacknowledged::Gbpa, 0, 1 << 31 | 1 << 20, 1)]
// An earlier write has not taken effect: the bring-up must not write.
#[case::before(Unacknowledged::None, 1 << 31, 1 << 31, 0)]
fn gbpa_is_polled_before_and_after(
    #[case] unacknowledged: Unacknowledged,
    #[case] old: u64,
    #[case] got: u32,
    #[case] writes: usize,
) {
    let (registers, wait) = (smmu_without_ack(unacknowledged), CountingWait::new());
    registers.set(0x20, 1);
    registers.set(0x44, old);
    let error = Bringup::begin(&registers, &wait, config()).map(|_| ()).unwrap_err();
    let timeout = Duration::from_secs(1);
    let update = 1 << 31;
    assert_eq!(
        error,
        BringupError::NoAck { register: "GBPA", mask: update, wanted: 0, got, timeout }
    );
    // Translation stays on, so nothing bypasses.
    assert_eq!(registers.take_writes().len(), writes);
    assert_eq!(registers.get(0x20), 1);
}

#[rstest]
#[case::abort(Unacknowledged::GbpaAbort, "GBPA", 1 << 20)]
#[case::table(Unacknowledged::StrtabBase, "STRTAB_BASE", 0x4000_0000)]
#[case::size(Unacknowledged::StrtabBaseCfg, "STRTAB_BASE_CFG", 8)]
fn what_isolation_rests_on_is_read_back(
    #[case] lost: Unacknowledged,
    #[case] register: &'static str,
    #[case] wrote: u64,
) {
    let (registers, wait, sink) =
        (smmu_without_ack(lost), CountingWait::new(), RecordingSink::new());
    registers.set(0x20, 1);
    let error = bring_up(&registers, &wait, config(), &sink, Interrupts::Wired).unwrap_err();
    assert_eq!(error, BringupError::NotKept { register, wrote, read: 0 });
    // Translation was not turned off where that lets transactions bypass, and is never turned on.
    assert_eq!(registers.get(0x20), u64::from(register == "GBPA"));
    assert!(error.to_string().starts_with(register));
}

#[test]
fn an_smmu_that_does_not_keep_abort_is_not_turned_off() {
    let (registers, wait, sink) =
        (smmu_without_ack(Unacknowledged::GbpaAbort), CountingWait::new(), RecordingSink::new());
    let running = bring_up(&registers, &wait, config(), &sink, Interrupts::Polled).unwrap();
    let error = running.disable().map(|_| ()).unwrap_err();
    assert!(matches!(error, BringupError::NotKept { register: "GBPA", .. }));
    assert_eq!(registers.get(0x20) & 1, 1, "translation stays on");
}

#[test]
fn a_device_that_does_not_turn_off_is_an_error() {
    let (registers, wait) =
        (smmu_without_ack(Unacknowledged::Cr0(cr0::SMMUEN)), CountingWait::new());
    registers.set(0x20, 1);
    registers.set(0x24, 1);
    let error = Bringup::begin(&registers, &wait, config()).map(|_| ()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "CR0ACK = 0x1 after 1s, wanted 0x0 in bits 0xffffffff; the SMMU hangs or is gone"
    );
}

#[test]
fn probe_and_bring_up_report_an_absent_device() {
    assert_eq!(probe(&AbsentDevice), Err(ProbeError::NoDevice));
    let error =
        Bringup::begin(AbsentDevice, CountingWait::new(), config()).map(|_| ()).unwrap_err();
    assert!(matches!(error, BringupError::NoAck { register: "GBPA", got: u32::MAX, .. }));
}

#[rstest]
#[case::linear(StreamTableFormat::Linear { log2: 33 }, "a linear table of 2^33 STEs")]
#[case::linear_absurd(StreamTableFormat::Linear { log2: 255 }, "a linear table of 2^255 STEs")]
#[case::two_level_large(
    StreamTableFormat::TwoLevel { log2: 33, split: Split::Ten },
    "a two-level table of 2^33 STEs, 2^10 in a second level"
)]
#[case::two_level_reserved(
    StreamTableFormat::TwoLevel { log2: 16, split: Split::Reserved(7) },
    "a two-level table with the reserved SPLIT = 7"
)]
fn impossible_stream_table_sizes_are_refused(
    #[case] format: StreamTableFormat,
    #[case] named: &str,
) {
    let (registers, wait) = (smmu(), CountingWait::new());
    let disabled = Bringup::begin(&registers, &wait, config()).unwrap();
    registers.take_writes();
    let error = disabled.set_tables(StreamTableBase { format, ..TABLE }).map(|_| ()).unwrap_err();
    assert_eq!(error, BringupError::StreamTableSize { format });
    let text = error.to_string();
    assert!(text.starts_with(&format!("no stream table can be {named}; ")), "{text}");
    assert!(registers.take_writes().is_empty());
}

#[test]
fn misaligned_bases_are_refused_before_any_write() {
    let (registers, wait) = (smmu(), CountingWait::new());
    let begin = || {
        let disabled = Bringup::begin(&registers, &wait, config()).unwrap();
        registers.take_writes();
        disabled
    };
    let table = StreamTableBase { address: PhysAddr(0x4000_0040), ..TABLE };
    let error = begin().set_tables(table).map(|_| ()).unwrap_err();
    assert!(matches!(error, BringupError::Base { register: "STRTAB_BASE", .. }));
    assert!(registers.take_writes().is_empty());

    let error = begin()
        .set_tables(TABLE)
        .unwrap()
        .enable_commands(PhysAddr(0x4001_0200), size(6))
        .map(|_| ())
        .unwrap_err();
    let misaligned = FieldError::Misaligned { field: "ADDR", value: 0x4001_0200, align: 0x400 };
    assert_eq!(error, BringupError::Base { register: "CMDQ_BASE", error: misaligned });
    assert_eq!(registers.take_writes(), TABLES);
}

#[test]
fn a_failed_invalidation_stops_the_bring_up() {
    let timeout = SinkError::timeout(SMMU);
    let sink = RecordingSink::failing(move |call| {
        (*call == SinkCall::Issue(SMMU, vec![Command::TlbiNsnhAll])).then_some(timeout)
    });
    let (registers, wait) = (smmu(), CountingWait::new());
    let error = bring_up(&registers, &wait, config(), &sink, Interrupts::Wired).unwrap_err();
    assert_eq!(error, BringupError::Invalidate(timeout));
    assert_eq!(registers.get(0x20), 8);
}

#[test]
fn the_proof_of_another_smmu_is_no_proof() {
    struct ForeignProofSink;
    impl CommandSink for ForeignProofSink {
        type Ticket = ();
        type Pushed = ();
        fn issue(&self, _: SmmuId, _: &[Command]) -> Result<(), SinkError> {
            Ok(())
        }
        fn push(&self, _: SmmuId, _: Option<()>, _: &[Command]) -> Result<(), SinkError> {
            Ok(())
        }
        fn prove(&self, (): (), _: &[Command]) -> Result<(), SinkError> {
            Ok(())
        }
        fn wait(&self, (): ()) -> Result<smmu_types::SyncProof, SinkError> {
            Ok(smmu_types::SyncProof::vouch(SmmuId(9)))
        }
    }
    let (registers, wait) = (smmu(), CountingWait::new());
    let ready = Bringup::begin(&registers, &wait, config())
        .and_then(|disabled| disabled.set_tables(TABLE))
        .and_then(|set| set.enable_commands(CMDQ, size(6)))
        .unwrap();
    let error = ready.invalidate_all(&ForeignProofSink, SMMU).map(|_| ()).unwrap_err();
    let foreign = SinkError::ForeignProof { want: SMMU, got: SmmuId(9) };
    assert_eq!(error, BringupError::Invalidate(foreign));
}

const PRIQ: PhysAddr = PhysAddr(0x4003_0000);

#[rstest]
#[case::wired(Interrupts::Wired, &[(0x50, 7)])]
#[case::polled(Interrupts::Polled, &[])]
fn the_pri_queue_comes_between_events_and_interrupts(
    #[case] interrupts: Interrupts,
    #[case] enable: &[(u32, u64)],
) {
    let (registers, wait, sink) = (smmu(), CountingWait::new(), RecordingSink::new());
    let with_pri = IdRegisters { idr0: ID.idr0 | 1 << 16, ..ID };
    let config = BringupConfig::new(&Capabilities::decode(with_pri));
    let _running = Bringup::begin(&registers, &wait, config)
        .and_then(|off| off.set_tables(TABLE))
        .and_then(|set| set.enable_commands(CMDQ, size(6)))
        .and_then(|on| on.invalidate_all(&sink, SMMU))
        .and_then(|clean| clean.enable_events(EVENTQ, size(5)))
        .and_then(|on| on.enable_page_requests(PRIQ, size(4)))
        .and_then(|on| on.enable_interrupts(interrupts))
        .and_then(|set| set.enable_translation())
        .unwrap();
    // The values in the order in which Linux's driver writes them.
    let pages: &[(u32, u64)] =
        &[(0xc0, 1 << 62 | 0x4003_0004), (0x1_00c8, 0), (0x1_00cc, 0), (0x20, 0xe)];
    let want =
        [OFF, ATTRIBUTES, TABLES, COMMANDS, EVENTS, pages, NO_INTERRUPTS, enable, &[(0x20, 0xf)]]
            .concat();
    assert_eq!(registers.take_writes(), want);
}

#[test]
fn an_smmu_without_pri_is_not_asked_for_page_requests() {
    let (registers, wait, sink) = (smmu(), CountingWait::new(), RecordingSink::new());
    let events = Bringup::begin(&registers, &wait, config())
        .and_then(|off| off.set_tables(TABLE))
        .and_then(|set| set.enable_commands(CMDQ, size(6)))
        .and_then(|on| on.invalidate_all(&sink, SMMU))
        .and_then(|clean| clean.enable_events(EVENTQ, size(5)))
        .unwrap();
    registers.take_writes();
    let refused = events.enable_page_requests(PRIQ, size(4)).map(|_| ());
    assert_eq!(refused, Err(BringupError::NoPageRequests));
    assert!(registers.take_writes().is_empty());
}

#[rstest]
#[case::misaligned(PhysAddr(0x4003_0080), Unacknowledged::None)]
#[case::no_answer(PRIQ, Unacknowledged::Cr0(cr0::PRIQEN))]
fn a_pri_queue_that_does_not_start_is_an_error(
    #[case] base: PhysAddr,
    #[case] unacknowledged: Unacknowledged,
) {
    let (registers, wait, sink) =
        (smmu_without_ack(unacknowledged), CountingWait::new(), RecordingSink::new());
    let with_pri = IdRegisters { idr0: ID.idr0 | 1 << 16, ..ID };
    let config = BringupConfig::new(&Capabilities::decode(with_pri));
    let error = Bringup::begin(&registers, &wait, config)
        .and_then(|off| off.set_tables(TABLE))
        .and_then(|set| set.enable_commands(CMDQ, size(6)))
        .and_then(|on| on.invalidate_all(&sink, SMMU))
        .and_then(|clean| clean.enable_events(EVENTQ, size(5)))
        .and_then(|on| on.enable_page_requests(base, size(4)))
        .map(|_| ())
        .unwrap_err();
    match unacknowledged {
        Unacknowledged::None => {
            assert!(matches!(error, BringupError::Base { register: "PRIQ_BASE", .. }));
        }
        _ => assert!(matches!(error, BringupError::NoAck { register: "CR0ACK", got: 0xc, .. })),
    }
}
