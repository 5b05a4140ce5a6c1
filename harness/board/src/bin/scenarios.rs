//! Runs the harness's scenarios on a CPU beside an SMMU, as a host sends them over the UART.
//!
//! It needs an `iommu-testdev`, an `edu` or an NVMe controller for each stream of a scenario.
//! README.md has the protocol.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::ptr::NonNull;
use core::time::Duration;

use smmu_board::bare::composition::{Memory, MemoryBlock};
use smmu_board::bare::failure::Failure;
use smmu_board::bare::gic::Gic;
use smmu_board::bare::memory_map::{self, Use};
use smmu_board::bare::report::step;
use smmu_board::bare::together::{OtherCpus, is_possible};
use smmu_board::bare::{Board, console, cpu, loaded_bytes};
use smmu_board::dma::Generator;
use smmu_board::dma::edu::Edu;
use smmu_board::dma::io_space::InPlace;
use smmu_board::dma::nvme::Nvme;
use smmu_board::dma::test_device::TestDevice;
use smmu_board::machine::{Machine, Region};
use smmu_board::pci::{self, Function};
use smmu_board::scenarios::backend::{
    BoardBackend, BoardDevice, InterruptCounts, MOST_SMMUS, Parts, Together,
};
use smmu_board::scenarios::further_smmus::{Further, further_smmus};
use smmu_board::scenarios::serve::{HostLine, LineFault, serve};
use smmu_board::scenarios::silent::ToldByMemory;
use smmu_board::timer::GenericTimer;
use smmu_board::window::RamWindow;
use smmu_board::{bare_main, say};
use smmu_engine::machine::Ram;
use smmu_hw_mmio::firmware::{Interrupt, RequestId, Stream};
use smmu_hw_mmio::{Coherency, VolatileRegisters, probe};
use smmu_types::pool::{Pool, Window};
use smmu_types::seam::Wait;
use smmu_types::{Irq, SmmuId, StreamId};

bare_main!(scenarios);

/// Memory for the rings of devices: 4 pages for each NVMe controller.
const RING_BYTES: u64 = 128 << 10;

static INTERRUPTS: InterruptCounts = InterruptCounts::new();

fn scenarios(board: Board) -> Result<(), Failure> {
    step(&"find the SMMUs");
    let further = further_smmus(board.machine.command_line)?;
    let Board { machine, dma_memory } = board;
    let rings = Region { base: dma_memory.base, bytes: RING_BYTES.min(dma_memory.bytes / 2) };
    let dma_memory = Region { base: rings.end(), bytes: dma_memory.bytes - rings.bytes };
    let mut notes = Vec::new();
    let smmus = find_smmus(&machine, &further, &mut notes)?;
    if smmus.is_empty() {
        return Err(Failure("neither the device tree nor the command line has an SMMU".into()));
    }
    // Firmware's word counts where there is one; `IDR0.COHACC` counts for all.
    let snoops = machine.smmus.iter().all(|found| found.coherency == Coherency::Coherent)
        && smmus.iter().all(|smmu| probe(smmu.registers).is_ok_and(|probed| probed.caps.coherent));
    let coherency = if snoops { Coherency::Coherent } else { Coherency::NonCoherent };
    // SAFETY: the start kept this RAM for DMA, mapped it as Normal memory, and gave it to nothing.
    let window = unsafe { RamWindow::new(dma_memory, coherency) };
    let ram = Ram::new(window);
    // SAFETY: as above. The two regions do not overlap.
    let window = unsafe { RamWindow::new(rings, coherency) };
    let ring_memory: Memory = Pool::with_lock(window);

    step(&"enumerate PCI");
    let mut devices = Vec::new();
    if let Some(bridge) = machine.host_bridges.first() {
        // SAFETY: the memory map has the ECAM, and no driver uses a function yet.
        for function in unsafe { pci::enumerate(&machine, bridge) }? {
            let Some(stream) = stream_of(&machine, &further, &function) else { continue };
            if let Some(generator) = generator(&function, &ram, &mut notes)? {
                devices.push(BoardDevice { stream, generator, rings: None });
            } else if function.class == Nvme::<MemoryBlock>::CLASS {
                match nvme(&function, &ring_memory, &ram) {
                    Ok(generator) => {
                        devices.push(BoardDevice { stream, generator, rings: Some(rings) });
                    }
                    Err(why) => notes.push(format!("{function}: {why}: no scenario uses it")),
                }
            }
        }
    }
    if devices.is_empty() {
        notes.push(
            "no iommu-testdev, edu or NVMe controller is behind an SMMU: scenarios with a device are \
             skipped"
                .into(),
        );
    }

    step(&"connect the interrupts");
    // SAFETY: the memory map has the GIC's registers, and only this value uses them.
    let mut gic = unsafe { Gic::new(machine.gic, machine.cpus.len()) }?;
    let mut sees_all = smmus.len() <= MOST_SMMUS;
    for (n, smmu) in smmus.iter().enumerate() {
        for (line, irq) in [(smmu.eventq, Irq::EventQueue), (smmu.gerror, Irq::Gerror)] {
            match line {
                Some(line) => gic.connect(line, Arc::new(move || INTERRUPTS.count(n, irq)))?,
                None => sees_all = false,
            }
        }
    }
    if !sees_all {
        notes.push("an SMMU has no interrupt of its own for events or errors".into());
    }

    let describe = format!(
        "EL{}, {} CPUs, {} SMMUs, {} test devices, image of {} bytes, {dma_memory} for DMA",
        cpu::exception_level(),
        machine.cpus.len(),
        smmus.len(),
        devices.len(),
        loaded_bytes()
    );
    let parts = Parts {
        name: "board",
        describe,
        smmus: smmus.iter().map(|smmu| smmu.registers).collect(),
        devices,
        ram,
        interrupts: sees_all.then_some(&INTERRUPTS),
        cpu_number: cpu::number,
        together: is_possible(&machine.cpus)
            .then(|| Box::new(OtherCpus::new(&machine.cpus)) as Box<dyn Together>),
        step_begins: |number, text| say!("# step {number} {text}"),
    };
    let backend = BoardBackend::new(parts)
        .map_err(|(smmu, error)| Failure(format!("SMMU {smmu}: {error}")))?;
    step(&"serve a host");
    serve(&backend, &notes, &mut Console);
    gic.disconnect_all();
    Ok(())
}

