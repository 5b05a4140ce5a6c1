//! PCI functions, as the kernel shows them in `/sys/bus/pci/devices`.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use smmu_hw_mmio::firmware::RequestId;

use super::system_files::SystemFiles;

/// Where the kernel shows PCI functions.
pub const FOLDER: &str = "/sys/bus/pci/devices";

/// A PCI function that the kernel shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PciFunction {
    /// Its name, such as `0000:00:01.0`.
    pub name: String,
    /// The PCI segment, which the kernel calls domain.
    pub segment: u32,
    /// Its requester ID.
    pub id: RequestId,
    /// Vendor and device ID.
    pub vendor_device: (u16, u16),
    /// Class, subclass and programming interface.
    pub class: u32,
    /// The driver of the kernel that has it.
    pub driver: Option<String>,
    /// The length of BAR 0. 0 without one.
    pub bar0_bytes: u64,
    /// The node of its host bridge in the device tree.
    pub host_bridge: Option<String>,
}

impl PciFunction {
    /// The directory of the function.
    #[must_use]
    pub fn folder(&self) -> String {
        format!("{FOLDER}/{}", self.name)
    }

    /// Whether it is a bridge, which does no DMA but MSIs.
    #[must_use]
    pub const fn is_bridge(&self) -> bool {
        self.class >> 16 == 6
    }
}

impl fmt::Display for PciFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (vendor, device) = self.vendor_device;
        write!(f, "{} {vendor:04x}:{device:04x}", self.name)
    }
}

/// All functions, in the order of their names. What the kernel shows incompletely is left out.
#[must_use]
pub fn all(files: &dyn SystemFiles) -> Vec<PciFunction> {
    let mut names = files.list(FOLDER).unwrap_or_default();
    names.sort_unstable();
    names.into_iter().filter_map(|name| read(files, name)).collect()
}

fn read(files: &dyn SystemFiles, name: String) -> Option<PciFunction> {
    let folder = format!("{FOLDER}/{name}");
    let number = |file: &str| {
        let text = files.text(&format!("{folder}/{file}"));
        u32::from_str_radix(text.trim().strip_prefix("0x")?, 16).ok()
    };
    let (segment, id) = address(&name)?;
    let vendor_device =
        (u16::try_from(number("vendor")?).ok()?, u16::try_from(number("device")?).ok()?);
    Some(PciFunction {
        segment,
        id,
        vendor_device,
        class: number("class")?,
        driver: files.link_name(&format!("{folder}/driver")),
        bar0_bytes: bar_bytes(&files.text(&format!("{folder}/resource"))).unwrap_or(0),
        host_bridge: host_bridge(files, &folder),
        name,
    })
}

/// Segment and requester ID of a name such as `0000:00:01.0`.
fn address(name: &str) -> Option<(u32, RequestId)> {
    let mut parts = name.split([':', '.']);
    let mut hex = || u32::from_str_radix(parts.next()?, 16).ok();
    let (segment, bus, device, function) = (hex()?, hex()?, hex()?, hex()?);
    let byte = |number: u32| u8::try_from(number).ok();
    let id = RequestId::new(byte(bus)?, byte(device)?, byte(function)?)?;
    parts.next().is_none().then_some((segment, id))
}

/// The length of BAR 0 in the file `resource`: first address, last address and flags.
fn bar_bytes(resource: &str) -> Option<u64> {
    let mut numbers = resource.lines().next()?.split_ascii_whitespace();
    let mut number = || u64::from_str_radix(numbers.next()?.strip_prefix("0x")?, 16).ok();
    let (first, last) = (number()?, number()?);
    if last == 0 { None } else { last.checked_sub(first)?.checked_add(1) }
}

/// The function lies in a directory `pciSEGMENT:BUS` of its host bridge, which has the node.
fn host_bridge(files: &dyn SystemFiles, folder: &str) -> Option<String> {
    let real = files.link(folder).ok()?;
    let below_sys = real.trim_start_matches("../");
    let (bridge, _) = below_sys.split_once("/pci")?;
    let node = files.link(&format!("/sys/{bridge}/of_node")).ok()?;
    Some(String::from(node_path(&node)?))
}

/// The path in the device tree of a link `of_node`.
pub(super) fn node_path(link: &str) -> Option<&str> {
    const BASE: &str = "/devicetree/base";
    let at = link.find(BASE)?;
    link.get(at + BASE.len()..).map(|path| if path.is_empty() { "/" } else { path })
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::super::test_system::TestSystem;
    use super::*;

    #[test]
    fn functions_of_qemu() {
        let system = TestSystem::qemu().function("0000:00:00.0", "0x1b36", "0x0008", "0x060000");
        let functions = all(&system);
        let names: Vec<String> = functions.iter().map(ToString::to_string).collect();
        let expected =
            ["0000:00:00.0 1b36:0008", "0000:00:01.0 1b36:0005", "0000:00:02.0 1b36:0005"];
        assert_eq!(names, expected);
        assert!(functions[0].is_bridge() && !functions[1].is_bridge());
        assert_eq!(functions[1].id, RequestId(8));
        assert_eq!(functions[1].bar0_bytes, 0x1000);
        assert_eq!(functions[1].host_bridge.as_deref(), Some("/pcie@10000000"));
        assert_eq!(functions[1].driver, None);
    }

    #[test]
    fn strange_files_are_left_out() {
        for name in ["0000:00:01", "0000:00:01.8", "0000:100:01.0", "0000:00:20.0", "a:b:c:d.e"] {
            assert_eq!(address(name), None, "{name}");
        }
        assert_eq!(address("10000:e0:1f.7"), Some((0x1_0000, RequestId(0xe0ff))));
        for resource in ["", "0x0 0x0 0x0", "0x10 0x8 0x0", "1 2 3", "0x0 0xffffffffffffffff 0x0"] {
            assert_eq!(bar_bytes(resource), None, "{resource}");
        }
        let system = TestSystem::default().file("/sys/bus/pci/devices/0000:00:01.0/vendor", "0x1");
        assert_eq!(all(&system), []);
    }
}
