//! Enhanced command queues: `ECMDQ_CONS` reports errors, `ECMDQ_PROD` acknowledges them.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};

use crate::common::{QueueFixture, QueueOn, SMMU, atc, illegal, nth, refused};
use rstest::rstest;
use smmu_cmdq::fake::Pace;
use smmu_cmdq::{Port, QueueConfig};
use smmu_types::CommandErrorCode;
use smmu_types::regs::{self, ecmdq};
use smmu_types::seam::{CountingWait, Registers, SinkError, Stall, StdWait, Wait};

const PROD: u32 = 0x18_0608;
const CONS: u32 = 0x18_060c;
/// `EN` and `ENACK`; `ERR` and `ERRACK` (6.3.108, 6.3.109).
const ON: u32 = 1 << 31;
const ERR: u32 = 1 << 23;
const POINTER: u32 = 0xf_ffff;

/// The main queue of the fixture's device, with the registers of an enhanced queue.
struct EcmdqRegisters<'f> {
    fixture: &'f QueueFixture,
    is_on: AtomicBool,
    /// `ERR` and `ERRACK` before the first error.
    start: u32,
    writers: AtomicU32,
}

impl<'f> EcmdqRegisters<'f> {
    fn new(fixture: &'f QueueFixture) -> Self {
        let (is_on, writers) = (AtomicBool::new(true), AtomicU32::new(0));
        EcmdqRegisters { fixture, is_on, start: 0, writers }
    }

    fn error_bit(&self, register: u32) -> u32 {
        (self.fixture.device.read32(register) & 1) << 23 ^ self.start
    }
}

impl Registers for EcmdqRegisters<'_> {
    fn read32(&self, offset: u32) -> u32 {
        let device = &self.fixture.device;
        match offset {
            PROD => {
                let error = self.error_bit(regs::GERRORN.offset());
                device.read32(regs::CMDQ_PROD.offset()) | ON | error
            }
            CONS => {
                // A caller that sees ERR must see the rest as well, so ERR is read first.
                let error = self.error_bit(regs::GERROR.offset());
                let on = if self.is_on.load(SeqCst) { ON } else { 0 };
                device.read32(regs::CMDQ_CONS.offset()) | on | error
            }
            other => panic!("a read of {other:#x}"),
        }
    }

    fn write32(&self, offset: u32, value: u32) {
        assert_eq!(offset, PROD);
        assert_eq!(value & !(POINTER | ERR), ON);
        assert_eq!(self.writers.fetch_add(1, SeqCst), 0, "two write ECMDQ_PROD at once");
        let device = &self.fixture.device;
        if value & ERR != self.error_bit(regs::GERRORN.offset()) {
            device.write32(regs::GERRORN.offset(), (value & ERR ^ self.start) >> 23);
        }
        // Let other threads run between the two writes that stand for one register.
        std::thread::yield_now();
        device.write32(regs::CMDQ_PROD.offset(), value & POINTER);
        self.writers.fetch_sub(1, SeqCst);
    }

    fn read64(&self, offset: u32) -> u64 {
        panic!("a read of {offset:#x}")
    }

    fn write64(&self, offset: u32, _: u64) {
        panic!("a write of {offset:#x}")
    }
}

type EcmdqQueue<'r, 'f, W = CountingWait> = QueueOn<&'r EcmdqRegisters<'f>, W>;

fn queue<'r, 'f>(registers: &'r EcmdqRegisters<'f>, log2: u8) -> EcmdqQueue<'r, 'f> {
    queue_waiting(registers, CountingWait::new(), log2)
}

fn queue_waiting<'r, 'f, W: Wait>(
    registers: &'r EcmdqRegisters<'f>,
    wait: W,
    log2: u8,
) -> EcmdqQueue<'r, 'f, W> {
    // The fourth queue of a page of 128.
    let port = Port::ecmdq(ecmdq::interface(7 << 16, 0x18_0003, 3).unwrap());
    let port = Port { enable: port.enable | registers.start, ..port };
    let config = QueueConfig { port, ..QueueConfig::default() };
    registers.fixture.queue_on(registers, wait, log2, config)
}

