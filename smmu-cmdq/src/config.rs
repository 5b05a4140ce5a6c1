//! The configuration of a queue, and the memory that it needs.

use core::num::NonZeroU32;
use core::time::Duration;

use smmu_types::queue::QueueSize;
use smmu_types::seam::DmaLayout;
use smmu_types::{Capabilities, MsiAttributes, Quirk, Quirks};

use crate::port::Port;
use crate::sync_by::SyncBy;
use crate::{Opcodes, ring};

/// The choices of a [`CommandQueue`](crate::CommandQueue).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueConfig {
    /// The limit of each wait, for room in the ring and for a `CMD_SYNC`. 1 s by default.
    pub timeout: Duration,
    /// How a waiter learns that a `CMD_SYNC` is complete. [`SyncBy::Polling`] by default.
    pub sync_by: SyncBy,
    /// The registers of the queue. [`Port::MAIN`] by default.
    pub port: Port,
    /// Opcodes that this queue takes; [`QueueGroup`](crate::QueueGroup) routes by them. All by
    /// default.
    ///
    /// The queue itself does not check them.
    pub takes: Opcodes,
    /// The maximum number of commands in a row without a `CMD_SYNC`. No maximum by default.
    ///
    /// With a maximum, every call ends with a `CMD_SYNC`, and the queue inserts more of them into a
    /// longer batch. Some SMMUs need this: see [`suited_to`](Self::suited_to).
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
    /// The configuration for the main queue of an SMMU with these capabilities and quirks.
    ///
    /// - MSIs if the SMMU sends them and is coherent. Otherwise events, if the SMMU sends them and
    ///   a `CMD_SYNC` may ask for them ([`Quirk::NoSev`]). Otherwise polling.
    /// - With [`Quirk::ForceSync`], at most 63 commands in a row without a `CMD_SYNC`.
    ///
    /// Takes coherency from `caps.coherent`: what firmware says belongs there first
    /// (`Probe::with_coherency` of `smmu-hw-mmio`).
    ///
    /// Range commands are no choice of the queue. The caller that makes the commands asks
    /// [`Capabilities::range_support`].
    #[must_use]
    pub fn suited_to(caps: &Capabilities, quirks: Quirks) -> Self {
        let ways = [SyncBy::Msi(MsiAttributes::WRITE_BACK), SyncBy::Event];
        let sync_by = ways.into_iter().find(|way| way.lacks(caps, quirks).is_none());
        let sync_by = sync_by.unwrap_or(SyncBy::Polling);
        let sync_every = if quirks.contains(Quirk::ForceSync) { FORCED_SYNC_EVERY } else { None };
        QueueConfig { sync_by, sync_every, ..QueueConfig::default() }
    }
}

/// MMU-700, erratum 2812531: the 64th command has to be a `CMD_SYNC`.
const FORCED_SYNC_EVERY: Option<NonZeroU32> = NonZeroU32::new(63);

/// The block that a queue needs: the ring, aligned to its size in bytes.
///
/// With [`SyncBy::Msi`] 64 bytes for MSIs follow the ring.
#[must_use]
pub const fn layout(size: QueueSize, sync_by: SyncBy) -> DmaLayout {
    let ring = match DmaLayout::naturally_aligned(size.entries() as u64 * ring::BYTES) {
        Some(ring) => ring,
        // 16 bytes to 8 MiB, so neither 0 nor an overflow.
        None => unreachable!(),
    };
    match DmaLayout::new(ring::needed(size, sync_by) * ring::BYTES, ring.align()) {
        Some(layout) => layout,
        None => unreachable!(),
    }
}
