//! The description of an SMMUv3 in a device tree.

use smmu_types::{PhysAddr, SmmuId};

use super::address::first_window;
use super::blob::{Blob, Lineage, Node};
use super::error::FdtError;
use super::interrupts::smmu_interrupts;
use crate::Coherency;
use crate::firmware::smmu::{FirmwareQuirks, FirmwareSmmu};

pub(super) fn smmu(blob: Blob<'_>, node: Node<'_>, id: SmmuId) -> Result<FirmwareSmmu, FdtError> {
    let lineage = blob.lineage(node.at);
    let (base, size) = first_window(&lineage)?;
    Ok(FirmwareSmmu {
        id,
        base: PhysAddr(base),
        size: Some(size),
        coherency: coherency(&lineage),
        enabled: node.is_enabled(),
        interrupts: smmu_interrupts(blob, &lineage)?,
        // The cell behind the phandle is the DeviceID. A controller of no cells has one device.
        msi_device_id: node.property("msi-parent").map(|msi| msi.cell(1).unwrap_or(0)),
        quirks: FirmwareQuirks {
            broken_prefetch: node.has("hisilicon,broken-prefetch-cmd"),
            page0_only: node.has("cavium,cn9900-broken-page1-regspace"),
            repeat_invalidations: node.is_compatible("nvidia,tegra264-smmu"),
        },
        numa_node: node.cell("numa-node-id"),
        at: node.at,
    })
}

/// Whether a node snoops caches: what it says, or else the nearest bus around it that says
/// something.
pub(super) fn coherency(lineage: &Lineage<'_>) -> Coherency {
    let said = lineage.up().find_map(|node| {
        let snoops = node.has("dma-coherent").then_some(Coherency::Coherent);
        snoops.or_else(|| node.has("dma-noncoherent").then_some(Coherency::NonCoherent))
    });
    said.unwrap_or(Coherency::NonCoherent)
}
