//! Device trees: QEMU's own, hand-made ones, broken ones, and any bytes at all.
#![cfg(feature = "fdt")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "firmware/any_fdt.rs"]
mod any_fdt;
#[path = "firmware/dtb_builder.rs"]
mod dtb_builder;

use dtb_builder::{DEVICE, DtNode, GIC, ITS, SMMU, node, root, smmu, word, wrap};
use proptest::prelude::*;
use rstest::rstest;
use smmu_hw_mmio::Coherency;
use smmu_hw_mmio::firmware::fdt::{DeviceTree, FdtDevice, FdtError, FdtProblem};
use smmu_hw_mmio::firmware::{
    IdMapping, Inputs, Interrupt, RequestId, Stream, StreamNames, Target, Trigger,
};
use smmu_types::{Iova, PhysAddr, SmmuId, StreamId};

const QEMU: &[u8] = include_bytes!("firmware/qemu.dtb");
const SMMU0: SmmuId = SmmuId(0);

fn stream(smmu: u16, id: u32) -> Stream {
    Stream { smmu: SmmuId(smmu), id: StreamId(id) }
}

fn only<'a>(tree: &DeviceTree<'a>) -> FdtDevice<'a> {
    let devices: Vec<_> = tree.devices().collect();
    let [device] = devices[..] else { panic!("{devices:?}") };
    device
}

fn mappings(blob: &[u8]) -> Vec<Result<IdMapping, FdtError>> {
    let tree = DeviceTree::new(blob).unwrap();
    tree.mappings(&only(&tree)).collect()
}

/// The problem, the path of its node, and the bytes from its place on.
fn problem(blob: &[u8], error: FdtError) -> (FdtProblem, String, Vec<u8>) {
    let tree = DeviceTree::new(blob).unwrap();
    let rest = &blob[error.at as usize..];
    (error.problem, tree.path_at(error.at).to_string(), rest.to_vec())
}

/// The figures are those of QEMU's board, as its register probe finds them.
#[test]
fn the_tree_of_qemu() {
    let tree = DeviceTree::new(QEMU).unwrap();
    let smmu = tree.smmu(SMMU0).unwrap();
    assert_eq!((smmu.base, smmu.size), (PhysAddr(0x0905_0000), Some(0x2_0000)));
    assert_eq!((smmu.coherency, smmu.enabled), (Coherency::Coherent, true));
    let edge = |intid| Some(Interrupt { intid, trigger: Some(Trigger::Edge) });
    let found = smmu.interrupts;
    // SPIs 74 to 77.
    assert_eq!(
        [found.eventq, found.priq, found.cmdq_sync, found.gerror],
        [edge(106), edge(107), edge(108), edge(109)]
    );
    assert_eq!(found.combined, None);
    assert_eq!(tree.path_at(smmu.at).to_string(), "/smmuv3@9050000");
    let bridge = only(&tree);
    assert_eq!(bridge.path().to_string(), "/pcie@10000000");
    assert_eq!(bridge.coherency(), Coherency::Coherent);
    for (bus, device, id) in [(0, 1, 8), (0, 2, 0x10), (9, 0, 0x900), (255, 31, 0xfff8)] {
        let function = RequestId::new(bus, device, 0).unwrap();
        assert_eq!(tree.stream_of(&bridge, function), Ok(Some(stream(0, id))));
        let mut name = String::new();
        assert!(tree.write_name(stream(0, id), &mut name).unwrap());
        assert_eq!(name, format!("/pcie@10000000 {bus:02x}:{device:02x}.0"));
    }
    assert_eq!(tree.stream_of(&bridge, 0x1_0000_u32), Ok(None));
    assert!(!tree.write_name(stream(0, 0x1_0000), &mut String::new()).unwrap());
    assert_eq!(tree.smmu_at(PhysAddr(0x0905_0000)), Some(SMMU0));
    assert_eq!((tree.smmu_at(PhysAddr(0x0905_1000)), tree.smmu_count()), (None, 1));
    assert_eq!(tree.reserved_regions().count(), 0);
}

#[test]
fn bytes_after_the_blob_do_not_count() {
    let padded = [QEMU, &[0xff; 100]].concat();
    assert_eq!(DeviceTree::new(&padded).unwrap().smmu_count(), 1);
}

#[test]
fn an_smmu_with_everything() {
    let its = node("its").cells("phandle", &[ITS]).cells("#msi-cells", &[1]);
    let full = smmu("smmu@9000000", SMMU, 0x900_0000)
        .strings("interrupt-names", &["gerror", "eventq", "other", "combined"])
        .cells("interrupts", &[0, 5, 4, 1, 3, 1, 2, 0, 2, 0, 9, 8])
        .cells("msi-parent", &[ITS, 0x77])
        .cells("numa-node-id", &[3])
        .strings("status", &["disabled"])
        .flag("hisilicon,broken-prefetch-cmd")
        // 35 characters.
        .flag("cavium,cn9900-broken-page1-regspace");
    let blob = root(full).child(its).flag("dma-coherent").blob();
    let found = DeviceTree::new(&blob).unwrap().smmu(SMMU0).unwrap();
    let at = |intid, trigger| Some(Interrupt { intid, trigger: Some(trigger) });
    assert_eq!(found.interrupts.gerror, at(37, Trigger::Level));
    assert_eq!(found.interrupts.eventq, at(19, Trigger::Edge));
    assert_eq!(found.interrupts.combined, at(41, Trigger::Level));
    assert_eq!((found.interrupts.priq, found.interrupts.cmdq_sync), (None, None));
    assert_eq!((found.msi_device_id, found.numa_node, found.enabled), (Some(0x77), Some(3), false));
    assert_eq!(found.coherency, Coherency::Coherent);
    assert!(found.quirks.broken_prefetch && found.quirks.page0_only);
}

