//! The resolver over a device tree.

use core::fmt;

use smmu_types::{PhysAddr, SmmuId};

use super::blob::{Blob, NodePath};
use super::device::FdtDevice;
use super::error::FdtError;
use super::iommus::Iommus;
use super::map::Mappings;
use super::node::FdtNode;
use super::reserved::{ReservedRegion, ReservedRegions};
use super::smmu::smmu;
use crate::firmware::mapping::{Inputs, Stream};
use crate::firmware::names::StreamNames;
use crate::firmware::request_id::RequestId;
use crate::firmware::smmu::FirmwareSmmu;
use crate::firmware::window::ReservedWindow;

/// A device tree, with room for `IOMMUS` IOMMUs.
#[derive(Clone, Copy)]
pub struct DeviceTree<'a, const IOMMUS: usize = 32> {
    blob: Blob<'a>,
    iommus: Iommus<IOMMUS>,
}

impl<'a> DeviceTree<'a> {
    /// Reads a tree with up to 32 IOMMUs. Bytes after the blob are left alone.
    pub fn new(bytes: &'a [u8]) -> Result<Self, FdtError> {
        Self::with_room(bytes)
    }
}

impl<'a, const IOMMUS: usize> DeviceTree<'a, IOMMUS> {
    /// Reads a tree with up to `IOMMUS` IOMMUs. Bytes after the blob are left alone.
    pub fn with_room(bytes: &'a [u8]) -> Result<Self, FdtError> {
        let blob = Blob::new(bytes)?;
        Ok(Self { blob, iommus: Iommus::new(blob)? })
    }

