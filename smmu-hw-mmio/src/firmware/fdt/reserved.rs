//! Reserved memory with `iommu-addresses`: IOVAs that a device uses from before bring-up on.

use smmu_types::{Iova, PhysAddr};

use super::address::BusCells;
use super::blob::{Blob, Node, NodePath, Nodes, Property};
use super::error::{FdtError, FdtProblem};
use super::limits::MAX_REFERENCES;

const NAME: &str = "iommu-addresses";

/// A range of IOVAs of one device that software must not give out.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ReservedRegion<'a> {
    /// The node below `/reserved-memory`.
    pub region: NodePath<'a>,
    /// The device.
    pub device: NodePath<'a>,
    /// The byte of the blob at which the device's node begins.
    pub device_at: u32,
    /// The first IOVA.
    pub iova: Iova,
    /// The length in bytes.
    pub length: u64,
    /// The memory behind it, which the driver must map. `None`: the IOVAs only stay free.
    pub memory: Option<PhysAddr>,
    /// The byte of the blob at which the entry begins.
    pub at: u32,
}

/// The reserved regions of a device tree.
#[derive(Clone)]
pub struct ReservedRegions<'a> {
    blob: Blob<'a>,
    children: Option<Nodes<'a>>,
    bus: Option<Node<'a>>,
    current: Option<(Node<'a>, Property<'a>, usize)>,
    /// The device that was found last: its phandle, its node, and the cells of its bus.
    device: Option<(u32, Node<'a>, BusCells)>,
    references: usize,
}

impl<'a> ReservedRegions<'a> {
    pub(super) fn new(blob: Blob<'a>) -> Self {
        let bus = blob.root().children().find(|node| node.name() == "reserved-memory");
        let children = bus.map(Node::children);
        Self { blob, children, bus, current: None, device: None, references: 0 }
    }

    fn device(&mut self, at: u32, phandle: u32) -> Result<(Node<'a>, BusCells), FdtError> {
        if let Some((_, node, cells)) = self.device.filter(|(found, ..)| *found == phandle) {
            return Ok((node, cells));
        }
        self.references += 1;
        if self.references > MAX_REFERENCES {
            return Err(FdtError { at, problem: FdtProblem::TooManyReferences });
        }
        let missing =
            FdtError { at, problem: FdtProblem::NoSuchPhandle { property: NAME, phandle } };
        let mut nodes = self.blob.nodes();
        let node = nodes.find(|node| node.phandle() == Some(phandle)).ok_or(missing)?;
        let lineage = self.blob.lineage(node.at);
        let bus = lineage.up().nth(1).ok_or(missing)?;
        let cells = BusCells::of(bus)?;
        self.device = Some((phandle, node, cells));
        Ok((node, cells))
    }

    fn entry(
        &mut self,
        region: Node<'a>,
        list: Property<'a>,
        n: usize,
    ) -> Result<(ReservedRegion<'a>, usize), FdtError> {
        let at = list.cell_at(n);
        let (device, cells) = self.device(at, list.cell(n).unwrap_or(0))?;
        let (address, size) = (list.number(n + 1, cells.address), n + 1 + cells.address);
        let (Some(iova), Some(length)) = (address, list.number(size, cells.size)) else {
            let entry = (1 + cells.address + cells.size) * 4;
            let problem = FdtProblem::Length { property: NAME, bytes: list.value.len(), entry };
            return Err(FdtError { at: list.at, problem });
        };
        let memory = match (region.property("reg"), self.bus) {
            (Some(reg), Some(bus)) => reg.number(0, BusCells::of(bus)?.address).map(PhysAddr),
            _ => None,
        };
        let path = |node: Node<'a>| NodePath { lineage: self.blob.lineage(node.at) };
        let region = ReservedRegion {
            region: path(region),
            device: path(device),
            device_at: device.at,
            iova: Iova(iova),
            length,
            memory,
            at,
        };
        Ok((region, size + cells.size))
    }
}

impl<'a> Iterator for ReservedRegions<'a> {
    type Item = Result<ReservedRegion<'a>, FdtError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let Some((region, list, n)) = self.current else {
                let region = self.children.as_mut()?.next()?;
                self.current = region.property(NAME).map(|list| (region, list, 0));
                continue;
            };
            if n * 4 >= list.value.len() {
                self.current = None;
                continue;
            }
            let entry = self.entry(region, list, n);
            // An entry of unknown length hides those behind it.
            self.current = entry.as_ref().ok().map(|(_, next)| (region, list, *next));
            if entry.as_ref().is_err_and(|e| e.problem == FdtProblem::TooManyReferences) {
                self.children = None;
            }
            return Some(entry.map(|(region, _)| region));
        }
    }
}