#[test]
fn an_smmu_that_needs_its_invalidations_twice() {
    let named = |compatible: &[&str]| {
        let smmu = node("smmu@9000000")
            .strings("compatible", compatible)
            .cells("reg", &[0, 0x900_0000, 0, 0x2_0000]);
        let blob = root(smmu).blob();
        DeviceTree::new(&blob).unwrap().smmu(SMMU0).unwrap().quirks
    };
    let quirks = named(&["nvidia,tegra264-smmu", "arm,smmu-v3"]);
    assert!(quirks.repeat_invalidations);
    assert_eq!(quirks.to_string(), "CFGI and TLBI sent twice");
    let told = quirks.driver_quirks();
    assert!(told.iter().eq([smmu_hw_mmio::Quirk::RepeatInvalidations]));
    let plain = named(&["arm,smmu-v3"]);
    assert!(!plain.repeat_invalidations && plain.driver_quirks().is_empty());
}

#[test]
fn coherency_is_that_of_the_nearest_node_that_says_it() {
    let blob = root(smmu("smmu", SMMU, 0).flag("dma-noncoherent")).flag("dma-coherent").blob();
    let found = DeviceTree::new(&blob).unwrap().smmu(SMMU0).unwrap();
    assert_eq!(found.coherency, Coherency::NonCoherent);
    let blob = root(smmu("smmu", SMMU, 0)).blob();
    let found = DeviceTree::new(&blob).unwrap().smmu(SMMU0).unwrap();
    assert_eq!((found.coherency, found.msi_device_id), (Coherency::NonCoherent, None));
}

/// A bus of one cell at 0x40_0000_0000, and a bus in it.
fn on_a_bus(outer: DtNode, reg: &[u32]) -> Vec<u8> {
    let smmu = node("smmu@100000")
        .strings("compatible", &["vendor,smmu", "arm,smmu-v3"])
        .cells("#iommu-cells", &[1])
        .cells("reg", reg);
    let cells = |node: DtNode| node.cells("#address-cells", &[1]).cells("#size-cells", &[1]);
    let inner = cells(node("inner")).flag("ranges").child(smmu);
    node("")
        .cells("#address-cells", &[2])
        .cells("#size-cells", &[2])
        .child(cells(outer).child(inner))
        .blob()
}

#[test]
fn addresses_pass_the_ranges_of_the_buses() {
    let entries = &[0x20_0000, 0, 0x1000, 0x1000, 0x10_0000, 0x40, 0, 0x4_0000];
    let ranged = || node("bus").cells("ranges", entries);
    let blob = on_a_bus(ranged(), &[0x12_0000, 0x2_0000]);
    let smmu = DeviceTree::new(&blob).unwrap().smmu(SMMU0).unwrap();
    assert_eq!((smmu.base, smmu.size), (PhysAddr(0x40_0002_0000), Some(0x2_0000)));

    let blob = on_a_bus(ranged(), &[0x14_0000, 0x2_0000]);
    let error = DeviceTree::new(&blob).unwrap().smmu(SMMU0).unwrap_err();
    let (what, path, _) = problem(&blob, error);
    assert_eq!((what, path.as_str()), (FdtProblem::NotInRanges { address: 0x14_0000 }, "/bus"));

    let blob = on_a_bus(node("bus"), &[0x12_0000, 0x2_0000]);
    let error = DeviceTree::new(&blob).unwrap().smmu(SMMU0).unwrap_err();
    assert_eq!(problem(&blob, error).0, FdtProblem::NoRanges);
}

fn broken_smmu(change: impl Fn(DtNode) -> DtNode) -> (FdtProblem, String) {
    let blob = root(change(node("smmu").strings("compatible", &["arm,smmu-v3"]))).blob();
    let error = DeviceTree::new(&blob).unwrap().smmu(SMMU0).unwrap_err();
    let (what, path, _) = problem(&blob, error);
    (what, path)
}

