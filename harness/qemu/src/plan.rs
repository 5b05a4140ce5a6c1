//! The layout of a machine: from its configuration to QEMU's arguments.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// The address of the registers of SMMU 0; those of SMMU `i` are `i * SMMU_SPACING` above.
pub const SMMU_BASE: u64 = 0x0c00_0000;
/// Bytes from the registers of one SMMU to those of the next: two pages of 64 KiB.
pub const SMMU_SPACING: u64 = 0x2_0000;
/// The number of PCI buses that the configuration space covers.
const BUSES: u32 = 16;
/// SMMU 0 has bus 0. Each other SMMU takes a bus for its bridge and one for its devices.
const MOST_SMMUS: usize = (BUSES as usize) / 2;
const MIB: u64 = 1 << 20;
/// Every device and every bridge gets whole MiB of the 32-bit window, because a bridge forwards
/// whole MiB.
const WINDOW: std::ops::Range<u64> = 0x1000_0000..0x3ef0_0000;

/// The configuration of a machine.
#[derive(Clone, Debug)]
pub struct MachineConfig {
    /// Bytes of RAM: 1 MiB to 2 GiB, in whole MiB. RAM is shared memory, and costs nothing until
    /// it is touched.
    pub ram_size: u64,
    /// The SMMUs. SMMU 0 serves PCI bus 0. Each further SMMU serves a PCI root of its own.
    pub smmus: Vec<QemuSmmuConfig>,
    /// The devices that do DMA.
    pub devices: Vec<DeviceConfig>,
    /// The time limit of each reply of QEMU.
    pub reply_timeout: Duration,
}

impl Default for MachineConfig {
    /// One nested SMMU, 64 MiB of RAM, no device, ten seconds per reply.
    fn default() -> Self {
        Self {
            ram_size: 64 * MIB,
            smmus: vec![QemuSmmuConfig::default()],
            devices: Vec::new(),
            reply_timeout: Duration::from_secs(10),
        }
    }
}

/// One SMMU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QemuSmmuConfig {
    /// The stages it implements.
    pub stage: ImplementedStages,
}

/// The stages of translation that an SMMU implements, as IDR0 shows them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ImplementedStages {
    /// Stage 1 only.
    One,
    /// Stage 2 only.
    Two,
    /// Both stages, also nested.
    #[default]
    Nested,
}

impl ImplementedStages {
    fn name(self) -> &'static str {
        match self {
            Self::One => "1",
            Self::Two => "2",
            Self::Nested => "nested",
        }
    }
}

/// One device that does DMA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceConfig {
    /// Index of the SMMU that the device is behind.
    pub smmu: usize,
    /// Its StreamID: PCI bus << 8 | slot << 3 | function.
    ///
    /// Behind SMMU 0, the bus is 0 and the caller chooses the slot. Behind the others, the slot is
    /// 0 and the caller chooses the bus; a function above 0 needs another device as function 0.
    pub stream_id: u32,
    /// Its kind.
    pub kind: DeviceKind,
}

/// A device model that does DMA on request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeviceKind {
    /// `iommu-testdev`: writes a fixed word at once, and reports the outcome.
    TestDev,
    /// `edu`: copies to and from its own buffer in virtual time, and reports no outcome.
    Edu,
}

impl DeviceKind {
    fn model(self) -> &'static str {
        match self {
            Self::TestDev => "iommu-testdev",
            // Its default mask covers 28 bits only.
            Self::Edu => "edu,dma_mask=0xffffffffffffffff",
        }
    }

    /// Device id << 16 | vendor id.
    pub(super) fn identity(self) -> u32 {
        match self {
            Self::TestDev => 0x0005_1b36,
            Self::Edu => 0x11e8_1234,
        }
    }
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TestDev => "iommu-testdev",
            Self::Edu => "edu",
        })
    }
}

