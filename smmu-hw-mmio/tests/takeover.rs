//! A takeover of a running SMMU: the exact register writes, what is refused, and a failure at each step.
#![cfg(feature = "fake")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rstest::rstest;
use smmu_hw_mmio::fake::{AbsentDevice, EventWriter, ID, PriWriter};
use smmu_hw_mmio::{
    BringupConfig, BringupError, Coherency, CommandsTaken, El2, EventQueue, EventQueueError,
    Interrupts, Occupied, OldCommands, OldQueue, PriQueue, Running, Takeover, TakeoverError,
};
use smmu_types::fake::{FakeRegisters, HeapWindow, PoolBlock, heap_pool};
use smmu_types::pool::Pool;
use smmu_types::queue::QueueSize;
use smmu_types::seam::{CountingWait, DmaBlock, DmaLayout, DmaMemory, Ticks, Wait};
use smmu_types::{
    Capabilities, CommandErrorCode, EventKind, EventRecord, IdRegisters, PhysAddr, PriRecord,
    StreamId,
};

const CR0: u32 = 0x20;
const CR0ACK: u32 = 0x24;
const CR1: u32 = 0x28;
const CR2: u32 = 0x2c;
const IRQ_CTRL: u32 = 0x50;
const IRQ_CTRLACK: u32 = 0x54;
const GERROR: u32 = 0x60;
const GERRORN: u32 = 0x64;
const STRTAB_BASE: u32 = 0x80;
const STRTAB_BASE_CFG: u32 = 0x88;
const CMDQ_BASE: u32 = 0x90;
const CMDQ_PROD: u32 = 0x98;
const CMDQ_CONS: u32 = 0x9c;
const EVENTQ_BASE: u32 = 0xa0;
const EVENTQ_PROD: u32 = 0x1_00a8;
const EVENTQ_CONS: u32 = 0x1_00ac;
const PRIQ_BASE: u32 = 0xc0;
const PRIQ_PROD: u32 = 0x1_00c8;
const PRIQ_CONS: u32 = 0x1_00cc;
const MSIS: [u32; 3] = [0x68, 0xb0, 0xd0];

const SMMUEN: u64 = 1;
const PRIQEN: u64 = 2;
const EVENTQEN: u64 = 4;
const CMDQEN: u64 = 8;
const ATSCHK: u64 = 16;

const RA: u64 = 1 << 62;
const NEW_CMDQ: PhysAddr = PhysAddr(0x5000_0000);
const NEW_EVENTQ: PhysAddr = PhysAddr(0x5001_0000);
const NEW_PRIQ: PhysAddr = PhysAddr(0x5002_0000);

/// The ID registers of the fake, with PRI and ATS.
const PRI_ID: IdRegisters =
    IdRegisters { idr0: ID.idr0 | 1 << 16 | 1 << 10, idr1: ID.idr1 | 5 << 11, ..ID };

fn size(log2: u8) -> QueueSize {
    QueueSize::from_log2(log2).unwrap()
}

/// An SMMU as an old owner left it: all queues on, empty, and in the middle of their laps.
struct Left {
    registers: FakeRegisters,
    /// Bits of `CR0` that the SMMU stops to acknowledge.
    stuck: Arc<AtomicU32>,
    pool: Pool<HeapWindow>,
    events: PoolBlock<HeapWindow>,
    pages: PoolBlock<HeapWindow>,
}

fn left() -> Left {
    left_with(|_, _, _| ())
}

