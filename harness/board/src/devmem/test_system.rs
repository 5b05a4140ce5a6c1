//! A system of files for tests: those that Linux 6.1 has on QEMU's machine `virt`.

use std::collections::BTreeMap;
use std::string::{String, ToString};
use std::vec::Vec;

use super::system_files::{Errno, SystemFiles};

/// What lies at a path.
enum Entry {
    File(Vec<u8>),
    Link(String),
}

/// Files and links by their paths.
#[derive(Default)]
pub(super) struct TestSystem(BTreeMap<String, Entry>);

impl TestSystem {
    pub(super) fn file(mut self, path: &str, content: impl AsRef<[u8]>) -> Self {
        self.0.insert(path.to_string(), Entry::File(content.as_ref().to_vec()));
        self
    }

    pub(super) fn link(mut self, path: &str, to: &str) -> Self {
        self.0.insert(path.to_string(), Entry::Link(to.to_string()));
        self
    }

    pub(super) fn without(mut self, path: &str) -> Self {
        self.0.retain(|other, _| !other.starts_with(path));
        self
    }

    /// One SMMU in front of PCI, and two test devices. The kernel leaves the SMMU alone.
    pub(super) fn qemu() -> Self {
        let mut system = TestSystem::default()
            .file("/proc/iomem", IOMEM)
            .file("/proc/cmdline", "console=ttyAMA0 initcall_blacklist=arm_smmu_driver_init\n")
            .link(
                "/sys/bus/platform/devices/9050000.smmuv3",
                "../../../devices/platform/9050000.smmuv3",
            )
            .link(
                "/sys/bus/platform/devices/9050000.smmuv3/of_node",
                "../../../firmware/devicetree/base/smmuv3@9050000",
            )
            .link(
                "/sys/bus/platform/devices/9000000.pl011/of_node",
                "../../../firmware/devicetree/base/pl011@9000000",
            )
            .link(
                "/sys/bus/platform/devices/9000000.pl011/driver",
                "../../../bus/amba/drivers/uart-pl011",
            )
            .link(
                "/sys/devices/platform/4010000000.pcie/of_node",
                "../../../firmware/devicetree/base/pcie@10000000",
            );
        for device in ["0000:00:01.0", "0000:00:02.0"] {
            system = system.function(device, "0x1b36", "0x0005", "0x00ff00");
        }
        system
    }

    pub(super) fn function(self, name: &str, vendor: &str, device: &str, class: &str) -> Self {
        let folder = std::format!("/sys/bus/pci/devices/{name}");
        let to = std::format!("../../../devices/platform/4010000000.pcie/pci0000:00/{name}");
        self.link(&folder, &to)
            .file(&std::format!("{folder}/vendor"), std::format!("{vendor}\n"))
            .file(&std::format!("{folder}/device"), std::format!("{device}\n"))
            .file(&std::format!("{folder}/class"), std::format!("{class}\n"))
            .file(&std::format!("{folder}/resource"), RESOURCE)
    }

    /// As the kernel's driver shows that it drives the SMMU.
    pub(super) fn driven(self) -> Self {
        let device = "../../../../devices/platform/9050000.smmuv3";
        self.link(
            "/sys/class/iommu/smmu3.0x0000000009050000",
            "../../devices/platform/9050000.smmuv3/iommu/smmu3.0x0000000009050000",
        )
        .link("/sys/class/iommu/smmu3.0x0000000009050000/device", "../../../9050000.smmuv3")
        .link("/sys/bus/platform/drivers/arm-smmu-v3/9050000.smmuv3", device)
        .link(
            "/sys/bus/platform/devices/9050000.smmuv3/driver",
            "../../../bus/platform/drivers/arm-smmu-v3",
        )
    }
}

pub(super) const IOMEM: &str = "\
08000000-0800ffff : GICD
09000000-09000fff : pl011@9000000
  09000000-09000fff : 9000000.pl011 pl011@9000000
10000000-3efeffff : pcie@10000000
  10000000-100fffff : 0000:00:03.0
40000000-5fffffff : System RAM
  40210000-4185ffff : Kernel code
4010000000-401fffffff : PCI ECAM
";

const RESOURCE: &str = "\
0x0000000010100000 0x0000000010100fff 0x0000000000040200
0x0000000000000000 0x0000000000000000 0x0000000000000000
";

impl SystemFiles for TestSystem {
    fn read(&self, path: &str) -> Result<Vec<u8>, Errno> {
        match self.0.get(path) {
            Some(Entry::File(content)) => Ok(content.clone()),
            Some(Entry::Link(_)) => Err(Errno(21)),
            None => Err(Errno::NOENT),
        }
    }

    fn list(&self, path: &str) -> Result<Vec<String>, Errno> {
        let below = std::format!("{path}/");
        let mut names: Vec<String> = self
            .0
            .keys()
            .filter_map(|other| other.strip_prefix(&below)?.split('/').next())
            .map(String::from)
            .collect();
        names.dedup();
        if names.is_empty() { Err(Errno::NOENT) } else { Ok(names) }
    }

    fn link(&self, path: &str) -> Result<String, Errno> {
        match self.0.get(path) {
            Some(Entry::Link(to)) => Ok(to.clone()),
            Some(Entry::File(_)) => Err(Errno(22)),
            None => Err(Errno::NOENT),
        }
    }
}
