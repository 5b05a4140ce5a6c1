//! What a machine must do: checks at the level of registers, queues, tables, caches, faults and
//! interrupts, past any driver.
//!
//! A [`Check`] programs a machine by hand, as at power-on, and says in words what it expected and what
//! it got. A [`Suite`] carries checks out on a [`Backend`]. What a machine is known
//! to do otherwise is a [`Deviation`], which must still show.

mod bench;
mod caches;
mod check;
mod configuration;
mod deviations;
mod ended;
mod event_queue;
mod faults;
mod interrupts;
mod invalidation;
mod kinds;
mod pages;
mod queues;
mod registers;
mod stage2;
mod tables;
mod traffic;
mod translation;

use smmu_engine::machine::{Backend, BackendError, Machine, Need};

use bench::{Bench, DEVICES, spec};
pub use check::{Check, Group, Requirement};
pub use deviations::{DEVIATIONS, Deviation};
use ended::{Stop, Wrong};
pub use kinds::{KINDS, Kind};

/// Writes of a device that wait at the end of a check, at most.
const MOST_WAITING: u32 = 64;

/// How a check ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The machine does what it must.
    Passed,
    /// It does something else.
    Failed {
        /// What it must do.
        expected: String,
        /// What it did.
        got: String,
    },
    /// The machine does not offer what the check needs.
    NotOffered(String),
    /// It does something else, as it is known to.
    Known {
        /// The entry of the list.
        deviation: &'static Deviation,
        /// What it must do.
        expected: String,
        /// What it did.
        got: String,
    },
    /// The machine does what it must, and an entry of the list says that it does not.
    Mended(&'static Deviation),
}

impl Outcome {
    /// Whether the check counts as failed: a deviation that no longer shows does, too.
    #[must_use]
    pub const fn is_failure(&self) -> bool {
        matches!(self, Outcome::Failed { .. } | Outcome::Mended(_))
    }
}

/// All checks, in the order in which they run.
pub fn checks() -> impl Iterator<Item = &'static Check> {
    let groups = [
        registers::CHECKS,
        queues::CHECKS,
        event_queue::CHECKS,
        translation::CHECKS,
        stage2::CHECKS,
        configuration::CHECKS,
        invalidation::CHECKS,
        caches::CHECKS,
        faults::CHECKS,
        interrupts::CHECKS,
    ];
    groups.into_iter().flatten()
}

/// Carries a check out on a fresh machine.
///
/// # Errors
///
/// The backend cannot build the machine, or it broke.
pub fn run(check: &Check, backend: &dyn Backend, kind: &Kind) -> Result<Outcome, BackendError> {
    Suite::new(backend, kind).run(check)
}

/// Carries checks out, each on a machine as at power-on. Where an SMMU can be reset, one machine serves
/// for many checks, because a start may take long.
pub struct Suite<'a> {
    backend: &'a dyn Backend,
    kind: &'a Kind,
    idle: Option<Box<dyn Machine>>,
}

impl<'a> Suite<'a> {
    /// A suite on the SMMUs of a backend.
    #[must_use]
    pub const fn new(backend: &'a dyn Backend, kind: &'a Kind) -> Self {
        Suite { backend, kind, idle: None }
    }

    /// Carries a check out.
    ///
    /// # Errors
    ///
    /// The backend cannot build the machine, or it broke.
    pub fn run(&mut self, check: &Check) -> Result<Outcome, BackendError> {
        if let Some(missing) = check.missing_need(self.backend) {
            return Ok(Outcome::NotOffered(missing));
        }
        let mut bench = Bench::new(self.machine(check.smmus())?, check.smmus())?;
        let outcome = self.outcome(check, &mut bench)?;
        // What a check has upset is gone with its machine.
        let resets = self.backend.offers(Need::Reset) && check.smmus() == 1;
        if resets && !outcome.is_failure() {
            self.idle = Some(bench.into_machine());
        }
        Ok(outcome)
    }

    /// A machine as at power-on.
    fn machine(&mut self, smmus: usize) -> Result<Box<dyn Machine>, BackendError> {
        let idle = if smmus == 1 { self.idle.take() } else { None };
        if let Some(machine) = idle.filter(|machine| machine.reset(0).is_ok()) {
            machine.take_interrupts();
            // A reset ends writes that waited.
            for device in 0..DEVICES.len() {
                let ended = |_: &u32| matches!(machine.ended_write(device), Ok(Some(_)));
                (0..MOST_WAITING).take_while(ended).count();
            }
            return Ok(machine);
        }
        self.backend.start(&spec(self.kind, smmus))
    }

    fn outcome(&self, check: &Check, bench: &mut Bench) -> Result<Outcome, BackendError> {
        if let Some(missing) = check.missing_feature(&bench.caps, self.backend) {
            return Ok(Outcome::NotOffered(missing));
        }
        let known = deviations::of(check, &self.backend.describe());
        let ended = check.carry_out(bench);
        // A machine that broke answers anything, so its own word comes first.
        bench.check()?;
        Ok(match (ended, known) {
            (Ok(()), None) => Outcome::Passed,
            (Ok(()), Some(deviation)) => Outcome::Mended(deviation),
            (Err(Stop::NotOffered(missing)), _) => Outcome::NotOffered(missing),
            (Err(Stop::Backend(error)), _) => return Err(error),
            (Err(Stop::Wrong(Wrong { expected, got })), Some(deviation))
                if got.contains(deviation.got) =>
            {
                Outcome::Known { deviation, expected, got }
            }
            (Err(Stop::Wrong(Wrong { expected, got })), _) => Outcome::Failed { expected, got },
        })
    }
}