fn left_with(hook: impl Fn(&FakeRegisters, u32, u64) + Send + Sync + 'static) -> Left {
    let stuck = Arc::new(AtomicU32::new(0));
    let held = Arc::clone(&stuck);
    let registers = FakeRegisters::with_hook(move |registers, offset, value| {
        let held = u64::from(held.load(Ordering::Relaxed));
        match offset {
            CR0 => registers.set(CR0ACK, registers.get(CR0ACK) & held | value & !held),
            IRQ_CTRL if held & 1 << 31 == 0 => registers.set(IRQ_CTRLACK, value),
            _ => {}
        }
        hook(registers, offset, value);
    });
    let pool = heap_pool(0x1_0000);
    let block = |bytes| pool.allocate(DmaLayout::naturally_aligned(bytes).unwrap()).unwrap();
    // 8 events of 32 bytes, 8 requests of 16 bytes.
    let (events, pages) = (block(256), block(128));
    for (offset, value) in [
        (CR0, SMMUEN | PRIQEN | EVENTQEN | CMDQEN | ATSCHK),
        (CR0ACK, SMMUEN | PRIQEN | EVENTQEN | CMDQEN | ATSCHK),
        (CR1, 0xd75),
        (CR2, 6),
        (IRQ_CTRL, 7),
        (IRQ_CTRLACK, 7),
        (GERROR, 0x104),
        (GERRORN, 0x104),
        (STRTAB_BASE, RA | 0x4800_0000),
        (STRTAB_BASE_CFG, 8),
        (CMDQ_BASE, RA | 0x4801_0000 | 6),
        (CMDQ_PROD, 0x45),
        (CMDQ_CONS, 0x45),
        (EVENTQ_BASE, RA | events.address().0 | 3),
        (PRIQ_BASE, RA | pages.address().0 | 3),
        (MSIS[0], 0x1_2345_6000),
        (MSIS[1], 0x1_2345_6004),
        (MSIS[2], 0x1_2345_6008),
    ] {
        registers.set(offset, value);
    }
    Left { registers, stuck, pool, events, pages }
}

fn caps() -> Capabilities {
    Capabilities::decode(PRI_ID)
}

fn config() -> BringupConfig {
    BringupConfig { timeout: Duration::from_millis(1), ..BringupConfig::new(&caps()) }
}

type Registers<'a> = &'a FakeRegisters;

fn begin<'a, W: Wait>(
    registers: Registers<'a>,
    wait: W,
) -> Result<Occupied<Registers<'a>, W>, TakeoverError> {
    Takeover::begin(registers, wait, config(), &caps())
}

fn taken(registers: Registers<'_>) -> CommandsTaken<Registers<'_>, CountingWait> {
    let stopped = begin(registers, CountingWait::new()).unwrap().stop_commands().unwrap();
    stopped.enable_commands(NEW_CMDQ, size(4)).unwrap()
}

/// All of it, with new queues for the old ones.
fn replace_all(
    registers: Registers<'_>,
) -> Result<Running<Registers<'_>, CountingWait>, TakeoverError> {
    begin(registers, CountingWait::new())?
        .stop_commands()?
        .enable_commands(NEW_CMDQ, size(4))?
        .replace_events(NEW_EVENTQ, size(3), || Ok(()))?
        .replace_page_requests(NEW_PRIQ, size(2), || Ok(()))?
        .enable_interrupts(Interrupts::Wired)
}

const ON: u64 = SMMUEN | ATSCHK;

/// A clock that lets the SMMU carry out one command each time the driver relaxes.
struct Working<'a>(CountingWait, &'a FakeRegisters);

impl Wait for Working<'_> {
    fn now(&self) -> Duration {
        self.0.now()
    }
    fn relax(&self, round: u32) {
        let (prod, cons) = (self.1.get(CMDQ_PROD), self.1.get(CMDQ_CONS));
        if prod != cons && self.1.get(CR0ACK) & CMDQEN != 0 {
            self.1.set(CMDQ_CONS, (cons + 1) & 0x7f);
        }
        self.0.relax(round);
    }
    fn ticks(&self) -> Ticks {
        self.0.ticks()
    }
}

#[test]
fn each_queue_is_replaced_while_translation_stays_on() {
    let left = left();
    let _running = replace_all(&left.registers).unwrap();
    let want = [
        (IRQ_CTRL, 0),
        (CR0, ON | PRIQEN | EVENTQEN),
        (CMDQ_BASE, RA | NEW_CMDQ.0 | 4),
        (CMDQ_PROD, 0),
        (CMDQ_CONS, 0),
        (CR0, ON | PRIQEN | EVENTQEN | CMDQEN),
        (CR0, ON | PRIQEN | CMDQEN),
        (EVENTQ_BASE, RA | NEW_EVENTQ.0 | 3),
        (EVENTQ_PROD, 0),
        (EVENTQ_CONS, 0),
        (CR0, ON | PRIQEN | EVENTQEN | CMDQEN),
        (CR0, ON | EVENTQEN | CMDQEN),
        (PRIQ_BASE, RA | NEW_PRIQ.0 | 2),
        (PRIQ_PROD, 0),
        (PRIQ_CONS, 0),
        (CR0, ON | PRIQEN | EVENTQEN | CMDQEN),
        (IRQ_CTRL, 0),
        (MSIS[0], 0),
        (MSIS[0] + 8, 0),
        (MSIS[0] + 12, 0),
        (MSIS[1], 0),
        (MSIS[1] + 8, 0),
        (MSIS[1] + 12, 0),
        (MSIS[2], 0),
        (MSIS[2] + 8, 0),
        (MSIS[2] + 12, 0),
        (IRQ_CTRL, 7),
    ];
    assert_eq!(left.registers.take_writes(), want);
}

