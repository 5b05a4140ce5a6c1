//! One test for each scenario and backend, with one snapshot for all backends. One test for each
//! way to break the driver: a scenario must fail.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};
use smmu_engine::machine::{Backend, BackendError, Machine, MachineSpec, Need};
use smmu_engine::offers::offered_by_id_registers;
use smmu_engine::run::{self, RunOptions, RunOutcome, RunReport, Runner, Sabotage};
use smmu_engine::scenario::Scenario;
use smmu_harness::backend::{
    Board, BoardInQemu, BoardKind, Mock, MockVariant, NOT_SNOOPING, Qemu, SILENCE, UNCACHED,
    UNHELPFUL, USUAL_ONLY,
};
use smmu_harness::scenario_files::{builtin, builtin_named, builtin_names};
use smmu_qemu::GuestLevel;

/// Scenarios that must fail when the driver is broken in some way: on the model, and on QEMU.
///
/// QEMU carries out commands at once: a driver that does not wait fails there only with a stopped
/// queue. QEMU does not cache invalid entries: only a change from one valid entry to another shows
/// a missing `CFGI`.
const NOTICED: &[(Sabotage, &[&str], &[&str])] = &[
    (
        Sabotage::UnmapWithoutTlbi,
        &[
            "first-light",
            "remap",
            "blocks",
            "tag-per-smmu",
            "stage2-vmid",
            "bad-command",
            "queue-full",
            "queue-slow",
            "sync-timeout",
            "atc-timeout",
            "msi-sync",
            "two-queues",
            "fetch-abort",
            "smmu-goes-away",
            "multi-stream-device",
            "smmu-is-reset",
            "smmus-of-different-kinds",
            "dma-reads",
            "event-overflow",
            "event-storm",
            "parallel-callers",
            "two-level-tables",
            "deferred-flush",
            "pasid-attach",
            "ats-on-off",
            "ats-live-replace",
            "ats-timeout-quarantine",
            "nested-guest",
            "two-vsmmus-one-parent",
            "guest-invalidates",
            "adopt-running",
            "adopt-refused",
        ],
        &[
            "first-light",
            "remap",
            "blocks",
            "tag-per-smmu",
            "stage2-vmid",
            "bad-command",
            "queue-full",
            "sync-timeout",
            "smmu-goes-away",
            "multi-stream-device",
            "smmu-is-reset",
            "parallel-callers",
            "two-level-tables",
            "deferred-flush",
            "guest-invalidates",
            "adopt-running",
            "adopt-refused",
        ],
    ),
    (
        Sabotage::UnmapWrongTag,
        &[
            "first-light",
            "remap",
            "blocks",
            "tag-per-smmu",
            "stage2-vmid",
            "bad-command",
            "queue-full",
            "queue-slow",
            "sync-timeout",
            "atc-timeout",
            "msi-sync",
            "two-queues",
            "fetch-abort",
            "smmu-goes-away",
            "multi-stream-device",
            "smmu-is-reset",
            "smmus-of-different-kinds",
            "dma-reads",
            "event-overflow",
            "event-storm",
            "parallel-callers",
            "two-level-tables",
            "deferred-flush",
            "pasid-attach",
            "ats-on-off",
            "ats-live-replace",
            "ats-timeout-quarantine",
            "nested-guest",
            "guest-invalidates",
            "adopt-running",
            "adopt-refused",
        ],
        &[
            "first-light",
            "remap",
            "blocks",
            "tag-per-smmu",
            "stage2-vmid",
            "bad-command",
            "queue-full",
            "sync-timeout",
            "smmu-goes-away",
            "multi-stream-device",
            "smmu-is-reset",
            "parallel-callers",
            "two-level-tables",
            "deferred-flush",
            "guest-invalidates",
            "adopt-running",
            "adopt-refused",
        ],
    ),
    (
        Sabotage::UnmapFirstSmmuOnly,
        &[
            "tag-per-smmu",
            "stage2-vmid",
            "smmus-of-different-kinds",
            "two-level-tables",
            "deferred-flush",
        ],
        &["tag-per-smmu", "stage2-vmid", "two-level-tables", "deferred-flush"],
    ),
    (
        Sabotage::UnmapWithoutAtcInv,
        &["ats-on-off", "page-requests-on-off", "ats-live-replace", "ats-timeout-quarantine"],
        &[],
    ),
    (
        Sabotage::FreeBeforeFlush,
        &[
            "first-light",
            "tag-reuse",
            "tag-per-smmu",
            "stage2-vmid",
            "replace-domain",
            "blocked-and-bypass",
            "prepare-fails-clean",
            "bad-command",
            "queue-full",
            "queue-slow",
            "sync-timeout",
            "atc-timeout",
            "msi-sync",
            "two-queues",
            "fetch-abort",
            "detach-unconfirmed-then-settled",
            "smmu-goes-away",
            "multi-stream-device",
            "smmu-is-reset",
            "suspend-resume",
            "cannot-share",
            "smmus-of-different-kinds",
            "dma-reads",
            "event-overflow",
            "event-storm",
            "stall-and-resume",
            "stall-of-substreams",
            "page-request",
            "detach-with-page-requests",
            "granules",
            "parallel-callers",
            "two-level-tables",
            "hitless-replace",
            "group-attach",
            "pasid-attach",
            "pasid-last-gone",
            "pasid-beside-identity",
            "ats-on-off",
            "page-requests-on-off",
            "ats-live-replace",
            "ats-timeout-quarantine",
            "two-vsmmus-one-parent",
            "guest-invalidates",
            "guest-rereads",
            "guest-is-hostile",
            "adopt-running",
            "reserved-region-at-boot",
        ],
        &[
            "tag-reuse",
            "stage2-vmid",
            "two-vsmmus-one-parent",
            "guest-invalidates",
            "guest-rereads",
            "guest-is-hostile",
        ],
    ),
    (
        Sabotage::ReplaceWithoutCfgi,
        &[
            "first-light",
            "tag-reuse",
            "tag-per-smmu",
            "stage2-vmid",
            "replace-domain",
            "blocked-and-bypass",
            "prepare-fails-clean",
            "bad-command",
            "queue-full",
            "queue-slow",
            "sync-timeout",
            "atc-timeout",
            "msi-sync",
            "msi-interrupts",
            "two-queues",
            "fetch-abort",
            "detach-unconfirmed-then-settled",
            "smmu-goes-away",
            "multi-stream-device",
            "smmu-is-reset",
            "suspend-resume",
            "cannot-share",
            "smmus-of-different-kinds",
            "dma-reads",
            "event-overflow",
            "event-storm",
            "stall-and-resume",
            "stall-of-substreams",
            "page-request",
            "detach-with-page-requests",
            "granules",
            "parallel-callers",
            "two-level-tables",
            "hitless-replace",
            "group-attach",
            "blocked-never-fails",
            "pasid-attach",
            "pasid-last-gone",
            "pasid-beside-identity",
            "ats-on-off",
            "page-requests-on-off",
            "ats-live-replace",
            "ats-timeout-quarantine",
            "nested-guest",
            "two-vsmmus-one-parent",
            "guest-invalidates",
            "guest-rereads",
            "guest-is-hostile",
            "adopt-running",
            "adopt-refused",
            "reserved-region-at-boot",
        ],
        &[
            "tag-reuse",
            "stage2-vmid",
            "replace-domain",
            "blocked-and-bypass",
            "sync-timeout",
            "detach-unconfirmed-then-settled",
            "multi-stream-device",
            "smmu-is-reset",
            "two-level-tables",
            "hitless-replace",
            "group-attach",
            "nested-guest",
            "guest-invalidates",
            "guest-rereads",
            "guest-is-hostile",
            "adopt-running",
            "adopt-refused",
            "reserved-region-at-boot",
        ],
    ),
    (
        Sabotage::SyncWithoutWait,
        &[
            "first-light",
            "remap",
            "blocks",
            "tag-reuse",
            "tag-per-smmu",
            "wrong-tag-is-stale",
            "stage2-vmid",
            "replace-domain",
            "blocked-and-bypass",
            "prepare-fails-clean",
            "bad-command",
            "queue-full",
            "queue-slow",
            "sync-timeout",
            "atc-timeout",
            "msi-sync",
            "msi-interrupts",
            "two-queues",
            "fetch-abort",
            "detach-unconfirmed-then-settled",
            "smmu-goes-away",
            "multi-stream-device",
            "smmu-is-reset",
            "suspend-resume",
            "cannot-share",
            "smmus-of-different-kinds",
            "dma-reads",
            "event-overflow",
            "event-storm",
            "stall-and-resume",
            "stall-of-substreams",
            "detach-with-page-requests",
            "granules",
            "parallel-callers",
            "two-level-tables",
            "hitless-replace",
            "group-attach",
            "deferred-flush",
            "blocked-never-fails",
            "pasid-attach",
            "pasid-last-gone",
            "pasid-beside-identity",
            "ats-on-off",
            "page-requests-on-off",
            "ats-live-replace",
            "ats-timeout-quarantine",
            "nested-guest",
            "two-vsmmus-one-parent",
            "guest-invalidates",
            "guest-rereads",
            "guest-is-hostile",
            "adopt-running",
            "adopt-refused",
            "reserved-region-at-boot",
        ],
        &[
            "sync-timeout",
            "detach-unconfirmed-then-settled",
            "smmu-goes-away",
            "smmu-is-reset",
            "parallel-callers",
        ],
    ),
    (
        Sabotage::TimeoutCountsAsDone,
        &[
            "sync-timeout",
            "two-queues",
            "detach-unconfirmed-then-settled",
            "smmu-goes-away",
            "smmu-is-reset",
            "blocked-never-fails",
        ],
        &["sync-timeout", "detach-unconfirmed-then-settled", "smmu-goes-away", "smmu-is-reset"],
    ),
];

