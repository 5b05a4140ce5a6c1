//! PCI Express behind one host bridge: buses, bridges, memory BARs.
//!
//! [`enumerate`] numbers the buses and gives each memory BAR an address in the 32-bit window of the
//! host bridge. What firmware had set up is replaced.

use alloc::vec::Vec;
use core::fmt;

use smmu_hw_mmio::firmware::{RequestId, Stream};
use virtio_drivers::transport::pci::bus::{
    BarInfo, Cam, Command, ConfigurationAccess, DeviceFunction, HeaderType, MemoryBarType, MmioCam,
    PciRoot,
};

use crate::machine::{HostBridge, Machine};

const BUS_NUMBERS: u8 = 0x18;
const MEMORY_WINDOW: u8 = 0x20;
const PREFETCHABLE_WINDOW: u8 = 0x24;
const BRIDGE_WINDOW: u64 = 1 << 20;
const NO_DEVICE: u32 = u32::MAX;
const DEVICES: u8 = 32;
/// A window whose base is above its limit passes nothing.
const CLOSED: u32 = 0x0000_fff0;

/// A function of a PCI device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Where it is.
    pub at: DeviceFunction,
    /// Vendor ID.
    pub vendor: u16,
    /// Device ID.
    pub device: u16,
    /// Class, subclass and programming interface.
    pub class: [u8; 3],
    /// Where the CPU finds each memory BAR.
    pub bars: [Option<Bar>; 6],
    /// Its StreamID, if it is behind an SMMU.
    pub stream: Option<Stream>,
}

/// A memory BAR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bar {
    /// The CPU's address.
    pub address: u64,
    /// The length.
    pub bytes: u64,
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:04x}:{:04x}", self.at, self.vendor, self.device)
    }
}

/// Why PCI cannot be set up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PciError {
    /// The host bridge has no window for 32-bit memory.
    #[error("the host bridge has no window for 32-bit memory in `ranges`")]
    NoWindow,
    /// The window is full.
    #[error("{at}: no {bytes:#x} bytes left in the window for 32-bit memory")]
    WindowFull {
        /// The function whose BAR it is for.
        at: DeviceFunction,
        /// The length of the BAR.
        bytes: u64,
    },
    /// No bus number is left below a bridge.
    #[error("{at}: no bus number is left for this bridge")]
    NoBusNumber {
        /// The bridge.
        at: DeviceFunction,
    },
    /// A function has a BAR that makes no sense.
    #[error("{at}: a BAR is of no known type")]
    Bar {
        /// The function.
        at: DeviceFunction,
    },
    /// The ECAM has fewer bytes than its buses need, or does not begin with bus 0.
    #[error("the ECAM must begin with bus 0 and have 1 MiB for each of {buses} buses")]
    Ecam {
        /// How many buses need their part of it.
        buses: u32,
    },
}

/// Configuration space of a host bridge.
///
/// # Safety
///
/// The ECAM is mapped as Device memory for ever, and nothing else uses it while the result lives.
///
/// # Errors
///
/// The ECAM is not of a form that this module uses.
pub unsafe fn root(bridge: &HostBridge) -> Result<PciRoot<MmioCam<'static>>, PciError> {
    check_ecam(bridge, u8::MAX)?;
    // SAFETY: as the caller promises; the ECAM has all the bytes of 256 buses.
    Ok(PciRoot::new(unsafe { MmioCam::new(bridge.ecam.base as *mut u8, Cam::Ecam) }))
}

/// Whether the ECAM has the buses up to `last`.
fn check_ecam(bridge: &HostBridge, last: u8) -> Result<(), PciError> {
    let buses = u32::from(last) + 1;
    let bytes = u64::from(Cam::Ecam.size()) / 256 * u64::from(buses);
    let fits = bridge.buses.0 == 0
        && bridge.ecam.bytes >= bytes
        && bridge.ecam.base.is_multiple_of(4)
        && usize::try_from(bridge.ecam.end() - 1).is_ok();
    if fits { Ok(()) } else { Err(PciError::Ecam { buses }) }
}

/// Finds the functions behind a host bridge, gives them bus numbers and addresses, and lets each do
/// DMA. Bridges are not in the list.
///
/// # Safety
///
/// As of [`root`]. No driver uses a function behind this host bridge.
///
/// # Errors
///
/// A bridge or a BAR finds no room.
pub unsafe fn enumerate(
    machine: &Machine<'_>,
    bridge: &HostBridge,
) -> Result<Vec<Function>, PciError> {
    let window = bridge.windows.first().ok_or(PciError::NoWindow)?;
    check_ecam(bridge, bridge.buses.1)?;
    // SAFETY: as the caller promises. There are two users: `config` only reads and writes bus numbers
    // and windows of bridges, and both run on this CPU, one after the other. The scan asks for no bus
    // that the host bridge has not, and the ECAM has all of those.
    let root = PciRoot::new(unsafe { MmioCam::new(bridge.ecam.base as *mut u8, Cam::Ecam) });
    // SAFETY: as above. `Scan` gives out no bus number above the last one of the host bridge.
    let config = unsafe { MmioCam::new(bridge.ecam.base as *mut u8, Cam::Ecam) };
    let mut scan = Scan {
        machine,
        bridge,
        root,
        config,
        next: window.pci.base.max(1),
        end: window.pci.end(),
        to_cpu: window.cpu.wrapping_sub(window.pci.base),
        found: Vec::new(),
    };
    // Bridges that firmware has set up pass nothing, so that only root buses answer.
    let (first, last) = bridge.buses;
    for bus in first..=last {
        scan.close_bridges(bus);
    }
    let roots: Vec<u8> = (first..=last).filter(|bus| scan.answers(*bus)).collect();
    for (n, bus) in roots.iter().enumerate() {
        let end = roots.get(n + 1).map_or(last, |next| next - 1);
        scan.bus(*bus, *bus, end)?;
    }
    Ok(scan.found)
}