#[test]
fn broken_smmus_say_what_and_where() {
    let at_smmu = |what| (what, "/smmu".to_owned());
    assert_eq!(broken_smmu(|smmu| smmu), at_smmu(FdtProblem::Lacks { property: "reg" }));
    assert_eq!(
        broken_smmu(|smmu| smmu.cells("reg", &[0, 1, 2])),
        at_smmu(FdtProblem::Length { property: "reg", bytes: 12, entry: 16 })
    );
    let placed = |smmu: DtNode| smmu.cells("reg", &[0, 0, 0, 0x2_0000]);
    assert_eq!(
        broken_smmu(|smmu| placed(smmu).cells("interrupts", &[0, 1])),
        at_smmu(FdtProblem::Length { property: "interrupts", bytes: 8, entry: 12 })
    );
    assert_eq!(
        broken_smmu(|smmu| placed(smmu)
            .cells("interrupts", &[0, 1, 4])
            .strings("interrupt-names", &["eventq", "gerror"])),
        at_smmu(FdtProblem::InterruptCount { names: 2, interrupts: 1 })
    );
    assert_eq!(
        broken_smmu(|smmu| placed(smmu).cells("interrupts", &[4, 1, 4])),
        at_smmu(FdtProblem::InterruptType { got: 4 })
    );
    assert_eq!(
        broken_smmu(|smmu| placed(smmu).cells("interrupts-extended", &[99, 0, 1, 4])),
        at_smmu(FdtProblem::NoSuchPhandle { property: "interrupts-extended", phandle: 99 })
    );
    assert_eq!(
        broken_smmu(|smmu| placed(smmu).cells("interrupts-extended", &[GIC, 0, 1])),
        at_smmu(FdtProblem::Length { property: "interrupts-extended", bytes: 12, entry: 12 })
    );
    // A bus whose addresses and sizes differ in their cells.
    let smmu = node("smmu").strings("compatible", &["arm,smmu-v3"]).cells("reg", &[0, 1]);
    let bus = node("bus").cells("#address-cells", &[2]).cells("#size-cells", &[1]);
    let blob = root(bus.cells("ranges", &[]).child(smmu)).blob();
    let error = DeviceTree::new(&blob).unwrap().smmu(SMMU0).unwrap_err();
    let (what, path, _) = problem(&blob, error);
    assert_eq!(what, FdtProblem::Length { property: "reg", bytes: 8, entry: 12 });
    assert_eq!(path, "/bus/smmu");
    let blob = root(self::smmu("smmu", SMMU, 0)).blob();
    let error = DeviceTree::new(&blob).unwrap().smmu(SmmuId(1)).unwrap_err();
    assert_eq!(error.problem, FdtProblem::NoSuchSmmu { asked: 1, count: 1 });
}

fn device(change: impl Fn(DtNode) -> DtNode) -> Vec<u8> {
    root(smmu("smmu", SMMU, 0)).child(change(node("device"))).blob()
}

#[test]
fn iommus_of_one_cell() {
    let blob = device(|device| device.cells("iommus", &[SMMU, 0x10, SMMU, 0xffff_ffff]));
    let tree = DeviceTree::new(&blob).unwrap();
    let all = mappings(&blob);
    let streams: Vec<u32> = all.iter().map(|one| one.unwrap().output).collect();
    assert_eq!(streams, [0x10, u32::MAX]);
    let first = all[0].unwrap();
    assert_eq!((first.inputs, first.target), (Inputs::Any, Target::Smmu(SMMU0)));
    assert_eq!(blob[first.at as usize..][..4], SMMU.to_be_bytes());
    assert_eq!(tree.stream_of(&only(&tree), 5_u32), Ok(Some(stream(0, 0x10))));
    let mut name = String::new();
    assert!(tree.write_name(stream(0, u32::MAX), &mut name).unwrap());
    assert_eq!(name, "/device");
}

/// The second cell is a mask for SMMUv2; SMMUv3 has no use for it.
#[test]
fn iommus_of_two_cells() {
    let two = node("smmu").strings("compatible", &["arm,smmu-v3"]).cells("phandle", &[SMMU]);
    let two = two.cells("#iommu-cells", &[2]).cells("reg", &[0, 0, 0, 0x2_0000]);
    let device = node("device").cells("iommus", &[SMMU, 0x10, 0x7f, SMMU, 0x20, 0]);
    let blob = root(two).child(device).blob();
    let streams: Vec<u32> = mappings(&blob).iter().map(|one| one.unwrap().output).collect();
    assert_eq!(streams, [0x10, 0x20]);
    assert_eq!(DeviceTree::new(&blob).unwrap().iommu_cells(SMMU0), Some(2));
}

#[test]
fn an_iommu_of_another_kind_is_passed_over() {
    let other = node("mmu").cells("phandle", &[7]).cells("#iommu-cells", &[0]);
    let device = node("device").cells("iommus", &[7, SMMU, 0x20]);
    let blob = root(smmu("smmu", SMMU, 0)).child(other).child(device).blob();
    let all: Vec<IdMapping> = mappings(&blob).into_iter().map(Result::unwrap).collect();
    assert!(matches!(all[0].target, Target::OtherIommu(_)));
    assert_eq!((all[1].output, all[1].target), (0x20, Target::Smmu(SMMU0)));
    let tree = DeviceTree::new(&blob).unwrap();
    // The first entry holds all inputs, and leads elsewhere.
    assert_eq!(tree.stream_of(&only(&tree), 0_u32), Ok(None));
    assert!(tree.device_of(stream(0, 0x20)).is_some());
}

#[rstest]
#[case::cut(&[SMMU], FdtProblem::Length { property: "iommus", bytes: 4, entry: 8 })]
#[case::one_too_many(&[SMMU, 1, SMMU], FdtProblem::Length { property: "iommus", bytes: 12, entry: 8 })]
#[case::two_for_one(&[SMMU, 1, 0x7f], FdtProblem::NoSuchPhandle { property: "iommus", phandle: 0x7f })]
#[case::nobody(&[99, 1], FdtProblem::NoSuchPhandle { property: "iommus", phandle: 99 })]
fn wrong_iommus(#[case] cells: &[u32], #[case] want: FdtProblem) {
    let blob = device(|device| device.cells("iommus", cells));
    let all = mappings(&blob);
    let error = all.last().unwrap().unwrap_err();
    let (what, path, _) = problem(&blob, error);
    assert_eq!((what, path.as_str()), (want, "/device"));
}