/// Why a machine is impossible.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The size of RAM.
    #[error("{size:#x} bytes of RAM are impossible; take 1 MiB to 2 GiB in whole MiB")]
    RamSize {
        /// The size asked for.
        size: u64,
    },
    /// The number of SMMUs.
    #[error("{count} SMMUs are impossible; take 1 to {most}", most = MOST_SMMUS)]
    SmmuCount {
        /// The number asked for.
        count: usize,
    },
    /// A device is behind an SMMU that the machine does not have.
    #[error("device {device} is behind SMMU {smmu}, but there are only {count} SMMUs (0 to {})", count - 1)]
    NoSuchSmmu {
        /// Index of the device.
        device: usize,
        /// Index of the SMMU.
        smmu: usize,
        /// Number of SMMUs.
        count: usize,
    },
    /// No PCI function behind this SMMU can have the StreamID.
    #[error(
        "device {device} cannot have StreamID {stream_id:#x} behind SMMU {smmu}; possible are {possible}"
    )]
    StreamId {
        /// Index of the device.
        device: usize,
        /// Index of the SMMU.
        smmu: usize,
        /// The StreamID asked for.
        stream_id: u32,
        /// The possible StreamIDs.
        possible: String,
    },
    /// A PCI function has no function 0 beside it; QEMU would not show it.
    #[error(
        "device {device} (StreamID {stream_id:#x}) behind SMMU {smmu} is PCI function {}, which \
         exists only beside function 0; add a device with StreamID {:#x}, or take that one",
        stream_id & 7, stream_id & !7
    )]
    NoFunctionZero {
        /// Index of the device.
        device: usize,
        /// Index of the SMMU.
        smmu: usize,
        /// Its StreamID.
        stream_id: u32,
    },
    /// Two devices have the same StreamID.
    #[error("devices {first} and {second} both have StreamID {stream_id:#x}; give each its own")]
    SameStreamId {
        /// Index of one device.
        first: usize,
        /// Index of the other.
        second: usize,
        /// The StreamID.
        stream_id: u32,
    },
    /// The buses of two SMMUs overlap.
    #[error(
        "SMMU {first} needs PCI buses {} to {} (StreamID >> 8, and one below for the bridge) \
         and SMMU {second} buses {} to {}; choose StreamIDs so that these do not overlap",
        first_buses.0, first_buses.1, second_buses.0, second_buses.1
    )]
    BusesOverlap {
        /// Index of one SMMU.
        first: usize,
        /// Its lowest and highest bus.
        first_buses: (u32, u32),
        /// Index of the other SMMU.
        second: usize,
        /// Its lowest and highest bus.
        second_buses: (u32, u32),
    },
    /// No bus is left for an SMMU without devices.
    #[error(
        "no PCI bus is left for SMMU {smmu}, which has no device; leave one of buses 1 to 15 free"
    )]
    NoBus {
        /// Index of the SMMU.
        smmu: usize,
    },
    /// The devices need more address space than the machine has.
    #[error("{count} devices need more than the 750 MiB of 32-bit PCI address space; take fewer")]
    NoWindow {
        /// Number of devices.
        count: usize,
    },
}

/// A bridge that makes one bus reachable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RootPort {
    /// The place of the bridge itself.
    pub(super) bus: u32,
    pub(super) slot: u32,
    pub(super) secondary: u32,
    /// First and last address it forwards.
    pub(super) window: (u64, u64),
}

/// A DMA device with its base address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) config: DeviceConfig,
    pub(super) bar: u64,
}

#[derive(Clone, Debug)]
pub(super) struct MachinePlan {
    /// QEMU's arguments for the devices, in order.
    pub(super) arguments: Vec<String>,
    pub(super) ports: Vec<RootPort>,
    /// The devices, at the indices of the configuration.
    pub(super) endpoints: Vec<Endpoint>,
    /// The first and the last bus behind each SMMU.
    pub(super) buses: Vec<(u32, u32)>,
}

impl MachinePlan {
    pub(super) fn new(config: &MachineConfig) -> Result<Self, ConfigError> {
        let size = config.ram_size;
        if !size.is_multiple_of(MIB) || !(MIB..=2048 * MIB).contains(&size) {
            return Err(ConfigError::RamSize { size });
        }
        let count = config.smmus.len();
        if !(1..=MOST_SMMUS).contains(&count) {
            return Err(ConfigError::SmmuCount { count });
        }
        check_stream_ids(config)?;
        let roots = roots(config)?;
        layout(config, &roots)
    }
}

/// The slot of bus 0 for the root of an SMMU above 0. The roots take the highest slots, so that the
/// low ones stay free for devices.
fn root_slot(smmu: usize) -> u32 {
    32 - smmu as u32
}

fn check_stream_ids(config: &MachineConfig) -> Result<(), ConfigError> {
    let count = config.smmus.len();
    let highest_slot = root_slot(count - 1).min(32) - 1;
    let mut seen = BTreeMap::new();
    for (device, DeviceConfig { smmu, stream_id, .. }) in config.devices.iter().copied().enumerate()
    {
        if smmu >= count {
            return Err(ConfigError::NoSuchSmmu { device, smmu, count });
        }
        let (bus, slot) = (stream_id >> 8, stream_id >> 3 & 31);
        let (fits, possible) = if smmu == 0 {
            let fits = bus == 0 && (1..=highest_slot).contains(&slot);
            (fits, format!("0x8 to {:#x}", highest_slot << 3 | 7))
        } else {
            let fits = (2..BUSES).contains(&bus) && slot == 0;
            (fits, "0x200 to 0x207, 0x300 to 0x307, ... 0xf00 to 0xf07".to_owned())
        };
        if !fits {
            return Err(ConfigError::StreamId { device, smmu, stream_id, possible });
        }
        if let Some(first) = seen.insert(stream_id, device) {
            return Err(ConfigError::SameStreamId { first, second: device, stream_id });
        }
    }
    for (device, one) in config.devices.iter().enumerate() {
        let (smmu, stream_id) = (one.smmu, one.stream_id);
        if smmu > 0 && !seen.contains_key(&(stream_id & !7)) {
            return Err(ConfigError::NoFunctionZero { device, smmu, stream_id });
        }
    }
    Ok(())
}

