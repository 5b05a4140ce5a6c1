//! Callers that run at the same time, each on a CPU of its own as far as there are so many.
//!
//! A CPU is started for a caller and turned off after it, so no CPU waits in a loop for work.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::bare::cpus::{self, OtherCpu};
use crate::scenarios::backend::Together;

/// The CPUs of a board beside the one that runs the program.
pub struct OtherCpus(spin::Mutex<Vec<OtherCpu>>);

impl OtherCpus {
    /// The CPUs with these affinities, without the CPU that calls. Each has its place in the list
    /// as its number.
    #[must_use]
    pub fn new(affinities: &[u64]) -> Self {
        let own = super::cpu::affinity();
        let others = affinities.iter().enumerate().filter(|(_, affinity)| **affinity != own);
        OtherCpus(spin::Mutex::new(
            others.map(|(number, affinity)| OtherCpu::new(*affinity, number)).collect(),
        ))
    }
}

impl Together for OtherCpus {
    fn cpus(&self) -> usize {
        self.0.lock().len() + 1
    }

    /// A caller that gets no CPU runs on this one, in the order of the list, after the first.
    fn run<'c>(&self, mut callers: Vec<Box<dyn FnOnce() + Send + 'c>>) {
        let mut others = self.0.lock();
        let mut running = Vec::new();
        for other in others.iter_mut() {
            if callers.len() < 2 {
                break;
            }
            let Some(caller) = callers.pop() else { break };
            // SAFETY: this call waits below until the CPU is off, so what the caller borrows
            // outlives the caller. Nothing unwinds: a panic ends the program.
            match unsafe { other.start(caller) } {
                Ok(()) => running.push(other),
                Err(caller) => {
                    callers.push(caller);
                    break;
                }
            }
        }
        for caller in callers {
            caller();
        }
        for other in running {
            other.wait_until_off();
        }
    }
}

/// Whether this board can start a CPU at all.
#[must_use]
pub fn is_possible(affinities: &[u64]) -> bool {
    affinities.len() > 1 && cpus::has_psci()
}
