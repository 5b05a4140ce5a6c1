//! Whether the kernel drives an SMMU, or a device that would lose its DMA with it.

use alloc::format;
use alloc::string::{String, ToString};

use super::iomem;
use super::known_smmus::{KnownSmmu, KnownSmmus, TableError, bases};
use super::pci_functions::{self, node_path};
use super::system_files::SystemFiles;
use crate::machine::Region;

const IOMEM: &str = "/proc/iomem";
const CLASS: &str = "/sys/class/iommu";
const PLATFORM: &str = "/sys/bus/platform/devices";

/// Why the process must not drive an SMMU.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KernelUse {
    /// No table names an SMMU there.
    #[error(
        "no firmware table names an SMMU at {base:#x}; those named are at: {named}. If the table \
         lacks it, add smmu=... to the kernel's command line (README.md)"
    )]
    Unknown {
        /// The address that the user gave.
        base: u64,
        /// The addresses of SMMUs.
        named: String,
    },
    /// The kernel drives the SMMU.
    #[error(
        "the kernel drives the SMMU at {base:#x}: driver {driver}, device {device}. The driver \
         cannot be unbound. Boot with initcall_blacklist=arm_smmu_driver_init if it is built in, \
         or with module_blacklist=arm_smmu_v3 if it is a module, or set status = \"disabled\" in \
         the SMMU's node"
    )]
    Driven {
        /// The SMMU.
        base: u64,
        /// The driver.
        driver: String,
        /// The kernel's name of the SMMU.
        device: String,
    },
    /// The kernel has given the addresses away.
    #[error("the kernel has given {region} of the SMMU at {base:#x} to {owner} (/proc/iomem)")]
    Taken {
        /// The SMMU.
        base: u64,
        /// Which addresses.
        region: Region,
        /// To whom.
        owner: String,
    },
    /// The kernel does not say who has which addresses.
    #[error("/proc/iomem shows no addresses; run as root")]
    Hidden,
    /// A device that the kernel drives would lose its DMA.
    #[error(
        "{device} is behind the SMMU at {base:#x}, and the kernel's driver {driver} lets it do \
         DMA. The SMMU would block it. Unbind it: echo NAME > /sys/bus/{bus}/drivers/{driver}/unbind"
    )]
    CutOff {
        /// The SMMU.
        base: u64,
        /// The device.
        device: String,
        /// Its driver.
        driver: String,
        /// The bus that it is on.
        bus: &'static str,
    },
    /// The table is wrong, so nobody knows which devices would lose their DMA.
    #[error("{0}")]
    Table(#[from] TableError),
}

/// The SMMU at this address, if the kernel leaves it alone.
///
/// # Errors
///
/// No table names it, or the kernel uses it.
pub fn unused_smmu(
    base: u64,
    known: &KnownSmmus<'_>,
    files: &dyn SystemFiles,
) -> Result<KnownSmmu, KernelUse> {
    let found = known.all().iter().find(|known| known.registers.base == base);
    let unknown = || KernelUse::Unknown { base, named: bases(known.all()) };
    let smmu = *found.ok_or_else(unknown)?;
    let registers = smmu.registers;
    driven(registers.base, files)?;
    let text = files.text(IOMEM);
    if !iomem::shows_addresses(&text) {
        return Err(KernelUse::Hidden);
    }
    for line in iomem::lines(&text).filter(|line| line.region.overlaps(registers)) {
        // The kernel enters a device of ACPI before a driver has it.
        let name = line.owner.split(' ').next().unwrap_or_default();
        let folder = format!("{PLATFORM}/{name}");
        let is_device = files.link(&folder).is_ok();
        if !(is_device && files.link_name(&format!("{folder}/driver")).is_none()) {
            let (region, owner) = (line.region, line.owner.to_string());
            return Err(KernelUse::Taken { base, region, owner });
        }
    }
    cut_off(base, known, files)?;
    Ok(smmu)
}

