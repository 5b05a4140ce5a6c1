//! Further CPUs, started by PSCI.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::mem;
use core::sync::atomic::{AtomicBool, Ordering};

use aarch64_rt::Stack;
use lock_api::Mutex;
use smccc::psci;
use smccc::{Hvc, Smc};

use super::irq_mutex::IrqMutex;
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
        work();
        cpu::halt();
    };
    // SAFETY: the stack is leaked, and used by the new CPU only.
    unsafe { start_core(affinity, number, stack, run) }
}

/// Starts a CPU on a stack. `run` does not return.
///
/// # Safety
///
/// The stack is mapped for every CPU, and nothing else uses it while the CPU is on.
unsafe fn start_core(
    affinity: u64,
    number: usize,
    stack: *mut Stack<STACK_PAGES>,
    run: impl FnOnce() + Send + 'static,
) -> Result<(), CpuError> {
    let run = move || {
        cpu::prepare_exception_level();
        cpu::set_number(number);
        run();
    };
    let started = match exit::conduit().ok_or(CpuError::NoPsci)? {
        // SAFETY: the caller's promise.
        Conduit::Hvc => unsafe {
            aarch64_rt::start_core::<Hvc, _, STACK_PAGES>(affinity, stack, run)
        },
        // SAFETY: the caller's promise.
        Conduit::Smc => unsafe {
            aarch64_rt::start_core::<Smc, _, STACK_PAGES>(affinity, stack, run)
        },
    };
    started.map_err(|error| CpuError::Refused { affinity, error })
}

/// Whether a CPU can be started.
#[must_use]
pub fn has_psci() -> bool {
    exit::conduit().is_some()
}

type Work<'c> = Box<dyn FnOnce() + Send + 'c>;

/// A CPU that runs one piece of work after the other, and is off in between.
pub struct OtherCpu {
    affinity: u64,
    number: usize,
    // Allocated once. The CPU that runs has it for itself.
    stack: *mut Stack<STACK_PAGES>,
    shared: Arc<Handover>,
}

/// What the CPU that starts another one, and that other one, both reach.
#[derive(Default)]
struct Handover {
    // What the CPU takes when it starts.
    work: Mutex<IrqMutex, Option<Work<'static>>>,
    done: AtomicBool,
}

// SAFETY: the stack belongs to this value and to the CPU that it starts, wherever the value goes.
unsafe impl Send for OtherCpu {}

impl OtherCpu {
    /// A CPU that is off. `number` is what [`cpu::number`] returns there.
    #[must_use]
    pub fn new(affinity: u64, number: usize) -> Self {
        let stack = Box::into_raw(Box::<Stack<STACK_PAGES>>::default());
        OtherCpu { affinity, number, stack, shared: Arc::default() }
    }

    /// Starts the CPU, which runs `work` with interrupts masked and turns itself off. A CPU that
    /// does not start gives the work back.
    ///
    /// # Safety
    ///
    /// What `work` borrows lives until [`wait_until_off`](Self::wait_until_off) has returned.
    pub unsafe fn start<'c>(&mut self, work: Work<'c>) -> Result<(), Work<'c>> {
        // SAFETY: only the lifetime changes, and the caller promises that nothing ends before.
        let lasting = unsafe { mem::transmute::<Work<'c>, Work<'static>>(work) };
        *self.shared.work.lock() = Some(lasting);
        self.shared.done.store(false, Ordering::Relaxed);
        let shared = Arc::clone(&self.shared);
        let run = move || {
            let taken = shared.work.lock().take();
            if let Some(taken) = taken {
                taken();
            }
            shared.done.store(true, Ordering::Release);
            drop(shared);
            let _ = match exit::conduit() {
                Some(Conduit::Hvc) => psci::cpu_off::<Hvc>(),
                Some(Conduit::Smc) => psci::cpu_off::<Smc>(),
                None => Ok(()),
            };
            cpu::halt();
        };
        // SAFETY: the CPU is off, so the stack is its own.
        match unsafe { start_core(self.affinity, self.number, self.stack, run) } {
            Ok(()) => Ok(()),
            Err(_) => self.shared.work.lock().take().map_or(Ok(()), Err),
        }
    }

    /// Waits until the CPU is off. Its stack and what its work borrowed are then free.
    pub fn wait_until_off(&self) {
        // PSCI may still call a CPU off that has been told to start, so its state alone says
        // nothing about the work.
        while !self.shared.done.load(Ordering::Acquire) {
            core::hint::spin_loop();
        }
        let is_off = |state| matches!(state, Ok(psci::AffinityState::Off));
        while !is_off(match exit::conduit() {
            Some(Conduit::Hvc) => {
                psci::affinity_info::<Hvc>(self.affinity, psci::LowestAffinityLevel::All)
            }
            Some(Conduit::Smc) => {
                psci::affinity_info::<Smc>(self.affinity, psci::LowestAffinityLevel::All)
            }
            None => return,
        }) {
            core::hint::spin_loop();
        }
    }
}