#[rstest]
fn each_caller_learns_its_own_outcome(
    #[values(1, 2, 5)] log2: u8,
    #[values(Pace::OnWrite, Pace::PerRead(1), Pace::PerRead(7))] pace: Pace,
    #[values(0, ERR)] start: u32,
) {
    let fixture = QueueFixture::new(pace);
    let registers = EcmdqRegisters { start, ..EcmdqRegisters::new(&fixture) };
    let queue = queue(&registers, log2);
    for n in 0..50 {
        let _proof = queue.run(&[nth(n), nth(n + 1), nth(n + 2)]).unwrap();
        let error = refused(illegal(n), CommandErrorCode::ILL);
        assert_eq!(queue.run(&[nth(n), illegal(n)]), Err(error));
    }
    assert_eq!(queue.failure_counts().total, 50);
}

#[test]
fn an_abort_is_retried_and_an_atc_timeout_is_reported() {
    let fixture = QueueFixture::new(Pace::PerRead(3));
    let registers = EcmdqRegisters::new(&fixture);
    let queue = queue(&registers, 3);
    fixture.device.fail_at(0, &[CommandErrorCode::ABT, CommandErrorCode::ABT]);
    let _proof = queue.run(&[nth(0)]).unwrap();
    fixture.device.fail_at(3, &[CommandErrorCode::ATC_INV_SYNC]);
    let error = refused(smmu_types::Command::SYNC, CommandErrorCode::ATC_INV_SYNC);
    assert_eq!(queue.run(&[atc()]), Err(error));
    assert_eq!(queue.failure_counts().retried, 2);
    fixture.device.fail_at(4, &[CommandErrorCode::ABT; 3]);
    let stuck = refused(nth(9), CommandErrorCode::ABT);
    assert_eq!(queue.run(&[nth(9)]), Err(stuck));
    assert_eq!(queue.run(&[nth(10)]), Err(stuck));
}

fn many_callers(log2: u8) {
    const THREADS: u64 = 3;
    const CALLS: u64 = 400;
    let fixture = QueueFixture::new(Pace::PerRead(2));
    let registers = EcmdqRegisters::new(&fixture);
    // The device is behind an unfair mutex: with this clock, waiting threads leave it to the
    // others.
    let queue = queue_waiting(&registers, StdWait::new(), log2);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let queue = &queue;
            scope.spawn(move || {
                for call in 0..CALLS {
                    let n = thread * CALLS + call;
                    if call % 5 == 0 {
                        let error = refused(illegal(n), CommandErrorCode::ILL);
                        assert_eq!(queue.run(&[illegal(n), nth(n)]), Err(error));
                    } else {
                        let _proof = queue.run(&[nth(n)]).unwrap();
                    }
                }
            });
        }
    });
    let failed = THREADS * CALLS.div_ceil(5);
    assert_eq!(queue.failure_counts().total, failed);
    let executed = fixture.device.executed();
    // A call is two commands. A failing call is three, of which a CMD_SYNC replaces the illegal
    // one.
    assert_eq!(executed.len() as u64, THREADS * CALLS * 2 + failed);
    for n in 0..THREADS * CALLS {
        assert_eq!(executed.iter().filter(|command| **command == nth(n)).count(), 1, "{n}");
    }
}

#[rstest]
fn errors_are_acknowledged_while_other_callers_advance(#[values(1, 2, 6)] log2: u8) {
    many_callers(log2);
}

#[test]
fn a_disabled_queue_is_lost() {
    let fixture = QueueFixture::new(Pace::PerRead(1));
    let registers = EcmdqRegisters::new(&fixture);
    let queue = queue(&registers, 3);
    let _proof = queue.run(&[nth(0)]).unwrap();
    registers.is_on.store(false, SeqCst);
    let lost = queue.run(&[nth(1)]).unwrap_err();
    assert!(matches!(lost, SinkError::Lost { smmu: SMMU, cons } if cons & ON == 0), "{lost}");
}

#[test]
fn a_stall_holds_pointers_without_flags() {
    let fixture = QueueFixture::new(Pace::Dead);
    let registers = EcmdqRegisters { start: ERR, ..EcmdqRegisters::new(&fixture) };
    let queue = queue(&registers, 3);
    let stall = Stall::new(2, 0, Some(nth(1).encode()));
    let error = SinkError::Timeout { smmu: SMMU, stall: Some(stall) };
    assert_eq!(queue.run(&[nth(1)]), Err(error));
}