/// Fails if the kernel has a driver for the SMMU.
fn driven(base: u64, files: &dyn SystemFiles) -> Result<(), KernelUse> {
    for name in files.list(CLASS).unwrap_or_default() {
        let address = name.strip_prefix("smmu3.0x");
        if address.and_then(|hex| u64::from_str_radix(hex, 16).ok()) == Some(base) {
            let device = files.link_name(&format!("{CLASS}/{name}/device"));
            let device = device.unwrap_or_else(|| name.clone());
            let driver = files.link_name(&format!("{PLATFORM}/{device}/driver"));
            let driver = driver.unwrap_or_else(|| "arm-smmu-v3".into());
            return Err(KernelUse::Driven { base, driver, device });
        }
    }
    // A driver that has the device and has not registered it, or has failed half way.
    let of_tree = format!("{base:x}.");
    for device in files.list(PLATFORM).unwrap_or_default() {
        if device.starts_with(&of_tree)
            && let Some(driver) = files.link_name(&format!("{PLATFORM}/{device}/driver"))
        {
            return Err(KernelUse::Driven { base, driver, device });
        }
    }
    Ok(())
}

/// Fails if the kernel drives a device behind the SMMU.
fn cut_off(base: u64, known: &KnownSmmus<'_>, files: &dyn SystemFiles) -> Result<(), KernelUse> {
    for function in pci_functions::all(files) {
        if let Some(driver) = function.driver.clone().filter(|_| !function.is_bridge())
            && let Some((smmu, _)) = known.stream_of(&function)?
            && smmu.registers.base == base
        {
            let device = function.to_string();
            return Err(KernelUse::CutOff { base, device, driver, bus: "pci" });
        }
    }
    let others = known.other_devices();
    if others.iter().all(|(_, smmu)| smmu.registers.base != base) {
        return Ok(());
    }
    for device in files.list(PLATFORM).unwrap_or_default() {
        let folder = format!("{PLATFORM}/{device}");
        let Some(driver) = files.link_name(&format!("{folder}/driver")) else { continue };
        let node = files.link(&format!("{folder}/of_node")).ok();
        let node = node.as_deref().and_then(node_path).map(String::from);
        let acpi = files.text(&format!("{folder}/firmware_node/path"));
        let is_it = |name: &str| node.as_deref() == Some(name) || acpi.trim() == name;
        if others.iter().any(|(name, smmu)| smmu.registers.base == base && is_it(name)) {
            return Err(KernelUse::CutOff { base, device, driver, bus: "platform" });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::known_smmus::TableBytes;
    use super::super::test_system::{IOMEM as UNUSED, TestSystem};
    use super::*;
    use crate::machine::tests::dtb_builder::node;

    const TREE: &[u8] = include_bytes!("../../../../smmu-hw-mmio/tests/firmware/qemu.dtb");
    const SMMU: u64 = 0x905_0000;

    fn asked(base: u64, system: &TestSystem) -> Result<KnownSmmu, KernelUse> {
        let known = KnownSmmus::read(TableBytes::Tree(TREE), "").unwrap();
        unused_smmu(base, &known, system)
    }

    fn iomem(lines: &str) -> TestSystem {
        TestSystem::qemu().file(IOMEM, format!("{lines}{UNUSED}"))
    }

    #[test]
    fn an_smmu_that_the_kernel_leaves_alone() {
        assert_eq!(asked(SMMU, &TestSystem::qemu()).unwrap().registers.base, SMMU);
    }

    #[test]
    fn a_wrong_address_is_told_the_right_ones() {
        let error = asked(SMMU + 0x1_0000, &TestSystem::qemu()).unwrap_err();
        assert_eq!(error, KernelUse::Unknown { base: 0x906_0000, named: "0x9050000".into() });
    }

    #[test]
    fn the_driver_is_named_by_any_of_its_traces() {
        let driven = KernelUse::Driven {
            base: SMMU,
            driver: "arm-smmu-v3".into(),
            device: "9050000.smmuv3".into(),
        };
        let whole = TestSystem::qemu().driven();
        assert_eq!(asked(SMMU, &whole), Err(driven.clone()));
        let without_driver = whole.without("/sys/bus/platform/devices/9050000.smmuv3/driver");
        assert_eq!(asked(SMMU, &without_driver), Err(driven.clone()));
        let without_class = TestSystem::qemu().driven().without(CLASS);
        assert_eq!(asked(SMMU, &without_class), Err(driven));
        let text = asked(SMMU, &TestSystem::qemu().driven()).unwrap_err().to_string();
        assert!(text.contains("initcall_blacklist=arm_smmu_driver_init"), "{text}");
        // One that drives another SMMU.
        let other = TestSystem::qemu().link(
            "/sys/class/iommu/smmu3.0x000000000a050000",
            "../../devices/platform/a050000.smmuv3/iommu/smmu3.0x000000000a050000",
        );
        assert!(asked(SMMU, &other).is_ok());
    }

    #[test]
    fn addresses_that_another_driver_has() {
        let error = asked(SMMU, &iomem("09060000-09060dff : arm-smmu-v3-pmcg.7\n")).unwrap_err();
        let region = Region { base: 0x906_0000, bytes: 0xe00 };
        let owner = "arm-smmu-v3-pmcg.7".into();
        assert_eq!(error, KernelUse::Taken { base: SMMU, region, owner });
        assert!(
            asked(SMMU, &iomem("09040000-0904ffff : below\n09070000-09070fff : above\n")).is_ok()
        );
    }

    #[test]
    fn a_device_of_acpi_without_a_driver_is_free() {
        let line = "09050000-0906ffff : arm-smmu-v3.0.auto\n";
        let device = "/sys/bus/platform/devices/arm-smmu-v3.0.auto";
        let free = iomem(line).link(device, "../../../devices/platform/arm-smmu-v3.0.auto");
        assert!(asked(SMMU, &free).is_ok());
        let driven = free.link(&format!("{device}/driver"), "../../../bus/x/drivers/arm-smmu-v3");
        assert!(matches!(asked(SMMU, &driven), Err(KernelUse::Taken { .. })));
    }

    #[test]
    fn hidden_addresses_are_no_permission() {
        let system = TestSystem::qemu().file(IOMEM, "00000000-00000000 : System RAM\n");
        assert_eq!(asked(SMMU, &system), Err(KernelUse::Hidden));
        assert_eq!(asked(SMMU, &TestSystem::qemu().without(IOMEM)), Err(KernelUse::Hidden));
    }

    #[test]
    fn a_pci_device_of_the_kernel_is_not_cut_off() {
        let disk = |system: TestSystem, class| {
            let system = system.function("0000:00:04.0", "0x1af4", "0x1042", class);
            system.link(
                "/sys/bus/pci/devices/0000:00:04.0/driver",
                "../../bus/pci/drivers/virtio-pci",
            )
        };
        let error = asked(SMMU, &disk(TestSystem::qemu(), "0x010000")).unwrap_err();
        let (device, driver) = ("0000:00:04.0 1af4:1042".into(), "virtio-pci".into());
        assert_eq!(error, KernelUse::CutOff { base: SMMU, device, driver, bus: "pci" });
        assert!(asked(SMMU, &disk(TestSystem::qemu(), "0x060400")).is_ok());
    }

    #[test]
    fn a_platform_device_of_the_kernel_is_not_cut_off() {
        let smmu = node("iommu@9050000")
            .strings("compatible", &["arm,smmu-v3"])
            .cells("reg", &[0x905_0000, 0x2_0000])
            .cells("#iommu-cells", &[1])
            .cells("phandle", &[1]);
        let uart =
            node("pl011@9000000").cells("reg", &[0x900_0000, 0x1000]).cells("iommus", &[1, 5]);
        let root = node("").cells("#address-cells", &[1]).cells("#size-cells", &[1]);
        let blob = root.child(smmu).child(uart).blob();
        let known = KnownSmmus::read(TableBytes::Tree(&blob), "").unwrap();
        let error = unused_smmu(SMMU, &known, &TestSystem::qemu()).unwrap_err();
        let (device, driver) = ("9000000.pl011".into(), "uart-pl011".into());
        assert_eq!(error, KernelUse::CutOff { base: SMMU, device, driver, bus: "platform" });
        let undriven = TestSystem::qemu().without("/sys/bus/platform/devices/9000000.pl011/driver");
        assert!(unused_smmu(SMMU, &known, &undriven).is_ok());
    }
}
