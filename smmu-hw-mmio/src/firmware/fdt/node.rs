//! Any node: for a program that finds its other devices in the same tree.

use super::address::{BusCells, to_cpu};
use super::blob::{Lineage, NodePath, Property};
use super::error::{FdtError, FdtProblem};

/// A node of a device tree.
///
/// The tree was checked when it was read, so no question fails for a damaged blob. Errors are about
/// what a property says.
#[derive(Clone, Copy)]
pub struct FdtNode<'a> {
    lineage: Lineage<'a>,
}

/// An entry of `ranges`: a window from a bus to the CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BusRange {
    /// The first address on the bus. An address of PCI has three cells: the first holds the kind of
    /// space.
    pub on_bus: u128,
    /// The first address as the CPU uses it.
    pub cpu: u64,
    /// The length in bytes.
    pub length: u64,
}

impl<'a> FdtNode<'a> {
    pub(super) fn new(lineage: Lineage<'a>) -> Self {
        Self { lineage }
    }

    /// The byte of the blob at which the node begins.
    #[must_use]
    pub fn at(&self) -> u32 {
        self.lineage.node().at
    }

    /// The path of the node.
    #[must_use]
    pub fn path(&self) -> NodePath<'a> {
        NodePath { lineage: self.lineage }
    }

    /// Whether `status` lets software use the node and all nodes around it.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.lineage.up().all(|node| node.is_enabled())
    }

    /// Whether `compatible` lists this name.
    #[must_use]
    pub fn is_compatible(&self, name: &str) -> bool {
        self.lineage.node().is_compatible(name)
    }

    /// The value of a property.
    #[must_use]
    pub fn property(&self, name: &str) -> Option<&'a [u8]> {
        self.lineage.node().property(name).map(|property| property.value)
    }

    /// The first string of a property. `None` also if it is not UTF-8.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&'a str> {
        let property = self.lineage.node().property(name)?;
        core::str::from_utf8(property.strings().next()?).ok()
    }

    /// The 32-bit cells of a property.
    pub fn cells(&self, name: &str) -> Option<impl Iterator<Item = u32> + use<'a>> {
        let property = self.lineage.node().property(name)?;
        Some((0..property.count()).map_while(move |n| property.cell(n)))
    }

    /// The entries of `reg` as they are written: address on the bus, and length.
    ///
    /// # Errors
    ///
    /// There is no `reg`, its length is no whole number of entries, or the bus has cells that
    /// cannot be used.
    pub fn reg(&self) -> Result<impl Iterator<Item = (u64, u64)> + use<'a>, FdtError> {
        let reg = self.need("reg")?;
        let bus = self.lineage.up().nth(1).unwrap_or(self.lineage.node());
        let cells = BusCells::of(bus)?;
        let entry = cells.address + cells.size;
        whole(reg, "reg", entry)?;
        Ok((0..reg.count()).step_by(entry).map_while(move |n| {
            Some((reg.number(n, cells.address)?, reg.number(n + cells.address, cells.size)?))
        }))
    }

    /// A range of addresses on the bus that the node is on, as the CPU uses it: its first address.
    ///
    /// # Errors
    ///
    /// The range passes 2^64, or it lies in no entry of a `ranges` between the node and the root.
    pub fn to_cpu(&self, address: u64, length: u64) -> Result<u64, FdtError> {
        self.range_to_cpu(self.need("reg")?, address, length)
    }

    /// The entries of `ranges`, whose addresses the CPU uses.
    ///
    /// # Errors
    ///
    /// As for [`reg`](Self::reg) and [`to_cpu`](Self::to_cpu).
    pub fn ranges(
        &self,
    ) -> Result<impl Iterator<Item = Result<BusRange, FdtError>> + '_, FdtError> {
        let ranges = self.need("ranges")?;
        let BusCells { address: child, size } = BusCells::of_bridge(self.lineage.node())?;
        let parent = self.lineage.up().nth(1).unwrap_or(self.lineage.node());
        let parent = BusCells::of(parent)?.address;
        let entry = child + parent + size;
        whole(ranges, "ranges", entry)?;
        Ok((0..ranges.count()).step_by(entry).map(move |n| {
            let child_cells = (n..n + child).filter_map(move |n| ranges.cell(n));
            let on_bus = child_cells.fold(0, |number, cell| number << 32 | u128::from(cell));
            let above = ranges.number(n + child, parent).unwrap_or_default();
            let length = ranges.number(n + child + parent, size).unwrap_or_default();
            let cpu = self.range_to_cpu(ranges, above, length)?;
            Ok(BusRange { on_bus, cpu, length })
        }))
    }

    fn need(&self, property: &'static str) -> Result<Property<'a>, FdtError> {
        let lacks = FdtError { at: self.at(), problem: FdtProblem::Lacks { property } };
        self.lineage.node().property(property).ok_or(lacks)
    }

    fn range_to_cpu(&self, of: Property<'_>, address: u64, length: u64) -> Result<u64, FdtError> {
        let up = || self.lineage.up().skip(1);
        let wraps = FdtError { at: of.at, problem: FdtProblem::AddressWraps { address, length } };
        let last = address.checked_add(length.saturating_sub(1)).ok_or(wraps)?;
        let first = to_cpu(up(), address)?;
        if to_cpu(up(), last)?.checked_sub(first) == Some(last - address) {
            return Ok(first);
        }
        Err(FdtError { at: of.at, problem: FdtProblem::NotInRanges { address: last } })
    }
}

/// An error, unless the property has a whole number of entries of so many cells.
fn whole(of: Property<'_>, property: &'static str, cells: usize) -> Result<(), FdtError> {
    let (bytes, entry) = (of.value.len(), cells * 4);
    if bytes.is_multiple_of(entry) {
        return Ok(());
    }
    Err(FdtError { at: of.at, problem: FdtProblem::Length { property, bytes, entry } })
}
