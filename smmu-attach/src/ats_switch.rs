//! The own ATS switch of devices, and what is known of their caches.

use smmu_invs::{AtsGate, Drained};
use smmu_types::seam::TimedOut;
use smmu_types::{AtsMode, SmmuId, StreamId};

use crate::key::AttachKey;

/// The own ATS switch of devices: for PCIe, `Enable` in the ATS control register of a function.
///
/// `()` is for platforms whose devices have no ATS.
pub trait AtsSwitch {
    /// Let the device of a stream ask for translations and keep them. Returns after the device has
    /// seen it.
    ///
    /// # Errors
    ///
    /// The device keeps its switch off. It then works without ATS.
    fn enable(&self, smmu: SmmuId, stream: StreamId) -> Result<(), AtsRefused>;

    /// Stop the device of a stream from sending translated requests. Returns after the last of them
    /// has left the device. For PCIe, a read of the register after the write sees to that.
    fn disable(&self, smmu: SmmuId, stream: StreamId);

    /// Call [`AtsGate::drain`] with the platform's clock and a patience longer than that of the
    /// command queue.
    ///
    /// # Errors
    ///
    /// A reader still waits for a `CMD_SYNC`. The device's switch then stays on, until it is settled.
    fn drain(&self, gate: &AtsGate) -> Result<Drained, TimedOut>;

    /// Let the device of a stream ask for pages (PRI). Its ATS is on. Returns after the device has
    /// seen it. For PCIe, `Enable` in the control register of the page request interface.
    ///
    /// Called for a device with [`DeviceConfig::page_requests`](crate::DeviceConfig::page_requests).
    /// Without an implementation no device asks for pages.
    ///
    /// # Errors
    ///
    /// The device asks for no pages. It then works with ATS alone.
    fn enable_page_requests(&self, _smmu: SmmuId, _stream: StreamId) -> Result<(), AtsRefused> {
        Err(AtsRefused)
    }

    /// Stop the device of a stream from asking for pages. Returns after its last request has left the
    /// device.
    ///
    /// Do not wait for responses: the caller holds the device's lock, and may be who answers them.
    /// Requests that the device has sent wait on, as [`faults`](crate::faults) says.
    fn disable_page_requests(&self, _smmu: SmmuId, _stream: StreamId) {}
}

/// The device has no ATS, or does not turn it on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, thiserror::Error)]
#[error("the device does not turn ATS on")]
#[non_exhaustive]
pub struct AtsRefused;

impl AtsRefused {
    /// The refusal, for an implementation of [`AtsSwitch`].
    #[must_use]
    pub const fn new() -> Self {
        AtsRefused
    }
}

impl AtsSwitch for () {
    fn enable(&self, _: SmmuId, _: StreamId) -> Result<(), AtsRefused> {
        Err(AtsRefused)
    }
    fn disable(&self, _: SmmuId, _: StreamId) {}
    fn drain(&self, _: &AtsGate) -> Result<Drained, TimedOut> {
        Err(TimedOut { timeout: core::time::Duration::ZERO })
    }
}

/// Whether a device uses ATS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AtsUse {
    /// It does not, or shall not.
    #[default]
    Never,
    /// While it is attached to a domain. [`AtsSwitch`] turns it on and off.
    Switched,
    /// Its switch is always on: it asks for translations at any time.
    Always,
}

/// What is known of a device's ATC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AtsState {
    /// The SMMU may use an STE with `EATS`.
    pub(crate) entry: bool,
    /// The ATC may have translations of an earlier attachment.
    pub(crate) dirty: bool,
    /// The device's own switch is on.
    pub(crate) on: bool,
    /// The device may ask for pages.
    pub(crate) asks: Asks,
}

/// Whether a device may ask for pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asks {
    Off,
    On,
    /// Another owner has left it.
    Unknown,
}

impl AtsState {
    /// `foreign`: the STE of another owner has `EATS`.
    pub(crate) const fn new(ats: AtsUse, foreign: bool) -> Self {
        // Firmware may have used the device.
        AtsState {
            entry: foreign,
            dirty: true,
            on: foreign || matches!(ats, AtsUse::Always),
            asks: if foreign { Asks::Unknown } else { Asks::Off },
        }
    }

    pub(crate) const fn mode(entry: bool) -> AtsMode {
        if entry { AtsMode::Full } else { AtsMode::Off }
    }
}

/// The part of an ATC that a change concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AtcPart {
    Everything,
    Key(AttachKey),
}
