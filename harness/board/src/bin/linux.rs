//! Drives SMMUs from user space of Linux, and runs scenarios that a host sends over standard input.
//!
//! Two processes: the second drives the SMMUs, the first waits for its end and makes everything as
//! before. So no accident of the driver keeps the registers from being restored. README.md has the
//! protocol and the requirements.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::ffi::{c_int, c_void};
use core::fmt;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;

use buddy_system_allocator::LockedHeap;
use linux_raw_sys::general::{SIGBUS, SIGTERM};
use smmu_board::devmem::arguments::{self, Arguments, HELP, Rehearsal};
use smmu_board::devmem::kernel_use::unused_smmu;
use smmu_board::devmem::known_smmus::{KnownSmmu, KnownSmmus, kernel_table};
use smmu_board::devmem::pci_functions::{self, PciFunction};
use smmu_board::devmem::saved_state::SavedState;
use smmu_board::devmem::system_files::SystemFiles;
use smmu_board::dma::Generator;
use smmu_board::dma::edu::Edu;
use smmu_board::dma::test_device::TestDevice;
use smmu_board::fault_heap::FaultHeap;
use smmu_board::linux::files::{Access, File, KernelFiles, Stream, print};
use smmu_board::linux::mapping::{HugePage, map};
use smmu_board::linux::pci_device::PciDevice;
use smmu_board::linux::process::{self, Ending, Fork, HeldSignals, Pid};
use smmu_board::linux::restore::{self, Restore, UsedSmmu};
use smmu_board::linux::terminal::RawTerminal;
use smmu_board::linux::threads::{self, Threads};
use smmu_board::linux_main;
use smmu_board::scenarios::backend::{BoardBackend, BoardDevice, MOST_SMMUS, Parts, Together};
use smmu_board::scenarios::serve::{HostLine, LineFault, serve};
use smmu_board::scenarios::silent::ToldByMemory;
use smmu_board::timer::GenericTimer;
use smmu_board::window::RamWindow;
use smmu_engine::machine::{Need, Ram};
use smmu_engine::run::{RunOptions, run};
use smmu_engine::scenario::{Expect, Scenario, ScenarioFile, SmmuSpec, Spanned, Step};
use smmu_hw_mmio::firmware::Stream as DmaStream;
use smmu_hw_mmio::{Coherency, VolatileRegisters, probe};
use smmu_types::SmmuId;
use smmu_types::pool::Window;
use smmu_types::seam::Wait;

linux_main!(main);

const HEAP_BYTES: usize = 32 << 20;
/// Memory for the structures of SMMUs and for DMA.
const DMA_BYTES: u64 = 32 << 20;
const WRONG_USAGE: u8 = 2;
const REFUSED: u8 = 3;
const PANIC: u8 = 101;
const SIGNAL: u8 = 128;

#[global_allocator]
static HEAP: FaultHeap<LockedHeap<32>> = FaultHeap(LockedHeap::empty());

/// Why the program does nothing, in words.
struct Refused(String);

impl<E: core::error::Error> From<E> for Refused {
    fn from(error: E) -> Self {
        Refused(error.to_string())
    }
}

macro_rules! tell {
    ($($line:tt)*) => { print(Stream::ERROR, format_args!($($line)*)) };
}

fn main(stack: *const usize) -> u8 {
    static mut ARENA: [u64; HEAP_BYTES / 8] = [0; HEAP_BYTES / 8];
    let arena = (&raw mut ARENA).addr();
    // SAFETY: nothing else uses the arena, and this is called once.
    unsafe { HEAP.lock().add_to_heap(arena, arena + HEAP_BYTES) };
    // SAFETY: the entry passes its stack pointer.
    let given = unsafe { smmu_board::linux::start::arguments(stack) };
    let arguments = match arguments::parse(given) {
        Ok(arguments) => arguments,
        Err(error) => {
            tell!("error: {error}");
            return WRONG_USAGE;
        }
    };
    if arguments.help {
        print(Stream::OUTPUT, format_args!("{}", HELP.trim_end()));
        return 0;
    }
    match own(&arguments) {
        Ok(status) => status,
        Err(Refused(why)) => {
            tell!("error: {why}");
            REFUSED
        }
    }
}