#[test]
fn iommus_of_no_cells_give_an_smmuv3_no_stream() {
    let none = node("smmu").strings("compatible", &["arm,smmu-v3"]).cells("phandle", &[SMMU]);
    let none = none.cells("#iommu-cells", &[0]);
    let blob = root(none).child(node("device").cells("iommus", &[SMMU])).blob();
    let (what, path, _) = problem(&blob, mappings(&blob)[0].unwrap_err());
    let want = FdtProblem::CellCount { property: "#iommu-cells", got: 0, least: 1, most: 8 };
    assert_eq!((what, path.as_str()), (want, "/smmu"));
}

#[test]
fn maps_count_from_their_bases() {
    let map = &[0x100, SMMU, 0x4000, 0x80, 0x200, SMMU, 0x10, 1];
    let blob = device(|device| device.cells("iommu-map", map));
    let tree = DeviceTree::new(&blob).unwrap();
    let bridge = only(&tree);
    assert!(bridge.has_map());
    let cases = [
        (0xff, None),
        (0x100, Some(0x4000)),
        (0x17f, Some(0x407f)),
        (0x180, None),
        (0x1ff, None),
        (0x200, Some(0x10)),
        (0x201, None),
    ];
    for (input, id) in cases {
        let want = id.map(|id| stream(0, id));
        assert_eq!(tree.stream_of(&bridge, RequestId(input)), Ok(want), "{input:#x}");
        if let Some(found) = want {
            let (device, back) = tree.device_of(found).unwrap();
            assert_eq!((device.at(), back), (bridge.at(), Some(input.into())));
        }
    }
    assert!(tree.device_of(stream(0, 0x4080)).is_none());
    assert!(tree.device_of(stream(1, 0x4000)).is_none());
}

#[test]
fn a_mask_leaves_bits_of_the_input_out() {
    let blob = device(|device| {
        device.cells("iommu-map", &[0, SMMU, 0x40, 0x100]).cells("iommu-map-mask", &[0xf8])
    });
    let tree = DeviceTree::new(&blob).unwrap();
    let function = RequestId::new(5, 3, 7).unwrap();
    assert_eq!(tree.stream_of(&only(&tree), function), Ok(Some(stream(0, 0x40 + 0x18))));
}

#[test]
fn of_overlapping_entries_the_first_counts() {
    let blob = device(|device| device.cells("iommu-map", &[0, SMMU, 0x40, 16, 8, SMMU, 0x80, 16]));
    let tree = DeviceTree::new(&blob).unwrap();
    let bridge = only(&tree);
    assert_eq!(tree.stream_of(&bridge, 8_u32), Ok(Some(stream(0, 0x48))));
    assert_eq!(tree.stream_of(&bridge, 16_u32), Ok(Some(stream(0, 0x88))));
}

/// A tree with an IOMMU of `cells`, and a device with this map.
fn mapped(cells: u32, map: &[u32]) -> Vec<u8> {
    let smmu = node("smmu").strings("compatible", &["arm,smmu-v3"]).cells("phandle", &[SMMU]);
    let smmu = smmu.cells("#iommu-cells", &[cells]);
    root(smmu).child(node("device").cells("iommu-map", map)).blob()
}

#[test]
fn maps_of_two_cells_have_entries_of_five() {
    let blob = mapped(2, &[0x10, SMMU, 0x900, 0x3f, 1, 0x20, SMMU, 0xa00, 0, 1]);
    let all: Vec<IdMapping> = mappings(&blob).into_iter().map(Result::unwrap).collect();
    assert_eq!([all[0].output, all[1].output], [0x900, 0xa00]);
    assert_eq!(all[1].inputs, Inputs::Range { first: 0x20, last: 0x20 });
    let blob = mapped(2, &[0x10, SMMU, 0x900, 0x3f, 2]);
    let what = mappings(&blob)[0].unwrap_err().problem;
    assert_eq!(what, FdtProblem::SeveralOutputs { length: 2, cells: 2 });
}

/// The pattern of trees that were written when every map had one output cell.
#[test]
fn maps_of_two_cells_may_have_entries_of_four() {
    let blob = mapped(2, &[0, SMMU, 0x1c00, 1, 0x100, SMMU, 0x1c01, 1]);
    let all: Vec<IdMapping> = mappings(&blob).into_iter().map(Result::unwrap).collect();
    assert_eq!([all[0].output, all[1].output], [0x1c00, 0x1c01]);
    assert_eq!(all[1].inputs, Inputs::Range { first: 0x100, last: 0x100 });
}

#[rstest]
#[case::five_for_one(1, &[0, SMMU, 0x900, 0, 0x10],
    FdtProblem::EntryCells { property: "iommu-map", written: 5, cells: 1, wanted: 4 })]
