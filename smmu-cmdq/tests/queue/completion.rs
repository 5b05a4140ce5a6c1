//! The ways in which a `CMD_SYNC` tells that it is complete.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use crate::common::{Machine, illegal, nth, refused};
use rstest::rstest;
use smmu_cmdq::fake::Pace;
use smmu_cmdq::{CommandQueue, CompareExchange, FetchAdd, QueueConfig, Reserve, SyncBy};
use smmu_types::fake::HeapWindow;
use smmu_types::pool::PoolBlock;
use smmu_types::regs;
use smmu_types::seam::{CountingWait, Registers, Wait};
use smmu_types::{
    Capabilities, Command, CommandErrorCode, Completion, IdRegisters, MsiAttributes, PhysAddr,
    Quirks, Shareability, SyncMsi,
};

/// The device, and the MSIs of what it has carried out.
struct WithMsis<'m> {
    machine: &'m Machine,
    delivered: Mutex<usize>,
    loses_them: bool,
    looks: AtomicU32,
}

impl<'m> WithMsis<'m> {
    fn new(machine: &'m Machine) -> Self {
        WithMsis { machine, delivered: Mutex::new(0), loses_them: false, looks: AtomicU32::new(0) }
    }

    fn deliver(&self) {
        let (mut delivered, executed) =
            (self.delivered.lock().unwrap(), self.machine.device.executed());
        for command in &executed[*delivered..] {
            if let Command::Sync { completion: Completion::Msi(msi), .. } = command
                && !self.loses_them
            {
                self.machine.store32(msi.address(), msi.data());
            }
        }
        *delivered = executed.len();
    }
}

impl Registers for WithMsis<'_> {
    fn read32(&self, offset: u32) -> u32 {
        self.looks.fetch_add(u32::from(offset == regs::CMDQ_CONS.offset()), Relaxed);
        let value = self.machine.device.read32(offset);
        self.deliver();
        value
    }

    fn write32(&self, offset: u32, value: u32) {
        self.machine.device.write32(offset, value);
        self.deliver();
    }

    fn read64(&self, offset: u32) -> u64 {
        self.machine.device.read64(offset)
    }

    fn write64(&self, offset: u32, value: u64) {
        self.machine.device.write64(offset, value);
    }
}

const MSI: QueueConfig = QueueConfig {
    sync_by: SyncBy::Msi(MsiAttributes::WRITE_BACK),
    timeout: Duration::from_secs(1),
    port: smmu_cmdq::Port::MAIN,
    takes: smmu_cmdq::Opcodes::ALL,
    sync_every: None,
};

fn queue_by_msi<'r, 'm>(
    machine: &'m Machine,
    registers: &'r WithMsis<'m>,
    log2: u8,
) -> CommandQueue<&'r WithMsis<'m>, PoolBlock<HeapWindow>, CountingWait, CompareExchange, 256> {
    machine.queue_through(registers, CountingWait::new(), log2, MSI)
}

fn by(sync_by: SyncBy) -> QueueConfig {
    QueueConfig { sync_by, ..QueueConfig::default() }
}

/// The place is in a cache line of its own behind the ring.
fn msi(base: PhysAddr, log2: u8, end: u32, attributes: MsiAttributes) -> Command {
    let behind = (16 << log2).max(64);
    let msi = SyncMsi::new(PhysAddr(base.0 + behind), end).unwrap();
    Command::Sync { completion: Completion::Msi(msi), attributes }
}

fn each_msi_tells_its_position<S: Reserve>(log2: u8, attributes: MsiAttributes) {
    let machine = Machine::new(Pace::OnWrite);
    let (registers, wait) = (WithMsis::new(&machine), CountingWait::new());
    let config = by(SyncBy::Msi(attributes));
    let queue = machine.queue_through::<_, _, S, 256>(&registers, wait, log2, config);
    let mut want = Vec::new();
    // Three laps and more, with every length, so that every slot has its turn.
    for n in 0..(8 << log2) {
        let commands: Vec<_> = (0..n % 3).map(nth).collect();
        let _proof = queue.run(&commands).unwrap();
        want.extend(commands);
        want.push(msi(queue.base(), log2, want.len() as u32 + 1, attributes));
    }
    assert_eq!(machine.device.executed(), want);
}

#[rstest]
fn all_msis_go_to_one_place_behind_the_ring(
    #[values(1, 2, 3, 5)] log2: u8,
    #[values(MsiAttributes::WRITE_BACK, MsiAttributes::DEVICE,
             MsiAttributes::new(Shareability::Outer, 5).unwrap())]
    attributes: MsiAttributes,
) {
    each_msi_tells_its_position::<CompareExchange>(log2, attributes);
    each_msi_tells_its_position::<FetchAdd>(log2, attributes);
}

