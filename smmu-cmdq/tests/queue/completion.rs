//! How a waiter learns that a `CMD_SYNC` is complete: polling, events, MSIs.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use crate::common::{QueueFixture, QueueOn, atc, illegal, nth, refused};
use rstest::rstest;
use smmu_cmdq::fake::Pace;
use smmu_cmdq::{QueueConfig, SyncBy};
use smmu_types::regs;
use smmu_types::seam::{CountingWait, Registers, Wait};
use smmu_types::{
    Capabilities, Command, CommandErrorCode, Completion, IdRegisters, MsiAttributes, PhysAddr,
    Quirks, Shareability, SyncMsi,
};

/// The device, and an MSI for each `CMD_SYNC` that it carries out.
struct MsiRegisters<'f> {
    fixture: &'f QueueFixture,
    delivered: Mutex<usize>,
    loses_msis: bool,
    looks: AtomicU32,
}

impl<'f> MsiRegisters<'f> {
    fn new(fixture: &'f QueueFixture) -> Self {
        MsiRegisters {
            fixture,
            delivered: Mutex::new(0),
            loses_msis: false,
            looks: AtomicU32::new(0),
        }
    }

    fn deliver(&self) {
        let (mut delivered, executed) =
            (self.delivered.lock().unwrap(), self.fixture.device.executed());
        for command in &executed[*delivered..] {
            if let Command::Sync { completion: Completion::Msi(msi), .. } = command
                && !self.loses_msis
            {
                self.fixture.store32(msi.address(), msi.data());
            }
        }
        *delivered = executed.len();
    }
}

impl Registers for MsiRegisters<'_> {
    fn read32(&self, offset: u32) -> u32 {
        self.looks.fetch_add(u32::from(offset == regs::CMDQ_CONS.offset()), Relaxed);
        let value = self.fixture.device.read32(offset);
        self.deliver();
        value
    }

    fn write32(&self, offset: u32, value: u32) {
        self.fixture.device.write32(offset, value);
        self.deliver();
    }

    fn read64(&self, offset: u32) -> u64 {
        self.fixture.device.read64(offset)
    }

    fn write64(&self, offset: u32, value: u64) {
        self.fixture.device.write64(offset, value);
    }
}

const MSI: QueueConfig = QueueConfig {
    sync_by: SyncBy::Msi(MsiAttributes::WRITE_BACK),
    timeout: Duration::from_secs(1),
    port: smmu_cmdq::Port::MAIN,
    takes: smmu_cmdq::Opcodes::ALL,
    sync_every: None,
};

fn queue_by_msi<'r, 'f>(
    fixture: &'f QueueFixture,
    registers: &'r MsiRegisters<'f>,
    log2: u8,
) -> QueueOn<&'r MsiRegisters<'f>> {
    fixture.queue_on(registers, CountingWait::new(), log2, MSI)
}

fn by(sync_by: SyncBy) -> QueueConfig {
    QueueConfig { sync_by, ..QueueConfig::default() }
}

/// The `CMD_SYNC` that queues should send. Its MSI goes to a cache line of its own behind the ring.
fn msi(base: PhysAddr, log2: u8, end: u32, attributes: MsiAttributes) -> Command {
    let behind = (16 << log2).max(64);
    let msi = SyncMsi::new(PhysAddr(base.0 + behind), end).unwrap();
    Command::Sync { completion: Completion::Msi(msi), attributes }
}

fn each_msi_has_its_position(log2: u8, attributes: MsiAttributes) {
    let fixture = QueueFixture::new(Pace::OnWrite);
    let (registers, wait) = (MsiRegisters::new(&fixture), CountingWait::new());
    let config = by(SyncBy::Msi(attributes));
    let queue = fixture.queue_on(&registers, wait, log2, config);
    let mut want = Vec::new();
    // At least three laps, with every length, so that every slot once holds a CMD_SYNC.
    for n in 0..(8 << log2) {
        let commands: Vec<_> = (0..n % 3).map(nth).collect();
        let _proof = queue.run(&commands).unwrap();
        want.extend(commands);
        want.push(msi(queue.base(), log2, want.len() as u32 + 1, attributes));
    }
    assert_eq!(fixture.device.executed(), want);
}