#[test]
fn kept_queues_are_read_on_from_where_they_are() {
    let left = left();
    let mut events = EventWriter::new(
        left.pool.window(),
        PhysAddr(left.registers.get(EVENTQ_BASE) & !RA & !31),
        size(3),
    );
    let mut pages = PriWriter::new(
        left.pool.window(),
        PhysAddr(left.registers.get(PRIQ_BASE) & !RA & !31),
        size(3),
    );
    let record = |n| EventRecord::new(EventKind::F_TRANSLATION, StreamId(n));
    // The old owner has read 6 of 9 events, so the queue has begun its second lap.
    for n in 0..6 {
        assert!(events.write(&left.registers, record(n)));
    }
    left.registers.set(EVENTQ_CONS, 6);
    for n in 6..9 {
        assert!(events.write(&left.registers, record(n)));
    }
    assert!(pages.write(&left.registers, PriRecord([7, 0])));

    let occupied = begin(&left.registers, CountingWait::new()).unwrap();
    let (old_events, old_pages) = (occupied.events().unwrap(), occupied.page_requests().unwrap());
    assert_eq!((old_events.size, old_pages.size), (size(3), size(3)));
    let mut kept = EventQueue::of_running(&left.registers, left.events, old_events.size).unwrap();
    let mut requests = PriQueue::of_running(&left.registers, left.pages, old_pages.size).unwrap();
    assert_eq!((kept.base(), requests.base()), (old_events.address, old_pages.address));
    let _running = occupied
        .stop_commands()
        .unwrap()
        .enable_commands(NEW_CMDQ, size(4))
        .unwrap()
        .keep_events(&kept)
        .unwrap()
        .keep_page_requests(&requests)
        .unwrap()
        .enable_interrupts(Interrupts::Polled)
        .unwrap();
    // No write of CR0 turns a kept queue off.
    let enables: Vec<u64> =
        left.registers.take_writes().into_iter().filter(|w| w.0 == CR0).map(|w| w.1).collect();
    assert_eq!(enables, [ON | PRIQEN | EVENTQEN, ON | PRIQEN | EVENTQEN | CMDQEN]);

    assert!(events.write(&left.registers, record(9)));
    let mut seen = Vec::new();
    kept.drain(|event| seen.push(event)).unwrap();
    assert_eq!(seen, (6..10).map(record).collect::<Vec<_>>());
    assert_eq!(left.registers.get(EVENTQ_CONS), 10);
    let mut asked = Vec::new();
    requests.drain(|request| asked.push(request.0[0])).unwrap();
    assert_eq!(asked, [7]);
}

#[test]
fn a_replaced_event_queue_is_read_before_and_after_it_is_off() {
    // The event that comes while CR0 turns the queue off is still recorded in the old queue.
    let late = Arc::new(std::sync::Mutex::new(None::<EventWriter>));
    let writer = Arc::clone(&late);
    let record = |n| EventRecord::new(EventKind::F_TRANSLATION, StreamId(n));
    let left = left_with(move |registers, offset, value| {
        if (offset, value & (EVENTQEN | CMDQEN)) == (CR0, CMDQEN)
            && let Some(mut events) = writer.lock().unwrap().take()
        {
            assert!(events.write(registers, record(2)));
        }
    });
    let registers = &left.registers;
    let base = PhysAddr(registers.get(EVENTQ_BASE) & !RA & !31);
    let mut events = EventWriter::new(left.pool.window(), base, size(3));
    assert!(events.write(registers, record(1)));
    *late.lock().unwrap() = Some(events);

    let mut old = EventQueue::of_running(registers, left.events, size(3)).unwrap();
    let mut seen = Vec::new();
    let read_old = || old.drain(|event| seen.push(event)).map(drop);
    let _taken = taken(registers).replace_events(NEW_EVENTQ, size(3), read_old).unwrap();
    assert_eq!(seen, [record(1), record(2)]);
}