/// From the arguments to the end of both processes. Returns the exit status.
fn own(arguments: &Arguments) -> Result<u8, Refused> {
    let (kind, table) = match &arguments.table {
        Some((kind, path)) => {
            let read = KernelFiles.read(path);
            (*kind, read.map_err(|error| Refused(format!("{path}: {error}")))?)
        }
        None => kernel_table(&KernelFiles)?,
    };
    // The kernel's copy of a tree may end with zeroes.
    let known = KnownSmmus::read(kind.of(&table), &KernelFiles.text("/proc/cmdline"))?;
    if arguments.own.is_empty() {
        tell_plan(&known);
        return Ok(WRONG_USAGE);
    }
    if arguments.own.len() > MOST_SMMUS {
        return Err(Refused(format!("--own is given more than {MOST_SMMUS} times")));
    }
    let mut smmus = Vec::new();
    for base in &arguments.own {
        smmus.push(unused_smmu(*base, &known, &KernelFiles)?);
    }
    let devices = devices(&known, &smmus)?;
    let page = HugePage::take(DMA_BYTES)?;
    let restore = prepare(arguments, &smmus, &devices)?;
    let supervisor = process::own_id();
    let signals = process::hold_signals();
    match process::fork() {
        Ok(Fork::Parent(driver)) => Ok(supervise(driver, restore, &page)),
        Ok(Fork::Child) => {
            process::exit(drive(arguments, (smmus, devices), page, restore, (supervisor, signals)))
        }
        Err(error) => {
            let _ = restore.carry_out();
            Err(error.into())
        }
    }
}

/// Tells what `--own` would do with each SMMU.
fn tell_plan(known: &KnownSmmus<'_>) {
    for smmu in known.all() {
        let base = smmu.registers.base;
        match unused_smmu(base, known, &KernelFiles) {
            Ok(_) => tell!(
                "{smmu}: with --own {base:#x}, this program would turn translation on, block every \
                 DMA behind it but that of its own scenarios, and at the end make CR0 and GBPA as \
                 they were"
            ),
            Err(error) => tell!("{smmu}: refused: {error}"),
        }
    }
    if known.all().is_empty() {
        tell!("neither the firmware table nor the kernel's command line names an SMMUv3");
    }
    tell!("nothing was done: say which SMMU you own, with --own ADDRESS");
}

/// The test devices behind the SMMUs, each with its stream.
fn devices(
    known: &KnownSmmus<'_>,
    smmus: &[KnownSmmu],
) -> Result<Vec<(PciFunction, DmaStream)>, Refused> {
    let mut found = Vec::new();
    for function in pci_functions::all(&KernelFiles) {
        let usable = [TestDevice::ID, Edu::ID].contains(&function.vendor_device);
        if !usable || function.driver.is_some() || function.bar0_bytes == 0 {
            continue;
        }
        let Some((behind, id)) = known.stream_of(&function)? else { continue };
        let number = smmus.iter().position(|smmu| smmu == behind);
        if let Some(number) = number.and_then(|number| u16::try_from(number).ok()) {
            found.push((function, DmaStream { smmu: SmmuId(number), id }));
        }
    }
    Ok(found)
}

/// Maps the registers, saves them, and enables the devices. Nothing is changed if it fails.
fn prepare(
    arguments: &Arguments,
    smmus: &[KnownSmmu],
    devices: &[(PciFunction, DmaStream)],
) -> Result<&'static Restore, Refused> {
    // SAFETY: the handler ends the process, before it has changed a register.
    unsafe { process::on_signal(SIGBUS, no_registers) }?;
    let mut used = Vec::new();
    for smmu in smmus {
        let base = smmu.registers.base;
        let failed = |error| {
            Refused(format!("/dev/mem at {base:#x}: {error}; the kernel needs DEVMEM, and root"))
        };
        let file = File::open("/dev/mem", Access::Registers).map_err(failed)?;
        // SAFETY: the table names the registers of an SMMU, and the kernel does not use them.
        let at = unsafe { map(&file, base, VolatileRegisters::BYTES as u64) }.map_err(failed)?;
        // SAFETY: the mapping stays until the process ends. `O_SYNC` makes it Device memory. The
        // user owns the SMMU, and both processes use it one after the other.
        let registers: &_ = Box::leak(Box::new(unsafe { VolatileRegisters::new(at) }));
        let saved = SavedState::read(registers, arguments.if_enabled)
            .map_err(|error| Refused(format!("SMMU at {base:#x}: {error}")))?;
        used.push(UsedSmmu { base, registers, saved });
    }
    let mut opened: Vec<PciDevice> = Vec::new();
    for (function, _) in devices {
        match PciDevice::open(function) {
            Ok(device) => opened.push(device),
            Err(error) => {
                opened.iter().for_each(PciDevice::stop);
                return Err(error.into());
            }
        }
    }
    let terminal = RawTerminal::make(Stream::INPUT);
    Ok(Box::leak(Box::new(Restore { smmus: used, devices: opened, terminal })))
}

