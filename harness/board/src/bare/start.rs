//! From the entry to the program's `main`: memory map, device tree, heap, console.

use alloc::ffi::CString;
use alloc::format;
use alloc::vec::Vec;
use core::fmt;
use core::ptr::NonNull;
use core::slice;

use arm_pl011_uart::PL011Registers;
use buddy_system_allocator::LockedHeap;
use smmu_hw_mmio::firmware::fdt::MAX_BYTES;

use super::memory_map::{self, MapError, Use};
use super::{console, cpu, exit, report};
use crate::machine::{Machine, MachineError, Region};
use crate::say;

/// The heap of the program: first the arena, later RAM.
#[cfg(not(feature = "scenarios"))]
#[global_allocator]
static HEAP: LockedHeap<40> = LockedHeap::empty();
/// The same, with failures that a scenario asks for.
#[cfg(feature = "scenarios")]
#[global_allocator]
static HEAP: crate::fault_heap::FaultHeap<LockedHeap<40>> =
    crate::fault_heap::FaultHeap(LockedHeap::empty());

/// Memory for the device tree's lists, before the program knows where RAM is free.
const ARENA_BYTES: usize = 256 << 10;
/// RAM that the program keeps for structures of SMMUs and for DMA.
const DMA_BYTES: u64 = 32 << 20;

/// A machine on which the program runs.
#[derive(Debug)]
pub struct Board {
    /// What the device tree says.
    pub machine: Machine<'static>,
    /// RAM for structures of SMMUs and for DMA, which nothing else uses.
    pub dma_memory: Region,
}

/// Why the program cannot run on this machine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// There is no device tree where the boot loader says.
    #[error("no device tree at {at:#x}; start the image by a boot loader that passes one in x0")]
    NoDeviceTree {
        /// The address in `x0`, or the start of RAM if that was 0.
        at: u64,
    },
    /// The device tree is longer than this program reads.
    #[error("the device tree at {at:#x} has {total:#x} bytes; this program reads {MAX_BYTES:#x}")]
    LongDeviceTree {
        /// Its address.
        at: u64,
        /// Its length.
        total: u32,
    },
    /// The device tree does not describe a machine that this program can use.
    #[error("{0}")]
    Machine(#[from] MachineError),
    /// The memory map has no room for a part of the machine.
    #[error("{what}: {error}")]
    Map {
        /// The part.
        what: &'static str,
        /// Why.
        error: MapError,
    },
    /// No free part of RAM is large enough.
    #[error("the largest free part of RAM has {largest:#x} bytes; this program needs {need:#x}")]
    LittleMemory {
        /// Bytes of the largest free part.
        largest: u64,
        /// Bytes that are needed.
        need: u64,
    },
}

/// Where the image lies, with its zeroed memory and the stack of the first CPU.
#[must_use]
pub fn image() -> Region {
    let (from, to) = (&raw const smmu_board_image, &raw const dma_region);
    let base = from.addr() as u64;
    Region { base, bytes: (to.addr() as u64).saturating_sub(base) }
}

/// Bytes of the image that a boot loader copies.
#[must_use]
pub fn loaded_bytes() -> u64 {
    (&raw const bin_end).addr() as u64 - image().base
}

unsafe extern "C" {
    static smmu_board_image: u8;
    static bin_end: u8;
    static dma_region: u8;
}

/// Runs a program: what [`bare_main!`](crate::bare_main) calls on the first CPU.
pub fn run<E: fmt::Display>(device_tree: u64, main: fn(Board) -> Result<(), E>) -> ! {
    cpu::prepare_exception_level();
    match start(device_tree).map(main) {
        Ok(Ok(())) => {
            say!("PASS");
            exit::exit(0)
        }
        Ok(Err(error)) => say!("FAIL: {error}; step \"{}\"", report::last_step()),
        Err(error) => {
            if !console::is_ready() {
                let line = format!("FAIL: {error}; step \"{}\"\n", report::last_step());
                exit::write_by_semihosting(&CString::new(line).unwrap_or_default());
            }
            say!("FAIL: {error}; step \"{}\"", report::last_step());
        }
    }
    exit::exit(1)
}