#[test]
fn an_unreadable_old_event_queue_stays_on() {
    let left = left();
    let taken = taken(&left.registers);
    left.registers.take_writes();
    let lost = EventQueueError::Lost { producer: 9, consumer: 0 };
    let error = taken.replace_events(NEW_EVENTQ, size(3), || Err(lost)).unwrap_err();
    assert_eq!(error, TakeoverError::EventQueue(lost));
    assert_eq!(left.registers.take_writes(), []);
}

#[test]
fn an_smmu_without_other_queues_gets_them() {
    let left = left();
    for offset in [CR0, CR0ACK] {
        left.registers.set(offset, ON);
    }
    // Pointers of a queue that is off mean nothing.
    left.registers.set(CMDQ_CONS, 0xffff_ffff);
    let occupied = begin(&left.registers, CountingWait::new()).unwrap();
    assert_eq!((occupied.events(), occupied.page_requests()), (None, None));
    let mut reads = 0;
    let taken = occupied.stop_commands().unwrap().enable_commands(NEW_CMDQ, size(4)).unwrap();
    let taken = taken
        .replace_events(NEW_EVENTQ, size(3), || {
            reads += 1;
            Ok(())
        })
        .unwrap();
    let taken = taken.stop_page_requests(|| Ok(())).unwrap();
    let _running = taken.enable_interrupts(Interrupts::Wired).unwrap();
    assert_eq!(reads, 0);
    assert_eq!(left.registers.get(CR0), ON | EVENTQEN | CMDQEN);
    // No interrupt of a PRI queue that is off.
    assert_eq!(left.registers.get(IRQ_CTRL), 5);
}

#[test]
fn the_old_commands_are_carried_out_before_their_queue_is_off() {
    let left = left();
    left.registers.set(CMDQ_CONS, 0x3e);
    let wait = Working(CountingWait::new(), &left.registers);
    let stopped = begin(&left.registers, wait).unwrap().stop_commands().unwrap();
    assert_eq!(stopped.old_commands(), OldCommands::default());
    assert_eq!(left.registers.get(CMDQ_CONS), 0x45);
    assert_eq!(left.registers.take_writes(), [(IRQ_CTRL, 0), (CR0, ON | PRIQEN | EVENTQEN)]);
}

#[test]
fn a_command_queue_that_does_not_move_is_left_on() {
    let left = left();
    left.registers.set(CMDQ_CONS, 0x3e);
    let wait = CountingWait::new();
    let error = begin(&left.registers, &wait).unwrap().stop_commands().unwrap_err();
    let timeout = config().timeout;
    assert_eq!(error, TakeoverError::CommandsLeft { producer: 0x45, consumer: 0x3e, timeout });
    assert!(wait.now() <= timeout + Duration::from_micros(1));
    assert_eq!(left.registers.take_writes(), [(IRQ_CTRL, 0)]);
}

#[test]
fn a_refused_command_ends_the_wait_and_is_acknowledged_with_the_queue() {
    let left = left();
    // 7 commands wait, the first is illegal (CERROR_ILL = 1). An old MSI was aborted too.
    left.registers.set(CMDQ_CONS, 1 << 24 | 0x3e);
    left.registers.set(GERROR, 0x104 ^ 0x21);
    let wait = CountingWait::new();
    let stopped = begin(&left.registers, &wait).unwrap().stop_commands().unwrap();
    assert!(wait.now() < config().timeout);
    let error = Some(CommandErrorCode(1));
    assert_eq!(stopped.old_commands(), OldCommands { cut_off: 7, error });
    left.registers.take_writes();
    let _taken = stopped.enable_commands(NEW_CMDQ, size(4)).unwrap();
    let writes = left.registers.take_writes();
    // The acknowledgement comes before the new queue, and touches the active bits alone.
    assert_eq!(writes[0], (GERRORN, 0x104 ^ 0x21));
    assert_eq!(writes[1], (CMDQ_BASE, RA | NEW_CMDQ.0 | 4));
}

