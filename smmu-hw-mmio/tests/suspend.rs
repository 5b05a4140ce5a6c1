//! The exact register writes of a sleep, of a wake and of an exit, and their errors.
#![cfg(feature = "fake")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use core::time::Duration;

use rstest::rstest;
use smmu_hw_mmio::fake::{ID, Unacknowledged, smmu, smmu_without_ack};
use smmu_hw_mmio::{
    Bringup, BringupConfig, BringupError, ExitPolicy, Interrupts, Running, StreamTableBase,
    Suspended, TablesSet,
};
use smmu_types::fake::{FakeRegisters, RecordingSink, SinkCall};
use smmu_types::queue::QueueSize;
use smmu_types::regs::cr0;
use smmu_types::regs::strtab::{Split, StreamTableFormat};
use smmu_types::seam::{CountingWait, SinkError, Wait};
use smmu_types::{Capabilities, Command, IdRegisters, PhysAddr, SmmuId};

const SMMU: SmmuId = SmmuId(3);
const TABLE: StreamTableBase = StreamTableBase {
    address: PhysAddr(0x4000_0000),
    format: StreamTableFormat::TwoLevel { log2: 16, split: Split::Eight },
};
const CMDQ: PhysAddr = PhysAddr(0x4001_0000);
const EVENTQ: PhysAddr = PhysAddr(0x4002_0000);
const GBPA: u32 = 0x44;
const CR0: u32 = 0x20;
const IRQ_CTRL: u32 = 0x50;
const ABORT: u64 = 1 << 20;
const UPDATE: u64 = 1 << 31;

/// All registers that a sleep loses, with their offsets: address, data and attributes of each MSI.
const MSIS: [(u32, u64); 9] = [
    (0x68, 0x1234_5678_9000),
    (0x70, 0x11),
    (0x74, 0x01),
    (0xb0, 0x1234_5678_9004),
    (0xb8, 0x22),
    (0xbc, 0x02),
    (0xd0, 0x1234_5678_9008),
    (0xd8, 0x33),
    (0xdc, 0x8000_0003),
];

type Smmu<'a> = Running<&'a FakeRegisters, &'a CountingWait>;

fn config() -> BringupConfig {
    BringupConfig::new(&Capabilities::decode(ID))
}

fn size(log2: u8) -> QueueSize {
    QueueSize::from_log2(log2).unwrap()
}

fn rest<'a>(
    tables: TablesSet<&'a FakeRegisters, &'a CountingWait>,
    sink: &RecordingSink,
    interrupts: Interrupts,
) -> Result<Smmu<'a>, BringupError> {
    tables
        .enable_commands(CMDQ, size(6))?
        .invalidate_all(sink, SMMU)?
        .enable_events(EVENTQ, size(5))?
        .enable_interrupts(interrupts)?
        .enable_translation()
}

fn start<'a>(
    registers: &'a FakeRegisters,
    wait: &'a CountingWait,
    sink: &RecordingSink,
) -> Smmu<'a> {
    let tables = Bringup::begin(registers, wait, config()).unwrap().set_tables(TABLE).unwrap();
    let running = rest(tables, sink, Interrupts::Polled).unwrap();
    // The integrator has chosen MSIs for events and errors, and other bits of CR2.
    for (offset, value) in MSIS {
        registers.set(offset, value);
    }
    registers.set(IRQ_CTRL, 0b101);
    registers.set(0x2c, 0x2);
    registers.set(GBPA, 0x3000);
    registers.take_writes();
    sink.take();
    running
}

/// Every register has any contents after the power was off; only the ID registers are as before.
fn lose_power(registers: &FakeRegisters) {
    for offset in (0x20..0xe0).step_by(4).chain([0x1_00a8, 0x1_00ac, 0x1_00c8, 0x1_00cc]) {
        registers.set(offset, 0);
    }
    registers.set(GBPA, 0x1000);
}

fn suspend<'a>(
    running: Smmu<'a>,
    sink: &RecordingSink,
) -> Suspended<&'a FakeRegisters, &'a CountingWait> {
    running.quiesce(sink, SMMU).unwrap().suspend().unwrap()
}

const FLUSH: [&[Command]; 2] = [&[Command::CfgiAll], &[Command::TlbiNsnhAll]];

fn flushed() -> Vec<SinkCall> {
    let issued = |commands: &[Command]| SinkCall::Issue(SMMU, commands.to_vec());
    FLUSH.iter().flat_map(|flush| [issued(flush), SinkCall::Wait(SMMU)]).collect()
}

#[test]
fn it_aborts_before_it_is_off_and_flushes_before_callers_may_stop() {
    let (registers, wait, sink) = (smmu(), CountingWait::new(), RecordingSink::new());
    let running = start(&registers, &wait, &sink);
    let quiescent = running.quiesce(&sink, SMMU).unwrap();
    // The command queue and the event queue stay on.
    assert_eq!(registers.take_writes(), [(GBPA, UPDATE | ABORT | 0x3000), (CR0, 0xc)]);
    assert_eq!(sink.take(), flushed());
    let _suspended = quiescent.suspend().unwrap();
    assert_eq!(registers.take_writes(), [(IRQ_CTRL, 0), (CR0, 0)]);
    assert_eq!(sink.take(), []);
}

