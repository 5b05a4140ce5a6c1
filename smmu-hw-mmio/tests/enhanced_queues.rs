//! A takeover of an SMMU whose old owner uses enhanced command queues (ECMDQ).
#![cfg(feature = "fake")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rstest::rstest;
use smmu_hw_mmio::fake::ID;
use smmu_hw_mmio::{BringupConfig, ControlPages, Occupied, OldCommands, Takeover, TakeoverError};
use smmu_types::fake::FakeRegisters;
use smmu_types::queue::QueueSize;
use smmu_types::seam::{CountingWait, Ticks, Wait};
use smmu_types::{Capabilities, CommandErrorCode, IdRegisters, PhysAddr};

const CR0: u32 = 0x20;
const CR0ACK: u32 = 0x24;
const IRQ_CTRL: u32 = 0x50;
const IRQ_CTRLACK: u32 = 0x54;
const GERROR: u32 = 0x60;
const GERRORN: u32 = 0x64;
const CMDQ_BASE: u32 = 0x90;
const IDR6: u32 = 0x190;
const CMDQP_ERR: u64 = 1 << 9;

/// Two control pages of two queues, at 0x2_0000 and 0x3_0000 (6.2.5: spaced evenly in 64 KiB).
const PAGES: [u32; 2] = [0x2_0000, 0x3_0000];
const QUEUES: [u32; 4] = [0x2_0000, 0x2_8000, 0x3_0000, 0x3_8000];
const LOG2: u64 = 3;

/// `ECMDQ_PROD.EN` and `ECMDQ_CONS.ENACK`; `ERRACK` and `ERR`.
const ON: u64 = 1 << 31;
const ERR: u64 = 1 << 23;

const IDS: IdRegisters = IdRegisters { idr1: ID.idr1 | 1 << 31, idr6: 1 << 24 | 1 << 16, ..ID };

fn caps() -> Capabilities {
    Capabilities::decode(IDS)
}

fn config() -> BringupConfig {
    let control_pages = ControlPages::Reachable;
    let timeout = Duration::from_millis(1);
    BringupConfig { timeout, control_pages, ..BringupConfig::new(&caps()) }
}

/// An SMMU that translates, with its main queue empty and all enhanced queues off. It acknowledges
/// `EN`, unless `deaf` is set, and ignores a write of `ECMDQ_PROD` while a change is under way.
fn left(deaf: &Arc<AtomicBool>) -> FakeRegisters {
    let deaf = Arc::clone(deaf);
    let registers = FakeRegisters::with_hook(move |registers, offset, value| match offset {
        CR0 => registers.set(CR0ACK, value),
        IRQ_CTRL => registers.set(IRQ_CTRLACK, value),
        _ => {
            if let Some(queue) = QUEUES.iter().find(|queue| **queue + 8 == offset)
                && !deaf.load(Ordering::Relaxed)
            {
                let consumer = registers.get(queue + 0xc);
                registers.set(queue + 0xc, consumer & !ON | value & ON);
            }
        }
    });
    for (offset, value) in [
        (CR0, 0xd),
        (CR0ACK, 0xd),
        (0x28, 0xd75),
        (IDR6, u64::from(IDS.idr6)),
        (CMDQ_BASE, 0x4801_0000 | 6),
        (0x4000, u64::from(PAGES[0]) | 3),
        (0x4020, u64::from(PAGES[1]) | 3),
    ] {
        registers.set(offset, value);
    }
    for queue in QUEUES {
        registers.set(queue, 0x4802_0000 | LOG2);
    }
    registers
}

/// A queue with this many commands between its pointers.
fn turn_on(registers: &FakeRegisters, queue: usize, producer: u64, consumer: u64) {
    registers.set(QUEUES[queue] + 8, ON | producer);
    registers.set(QUEUES[queue] + 0xc, ON | consumer);
}

fn begin<W: Wait>(
    registers: &FakeRegisters,
    wait: W,
) -> Result<Occupied<&FakeRegisters, W>, TakeoverError> {
    Takeover::begin(registers, wait, config(), &caps())
}