/// The driver of a test device; `None` for another function.
fn generator(
    function: &Function,
    ram: &Ram,
    notes: &mut Vec<String>,
) -> Result<Option<Box<dyn Generator + Send>>, Failure> {
    match (function.vendor, function.device) {
        TestDevice::ID => {
            // SAFETY: the memory map has the BAR, and only this value uses it. A scenario maps pages
            // of the window only.
            Ok(Some(Box::new(unsafe { TestDevice::new(function, ram.base()) }?)))
        }
        Edu::ID => {
            // SAFETY: as above.
            let edu = unsafe { Edu::new(function) }?;
            let Some(edu) = ToldByMemory::load(edu, ram.clone()) else {
                notes.push(format!(
                    "{function} does not reach the RAM for DMA without translation (its dma_mask \
                     has 28 bits, or GBPA aborts): no scenario uses it"
                ));
                return Ok(None);
            };
            Ok(Some(Box::new(edu)))
        }
        _ => Ok(None),
    }
}

/// An NVMe controller: it is brought up, and tried, while no SMMU translates. Its rings stay where
/// they are, and each domain maps them.
fn nvme(
    function: &Function,
    memory: &Memory,
    ram: &Ram,
) -> Result<Box<dyn Generator + Send>, String> {
    // SAFETY: the memory map has the BAR, and only this value uses it. No SMMU translates yet.
    let nvme = unsafe { Nvme::new(function, memory, &InPlace) };
    let nvme = nvme.map_err(|error| error.to_string())?.of_one_block();
    match ToldByMemory::tried(nvme, ram.clone()) {
        Some(nvme) => Ok(Box::new(nvme)),
        None => Err("it does not reach the RAM for DMA without translation (GBPA aborts), or the \
                     first block of its namespace 1 begins with 4 bytes that are zero or occur in \
                     it again"
            .into()),
    }
}

/// An SMMU, and its interrupts.
struct FoundSmmu {
    registers: &'static VolatileRegisters,
    eventq: Option<Interrupt>,
    gerror: Option<Interrupt>,
}

/// The SMMUs of the device tree, in its order, then those of the command line.
fn find_smmus(
    machine: &Machine<'_>,
    further: &[Further],
    notes: &mut Vec<String>,
) -> Result<Vec<FoundSmmu>, Failure> {
    let of_tree = machine
        .smmus
        .iter()
        .map(|found| (found.base.0, found.interrupts.eventq, found.interrupts.gerror));
    let of_line = further.iter().map(|found| (found.base, Some(found.eventq), Some(found.gerror)));
    if !further.is_empty() {
        notes.push(format!(
            "{} SMMUs are those of the command line, not of the tree",
            further.len()
        ));
    }
    let mut smmus: Vec<FoundSmmu> = Vec::new();
    for (base, eventq, gerror) in of_tree.chain(of_line) {
        let region = Region { base, bytes: VolatileRegisters::BYTES as u64 };
        memory_map::map(region, Use::Registers)?;
        let base = NonNull::new(base as *mut u8).unwrap_or(NonNull::dangling());
        // SAFETY: the device tree or the command line says that an SMMU is here; the memory map has
        // its registers as Device-nGnRE memory; only this program's driver uses them.
        let registers = Box::leak(Box::new(unsafe { VolatileRegisters::new(base) }));
        smmus.push(FoundSmmu { registers, eventq, gerror });
    }
    Ok(smmus)
}

/// The stream of a function. The command line goes before the device tree, whose `iommu-map` may
/// give all IDs to the first SMMU.
fn stream_of(machine: &Machine<'_>, further: &[Further], function: &Function) -> Option<Stream> {
    let at = function.at;
    let id = u32::from(RequestId::new(at.bus, at.device, at.function)?);
    let of_line = further.iter().position(|smmu| smmu.ids.contains(&id));
    if let Some(n) = of_line {
        let smmu = u16::try_from(machine.smmus.len() + n).ok()?;
        return Some(Stream { smmu: SmmuId(smmu), id: StreamId(id) });
    }
    let Stream { smmu, id } = function.stream?;
    Some(Stream { smmu: machine.number_of(smmu)?, id })
}

/// The UART.
struct Console;

impl HostLine for Console {
    fn read(&mut self) -> Result<Option<u8>, LineFault> {
        console::read().map_err(|_| LineFault::Lost)
    }

    fn print(&mut self, line: fmt::Arguments<'_>) {
        console::print(line);
    }

    fn now(&self) -> Duration {
        GenericTimer.now()
    }
}