#[test]
fn it_wakes_over_the_same_tables_with_its_interrupts() {
    let (registers, wait, sink) = (smmu(), CountingWait::new(), RecordingSink::new());
    let suspended = suspend(start(&registers, &wait, &sink), &sink);
    let saved = suspended.saved();
    lose_power(&registers);
    registers.take_writes();
    sink.take();
    let tables = suspended.resume().unwrap();
    let writes = registers.take_writes();
    // Abort comes first: power-on has chosen bypass.
    assert_eq!(writes[0], (GBPA, UPDATE | ABORT | 0x3000));
    let (base, format) = (1 << 62 | 0x4000_0000, 1 << 16 | 8 << 6 | 16);
    let want = [
        (CR0, 0),
        (0x28, 0xd75),
        (0x2c, 6),
        (0x28, 0xd75),
        (0x2c, 2),
        (0x80, base),
        (0x88, format),
    ];
    assert_eq!(writes[1..], want);

    let _running = rest(tables, &sink, Interrupts::Saved(saved.interrupts())).unwrap();
    let writes = registers.take_writes();
    let at = writes.iter().position(|write| *write == (IRQ_CTRL, 0)).unwrap();
    assert_eq!(writes[at + 1..at + 10], MSIS);
    assert_eq!(writes[at + 10..], [(IRQ_CTRL, 0b101), (CR0, 0xd)]);
    assert_eq!(sink.take(), flushed());
    for (offset, value) in MSIS {
        assert_eq!(registers.get(offset), value);
    }
}

#[test]
fn a_sleep_that_is_called_off_only_turns_translation_on() {
    let (registers, wait, sink) = (smmu(), CountingWait::new(), RecordingSink::new());
    let quiescent = start(&registers, &wait, &sink).quiesce(&sink, SMMU).unwrap();
    registers.take_writes();
    let _running = quiescent.enable_translation().unwrap();
    assert_eq!(registers.take_writes(), [(CR0, 0xd)]);
}

#[test]
fn el2_is_flushed_on_both_ways() {
    let (registers, wait, sink) = (smmu(), CountingWait::new(), RecordingSink::new());
    let hyp = IdRegisters { idr0: ID.idr0 | 1 << 9, ..ID };
    let config = BringupConfig::new(&Capabilities::decode(hyp));
    let tables = Bringup::begin(&registers, &wait, config).unwrap().set_tables(TABLE).unwrap();
    let running = rest(tables, &sink, Interrupts::Polled).unwrap();
    let el2 = SinkCall::Issue(SMMU, vec![Command::TlbiEl2All, Command::TlbiNsnhAll]);
    let flushes = || sink.take().into_iter().filter(|call| *call == el2).count();
    assert_eq!(flushes(), 1);
    let suspended = suspend(running, &sink);
    assert_eq!(flushes(), 1);
    let _running = rest(suspended.resume().unwrap(), &sink, Interrupts::Polled).unwrap();
    assert_eq!(flushes(), 1);
}

#[test]
fn a_queue_with_commands_does_not_go_to_sleep() {
    let (registers, wait, sink) = (smmu(), CountingWait::new(), RecordingSink::new());
    let quiescent = start(&registers, &wait, &sink).quiesce(&sink, SMMU).unwrap();
    registers.take_writes();
    // Of 64 entries: the wrap bit differs, so the queue is full.
    registers.set(0x98, 0x40);
    let error = quiescent.suspend().map(drop).unwrap_err();
    let timeout = Duration::from_secs(1);
    assert_eq!(error, BringupError::CommandsLeft { producer: 0x40, consumer: 0, timeout });
    assert!(wait.now() <= timeout + Duration::from_micros(1));
    // It stays as it was: aborting, with its queues.
    assert_eq!(registers.take_writes(), []);
    assert_eq!(registers.get(GBPA), ABORT | 0x3000);
}

#[test]
fn an_old_error_code_beside_an_empty_queue_is_no_command() {
    let (registers, wait, sink) = (smmu(), CountingWait::new(), RecordingSink::new());
    let quiescent = start(&registers, &wait, &sink).quiesce(&sink, SMMU).unwrap();
    registers.set(0x98, 7);
    registers.set(0x9c, 7 | 1 << 24);
    let _suspended = quiescent.suspend().unwrap();
}

