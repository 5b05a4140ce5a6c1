//! The QEMU machine driver against a real QEMU.
//!
//! With `SMMU_NO_QEMU=1` the tests that need one are ignored; without it, a missing QEMU is a
//! failure.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what fails in a helper here fails its test"
)]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Trial};
use rustix::process::{Pid, Signal};
use serde_json::Value;
use smmu_qemu::{
    BinaryProblem, ConfigError, DeviceConfig, DeviceKind, DmaOutcome, ImplementedStages,
    MachineConfig, Missing, Origin, QemuBinary, QemuError, QemuMachine, QemuSmmuConfig,
    QtestCommand, SMMU_SPACING, Search, SmmuIrq, TESTDEV_PATTERN,
};

const IDR0: u64 = 0x00;
const CR0: u64 = 0x20;
const CR0ACK: u64 = 0x24;
const CR2: u64 = 0x2c;
const GBPA: u64 = 0x44;
const IRQ_CTRL: u64 = 0x50;
const STRTAB_BASE: u64 = 0x80;
const STRTAB_BASE_CFG: u64 = 0x88;
const CMDQ_BASE: u64 = 0x90;
const CMDQ_PROD: u64 = 0x98;
const EVENTQ_BASE: u64 = 0xa0;

/// What a word of zeros reads after `iommu-testdev` wrote to it.
const PATTERN: u64 = TESTDEV_PATTERN as u64;

/// Marks the processes that one test starts, in their environment.
const MARK: &str = "SMMU_HARNESS_TEST_MARK";

/// The argument that makes this program hold a machine instead of testing.
const HOLD: &str = "hold-a-machine";

macro_rules! trials {
    ($ignored:expr; $($name:ident)*) => {
        [$(Trial::test(stringify!($name), || {
            $name();
            Ok(())
        })
        .with_ignored_flag($ignored)),*]
    };
}

fn main() {
    if std::env::args().any(|argument| argument == HOLD) {
        return hold_a_machine();
    }
    // What cannot run is counted as ignored, never as passed.
    let no_qemu = std::env::var_os("SMMU_NO_QEMU").is_some_and(|value| value == "1");
    let real = trials![no_qemu;
        one_smmu_of_each_stage
        three_smmus_keep_their_order
        eight_smmus_and_two_devices
        stream_ids_at_the_edges
        devices_are_behind_their_smmu
        edu_moves_a_whole_buffer
        devices_do_only_what_they_can
        interrupts_have_names
        reset_leaves_a_working_machine
        the_monitor_answers_and_refuses
        threads_share_a_machine
        long_batches_keep_their_order
        ram_is_ours_alone
        ram_outlives_the_machine
        nothing_is_left_after_drop
        nothing_is_left_after_a_panic
        a_dead_qemu_is_an_error_at_once_and_for_ever
        a_silent_qemu_is_an_error_in_time
        nothing_is_left_after_a_killed_parent
        nothing_is_left_after_a_parent_killed_early
        this_qemu_has_all_features
    ];
    let plain = trials![false;
        bad_binaries_are_named
        an_old_qemu_is_refused_with_all_it_lacks
        the_order_of_places
        impostors_end_in_typed_errors
        impossible_machines_do_not_start
    ];
    let trials = real.into_iter().chain(plain).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

fn qemu() -> QemuBinary {
    match smmu_qemu::find(None, smmu_qemu::guess_target_dir().as_deref()) {
        Ok(qemu) => qemu,
        Err(error) => panic!("{error}; SMMU_NO_QEMU=1 leaves out what needs it"),
    }
}

fn testdev(smmu: usize, stream_id: u32) -> DeviceConfig {
    DeviceConfig { smmu, stream_id, kind: DeviceKind::TestDev }
}

fn edu(smmu: usize, stream_id: u32) -> DeviceConfig {
    DeviceConfig { smmu, stream_id, kind: DeviceKind::Edu }
}

fn machine(
    qemu: &QemuBinary,
    stages: &[ImplementedStages],
    devices: &[DeviceConfig],
) -> QemuMachine {
    let config = MachineConfig {
        smmus: stages.iter().map(|&stage| QemuSmmuConfig { stage }).collect(),
        devices: devices.to_vec(),
        ..MachineConfig::default()
    };
    QemuMachine::start(qemu, &config).unwrap()
}

fn load(machine: &QemuMachine, address: u64) -> u64 {
    machine.ram().word(address).unwrap().load(Ordering::Acquire)
}

fn store(machine: &QemuMachine, address: u64, value: u64) {
    let word = machine.ram().word(address).unwrap();
    word.store(value, Ordering::Release);
}

/// True while the process runs; one that ended and was not reaped does not.
fn runs(pid: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return false;
    };
    let state = stat.rsplit_once(") ").map(|(_, rest)| rest.chars().next());
    state != Some(Some('Z'))
}