#[case::five_for_one_twice(1, &[0, SMMU, 0x900, 0, 0x10, 0x10, SMMU, 0x910, 0, 0x10],
    FdtProblem::EntryCells { property: "iommu-map", written: 5, cells: 1, wanted: 4 })]
#[case::four_for_two(2, &[0, SMMU, 0x900, 0x100],
    FdtProblem::EntryCells { property: "iommu-map", written: 4, cells: 2, wanted: 5 })]
#[case::cut(1, &[0, SMMU, 0x900], FdtProblem::Length { property: "iommu-map", bytes: 12, entry: 16 })]
#[case::no_phandle(1, &[0], FdtProblem::Length { property: "iommu-map", bytes: 4, entry: 16 })]
#[case::nobody(1, &[0, 99, 0, 1], FdtProblem::NoSuchPhandle { property: "iommu-map", phandle: 99 })]
#[case::empty(1, &[0, SMMU, 0, 0], FdtProblem::EmptyRange)]
#[case::outputs_wrap(1, &[0, SMMU, 0xffff_ff00, 0x101],
    FdtProblem::RangeWraps { first: 0xffff_ff00, length: 0x101 })]
#[case::inputs_wrap(1, &[2, SMMU, 0, u32::MAX],
    FdtProblem::RangeWraps { first: 2, length: u32::MAX })]
fn wrong_maps(#[case] cells: u32, #[case] map: &[u32], #[case] want: FdtProblem) {
    let blob = mapped(cells, map);
    let error = mappings(&blob).into_iter().find_map(Result::err).unwrap();
    let (what, path, _) = problem(&blob, error);
    assert_eq!((what, path.as_str()), (want, "/device"));
    let tree = DeviceTree::new(&blob).unwrap();
    assert_eq!(tree.stream_of(&only(&tree), 0xdead_u32).map_err(|e| e.problem), Err(want));
    assert!(tree.device_of(stream(0, 0x7fff_ffff)).is_none());
}

#[test]
fn entries_after_an_empty_one_are_read() {
    let blob = mapped(1, &[0, SMMU, 0, 0, 0x10, SMMU, 0x10, 1]);
    let all = mappings(&blob);
    assert_eq!((all.len(), all[1].unwrap().output), (2, 0x10));
}

#[test]
fn abilities_of_a_device() {
    let blob = device(|device| {
        let device = device.cells("iommus", &[SMMU, 1]).flag("ats-supported").flag("dma-can-stall");
        device.cells("pasid-num-bits", &[20]).strings("status", &["disabled"])
    });
    let tree = DeviceTree::new(&blob).unwrap();
    let found = only(&tree);
    assert!(found.has_ats() && found.can_stall() && !found.is_enabled() && !found.has_map());
    assert_eq!((found.pasid_bits(), found.map_mask()), (Ok(20), u32::MAX));
    for (cells, got) in [(&[21_u32][..], 21), (&[], u32::MAX), (&[u32::MAX], u32::MAX)] {
        let blob = device(|device| device.flag("iommu-map").cells("pasid-num-bits", cells));
        let tree = DeviceTree::new(&blob).unwrap();
        let error = only(&tree).pasid_bits().unwrap_err();
        assert_eq!(error.problem, FdtProblem::PasidBits { got });
        assert_eq!(only(&tree).pasid_bits(), Err(error));
    }
}

fn reserved(regions: impl IntoIterator<Item = DtNode>) -> Vec<u8> {
    let bus = node("reserved-memory").cells("#address-cells", &[2]).cells("#size-cells", &[2]);
    let bus = regions.into_iter().fold(bus.flag("ranges"), DtNode::child);
    let display = node("display").cells("phandle", &[DEVICE]).cells("iommus", &[SMMU, 1]);
    let narrow = node("bus").cells("#address-cells", &[1]).cells("#size-cells", &[1]);
    let narrow = narrow.child(node("usb").cells("phandle", &[9]).cells("iommus", &[SMMU, 2]));
    root(smmu("smmu", SMMU, 0)).child(display).child(narrow).child(bus).blob()
}

#[test]
fn reserved_regions_have_the_cells_of_their_devices() {
    let frame = node("framebuffer@80000000")
        .cells("reg", &[0, 0x8000_0000, 0, 0x80_0000])
        .cells("iommu-addresses", &[DEVICE, 0, 0x8000_0000, 0, 0x80_0000, 9, 0x1000, 0x2000]);
    let free = node("hole").cells("iommu-addresses", &[DEVICE, 0x10, 0, 0, 0x1000]);
    let blob = reserved([frame, node("unrelated"), free]);
    let tree = DeviceTree::new(&blob).unwrap();
    let all: Vec<_> = tree.reserved_regions().map(Result::unwrap).collect();
    let told: Vec<_> =
        all.iter().map(|one| (one.device.to_string(), one.iova, one.length, one.memory)).collect();
    assert_eq!(
        told,
        [
            ("/display".to_owned(), Iova(0x8000_0000), 0x80_0000, Some(PhysAddr(0x8000_0000))),
            ("/bus/usb".to_owned(), Iova(0x1000), 0x2000, Some(PhysAddr(0x8000_0000))),
            ("/display".to_owned(), Iova(0x10_0000_0000), 0x1000, None),
        ]
    );
    assert_eq!(all[2].region.to_string(), "/reserved-memory/hole");
}