#[rstest]
fn all_msis_go_to_one_word_behind_the_ring(
    #[values(1, 2, 3, 5)] log2: u8,
    #[values(MsiAttributes::WRITE_BACK, MsiAttributes::DEVICE,
             MsiAttributes::new(Shareability::Outer, 5).unwrap())]
    attributes: MsiAttributes,
) {
    each_msi_has_its_position(log2, attributes);
}

/// `CS` = `SIG_IRQ` in bits 13:12, `MSH` in 23:22, `MSIAttr` in 27:24, `MSIData` in 63:32,
/// `MSIAddress` from bit 66 on (4.7.3).
#[test]
fn a_sync_by_msi_has_the_architectures_bits() {
    let fixture = QueueFixture::new(Pace::Dead);
    let queue = fixture.queue_with(3, MSI);
    let _ticket = queue.issue(&[nth(0)]).unwrap();
    let raw = [2 << 32 | 0x0fc0_1046, queue.base().0 + 128];
    let sync = Command::decode(smmu_types::RawCommand(raw));
    fixture.device.set_pace(Pace::PerRead(8));
    let ticket = queue.issue(&[]).unwrap();
    let _proof = queue.wait(ticket).unwrap();
    assert_eq!(fixture.device.executed()[1], sync);
}

#[test]
fn a_waiter_for_an_msi_reads_no_register() {
    let fixture = QueueFixture::new(Pace::OnWrite);
    let registers = MsiRegisters::new(&fixture);
    let queue = queue_by_msi(&fixture, &registers, 5);
    let tickets: Vec<_> = (0..10).map(|n| queue.issue(&[nth(n)]).unwrap()).collect();
    // Of the ring's 32 slots 20 are taken, so no caller has read `CMDQ_CONS` to know its room.
    for ticket in tickets {
        let _proof = queue.wait(ticket).unwrap();
    }
    assert_eq!(registers.looks.load(Relaxed), 0);
}

#[test]
fn a_long_waiter_for_an_msi_reads_registers_at_one_look_of_64() {
    let fixture = QueueFixture::new(Pace::Dead);
    let registers = MsiRegisters::new(&fixture);
    let config = QueueConfig { timeout: Duration::from_micros(640), ..MSI };
    let wait = CountingWait::new();
    let queue = fixture.queue_on(&registers, wait, 5, config);
    assert!(queue.run(&[nth(0)]).is_err());
    // One look of 64, and the read for the error.
    assert!((10..=12).contains(&registers.looks.load(Relaxed)));
}

#[rstest]
fn a_lost_msi_costs_64_looks(#[values(1, 2, 4)] log2: u8) {
    let fixture = QueueFixture::new(Pace::OnWrite);
    let registers = MsiRegisters { loses_msis: true, ..MsiRegisters::new(&fixture) };
    let wait = CountingWait::new();
    let queue = fixture.queue_on(&registers, &wait, log2, MSI);
    for n in 0..100 {
        let before = wait.now();
        let _proof = queue.run(&[nth(n)]).unwrap();
        assert!(wait.now() - before <= Duration::from_micros(64), "looks of a waiter");
    }
}

/// `CMDQ_CONS` may pass a `CMD_SYNC` before its MSI is visible. The MSI may be late until the next
/// is complete.
#[test]
fn a_late_msi_overwrites_no_command_and_proves_no_later_one() {
    let fixture = QueueFixture::new(Pace::PerRead(64));
    let registers = MsiRegisters { loses_msis: true, ..MsiRegisters::new(&fixture) };
    let (wait, config) =
        (CountingWait::new(), QueueConfig { timeout: Duration::from_micros(200), ..MSI });
    let queue = fixture.queue_on(&registers, wait, 1, config);
    for n in 0..100 {
        let _proof = queue.run(&[nth(2 * n)]).unwrap();
        let Some(&Command::Sync { completion: Completion::Msi(msi), .. }) =
            fixture.device.executed().last()
        else {
            panic!("no CMD_SYNC by MSI")
        };
        // The ring is used again before the MSI is visible.
        fixture.device.set_pace(Pace::Dead);
        let ticket = queue.issue(&[nth(2 * n + 1)]).unwrap();
        fixture.store32(msi.address(), msi.data());
        assert!(queue.wait(ticket).is_err(), "proven before it was carried out");
        fixture.device.set_pace(Pace::PerRead(64));
        let _room = queue.run(&[]).unwrap();
    }
    let flushes = fixture.device.executed().into_iter().filter(|command| !is_sync(command));
    assert!(flushes.eq((0..200).map(nth)));
}

