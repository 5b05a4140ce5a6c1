//! The wired interrupts of an SMMU (IHI 0070, 3.18).

use core::fmt;

/// A wired interrupt of one SMMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Irq {
    /// The event queue is no longer empty.
    EventQueue,
    /// The PRI queue is no longer empty.
    PriQueue,
    /// A `CMD_SYNC` with `CS` = `SIG_IRQ` is complete.
    CmdSync,
    /// A bit of `GERROR` became active.
    Gerror,
    /// A second command queue has stopped with an error of its own.
    SecondQueue,
}

impl fmt::Display for Irq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Irq::EventQueue => "EVENTQ",
            Irq::PriQueue => "PRIQ",
            Irq::CmdSync => "CMD_SYNC",
            Irq::Gerror => "GERROR",
            Irq::SecondQueue => "VCMDQ",
        })
    }
}