    /// The path of the node that holds this byte of the blob.
    #[must_use]
    pub fn path_at(&self, at: u32) -> NodePath<'a> {
        NodePath { lineage: self.blob.lineage(at) }
    }

    /// Every node, each before its children.
    pub fn nodes(&self) -> impl Iterator<Item = FdtNode<'a>> + use<'a, IOMMUS> {
        self.blob.nodes().with_lineage().map(FdtNode::new)
    }

    /// The node with this path, which has all unit addresses.
    #[must_use]
    pub fn node(&self, path: &str) -> Option<FdtNode<'a>> {
        self.nodes().find(|node| node.path().is(path))
    }

    /// The memory that the header reserves: address and length of each range.
    ///
    /// # Errors
    ///
    /// The list lies outside the blob, or does not end in it.
    pub fn memory_reservations(
        &self,
    ) -> Result<impl Iterator<Item = (u64, u64)> + use<'a, IOMMUS>, FdtError> {
        self.blob.reservations()
    }

    /// The blob, without the bytes behind it.
    #[must_use]
    pub fn blob(&self) -> &'a [u8] {
        self.blob.all
    }

    /// `#iommu-cells` of an SMMU. The binding of SMMUv3 has 1; of more cells, the first is the
    /// StreamID.
    #[must_use]
    pub fn iommu_cells(&self, id: SmmuId) -> Option<u32> {
        let mut all = self.iommus.all().iter();
        all.find(|iommu| iommu.smmu == Some(id)).map(|iommu| iommu.cells)
    }

    /// Reads the node of an SMMUv3. SMMUs count from 0, in the order of the tree.
    pub fn smmu(&self, id: SmmuId) -> Result<FirmwareSmmu, FdtError> {
        smmu(self.blob, self.iommus.smmu(self.blob, id)?, id)
    }

    /// Every SMMUv3.
    pub fn smmus(&self) -> impl Iterator<Item = Result<FirmwareSmmu, FdtError>> + '_ {
        (0..self.iommus.smmus()).map(|id| self.smmu(SmmuId(id)))
    }

    /// Every node with `iommus` or `iommu-map`.
    pub fn devices(&self) -> impl Iterator<Item = FdtDevice<'a>> + use<'a, IOMMUS> {
        let nodes = self.blob.nodes().with_lineage().map(FdtDevice::new);
        nodes.filter(|device| device.node.has("iommus") || device.has_map())
    }

    /// Every node that does DMA and names no IOMMU: host bridges of PCIe, and nodes that say
    /// whether their DMA is coherent. Their DMA reaches memory untranslated.
    ///
    /// A device tree does not say of other nodes whether they do DMA.
    pub fn devices_without_iommu(&self) -> impl Iterator<Item = FdtDevice<'a>> + use<'a, IOMMUS> {
        let root = self.blob.root().at;
        let nodes = self.blob.nodes().with_lineage().map(FdtDevice::new);
        nodes.filter(move |device| {
            let node = device.node;
            let says = node.has("dma-coherent") || node.has("dma-noncoherent");
            // A bus says it for what is on it; an IOMMU, for its own tables.
            let bus = node.at == root || node.has("ranges") || node.has("#iommu-cells");
            (device.is_host_bridge() || says && !bus)
                && !node.has("iommus")
                && !node.has("iommu-map")
                && !node.is_compatible("arm,smmu-v3")
        })
    }

    /// The mappings of a device, in the order of its properties.
    pub fn mappings(&self, device: &FdtDevice<'a>) -> Mappings<'_, 'a, IOMMUS> {
        Mappings::new(&self.iommus, device.node)
    }

    /// The stream of a device's transactions with this input ID: a [`RequestId`] behind a host
    /// bridge; any number for a device with `iommus`, which has the first of its streams then.
    ///
    /// `None` if the device is not behind an SMMUv3 with this input. Where entries overlap, the
    /// first counts.
    pub fn stream_of(
        &self,
        device: &FdtDevice<'a>,
        input: impl Into<u32>,
    ) -> Result<Option<Stream>, FdtError> {
        let input = input.into();
        let masked = input & device.map_mask();
        for mapping in self.mappings(device) {
            let mapping = mapping?;
            let input = if mapping.inputs == Inputs::Any { input } else { masked };
            if mapping.output_of(input).is_some() {
                return Ok(mapping.stream_of(input));
            }
        }
        Ok(None)
    }

    /// The device that has a stream, and the input ID behind its `iommu-map`.
    ///
    /// Where several have it, the first in the tree. A device with a wrong entry is looked at all
    /// the same; the entry is not.
    #[must_use]
    pub fn device_of(&self, stream: Stream) -> Option<(FdtDevice<'a>, Option<u32>)> {
        self.devices().find_map(|device| {
            let mut mappings = self.mappings(&device).filter_map(Result::ok);
            let mapping = mappings.find(|mapping| mapping.holds(stream))?;
            Some((device, mapping.input_of(stream.id.0)))
        })
    }

    /// The device of a reserved region. Its [`mappings`](Self::mappings) have the streams.
    #[must_use]
    pub fn device_with(&self, region: &ReservedRegion<'a>) -> FdtDevice<'a> {
        FdtDevice::new(self.blob.lineage(region.device_at))
    }

    /// The windows that reserved memory has for a stream, in the order of the tree.
    ///
    /// Windows of a bridge are those of each stream behind it. A wrong entry gives an error: it may be
    /// that of the stream. The next windows follow.
    pub fn windows_of(
        &self,
        stream: Stream,
    ) -> impl Iterator<Item = Result<ReservedWindow, FdtError>> + '_ {
        // Entries of one device follow each other, and each device is looked at once.
        let mut last = None;
        self.reserved_regions().filter_map(move |region| {
            let region = match region {
                Ok(region) => region,
                Err(error) => return Some(Err(error)),
            };
            let has = match last {
                Some((at, has)) if at == region.device_at => has,
                _ => {
                    let device = self.device_with(&region);
                    let mut mappings = self.mappings(&device);
                    mappings.any(|one| one.is_ok_and(|one| one.holds(stream)))
                }
            };
            last = Some((region.device_at, has));
            has.then(|| Ok(region.window()))
        })
    }

    /// The IOVAs that devices use from before bring-up on.
    #[must_use]
    pub fn reserved_regions(&self) -> ReservedRegions<'a> {
        ReservedRegions::new(self.blob)
    }
}

impl<const IOMMUS: usize> StreamNames for DeviceTree<'_, IOMMUS> {
    fn smmu_count(&self) -> u16 {
        self.iommus.smmus()
    }

    fn smmu_at(&self, base: PhysAddr) -> Option<SmmuId> {
        self.smmus().filter_map(Result::ok).find(|smmu| smmu.base == base).map(|smmu| smmu.id)
    }

    fn write_name(&self, stream: Stream, out: &mut dyn fmt::Write) -> Result<bool, fmt::Error> {
        let Some((device, input)) = self.device_of(stream) else { return Ok(false) };
        write!(out, "{}", device.path())?;
        match input.map(u16::try_from) {
            Some(Ok(id)) => write!(out, " {}", RequestId(id))?,
            Some(Err(_)) => write!(out, " ID {:#x}", input.unwrap_or_default())?,
            None => {}
        }
        Ok(true)
    }
}

impl<const IOMMUS: usize> fmt::Debug for DeviceTree<'_, IOMMUS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceTree").field("smmus", &self.iommus.smmus()).finish_non_exhaustive()
    }
}

impl fmt::Debug for FdtNode<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FdtNode").field(&self.path()).finish()
    }
}

impl fmt::Debug for FdtDevice<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FdtDevice").field(&self.path()).finish()
    }
}