type Opened = Result<Arc<dyn Backend>, String>;

fn main() {
    let arguments = Arguments::from_args();
    let mock: Opened = Ok(Arc::new(Mock));
    let no_qemu = common::qemu_is_left_out();
    // Looked for once. When it is not there each of its tests fails and says so.
    let qemu: Opened = if no_qemu {
        Err("SMMU_NO_QEMU=1".into())
    } else {
        Qemu::find(None)
            .map(|qemu| Arc::new(qemu) as Arc<dyn Backend>)
            .map_err(|error| error.to_string())
    };
    let mut trials = Vec::new();
    for (name, backend, ignored) in [("mock", &mock, false), ("qemu", &qemu, no_qemu)] {
        for scenario in builtin_names() {
            let test = format!("{name}::{scenario}");
            if !may_run(&arguments, &test) {
                continue;
            }
            let opened = backend.clone();
            let scenario = named(scenario);
            // What a backend cannot do is counted as skipped, never as passed.
            let lacks = name == "qemu" && !scenario.file.needs.iter().all(|need| Qemu::can(*need));
            trials.push(
                Trial::test(test, move || passes(&scenario, &opened))
                    .with_ignored_flag(ignored || lacks),
            );
        }
        for (sabotage, on_mock, on_qemu) in NOTICED {
            let expected: &[&str] = if name == "mock" { on_mock } else { on_qemu };
            let opened = backend.clone();
            let test = format!("{name}::sabotage::{sabotage:?}");
            trials.push(
                Trial::test(test, move || noticed(*sabotage, expected, &opened))
                    .with_ignored_flag(ignored),
            );
        }
    }
    trials.push(
        Trial::test("qemu::a_strict_run_fails_if_it_skips", strict_run_fails_if_it_skips)
            .with_ignored_flag(no_qemu),
    );
    let id_registers = qemu.clone();
    trials.push(
        Trial::test("qemu::id_registers_agree", move || id_registers_agree(&id_registers))
            .with_ignored_flag(no_qemu),
    );
    let opened = qemu.clone();
    trials.push(
        Trial::test("qemu::loses_events_without_an_overflow", move || {
            loses_events_without_an_overflow(&opened)
        })
        .with_ignored_flag(no_qemu),
    );
    trials.extend(variant_trials(&arguments));
    trials.extend(board_trials());
    trials.extend(devmem_trials());
    trials.push(Trial::test("snapshots_belong_to_scenarios", snapshots_belong_to_scenarios));
    trials.push(Trial::test("every_sabotage_is_tried", || {
        let tried: Vec<Sabotage> = NOTICED.iter().map(|(sabotage, ..)| *sabotage).collect();
        if tried == Sabotage::ALL { Ok(()) } else { Err(format!("{tried:?}").into()) }
    }));
    libtest_mimic::run(&arguments, trials).exit();
}