fn ends_soon(pid: u32) -> bool {
    let deadline = Instant::now() + Duration::from_secs(5);
    while runs(pid) {
        if Instant::now() > deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(5));
    }
    true
}

fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid.cast_signed()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

fn one_smmu_of_each_stage() {
    let qemu = qemu();
    for (stage, bits) in
        [(ImplementedStages::One, 2), (ImplementedStages::Two, 1), (ImplementedStages::Nested, 3)]
    {
        let machine = machine(&qemu, &[stage], &[testdev(0, 8)]);
        let idr0 = machine.qtest().readl(machine.smmu_base(0) + IDR0).unwrap();
        assert_eq!(idr0 & 3, bits, "{stage:?}");
        assert_eq!(machine.version(), qemu.version());
        machine.check().unwrap();
    }
}

fn three_smmus_keep_their_order() {
    let qemu = qemu();
    let machine = machine(
        &qemu,
        &[ImplementedStages::Nested, ImplementedStages::One, ImplementedStages::Two],
        &[testdev(0, 8), testdev(1, 0x900), testdev(2, 0xd00)],
    );
    assert_eq!(machine.smmus(), 3);
    assert_eq!(machine.smmu_base(1) - machine.smmu_base(0), SMMU_SPACING);
    for (smmu, bits) in [3, 2, 1].into_iter().enumerate() {
        let idr0 = machine.qtest().readl(machine.smmu_base(smmu) + IDR0);
        assert_eq!(idr0.unwrap() & 3, bits, "SMMU {smmu}");
    }
}

/// An SMMU without devices takes a bus as well.
fn eight_smmus_and_two_devices() {
    let qemu = qemu();
    let devices = [testdev(0, 0x08), testdev(7, 0x500)];
    let machine = machine(&qemu, &[ImplementedStages::Nested; 8], &devices);
    let target = machine.ram().base();
    for device in 0..2 {
        store(&machine, target, 0);
        machine.dma_write(device, target).unwrap();
        assert_eq!(load(&machine, target), PATTERN);
    }
    let last = machine.smmu_base(7) + IDR0;
    assert_eq!(machine.qtest().readl(last).unwrap() & 3, 3);
}

/// Every corner of the StreamIDs that the plan allows is a function that QEMU has.
fn stream_ids_at_the_edges() {
    let qemu = qemu();
    let devices = [
        edu(0, 0x08),
        testdev(0, 0x0b),
        testdev(0, 0x83),
        edu(0, 0xef),
        edu(1, 0x200),
        testdev(1, 0x207),
        testdev(1, 0x300),
        edu(2, 0xf00),
    ];
    let machine = machine(&qemu, &[ImplementedStages::Nested; 3], &devices);
    // The SMMU passes DMA through while it is off, for every device.
    let target = machine.ram().base() + 0x1000;
    for (index, device) in devices.iter().enumerate() {
        store(&machine, target, 0);
        if device.kind == DeviceKind::TestDev {
            let outcome = machine.dma_write(index, target).unwrap();
            assert_eq!(outcome, DmaOutcome::Written);
            assert_eq!(load(&machine, target), PATTERN);
        } else {
            store(&machine, target + 8, 0xabcd);
            machine.edu_copy_in(index, target + 8, 4).unwrap();
            machine.edu_copy_out(index, target, 4).unwrap();
            assert_eq!(load(&machine, target), 0xabcd);
        }
    }
}

