//! Machines from device trees: that of QEMU, and strange ones.

use alloc::string::ToString;

use smmu_hw_mmio::firmware::fdt::FdtProblem;

use super::*;

#[path = "../../../../smmu-hw-mmio/tests/firmware/dtb_builder.rs"]
#[expect(dead_code, reason = "shared with the tests of smmu-hw-mmio")]
pub(crate) mod dtb_builder;

use dtb_builder::{DtNode, node};

const QEMU: &[u8] = include_bytes!("../../../../smmu-hw-mmio/tests/firmware/qemu.dtb");
const AT: u64 = 0x4000_0000;

const fn region(base: u64, bytes: u64) -> Region {
    Region { base, bytes }
}

/// A root with RAM at 2 GiB.
fn root() -> DtNode {
    node("").cells("#address-cells", &[2]).cells("#size-cells", &[2]).child(memory(&[
        0,
        0x8000_0000,
        0,
        0x4000_0000,
    ]))
}

fn memory(reg: &[u32]) -> DtNode {
    node("memory@80000000").strings("device_type", &["memory"]).cells("reg", reg)
}

fn bus() -> DtNode {
    node("soc").cells("#address-cells", &[1]).cells("#size-cells", &[1])
}

fn uart() -> DtNode {
    node("serial@1000").strings("compatible", &["arm,pl011"]).cells("reg", &[0x1000, 0x1000])
}

fn fault_of(tree: &DtNode) -> MachineError {
    Machine::read(&tree.blob(), AT).unwrap_err()
}

#[test]
fn qemu_virt() {
    let machine = Machine::read(QEMU, AT).unwrap();
    assert_eq!(machine.memory, [region(0x4000_0000, 0x400_0000)]);
    assert_eq!(machine.reserved.first(), Some(&region(AT, QEMU.len() as u64)));
    assert_eq!(machine.uart, Some(region(0x900_0000, 0x1000)));
    let gic = machine.gic.unwrap();
    assert_eq!(gic.distributor, region(0x800_0000, 0x1_0000));
    assert_eq!(gic.redistributors.base, 0x80a_0000);
    // The machine of this file runs no guest, and so has no PSCI.
    assert_eq!(machine.psci, None);
    assert_eq!(machine.cpus, [0]);
    assert_eq!(machine.smmus.first().unwrap().base.0, 0x905_0000);
    let [bridge] = machine.host_bridges.as_slice() else { panic!("one host bridge") };
    assert_eq!(bridge.path, "/pcie@10000000");
    assert_eq!((bridge.ecam.base, bridge.buses.0), (0x3f00_0000, 0));
    let window = PciWindow { pci: region(0x1000_0000, 0x2eff_0000), cpu: 0x1000_0000 };
    assert_eq!(bridge.windows, [window]);
    assert_eq!(machine.registers().count(), 6);
    let name = machine.name_of(SmmuId(0), StreamId(8)).to_string();
    assert_eq!(name, "/pcie@10000000 00:01.0");
}

#[test]
fn buses_translate_addresses() {
    let tree = root().child(bus().cells("ranges", &[0, 0, 0x1_0000, 0x1_0000]).child(uart()));
    let blob = tree.blob();
    assert_eq!(Machine::read(&blob, AT).unwrap().uart, Some(region(0x1_1000, 0x1000)));
}

#[test]
fn stdout_path_chooses_the_uart() {
    let second = node("serial@9000").strings("compatible", &["arm,pl011"]);
    let second = second.cells("reg", &[0, 0x9000, 0, 0x1000]);
    let first = node("serial@8000").strings("compatible", &["arm,pl011"]);
    let first = first.cells("reg", &[0, 0x8000, 0, 0x1000]);
    for stdout in ["/serial@9000", "/serial@9000:115200n8", "serial1"] {
        let tree = root()
            .child(first.clone())
            .child(second.clone())
            .child(node("aliases").strings("serial1", &["/serial@9000"]))
            .child(node("chosen").strings("stdout-path", &[stdout]));
        let blob = tree.blob();
        assert_eq!(Machine::read(&blob, AT).unwrap().uart.unwrap().base, 0x9000, "{stdout}");
    }
}

