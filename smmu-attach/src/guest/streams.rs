//! The seam between a guest's StreamIDs and the host's.

use smmu_types::{AtsMode, StreamId};

use super::entry::{GuestConfig, HostEntry};

/// Which StreamIDs of the host a guest's StreamID stands for, and back.
///
/// An implementor answers in bounded time: a guest chooses which StreamIDs it asks for, and how
/// often. While one call of [`GuestSmmu`](super::GuestSmmu) runs, the answers do not change.
///
/// A slice of [`VirtualDevice`]s is a map for a few devices; each question goes through the slice.
pub trait StreamMap {
    /// The device with this StreamID of the guest. `None` if the guest has no such device.
    ///
    /// A device without a stream of the host, such as one that the emulator plays itself, has an
    /// empty list: commands for it succeed without a command for the host.
    fn host(&self, guest: StreamId) -> Option<HostStreams<'_>>;

    /// The guest's device that sends with this StreamID of the host. `None` if it is not a device
    /// of this guest.
    fn guest(&self, host: StreamId) -> Option<GuestStream>;
}

/// The host's side of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostStreams<'a> {
    /// The StreamIDs: several for a device behind a bridge that replaces them.
    pub streams: &'a [StreamId],
    /// Whether ATS is on at the device.
    pub ats: AtsMode,
}

/// The guest's side of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestStream {
    /// The StreamID that the guest knows.
    pub stream: StreamId,
    /// What the guest's STE asks for.
    pub config: GuestConfig,
}

/// A device of a guest: it has one StreamID there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VirtualDevice<'a> {
    /// The StreamID that the guest knows.
    pub guest: StreamId,
    /// The StreamIDs of the host.
    pub host: &'a [StreamId],
    /// What is installed for it.
    pub entry: HostEntry,
}

impl StreamMap for [VirtualDevice<'_>] {
    fn host(&self, guest: StreamId) -> Option<HostStreams<'_>> {
        let device = self.iter().find(|device| device.guest == guest)?;
        Some(HostStreams { streams: device.host, ats: device.entry.ats() })
    }

    fn guest(&self, host: StreamId) -> Option<GuestStream> {
        let device = self.iter().find(|device| device.host.contains(&host))?;
        Some(GuestStream { stream: device.guest, config: device.entry.config() })
    }
}