/// Which SMMU a device is really behind shows when that one alone aborts all DMA.
fn devices_are_behind_their_smmu() {
    let qemu = qemu();
    let devices = [testdev(0, 0x10), testdev(1, 0x400), testdev(2, 0x800)];
    let machine = machine(&qemu, &[ImplementedStages::Nested; 3], &devices);
    let target = machine.ram().base() + 0x2000;
    for aborting in 0..3 {
        let gbpa = machine.smmu_base(aborting) + GBPA;
        let before = machine.qtest().readl(gbpa).unwrap();
        let abort = before | 1 << 20 | 1 << 31;
        machine.qtest().writel(gbpa, abort).unwrap();
        for device in 0..3 {
            store(&machine, target, 0);
            let outcome = machine.dma_write(device, target).unwrap();
            let reached = load(&machine, target) != 0;
            assert_eq!(reached, device != aborting);
            let expected = match reached {
                true => DmaOutcome::Written,
                false => DmaOutcome::Refused,
            };
            assert_eq!(outcome, expected);
        }
        machine.qtest().writel(gbpa, before | 1 << 31).unwrap();
    }
}

fn edu_moves_a_whole_buffer() {
    let qemu = qemu();
    let machine = machine(&qemu, &[ImplementedStages::Nested], &[edu(0, 0x18)]);
    let from = machine.ram().base() + 0x1_0000;
    let to = machine.ram().base() + 0x2_0000;
    for offset in (0..4096).step_by(8) {
        store(&machine, from + offset, 0x0101 * offset + 1);
    }
    machine.edu_copy_in(0, from, 4096).unwrap();
    machine.edu_copy_out(0, to, 4096).unwrap();
    for offset in (0..4096).step_by(8) {
        assert_eq!(load(&machine, to + offset), 0x0101 * offset + 1);
    }
    for length in [0, 2, 6, 4100, u32::MAX] {
        let error = machine.edu_copy_in(0, from, length).unwrap_err();
        assert!(matches!(error, QemuError::BadLength { .. }), "{error}");
    }
    machine.check().unwrap();
}

fn devices_do_only_what_they_can() {
    let qemu = qemu();
    let devices = [edu(0, 0x08), testdev(0, 0x10)];
    let machine = machine(&qemu, &[ImplementedStages::Nested], &devices);
    let address = machine.ram().base();
    let error = machine.dma_write(0, address).unwrap_err();
    assert!(matches!(error, QemuError::WrongKind { device: 0, .. }), "{error}");
    let error = machine.edu_copy_out(1, address, 4).unwrap_err();
    assert!(matches!(error, QemuError::WrongKind { device: 1, .. }), "{error}");
    let error = machine.dma_write(2, address).unwrap_err();
    let none = matches!(error, QemuError::NoSuchDevice { device: 2, count: 2 });
    assert!(none, "{error}");
}