#[test]
fn psci_tells_its_conduit() {
    for (method, conduit) in [("hvc", Conduit::Hvc), ("smc", Conduit::Smc)] {
        let psci = node("psci").strings("compatible", &["arm,psci-1.0", "arm,psci-0.2"]);
        let blob = root().child(psci.strings("method", &[method])).blob();
        assert_eq!(Machine::read(&blob, AT).unwrap().psci, Some(conduit));
    }
}

#[test]
fn a_disabled_node_is_not_there() {
    let uart = uart().strings("status", &["disabled"]).cells("reg", &[1]);
    let blob = root().child(uart).blob();
    assert_eq!(Machine::read(&blob, AT).unwrap().uart, None);
}

#[test]
fn errors_name_the_node_and_the_property() {
    let wrong = |tree: &DtNode| match fault_of(tree) {
        MachineError::Node { path, error } => (path, error.problem),
        error => panic!("{error}"),
    };
    let in_bus =
        |uart: DtNode, ranges: &[u32]| root().child(bus().cells("ranges", ranges).child(uart));
    let serial = || String::from("/soc/serial@1000");
    let outside = |address| (serial(), FdtProblem::NotInRanges { address });
    assert_eq!(wrong(&in_bus(uart(), &[0x8000, 0, 0, 0x1000])), outside(0x1000));
    // The window of the bus ends inside of the registers.
    assert_eq!(wrong(&in_bus(uart(), &[0x1000, 0, 0, 0x800])), outside(0x1fff));
    // Two windows, but not one region for the CPU.
    let split = [0x1000, 0, 0, 0x800, 0x1800, 0, 0x10_0000, 0x800];
    assert_eq!(wrong(&in_bus(uart(), &split)), outside(0x1fff));
    let no_ranges = root().child(bus().child(uart()));
    assert_eq!(wrong(&no_ranges), (serial(), FdtProblem::NoRanges));

    let short = node("serial@0").strings("compatible", &["arm,pl011"]).cells("reg", &[1, 2, 3]);
    let length = FdtProblem::Length { property: "reg", bytes: 12, entry: 16 };
    let tree = root().child(short);
    assert_eq!(wrong(&tree), ("/serial@0".into(), length));
    let text = fault_of(&tree).to_string();
    assert!(text.starts_with("/serial@0: byte 0x"), "{text}");
    assert!(
        text.ends_with(
            "of the device tree: `reg` has 12 bytes, no whole number of entries; an entry here has \
             16 bytes"
        ),
        "{text}"
    );
    let wraps = node("serial@0").strings("compatible", &["arm,pl011"]);
    let wraps = wraps.cells("reg", &[u32::MAX, u32::MAX, 0, 2]);
    let problem = FdtProblem::AddressWraps { address: u64::MAX, length: 2 };
    assert_eq!(wrong(&root().child(wraps)), ("/serial@0".into(), problem));

    let property =
        |path: &str, property, fault| MachineError::Property { path: path.into(), property, fault };
    let gic = node("gic@0").strings("compatible", &["arm,gic-v3"]).cells("reg", &[0, 0, 0, 1]);
    let error = fault_of(&root().child(gic));
    assert_eq!(error, property("/gic@0", "reg", PropertyFault::Entry { entry: 1 }));
    let psci = node("psci").strings("compatible", &["arm,psci-1.0"]).strings("method", &["svc"]);
    let error = fault_of(&root().child(psci));
    assert_eq!(error, property("/psci", "method", PropertyFault::Value));
    assert_eq!(fault_of(&node("")), MachineError::NoMemory);
}