#[rstest]
#[case::not_translating(&[(CR0, 0xc), (CR0ACK, 0xc)], TakeoverError::Off { cr0: 0xc })]
#[case::unchecked_ats(&[(CR0, 0xd), (CR0ACK, 0xd)], TakeoverError::UncheckedAts { cr0: 0xd })]
#[case::device_permission_table(&[(CR0, 0x41f), (CR0ACK, 0x41f)], TakeoverError::DevicePermissionTable { cr0: 0x41f })]
#[case::tables_past_the_caches(&[(CR1, 0x0b5)], TakeoverError::Attributes { cr1: 0x0b5 })]
#[case::queues_past_the_caches(&[(CR1, 0xd60)], TakeoverError::Attributes { cr1: 0xd60 })]
#[case::unshared(&[(CR1, 0x145)], TakeoverError::Attributes { cr1: 0x145 })]
#[case::producer_too_far(&[(CMDQ_CONS, 0x4)], TakeoverError::CommandPointers { producer: 0x45, consumer: 0x4 })]
#[case::update_under_way(
    &[(CR0ACK, 0x17)],
    TakeoverError::Register(BringupError::NoAck {
        register: "CR0ACK", mask: u32::MAX, wanted: 0x1f, got: 0x17, timeout: Duration::from_millis(1),
    })
)]
fn refuses_and_writes_nothing(#[case] changes: &[(u32, u64)], #[case] error: TakeoverError) {
    let left = left();
    for (offset, value) in changes {
        left.registers.set(*offset, *value);
    }
    assert_eq!(begin(&left.registers, CountingWait::new()).unwrap_err(), error);
    assert_eq!(left.registers.take_writes(), []);
}

/// An MSI of the old owner was aborted, or its command queue stopped.
#[rstest]
fn acknowledges_errors_that_do_not_harm(#[values(0, 4, 5, 6, 7)] bit: u32) {
    let left = left();
    left.registers.set(GERROR, 0x104 ^ 1 << bit);
    let stopped = begin(&left.registers, CountingWait::new()).unwrap().stop_commands().unwrap();
    left.registers.take_writes();
    let _taken = stopped.enable_commands(NEW_CMDQ, size(4)).unwrap();
    assert_eq!(left.registers.take_writes()[0], (GERRORN, 0x104 ^ 1 << bit));
}

/// Events or requests were lost, the SMMU is in service failure mode, or a bit has no name.
#[rstest]
fn refuses_errors_that_harm(
    #[values(2, 3, 8, 9, 10, 11, 31)] bit: u32,
    #[values(0, 0x21)] beside: u64,
) {
    let left = left();
    left.registers.set(GERROR, 0x104 ^ (1 << bit) ^ beside);
    let Err(TakeoverError::GlobalErrors { errors }) = begin(&left.registers, CountingWait::new())
    else {
        panic!("not refused");
    };
    assert_eq!(u64::from(errors.active()), 1 << bit | beside);
    assert_eq!(left.registers.take_writes(), []);
}

/// The same errors while the old queue drains, and before the new one is on.
#[rstest]
fn an_error_on_the_way_ends_the_takeover(#[values(2, 8)] bit: u32) {
    let left = left();
    let occupied = begin(&left.registers, CountingWait::new()).unwrap();
    left.registers.set(GERROR, 0x104 ^ 1 << bit);
    assert!(matches!(occupied.stop_commands(), Err(TakeoverError::GlobalErrors { .. })));
    left.registers.set(GERROR, 0x104);
    let stopped = begin(&left.registers, CountingWait::new()).unwrap().stop_commands().unwrap();
    left.registers.set(GERROR, 0x104 ^ 1 << bit);
    left.registers.take_writes();
    let error = stopped.enable_commands(NEW_CMDQ, size(4)).unwrap_err();
    assert!(matches!(error, TakeoverError::GlobalErrors { .. }));
    assert_eq!(left.registers.take_writes(), []);
}

#[test]
fn an_absent_device_is_named() {
    let begun = Takeover::begin(AbsentDevice, CountingWait::new(), config(), &caps());
    assert_eq!(begun.unwrap_err(), TakeoverError::NoDevice);
}

#[rstest]
#[case::enables(CR0, "CR0", 0x1d)]
#[case::table(STRTAB_BASE, "STRTAB_BASE", 0x4900_0000)]
#[case::its_size(STRTAB_BASE_CFG, "STRTAB_BASE_CFG", 9)]
fn an_owner_that_still_writes_is_found(
    #[case] offset: u32,
    #[case] register: &'static str,
    #[case] is: u64,
) {
    let left = left();
    let was = left.registers.get(offset);
    let occupied = begin(&left.registers, CountingWait::new()).unwrap();
    left.registers.set(offset, is);
    let error = occupied.stop_commands().unwrap_err();
    assert_eq!(error, TakeoverError::Changed { register, was, is });
    assert_eq!(left.registers.take_writes(), []);
}

