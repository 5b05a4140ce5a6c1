//! What a queue lets its user choose, and the memory that it needs.

use core::num::NonZeroU32;
use core::time::Duration;

use smmu_types::queue::QueueSize;
use smmu_types::seam::DmaLayout;
use smmu_types::{Capabilities, MsiAttributes, Quirk, Quirks};

use crate::port::Port;
use crate::{Opcodes, ring};

/// How a `CMD_SYNC` tells that it is complete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SyncBy {
    /// `CMDQ_CONS` passes it, which is read until it does. Every SMMU can.
    #[default]
    Polling,
    /// The same, and it sends an event, for which [`Wait::event`] waits. Where `IDR0.SEV` is 1.
    Event,
    /// It writes its position behind the ring, which all waiters read in place of a register. Where `IDR0.MSI` is 1 and
    /// the SMMU's accesses to the block are coherent. `CMDQ_CONS` is looked at now and then, so that an MSI that gets lost
    /// costs time and nothing else.
    ///
    /// All write to one place, and never into the ring: `CMDQ_CONS` may pass a `CMD_SYNC` before its MSI is visible, which then
    /// comes late and would hit whatever lies in the slot by then. In one place a late one does no harm, because the MSIs of earlier
    /// `CMD_SYNC`s are visible or given up before a later one is complete (IHI 0070, 4.7.3).
    Msi(MsiAttributes),
}

/// What a [`CommandQueue`] lets its user choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueConfig {
    /// How long one wait may last: for space in the queue, and for a `CMD_SYNC`. 1 s by default.
    pub timeout: Duration,
    /// How a `CMD_SYNC` is completed. By polling, by default.
    pub sync_by: SyncBy,
    /// The queue's registers. Those of the main queue by default.
    pub port: Port,
    /// Which commands the queue takes, for the one who chooses between [several](crate::QueueGroup). All by default.
    pub takes: Opcodes,
    /// The most commands that the SMMU may be given without a `CMD_SYNC` behind them; any number by default.
    ///
    /// Some SMMUs need this (`CMD_SYNC` forced into full batches): with 63, no 64 commands follow each other without one, and no
    /// batch ends without one.
    pub sync_every: Option<NonZeroU32>,
}

impl Default for QueueConfig {
    fn default() -> Self {
        QueueConfig {
            timeout: Duration::from_secs(1),
            sync_by: SyncBy::Polling,
            port: Port::MAIN,
            takes: Opcodes::ALL,
            sync_every: None,
        }
    }
}

impl QueueConfig {
    /// What suits the main queue of an SMMU with these capabilities and quirks: the cheapest completion that it has, and a
    /// `CMD_SYNC` as often as it needs.
    ///
    /// MSIs where the SMMU sends them and is coherent; events where it sends those and the `CMD_SYNC` may ask for
    /// them ([`Quirk::NoSev`]); polling otherwise. With [`Quirk::ForceSync`] no 64 commands follow each other without a
    /// `CMD_SYNC`. Whether ranges may be invalidated is a matter of who makes the commands:
    /// [`Capabilities::range_support`].
    #[must_use]
    pub fn suited_to(caps: &Capabilities, quirks: Quirks) -> Self {
        let sync_by = if caps.msi && caps.coherent {
            SyncBy::Msi(MsiAttributes::WRITE_BACK)
        } else if caps.sev && !quirks.contains(Quirk::NoSev) {
            SyncBy::Event
        } else {
            SyncBy::Polling
        };
        let sync_every = if quirks.contains(Quirk::ForceSync) { FORCED } else { None };
        QueueConfig { sync_by, sync_every, ..QueueConfig::default() }
    }
}

/// MMU-700, erratum 2812531: a 64th command is to be a `CMD_SYNC`.
const FORCED: Option<NonZeroU32> = NonZeroU32::new(63);

/// The block that a command queue of `size` needs: the ring, aligned to its bytes, and 64 bytes behind it for MSIs, if those are
/// to come.
#[must_use]
pub const fn layout(size: QueueSize, sync_by: SyncBy) -> DmaLayout {
    let ring = match DmaLayout::naturally_aligned(size.entries() as u64 * ring::BYTES) {
        Some(ring) => ring,
        // 16 bytes to 8 MiB: never 0, never near the end of the number space.
        None => unreachable!(),
    };
    match DmaLayout::new(ring::needed(size, sync_by) * ring::BYTES, ring.align()) {
        Some(layout) => layout,
        None => unreachable!(),
    }
}