#[test]
fn wrong_reserved_regions_hide_only_what_lies_behind_them() {
    let cut = node("cut").cells("iommu-addresses", &[DEVICE, 0, 1, 2]);
    let lost = node("lost").cells("iommu-addresses", &[77, 0, 0, 0, 0]);
    let good = node("good").cells("iommu-addresses", &[9, 0x1000, 0x2000]);
    let blob = reserved([cut, lost, good]);
    let tree = DeviceTree::new(&blob).unwrap();
    let all: Vec<_> = tree.reserved_regions().collect();
    let problems: Vec<_> = all.iter().filter_map(|one| one.as_ref().err()).collect();
    assert_eq!((all.len(), problems.len()), (3, 2));
    let want = FdtProblem::Length { property: "iommu-addresses", bytes: 16, entry: 20 };
    assert_eq!(problem(&blob, *problems[0]).0, want);
    let (what, path, _) = problem(&blob, *problems[1]);
    let want = FdtProblem::NoSuchPhandle { property: "iommu-addresses", phandle: 77 };
    assert_eq!((what, path.as_str()), (want, "/reserved-memory/lost"));
}

#[test]
fn references_of_reserved_memory_are_bounded() {
    let many: Vec<u32> = (0..300).flat_map(|n| [[DEVICE, 9][n % 2], 0, 0]).collect();
    // The device of phandle 9 is on a bus of one cell, the other one on a bus of two.
    let cells: Vec<u32> = many
        .chunks(3)
        .flat_map(|one| match one[0] {
            DEVICE => vec![DEVICE, 0, 0, 0, 1],
            _ => vec![9, 0, 1],
        })
        .collect();
    let blob = reserved([node("many").cells("iommu-addresses", &cells)]);
    let tree = DeviceTree::new(&blob).unwrap();
    let all: Vec<_> = tree.reserved_regions().collect();
    assert_eq!(all.len(), 257);
    let last = all.last().unwrap().as_ref().unwrap_err();
    assert_eq!(last.problem, FdtProblem::TooManyReferences);
}

#[test]
fn room_and_phandles_are_checked() {
    let more = |tree: DtNode, n: u32| tree.child(smmu("smmu", 10 + n, n << 20));
    let blob = (0..40).fold(node(""), more).blob();
    let error = DeviceTree::new(&blob).unwrap_err();
    assert_eq!(error.problem, FdtProblem::TooManyIommus { room: 32 });
    let tree = DeviceTree::<40>::with_room(&blob).unwrap();
    assert_eq!((tree.smmu_count(), tree.smmus().count()), (40, 40));

    let twice = root(smmu("smmu", SMMU, 0)).child(smmu("again", SMMU, 0x10_0000)).blob();
    let error = DeviceTree::new(&twice).unwrap_err();
    assert!(matches!(error.problem, FdtProblem::SamePhandle { phandle: SMMU, .. }));
}

#[test]
fn devices_without_an_iommu_are_found() {
    let pci = |name| node(name).strings("device_type", &["pci"]).cells("bus-range", &[0, 255]);
    let behind = pci("pcie@1").cells("iommu-map", &[0, SMMU, 0, 1]);
    let bus = node("bus").flag("dma-coherent").flag("ranges");
    let bus = bus.child(node("disk").flag("dma-noncoherent")).child(node("uart"));
    let blob = root(smmu("smmu", SMMU, 0).flag("dma-coherent"))
        .flag("dma-coherent")
        .child(behind)
        .child(pci("pcie@2"))
        .child(bus)
        .child(node("usb").flag("dma-coherent"))
        .child(node("net").flag("dma-coherent").cells("iommus", &[SMMU, 1]))
        .blob();
    let tree = DeviceTree::new(&blob).unwrap();
    let paths: Vec<_> = tree.devices_without_iommu().map(|one| one.path().to_string()).collect();
    assert_eq!(paths, ["/pcie@2", "/bus/disk", "/usb"]);
}

fn refused(blob: &[u8]) -> FdtError {
    DeviceTree::new(blob).map(|_| ()).unwrap_err()
}

#[test]
fn damaged_blobs_are_refused() {
    let good = root(smmu("smmu", SMMU, 0)).blob();
    let with = |at: usize, value: u32| {
        let mut blob = good.clone();
        blob[at..at + 4].copy_from_slice(&value.to_be_bytes());
        refused(&blob)
    };
    let total = good.len() as u32;
    assert_eq!(refused(&[]).problem, FdtProblem::NoHeader { have: 0, need: 36 });
    assert_eq!(refused(&good[..35]).problem, FdtProblem::NoHeader { have: 35, need: 36 });
    assert_eq!(with(0, 0xfeed_d00d).problem, FdtProblem::Magic { got: 0xfeed_d00d });
    assert_eq!(
        refused(&good[..good.len() - 1]).problem,
        FdtProblem::Truncated { total, have: good.len() - 1 }
    );
    assert_eq!(with(4, u32::MAX).problem, FdtProblem::TooLong { total: u32::MAX });
    assert_eq!(with(4, 38).problem, FdtProblem::NoHeader { have: 38, need: 40 });
    for (at, block) in [(8, "structure"), (12, "strings"), (32, "strings"), (36, "structure")] {
        for value in [u32::MAX, total + 4] {
            assert_eq!(
                with(at, value),
                FdtError {
                    at: if block == "strings" { 12 } else { 8 },
                    problem: FdtProblem::Block { block }
                }
            );
        }
    }
    assert_eq!(with(8, 57).problem, FdtProblem::Block { block: "structure" });
    assert_eq!(with(20, 15).problem, FdtProblem::Version { version: 15, last_compatible: 16 });
    assert_eq!(with(24, 18).problem, FdtProblem::Version { version: 17, last_compatible: 18 });
    // The first word of the structure block.
    assert_eq!(with(56, 7), FdtError { at: 56, problem: FdtProblem::Token { got: 7 } });
    // The length of the first property.
    assert_eq!(with(68, u32::MAX).problem, FdtProblem::PropertyPastEnd { bytes: u32::MAX });
    assert_eq!(with(72, u32::MAX), FdtError { at: 64, problem: FdtProblem::Name });
}