/// Whether a process with these arguments may run this test. nextest starts one for each test, and
/// most of them would parse all scenarios for one.
fn may_run(arguments: &Arguments, test: &str) -> bool {
    !arguments.exact || arguments.filter.as_deref().is_none_or(|filter| filter == test)
}

fn named(name: &str) -> Scenario {
    builtin_named(name).unwrap().unwrap()
}

fn transcript(report: &RunReport) -> String {
    let lines: Vec<String> = report.transcript.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

fn snapshots() -> insta::Settings {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../../snapshots");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings
}

fn passes(scenario: &Scenario, backend: &Opened) -> Result<(), Failed> {
    let backend = backend.as_ref().map_err(String::clone)?;
    let report = run::run(scenario, &**backend, RunOptions::default());
    if report.outcome != RunOutcome::Passed {
        return Err(format!("{:?}\n{}", report.outcome, transcript(&report)).into());
    }
    same_as_snapshot(scenario, &report);
    if !report.notes.is_empty() {
        // What the model alone can tell.
        let name = format!("{}@{}-notes", scenario.name, backend.name());
        snapshots().bind(|| insta::assert_snapshot!(name, report.notes.join("\n")));
    }
    Ok(())
}

/// What the SMMUs of a variant of the model refuse, and how.
type Refused = (&'static str, &'static str);

/// Each scenario on the least helpful SMMU, and on one that does not snoop.
fn variant_trials(arguments: &Arguments) -> Vec<Trial> {
    let usual: Vec<Refused> =
        USUAL_ONLY.iter().map(|usual| (usual.scenario, usual.reported)).collect();
    // An MSI is not visible to a CPU that has the line.
    let not_snooped = [("msi-sync", "smmu0 lacks coherent access (IDR0.COHACC)")];
    let mut trials = trials_of("unhelpful", &UNHELPFUL, &usual, arguments);
    trials.extend(trials_of("not_snooping", &NOT_SNOOPING, &not_snooped, arguments));
    trials.extend(trials_of("uncached", &UNCACHED, &[], arguments));
    trials
}

/// A scenario that shows something stale, where nothing is cached.
fn lacks_caches(scenario: &Scenario, backend: &MockVariant) -> bool {
    !backend.offers(Need::Caches) && scenario.file.needs.contains(&Need::Caches)
}

/// Each scenario on a variant of the model, with the snapshot of all backends. One that is refused
/// fails there as the list says.
fn trials_of(
    variant: &str,
    backend: &'static MockVariant,
    refused: &[Refused],
    arguments: &Arguments,
) -> Vec<Trial> {
    let known = |name: &str| builtin_names().any(|known| known == name);
    assert!(refused.iter().all(|(scenario, _)| known(scenario)), "{refused:?}");
    let trial = |name: &'static str| {
        let test = format!("mock::{variant}::{name}");
        let reported = refused.iter().find(|(scenario, _)| *scenario == name);
        let reported = reported.map(|(_, reported)| *reported);
        let run = move || {
            let scenario = named(name);
            let report = run::run(&scenario, backend, RunOptions::default());
            let why = report.outcome.failure().map(ToString::to_string);
            match (reported, why) {
                (None, None) if report.outcome == RunOutcome::Passed => {
                    same_as_snapshot(&scenario, &report);
                    Ok(())
                }
                (Some(reported), Some(why)) if why.contains(reported) => Ok(()),
                _ if lacks_caches(&scenario, backend) => {
                    let reason = "uncached has no caches".into();
                    assert_eq!(report.outcome, RunOutcome::Skipped { reason });
                    Ok(())
                }
                _ => Err(format!("{:?}\n{}", report.outcome, transcript(&report)).into()),
            }
        };
        may_run(arguments, &test).then(|| Trial::test(test, run))
    };
    builtin_names().filter_map(trial).collect()
}