/// `CS` = `SIG_IRQ` in bits 13:12, `MSH` in 23:22, `MSIAttr` in 27:24, `MSIData` in 63:32 and `MSIAddress` from 66 on (4.7.3).
#[test]
fn the_bits_of_such_a_sync_are_the_architectures() {
    let machine = Machine::new(Pace::Dead);
    let queue = machine.queue_with::<CompareExchange, 256>(3, MSI);
    let _ticket = queue.issue(&[nth(0)]).unwrap();
    let raw = [2 << 32 | 0x0fc0_1046, queue.base().0 + 128];
    let sync = Command::decode(smmu_types::RawCommand(raw));
    machine.device.set_pace(Pace::PerRead(8));
    let ticket = queue.issue(&[]).unwrap();
    let _proof = queue.wait(ticket).unwrap();
    assert_eq!(machine.device.executed()[1], sync);
}

#[test]
fn a_waiter_for_an_msi_reads_no_register() {
    let machine = Machine::new(Pace::OnWrite);
    let registers = WithMsis::new(&machine);
    let queue = queue_by_msi(&machine, &registers, 5);
    let tickets: Vec<_> = (0..10).map(|n| queue.issue(&[nth(n)]).unwrap()).collect();
    for ticket in tickets {
        let _proof = queue.wait(ticket).unwrap();
    }
    assert_eq!(registers.looks.load(Relaxed), 0);
}

#[test]
fn nor_does_one_that_waits_for_long_but_now_and_then() {
    let machine = Machine::new(Pace::Dead);
    let registers = WithMsis::new(&machine);
    let config = QueueConfig { timeout: Duration::from_micros(640), ..MSI };
    let wait = CountingWait::new();
    let queue = machine.queue_through::<_, _, CompareExchange, 256>(&registers, wait, 5, config);
    assert!(queue.run(&[nth(0)]).is_err());
    // One of 64, and the last for the report.
    assert!((10..=12).contains(&registers.looks.load(Relaxed)));
}

#[rstest]
fn a_lost_msi_costs_a_while_and_nothing_else(#[values(1, 2, 4)] log2: u8) {
    let machine = Machine::new(Pace::OnWrite);
    let registers = WithMsis { loses_them: true, ..WithMsis::new(&machine) };
    let wait = CountingWait::new();
    let queue = machine.queue_through::<_, _, CompareExchange, 256>(&registers, &wait, log2, MSI);
    for n in 0..100 {
        let before = wait.now();
        let _proof = queue.run(&[nth(n)]).unwrap();
        assert!(wait.now() - before <= Duration::from_micros(64), "looks of a waiter");
    }
}

/// `CMDQ_CONS` may pass a `CMD_SYNC` before its MSI is visible, up to when the next is complete.
#[test]
fn a_late_msi_spoils_no_command_and_proves_none_that_came_after() {
    let machine = Machine::new(Pace::PerRead(64));
    let registers = WithMsis { loses_them: true, ..WithMsis::new(&machine) };
    let (wait, config) =
        (CountingWait::new(), QueueConfig { timeout: Duration::from_micros(200), ..MSI });
    let queue = machine.queue_through::<_, _, CompareExchange, 256>(&registers, wait, 1, config);
    for n in 0..100 {
        let _proof = queue.run(&[nth(2 * n)]).unwrap();
        let Some(&Command::Sync { completion: Completion::Msi(msi), .. }) =
            machine.device.executed().last()
        else {
            panic!("no CMD_SYNC by MSI")
        };
        // The ring is used again before the MSI is visible.
        machine.device.set_pace(Pace::Dead);
        let ticket = queue.issue(&[nth(2 * n + 1)]).unwrap();
        machine.store32(msi.address(), msi.data());
        assert!(queue.wait(ticket).is_err(), "proven, and nobody has carried it out");
        machine.device.set_pace(Pace::PerRead(64));
        let _room = queue.run(&[]).unwrap();
    }
    let flushes = machine.device.executed().into_iter().filter(|command| !is_sync(command));
    assert!(flushes.eq((0..200).map(nth)));
}

fn is_sync(command: &Command) -> bool {
    matches!(command, Command::Sync { .. })
}

