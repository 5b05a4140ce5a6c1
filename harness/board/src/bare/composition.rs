//! The seams of `smmu-driver` on a board: what an integrator copies.

use alloc::boxed::Box;
use core::ptr::NonNull;

use smmu_driver::smmu_invs::{CpuSlots, HazardCell, HazardSlots, InvArray};
use smmu_driver::{Driver, DriverError, Platform, QueueSlot, Queues, Setup, SmmuOptions};
use smmu_hw_mmio::{Coherency, Interrupts, VolatileRegisters};
use smmu_types::pool::{Pool, PoolBlock};

use super::cpu;
use super::irq_mutex::IrqMutex;
use super::start::Board;
use crate::machine::Machine;
use crate::page_tables::PageTables;
use crate::timer::GenericTimer;
use crate::window::RamWindow;

/// DMA memory of a board.
pub type Memory = Pool<RamWindow, IrqMutex>;
/// A block of it.
pub type MemoryBlock = PoolBlock<RamWindow, IrqMutex>;
/// Registers of an SMMU.
pub type SmmuRegisters = &'static VolatileRegisters;

/// CPUs with hazard slots of their own. Further ones share.
const MOST_CPUS: usize = 64;

/// The CPUs of this board, which read invalidation arrays without a lock.
#[derive(Debug)]
pub struct Cpus;

impl HazardSlots for Cpus {
    fn slots() -> &'static [CpuSlots] {
        static SLOTS: [CpuSlots; MOST_CPUS] = [const { CpuSlots::new() }; MOST_CPUS];
        &SLOTS
    }

    fn cpu() -> usize {
        cpu::number()
    }
}

/// The types of the seams.
#[derive(Debug)]
pub struct BoardPlatform;

impl Platform for BoardPlatform {
    type Registers = SmmuRegisters;
    type Dma = Memory;
    type Wait = GenericTimer;
    type Lock = IrqMutex;
    type SleepLock = IrqMutex;
    type Cell = HazardCell<Cpus, IrqMutex, InvArray>;
    type QueueCell =
        HazardCell<Cpus, IrqMutex, QueueSlot<SmmuRegisters, MemoryBlock, GenericTimer>>;
    type Sink = Queues<Self>;
    type Observer = ();
    type Tables = PageTables<MemoryBlock>;
}

/// The coherency of all SMMUs together: they share the window, the page tables and the domains.
///
/// [`Setup`] reads `IDR0.COHACC` of each SMMU; firmware's word comes before it.
#[must_use]
pub fn coherency(machine: &Machine<'_>) -> Coherency {
    let snoops = machine.smmus.iter().all(|smmu| smmu.coherency == Coherency::Coherent);
    if snoops { Coherency::Coherent } else { Coherency::NonCoherent }
}

/// The DMA memory of a board.
///
/// # Safety
///
/// The program calls it once.
#[must_use]
pub unsafe fn memory(board: &Board) -> Memory {
    // SAFETY: the start kept this RAM for DMA, mapped it as Normal memory, and gave it to nothing.
    Pool::with_lock(unsafe { RamWindow::new(board.dma_memory, coherency(&board.machine)) })
}

/// Starts every SMMU of the device tree, in its order. Afterwards each translates, and every stream
/// is blocked.
///
/// # Safety
///
/// The program calls it once.
///
/// # Errors
///
/// The driver cannot use an SMMU, or an SMMU does not start.
pub unsafe fn start(
    machine: &Machine<'_>,
    memory: Memory,
) -> Result<Driver<BoardPlatform>, DriverError> {
    let coherency = memory.window().coherency();
    let mut setup = Setup::<BoardPlatform>::new(memory, GenericTimer, ());
    for found in &machine.smmus {
        let base = NonNull::new(found.base.0 as *mut u8).unwrap_or(NonNull::dangling());
        // SAFETY: the device tree says that an SMMU is here; the memory map has its registers as
        // Device-nGnRE memory; only this driver uses them.
        let registers = Box::leak(Box::new(unsafe { VolatileRegisters::new(base) }));
        let mut options = SmmuOptions::default();
        options.coherency = Some(coherency);
        options.interrupts = Interrupts::Wired;
        setup.smmu(registers, options)?;
    }
    setup.start()
}