/// The first process: waits for the second, and makes everything as before.
fn supervise(driver: Pid, restore: &Restore, page: &HugePage) -> u8 {
    let (ending, by) = process::supervise(driver);
    let is_restored = restore.carry_out();
    if !page.is_in_place() {
        tell!("error: the kernel has moved the huge page; results are worth nothing");
    }
    let status = match (by, ending) {
        (Some(signal), _) => {
            say(
                format_args!("!! ended by signal {signal}; the registers are as before"),
                is_restored,
            );
            SIGNAL + signal
        }
        (None, Ending::Signal(signal)) => {
            say(
                format_args!("!! killed by signal {signal}; the registers are as before"),
                is_restored,
            );
            SIGNAL + signal
        }
        (None, Ending::Exit(status)) => status,
    };
    if is_restored && page.is_in_place() { status } else { REFUSED.max(status) }
}

/// Prints the last line for the host.
fn say(line: fmt::Arguments<'_>, is_restored: bool) {
    if is_restored {
        print(Stream::OUTPUT, line);
    } else {
        print(Stream::OUTPUT, format_args!("!! ended; the registers are NOT as before"));
    }
}

/// The second process: drives the SMMUs until the host ends the run.
fn drive(
    arguments: &Arguments,
    (smmus, devices): (Vec<KnownSmmu>, Vec<(PciFunction, DmaStream)>),
    page: HugePage,
    restore: &'static Restore,
    (supervisor, signals): (Pid, HeldSignals),
) -> u8 {
    restore.publish();
    // SAFETY: the handler ends the process; it uses registers and files that nothing else uses then.
    let ready = unsafe { process::on_signal(SIGTERM, supervisor_is_gone) }
        .and_then(|()| process::end_with(supervisor));
    signals.release();
    let served = ready.map_err(Refused::from).and_then(|()| {
        let mut notes = notes(&smmus);
        let backend = backend(&smmus, &devices, page, restore, &mut notes)?;
        match arguments.rehearsal {
            Some(rehearsal) => rehearse(&backend, rehearsal),
            None => serve(&backend, &notes, &mut Standard::new()),
        }
        Ok(())
    });
    match served {
        Ok(()) => 0,
        Err(Refused(why)) => {
            tell!("error: {why}\r");
            REFUSED
        }
    }
}

fn backend(
    smmus: &[KnownSmmu],
    devices: &[(PciFunction, DmaStream)],
    page: HugePage,
    restore: &'static Restore,
    notes: &mut Vec<String>,
) -> Result<BoardBackend, Refused> {
    // Firmware's word counts where there is one; `IDR0.COHACC` counts for all.
    let snoops = smmus.iter().all(|smmu| smmu.coherency != Some(Coherency::NonCoherent))
        && restore
            .smmus
            .iter()
            .all(|smmu| probe(smmu.registers).is_ok_and(|smmu| smmu.caps.coherent));
    let coherency = if snoops { Coherency::Coherent } else { Coherency::NonCoherent };
    // SAFETY: the page is RAM of this process, mapped as such until its end, held where it is, and
    // used by this window only.
    let window = unsafe { RamWindow::mapped(page.region, page.at.as_ptr(), coherency) };
    let ram = Ram::new(window);
    let mut generators = Vec::new();
    for ((function, stream), device) in devices.iter().zip(&restore.devices) {
        device.start()?;
        let of_bar = device.function(function);
        let generator: Box<dyn Generator + Send> = if function.vendor_device == TestDevice::ID {
            // SAFETY: the BAR is mapped until the process ends, and only this value uses it. A
            // scenario maps pages of the window only.
            Box::new(unsafe { TestDevice::new(&of_bar, ram.base()) }?)
        } else {
            // SAFETY: as above.
            match ToldByMemory::load(unsafe { Edu::new(&of_bar) }?, ram.clone()) {
                Some(edu) => Box::new(edu),
                None => {
                    notes.push(format!(
                        "{function} does not reach {} without translation (its dma_mask has 28 \
                         bits, or GBPA aborts): no scenario uses it",
                        page.region
                    ));
                    continue;
                }
            }
        };
        generators.push(BoardDevice { stream: *stream, generator, rings: None });
    }
    let cpus = threads::cpus();
    let describe = format!(
        "a process of Linux, {cpus} CPUs, {} SMMUs, {} test devices, {} for DMA",
        smmus.len(),
        generators.len(),
        page.region
    );
    // The pipe that holds the page stays open until the end.
    core::mem::forget(page);
    let together = (cpus > 1).then(|| Box::new(Threads(cpus)) as Box<dyn Together>);
    let parts = Parts {
        name: "devmem",
        describe,
        smmus: restore.smmus.iter().map(|smmu| smmu.registers).collect(),
        devices: generators,
        ram,
        interrupts: None,
        cpu_number: threads::number,
        together,
        step_begins,
    };
    BoardBackend::new(parts).map_err(|(n, error)| {
        let base = restore.smmus.get(n).map_or(0, |smmu| smmu.base);
        Refused(format!("SMMU at {base:#x}: {error}"))
    })
}

