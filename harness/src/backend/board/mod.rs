//! The board backend: scenarios on a CPU beside the SMMU, by a program that has the engine.

mod link;
mod session;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use smmu_engine::machine::{BackendError, Need};
use smmu_engine::run::{RunFailure, RunOptions, RunOutcome, RunReport, Runner};
use smmu_engine::scenario::Scenario;
use smmu_qemu::{
    DeviceConfig, DeviceKind, Guest, GuestConfig, GuestLevel, GuestProgram, MachineConfig,
    QemuBinary, QemuSmmuConfig, SMMU_BASE, SMMU_SPACING, guess_target_dir, open_uart,
};

use link::Link;
use session::{Flow, Greeting, LastStep, Session, SessionError};

/// The image, in the target folder.
const IMAGE: &str = "board/scenarios.elf";
/// The folder with a kernel and a first root file system, in the target folder.
const LINUX: &str = "board/linux";
/// Keeps the kernel's SMMU driver off, and reserves the huge page that the process asks for. No
/// message of the kernel comes between the lines of the process.
const LINUX_OPTIONS: &str = "console=ttyAMA0 quiet loglevel=0 panic=-1 \
                             initcall_blacklist=arm_smmu_driver_init hugepagesz=32M hugepages=1 --";
/// Streams of a machine in QEMU from its start, so that the built-in scenarios share one boot.
const STREAMS: [(usize, u32); 6] =
    [(0, 0x8), (0, 0x10), (0, 0x18), (0, 0x28), (1, 0x900), (2, 0xd00)];

/// The machine that QEMU makes for the image.
#[derive(Clone, Debug)]
pub struct BoardInQemu {
    /// The number of CPUs.
    pub cpus: u8,
    /// QEMU's name of the CPU.
    pub cpu: String,
    /// Where the image starts.
    pub level: GuestLevel,
    /// The number of SMMUs. `None`: 1, or 3 as soon as a scenario has more than one.
    pub smmus: Option<usize>,
}

impl Default for BoardInQemu {
    fn default() -> Self {
        BoardInQemu { cpus: 1, cpu: "cortex-a72".into(), level: GuestLevel::El1, smmus: None }
    }
}

/// Where the program runs.
#[derive(Debug)]
enum Place {
    Qemu { binary: QemuBinary, program: Program, machine: BoardInQemu },
    Command(String),
    Device(PathBuf),
}

/// What QEMU starts.
#[derive(Debug)]
enum Program {
    Image(PathBuf),
    Linux { kernel: PathBuf, initramfs: PathBuf },
}

impl Program {
    fn for_smmus(&self, count: usize) -> GuestProgram {
        match self {
            Program::Image(image) => GuestProgram::Image(image.clone()),
            Program::Linux { kernel, initramfs } => {
                let mut options = LINUX_OPTIONS.to_owned();
                for smmu in 0..count as u64 {
                    options += &format!(" --own {:#x}", SMMU_BASE + SMMU_SPACING * smmu);
                }
                let (kernel, initramfs) = (kernel.clone(), initramfs.clone());
                GuestProgram::Linux { kernel, initramfs, options }
            }
        }
    }
}

/// The program on a board.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BoardKind {
    /// One without an operating system.
    BareMetal,
    /// A process of Linux.
    Process,
}

impl BoardKind {
    /// The backend's name.
    const fn name(self) -> &'static str {
        match self {
            BoardKind::BareMetal => "board",
            BoardKind::Process => "devmem",
        }
    }
}

/// A program on a board that runs scenarios.
#[derive(Debug)]
pub struct Board {
    kind: BoardKind,
    place: Place,
    silence: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    running: Option<Running>,
    /// Why no further scenario runs: a board that does not greet once is not asked again.
    lost: Option<String>,
}

/// The longest time without a line, unless the user says otherwise.
pub const SILENCE: Duration = Duration::from_secs(30);

struct Running {
    session: Session,
    // Dropped after the session, whose end is polite.
    guest: Option<Guest>,
    /// What QEMU has. Empty for another machine, which tells itself what it lacks.
    smmus: usize,
    streams: Vec<(usize, u32)>,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").field("smmus", &self.smmus).finish_non_exhaustive()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.guest.is_some() {
            self.session.quit();
        }
    }
}

