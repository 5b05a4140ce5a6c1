//! Buses between a node and the root, and the addresses of registers on them.

use alloc::string::String;
use alloc::vec::Vec;

use dtoolkit::fdt::FdtNode;
use dtoolkit::{Node, Property};

use super::error::{MachineError, PropertyFault};
use super::region::Region;

/// How addresses on a bus become addresses of the bus above.
enum Ranges {
    /// As they are.
    Same,
    /// By these entries: on the bus, above it, length.
    Entries(Vec<(u64, u64, u64)>),
    /// The CPU reaches no address of this bus.
    None,
}

/// A bus, inside of its parents.
pub(super) struct Bus<'p> {
    parent: Option<&'p Bus<'p>>,
    ranges: Ranges,
}

impl Bus<'_> {
    /// The root of the tree, whose addresses are the CPU's.
    pub(super) const ROOT: Bus<'static> = Bus { parent: None, ranges: Ranges::Same };
}

impl<'p> Bus<'p> {
    /// The bus that the children of `node` are on. A wrong `ranges` counts as none: what lies on
    /// such a bus has an error of its own if the program needs it.
    pub(super) fn below(&'p self, node: FdtNode<'_>) -> Bus<'p> {
        let ranges = match node.property("ranges").map(|ranges| ranges.value().is_empty()) {
            None => Ranges::None,
            Some(true) => Ranges::Same,
            Some(false) => match node.ranges() {
                Ok(Some(ranges)) => Ranges::Entries(
                    ranges
                        .filter_map(|range| {
                            let child = range.child_bus_address().ok()?;
                            Some((child, range.parent_bus_address().ok()?, range.length().ok()?))
                        })
                        .collect(),
                ),
                _ => Ranges::None,
            },
        };
        Bus { parent: Some(self), ranges }
    }

    /// A region of this bus, as the CPU addresses it.
    fn to_cpu(&self, region: Region) -> Option<Region> {
        let above = match &self.ranges {
            Ranges::Same => Some(region),
            Ranges::None => None,
            Ranges::Entries(entries) => entries.iter().find_map(|&(child, parent, length)| {
                Region::new(child, length)?.contains(region).then_some(())?;
                Region::new(parent.checked_add(region.base - child)?, region.bytes)
            }),
        };
        match self.parent {
            Some(parent) => parent.to_cpu(above?),
            None => above,
        }
    }
}

/// A node, where it is, and the bus that it is on.
#[derive(Clone, Copy)]
pub(super) struct Place<'n, 't> {
    pub(super) node: FdtNode<'t>,
    pub(super) path: &'n str,
    pub(super) bus: &'n Bus<'n>,
}

impl Place<'_, '_> {
    pub(super) fn fault(&self, property: &'static str, fault: PropertyFault) -> MachineError {
        MachineError::Property { path: String::from(self.path), property, fault }
    }

    /// Entry `n` of `reg`, as the CPU addresses it.
    pub(super) fn reg(&self, n: usize) -> Result<Region, MachineError> {
        self.regs()?.nth(n).ok_or_else(|| self.fault("reg", PropertyFault::Entry { entry: n }))?
    }

    /// Every entry of `reg`, as the CPU addresses it.
    pub(super) fn regs(
        &self,
    ) -> Result<impl Iterator<Item = Result<Region, MachineError>> + '_, MachineError> {
        let reg = self.node.property("reg");
        let bytes = reg.ok_or_else(|| self.fault("reg", PropertyFault::Missing))?.value().len();
        let length = self.fault("reg", PropertyFault::Length { bytes });
        let Ok(Some(entries)) = self.node.reg() else { return Err(length) };
        Ok(entries.map(|entry| {
            let too_large = || self.fault("reg", PropertyFault::TooLarge);
            let address = entry.address::<u64>().map_err(|_| too_large())?;
            let bytes = entry.size::<u64>().map_err(|_| too_large())?;
            self.on_bus(address, bytes, "reg")
        }))
    }

    /// A region of the bus that the node is on, as the CPU addresses it.
    pub(super) fn on_bus(
        &self,
        address: u64,
        bytes: u64,
        property: &'static str,
    ) -> Result<Region, MachineError> {
        let region = Region::new(address, bytes);
        let region = region.ok_or_else(|| self.fault(property, PropertyFault::TooLarge))?;
        let outside = || self.fault(property, PropertyFault::NotInRanges);
        self.bus.to_cpu(region).ok_or_else(outside)
    }
}