/// The buses of each SMMU, lowest and highest; the lowest is the root's own.
fn roots(config: &MachineConfig) -> Result<Vec<(u32, u32)>, ConfigError> {
    let mut roots: Vec<Option<(u32, u32)>> = vec![None; config.smmus.len()];
    roots[0] = Some((0, 0));
    for device in config.devices.iter().filter(|device| device.smmu > 0) {
        let bus = device.stream_id >> 8;
        let root = roots[device.smmu].get_or_insert((bus - 1, bus));
        *root = (root.0.min(bus - 1), root.1.max(bus));
    }
    for (second, b) in roots.iter().enumerate() {
        for (first, a) in roots.iter().enumerate().take(second) {
            if let (Some(a), Some(b)) = (*a, *b)
                && a.0 <= b.1
                && b.0 <= a.1
            {
                return Err(ConfigError::BusesOverlap {
                    first,
                    first_buses: a,
                    second,
                    second_buses: b,
                });
            }
        }
    }
    for smmu in 0..roots.len() {
        if roots[smmu].is_none() {
            let taken = |bus: &u32| roots.iter().flatten().any(|r| (r.0..=r.1).contains(bus));
            let bus = (1..BUSES).rev().find(|bus| !taken(bus));
            let bus = bus.ok_or(ConfigError::NoBus { smmu })?;
            roots[smmu] = Some((bus, bus));
        }
    }
    Ok(roots.into_iter().flatten().collect())
}

fn layout(config: &MachineConfig, roots: &[(u32, u32)]) -> Result<MachinePlan, ConfigError> {
    let mut arguments = Vec::new();
    let mut device = |text: String| arguments.extend(["-device".to_owned(), text]);
    for (smmu, (bus, _)) in roots.iter().enumerate().skip(1) {
        let slot = root_slot(smmu);
        device(format!("pxb-pcie,id=root{smmu},bus=pcie.0,addr={slot:x}.0,bus_nr={bus}"));
    }
    for (smmu, QemuSmmuConfig { stage }) in config.smmus.iter().enumerate() {
        let bus = match smmu {
            0 => "pcie.0".to_owned(),
            _ => format!("root{smmu}"),
        };
        let stage = stage.name();
        device(format!("arm-smmuv3,id=smmu{smmu},primary-bus={bus},stage={stage}"));
    }

    // The functions of one bus are neighbours, so that one window of its port covers them.
    let mut next = WINDOW.start;
    let mut bars = vec![0; config.devices.len()];
    let mut by_bus: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (index, device) in config.devices.iter().enumerate() {
        by_bus.entry(device.stream_id >> 8).or_default().push(index);
    }
    let mut ports = Vec::new();
    let mut slots = vec![0; roots.len()];
    for (&bus, members) in &by_bus {
        let first = next;
        for index in members {
            bars[*index] = next;
            next += MIB;
        }
        if next > WINDOW.end {
            let count = config.devices.len();
            return Err(ConfigError::NoWindow { count });
        }
        let smmu = config.devices[members[0]].smmu;
        if smmu == 0 {
            continue;
        }
        let slot = slots[smmu];
        slots[smmu] += 1;
        ports.push(RootPort {
            bus: roots[smmu].0,
            slot,
            secondary: bus,
            window: (first, next - 1),
        });
        device(format!(
            "pcie-root-port,id=port{bus},bus=root{smmu},addr={slot:x}.0,chassis={bus},slot={bus}"
        ));
    }

    for (index, one) in config.devices.iter().enumerate() {
        let (number, slot, function) =
            (one.stream_id >> 8, one.stream_id >> 3 & 31, one.stream_id & 7);
        let bus = match one.smmu {
            0 => "pcie.0".to_owned(),
            _ => format!("port{number}"),
        };
        let alone = !config.devices.iter().any(|other| {
            other.stream_id >> 3 == one.stream_id >> 3 && other.stream_id != one.stream_id
        });
        let several = if function == 0 && !alone { ",multifunction=on" } else { "" };
        device(format!(
            "{},id=dma{index},bus={bus},addr={slot:x}.{function}{several}",
            one.kind.model()
        ));
    }
    let endpoints = config.devices.iter().zip(bars);
    Ok(MachinePlan {
        buses: roots.to_vec(),
        ports,
        endpoints: endpoints.map(|(&config, bar)| Endpoint { config, bar }).collect(),
        arguments,
    })
}

#[cfg(test)]
mod tests;