fn interrupts_have_names() {
    let qemu = qemu();
    let devices = [testdev(0, 8), testdev(1, 0x900)];
    let machine = machine(&qemu, &[ImplementedStages::Nested; 2], &devices);
    for (smmu, device) in [(0, 0), (1, 1)] {
        let base = machine.smmu_base(smmu);
        let commands = machine.ram().base() + 0x10_0000 * (smmu as u64 + 1);
        let (events, table) = (commands + 0x1000, commands + 0x2000);
        let write = |register, value| machine.qtest().writel(base + register, value).unwrap();
        let set_up = [
            QtestCommand::Write64(base + CMDQ_BASE, commands | 6),
            QtestCommand::Write64(base + EVENTQ_BASE, events | 5),
            // One entry only, so that each device's StreamID is beyond it.
            QtestCommand::Write64(base + STRTAB_BASE, table),
            QtestCommand::Write32(base + STRTAB_BASE_CFG, 0),
            // Record such events.
            QtestCommand::Write32(base + CR2, 2),
            QtestCommand::Write32(base + IRQ_CTRL, 5),
            QtestCommand::Write32(base + CR0, 0xd),
        ];
        machine.qtest().run(&set_up).unwrap();
        let ack = machine.qtest().readl(base + CR0ACK).unwrap();
        assert_eq!(ack & 0xd, 0xd);
        assert_eq!(machine.take_interrupts(), []);

        // CMD_SYNC that asks for an interrupt.
        store(&machine, commands, 0x46 | 1 << 12);
        write(CMDQ_PROD, 1);
        assert_eq!(machine.take_interrupts(), [(smmu, SmmuIrq::CmdSync)]);

        let outcome = machine.dma_write(device, commands).unwrap();
        assert_eq!(outcome, DmaOutcome::Refused);
        assert_eq!(machine.take_interrupts(), [(smmu, SmmuIrq::EventQueue)]);
        let event = load(&machine, events);
        assert_eq!(event & 0xff, 2, "C_BAD_STREAMID");
        assert_eq!(event >> 32, u64::from(devices[device].stream_id));

        // No such command.
        store(&machine, commands + 16, 0xff);
        write(CMDQ_PROD, 2);
        assert_eq!(machine.take_interrupts(), [(smmu, SmmuIrq::Gerror)]);
    }
}

fn reset_leaves_a_working_machine() {
    let qemu = qemu();
    let devices = [testdev(0, 8), testdev(1, 0x900), edu(1, 0xa00)];
    let machine = machine(&qemu, &[ImplementedStages::Nested; 2], &devices);
    let target = machine.ram().base() + 0x3000;
    let cr0 = machine.smmu_base(1) + CR0;
    let mut total = Duration::ZERO;
    for _ in 0..10 {
        machine.qtest().writel(cr0, 8).unwrap();
        store(&machine, target + 8, 77);
        let begin = Instant::now();
        machine.reset().unwrap();
        total += begin.elapsed();
        assert_eq!(machine.qtest().readl(cr0).unwrap(), 0);
        assert_eq!(load(&machine, target + 8), 77);
        for device in 0..2 {
            store(&machine, target, 0);
            machine.dma_write(device, target).unwrap();
            assert_eq!(load(&machine, target), PATTERN);
        }
        machine.edu_copy_in(2, target, 4).unwrap();
    }
    println!("reset: {:?}", total / 10);
}

fn the_monitor_answers_and_refuses() {
    let qemu = qemu();
    let machine = machine(&qemu, &[ImplementedStages::Nested], &[]);
    let version = machine.qmp("query-version", Value::Null).unwrap();
    let major = version["qemu"]["major"].as_u64().unwrap();
    assert!(machine.version().starts_with(&format!("{major}.")));
    let error = machine.qmp("no-such-command", Value::Null).unwrap_err();
    assert!(matches!(error, QemuError::QmpRefused { .. }), "{error}");
    machine.qmp("query-status", Value::Null).unwrap();
    let error = machine.qtest().irq_intercept_in("/nowhere").unwrap_err();
    assert!(matches!(error, QemuError::QtestRefused { .. }), "{error}");
    machine.qtest().readl(machine.smmu_base(0)).unwrap();
}