fn notes(smmus: &[KnownSmmu]) -> Vec<String> {
    let mut notes = Vec::new();
    notes.push("a process sees no interrupts: it polls".into());
    for (n, smmu) in smmus.iter().enumerate() {
        notes.push(format!("SMMU {n}: {smmu}"));
    }
    notes
}

/// The step at which a rehearsal ends, and how; 0 without a rehearsal.
static LAST_STEP: AtomicUsize = AtomicUsize::new(0);
static ACCIDENT: AtomicUsize = AtomicUsize::new(0);

/// Turns translation on, and ends by an accident.
fn rehearse(backend: &BoardBackend, rehearsal: Rehearsal) {
    let smmu = Spanned::of("smmu0".to_string());
    let expect = Expect { smmu: smmu.clone(), asids_in_use: Some(0), ..Expect::default() };
    let file = ScenarioFile {
        title: "Translation is on, and every stream is blocked".to_string(),
        needs: vec![Need::Stage1],
        smmus: vec![SmmuSpec { name: smmu, ..SmmuSpec::default() }],
        steps: vec![Spanned::of(Step::Expect(expect))],
        ..ScenarioFile::default()
    };
    ACCIDENT.store(rehearsal as usize, Ordering::Relaxed);
    LAST_STEP.store(1, Ordering::Relaxed);
    match Scenario::new("rehearsal", file) {
        Ok(scenario) => {
            let report = run(&scenario, backend, RunOptions { sabotage: None });
            // Not reached if translation went on.
            tell!("error: the rehearsal ended early: {:?}\r", report.outcome);
        }
        Err(error) => tell!("error: {error}\r"),
    }
}

#[expect(clippy::panic, reason = "the user asks for one")]
fn step_begins(number: usize, text: &str) {
    print(Stream::OUTPUT, format_args!("# step {number} {text}"));
    let last = LAST_STEP.load(Ordering::Relaxed);
    if last == 0 || number < last {
        return;
    }
    print(Stream::OUTPUT, format_args!("# translation is on"));
    match ACCIDENT.load(Ordering::Relaxed) {
        n if n == Rehearsal::Panic as usize => panic!("a rehearsal"),
        n if n == Rehearsal::Fault as usize => process::fault(),
        _ => process::wait_for_ever(),
    }
}

/// Standard input and output, as a line to a host.
struct Standard {
    buffer: [u8; 4096],
    from: usize,
    to: usize,
}

impl Standard {
    const fn new() -> Self {
        Standard { buffer: [0; 4096], from: 0, to: 0 }
    }
}

impl HostLine for Standard {
    fn read(&mut self) -> Result<Option<u8>, LineFault> {
        const WAIT_MS: u32 = 20;
        if self.from == self.to {
            if !process::has_data(Stream::INPUT, WAIT_MS) {
                return Ok(None);
            }
            self.from = 0;
            self.to = match Stream::INPUT.read(&mut self.buffer) {
                Ok(0) | Err(_) => return Err(LineFault::Closed),
                Ok(read) => read,
            };
        }
        let byte = self.buffer.get(self.from).copied();
        self.from += 1;
        Ok(byte)
    }

    fn print(&mut self, line: fmt::Arguments<'_>) {
        print(Stream::OUTPUT, line);
    }

    fn now(&self) -> Duration {
        GenericTimer.now()
    }
}

/// No device answers at the address of the registers.
unsafe extern "C" fn no_registers(_: c_int, _: *mut c_void, _: *mut c_void) {
    tell!("error: nothing answers at the address of the registers (SIGBUS); the table is wrong");
    let _ = restore::now();
    process::exit(REFUSED)
}

/// The first process was killed, so this one makes everything as before.
unsafe extern "C" fn supervisor_is_gone(_: c_int, _: *mut c_void, _: *mut c_void) {
    let _ = restore::now();
    process::exit(SIGNAL + SIGTERM as u8)
}

/// The first process restores everything, so nothing is to do but to tell.
#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    match info.location() {
        Some(at) => print(
            Stream::OUTPUT,
            format_args!("!! panic: {} at {}:{}", info.message(), at.file(), at.line()),
        ),
        None => print(Stream::OUTPUT, format_args!("!! panic: {}", info.message())),
    }
    process::exit(PANIC)
}