fn same_as_snapshot(scenario: &Scenario, report: &RunReport) {
    let mut settings = snapshots();
    settings.set_description(&scenario.file.title);
    settings.bind(|| insta::assert_snapshot!(scenario.name.as_str(), transcript(report)));
}

/// What a trial does with the image.
type BoardTest = Box<dyn FnOnce(&Path) -> Result<(), Failed> + Send>;

/// The folder with the Linux whose process runs scenarios, which `cargo xtask test` makes and names.
const BOARD_LINUX: &str = "SMMU_BOARD_LINUX";
/// The image of the board, which `cargo xtask test` builds and names.
const BOARD_IMAGE: &str = "SMMU_BOARD_IMAGE";

/// The machines that the board's image runs on: exception level, CPU, number of CPUs and of SMMUs.
///
/// Half of the combinations. Any three of the four properties meet in each way in one of them.
const MACHINES: [(GuestLevel, &str, u8, usize); 8] = [
    (GuestLevel::El1, "cortex-a72", 1, 1),
    (GuestLevel::El1, "cortex-a72", 4, 3),
    (GuestLevel::El1, "max", 1, 3),
    (GuestLevel::El1, "max", 4, 1),
    (GuestLevel::El2, "cortex-a72", 1, 3),
    (GuestLevel::El2, "cortex-a72", 4, 1),
    (GuestLevel::El2, "max", 1, 1),
    (GuestLevel::El2, "max", 4, 3),
];