fn threads_share_a_machine() {
    let qemu = qemu();
    let devices = [testdev(0, 0x08), testdev(0, 0x10), edu(0, 0x18), edu(0, 0x20)];
    // Started in a thread that ends at once: the machine must not end with it.
    let machine = thread::spawn(move || machine(&qemu, &[ImplementedStages::Nested], &devices));
    let machine = Arc::new(machine.join().unwrap());
    thread::sleep(Duration::from_millis(50));
    let worker = |index: usize| {
        let machine = Arc::clone(&machine);
        thread::spawn(move || {
            let target = machine.ram().base() + 0x1_0000 * (index as u64 + 1);
            for round in 1..100 {
                if index < 2 {
                    store(&machine, target, 0);
                    machine.dma_write(index, target).unwrap();
                    assert_eq!(load(&machine, target), PATTERN);
                } else {
                    store(&machine, target, round);
                    machine.edu_copy_in(index, target, 4).unwrap();
                    machine.edu_copy_out(index, target + 8, 4).unwrap();
                    assert_eq!(load(&machine, target + 8), round);
                }
            }
        })
    };
    let workers: Vec<_> = (0..4).map(worker).collect();
    for worker in workers {
        worker.join().unwrap();
    }
    machine.check().unwrap();
}

fn long_batches_keep_their_order() {
    let qemu = qemu();
    let machine = machine(&qemu, &[ImplementedStages::Nested], &[]);
    let base = machine.ram().base();
    let writes: Vec<_> = (0..5000).map(|i| QtestCommand::Write64(base + 8 * i, i)).collect();
    machine.qtest().run(&writes).unwrap();
    let reads: Vec<_> = (0..5000).map(|i| QtestCommand::Read64(base + 8 * i)).collect();
    let begin = Instant::now();
    let values = machine.qtest().run(&reads).unwrap();
    println!("5000 reads in batches: {:?}", begin.elapsed());
    assert!(values.into_iter().eq(0..5000));
    assert_eq!(load(&machine, base + 8 * 4999), 4999);
    let begin = Instant::now();
    for _ in 0..5000 {
        machine.qtest().readl(machine.smmu_base(0)).unwrap();
    }
    println!("5000 reads one by one: {:?}", begin.elapsed());
}

fn ram_is_ours_alone() {
    let qemu = qemu();
    let machine = machine(&qemu, &[ImplementedStages::Nested], &[]);
    let is = |value| {
        let mut words = machine.ram().words().iter();
        words.all(|word| word.load(Ordering::Relaxed) == value)
    };
    assert!(is(0));
    for word in machine.ram().words() {
        word.store(0x1122_3344_5566_7788, Ordering::Relaxed);
    }
    machine.reset().unwrap();
    assert!(is(0x1122_3344_5566_7788));
}

fn ram_outlives_the_machine() {
    let qemu = qemu();
    let machine = machine(&qemu, &[ImplementedStages::Nested], &[]);
    let ram = machine.ram().clone();
    drop(machine);
    let last = ram.words().last().unwrap();
    last.store(5, Ordering::Relaxed);
    assert_eq!(last.load(Ordering::Relaxed), 5);
}

fn nothing_is_left_after_drop() {
    let qemu = qemu();
    let machine = machine(&qemu, &[ImplementedStages::Nested], &[]);
    let pid = machine.pid();
    assert!(runs(pid));
    drop(machine);
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
}

fn nothing_is_left_after_a_panic() {
    let qemu = qemu();
    let (send, receive) = std::sync::mpsc::channel();
    let thread = thread::spawn(move || {
        let machine = machine(&qemu, &[ImplementedStages::Nested], &[]);
        send.send(machine.pid()).unwrap();
        panic!("on purpose");
    });
    assert!(thread.join().is_err());
    assert!(!runs(receive.recv().unwrap()));
}

