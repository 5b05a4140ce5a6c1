//! How a waiter learns that a `CMD_SYNC` is complete.

use smmu_types::{Capabilities, MsiAttributes, Quirk, Quirks};

/// How a waiter learns that a `CMD_SYNC` is complete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SyncBy {
    /// The waiter reads `CMDQ_CONS` until it has passed the `CMD_SYNC`. Every SMMU supports this.
    #[default]
    Polling,
    /// As `Polling`; in addition, the SMMU sends an event, for which the waiter calls
    /// [`Wait::event`]. Needs `IDR0.SEV` = 1.
    ///
    /// [`Wait::event`]: smmu_types::seam::Wait::event
    Event,
    /// The SMMU writes the position of the `CMD_SYNC` to a word behind the ring, and waiters read
    /// that word instead of a register. Needs `IDR0.MSI` = 1 and coherent access of the SMMU to the
    /// block.
    ///
    /// A waiter also reads `CMDQ_CONS` at one look of 64. So a lost MSI costs time and nothing
    /// else.
    ///
    /// All `CMD_SYNC`s write to the same word, and never into the ring. `CMDQ_CONS` may pass a
    /// `CMD_SYNC` before its MSI is visible. Such a late MSI would overwrite the next command in
    /// that slot. In one word a late MSI is harmless: the MSIs of earlier `CMD_SYNC`s are visible,
    /// or given up, before a later `CMD_SYNC` is complete (IHI 0070, 4.7.3).
    Msi(MsiAttributes),
}

impl SyncBy {
    /// What an SMMU lacks that this way needs, `None` if nothing. With a way that the SMMU lacks,
    /// waits are slow or end with a timeout.
    ///
    /// Takes coherency from `caps.coherent`: what firmware says belongs there first
    /// (`Probe::with_coherency` of `smmu-hw-mmio`).
    #[must_use]
    pub fn lacks(self, caps: &Capabilities, quirks: Quirks) -> Option<&'static str> {
        match self {
            SyncBy::Polling => None,
            SyncBy::Event if !caps.sev => Some("events (IDR0.SEV)"),
            SyncBy::Event if quirks.contains(Quirk::NoSev) => Some("events (an erratum)"),
            SyncBy::Msi(_) if !caps.msi => Some("MSIs (IDR0.MSI)"),
            SyncBy::Msi(_) if !caps.coherent => Some("coherent access (IDR0.COHACC)"),
            SyncBy::Event | SyncBy::Msi(_) => None,
        }
    }
}
