//! Interrupts by a GICv3: lines, and who handles them.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ptr::NonNull;

use arm_gic::gicv3::registers::{Gicd, GicrSgi};
use arm_gic::gicv3::{GicCpuInterface, GicError, GicV3, Group};
use arm_gic::{IntId, InterruptGroup, Trigger as GicTrigger, UniqueMmioPointer};
use lock_api::Mutex;
use smmu_hw_mmio::firmware::{Interrupt, Trigger};

use super::cpu;
use super::irq_mutex::IrqMutex;
use crate::machine::Gic as Registers;

const FIRST_SPI: u32 = 32;
const END_OF_SPIS: u32 = 1020;
/// In the middle: below 0x80 there is room for interrupts that matter more.
const PRIORITY: u8 = 0x80;
const REDISTRIBUTOR_BYTES: u64 = 0x2_0000;

/// What an interrupt calls. It runs with interrupts masked, on one CPU at a time.
pub type Handler = Arc<dyn Fn() + Send + Sync>;

static HANDLERS: Mutex<IrqMutex, Vec<(u32, Handler)>> = Mutex::new(Vec::new());

/// Why an interrupt cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InterruptError {
    /// The machine has no GICv3.
    #[error("the device tree has no GICv3")]
    NoGic,
    /// The GIC does not answer as a GICv3 does.
    #[error("GIC: {0}")]
    Gic(GicError),
    /// No redistributor belongs to this CPU.
    #[error("no redistributor of the GIC belongs to this CPU ({affinity:#x})")]
    NoRedistributor {
        /// The affinity bits of the CPU.
        affinity: u64,
    },
    /// The line is no SPI.
    #[error("INTID {intid} is no SPI")]
    NoSpi {
        /// The INTID.
        intid: u32,
    },
    /// The table does not tell the trigger.
    #[error("the trigger of INTID {intid} is unknown")]
    NoTrigger {
        /// The INTID.
        intid: u32,
    },
}

impl From<GicError> for InterruptError {
    fn from(error: GicError) -> Self {
        InterruptError::Gic(error)
    }
}

/// The GIC. Its lines go to the CPU that made it.
#[derive(Debug)]
pub struct Gic(GicV3<'static>);

impl Gic {
    /// Sets the GIC up, and unmasks interrupts on this CPU.
    ///
    /// # Safety
    ///
    /// The registers are those of a GICv3, mapped as Device memory for ever, and only this value
    /// uses them.
    ///
    /// # Errors
    ///
    /// The GIC is none that this program can use.
    pub unsafe fn new(gic: Option<Registers>, cpus: usize) -> Result<Self, InterruptError> {
        let Registers { distributor, redistributors } = gic.ok_or(InterruptError::NoGic)?;
        let distributor = NonNull::new(distributor.base as *mut Gicd);
        let first = NonNull::new(redistributors.base as *mut GicrSgi);
        let (distributor, first) = distributor.zip(first).ok_or(InterruptError::NoGic)?;
        // No more than the region has room for.
        let room = usize::try_from(redistributors.bytes / REDISTRIBUTOR_BYTES).unwrap_or(1);
        let count = cpus.clamp(1, room.max(1));
        // SAFETY: as the caller promises.
        let distributor = unsafe { UniqueMmioPointer::new(distributor) };
        // SAFETY: as the caller promises.
        let mut gic = unsafe { GicV3::new(distributor, first, count)? };
        let affinity = cpu::affinity();
        let mut own = None;
        for n in 0..count {
            if gic.gicr_typer(n)?.core_mpidr() == affinity {
                own = Some(n);
            }
        }
        gic.setup(own.ok_or(InterruptError::NoRedistributor { affinity })?);
        GicCpuInterface::set_priority_mask(0xff);
        cpu::unmask_interrupts();
        Ok(Gic(gic))
    }

    /// Lets an interrupt call `handler` on this CPU.
    ///
    /// # Errors
    ///
    /// The line cannot be used.
    pub fn connect(&mut self, line: Interrupt, handler: Handler) -> Result<(), InterruptError> {
        let Interrupt { intid, trigger } = line;
        if !(FIRST_SPI..END_OF_SPIS).contains(&intid) {
            return Err(InterruptError::NoSpi { intid });
        }
        let trigger = match trigger.ok_or(InterruptError::NoTrigger { intid })? {
            Trigger::Edge => GicTrigger::Edge,
            Trigger::Level => GicTrigger::Level,
        };
        let id = IntId::spi(intid - FIRST_SPI);
        HANDLERS.lock().push((intid, handler));
        self.0.set_interrupt_priority(id, None, PRIORITY)?;
        self.0.set_trigger(id, None, trigger)?;
        self.0.set_group(id, None, Group::Group1NS)?;
        self.0.distributor().set_routing(id, Some(cpu::affinity()))?;
        self.0.enable_interrupt(id, None, true)?;
        Ok(())
    }

    /// Disables every line, and drops the handlers. None runs after the call.
    pub fn disconnect_all(&mut self) {
        let handlers = core::mem::take(&mut *HANDLERS.lock());
        for (intid, _) in &handlers {
            // Accepted by `connect`.
            let _ = self.0.enable_interrupt(IntId::spi(intid - FIRST_SPI), None, false);
        }
    }
}

/// Calls the handlers of all pending interrupts.
pub(super) fn dispatch() {
    const GROUP: InterruptGroup = InterruptGroup::Group1;
    while let Some(id) = GicCpuInterface::get_and_acknowledge_interrupt(GROUP) {
        let handlers = HANDLERS.lock();
        for (intid, handler) in handlers.iter() {
            if *intid == id.raw_value() {
                handler();
            }
        }
        drop(handlers);
        GicCpuInterface::end_interrupt(id, GROUP);
    }
}
