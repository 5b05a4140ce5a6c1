//! From a device tree to a machine.

use smmu_hw_mmio::firmware::fdt::{DeviceTree, FdtDevice, FdtError};
use smmu_types::PhysAddr;

use super::machine::{Device, Format, MOST_DEVICES, Machine, Memory, Reserved, Severity, Smmu};

/// Room for more IOMMUs than any machine has.
const IOMMUS: usize = 256;

pub(super) fn read(bytes: &[u8]) -> Result<Machine, FdtError> {
    let tree = DeviceTree::<IOMMUS>::with_room(bytes)?;
    let mut machine = Machine::new(Format::DeviceTree);
    let fail = |machine: &mut Machine, error: FdtError| {
        let place = tree.path_at(error.at).to_string();
        machine.find(Severity::Error, &place, error.at, error.problem.to_string());
    };
    for smmu in tree.smmus() {
        match smmu {
            Ok(table) => {
                let name = tree.path_at(table.at).to_string();
                if let Some(cells) = tree.iommu_cells(table.id).filter(|cells| *cells > 1) {
                    let text = format!(
                        "`#iommu-cells` is {cells}; the binding of SMMUv3 has 1, and cells after \
                         the StreamID mean nothing"
                    );
                    machine.find(Severity::Warning, &name, table.at, text);
                }
                machine.smmus.push(Smmu { name, table });
            }
            Err(error) => {
                machine.unread_smmus += 1;
                fail(&mut machine, error);
            }
        }
    }
    for device in tree.devices().chain(tree.devices_without_iommu()) {
        if machine.devices.len() == MOST_DEVICES {
            let text = format!(
                "more than {MOST_DEVICES} devices; this one and later ones are not checked"
            );
            machine.find(Severity::Error, &device.path().to_string(), device.at(), text);
            break;
        }
        let mut mappings = Vec::new();
        let mut partly_read = false;
        for mapping in tree.mappings(&device) {
            match mapping {
                Ok(mapping) => mappings.push(mapping),
                Err(error) => {
                    partly_read = true;
                    fail(&mut machine, error);
                }
            }
        }
        let pasid_bits = device.pasid_bits().unwrap_or_else(|error| {
            fail(&mut machine, error);
            0
        });
        machine.devices.push(Device {
            name: device.path().to_string(),
            at: device.at(),
            pci: device.has_map() || device.is_host_bridge(),
            enabled: device.is_enabled(),
            coherency: device.coherency(),
            ats: device.has_ats(),
            stall: device.can_stall(),
            pasid_bits,
            mask: mask(&device),
            mappings,
            partly_read,
        });
    }
    for region in tree.reserved_regions() {
        match region {
            Ok(region) => {
                let name = region.region.to_string();
                if region.memory.is_some() && !region.named {
                    let text = format!(
                        "`memory-region` of {} does not name the region; some systems map no others",
                        region.device
                    );
                    machine.find(Severity::Note, &name, region.at, text);
                }
                machine.reserved.push(Reserved {
                    name,
                    user: region.device.to_string(),
                    first: region.iova.0,
                    length: region.length,
                    memory: match region.memory {
                        Some(PhysAddr(at)) if at == region.iova.0 => Memory::Same,
                        Some(PhysAddr(at)) => Memory::At(at),
                        None => Memory::None,
                    },
                    memory_type: region.memory.map(|_| region.memory_type),
                    privileged: false,
                    may_move: false,
                    at: region.at,
                });
            }
            Err(error) => fail(&mut machine, error),
        }
    }
    Ok(machine)
}

fn mask(device: &FdtDevice<'_>) -> u32 {
    if device.has_map() { device.map_mask() } else { u32::MAX }
}