impl Board {
    /// The image in QEMU. Without an `image`, what `cargo xtask board` has built.
    ///
    /// # Errors
    ///
    /// There is no image.
    pub fn in_qemu(
        binary: QemuBinary,
        image: Option<PathBuf>,
        machine: BoardInQemu,
        silence: Duration,
    ) -> Result<Self, BackendError> {
        let image = image.unwrap_or_else(|| in_target(IMAGE));
        if !image.is_file() {
            let shown = image.display();
            let message = format!("no image for the board at {shown}; run `cargo xtask board`");
            return Err(BackendError::Unavailable(message));
        }
        let place = Place::Qemu { binary, program: Program::Image(image), machine };
        Ok(Board { kind: BoardKind::BareMetal, place, silence, state: Mutex::default() })
    }

    /// A process of Linux in QEMU. Without a `folder` for the kernel and the root file system, those
    /// that `cargo xtask board linux` has made.
    ///
    /// # Errors
    ///
    /// A file is missing.
    pub fn linux_in_qemu(
        binary: QemuBinary,
        folder: Option<PathBuf>,
        machine: BoardInQemu,
        silence: Duration,
    ) -> Result<Self, BackendError> {
        let folder = folder.unwrap_or_else(|| in_target(LINUX));
        let (kernel, initramfs) = (folder.join("vmlinuz"), folder.join("initramfs.gz"));
        if let Some(missing) = [&kernel, &initramfs].into_iter().find(|path| !path.is_file()) {
            let shown = missing.display();
            let message =
                format!("no Linux for the board: no {shown}; run `cargo xtask board linux`");
            return Err(BackendError::Unavailable(message));
        }
        let place = Place::Qemu { binary, program: Program::Linux { kernel, initramfs }, machine };
        Ok(Board { kind: BoardKind::Process, place, silence, state: Mutex::default() })
    }

    /// Whether the image in a suitable QEMU offers this. Needs neither.
    #[must_use]
    pub const fn can(need: Need) -> bool {
        matches!(
            need,
            Need::Stage1
                | Need::Stage2
                | Need::Nesting
                | Need::SeveralSmmus
                | Need::QueueStop
                | Need::Parallel
                | Need::Caches
        )
    }

