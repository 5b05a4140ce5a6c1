//! A PCI function that this process uses: enabled, its BAR 0 mapped, and as before at the end.

use alloc::format;
use alloc::string::String;
use core::ptr::NonNull;

use virtio_drivers::transport::pci::bus::DeviceFunction;

use super::files::{Access, File};
use super::mapping::map;
use crate::devmem::pci_functions::PciFunction;
use crate::devmem::system_files::Errno;
use crate::pci::{Bar, Function};

/// Offset of the command register in configuration space.
const COMMAND: u64 = 4;
const MEMORY_AND_BUS_MASTER: u16 = 6;

/// Why a function cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {error}")]
pub struct PciDeviceError {
    /// The file.
    pub path: String,
    /// The kernel's error.
    pub error: Errno,
}

/// A function that this process uses.
#[derive(Debug)]
pub struct PciDevice {
    enable: File,
    config: File,
    command: [u8; 2],
    bar: NonNull<u8>,
    bar_bytes: u64,
}

impl PciDevice {
    /// Enables a function, and maps its BAR 0. It cannot do DMA yet.
    ///
    /// # Errors
    ///
    /// The kernel does not let this process.
    pub fn open(function: &PciFunction) -> Result<Self, PciDeviceError> {
        let folder = function.folder();
        let path = |file: &str| format!("{folder}/{file}");
        let failed = |file: &str| {
            let path = path(file);
            move |error| PciDeviceError { path, error }
        };
        let open = |file: &str| File::open(&path(file), Access::Write).map_err(failed(file));
        let (enable, config) = (open("enable")?, open("config")?);
        let mut command = [0; 2];
        config.read_at(&mut command, COMMAND).map_err(failed("config"))?;
        let bar = open("resource0")?;
        // SAFETY: the caller of `pci_function` answers for what the registers do.
        let bar = unsafe { map(&bar, 0, function.bar0_bytes) }.map_err(failed("resource0"))?;
        enable.write_at(b"1", 0).map_err(failed("enable"))?;
        Ok(PciDevice { enable, config, command, bar, bar_bytes: function.bar0_bytes })
    }

    /// Lets the function answer, and do DMA.
    ///
    /// # Errors
    ///
    /// The kernel's error.
    pub fn start(&self) -> Result<(), Errno> {
        let command = u16::from_le_bytes(self.command) | MEMORY_AND_BUS_MASTER;
        self.config.write_at(&command.to_le_bytes(), COMMAND)
    }

    /// Makes the function as it was before: without DMA, unless it could do that. Allocates nothing.
    pub fn stop(&self) {
        let _ = self.config.write_at(&self.command, COMMAND);
        let _ = self.enable.write_at(b"0", 0);
    }

    /// The function, as drivers of [`dma`](crate::dma) take it: BAR 0 where this process has it.
    #[must_use]
    pub fn function(&self, of: &PciFunction) -> Function {
        let [bus, below] = of.id.0.to_be_bytes();
        let (vendor, device) = of.vendor_device;
        let address = self.bar.as_ptr().addr() as u64;
        let mut bars = [None; 6];
        bars[0] = Some(Bar { address, bytes: self.bar_bytes });
        let [_, class @ ..] = of.class.to_be_bytes();
        let at = DeviceFunction { bus, device: below >> 3, function: below & 7 };
        Function { at, vendor, device, class, bars, stream: None }
    }
}