/// One boot for each configuration, and one for each way to break the driver.
///
/// Without an image the trials are ignored by name. With one that is not there, they fail.
fn board_trials() -> Vec<Trial> {
    let image = std::env::var_os(BOARD_IMAGE).map(PathBuf::from);
    let mut trials = Vec::new();
    let mut trial = |name: String, work: BoardTest| {
        let ignored = image.is_none();
        let image = image.clone().unwrap_or_default();
        trials.push(Trial::test(name, move || work(&image)).with_ignored_flag(ignored));
    };
    for (level, cpu, cpus, smmus) in MACHINES {
        let name = format!("board::{level:?}::{cpu}::cpus_{cpus}::smmus_{smmus}").to_lowercase();
        let machine = BoardInQemu { cpus, cpu: cpu.into(), level, smmus: Some(smmus) };
        trial(name, Box::new(move |image| passes_on_board(image, machine)));
    }
    for (name, devices) in [("edu", Devices::Edu), ("nvme", Devices::Nvme)] {
        let passes = move |image: &Path| passes_with(devices, image);
        trial(format!("board::{name}::passes"), Box::new(passes));
        let stale = move |image: &Path| shows_stale_writes(devices, image);
        trial(format!("board::{name}::stale_writes"), Box::new(stale));
    }
    trial("board::nvme::a_disk_that_does_not_suit_is_named".into(), Box::new(unsuitable_disk));
    for (sabotage, _, on_qemu) in NOTICED {
        // With one CPU no caller runs beside another.
        let cpus = if *sabotage == Sabotage::SyncWithoutWait { 1 } else { 4 };
        let runs = move |name: &&str| match *name {
            "parallel-callers" => cpus > 1,
            name => runs_on_boards(name),
        };
        let name = format!("board::sabotage::{sabotage:?}");
        trial(
            name,
            Box::new(move |image| {
                let machine = BoardInQemu { smmus: Some(3), cpus, ..BoardInQemu::default() };
                let expected: Vec<&str> = on_qemu.iter().copied().filter(runs).collect();
                fails_on_board(*sabotage, &expected, &board(image, machine)?)
            }),
        );
    }
    trials
}

/// A board and a process of Linux cannot reset an SMMU.
fn runs_on_boards(name: &str) -> bool {
    !named(name).file.needs.contains(&Need::Reset)
}

/// Devices that do not tell a refused write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Devices {
    Edu,
    /// NVMe controllers, whose rings lie behind the stream of their writes.
    Nvme,
}

impl Devices {
    /// Which scenarios they run: an unmap, a page that moves, two devices of one domain. An `edu` takes
    /// 100 ms for each write, and so does no more. NVMe controllers run all that one SMMU can.
    fn runs(self, name: &str) -> bool {
        self == Devices::Nvme || ["first-light", "remap", "tag-reuse"].contains(&name)
    }

    /// The arguments of QEMU: for StreamIDs 0x8 and 0x10, of NVMe controllers also 0x18 and 0x28.
    fn arguments(self, disk: &Path) -> String {
        match self {
            Devices::Edu => "-device edu,addr=1,dma_mask=0xffffffffffffffff \
                             -device edu,addr=2,dma_mask=0xffffffffffffffff"
                .into(),
            Devices::Nvme => [1, 2, 3, 5]
                .map(|n| {
                    let file = quoted(disk);
                    format!(
                        "-drive if=none,id=d{n},file={file},format=raw,read-only=on \
                         -device nvme,drive=d{n},serial={n},addr={n} "
                    )
                })
                .concat(),
        }
    }
}

fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', "'\\''"))
}

/// A disk for the NVMe controllers of a test, with a first block of these bytes.
fn disk_of(test: &str, block: &[u8]) -> Result<PathBuf, Failed> {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("disk-of-{test}.img"));
    let mut bytes = block.to_vec();
    bytes.resize(1 << 20, 0);
    std::fs::write(&path, bytes)?;
    Ok(path)
}

/// Bytes of which no 4 occur twice.
fn distinct() -> Vec<u8> {
    (0x4e56_4d00_u32..).take(128).flat_map(u32::to_le_bytes).collect()
}

