//! What the machine has, from its device tree.
//!
//! SMMUs, their interrupts and the StreamIDs of devices come from
//! [`smmu_hw_mmio::firmware::fdt`]; the rest is read here, from the nodes of the same tree. Any bytes
//! give a machine or an error.

mod error;
mod read;
mod region;

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use smmu_hw_mmio::firmware::fdt::DeviceTree;
use smmu_hw_mmio::firmware::{FirmwareSmmu, Stream, StreamNames};
use smmu_types::{SmmuId, StreamId};

pub use error::{MachineError, PropertyFault};
pub use region::Region;

/// The machine that a device tree describes.
#[derive(Debug)]
pub struct Machine<'t> {
    /// The tree, for streams and the names of devices.
    pub tree: DeviceTree<'t>,
    /// RAM, sorted.
    pub memory: Vec<Region>,
    /// Parts of RAM that software leaves alone: those that the tree reserves, and the tree itself.
    pub reserved: Vec<Region>,
    /// The PL011 of `/chosen`'s `stdout-path`; otherwise the first PL011.
    pub uart: Option<Region>,
    /// The first GICv3.
    pub gic: Option<Gic>,
    /// Host bridges of PCIe with an ECAM.
    pub host_bridges: Vec<HostBridge>,
    /// How to call PSCI.
    pub psci: Option<Conduit>,
    /// `MPIDR_EL1` of each CPU, its affinity bits only.
    pub cpus: Vec<u64>,
    /// The SMMUs that software may use, in the order of the tree.
    pub smmus: Vec<FirmwareSmmu>,
    /// The command line: `bootargs` of `/chosen`. Empty without one.
    pub command_line: &'t str,
}

/// A GICv3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gic {
    /// The distributor.
    pub distributor: Region,
    /// The first region of redistributors.
    pub redistributors: Region,
}

/// A host bridge of PCIe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostBridge {
    /// Its node.
    pub path: String,
    /// Configuration space, 1 MiB for each bus.
    pub ecam: Region,
    /// The first and the last bus.
    pub buses: (u8, u8),
    /// Memory windows for BARs below 4 GiB, by PCI address, and the address at which the CPU
    /// finds each.
    pub windows: Vec<PciWindow>,
}

/// A window of a host bridge for memory BARs of 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PciWindow {
    /// By PCI address.
    pub pci: Region,
    /// Where the CPU finds its first byte.
    pub cpu: u64,
}

/// The instruction that calls firmware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conduit {
    /// `HVC`.
    Hvc,
    /// `SMC`.
    Smc,
}

impl<'t> Machine<'t> {
    /// Reads a device tree. `at` is the address at which it lies, which stays reserved.
    ///
    /// # Errors
    ///
    /// The tree is damaged, or a node that a program here needs is described wrongly.
    pub fn read(blob: &'t [u8], at: u64) -> Result<Self, MachineError> {
        read::machine(blob, at)
    }

    /// RAM that nothing has reserved, without `used`, in whole pages of 4 KiB. Sorted.
    #[must_use]
    pub fn free_memory(&self, used: &[Region]) -> Vec<Region> {
        let mut free = self.memory.clone();
        for taken in self.reserved.iter().chain(used) {
            free = free.iter().flat_map(|part| part.without(*taken)).collect();
        }
        free.iter().filter_map(|part| part.whole_pages()).collect()
    }

    /// Every region of registers that the program reaches: the CPU maps them as Device memory.
    pub fn registers(&self) -> impl Iterator<Item = (&'static str, Region)> + '_ {
        let gic = self.gic.into_iter().flat_map(|gic| {
            [("GIC distributor", gic.distributor), ("GIC redistributors", gic.redistributors)]
        });
        let bridges = self.host_bridges.iter().flat_map(|bridge| {
            let windows = bridge
                .windows
                .iter()
                .map(|window| ("PCI window", Region { base: window.cpu, bytes: window.pci.bytes }));
            windows.chain([("ECAM", bridge.ecam)])
        });
        let smmus = self
            .smmus
            .iter()
            .map(|smmu| ("SMMU", Region { base: smmu.base.0, bytes: smmu.registers_size() }));
        self.uart.map(|uart| ("UART", uart)).into_iter().chain(gic).chain(bridges).chain(smmus)
    }

    /// The number of an SMMU among those that software may use: a driver that starts them in this
    /// order gives it this number.
    #[must_use]
    pub fn number_of(&self, smmu: SmmuId) -> Option<SmmuId> {
        let number = self.smmus.iter().position(|found| found.id == smmu)?;
        u16::try_from(number).ok().map(SmmuId)
    }

    /// Prints the name of the device that has a stream of the SMMU with this number, or the stream.
    #[must_use]
    pub fn name_of(&self, number: SmmuId, stream: StreamId) -> StreamName<'_, 't> {
        StreamName { machine: self, number, stream }
    }
}

/// Prints the name of a stream's device.
#[derive(Debug)]
pub struct StreamName<'m, 't> {
    machine: &'m Machine<'t>,
    number: SmmuId,
    stream: StreamId,
}

impl fmt::Display for StreamName<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, id) = (self.number, self.stream);
        if let Some(found) = self.machine.smmus.get(usize::from(number.0))
            && self.machine.tree.write_name(Stream { smmu: found.id, id }, f)?
        {
            return Ok(());
        }
        write!(f, "StreamID {id} of {number}, which no device of the tree has")
    }
}

#[cfg(test)]
pub(crate) mod tests;