#[rstest]
#[case::empty(&[], FdtProblem::Unfinished)]
#[case::only_the_end(&[9], FdtProblem::Token { got: 9 })]
#[case::ends_inside(&[1, 0, 9], FdtProblem::Unfinished)]
#[case::cut_off(&[1, 0], FdtProblem::Unfinished)]
#[case::ended_twice(&[1, 0, 2, 2], FdtProblem::Token { got: 2 })]
#[case::property_outside(&[3, 0, 0, 1, 0, 2, 9], FdtProblem::Token { got: 3 })]
#[case::property_behind_a_child(&[1, 0, 1, 0x6100_0000, 2, 3, 0, 0, 2, 9], FdtProblem::Token { got: 3 })]
#[case::two_roots(&[1, 0, 2, 1, 0, 2, 9], FdtProblem::Name)]
#[case::child_without_a_name(&[1, 0, 1, 0, 2, 2, 9], FdtProblem::Name)]
#[case::name_without_an_end(&[1, 0x6161_6161], FdtProblem::Name)]
#[case::strange_name(&[1, 0, 1, 0x6107_0000, 2, 2, 9], FdtProblem::Name)]
#[case::name_with_a_separator(&[1, 0, 1, 0x612f_6200, 2, 2, 9], FdtProblem::Name)]
fn wrong_structures_are_refused(#[case] words: &[u32], #[case] want: FdtProblem) {
    let mut structure = Vec::new();
    words.iter().for_each(|one| word(&mut structure, *one));
    assert_eq!(refused(&wrap(&structure, b"reg\0")).problem, want);
}

#[test]
fn depth_and_names_are_bounded() {
    let deep = |levels: usize| (1..levels).fold(node("a"), |tree, _| node("a").child(tree));
    assert!(DeviceTree::new(&node("").child(deep(63)).blob()).is_ok());
    assert_eq!(refused(&node("").child(deep(64)).blob()).problem, FdtProblem::TooDeep);
    let named = |length: usize| node("").child(node(&"n".repeat(length))).blob();
    assert!(DeviceTree::new(&named(255)).is_ok());
    assert_eq!(refused(&named(256)).problem, FdtProblem::Name);
}

/// No `NOP` moves anything: dtc and firmware leave them where they remove something.
#[test]
fn nops_are_passed_over() {
    let mut structure = vec![];
    for one in [4, 1, 0, 4, 3, 4, 0, 7, 4, 1, 0x6100_0000, 4, 2, 4, 2, 4, 9] {
        word(&mut structure, one);
    }
    let blob = wrap(&structure, b"reg\0");
    assert_eq!(DeviceTree::new(&blob).unwrap().smmu_count(), 0);
}

/// Version 16 gives the structure block no size.
#[test]
fn version_16_is_read() {
    let mut blob = root(smmu("smmu", SMMU, 0)).blob();
    blob[20..24].copy_from_slice(&16_u32.to_be_bytes());
    blob[36..40].copy_from_slice(&[0xff; 4]);
    assert_eq!(DeviceTree::new(&blob).unwrap().smmu_count(), 1);
}

fn any_cell() -> impl Strategy<Value = u32> {
    prop_oneof![0..12_u32, Just(u32::MAX), any::<u32>()]
}

/// Address and length of each `reg` on the bus, by a reader from elsewhere.
#[test]
fn nodes_say_what_another_reader_says() {
    use dtoolkit::fdt::{Fdt, FdtNode};
    use dtoolkit::{Node as _, Property as _};

    type Seen = (String, Option<Vec<(u64, u64)>>, Option<Vec<u8>>);
    fn visit(node: FdtNode<'_>, path: &str, all: &mut Vec<Seen>) {
        // CPUs have no sizes, which DeviceTree does not read as `reg`.
        let reg = node.reg().ok().flatten().map(|entries| {
            entries.map(|one| (one.address().unwrap(), one.size().unwrap())).collect()
        });
        let reg = reg.filter(|_| !path.starts_with("/cpus/"));
        let compatible = node.property("compatible").map(|list| list.value().to_vec());
        all.push((path.to_owned(), reg, compatible));
        for child in node.children() {
            visit(child, &format!("{}/{}", path.trim_end_matches('/'), child.name()), all);
        }
    }
    let theirs = Fdt::new(QEMU).unwrap();
    let mut want = Vec::new();
    visit(theirs.root(), "/", &mut want);

    let tree = DeviceTree::new(QEMU).unwrap();
    let seen: Vec<Seen> = tree
        .nodes()
        .map(|node| {
            let reg = node.reg().ok().map(Iterator::collect);
            let compatible = node.property("compatible").map(<[u8]>::to_vec);
            (node.path().to_string(), reg, compatible)
        })
        .collect();
    assert_eq!(seen, want);
    assert!(seen.iter().filter(|(_, reg, _)| reg.is_some()).count() > 20, "{seen:?}");
    for (path, ..) in &seen {
        assert_eq!(tree.node(path).unwrap().path().to_string(), *path);
    }
    for path in ["", "/pcie", "/pcie@10000000/", "pcie@10000000", "//", "/cpus/cpu@0/x"] {
        assert!(tree.node(path).is_none(), "{path}");
    }
    assert_eq!(tree.memory_reservations().unwrap().count(), theirs.memory_reservations().count());
}

