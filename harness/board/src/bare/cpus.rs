//! Further CPUs, started by PSCI.

use alloc::boxed::Box;

use aarch64_rt::Stack;
use smccc::psci;
use smccc::{Hvc, Smc};

use super::{cpu, exit};
use crate::machine::Conduit;

const STACK_PAGES: usize = 16;

/// Why a CPU does not start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CpuError {
    /// The device tree does not tell how to call PSCI.
    #[error("the device tree has no PSCI, so no further CPU can be started")]
    NoPsci,
    /// PSCI refuses.
    #[error("PSCI does not start the CPU with affinity {affinity:#x}: {error}")]
    Refused {
        /// The CPU.
        affinity: u64,
        /// Why.
        error: psci::Error,
    },
}

/// Starts a CPU, which runs `work` and then stops. `number` is what [`cpu::number`] returns there.
///
/// The CPU runs with interrupts masked.
///
/// # Errors
///
/// The CPU cannot be started, or runs already.
pub fn start(
    affinity: u64,
    number: usize,
    work: impl FnOnce() + Send + 'static,
) -> Result<(), CpuError> {
    let stack = Box::into_raw(Box::<Stack<STACK_PAGES>>::default());
    let work = Box::new(work);
    let run = move || {
        cpu::prepare_exception_level();
        cpu::set_number(number);
        work();
        cpu::halt();
    };
    let started = match exit::conduit().ok_or(CpuError::NoPsci)? {
        // SAFETY: the stack is leaked, mapped for every CPU, and used by the new one only.
        Conduit::Hvc => unsafe {
            aarch64_rt::start_core::<Hvc, _, STACK_PAGES>(affinity, stack, run)
        },
        // SAFETY: as above.
        Conduit::Smc => unsafe {
            aarch64_rt::start_core::<Smc, _, STACK_PAGES>(affinity, stack, run)
        },
    };
    started.map_err(|error| CpuError::Refused { affinity, error })
}