fn start(device_tree: u64) -> Result<Board, StartError> {
    static mut ARENA: [u8; ARENA_BYTES] = [0; ARENA_BYTES];
    let arena = (&raw mut ARENA).addr();
    // SAFETY: nothing else uses the arena, and this is called once.
    unsafe { HEAP.lock().add_to_heap(arena, arena + ARENA_BYTES) };

    let (blob, at) = tree(device_tree)?;
    let machine = Machine::read(blob, at)?;
    exit::set_conduit(machine.psci);
    let failed = |what| move |error| StartError::Map { what, error };
    // RAM first: registers never turn a block of RAM into Device memory.
    for memory in &machine.memory {
        memory_map::map(*memory, Use::Memory).map_err(failed("RAM"))?;
    }
    if let Some(uart) = machine.uart {
        memory_map::map(uart, Use::Registers).map_err(failed("UART"))?;
        if let Some(base) = NonNull::new(uart.base as *mut PL011Registers) {
            // SAFETY: the device tree says that a PL011 is here, the map has it as Device memory,
            // and the console is made once.
            unsafe { console::init(base) };
        }
    }
    for (what, registers) in machine.registers() {
        memory_map::map(registers, Use::Registers).map_err(failed(what))?;
    }
    let dma_memory = take_memory(&machine)?;
    let number = machine.cpus.iter().position(|cpu| *cpu == cpu::affinity());
    cpu::set_number(number.unwrap_or(0));
    Ok(Board { machine, dma_memory })
}

/// The device tree that the boot loader passed, and its address.
fn tree(passed: u64) -> Result<(&'static [u8], u64), StartError> {
    // QEMU passes none to an ELF file, and puts it at the start of RAM.
    const IMAGE_OFFSET: u64 = 0x20_0000;
    let at = if passed == 0 { image().base.saturating_sub(IMAGE_OFFSET) } else { passed };
    let none = StartError::NoDeviceTree { at };
    if !at.is_multiple_of(8) {
        return Err(none);
    }
    let header = Region::new(at, 8).ok_or(none.clone())?;
    let map = |region| memory_map::map(region, Use::Memory);
    map(header).map_err(|error| StartError::Map { what: "device tree", error })?;
    // SAFETY: the boot loader promises a device tree in RAM here, which the map has now.
    let word = |offset: u64| unsafe { ((at + offset) as *const u32).read_volatile() };
    let (magic, total) = (u32::from_be(word(0)), u32::from_be(word(4)));
    if magic != 0xd00d_feed {
        return Err(none);
    }
    if total as usize > MAX_BYTES {
        return Err(StartError::LongDeviceTree { at, total });
    }
    let blob = Region::new(at, total.into()).ok_or(none)?;
    map(blob).map_err(|error| StartError::Map { what: "device tree", error })?;
    // SAFETY: the whole blob is mapped. Its memory stays reserved, so nothing writes it.
    Ok((unsafe { slice::from_raw_parts(at as *const u8, total as usize) }, at))
}

/// Gives free RAM to the heap, except for what is kept for DMA.
fn take_memory(machine: &Machine<'_>) -> Result<Region, StartError> {
    let mut free: Vec<Region> = machine.free_memory(&[image()]);
    let largest = (0..free.len()).max_by_key(|n| free[*n].bytes);
    let largest = largest.map_or(Region { base: 0, bytes: 0 }, |n| free.swap_remove(n));
    let need = DMA_BYTES * 2;
    if largest.bytes < need {
        return Err(StartError::LittleMemory { largest: largest.bytes, need });
    }
    let base = (largest.end() - DMA_BYTES) / DMA_BYTES * DMA_BYTES;
    let dma = Region { base, bytes: DMA_BYTES };
    for part in free.into_iter().chain(largest.without(dma)) {
        // SAFETY: the tree says that this is RAM which nothing has reserved; it is mapped, it is
        // neither the image nor the DMA memory, and no part is given twice.
        unsafe { HEAP.lock().add_to_heap(part.base as usize, part.end() as usize) };
    }
    Ok(dma)
}