/// A machine with such devices. No option of the backend makes one, so it is at a command.
fn board_with(devices: Devices, disk: &Path, image: &Path) -> Result<Board, Failed> {
    const MACHINE: &str = "-M virt,iommu=smmuv3,gic-version=3 -cpu cortex-a72 -smp 2 -m 512M \
                           -nodefaults -display none -serial stdio -monitor none -no-reboot \
                           -semihosting-config enable=on,target=native";
    // Each write looks through all RAM for what the device wrote.
    const PATIENCE: Duration = Duration::from_secs(120);
    let qemu = Qemu::find(None)?.into_binary();
    let (qemu, image) = (quoted(qemu.path()), quoted(image));
    let command = format!("exec {qemu} {MACHINE} {} -kernel {image}", devices.arguments(disk));
    Ok(Board::at_uart(BoardKind::BareMetal, &command, PATIENCE))
}

fn passes_with(devices: Devices, image: &Path) -> Result<(), Failed> {
    let disk = disk_of("passes", &distinct())?;
    let board = board_with(devices, &disk, image)?;
    let mut ran = 0;
    for scenario in builtin()?.iter().filter(|scenario| devices.runs(&scenario.name)) {
        let report = board.run(scenario, RunOptions::default());
        if devices == Devices::Nvme && matches!(report.outcome, RunOutcome::Skipped { .. }) {
            continue;
        }
        if report.outcome != RunOutcome::Passed || !report.unrecorded.is_empty() {
            let (name, outcome) = (&scenario.name, &report.outcome);
            return Err(format!("{name}: {outcome:?}\n{}", transcript(&report)).into());
        }
        same_as_snapshot(scenario, &report);
        ran += 1;
    }
    let least = if devices == Devices::Nvme { 23 } else { 3 };
    if ran >= least { Ok(()) } else { Err(format!("{ran} scenarios ran").into()) }
}

/// Without invalidations such a device writes to pages that are unmapped, and memory tells.
fn shows_stale_writes(devices: Devices, image: &Path) -> Result<(), Failed> {
    let disk = disk_of("stale", &distinct())?;
    let board = board_with(devices, &disk, image)?;
    let options = RunOptions { sabotage: Some(Sabotage::UnmapWithoutTlbi) };
    let mut failing = Vec::new();
    for scenario in builtin()?.iter().filter(|scenario| Devices::Edu.runs(&scenario.name)) {
        match board.run(scenario, options).outcome {
            RunOutcome::Passed => {}
            RunOutcome::Failed(_) => failing.push(scenario.name.clone()),
            other => return Err(format!("{}: {other:?}", scenario.name).into()),
        }
    }
    if failing == ["first-light", "remap"] { Ok(()) } else { Err(format!("{failing:?}").into()) }
}

/// A disk of zeroes has no block that could be found again, so no scenario uses it.
fn unsuitable_disk(image: &Path) -> Result<(), Failed> {
    let disk = disk_of("zeroes", &[])?;
    let board = board_with(Devices::Nvme, &disk, image)?;
    match board.run(&named("first-light"), RunOptions::default()).outcome {
        RunOutcome::Skipped { reason } if reason.contains("no device has StreamID 0x8") => Ok(()),
        other => Err(format!("{other:?}").into()),
    }
}

/// A process of Linux: one boot for each machine, and for some ways to break the driver.
fn devmem_trials() -> Vec<Trial> {
    let folder = std::env::var_os(BOARD_LINUX).map(PathBuf::from);
    let mut trials = Vec::new();
    let mut trial = |name: String, work: BoardTest| {
        let ignored = folder.is_none();
        let folder = folder.clone().unwrap_or_default();
        trials.push(Trial::test(name, move || work(&folder)).with_ignored_flag(ignored));
    };
    for (cpus, smmus) in [(1, 1), (2, 1), (2, 3)] {
        trial(
            format!("devmem::cpus_{cpus}::smmus_{smmus}"),
            Box::new(move |folder| {
                let machine = BoardInQemu { cpus, smmus: Some(smmus), ..BoardInQemu::default() };
                passes_on(&devmem(folder, machine.clone())?, &machine)
            }),
        );
    }
    for sabotage in [Sabotage::UnmapWithoutTlbi, Sabotage::UnmapFirstSmmuOnly] {
        let on_qemu = NOTICED.iter().find(|(noticed, ..)| *noticed == sabotage);
        let expected: Vec<&str> = on_qemu.map_or(&[][..], |(_, _, on_qemu)| on_qemu).to_vec();
        trial(
            format!("devmem::sabotage::{sabotage:?}"),
            Box::new(move |folder| {
                let machine = BoardInQemu { cpus: 2, smmus: Some(3), ..BoardInQemu::default() };
                let runs = |name: &&str| runs_on_boards(name);
                let expected: Vec<&str> = expected.iter().copied().filter(runs).collect();
                fails_on_board(sabotage, &expected, &devmem(folder, machine)?)
            }),
        );
    }
    trials
}