#[test]
fn memory_reservations_end_in_the_blob() {
    let mut blob = QEMU.to_vec();
    let at = u32::from_be_bytes(blob[16..20].try_into().unwrap()) as usize;
    let entry = |address: u64, length: u64| [address.to_be_bytes(), length.to_be_bytes()].concat();
    // Two entries and the end, at the end of the blob.
    let old = blob.len();
    blob.extend(entry(0x4000_0000, 0x1000));
    blob.extend(entry(0, 1));
    blob.extend(entry(0, 0));
    let (total, here) = ((blob.len() as u32).to_be_bytes(), (old as u32).to_be_bytes());
    blob[4..8].copy_from_slice(&total);
    blob[16..20].copy_from_slice(&here);
    let tree = DeviceTree::new(&blob).unwrap();
    let list: Vec<_> = tree.memory_reservations().unwrap().collect();
    assert_eq!(list, [(0x4000_0000, 0x1000), (0, 1)]);
    assert_eq!(tree.blob().len(), blob.len());

    let problem = FdtProblem::Block { block: "memory reservation" };
    let wrong = FdtError { at: 16, problem };
    // Without the end, and outside of the blob.
    let last = blob.len() - 1;
    blob[last] = 1;
    assert_eq!(DeviceTree::new(&blob).unwrap().memory_reservations().err(), Some(wrong));
    blob[16..20].copy_from_slice(&[0xff; 4]);
    assert_eq!(DeviceTree::new(&blob).unwrap().memory_reservations().err(), Some(wrong));
    assert!(at < old);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        any_fdt::check(&bytes);
    }

    /// QEMU's tree with some bytes changed, and perhaps cut.
    #[test]
    fn any_damage_is_read_or_refused(
        changes in proptest::collection::vec((0..QEMU.len(), any::<u8>()), 1..8),
        cut in proptest::option::of(0..QEMU.len()),
    ) {
        let mut bytes = QEMU.to_vec();
        changes.into_iter().for_each(|(at, byte)| bytes[at] = byte);
        bytes.truncate(cut.unwrap_or(bytes.len()));
        any_fdt::check(&bytes);
    }

    /// A well-formed tree with any cells in the properties that the resolver reads.
    #[test]
    fn any_cells_are_read_or_refused(
        iommus in proptest::collection::vec(any_cell(), 0..12),
        map in proptest::collection::vec(any_cell(), 0..12),
        smmu_cells in proptest::collection::vec(any_cell(), 6),
        reserved in proptest::collection::vec(any_cell(), 0..12),
        interrupts in proptest::collection::vec(any_cell(), 0..8),
    ) {
        let smmu = node("smmu")
            .strings("compatible", &["arm,smmu-v3"])
            .cells("phandle", &[SMMU])
            .cells("#iommu-cells", &smmu_cells[..1])
            .cells("reg", &smmu_cells[1..])
            .strings("interrupt-names", &["eventq", "gerror"])
            .cells("interrupts", &interrupts);
        let device = node("device").cells("phandle", &[DEVICE]);
        let device = device.cells("iommus", &iommus).cells("iommu-map", &map);
        let region = node("region").cells("iommu-addresses", &reserved).cells("reg", &reserved);
        let blob = root(smmu).child(device).child(node("reserved-memory").child(region)).blob();
        prop_assert!(DeviceTree::new(&blob).is_ok());
        any_fdt::check(&blob);
    }

    /// The first matching entry by a plain reading of the binding: `(base, phandle, output, length)`.
    #[test]
    fn maps_agree_with_the_binding(
        entries in proptest::collection::vec((0..64_u32, 0..64_u32, 1..16_u32), 1..5),
        input in 0..96_u32,
    ) {
        let map: Vec<u32> =
            entries.iter().flat_map(|(base, output, length)| [*base, SMMU, *output, *length]).collect();
        let blob = device(|device| device.cells("iommu-map", &map));
        let tree = DeviceTree::new(&blob).unwrap();
        let mut fitting = entries.iter().filter(|(base, _, n)| (*base..base + n).contains(&input));
        let want = fitting.next().map(|(base, output, _)| stream(0, input - base + output));
        prop_assert_eq!(tree.stream_of(&only(&tree), input), Ok(want));
    }
}