/// A clock that lets the SMMU carry out a command of each queue whenever the driver relaxes.
struct Working<'a>(CountingWait, &'a FakeRegisters);

impl Wait for Working<'_> {
    fn now(&self) -> Duration {
        self.0.now()
    }
    fn relax(&self, round: u32) {
        for queue in QUEUES {
            let (producer, consumer) = (self.1.get(queue + 8), self.1.get(queue + 0xc));
            if producer & consumer & ON != 0 && (producer ^ consumer) & 0xf != 0 {
                self.1.set(queue + 0xc, consumer & !0xf | (consumer + 1) & 0xf);
            }
        }
        self.0.relax(round);
    }
    fn ticks(&self) -> Ticks {
        self.0.ticks()
    }
}

#[test]
fn queues_that_are_on_are_drained_and_turned_off() {
    let registers = left(&Arc::default());
    turn_on(&registers, 1, 0x9, 0x6);
    turn_on(&registers, 2, 0x2, 0x2);
    let wait = Working(CountingWait::new(), &registers);
    let stopped = begin(&registers, wait).unwrap().stop_commands().unwrap();
    assert_eq!(stopped.old_commands(), OldCommands::default());
    // The interrupts first, then the queues in their order, then the main queue. Of `ECMDQ_PROD`,
    // `EN` alone changes.
    let want = [(IRQ_CTRL, 0), (QUEUES[1] + 8, 0x9), (QUEUES[2] + 8, 0x2), (CR0, 5)];
    assert_eq!(registers.take_writes(), want);
    assert_eq!(registers.get(QUEUES[1] + 0xc), 0x9, "it was drained before");
}

#[test]
fn a_queue_that_has_stopped_at_an_error_is_turned_off() {
    let registers = left(&Arc::default());
    // CERROR_ILL at the second of five commands, and CMDQP_ERR beside.
    turn_on(&registers, 3, 0x5, ERR | 1 << 24 | 0x1);
    registers.set(GERROR, CMDQP_ERR);
    let stopped = begin(&registers, CountingWait::new()).unwrap().stop_commands().unwrap();
    let want = OldCommands { cut_off: 4, error: Some(CommandErrorCode::ILL) };
    assert_eq!(stopped.old_commands(), want);
    // The error stays unacknowledged, so that the queue did not move on.
    assert_eq!(registers.get(QUEUES[3] + 8), 0x5);
    registers.take_writes();
    let _taken =
        stopped.enable_commands(PhysAddr(0x5000_0000), QueueSize::from_log2(4).unwrap()).unwrap();
    assert_eq!(registers.take_writes()[0], (GERRORN, CMDQP_ERR));
}

/// A reset waits for no commands: a queue that does not move, or has impossible pointers, goes off.
#[rstest]
#[case::hangs(ON | 0x5, ON | 0x1, true)]
#[case::impossible(ON | 0x1, ON | 0x5, true)]
#[case::does_not_go_on(ON | 0x5, 0x5, false)]
fn queues_are_cut_off_before_a_reset(
    #[case] producer: u64,
    #[case] consumer: u64,
    #[case] goes_off: bool,
) {
    let registers = left(&Arc::default());
    turn_on(&registers, 0, 1, 1);
    registers.set(QUEUES[2] + 8, producer);
    registers.set(QUEUES[2] + 0xc, consumer);
    let cut = |config| {
        Takeover::cut_off_enhanced_queues(&registers, CountingWait::new(), config, &caps())
    };
    let unknown = BringupConfig::new(&caps());
    assert_eq!(cut(unknown), Err(TakeoverError::ControlPagesUnknown { pages: 2, queues: 2 }));
    let unused = BringupConfig { control_pages: ControlPages::Unused, ..unknown };
    assert_eq!(cut(unused), Ok(()));
    assert_eq!(registers.take_writes(), []);

    let first = (QUEUES[0] + 8, 1);
    match cut(config()) {
        Ok(()) => {
            assert!(goes_off);
            assert_eq!(registers.take_writes(), [first, (QUEUES[2] + 8, producer & !ON)]);
        }
        Err(error) => {
            let stuck = TakeoverError::EnhancedQueue {
                page: 1,
                queue: 0,
                producer: producer as u32,
                consumer: consumer as u32,
                timeout: Duration::from_millis(1),
            };
            assert_eq!((goes_off, error), (false, stuck));
            assert_eq!(registers.take_writes(), [first]);
        }
    }
}