/// It becomes a `CMD_SYNC` without an MSI, for which nobody waits in vain.
#[rstest]
fn a_sync_that_is_refused_itself_fails_its_waiter_alone(#[values(1, 2, 4)] log2: u8) {
    let machine = Machine::new(Pace::OnWrite);
    let registers = WithMsis::new(&machine);
    let queue = queue_by_msi(&machine, &registers, log2);
    let _proof = queue.run(&[nth(0)]).unwrap();
    machine.device.fail_at(3, &[CommandErrorCode::ILL]);
    let sync = msi(queue.base(), log2, 4, MsiAttributes::WRITE_BACK);
    assert_eq!(queue.run(&[nth(1)]), Err(refused(sync, CommandErrorCode::ILL)));
    let _proof = queue.run(&[nth(2)]).unwrap();
    let bad = refused(illegal(3), CommandErrorCode::ILL);
    assert_eq!(queue.run(&[illegal(3)]), Err(bad));
    assert_eq!(machine.device.executed()[3], Command::SYNC);
}

#[test]
fn an_atc_timeout_leaves_the_msi_to_the_second_attempt() {
    let machine = Machine::new(Pace::OnWrite);
    let registers = WithMsis::new(&machine);
    let queue = queue_by_msi(&machine, &registers, 4);
    machine.device.fail_at(1, &[CommandErrorCode::ATC_INV_SYNC]);
    let sync = msi(queue.base(), 4, 2, MsiAttributes::WRITE_BACK);
    let error = refused(sync, CommandErrorCode::ATC_INV_SYNC);
    assert_eq!(queue.run(&[crate::common::atc()]), Err(error));
    assert_eq!(machine.device.executed()[1], sync);
}

/// Which of its two ways to pass time the queue has used.
#[derive(Default)]
struct Ways {
    clock: CountingWait,
    relaxed: AtomicU32,
    events: AtomicU32,
}

impl Wait for Ways {
    fn now(&self) -> Duration {
        self.clock.now()
    }

    fn relax(&self, round: u32) {
        self.relaxed.fetch_add(1, Relaxed);
        self.clock.relax(round);
    }

    fn event(&self, round: u32) {
        self.events.fetch_add(1, Relaxed);
        self.clock.relax(round);
    }
}

#[rstest]
#[case::polling(SyncBy::Polling, 0x0fc0_0046, false)]
#[case::event(SyncBy::Event, 0x0fc0_2046, true)]
fn an_event_is_waited_for_where_one_comes(
    #[case] sync_by: SyncBy,
    #[case] low: u64,
    #[case] has_events: bool,
) {
    let machine = Machine::new(Pace::PerRead(1));
    let ways = Ways::default();
    let queue =
        machine.queue_through::<_, _, CompareExchange, 256>(&machine.device, &ways, 2, by(sync_by));
    let ticket = queue.issue(&[nth(0), nth(1), nth(2)]).unwrap();
    let _proof = queue.wait(ticket).unwrap();
    let counts = (ways.events.load(Relaxed) > 0, ways.relaxed.load(Relaxed) > 0);
    assert_eq!(counts, (has_events, !has_events));
    // No CMD_SYNC tells of room.
    ways.relaxed.store(0, Relaxed);
    let _ticket = queue.issue(&[nth(3), nth(4), nth(5)]).unwrap();
    let _ticket = queue.issue(&[nth(6), nth(7), nth(8)]).unwrap();
    assert!(ways.relaxed.load(Relaxed) > 0);
    let sync = Command::decode(smmu_types::RawCommand([low, 0]));
    assert_eq!(machine.device.executed()[3], sync);
}

/// `IDR0`: COHACC is bit 4, MSI bit 13, SEV bit 14. `IIDR`: an MMU-600 r0p0, an MMU-700 r0p1.
#[rstest]
#[case::nothing(0, 0, SyncBy::Polling, None)]
#[case::msi_and_coherent(1 << 13 | 1 << 4, 0, SyncBy::Msi(MsiAttributes::WRITE_BACK), None)]
#[case::msi_but_not_coherent(1 << 13, 0, SyncBy::Polling, None)]
#[case::event(1 << 14, 0, SyncBy::Event, None)]
#[case::event_before_an_msi_that_is_not_coherent(1 << 14 | 1 << 13, 0, SyncBy::Event, None)]
#[case::mmu600_without_sev(1 << 14, 0x483 << 20 | 0x43b, SyncBy::Polling, None)]
#[case::mmu700_with_forced_sync(1 << 14, 0x487 << 20 | 1 << 12 | 0x43b, SyncBy::Event, Some(63))]
fn a_queue_suits_what_the_id_registers_say(
    #[case] idr0: u32,
    #[case] iidr: u32,
    #[case] sync_by: SyncBy,
    #[case] sync_every: Option<u32>,
) {
    let caps = Capabilities::decode(IdRegisters { idr0, iidr, ..IdRegisters::default() });
    let config = QueueConfig::suited_to(&caps, Quirks::of(caps.implementation));
    assert_eq!((config.sync_by, config.sync_every.map(u32::from)), (sync_by, sync_every));
}