fn devmem(folder: &Path, machine: BoardInQemu) -> Result<Board, Failed> {
    // A boot prints nothing, and takes long on a busy host.
    const BOOT: Duration = Duration::from_secs(120);
    let qemu = Qemu::find(None)?.into_binary();
    Ok(Board::linux_in_qemu(qemu, Some(folder.to_owned()), machine, BOOT)?)
}

fn board(image: &Path, machine: BoardInQemu) -> Result<Board, Failed> {
    let qemu = Qemu::find(None)?.into_binary();
    Ok(Board::in_qemu(qemu, Some(image.to_owned()), machine, SILENCE)?)
}

/// Every scenario that the machine can run passes with the shared snapshot. All others are skipped.
fn passes_on_board(image: &Path, machine: BoardInQemu) -> Result<(), Failed> {
    passes_on(&board(image, machine.clone())?, &machine)
}

fn passes_on(board: &Board, machine: &BoardInQemu) -> Result<(), Failed> {
    let (several, parallel) = (machine.smmus > Some(1), machine.cpus > 1);
    let can = |need: &Need| match need {
        Need::SeveralSmmus => several,
        Need::Parallel => parallel,
        _ => Board::can(*need),
    };
    let mut wrong = String::new();
    for scenario in builtin()? {
        let report = board.run(&scenario, RunOptions::default());
        let runs = scenario.file.needs.iter().all(can);
        match &report.outcome {
            RunOutcome::Passed if runs && report.unrecorded.is_empty() => {
                same_as_snapshot(&scenario, &report);
            }
            RunOutcome::Passed if runs => wrong += &differs_elsewhere(&scenario, &report),
            RunOutcome::Skipped { .. } if !runs => {}
            other => {
                wrong += &format!("{}: {other:?}\n{}\n", scenario.name, transcript(&report));
            }
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.into()) }
}

/// How the transcript differs from the shared snapshot in lines that this board records.
fn differs_elsewhere(scenario: &Scenario, report: &RunReport) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../snapshots")
        .join(format!("{}.snap", scenario.name));
    let file = std::fs::read_to_string(&path).unwrap_or_default();
    // After the header of two `---` lines.
    let snapshot = file.splitn(3, "---\n").nth(2).unwrap_or_default().trim_end();
    let (expected, got) = (report.comparable(snapshot), transcript(report));
    if *expected == *got && !snapshot.is_empty() {
        return String::new();
    }
    format!("{}: differs from {}:\n{got}\n", scenario.name, path.display())
}

fn noticed(sabotage: Sabotage, expected: &[&str], backend: &Opened) -> Result<(), Failed> {
    let backend = backend.as_ref().map_err(String::clone)?;
    fails_as_expected(sabotage, expected, &OfBackend(&**backend))
}

/// A backend as a runner.
struct OfBackend<'b>(&'b dyn Backend);

impl Runner for OfBackend<'_> {
    fn name(&self) -> &'static str {
        self.0.name()
    }
    fn describe(&self) -> String {
        self.0.describe()
    }
    fn run(&self, scenario: &Scenario, options: RunOptions) -> RunReport {
        run::run(scenario, self.0, options)
    }
}

/// Those that fail are exactly the expected ones.
fn fails_as_expected(
    sabotage: Sabotage,
    expected: &[&str],
    runner: &dyn Runner,
) -> Result<(), Failed> {
    fail_of(&builtin()?, sabotage, expected, runner)
}

/// Each of the expected ones fails on a board too. The others are left out: that they pass is a
/// matter of scenario and driver, which the run on QEMU has shown.
fn fails_on_board(
    sabotage: Sabotage,
    expected: &[&str],
    runner: &dyn Runner,
) -> Result<(), Failed> {
    let scenarios: Vec<Scenario> =
        builtin_names().filter(|name| expected.contains(name)).map(named).collect();
    fail_of(&scenarios, sabotage, expected, runner)
}