struct Scan<'m> {
    machine: &'m Machine<'m>,
    bridge: &'m HostBridge,
    root: PciRoot<MmioCam<'static>>,
    config: MmioCam<'static>,
    // The next free PCI address, and the end of the window.
    next: u64,
    end: u64,
    to_cpu: u64,
    found: Vec<Function>,
}

impl Scan<'_> {
    fn answers(&self, bus: u8) -> bool {
        (0..DEVICES).any(|device| {
            let at = DeviceFunction { bus, device, function: 0 };
            self.config.read_word(at, 0) != NO_DEVICE
        })
    }

    fn close_bridges(&mut self, bus: u8) {
        for (at, info) in self.root.enumerate_bus(bus) {
            if info.header_type == HeaderType::PciPciBridge {
                self.config.write_word(at, BUS_NUMBERS, 0);
            }
        }
    }

    /// Sets up `bus` and all below it. `last`: the last bus number in use; `end`: the last that
    /// may be. Returns the new `last`.
    fn bus(&mut self, bus: u8, mut last: u8, end: u8) -> Result<u8, PciError> {
        let functions: Vec<_> = self.root.enumerate_bus(bus).collect();
        for (at, info) in functions {
            match info.header_type {
                HeaderType::PciPciBridge => last = self.bridge(at, last, end)?,
                HeaderType::Standard => {
                    let bars = self.bars(at, 6)?;
                    let command = Command::MEMORY_SPACE | Command::BUS_MASTER;
                    self.root.set_command(at, command);
                    self.found.push(Function {
                        at,
                        vendor: info.vendor_id,
                        device: info.device_id,
                        class: [info.class, info.subclass, info.prog_if],
                        bars,
                        stream: stream(self.machine, self.bridge, at),
                    });
                }
                _ => {}
            }
        }
        Ok(last)
    }

    fn bridge(&mut self, at: DeviceFunction, last: u8, end: u8) -> Result<u8, PciError> {
        let _ = self.bars(at, 2)?;
        let secondary = last.checked_add(1).filter(|bus| *bus <= end);
        let secondary = secondary.ok_or(PciError::NoBusNumber { at })?;
        let numbers = |subordinate: u8| {
            u32::from(at.bus) | u32::from(secondary) << 8 | u32::from(subordinate) << 16
        };
        // All numbers pass while the buses below are counted.
        self.config.write_word(at, BUS_NUMBERS, numbers(end));
        self.next = self.next.next_multiple_of(BRIDGE_WINDOW);
        let base = self.next;
        let last = self.bus(secondary, secondary, end)?;
        self.next = self.next.next_multiple_of(BRIDGE_WINDOW);
        self.config.write_word(at, BUS_NUMBERS, numbers(last));
        // Bits 31:20 of the first and of the last address.
        let window = if self.next > base {
            (base >> 16 & 0xfff0) as u32 | ((self.next - 1) & 0xfff0_0000) as u32
        } else {
            CLOSED
        };
        self.config.write_word(at, MEMORY_WINDOW, window);
        self.config.write_word(at, PREFETCHABLE_WINDOW, CLOSED);
        self.root.set_command(at, Command::MEMORY_SPACE | Command::BUS_MASTER);
        Ok(last)
    }

    /// Gives the first `count` BARs addresses.
    fn bars(&mut self, at: DeviceFunction, count: usize) -> Result<[Option<Bar>; 6], PciError> {
        // A bridge has two BARs; what follows are its bus numbers and windows.
        let mut bars = [None; 6];
        let mut n = 0u8;
        while usize::from(n) < count {
            let info = self.root.bar_info(at, n).map_err(|_| PciError::Bar { at })?;
            let step = if info.as_ref().is_some_and(BarInfo::takes_two_entries) { 2 } else { 1 };
            if let Some(BarInfo::Memory { address_type, size: bytes, .. }) = info
                && bytes > 0
            {
                let address = self.take(at, bytes)?;
                match address_type {
                    MemoryBarType::Width64 => self.root.set_bar_64(at, n, address),
                    _ => self.root.set_bar_32(at, n, address as u32),
                }
                if let Some(bar) = bars.get_mut(usize::from(n)) {
                    *bar = Some(Bar { address: address.wrapping_add(self.to_cpu), bytes });
                }
            }
            n += step;
        }
        Ok(bars)
    }

    fn take(&mut self, at: DeviceFunction, bytes: u64) -> Result<u64, PciError> {
        const PAGE: u64 = 4096;
        let full = PciError::WindowFull { at, bytes };
        let address = self.next.checked_next_multiple_of(bytes.max(PAGE)).ok_or(full.clone())?;
        let end = address.checked_add(bytes).filter(|end| *end <= self.end).ok_or(full)?;
        self.next = end;
        Ok(address)
    }
}

/// The StreamID that the device tree gives to a function behind this host bridge.
fn stream(machine: &Machine<'_>, bridge: &HostBridge, at: DeviceFunction) -> Option<Stream> {
    use alloc::string::ToString;

    let id = RequestId::new(at.bus, at.device, at.function)?;
    let node = machine.tree.devices().find(|device| device.path().to_string() == bridge.path)?;
    machine.tree.stream_of(&node, id).ok().flatten()
}
