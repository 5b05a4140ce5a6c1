//! What every backend's machine has in common: interrupts and the outcome of a DMA.

use std::fmt;

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
}

impl fmt::Display for Irq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Irq::EventQueue => "EVENTQ",
            Irq::PriQueue => "PRIQ",
            Irq::CmdSync => "CMD_SYNC",
            Irq::Gerror => "GERROR",
        })
    }
}

/// What became of one DMA write, as far as the device can tell.
///
/// Where the data went is for whoever looks at memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DmaOutcome {
    /// The write was carried out somewhere.
    Written,
    /// The SMMU refused it.
    Refused,
}
