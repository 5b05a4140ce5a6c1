//! A device tree for Linux that tells of all SMMUs: QEMU's own tells of SMMU 0 only.
//!
//! Each further PCI root becomes a host bridge with a PCI segment of its own, as boards have them. It
//! gets its buses of the configuration space and a part of the window for 32-bit memory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use dtoolkit::Property;
use dtoolkit::fdt::Fdt;
use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};

use super::error::QemuError;
use super::plan::{SMMU_BASE, SMMU_SPACING};

const ECAM: u64 = 0x40_1000_0000;
const BUS_BYTES: u64 = 1 << 20;
/// The window of the first host bridge, and of each further one.
const FIRST_WINDOW: (u32, u32) = (0x1000_0000, 0x1000_0000);
const WINDOWS: u32 = 0x2000_0000;
const WINDOW_BYTES: u32 = 0x0400_0000;
const MEMORY_32: u32 = 0x0200_0000;
const SPIS_PER_SMMU: u32 = 4;
/// Above the handles that QEMU gives.
const PHANDLES: u32 = 0xa000;

/// A file that is removed in the end.
pub(super) struct TreeFile(PathBuf);

impl TreeFile {
    /// Asks QEMU for the tree of a machine, and completes it. `command` has the machine's arguments
    /// without `-M`.
    pub(super) fn make(
        mut command: Command,
        machine: &str,
        buses: &[(u32, u32)],
    ) -> Result<Self, QemuError> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("smmu-tree-{}-{count}.dtb", std::process::id());
        let file = TreeFile(std::env::temp_dir().join(name));
        // A comma ends an option, so it is doubled in a value.
        let shown = file.0.to_string_lossy().replace(',', ",,");
        command.args(["-M", &format!("{machine},dumpdtb={shown}")]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // No file if it fails.
        let _ = command.status().map_err(QemuError::system("ask QEMU for its device tree"))?;
        let read = fs::read(&file.0).map_err(QemuError::system("read QEMU's device tree"))?;
        let complete = with_all_smmus(&read, buses).ok_or_else(|| {
            let what = "its nodes of PCI and SMMU are not those that this program knows";
            let error = std::io::Error::new(std::io::ErrorKind::InvalidData, what);
            QemuError::system("complete QEMU's device tree")(error)
        })?;
        fs::write(&file.0, complete).map_err(QemuError::system("write a device tree"))?;
        Ok(file)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TreeFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// The tree with one host bridge and one SMMU for each entry of `buses`.
fn with_all_smmus(blob: &[u8], buses: &[(u32, u32)]) -> Option<Vec<u8>> {
    let mut tree = DeviceTree::from_fdt(&Fdt::new(blob).ok()?);
    let pcie = tree.root.child_mut("pcie@10000000")?;
    let first_smmu = format!("smmuv3@{SMMU_BASE:x}");
    let mut bridge = pcie.clone();
    // Further host bridges use no interrupt, and QEMU has no other place for their MSIs.
    for property in ["interrupt-map", "interrupt-map-mask", "#interrupt-cells", "msi-map", "ranges"]
    {
        bridge.remove_property(property);
    }
    let phandle = cells(tree.root.child_mut(&first_smmu)?, "phandle")?.first().copied()?;
    let &(first, last) = buses.first()?;
    set_bridge(tree.root.child_mut("pcie@10000000")?, 0, (first, last), phandle, FIRST_WINDOW)?;
    for (n, &each) in (1u32..).zip(buses.get(1..)?) {
        let mut smmu = tree.root.child_mut(&first_smmu)?.clone();
        let base = SMMU_BASE + SMMU_SPACING * u64::from(n);
        let mut interrupts = cells(&mut smmu, "interrupts")?;
        for interrupt in interrupts.chunks_mut(3) {
            *interrupt.get_mut(1)? += SPIS_PER_SMMU * n;
        }
        set(&mut smmu, "interrupts", &interrupts);
        set(&mut smmu, "reg", &[0, u32::try_from(base).ok()?, 0, SMMU_SPACING as u32]);
        set(&mut smmu, "phandle", &[PHANDLES + n]);
        tree.root.add_child(renamed(&smmu, &format!("smmuv3@{base:x}"))?);

        let mut bridge = bridge.clone();
        let window = (WINDOWS + (n - 1) * WINDOW_BYTES, WINDOW_BYTES);
        set_bridge(&mut bridge, n, each, PHANDLES + n, window)?;
        let at = ECAM + u64::from(each.0) * BUS_BYTES;
        tree.root.add_child(renamed(&bridge, &format!("pcie@{at:x}"))?);
    }
    Some(tree.to_dtb())
}

/// Gives a host bridge its segment, its buses, its SMMU and its window.
fn set_bridge(
    bridge: &mut DeviceTreeNode,
    segment: u32,
    (first, last): (u32, u32),
    smmu: u32,
    (window, bytes): (u32, u32),
) -> Option<()> {
    let (ecam, count) = (ECAM + u64::from(first) * BUS_BYTES, last.checked_sub(first)? + 1);
    let ecam_bytes = count.checked_mul(BUS_BYTES as u32)?;
    set(bridge, "reg", &[(ecam >> 32) as u32, ecam as u32, 0, ecam_bytes]);
    set(bridge, "bus-range", &[first, last]);
    set(bridge, "linux,pci-domain", &[segment]);
    set(bridge, "iommu-map", &[first << 8, smmu, first << 8, count << 8]);
    set(bridge, "ranges", &[MEMORY_32, 0, window, 0, window, 0, bytes]);
    Some(())
}

fn cells(node: &mut DeviceTreeNode, name: &str) -> Option<Vec<u32>> {
    let value = (&*node.property_mut(name)?).value().to_vec();
    Some(value.as_chunks::<4>().0.iter().map(|cell| u32::from_be_bytes(*cell)).collect())
}

fn set(node: &mut DeviceTreeNode, name: &str, cells: &[u32]) {
    let value: Vec<u8> = cells.iter().flat_map(|cell| cell.to_be_bytes()).collect();
    node.remove_property(name);
    node.add_property(DeviceTreeProperty::new_unchecked(name, value));
}

/// The properties of a node under another name.
fn renamed(node: &DeviceTreeNode, name: &str) -> Option<DeviceTreeNode> {
    use dtoolkit::Node;
    let mut new = DeviceTreeNode::new(name).ok()?;
    for property in node.properties() {
        new.add_property(property.clone());
    }
    Some(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_of_another_machine_is_refused() {
        assert_eq!(with_all_smmus(b"", &[(0, 7), (8, 11)]), None);
        let empty = DeviceTree::new().to_dtb();
        assert_eq!(with_all_smmus(&empty, &[(0, 7), (8, 11)]), None);
    }
}