/// The queue does not move, its pointers are impossible, a change of the old owner does not end, or
/// `EN` = 0 is not acknowledged.
#[rstest]
#[case::hangs(ON | 0x5, ON | 0x1, false)]
#[case::impossible(ON | 0x1, ON | 0x5, false)]
#[case::does_not_go_on(ON | 0x5, 0x5, false)]
#[case::does_not_go_off(0x5, ON | 0x5, false)]
#[case::no_acknowledgement(ON | 0x5, ON | 0x5, true)]
fn a_queue_that_does_not_stop_is_named(
    #[case] producer: u64,
    #[case] consumer: u64,
    #[case] deaf: bool,
) {
    let registers = left(&Arc::new(AtomicBool::new(deaf)));
    registers.set(QUEUES[2] + 8, producer);
    registers.set(QUEUES[2] + 0xc, consumer);
    let error = begin(&registers, CountingWait::new()).unwrap().stop_commands().unwrap_err();
    let TakeoverError::EnhancedQueue { page: 1, queue: 0, producer: p, consumer: c, timeout } =
        error
    else {
        panic!("{error}");
    };
    let written = if deaf { producer & !ON } else { producer };
    assert_eq!((u64::from(p), u64::from(c)), (written, consumer));
    assert_eq!(timeout, Duration::from_millis(1));
    let text = error.to_string();
    assert!(text.contains("ECMDQ 0 of control page 1"), "{text}");
    // The main queue is on, as it was.
    assert!(registers.take_writes().iter().all(|(offset, _)| *offset != CR0));
}

#[test]
fn control_pages_that_nothing_is_known_of_are_a_reason_to_refuse() {
    let registers = left(&Arc::default());
    let config = BringupConfig::new(&caps());
    assert_eq!(config.control_pages, ControlPages::Unknown);
    let refused = Takeover::begin(&registers, CountingWait::new(), config, &caps()).unwrap_err();
    assert_eq!(refused, TakeoverError::ControlPagesUnknown { pages: 2, queues: 2 });

    // The caller says that all are off: none is looked at, and none is written.
    turn_on(&registers, 0, 1, 0);
    let config = BringupConfig { control_pages: ControlPages::Unused, ..config };
    let occupied = Takeover::begin(&registers, CountingWait::new(), config, &caps()).unwrap();
    let _stopped = occupied.stop_commands().unwrap();
    assert_eq!(registers.take_writes(), [(IRQ_CTRL, 0), (CR0, 5)]);

    let none = Capabilities::decode(ID);
    assert_eq!(BringupConfig::new(&none).control_pages, ControlPages::Unused);
}

#[rstest]
#[case::beyond_an_offset(0x4020, 1 << 33)]
#[case::too_many_queues(IDR6, 1 << 24 | 9 << 16)]
fn a_control_page_out_of_reach_is_refused(#[case] register: u32, #[case] value: u64) {
    let registers = left(&Arc::default());
    registers.set(register, value);
    let error = begin(&registers, CountingWait::new()).map(drop).unwrap_err();
    assert!(matches!(error, TakeoverError::ControlPage { .. }), "{error}");
    assert_eq!(registers.take_writes(), []);
}

/// An SMMU that is gone reads as all ones: no loop without an end, no overflow.
#[test]
fn all_ones_end() {
    let registers = left(&Arc::new(AtomicBool::new(true)));
    for queue in QUEUES {
        for offset in [0, 8, 0xc] {
            registers.set(queue + offset, 0xffff_ffff);
        }
    }
    let error = begin(&registers, CountingWait::new()).unwrap().stop_commands().map(drop);
    assert!(matches!(error, Err(TakeoverError::EnhancedQueue { page: 0, queue: 0, .. })));
}
