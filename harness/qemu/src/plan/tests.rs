//! Tests of the plan of a QEMU machine.

use super::*;

fn config(smmus: usize, devices: &[(usize, u32)]) -> MachineConfig {
    let device = |&(smmu, stream_id)| DeviceConfig { smmu, stream_id, kind: DeviceKind::Edu };
    MachineConfig {
        smmus: vec![QemuSmmuConfig::default(); smmus],
        devices: devices.iter().map(device).collect(),
        ..MachineConfig::default()
    }
}

fn error(smmus: usize, devices: &[(usize, u32)]) -> ConfigError {
    MachinePlan::new(&config(smmus, devices)).unwrap_err()
}

#[test]
fn buses_windows_and_slots() {
    let plan =
        MachinePlan::new(&config(3, &[(0, 8), (1, 0x900), (2, 0xd00), (1, 0x901), (1, 0xa00)]));
    let plan = plan.unwrap();
    let port = |bus, slot, secondary, window| RootPort { bus, slot, secondary, window };
    assert_eq!(
        plan.ports,
        [
            port(8, 0, 9, (0x1010_0000, 0x102f_ffff)),
            port(8, 1, 10, (0x1030_0000, 0x103f_ffff)),
            port(12, 0, 13, (0x1040_0000, 0x104f_ffff)),
        ]
    );
    let bars: Vec<_> = plan.endpoints.iter().map(|e| e.bar >> 20).collect();
    assert_eq!(bars, [0x100, 0x101, 0x104, 0x102, 0x103]);
    let text = plan.arguments.join(" ");
    for part in [
        "pxb-pcie,id=root1,bus=pcie.0,addr=1f.0,bus_nr=8",
        "pxb-pcie,id=root2,bus=pcie.0,addr=1e.0,bus_nr=12",
        "arm-smmuv3,id=smmu1,primary-bus=root1,stage=nested",
        "id=dma1,bus=port9,addr=0.0,multifunction=on",
        "id=dma3,bus=port9,addr=0.1",
        "id=dma4,bus=port10,addr=0.0",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(!text.contains("addr=1.0,multifunction"));
}

#[test]
fn an_smmu_without_devices_gets_a_bus() {
    let plan = MachinePlan::new(&config(3, &[(2, 0xf00)])).unwrap();
    assert!(plan.arguments.join(" ").contains("id=root1,bus=pcie.0,addr=1f.0,bus_nr=13"));
}

#[test]
fn impossible_stream_ids() {
    for (smmu, stream_id) in [
        (0, 0),
        (0, 7),
        (0, 0xf8),
        (0, 0x100),
        (1, 0x008),
        (1, 0x100),
        (1, 0x208),
        (1, 0x1000),
        (1, u32::MAX),
    ] {
        let error = error(2, &[(smmu, stream_id)]);
        assert!(matches!(error, ConfigError::StreamId { .. }), "{stream_id:#x}");
        assert!(error.to_string().contains("possible are 0x"));
    }
    for (smmu, stream_id) in [(0, 8), (0, 0xf7), (1, 0x200), (1, 0xf00)] {
        assert!(MachinePlan::new(&config(2, &[(smmu, stream_id)])).is_ok(), "{stream_id:#x}");
    }
    assert!(MachinePlan::new(&config(1, &[(0, 0xff)])).is_ok());
}

#[test]
fn conflicts() {
    assert!(matches!(
        error(2, &[(1, 0x200), (1, 0x303)]),
        ConfigError::NoFunctionZero { device: 1, smmu: 1, stream_id: 0x303 }
    ));
    assert!(matches!(
        error(1, &[(0, 8), (0, 16), (0, 8)]),
        ConfigError::SameStreamId { first: 0, second: 2, stream_id: 8 }
    ));
    assert!(matches!(
        error(3, &[(1, 0x200), (2, 0x300)]),
        ConfigError::BusesOverlap {
            first: 1,
            first_buses: (1, 2),
            second: 2,
            second_buses: (2, 3)
        }
    ));
    assert!(matches!(error(3, &[(1, 0x200), (1, 0xf00)]), ConfigError::NoBus { smmu: 2 }));
    assert!(matches!(
        error(1, &[(1, 0x200)]),
        ConfigError::NoSuchSmmu { device: 0, smmu: 1, count: 1 }
    ));
}

#[test]
fn sizes() {
    for size in [0, 4096, (1 << 20) + 1, 4 << 30, u64::MAX] {
        let config = MachineConfig { ram_size: size, ..MachineConfig::default() };
        assert_eq!(MachinePlan::new(&config).unwrap_err(), ConfigError::RamSize { size });
    }
    assert!(matches!(error(0, &[]), ConfigError::SmmuCount { count: 0 }));
    assert!(matches!(error(9, &[]), ConfigError::SmmuCount { count: 9 }));
}