#[test]
fn the_queue_that_is_kept_must_be_the_one_that_runs() {
    let left = left();
    let other = left.pool.allocate(DmaLayout::naturally_aligned(256).unwrap()).unwrap();
    let other = EventQueue::of_running(&left.registers, other, size(3)).unwrap();
    let error = taken(&left.registers).keep_events(&other).unwrap_err();
    let (register, address) = ("EVENTQ_BASE", other.base());
    assert_eq!(error, TakeoverError::AnotherQueue { register, address, log2: 3 });
    let short = EventQueue::of_running(&left.registers, left.events, size(2)).unwrap();
    assert!(taken(&left.registers).keep_events(&short).is_err());
}

#[rstest]
#[case::too_far(0x9, 0)]
#[case::reserved_bits(0, 0x0010_0000)]
#[case::absent(0xffff_ffff, 0xffff_ffff)]
fn impossible_pointers_of_the_old_event_queue_are_refused(
    #[case] producer: u64,
    #[case] consumer: u64,
) {
    let left = left();
    left.registers.set(EVENTQ_PROD, producer);
    left.registers.set(EVENTQ_CONS, consumer);
    let queue = EventQueue::of_running(&left.registers, left.events, size(3));
    assert!(matches!(queue.unwrap_err(), EventQueueError::Lost { .. }));
}

/// The SMMU uses less than a base register says, where `IDR1` has less.
#[test]
fn an_old_queue_has_the_size_that_the_smmu_uses() {
    let left = left();
    left.registers.set(EVENTQ_BASE, RA | 0x4000_1fe0 | 31);
    let mut small = caps();
    small.eventq_log2 = 2;
    let occupied = Takeover::begin(&left.registers, CountingWait::new(), config(), &small).unwrap();
    let want = OldQueue { address: PhysAddr(0x4000_1f80), size: size(2) };
    assert_eq!(occupied.events(), Some(want));
}

#[rstest]
#[case(0, El2::Present)]
#[case(1, El2::PresentWithAsids)]
fn the_el2_regime_is_the_one_that_runs(#[case] e2h: u64, #[case] want: El2) {
    let left = left();
    left.registers.set(CR2, 6 | e2h);
    let config = BringupConfig { el2: El2::Present, ..config() };
    let occupied = Takeover::begin(&left.registers, CountingWait::new(), config, &caps()).unwrap();
    assert_eq!(occupied.el2(), want);
}

#[test]
fn an_smmu_that_is_not_coherent_may_have_any_attributes() {
    let left = left();
    left.registers.set(CR1, 0x820);
    let config = BringupConfig { coherency: Coherency::NonCoherent, ..config() };
    let begun = Takeover::begin(&left.registers, CountingWait::new(), config, &caps());
    assert!(begun.is_ok());
}

/// An acknowledgement that never comes, at each write of `CR0` and at `IRQ_CTRL`. The SMMU goes on
/// translating, and a second takeover succeeds when it answers again.
#[rstest]
fn a_takeover_that_fails_anywhere_can_begin_again(#[values(8, 4, 2, 1 << 31)] bits: u32) {
    let left = left();
    left.stuck.store(bits, Ordering::Relaxed);
    let error = replace_all(&left.registers).unwrap_err();
    let TakeoverError::Register(BringupError::NoAck { register, .. }) = error else {
        panic!("{error}");
    };
    assert_eq!(register, if bits == 1 << 31 { "IRQ_CTRLACK" } else { "CR0ACK" });
    let all_on = |writes: Vec<(u32, u64)>| {
        writes.iter().filter(|write| write.0 == CR0).all(|write| write.1 & ON == ON)
    };
    assert!(all_on(left.registers.take_writes()));
    left.stuck.store(0, Ordering::Relaxed);
    left.registers.set(CR0ACK, left.registers.get(CR0));
    let _running = replace_all(&left.registers).unwrap();
    assert!(all_on(left.registers.take_writes()));
    assert_eq!(left.registers.get(CR0), ON | PRIQEN | EVENTQEN | CMDQEN);
}

#[test]
fn what_was_taken_over_can_be_turned_off() {
    let left = left_with(|registers, offset, value| {
        if offset == 0x44 {
            registers.set(offset, value & !(1 << 31));
        }
    });
    let running = replace_all(&left.registers).unwrap();
    left.registers.take_writes();
    let _disabled = running.disable().unwrap();
    assert_eq!(left.registers.take_writes(), [(0x44, 1 << 31 | 1 << 20), (CR0, 0)]);
}
