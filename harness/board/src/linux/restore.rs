//! What must be as before when the process ends, however it ends.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicPtr, Ordering};

use smmu_hw_mmio::VolatileRegisters;

use super::files::{Stream, print};
use super::pci_device::PciDevice;
use super::terminal::RawTerminal;
use crate::devmem::saved_state::SavedState;
use crate::timer::GenericTimer;

/// An SMMU and its registers before.
#[derive(Debug)]
pub struct UsedSmmu {
    /// The address of its registers.
    pub base: u64,
    /// The registers.
    pub registers: &'static VolatileRegisters,
    /// What they were.
    pub saved: SavedState,
}

/// What must be as before.
#[derive(Debug)]
pub struct Restore {
    /// The SMMUs.
    pub smmus: Vec<UsedSmmu>,
    /// The PCI functions.
    pub devices: Vec<PciDevice>,
    /// The terminal on standard input.
    pub terminal: Option<RawTerminal>,
}

impl Restore {
    /// Restores everything: first no device does DMA any more, then the SMMUs. Allocates nothing and
    /// takes no lock. Returns whether all registers are as before.
    pub fn carry_out(&self) -> bool {
        self.devices.iter().for_each(PciDevice::stop);
        for smmu in &self.smmus {
            // What it did not take is found below.
            let _ = smmu.saved.restore(smmu.registers, &GenericTimer);
        }
        // On a raw terminal, lines would be stairs.
        self.terminal.iter().for_each(RawTerminal::restore);
        let mut all = true;
        for UsedSmmu { base, registers, saved } in &self.smmus {
            match saved.check(*registers) {
                Ok(()) => {
                    let SavedState { cr0, gbpa, .. } = saved;
                    let line =
                        format_args!("SMMU {base:#x} is as before: CR0={cr0:#x} GBPA={gbpa:#x}");
                    print(Stream::ERROR, line);
                }
                Err(error) => {
                    all = false;
                    print(Stream::ERROR, format_args!("SMMU {base:#x}: {error}"));
                }
            }
        }
        all
    }

    /// Lets [`now`] find this.
    pub fn publish(&'static self) {
        PUBLISHED.store(core::ptr::from_ref(self).cast_mut(), Ordering::Release);
    }
}

static PUBLISHED: AtomicPtr<Restore> = AtomicPtr::new(core::ptr::null_mut());

/// Restores what was published, in a signal handler. Returns whether all registers are as before.
pub fn now() -> bool {
    let published = PUBLISHED.load(Ordering::Acquire);
    // SAFETY: null, or a reference that lives for ever.
    unsafe { published.as_ref() }.is_none_or(Restore::carry_out)
}
