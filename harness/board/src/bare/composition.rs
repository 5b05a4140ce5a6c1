//! The seams of `smmu-driver` on a board: what an integrator copies.

use alloc::boxed::Box;
use core::ptr::NonNull;

use smmu_driver::smmu_invs::{CpuSlots, HazardSlots};
use smmu_driver::{Driver, DriverError, HazardParts, Setup, SmmuOptions};
use smmu_hw_mmio::firmware::FirmwareSmmu;
use smmu_hw_mmio::{Coherency, Interrupts, VolatileRegisters, probe};
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

/// The types of the seams. An unmap takes no lock.
pub type BoardPlatform =
    HazardParts<SmmuRegisters, Memory, GenericTimer, IrqMutex, Cpus, PageTables<MemoryBlock>>;

/// The registers of an SMMU of the device tree.
///
/// # Safety
///
/// The memory map has them as Device-nGnRE memory, and only the driver uses them.
unsafe fn registers(found: &FirmwareSmmu) -> VolatileRegisters {
    let base = NonNull::new(found.base.0 as *mut u8).unwrap_or(NonNull::dangling());
    // SAFETY: as the caller promises: the device tree says that an SMMU is here.
    unsafe { VolatileRegisters::new(base) }
}

/// The DMA memory of a board: coherent if firmware *and* `IDR0.COHACC` of every SMMU say so, because
/// the SMMUs share domains. Memory that is cleaned without need is only slower.
///
/// # Safety
///
/// The program calls it once.
#[must_use]
pub unsafe fn memory(board: &Board) -> Memory {
    let snoops = board.machine.smmus.iter().all(|found| {
        // SAFETY: the start mapped the registers; a probe only reads ID registers.
        let probed = probe(&unsafe { registers(found) });
        found.coherency == Coherency::Coherent && probed.is_ok_and(|smmu| smmu.caps.coherent)
    });
    let coherency = if snoops { Coherency::Coherent } else { Coherency::NonCoherent };
    // SAFETY: the start kept this RAM for DMA, mapped it as Normal memory, and gave it to nothing.
    Pool::with_lock(unsafe { RamWindow::new(board.dma_memory, coherency) })
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
        // SAFETY: the start mapped the registers, and this is called once.
        let registers = Box::leak(Box::new(unsafe { registers(found) }));
        let options = SmmuOptions {
            coherency: Some(coherency),
            interrupts: Interrupts::Wired,
            ..SmmuOptions::default()
        };
        setup.smmu(registers, options)?;
    }
    setup.start()
}