fn a_dead_qemu_is_an_error_at_once_and_for_ever() {
    let qemu = qemu();
    let machine = machine(&qemu, &[ImplementedStages::Nested], &[testdev(0, 8)]);
    signal(machine.pid(), Signal::KILL);
    let begin = Instant::now();
    let address = machine.smmu_base(0);
    let first = machine.qtest().readl(address).unwrap_err();
    assert!(matches!(first, QemuError::Exited { .. }), "{first}");
    assert!(first.to_string().contains("signal: 9"), "{first}");
    let second = machine.dma_write(0, 0).unwrap_err();
    assert_eq!(second.to_string(), first.to_string());
    assert!(matches!(machine.check(), Err(QemuError::Exited { .. })));
    assert!(machine.reset().is_err());
    assert!(begin.elapsed() < Duration::from_secs(5));
}

fn a_silent_qemu_is_an_error_in_time() {
    let qemu = qemu();
    let config =
        MachineConfig { reply_timeout: Duration::from_millis(300), ..MachineConfig::default() };
    let machine = QemuMachine::start(&qemu, &config).unwrap();
    let pid = machine.pid();
    signal(pid, Signal::STOP);
    let begin = Instant::now();
    let address = machine.smmu_base(0);
    let first = machine.qtest().readl(address).unwrap_err();
    assert!(matches!(first, QemuError::Timeout { .. }), "{first}");
    assert!(begin.elapsed() < Duration::from_secs(5));
    // A late answer must not be taken for that of a later question.
    signal(pid, Signal::CONT);
    let second = machine.qtest().readl(address).unwrap_err();
    assert_eq!(second.to_string(), first.to_string());
    signal(pid, Signal::STOP);
    drop(machine);
    assert!(!runs(pid));
}

/// The parent of a QEMU, for the tests that kill one: a process of its own.
fn hold_a_machine() {
    let machine = machine(&qemu(), &[ImplementedStages::Nested], &[]);
    println!("\nqemu pid {}", machine.pid());
    std::io::stdout().flush().unwrap();
    thread::sleep(Duration::from_secs(60));
}

