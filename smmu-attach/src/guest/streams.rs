//! The seam between a guest's StreamIDs and the host's.

use smmu_types::{AtsMode, StreamId};

use super::entry::{GuestConfig, HostEntry};

/// Which StreamIDs of the host a guest's StreamID stands for, and back.
///
/// An implementor answers in bounded time: a guest chooses which StreamIDs it asks for, and how
/// often. While one call of [`GuestSmmu`](super::GuestSmmu) runs, the answers do not change.
///
/// [`SortedDevices`] is a map for any number of devices. A slice of [`VirtualDevice`]s is one too, in
/// any order: each question goes through the slice.
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

/// Devices in ascending order of the guest's StreamIDs: a [`StreamMap`] that finds one of n devices in
/// log2(n) steps, whatever a guest asks for.
///
/// It takes one step for StreamIDs of roughly even distance, such as 0, 1, 2 or those of neighbouring
/// PCI devices: 8, 16, 17, 24.
///
/// ```
/// use smmu_attach::guest::*;
/// use smmu_attach::smmu_types::StreamId;
///
/// let host = [StreamId(0x4100), StreamId(0x4200)];
/// let device = |guest, host| {
///     VirtualDevice { guest: StreamId(guest), host, entry: HostEntry::INVALID }
/// };
/// let devices = [device(8, &host[..1]), device(16, &host[1..])];
/// let map = SortedDevices::new(&devices)?;
/// assert_eq!(map.host(StreamId(16)).map(|of| of.streams), Some(&host[1..]));
/// assert_eq!(map.host(StreamId(9)), None);
/// # Ok::<(), UnsortedDevices>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct SortedDevices<'a> {
    devices: &'a [VirtualDevice<'a>],
    first: u32,
    /// Devices for each StreamID between the first and the last, times 2^32: where to look first.
    density: u64,
}

/// The devices are not in ascending order of the guest's StreamIDs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "device {index} has the guest's StreamID {stream}, which is not above that of the device before; sort the devices, and give each a StreamID of its own"
)]
pub struct UnsortedDevices {
    /// Its place in the slice.
    pub index: usize,
    /// Its StreamID.
    pub stream: StreamId,
}

impl<'a> SortedDevices<'a> {
    /// The devices of a slice. Checks their order once: one pass.
    ///
    /// # Errors
    ///
    /// The StreamIDs of the guest do not ascend, or one comes twice.
    pub fn new(devices: &'a [VirtualDevice<'a>]) -> Result<Self, UnsortedDevices> {
        let pairs = devices.iter().zip(devices.iter().skip(1)).zip(1..);
        for ((before, device), index) in pairs {
            if device.guest.0 <= before.guest.0 {
                return Err(UnsortedDevices { index, stream: device.guest });
            }
        }
        let (first, last) = match devices {
            [] => (0, 0),
            [first, ..] => (first.guest.0, devices.last().map_or(0, |last| last.guest.0)),
        };
        // They ascend, so there are not more devices than StreamIDs: 2^32 at most.
        let steps = devices.len().saturating_sub(1) as u64;
        let density = (steps << 32).checked_div(u64::from(last - first)).unwrap_or(0);
        Ok(SortedDevices { devices, first, density })
    }

    /// The devices.
    #[must_use]
    pub const fn devices(&self) -> &'a [VirtualDevice<'a>] {
        self.devices
    }

    #[inline]
    fn find(&self, guest: StreamId) -> Option<&'a VirtualDevice<'a>> {
        // A StreamID below the first one wraps around, and is not where the guess leads. The product
        // is below 2^64, as both factors are 2^32 at most and the first is not.
        let distance = u64::from(guest.0.wrapping_sub(self.first));
        let guess = (distance * self.density + (1 << 31)) >> 32;
        match self.devices.get(guess as usize) {
            Some(device) if device.guest == guest => Some(device),
            _ => {
                let at = self.devices.binary_search_by_key(&guest.0, |device| device.guest.0);
                self.devices.get(at.ok()?)
            }
        }
    }
}

impl StreamMap for SortedDevices<'_> {
    #[inline]
    fn host(&self, guest: StreamId) -> Option<HostStreams<'_>> {
        let device = self.find(guest)?;
        Some(HostStreams { streams: device.host, ats: device.entry.ats() })
    }

    fn guest(&self, host: StreamId) -> Option<GuestStream> {
        self.devices.guest(host)
    }
}
