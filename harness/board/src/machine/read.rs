//! Reads the nodes that a program on a board needs.

use alloc::string::String;
use alloc::vec::Vec;

use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::standard::{NodeStandard, Status};
use dtoolkit::{Node, Property};
use smmu_hw_mmio::firmware::fdt::DeviceTree;

use super::bus::{Bus, Place};
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
    // The first reader bounds the depth of nodes, so the walk below may recurse.
    let tree = DeviceTree::new(blob)?;
    let smmus = tree.smmus().filter(|smmu| !smmu.is_ok_and(|smmu| !smmu.enabled));
    let smmus = smmus.collect::<Result<Vec<_>, _>>()?;
    let total = blob.get(4..8).and_then(|total| total.try_into().ok()).map(u32::from_be_bytes);
    let blob = blob.get(..total.unwrap_or(0) as usize).unwrap_or(blob);
    let fdt = Fdt::new(blob).map_err(MachineError::Blob)?;

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
        command_line: text(&fdt, "/chosen", "bootargs").unwrap_or(""),
    };
    machine.reserved.push(Region { base: at, bytes: blob.len() as u64 });
    let reservations = fdt.memory_reservations();
    machine.reserved.extend(reservations.filter_map(|one| Region::new(one.address(), one.size())));
    let console = console_path(&fdt);
    let root = fdt.root();
    let mut path = String::from("/");
    walk(root, &mut path, &Bus::ROOT, &mut |place| machine.note(place, console))?;
    if machine.memory.is_empty() {
        return Err(MachineError::NoMemory);
    }
    Ok(machine)
}

fn text<'t>(fdt: &Fdt<'t>, node: &str, property: &str) -> Option<&'t str> {
    fdt.find_node(node)?.property(property)?.value_as::<&'t str>().ok()
}

/// The path in `stdout-path`, without its options, and through `/aliases`.
fn console_path<'t>(fdt: &Fdt<'t>) -> Option<&'t str> {
    let path = text(fdt, "/chosen", "stdout-path")?.split(':').next()?;
    if path.starts_with('/') { Some(path) } else { text(fdt, "/aliases", path) }
}

/// Visits `node` and all below it that software may use.
fn walk<'t>(
    node: FdtNode<'t>,
    path: &mut String,
    bus: &Bus<'_>,
    visit: &mut dyn FnMut(Place<'_, 't>) -> Result<(), MachineError>,
) -> Result<(), MachineError> {
    if matches!(node.status(), Ok(Status::Disabled | Status::Reserved) | Err(_)) {
        return Ok(());
    }
    visit(Place { node, path, bus })?;
    let is_root = path == "/";
    let below = bus.below(node);
    // The root has no `ranges`: its children have the CPU's addresses. CPUs and reserved memory
    // are on no bus.
    let bus = if is_root { bus } else { &below };
    let length = path.len();
    for child in node.children() {
        if !is_root {
            path.push('/');
        }
        path.push_str(child.name());
        walk(child, path, bus, visit)?;
        path.truncate(length);
    }
    Ok(())
}

impl Machine<'_> {
    fn note(&mut self, place: Place<'_, '_>, console: Option<&str>) -> Result<(), MachineError> {
        let node = place.node;
        let is_of = |property: &str, text: &[u8]| {
            node.property(property).is_some_and(|value| value.value() == text)
        };
        let kind_is = |text: &[u8]| is_of("device_type", text);
        if kind_is(b"memory\0") {
            for region in place.regs()? {
                let region = region?;
                if region.bytes > 0 {
                    let place = self.memory.partition_point(|other| *other < region);
                    self.memory.insert(place, region);
                }
            }
        } else if kind_is(b"cpu\0") {
            // `reg` has an address only; the bus has no `ranges`.
            let ids = node.reg().ok().flatten().and_then(|mut ids| ids.next());
            let id = ids.and_then(|id| id.address::<u64>().ok());
            let id = id.ok_or_else(|| place.fault("reg", PropertyFault::Value))?;
            self.cpus.push(id & MPIDR_AFFINITY);
        } else if place.path.starts_with("/reserved-memory/") {
            // A node without `reg` asks for memory anywhere, which nothing has taken yet.
            let regions = node.reg().ok().flatten().into_iter().flatten();
            self.reserved.extend(
                regions.filter_map(|one| Region::new(one.address().ok()?, one.size().ok()?)),
            );
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
            self.psci = Some(if is_of("method", b"smc\0") {
                Conduit::Smc
            } else if is_of("method", b"hvc\0") {
                Conduit::Hvc
            } else {
                return Err(place.fault("method", PropertyFault::Value));
            });
        }
        Ok(())
    }
}

fn host_bridge(place: Place<'_, '_>) -> Result<HostBridge, MachineError> {
    let ecam = place.reg(0)?;
    let last = u8::try_from((ecam.bytes / BUS_BYTES).clamp(1, 256) - 1).unwrap_or(u8::MAX);
    let mut buses = (0, last);
    if let Some(property) = place.node.property("bus-range") {
        let cells = cells(property.value());
        let (Some(&first), Some(&end)) = (cells.first(), cells.get(1)) else {
            let bytes = property.value().len();
            return Err(place.fault("bus-range", PropertyFault::Length { bytes }));
        };
        // The ECAM begins with the first bus of the range.
        let value = || place.fault("bus-range", PropertyFault::Value);
        let first = u8::try_from(first).map_err(|_| value())?;
        let end = u8::try_from(end).ok().filter(|end| *end >= first).ok_or_else(value)?;
        buses = (first, end.min(first.saturating_add(last)));
    }
    let windows = windows(place)?;
    Ok(HostBridge { path: String::from(place.path), ecam, buses, windows })
}

/// The windows of 32-bit memory.
fn windows(place: Place<'_, '_>) -> Result<Vec<PciWindow>, MachineError> {
    let Some(ranges) = place.node.property("ranges") else {
        return Err(place.fault("ranges", PropertyFault::Missing));
    };
    let bytes = ranges.value().len();
    let length = place.fault("ranges", PropertyFault::Length { bytes });
    let Ok(Some(entries)) = place.node.ranges() else { return Err(length) };
    let mut windows = Vec::new();
    for entry in entries {
        let too_large = |_| place.fault("ranges", PropertyFault::TooLarge);
        // Three cells: the first holds the kind of space, the others the address.
        let child = entry.child_bus_address::<u128>().map_err(too_large)?;
        if child >> PCI_SPACE_SHIFT & 3 != PCI_MEMORY_32 {
            continue;
        }
        let cpu = entry.parent_bus_address().map_err(too_large)?;
        let bytes = entry.length().map_err(too_large)?;
        let cpu = place.on_bus(cpu, bytes, "ranges")?.base;
        let pci = Region::new(child as u64, bytes);
        let pci = pci.ok_or_else(|| place.fault("ranges", PropertyFault::TooLarge))?;
        windows.push(PciWindow { pci, cpu });
    }
    Ok(windows)
}

fn cells(value: &[u8]) -> Vec<u32> {
    let (cells, _) = value.as_chunks::<4>();
    cells.iter().map(|cell| u32::from_be_bytes(*cell)).collect()
}