fn is_sync(command: &Command) -> bool {
    matches!(command, Command::Sync { .. })
}

/// A `CMD_SYNC` without an MSI replaces it. Its waiter finds out by `CMDQ_CONS`.
#[rstest]
fn a_refused_sync_fails_its_own_waiter_only(#[values(1, 2, 4)] log2: u8) {
    let fixture = QueueFixture::new(Pace::OnWrite);
    let registers = MsiRegisters::new(&fixture);
    let queue = queue_by_msi(&fixture, &registers, log2);
    let _proof = queue.run(&[nth(0)]).unwrap();
    fixture.device.fail_at(3, &[CommandErrorCode::ILL]);
    let sync = msi(queue.base(), log2, 4, MsiAttributes::WRITE_BACK);
    assert_eq!(queue.run(&[nth(1)]), Err(refused(sync, CommandErrorCode::ILL)));
    let _proof = queue.run(&[nth(2)]).unwrap();
    let bad = refused(illegal(3), CommandErrorCode::ILL);
    assert_eq!(queue.run(&[illegal(3)]), Err(bad));
    assert_eq!(fixture.device.executed()[3], Command::SYNC);
}

#[test]
fn after_an_atc_timeout_the_second_attempt_sends_the_msi() {
    let fixture = QueueFixture::new(Pace::OnWrite);
    let registers = MsiRegisters::new(&fixture);
    let queue = queue_by_msi(&fixture, &registers, 4);
    fixture.device.fail_at(1, &[CommandErrorCode::ATC_INV_SYNC]);
    let sync = msi(queue.base(), 4, 2, MsiAttributes::WRITE_BACK);
    let error = refused(sync, CommandErrorCode::ATC_INV_SYNC);
    assert_eq!(queue.run(&[atc()]), Err(error));
    assert_eq!(fixture.device.executed()[1], sync);
}

/// A clock that counts the calls of `relax` and of `event`.
#[derive(Default)]
struct WaitCallCounter {
    clock: CountingWait,
    relaxed: AtomicU32,
    events: AtomicU32,
}

impl Wait for WaitCallCounter {
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
fn a_waiter_waits_for_events_only_by_event(
    #[case] sync_by: SyncBy,
    #[case] low: u64,
    #[case] has_events: bool,
) {
    let fixture = QueueFixture::new(Pace::PerRead(1));
    let wait = WaitCallCounter::default();
    let queue = fixture.queue_on(&fixture.device, &wait, 2, by(sync_by));
    let ticket = queue.issue(&[nth(0), nth(1), nth(2)]).unwrap();
    let _proof = queue.wait(ticket).unwrap();
    let counts = (wait.events.load(Relaxed) > 0, wait.relaxed.load(Relaxed) > 0);
    assert_eq!(counts, (has_events, !has_events));
    // A wait for room has no event.
    wait.relaxed.store(0, Relaxed);
    let _ticket = queue.issue(&[nth(3), nth(4), nth(5)]).unwrap();
    let _ticket = queue.issue(&[nth(6), nth(7), nth(8)]).unwrap();
    assert!(wait.relaxed.load(Relaxed) > 0);
    let sync = Command::decode(smmu_types::RawCommand([low, 0]));
    assert_eq!(fixture.device.executed()[3], sync);
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
fn suited_to_follows_the_id_registers(
    #[case] idr0: u32,
    #[case] iidr: u32,
    #[case] sync_by: SyncBy,
    #[case] sync_every: Option<u32>,
) {
    let caps = Capabilities::decode(IdRegisters { idr0, iidr, ..IdRegisters::default() });
    let config = QueueConfig::suited_to(&caps, Quirks::of(caps.implementation));
    assert_eq!((config.sync_by, config.sync_every.map(u32::from)), (sync_by, sync_every));
}