fn helper(mark: &str) -> std::process::Child {
    Command::new(std::env::current_exe().unwrap())
        .arg(HOLD)
        .env(MARK, mark)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn nothing_is_left_after_a_killed_parent() {
    let _ = qemu();
    let mut parent = helper("held");
    let output = BufReader::new(parent.stdout.take().unwrap());
    let pid = output
        .lines()
        .find_map(|line| line.unwrap().strip_prefix("qemu pid ")?.parse().ok())
        .unwrap();
    assert!(runs(pid));
    let begin = Instant::now();
    parent.kill().unwrap();
    parent.wait().unwrap();
    assert!(ends_soon(pid), "QEMU {pid} outlives its parent");
    println!("gone after {:?}", begin.elapsed());
}

/// The parent is killed at some moment between its start and its machine's.
fn nothing_is_left_after_a_parent_killed_early() {
    let _ = qemu();
    let mark = format!("early-{}", std::process::id());
    for step in 0..30 {
        let mut parent = helper(&mark);
        thread::sleep(Duration::from_millis(4 * step));
        parent.kill().unwrap();
        parent.wait().unwrap();
    }
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let left = marked(&mark);
        if left.is_empty() {
            break;
        }
        if Instant::now() > deadline {
            left.iter().for_each(|pid| signal(*pid, Signal::KILL));
            panic!("left behind: {left:?}");
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// The running processes whose environment bears the mark.
fn marked(mark: &str) -> Vec<u32> {
    let entry = format!("{MARK}={mark}");
    let bears = |pid: &u32| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let mut entries = environment.split(|byte| *byte == 0);
        entries.any(|found| found == entry.as_bytes())
    };
    let processes = std::fs::read_dir("/proc").unwrap();
    let pids = processes.filter_map(|process| process.unwrap().file_name().to_str()?.parse().ok());
    pids.filter(|pid| bears(pid) && runs(*pid)).collect()
}

/// A folder for fake programs, gone at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("smmu-harness-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Written by a process of its own: were the file open for writing here, a child
    /// that another thread forks meanwhile would keep it so, and it could not be run.
    fn script(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        let written = Command::new("sh")
            .args(["-c", r#"printf '%s\n' "$2" > "$1" && chmod 755 "$1""#, "sh"])
            .arg(&path)
            .arg(text)
            .status();
        assert!(written.unwrap().success());
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn explicit(path: impl AsRef<Path>) -> Search {
    Search {
        explicit: Some(path.as_ref().to_owned()),
        search_path: std::env::var_os("PATH"),
        ..Search::default()
    }
}

fn problem(search: &Search) -> (Origin, BinaryProblem) {
    match search.find().unwrap_err() {
        QemuError::BadBinary { origin, problem, .. } => (origin, problem),
        other => panic!("{other}"),
    }
}

fn bad_binaries_are_named() {
    let folder = Folder::new("bad");
    let absent = folder.0.join("absent");
    let (origin, what) = problem(&explicit(&absent));
    assert_eq!(origin, Origin::Explicit);
    assert!(matches!(what, BinaryProblem::Absent));

    let (_, what) = problem(&explicit(&folder.0));
    assert!(matches!(what, BinaryProblem::NotAFile));

    let plain = folder.0.join("plain");
    std::fs::write(&plain, "no program").unwrap();
    let (_, what) = problem(&explicit(&plain));
    assert!(matches!(what, BinaryProblem::NotExecutable), "{what}");

    // Executable, but of no format that the system knows.
    let garbage = folder.script("garbage", "\u{1}\u{2}\u{3}");
    let (_, what) = problem(&explicit(&garbage));
    assert!(matches!(what, BinaryProblem::CannotRun(_)), "{what}");

    let quiet = folder.script("quiet", "#!/bin/sh\nexit 0");
    let (_, what) = problem(&explicit(&quiet));
    let is_empty = matches!(&what, BinaryProblem::NotQemu { said } if said.is_empty());
    assert!(is_empty, "{what}");

    let (_, what) = problem(&explicit("true"));
    assert!(matches!(what, BinaryProblem::NotQemu { .. }), "{what}");

    // What the environment names is not passed over either.
    let search = Search {
        environment: Some(absent),
        search_path: std::env::var_os("PATH"),
        ..Search::default()
    };
    let (origin, what) = problem(&search);
    assert_eq!(origin, Origin::Environment);
    assert!(matches!(what, BinaryProblem::Absent));
    let text = search.find().unwrap_err().to_string();
    assert!(text.contains("SMMU_QEMU"), "{text}");
    assert!(text.contains("cargo xtask qemu"), "{text}");
}

fn an_old_qemu_is_refused_with_all_it_lacks() {
    let folder = Folder::new("old");
    let old = folder.script(
        "old",
        r#"#!/bin/sh
if [ "$1" = --version ]; then
    echo 'QEMU emulator version 7.2.22 (somewhere)'
    exit
fi
echo 'qemu: -accel qtest: invalid accelerator qtest' >&2
echo '{"QMP": {}}'
echo '{"id": "iommu-testdev", "error": {"class": "DeviceNotFound", "desc": "none"}}'"#,
    );
    match explicit(&old).find().unwrap_err() {
        QemuError::Unfit { path, version, missing } => {
            assert_eq!(path, old);
            assert_eq!(version, "7.2.22");
            let expected = [
                Missing::Version { needed: 11 },
                Missing::Accelerator("qtest"),
                Missing::Device("iommu-testdev"),
            ];
            assert_eq!(missing, expected);
        }
        other => panic!("{other}"),
    }
}

fn the_order_of_places() {
    let folder = Folder::new("order");
    let says = |version: &str| format!("#!/bin/sh\necho QEMU emulator version {version}");
    std::fs::create_dir_all(folder.0.join("target/qemu")).unwrap();
    std::fs::create_dir_all(folder.0.join("bin")).unwrap();
    let script = |name, version| folder.script(name, &says(version));
    script("target/qemu/qemu-system-aarch64", "12.0.0");
    script("bin/qemu-system-aarch64", "11.0.0");
    let mut search = Search {
        explicit: Some(script("named", "14.0.0")),
        environment: Some(script("set", "13.0.0")),
        target_dir: Some(folder.0.join("target")),
        search_path: Some(folder.0.join("bin").into()),
    };
    let found = |search: &Search| search.find().unwrap().version().to_owned();
    assert_eq!(found(&search), "14.0.0");
    search.explicit = None;
    assert_eq!(found(&search), "13.0.0");
    // Set to nothing is as good as not set.
    search.environment = Some(PathBuf::new());
    assert_eq!(found(&search), "12.0.0");
    search.target_dir = Some(folder.0.clone());
    assert_eq!(found(&search), "11.0.0");
    search.search_path = None;
    let error = search.find().unwrap_err();
    assert!(matches!(error, QemuError::NotFound { .. }), "{error}");
    // A bare name is looked for on the search path.
    search.explicit = Some("qemu-system-aarch64".into());
    search.search_path = Some(folder.0.join("bin").into());
    assert_eq!(found(&search), "11.0.0");
}

/// Programs that say they are QEMU and then are not.
fn impostors_end_in_typed_errors() {
    let folder = Folder::new("impostor");
    let start = |name: &str, rest: &str| {
        let version = "[ \"$1\" = --version ] && echo QEMU emulator version 11.1.3 && exit";
        let text = format!("#!/bin/sh\n{version}\n{rest}");
        let qemu = explicit(folder.script(name, &text)).find().unwrap();
        QemuMachine::start(&qemu, &MachineConfig::default()).unwrap_err()
    };
    let error = start("ends", "echo some complaint >&2; exit 3");
    let text = error.to_string();
    assert!(matches!(error, QemuError::Exited { .. }), "{text}");
    assert!(text.contains("some complaint"), "{text}");
    assert!(text.contains("exit status: 3"), "{text}");

    let error = start("babbles", "echo hello; sleep 20");
    assert!(matches!(error, QemuError::Protocol { .. }), "{error}");
    let error = start("other-json", "echo '{\"x\": 1}'; sleep 20");
    assert!(matches!(error, QemuError::Protocol { .. }), "{error}");
    let error = start("hangs-up", "exec 0</dev/null 1>/dev/null; exit 0");
    assert!(matches!(error, QemuError::Exited { .. }), "{error}");

    // It fails as a QEMU without a device does: the error names the device.
    let lacking = r#"case "$*" in
*none*-qmp*stdio) echo '{"id": "edu", "error": {}}'; exit;;
*) echo "qemu: -device edu: 'edu' is not a valid device model name" >&2; exit 1;;
esac"#;
    match start("lacks", lacking) {
        QemuError::Unfit { missing, .. } => assert_eq!(missing, [Missing::Device("edu")]),
        other => panic!("{other}"),
    }
}

fn this_qemu_has_all_features() {
    let qemu = qemu();
    let begin = Instant::now();
    qemu.check_features().unwrap();
    println!("features: {:?}", begin.elapsed());
    let begin = Instant::now();
    smmu_qemu::find(Some(qemu.path()), None).unwrap();
    println!("find: {:?}", begin.elapsed());
}

fn impossible_machines_do_not_start() {
    // Not even QEMU is needed to say so.
    let folder = Folder::new("impossible");
    let script = folder.script("fake", "#!/bin/sh\necho QEMU emulator version 11.1.3");
    let qemu = explicit(script).find().unwrap();
    let config = MachineConfig { devices: vec![testdev(0, 0x100)], ..MachineConfig::default() };
    let error = QemuMachine::start(&qemu, &config).unwrap_err();
    let text = error.to_string();
    let QemuError::Config(ConfigError::StreamId { stream_id, .. }) = error else {
        panic!("{text}");
    };
    assert_eq!(stream_id, 0x100);
    assert!(text.contains("possible are 0x8 to 0xff"), "{text}");
}
