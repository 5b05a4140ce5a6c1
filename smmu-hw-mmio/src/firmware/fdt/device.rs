//! A device with an IOMMU, in a device tree.

use super::blob::{Lineage, Node, NodePath};
use super::error::{FdtError, FdtProblem};
use super::smmu::coherency;
use crate::Coherency;

/// PASIDs have 20 bits.
const MAX_PASID_BITS: u32 = 20;

/// A node with `iommus` or `iommu-map`: a device, or the host bridge of a PCIe segment.
#[derive(Clone, Copy)]
pub struct FdtDevice<'a> {
    pub(super) node: Node<'a>,
    pub(super) lineage: Lineage<'a>,
}

impl<'a> FdtDevice<'a> {
    pub(super) fn new(lineage: Lineage<'a>) -> Self {
        Self { node: lineage.node(), lineage }
    }

    /// The byte of the blob at which the node begins.
    #[must_use]
    pub fn at(&self) -> u32 {
        self.node.at
    }

    /// The path of the node.
    #[must_use]
    pub fn path(&self) -> NodePath<'a> {
        NodePath { lineage: self.lineage }
    }

    /// Whether `status` lets software use the device.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.node.is_enabled()
    }

    /// Whether the node is a host bridge of PCIe: `device_type = "pci"`, with a `bus-range`.
    #[must_use]
    pub fn is_host_bridge(&self) -> bool {
        let pci = self.node.property("device_type").is_some_and(|kind| kind.value == b"pci\0");
        pci && self.node.has("bus-range")
    }

    /// Whether the device has an `iommu-map`, so that each input ID may have a StreamID of its own.
    #[must_use]
    pub fn has_map(&self) -> bool {
        self.node.has("iommu-map")
    }

    /// `iommu-map-mask`: the bits of an input ID that count. All of them by default.
    #[must_use]
    pub fn map_mask(&self) -> u32 {
        self.node.cell("iommu-map-mask").unwrap_or(u32::MAX)
    }

    /// Whether the device snoops caches.
    #[must_use]
    pub fn coherency(&self) -> Coherency {
        coherency(&self.lineage)
    }

    /// `ats-supported`: the host bridge passes ATS requests on.
    #[must_use]
    pub fn has_ats(&self) -> bool {
        self.node.has("ats-supported")
    }

    /// `dma-can-stall`: the device waits while software handles its fault.
    #[must_use]
    pub fn can_stall(&self) -> bool {
        self.node.has("dma-can-stall")
    }

    /// `pasid-num-bits`: the bits of the device's PASIDs, 0 for none.
    pub fn pasid_bits(&self) -> Result<u8, FdtError> {
        let Some(property) = self.node.property("pasid-num-bits") else { return Ok(0) };
        let got = property.cell(0).unwrap_or(u32::MAX);
        let bits = u8::try_from(got).ok().filter(|_| got <= MAX_PASID_BITS);
        bits.ok_or(FdtError { at: property.at, problem: FdtProblem::PasidBits { got } })
    }
}
