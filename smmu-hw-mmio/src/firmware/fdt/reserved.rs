//! Reserved memory with `iommu-addresses`: IOVAs that a device uses from before bring-up on.

use smmu_types::{Iova, PhysAddr};

use super::address::BusCells;
use super::blob::{Blob, Node, NodePath, Nodes, Property};
use super::error::{FdtError, FdtProblem};
use super::limits::MAX_REFERENCES;
use super::smmu::coherency;
use crate::Coherency;
use crate::firmware::window::{MemoryType, ReservedWindow};

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
    /// How the device accesses the memory: Write-Back if it snoops caches, otherwise Non-cacheable.
    pub memory_type: MemoryType,
    /// Whether `memory-region` of the device names the region. Some software reads no others.
    pub named: bool,
    /// The byte of the blob at which the entry begins.
    pub at: u32,
}

impl ReservedRegion<'_> {
    /// The region as a window, which each stream of the device needs.
    #[must_use]
    pub const fn window(&self) -> ReservedWindow {
        let window = match self.memory {
            Some(memory) => ReservedWindow::new(self.iova, memory, self.length),
            None => ReservedWindow::hole(self.iova, self.length),
        };
        ReservedWindow { memory_type: Some(self.memory_type), at: self.at, ..window }
    }
}

/// A device with reserved regions.
#[derive(Clone, Copy)]
struct User<'a> {
    node: Node<'a>,
    /// The cells of its bus.
    cells: BusCells,
    memory_type: MemoryType,
}

/// The reserved regions of a device tree.
#[derive(Clone)]
pub struct ReservedRegions<'a> {
    blob: Blob<'a>,
    children: Option<Nodes<'a>>,
    bus: Option<Node<'a>>,
    current: Option<(Node<'a>, Property<'a>, usize)>,
    /// The device that was found last.
    device: Option<(u32, User<'a>)>,
    references: usize,
}

impl<'a> ReservedRegions<'a> {
    pub(super) fn new(blob: Blob<'a>) -> Self {
        let bus = blob.root().children().find(|node| node.name() == "reserved-memory");
        let children = bus.map(Node::children);
        Self { blob, children, bus, current: None, device: None, references: 0 }
    }

    fn device(&mut self, at: u32, phandle: u32) -> Result<User<'a>, FdtError> {
        if let Some((_, user)) = self.device.filter(|(found, ..)| *found == phandle) {
            return Ok(user);
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
        let memory_type = match coherency(&lineage) {
            Coherency::Coherent => MemoryType::NormalWriteBack,
            Coherency::NonCoherent => MemoryType::NormalNonCacheable,
        };
        let user = User { node, cells: BusCells::of(bus)?, memory_type };
        self.device = Some((phandle, user));
        Ok(user)
    }

    /// The memory of a region: the first entry of its `reg`. A region without one has none.
    fn memory(&self, region: Node<'a>) -> Result<Option<(PhysAddr, u64)>, FdtError> {
        let (Some(reg), Some(bus)) = (region.property("reg"), self.bus) else { return Ok(None) };
        let cells = BusCells::of(bus)?;
        let (first, length) = (reg.number(0, cells.address), reg.number(cells.address, cells.size));
        let (Some(first), Some(length)) = (first, length) else {
            let (bytes, entry) = (reg.value.len(), (cells.address + cells.size) * 4);
            let problem = FdtProblem::Length { property: "reg", bytes, entry };
            return Err(FdtError { at: reg.at, problem });
        };
        Ok(Some((PhysAddr(first), length)))
    }

    /// The entry at cell `n`, and the cell behind it. An entry of unknown length has no next one.
    fn entry(
        &mut self,
        region: Node<'a>,
        list: Property<'a>,
        n: usize,
    ) -> Result<(Result<ReservedRegion<'a>, FdtError>, usize), FdtError> {
        let at = list.cell_at(n);
        let User { node: device, cells, memory_type } =
            self.device(at, list.cell(n).unwrap_or(0))?;
        let (address, size) = (list.number(n + 1, cells.address), n + 1 + cells.address);
        let (Some(iova), Some(length)) = (address, list.number(size, cells.size)) else {
            let entry = (1 + cells.address + cells.size) * 4;
            let problem = FdtProblem::Length { property: NAME, bytes: list.value.len(), entry };
            return Err(FdtError { at: list.at, problem });
        };
        let path = |node: Node<'a>| NodePath { lineage: self.blob.lineage(node.at) };
        let region = self.memory(region).and_then(|memory| match memory {
            Some((_, memory)) if memory < length => {
                Err(FdtError { at, problem: FdtProblem::LongerThanMemory { length, memory } })
            }
            memory => Ok(ReservedRegion {
                region: path(region),
                device: path(device),
                device_at: device.at,
                iova: Iova(iova),
                length,
                memory: memory.map(|(first, _)| first),
                memory_type,
                named: names(device, region),
                at,
            }),
        });
        Ok((region, size + cells.size))
    }
}

/// Whether `memory-region` of a device names a region.
fn names(device: Node<'_>, region: Node<'_>) -> bool {
    let Some((list, phandle)) = device.property("memory-region").zip(region.phandle()) else {
        return false;
    };
    // The list may be as long as the blob, and is looked at once for each region.
    (0..list.count()).take(MAX_REFERENCES).any(|n| list.cell(n) == Some(phandle))
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
            return Some(entry.and_then(|(region, _)| region));
        }
    }
}
