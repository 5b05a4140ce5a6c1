//! Addresses on a bus, and the addresses that the CPU uses.

use super::blob::{Lineage, Node};
use super::error::{FdtError, FdtProblem};

/// The cells of an address and of a size, as a bus says.
#[derive(Clone, Copy)]
pub(super) struct BusCells {
    pub(super) address: usize,
    pub(super) size: usize,
}

impl BusCells {
    /// What `bus` says; the specification's 2 and 1 where it says nothing.
    pub(super) fn of(bus: Node<'_>) -> Result<Self, FdtError> {
        Self::up_to(bus, 2)
    }

    /// The same of a bridge, whose addresses may have the three cells of PCI.
    pub(super) fn of_bridge(bus: Node<'_>) -> Result<Self, FdtError> {
        Self::up_to(bus, 3)
    }

    fn up_to(bus: Node<'_>, most_of_address: u32) -> Result<Self, FdtError> {
        let cells = |property, default, most| {
            let got = bus.cell(property).unwrap_or(default);
            if (1..=most).contains(&got) {
                return Ok(got as usize);
            }
            let problem = FdtProblem::CellCount { property, got, least: 1, most };
            Err(FdtError { at: bus.at, problem })
        };
        Ok(Self {
            address: cells("#address-cells", 2, most_of_address)?,
            size: cells("#size-cells", 1, 2)?,
        })
    }
}

/// The first address and size of `reg`, as the CPU sees them.
pub(super) fn first_window(lineage: &Lineage<'_>) -> Result<(u64, u64), FdtError> {
    let mut up = lineage.up();
    // A node without a parent is the root, and has no address.
    let (Some(node), Some(bus)) = (up.next(), up.next()) else { return Ok((0, 0)) };
    let lacks = FdtError { at: node.at, problem: FdtProblem::Lacks { property: "reg" } };
    let reg = node.property("reg").ok_or(lacks)?;
    let cells = BusCells::of(bus)?;
    let entry = cells.address + cells.size;
    let (Some(address), Some(size)) =
        (reg.number(0, cells.address), reg.number(cells.address, cells.size))
    else {
        let bytes = reg.value.len();
        let problem = FdtProblem::Length { property: "reg", bytes, entry: entry * 4 };
        return Err(FdtError { at: reg.at, problem });
    };
    Ok((to_cpu(lineage.up().skip(1), address)?, size))
}

/// An address as the CPU uses it. `up` has the bus that the address is on, and those around it.
pub(super) fn to_cpu<'a>(
    mut up: impl Iterator<Item = Node<'a>>,
    mut address: u64,
) -> Result<u64, FdtError> {
    let Some(mut bus) = up.next() else { return Ok(address) };
    let mut cells = BusCells::of(bus)?;
    for parent in up {
        let parent_cells = BusCells::of(parent)?;
        let Some(ranges) = bus.property("ranges") else {
            return Err(FdtError { at: bus.at, problem: FdtProblem::NoRanges });
        };
        if !ranges.value.is_empty() {
            let length = cells.address + parent_cells.address + cells.size;
            let translated = (0..ranges.count() / length).find_map(|n| {
                let n = n * length;
                let child = ranges.number(n, cells.address)?;
                let above = ranges.number(n + cells.address, parent_cells.address)?;
                let span = ranges.number(n + cells.address + parent_cells.address, cells.size)?;
                let inside = address.checked_sub(child).filter(|inside| *inside < span)?;
                above.checked_add(inside)
            });
            let missing = FdtError { at: ranges.at, problem: FdtProblem::NotInRanges { address } };
            address = translated.ok_or(missing)?;
        }
        (bus, cells) = (parent, parent_cells);
    }
    Ok(address)
}