#[test]
fn host_bridges() {
    let bridge = || {
        node("pcie@0")
            .strings("compatible", &["pci-host-ecam-generic"])
            .cells("#address-cells", &[3])
            .cells("#size-cells", &[2])
            .cells("reg", &[0, 0x4000_0000, 0, 0x20_0000])
    };
    // I/O space, 32-bit memory, 64-bit memory.
    let io = [0x0100_0000, 0, 0, 0, 0x3eff_0000, 0, 0x1_0000];
    let low = [0x0200_0000, 0, 0x1000_0000, 0, 0x5000_0000, 0, 0x100_0000];
    let high = [0x0300_0000, 0x80, 0, 0x80, 0, 0x80, 0];
    let tree = root().child(bridge().cells("ranges", &[io, low, high].concat()));
    let blob = tree.blob();
    let machine = Machine::read(&blob, AT).unwrap();
    let [found] = machine.host_bridges.as_slice() else { panic!("one host bridge") };
    let window = PciWindow { pci: region(0x1000_0000, 0x100_0000), cpu: 0x5000_0000 };
    assert_eq!((found.windows.as_slice(), found.buses), ([window].as_slice(), (0, 1)));

    for (range, buses) in
        [([2_u32, 9], Some((2, 3))), ([4, 4], Some((4, 4))), ([3, 2], None), ([0, 256], None)]
    {
        let tree = root().child(bridge().cells("bus-range", &range).cells("ranges", &low));
        let blob = tree.blob();
        let read = Machine::read(&blob, AT).map(|machine| machine.host_bridges[0].buses);
        let value = MachineError::Property {
            path: "/pcie@0".into(),
            property: "bus-range",
            fault: PropertyFault::Value,
        };
        assert_eq!(read, buses.ok_or(value), "{range:?}");
    }
    for ranges in [&low[1..], &low[..3]] {
        let error = fault_of(&root().child(bridge().cells("ranges", ranges)));
        assert!(
            matches!(error, MachineError::Node { ref path, .. } if path == "/pcie@0"),
            "{error}"
        );
    }
}

#[test]
fn long_names_of_properties_are_read() {
    // The binding of SMMUv3 has this property.
    let uart = uart().flag("cavium,cn9900-broken-page1-regspace");
    let tree = root().child(bus().flag("ranges").child(uart));
    let blob = tree.blob();
    assert_eq!(Machine::read(&blob, AT).unwrap().uart, Some(region(0x1000, 0x1000)));
}

#[test]
fn any_damage_gives_an_error_or_a_machine() {
    // Every 31st byte of the blob, changed in two ways: all four bytes of a word have a turn.
    for at in (0..QEMU.len()).step_by(31) {
        for value in [0xff, 0x01] {
            let mut blob = QEMU.to_vec();
            if let Some(byte) = blob.get_mut(at) {
                *byte ^= value;
            }
            if let Ok(machine) = Machine::read(&blob, AT) {
                let _ = (machine.free_memory(&[]).len(), machine.registers().count());
            }
        }
    }
    for length in (0..QEMU.len()).step_by(97) {
        let blob = QEMU.get(..length).unwrap();
        assert!(Machine::read(blob, AT).is_err(), "{length} bytes");
    }
}

#[test]
fn free_memory_is_without_what_is_reserved() {
    let reserved = node("reserved-memory").cells("#address-cells", &[2]).cells("#size-cells", &[2]);
    let reserved = reserved
        .flag("ranges")
        .child(node("secure@90000000").cells("reg", &[0, 0x9000_0000, 0, 0x1_0001]));
    let blob = root().child(reserved).blob();
    let machine = Machine::read(&blob, 0x8800_0000).unwrap();
    let image = region(0x8020_0000, 0x10_0000);
    let tree_end = (0x8800_0000 + blob.len() as u64).next_multiple_of(0x1000);
    let parts = [
        region(0x8000_0000, 0x20_0000),
        region(0x8030_0000, 0x8800_0000 - 0x8030_0000),
        region(tree_end, 0x9000_0000 - tree_end),
        region(0x9001_1000, 0xc000_0000 - 0x9001_1000),
    ];
    assert_eq!(machine.free_memory(&[image]), parts);
}

#[test]
fn a_region_without_another() {
    let whole = region(10, 10);
    let cases = [
        (region(0, 10), vec![region(10, 10)]),
        (region(20, 5), vec![region(10, 10)]),
        (region(15, 0), vec![region(10, 10)]),
        (region(5, 10), vec![region(15, 5)]),
        (region(12, 3), vec![region(10, 2), region(15, 5)]),
        (region(15, 100), vec![region(10, 5)]),
        (region(0, u64::MAX), vec![]),
    ];
    for (taken, left) in cases {
        assert_eq!(whole.without(taken).collect::<Vec<_>>(), left, "{taken}");
    }
}
