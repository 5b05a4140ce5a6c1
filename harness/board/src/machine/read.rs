//! Reads the nodes that a program on a board needs.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use smmu_hw_mmio::firmware::fdt::{DeviceTree, FdtError, FdtNode};

use super::error::{MachineError, PropertyFault};
use super::region::Region;
use super::{Conduit, Gic, HostBridge, Machine, PciWindow};

/// The affinity fields of `MPIDR_EL1`.
const MPIDR_AFFINITY: u64 = 0xff_00ff_ffff;
/// The kind of space in a PCI address of three cells.
const PCI_SPACE_SHIFT: u32 = 88;
const PCI_MEMORY_32: u128 = 2;
const BUS_BYTES: u64 = 1 << 20;

pub(super) fn machine<'t>(blob: &'t [u8], at: u64) -> Result<Machine<'t>, MachineError> {
    let tree = DeviceTree::new(blob)?;
    let smmus = tree.smmus().filter(|smmu| !smmu.is_ok_and(|smmu| !smmu.enabled));
    let smmus = smmus.collect::<Result<Vec<_>, _>>()?;
    let chosen = tree.node("/chosen");
    let text = |name| chosen.and_then(|chosen| chosen.text(name));

    let mut machine = Machine {
        tree,
        memory: Vec::new(),
        reserved: Vec::new(),
        uart: None,
        gic: None,
        host_bridges: Vec::new(),
        psci: None,
        cpus: Vec::new(),
        smmus,
        command_line: text("bootargs").unwrap_or(""),
    };
    machine.reserved.push(Region { base: at, bytes: tree.blob().len() as u64 });
    machine.reserve(tree.memory_reservations()?);
    let console = text("stdout-path").and_then(|path| console(&tree, path));
    for node in tree.nodes().filter(FdtNode::is_enabled) {
        machine.note(Place { node, path: &format!("{}", node.path()) }, console)?;
    }
    if machine.memory.is_empty() {
        return Err(MachineError::NoMemory);
    }
    Ok(machine)
}

/// The path in `stdout-path`, without its options, and through `/aliases`.
fn console<'t>(tree: &DeviceTree<'t>, stdout_path: &'t str) -> Option<&'t str> {
    let path = stdout_path.split(':').next()?;
    if path.starts_with('/') { Some(path) } else { tree.node("/aliases")?.text(path) }
}

/// A node, and its path.
#[derive(Clone, Copy)]
struct Place<'n, 't> {
    node: FdtNode<'t>,
    path: &'n str,
}

impl Place<'_, '_> {
    fn fault(&self, property: &'static str, fault: PropertyFault) -> MachineError {
        MachineError::Property { path: String::from(self.path), property, fault }
    }

    fn wrong(&self, error: FdtError) -> MachineError {
        MachineError::Node { path: String::from(self.path), error }
    }

    /// Entry `n` of `reg`, as the CPU addresses it.
    fn reg(&self, n: usize) -> Result<Region, MachineError> {
        self.regs()?.nth(n).ok_or_else(|| self.fault("reg", PropertyFault::Entry { entry: n }))?
    }

    /// Every entry of `reg`, as the CPU addresses it.
    fn regs(
        &self,
    ) -> Result<impl Iterator<Item = Result<Region, MachineError>> + '_, MachineError> {
        let entries = self.node.reg().map_err(|error| self.wrong(error))?;
        Ok(entries.map(|(address, bytes)| {
            let base = self.node.to_cpu(address, bytes).map_err(|error| self.wrong(error))?;
            self.region(base, bytes, "reg")
        }))
    }

    fn region(&self, base: u64, bytes: u64, of: &'static str) -> Result<Region, MachineError> {
        Region::new(base, bytes).ok_or_else(|| self.fault(of, PropertyFault::TooLarge))
    }
}

impl Machine<'_> {
    fn reserve(&mut self, ranges: impl Iterator<Item = (u64, u64)>) {
        self.reserved.extend(ranges.filter_map(|(base, bytes)| Region::new(base, bytes)));
    }

    fn note(&mut self, place: Place<'_, '_>, console: Option<&str>) -> Result<(), MachineError> {
        let node = place.node;
        let kind_is = |kind| node.text("device_type") == Some(kind);
        if kind_is("memory") {
            for region in place.regs()? {
                let region = region?;
                if region.bytes > 0 {
                    let place = self.memory.partition_point(|other| *other < region);
                    self.memory.insert(place, region);
                }
            }
        } else if kind_is("cpu") {
            // `reg` has an address only; the bus has no `ranges`.
            let cells = node.cells("reg").into_iter().flatten().take(2).map(u64::from);
            let id = cells.reduce(|upper, lower| upper << 32 | lower);
            let id = id.ok_or_else(|| place.fault("reg", PropertyFault::Value))?;
            self.cpus.push(id & MPIDR_AFFINITY);
        } else if place.path.starts_with("/reserved-memory/") {
            // A node without `reg` asks for memory anywhere, which nothing has taken yet.
            if node.property("reg").is_some() {
                self.reserve(node.reg().map_err(|error| place.wrong(error))?);
            }
        } else if node.is_compatible("arm,pl011") {
            if self.uart.is_none() || console == Some(place.path) {
                self.uart = Some(place.reg(0)?);
            }
        } else if node.is_compatible("arm,gic-v3") {
            if self.gic.is_none() {
                let (distributor, redistributors) = (place.reg(0)?, place.reg(1)?);
                self.gic = Some(Gic { distributor, redistributors });
            }
        } else if node.is_compatible("pci-host-ecam-generic") {
            self.host_bridges.push(host_bridge(place)?);
        } else if node.is_compatible("arm,psci-1.0") || node.is_compatible("arm,psci-0.2") {
            self.psci = Some(match node.text("method") {
                Some("smc") => Conduit::Smc,
                Some("hvc") => Conduit::Hvc,
                _ => return Err(place.fault("method", PropertyFault::Value)),
            });
        }
        Ok(())
    }
}

fn host_bridge(place: Place<'_, '_>) -> Result<HostBridge, MachineError> {
    let ecam = place.reg(0)?;
    let last = u8::try_from((ecam.bytes / BUS_BYTES).clamp(1, 256) - 1).unwrap_or(u8::MAX);
    let mut buses = (0, last);
    if let Some(mut cells) = place.node.cells("bus-range") {
        // The ECAM begins with the first bus of the range.
        let value = || place.fault("bus-range", PropertyFault::Value);
        let mut bus = || cells.next().and_then(|bus| u8::try_from(bus).ok()).ok_or_else(value);
        let (first, end) = (bus()?, bus()?);
        if end < first {
            return Err(value());
        }
        buses = (first, end.min(first.saturating_add(last)));
    }
    let windows = windows(place)?;
    Ok(HostBridge { path: String::from(place.path), ecam, buses, windows })
}

/// The windows of 32-bit memory.
fn windows(place: Place<'_, '_>) -> Result<Vec<PciWindow>, MachineError> {
    let mut windows = Vec::new();
    for range in place.node.ranges().map_err(|error| place.wrong(error))? {
        let range = range.map_err(|error| place.wrong(error))?;
        // Three cells: the first holds the kind of space, the others the address.
        if range.on_bus >> PCI_SPACE_SHIFT & 3 == PCI_MEMORY_32 {
            let pci = place.region(range.on_bus as u64, range.length, "ranges")?;
            windows.push(PciWindow { pci, cpu: range.cpu });
        }
    }
    Ok(windows)
}