fn fail_of(
    scenarios: &[Scenario],
    sabotage: Sabotage,
    expected: &[&str],
    runner: &dyn Runner,
) -> Result<(), Failed> {
    let options = RunOptions { sabotage: Some(sabotage) };
    let mut failing = Vec::new();
    for scenario in scenarios {
        let report = runner.run(scenario, options);
        match report.outcome {
            RunOutcome::Passed | RunOutcome::Skipped { .. } => {}
            RunOutcome::Failed(why) => {
                println!("{}: step {}: {why}", scenario.name, why.step);
                failing.push(&*scenario.name);
            }
            other => return Err(format!("{}: {other:?}", scenario.name).into()),
        }
    }
    if failing == expected {
        Ok(())
    } else {
        Err(format!("{sabotage:?} made {failing:?} fail, but {expected:?} were to").into())
    }
}

/// A scenario that was named and skipped is no success of a strict run. Needs a QEMU to skip on.
fn strict_run_fails_if_it_skips() -> Result<(), Failed> {
    let run = |more: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_smmu-harness"))
            .args(["run", "two-queues", "--backend", "qemu"])
            .args(more)
            .output()
    };
    let (lenient, strict) = (run(&[])?, run(&["--strict"])?);
    let said = String::from_utf8_lossy(&lenient.stdout).into_owned();
    if !said.contains("qemu has no second-queue") {
        return Err(said.into());
    }
    match (lenient.status.code(), strict.status.code()) {
        (Some(0), Some(1)) => Ok(()),
        other => Err(format!("{other:?}").into()),
    }
}

/// `Qemu::can` answers without a QEMU what its ID registers say.
fn id_registers_agree(qemu: &Opened) -> Result<(), Failed> {
    let caps = run::probe(&**qemu.as_ref().map_err(String::clone)?)?.caps;
    let answered = [
        Need::Stage1,
        Need::Stage2,
        Need::SeveralSmmus,
        Need::Nesting,
        Need::Asid8,
        Need::Ats,
        Need::Msi,
        Need::Sev,
    ];
    for need in answered {
        // QEMU has as many SMMUs as the machine asks for.
        let offered = offered_by_id_registers(need, &[caps, caps]);
        if offered != Some(Qemu::can(need)) {
            return Err(format!("{}: the ID registers say {offered:?}", need.name()).into());
        }
    }
    Ok(())
}

/// A backend that claims to offer everything.
struct Claims<'b>(&'b dyn Backend);

impl Backend for Claims<'_> {
    fn name(&self) -> &'static str {
        self.0.name()
    }
    fn describe(&self) -> String {
        self.0.describe()
    }
    fn offers(&self, _: Need) -> bool {
        true
    }
    fn start(&self, spec: &MachineSpec) -> Result<Box<dyn Machine>, BackendError> {
        self.0.start(spec)
    }
}

/// IHI 0070 has the overflow condition for a lost event (7.4), and `EVENTQ_ABT_ERR` for a write
/// that aborts. QEMU keeps the first events, as it must, but reports the latter for the former. If
/// this test fails, QEMU may have learnt it: then `Qemu::can` may say so.
fn loses_events_without_an_overflow(backend: &Opened) -> Result<(), Failed> {
    let backend = backend.as_ref().map_err(String::clone)?;
    let report = run::run(&named("event-overflow"), &Claims(&**backend), RunOptions::default());
    let transcript = transcript(&report);
    let kept: Vec<&str> = transcript
        .split_once("3 dev0 writes to 8 pages")
        .ok_or("no third step")?
        .1
        .lines()
        .filter_map(|line| line.trim().strip_prefix("event     smmu0 F_TRANSLATION sid=0x8 write "))
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert_eq!(kept, ["iova=0x200000", "iova=0x201000", "iova=0x202000", "iova=0x203000"]);
    assert!(transcript.ends_with("interrupt smmu0 GERROR"), "{transcript}");
    match report.outcome {
        RunOutcome::Failed(why) if why.to_string().contains("4 events and no overflow") => Ok(()),
        other => Err(format!("{other:?}").into()),
    }
}

fn snapshots_belong_to_scenarios() -> Result<(), Failed> {
    let names: Vec<&str> = builtin_names().collect();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../snapshots");
    for file in std::fs::read_dir(folder)? {
        let file = file?;
        if file.file_type()?.is_dir() {
            continue;
        }
        let file = file.file_name().to_string_lossy().into_owned();
        let Some(stem) = file.strip_suffix(".snap") else {
            return Err(format!("snapshots/{file} is not a snapshot").into());
        };
        let scenario = stem.split('@').next().unwrap_or(stem);
        if !names.contains(&scenario) {
            return Err(format!("snapshots/{file} belongs to no scenario").into());
        }
    }
    Ok(())
}