    /// The other end of a UART: a serial device, if `uart` is the path of something that is no
    /// directory, otherwise a command whose standard input and output it is.
    #[must_use]
    pub fn at_uart(kind: BoardKind, uart: &str, silence: Duration) -> Self {
        let path = PathBuf::from(uart);
        let is_device = uart.starts_with("/dev/") && !uart.contains(char::is_whitespace);
        let place = if is_device { Place::Device(path) } else { Place::Command(uart.to_owned()) };
        Board { kind, place, silence, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the program, with what a scenario has and what was there before.
    fn start(&self, scenario: &Scenario, before: &[(usize, u32)]) -> Result<Running, NoMachine> {
        let unavailable = |error: &dyn std::fmt::Display| NoMachine::Broken(error.to_string());
        match &self.place {
            Place::Device(path) => {
                let opened = open_uart(path).and_then(Link::device);
                let link =
                    opened.map_err(|error| unavailable(&format!("{}: {error}", path.display())))?;
                self.greeted(link, None, (Greeting::Ask, Flow::Free))
            }
            Place::Command(command) => {
                let (guest, socket) =
                    Guest::command(command).map_err(|error| unavailable(&error))?;
                let link = Link::socket(socket).map_err(|error| unavailable(&error))?;
                self.greeted(link, Some(guest), (Greeting::Wait, Flow::Free))
            }
            Place::Qemu { binary, program, machine } => {
                let (smmus, streams) = wanted(scenario, before, machine.smmus);
                let devices = streams.iter().map(|&(smmu, stream_id)| DeviceConfig {
                    smmu,
                    stream_id,
                    kind: DeviceKind::TestDev,
                });
                let config = GuestConfig {
                    program: program.for_smmus(smmus),
                    machine: MachineConfig {
                        smmus: vec![QemuSmmuConfig::default(); smmus],
                        devices: devices.collect(),
                        ..MachineConfig::default()
                    },
                    cpus: machine.cpus,
                    cpu: machine.cpu.clone(),
                    level: machine.level,
                };
                let (guest, socket) =
                    Guest::qemu(binary, &config).map_err(|error| match error {
                        smmu_qemu::QemuError::Config(error) => {
                            NoMachine::Impossible(error.to_string())
                        }
                        error => unavailable(&error),
                    })?;
                let link = Link::socket(socket).map_err(|error| unavailable(&error))?;
                let manners = (Greeting::Wait, Flow::Controlled);
                let mut running = self.greeted(link, Some(guest), manners)?;
                (running.smmus, running.streams) = (smmus, streams);
                Ok(running)
            }
        }
    }

    fn greeted(
        &self,
        link: Link,
        guest: Option<Guest>,
        manners: (Greeting, Flow),
    ) -> Result<Running, NoMachine> {
        match Session::greet(link, manners, self.silence) {
            Ok(session) => Ok(Running { session, guest, smmus: 0, streams: Vec::new() }),
            Err(error) => Err(NoMachine::Silent(with_ending(error, guest.as_ref()))),
        }
    }

    fn covers(&self, running: &Running, scenario: &Scenario) -> bool {
        let Place::Qemu { machine, .. } = &self.place else { return true };
        let (smmus, _) = wanted(scenario, &[], machine.smmus);
        smmus <= running.smmus && finds(&running.streams, &own_streams(scenario, smmus))
    }

    fn report(&self, scenario: &Scenario, outcome: RunOutcome) -> RunReport {
        RunReport::new(scenario.name.clone(), self.kind.name().into(), outcome)
    }

    /// The report of a scenario for which there is no machine.
    fn without_machine(&self, scenario: &Scenario, why: NoMachine) -> RunReport {
        let outcome = match why {
            NoMachine::Impossible(why) => {
                let reason = format!("this backend cannot build the machine: {why}");
                RunOutcome::Skipped { reason }
            }
            NoMachine::Broken(why) => {
                RunOutcome::Broken(failure(scenario, LastStep::default(), why))
            }
            NoMachine::Silent((error, ending)) => {
                outcome(scenario, LastStep::default(), &error, &ending)
            }
        };
        self.report(scenario, outcome)
    }
}

/// Why there is no machine.
enum NoMachine {
    Impossible(String),
    Broken(String),
    Silent((SessionError, String)),
}

impl NoMachine {
    /// Why another try would fail too.
    fn is_final(&self) -> Option<String> {
        match self {
            NoMachine::Impossible(_) => None,
            NoMachine::Broken(why) => Some(why.clone()),
            NoMachine::Silent((error, ending)) => Some(format!("{error}{ending}")),
        }
    }
}

impl Runner for Board {
    fn name(&self) -> &'static str {
        self.kind.name()
    }

    fn describe(&self) -> String {
        match &self.state().running {
            Some(running) => running.session.banner.describe.clone(),
            None => "a program on a CPU beside the SMMU".into(),
        }
    }

    fn run(&self, scenario: &Scenario, options: RunOptions) -> RunReport {
        let state = &mut *self.state();
        let (slot, lost) = (&mut state.running, &mut state.lost);
        if let Some(why) = lost {
            let why = NoMachine::Broken(format!("not run: {why}"));
            return self.without_machine(scenario, why);
        }
        if slot.is_none() {
            match self.start(scenario, &[]) {
                Ok(running) => *slot = Some(running),
                Err(why) => {
                    *lost = why.is_final();
                    return self.without_machine(scenario, why);
                }
            }
        }
        let lacks = |running: &Running| -> Vec<&str> {
            let offers = &running.session.banner.offers;
            let needs = scenario.file.needs.iter().map(|need| need.name());
            needs.filter(|need| !offers.iter().any(|offer| offer == need)).collect()
        };
        let covered = slot.as_ref().is_some_and(|running| {
            // What no machine of this place offers needs no other machine.
            let only_smmus = lacks(running).iter().all(|need| *need == "several-smmus");
            !only_smmus || self.covers(running, scenario)
        });
        if !covered {
            let before = slot.take().map_or_else(Vec::new, |running| running.streams.clone());
            let started = self.start(scenario, &before).or_else(|why| match why {
                // Together they do not fit.
                NoMachine::Impossible(_) if !before.is_empty() => self.start(scenario, &[]),
                why => Err(why),
            });
            match started {
                Ok(running) => *slot = Some(running),
                Err(why) => {
                    *lost = why.is_final();
                    return self.without_machine(scenario, why);
                }
            }
        }
        let Some(running) = slot else {
            let why = NoMachine::Broken("the board does not run".into());
            return self.without_machine(scenario, why);
        };
        let lacking = lacks(running);
        if !lacking.is_empty() {
            let reason = format!("{} has no {}", self.kind.name(), lacking.join(", "));
            return self.report(scenario, RunOutcome::Skipped { reason });
        }
        match running.session.run(&scenario.name, &scenario.prepare(), options.sabotage) {
            Ok(mut report) => {
                // The target knows neither the file nor what this program calls the scenario.
                report.scenario.clone_from(&scenario.name);
                match &mut report.outcome {
                    RunOutcome::Failed(why)
                    | RunOutcome::TimedOut(why)
                    | RunOutcome::Broken(why) => {
                        why.file.clone_from(&scenario.path);
                    }
                    RunOutcome::Passed | RunOutcome::Skipped { .. } => {}
                }
                report
            }
            Err(error @ SessionError::Refused(_)) => {
                let why = failure(scenario, LastStep::default(), error.to_string());
                self.report(scenario, RunOutcome::Broken(why))
            }
            Err(error) => {
                let (error, ending) = with_ending(error, running.guest.as_ref());
                let step = running.session.last_step.clone();
                // What it says from now on belongs to no scenario.
                *slot = None;
                if let Place::Device(_) = self.place {
                    *lost = Some(format!("{error}; reset the board"));
                }
                self.report(scenario, outcome(scenario, step, &error, &ending))
            }
        }
    }
}

fn in_target(name: &str) -> PathBuf {
    guess_target_dir().unwrap_or_else(|| PathBuf::from("target")).join(name)
}

/// The SMMUs and the streams of a machine for a scenario: with the usual streams, and those of the
/// machine before, unless the image would then find the scenario's own elsewhere.
fn wanted(
    scenario: &Scenario,
    before: &[(usize, u32)],
    smmus: Option<usize>,
) -> (usize, Vec<(usize, u32)>) {
    let file = &scenario.file;
    let of_streams = before.iter().map(|(smmu, _)| smmu + 1).max().unwrap_or(1);
    let asked = file.smmus.len().max(of_streams);
    let smmus = smmus.unwrap_or(if asked > 1 { asked.max(3) } else { 1 });
    let own = own_streams(scenario, smmus);
    let together = |more: &[&[(usize, u32)]]| {
        let mut streams = [&own[..], &more.concat()].concat();
        streams.retain(|(smmu, _)| *smmu < smmus);
        streams.sort_unstable();
        streams.dedup();
        streams
    };
    let mut streams = together(&[&STREAMS, before]);
    for fewer in [&STREAMS[..], &[]] {
        if !finds(&streams, &own) {
            streams = together(&[fewer]);
        }
    }
    (smmus, streams)
}

/// The SMMU and the StreamID of each stream that a scenario names, on a machine of so many SMMUs.
fn own_streams(scenario: &Scenario, smmus: usize) -> Vec<(usize, u32)> {
    let file = &scenario.file;
    let index = |name: &str| file.smmus.iter().position(|smmu| smmu.name.get_ref() == name);
    let own = file.devices.iter().flat_map(|device| {
        let smmu = index(device.smmu.get_ref()).unwrap_or(0);
        let first = device.each().map(|(_, stream)| stream);
        first.chain(device.further()).map(move |stream| (smmu, stream.0)).collect::<Vec<_>>()
    });
    own.filter(|(smmu, _)| *smmu < smmus).collect()
}

/// Whether the image finds streams on a machine with `all`: it numbers the buses behind a further
/// SMMU one after the other.
fn finds(all: &[(usize, u32)], streams: &[(usize, u32)]) -> bool {
    let bus = |stream: u32| stream >> 8;
    streams.iter().all(|&(smmu, stream)| {
        let behind = all.iter().filter(|(other, _)| *other == smmu);
        let buses: BTreeSet<u32> = behind.map(|(_, stream)| bus(*stream)).collect();
        let numbered = buses.first().copied().unwrap_or_default()..;
        all.contains(&(smmu, stream))
            && (smmu == 0
                || buses.into_iter().zip(numbered).any(|(is, n)| is == n && n == bus(stream)))
    })
}

/// What went wrong, and how the program ended if it did.
fn with_ending(error: SessionError, guest: Option<&Guest>) -> (SessionError, String) {
    let limit = match error {
        SessionError::Closed | SessionError::Stopped(_) => Duration::from_secs(2),
        _ => Duration::ZERO,
    };
    let ending = guest.and_then(|guest| guest.ending(limit));
    let ending = ending.map_or_else(String::new, |(status, said)| match said.trim() {
        "" => format!("; it ended with {status}"),
        said => format!("; it ended with {status}, and said: {said}"),
    });
    (error, ending)
}

fn outcome(scenario: &Scenario, step: LastStep, error: &SessionError, ending: &str) -> RunOutcome {
    let why = failure(scenario, step, format!("{error}{ending}"));
    match error {
        SessionError::Silent { .. } => RunOutcome::TimedOut(why),
        // The driver, or the program around it, is wrong.
        SessionError::Stopped(_) => RunOutcome::Failed(why),
        _ => RunOutcome::Broken(why),
    }
}

fn failure(scenario: &Scenario, step: LastStep, happened: String) -> RunFailure {
    let LastStep { number, text } = step;
    let line = number.checked_sub(1).and_then(|at| scenario.lines.get(at)).copied();
    RunFailure {
        step: number,
        file: scenario.path.clone(),
        line: line.unwrap_or(1),
        text: text.unwrap_or_else(|| "set up".into()),
        expected: None,
        happened,
        hazards: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Buses 2, 3 and 9 behind SMMU 1 would be 2, 3 and 4.
    #[test]
    fn a_machine_keeps_no_stream_that_would_move_another() {
        let text = |second: u32, third: u32| {
            format!(
                "title = \"streams\"\nneeds = [\"several-smmus\"]\n\
                 smmu = [{{ name = \"a\" }}, {{ name = \"b\" }}]\n\
                 device = [{{ name = \"one\", smmu = \"b\", stream = {second} }}, \
                 {{ name = \"two\", smmu = \"b\", stream = {third} }}]\n\
                 step = [{{ attach = {{ device = \"one\", to = \"blocked\" }} }}]\n"
            )
        };
        let scenario = |second, third| {
            Scenario::parse("streams", "streams.toml", &text(second, third)).unwrap()
        };
        let (low, high) = (scenario(0x200, 0x300), scenario(0x900, 0xa00));
        let first_smmu = [(0, 0x8), (0, 0x10), (0, 0x18), (0, 0x28)];
        let (smmus, running) = wanted(&low, &[], None);
        assert_eq!(smmus, 3);
        let further = [(1, 0x200), (1, 0x300), (1, 0x900), (2, 0xd00)];
        assert_eq!(running, [&first_smmu[..], &further].concat());
        assert!(finds(&running, &own_streams(&low, 3)));
        assert!(!finds(&running, &own_streams(&high, 3)));
        // So the next machine has none of these.
        let (_, next) = wanted(&high, &running, None);
        let further = [(1, 0x900), (1, 0xa00), (2, 0xd00)];
        assert_eq!(next, [&first_smmu[..], &further].concat());
        // And one for which the usual streams are in the way has its own only.
        let (_, own) = wanted(&scenario(0x900, 0xb00), &running, None);
        assert_eq!(own, [(1, 0x900), (1, 0xb00)]);
    }
}