#[rstest]
#[case::abort(Unacknowledged::GbpaAbort, "GBPA", &[GBPA])]
#[case::update(Unacknowledged::Gbpa, "GBPA", &[GBPA])]
#[case::translation(Unacknowledged::Cr0(cr0::SMMUEN), "CR0ACK", &[GBPA, CR0])]
fn a_failed_quiesce_stops_at_its_step(
    #[case] lost: Unacknowledged,
    #[case] register: &str,
    #[case] written: &[u32],
) {
    let (good, wait, sink) = (smmu(), CountingWait::new(), RecordingSink::new());
    // The same states over registers that do not answer: the fake is chosen before the start.
    drop(good);
    let registers = smmu_without_ack(lost);
    let tables = Bringup::begin(&registers, &wait, config()).unwrap().set_tables(TABLE).unwrap();
    let quiesced = match lost {
        // It never acknowledges `SMMUEN`, so it cannot be brought up: it is on from before.
        Unacknowledged::Cr0(_) => {
            let error = rest(tables, &sink, Interrupts::Polled).map(drop).unwrap_err();
            assert!(matches!(error, BringupError::NoAck { register: "CR0ACK", .. }));
            return;
        }
        _ => rest(tables, &sink, Interrupts::Polled).unwrap(),
    };
    registers.take_writes();
    let error = quiesced.quiesce(&sink, SMMU).map(drop).unwrap_err();
    let named = match error {
        BringupError::NoAck { register, .. } | BringupError::NotKept { register, .. } => register,
        other => panic!("{other}"),
    };
    assert_eq!(named, register);
    let writes: Vec<_> = registers.take_writes().into_iter().map(|(offset, _)| offset).collect();
    assert_eq!(writes, written);
    // Translation stays on, so nothing bypasses.
    assert_eq!(registers.get(CR0) & 1, 1);
}

#[test]
fn an_unconfirmed_flush_does_not_let_it_sleep() {
    let (registers, wait) = (smmu(), CountingWait::new());
    let running = start(&registers, &wait, &RecordingSink::new());
    let broken = RecordingSink::failing(|call| {
        matches!(call, SinkCall::Wait(_)).then_some(SinkError::timeout(SMMU))
    });
    let error = running.quiesce(&broken, SMMU).map(drop).unwrap_err();
    assert_eq!(error, BringupError::Invalidate(SinkError::timeout(SMMU)));
}

#[rstest]
#[case::abort(Unacknowledged::GbpaAbort, "GBPA")]
#[case::table(Unacknowledged::StrtabBase, "STRTAB_BASE")]
#[case::size(Unacknowledged::StrtabBaseCfg, "STRTAB_BASE_CFG")]
fn what_isolation_rests_on_is_read_back_at_a_wake(
    #[case] lost: Unacknowledged,
    #[case] name: &'static str,
) {
    let (good, wait, sink) = (smmu(), CountingWait::new(), RecordingSink::new());
    let saved = suspend(start(&good, &wait, &sink), &sink).saved();
    let after = smmu_without_ack(lost);
    let error = Bringup::resume(&after, &wait, config(), saved).map(drop).unwrap_err();
    assert!(matches!(error, BringupError::NotKept { register, .. } if register == name), "{error}");
    // The same values serve another attempt.
    let _tables = Bringup::resume(&good, &wait, config(), saved).unwrap();
}

#[rstest]
#[case::abort(ExitPolicy::Abort, 0x3000 | ABORT)]
#[case::bypass(ExitPolicy::Bypass, 0x3000)]
fn an_exit_leaves_everything_off_and_gbpa_last(#[case] policy: ExitPolicy, #[case] gbpa: u64) {
    let (registers, wait, sink) = (smmu(), CountingWait::new(), RecordingSink::new());
    let disabled = start(&registers, &wait, &sink).disable().unwrap();
    assert_eq!(registers.take_writes(), [(GBPA, UPDATE | ABORT | 0x3000), (CR0, 0)]);
    disabled.leave(policy).unwrap();
    assert_eq!(registers.take_writes(), [(IRQ_CTRL, 0), (GBPA, UPDATE | gbpa)]);
    assert_eq!(registers.get(GBPA), gbpa);
}

#[test]
fn an_exit_aborts_by_default_also_where_translation_was_off() {
    let (registers, wait) = (smmu(), CountingWait::new());
    let disabled = Bringup::begin(&registers, &wait, config()).unwrap();
    assert_eq!(registers.get(GBPA), 0);
    disabled.leave(ExitPolicy::default()).unwrap();
    assert_eq!(registers.get(GBPA), ABORT);
}

#[rstest]
#[case::abort(Unacknowledged::GbpaAbort, ExitPolicy::Abort, ABORT, 0)]
#[case::bypass(Unacknowledged::GbpaBypass, ExitPolicy::Bypass, 0, ABORT)]
fn an_exit_reads_its_policy_back(
    #[case] lost: Unacknowledged,
    #[case] policy: ExitPolicy,
    #[case] wrote: u64,
    #[case] read: u64,
) {
    let (registers, wait) = (smmu_without_ack(lost), CountingWait::new());
    let disabled = Bringup::begin(&registers, &wait, config()).unwrap();
    let error = disabled.leave(policy).unwrap_err();
    assert_eq!(error, BringupError::NotKept { register: "GBPA", wrote, read });
}

#[test]
fn an_exit_sees_a_cr0_that_is_on_again() {
    let (registers, wait) = (smmu(), CountingWait::new());
    let disabled = Bringup::begin(&registers, &wait, config()).unwrap();
    registers.set(CR0, 1);
    let error = disabled.leave(ExitPolicy::Bypass).unwrap_err();
    assert_eq!(error, BringupError::NotKept { register: "CR0", wrote: 0, read: 1 });
    // The policy is not applied.
    assert_eq!(registers.get(GBPA), 0);
}
