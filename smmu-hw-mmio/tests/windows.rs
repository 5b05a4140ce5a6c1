//! Memory that firmware reserves for a stream: in tables that QEMU makes, with an entry of ours, and
//! in hand-made ones, right and wrong.
#![cfg(all(feature = "fdt", feature = "iort"))]
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "firmware/dtb_builder.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod dtb_builder;
#[path = "firmware/dtb_reader.rs"]
mod dtb_reader;
#[path = "firmware/iort_builder.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod iort_builder;
#[path = "firmware/iort_more.rs"]
mod iort_more;

use dtb_builder::{DEVICE, DtNode, SMMU, node, root, smmu as smmu_node};
use iort_builder::{Node, SINGLE, its, offsets, rmr, rmr_of, root_complex, smmu, smmu_v2, table};
use rstest::rstest;
use smmu_hw_mmio::firmware::fdt::{DeviceTree, FdtError, FdtProblem};
use smmu_hw_mmio::firmware::iort::{Iort, IortError, IortProblem};
use smmu_hw_mmio::firmware::{MemoryType, ReservedWindow, Stream};
use smmu_types::{Iova, PhysAddr, SmmuId, StreamId};

const WRITE_BACK: u32 = 5 << 2;

fn stream(smmu: u16, id: u32) -> Stream {
    Stream { smmu: SmmuId(smmu), id: StreamId(id) }
}

/// A window without its place.
fn told(window: ReservedWindow) -> (u64, u64, Option<u64>) {
    (window.iova.0, window.length, window.memory.map(|memory| memory.0))
}

mod in_iort {
    use super::*;

    fn of(bytes: &[u8], stream: Stream) -> Vec<Result<ReservedWindow, IortError>> {
        Iort::new(bytes).unwrap().windows_of(stream).collect()
    }

    /// Two SMMUs, and what `more` makes of their places.
    fn with(more: impl FnOnce([u32; 2]) -> Vec<Node>) -> Vec<u8> {
        let mut nodes = vec![its(), smmu(4, 0x900_0000, 1, 0, [0; 4]), smmu(4, 0, 1, 0, [0; 4])];
        let at = offsets(&nodes);
        nodes.extend(more([at[1], at[2]]));
        table(&nodes)
    }

    #[test]
    fn each_stream_of_an_rmr_has_its_ranges() {
        let ranges = [(0x8000_0000, 0x1_0000), (0x9000_0000, 0x2_0000)];
        let bytes = with(|[first, second]| {
            vec![
                rmr(0b11 | WRITE_BACK, &ranges)
                    .map([9, 0, 0x77, first, SINGLE])
                    .map([9, 3, 0x90, first, 0])
                    // The same stream once more adds nothing.
                    .map([9, 0, 0x92, first, SINGLE]),
                rmr(WRITE_BACK, &[(0xa000_0000, 0x1000)]).map([0, 0, 0x92, second, SINGLE]),
                rmr(WRITE_BACK, &[(0xb000_0000, 0x1000)]).map([0, 0, 0x93, first, SINGLE]),
            ]
        });
        let windows = |id| of(&bytes, stream(0, id)).into_iter().map(Result::unwrap);
        let both = [
            (0x8000_0000, 0x1_0000, Some(0x8000_0000)),
            (0x9000_0000, 0x2_0000, Some(0x9000_0000)),
        ];
        for id in [0x77, 0x90, 0x92] {
            assert_eq!(windows(id).map(told).collect::<Vec<_>>(), both, "{id:#x}");
        }
        assert_eq!(windows(0x93).count(), 3);
        assert_eq!(windows(0x94).chain(windows(0x76)).chain(windows(9)).count(), 0);
        assert_eq!(of(&bytes, stream(1, 0x92)).len(), 1);
        assert_eq!(of(&bytes, stream(1, 0x77)).len() + of(&bytes, stream(2, 0x77)).len(), 0);
        let all: Vec<_> = windows(0x93).collect();
        let seen = all.iter().map(|one| (one.privileged, one.may_move, one.memory_type));
        let write_back = Some(MemoryType::NormalWriteBack);
        let want = [(true, true, write_back), (true, true, write_back), (false, false, write_back)];
        assert_eq!(seen.collect::<Vec<_>>(), want);
        // Each says where it lies: its first 8 bytes are the address.
        for one in all {
            let at = one.at as usize;
            assert_eq!(bytes[at..at + 8], one.iova.0.to_le_bytes());
        }
    }

    // DEN 0049: bits 9:2 of the flags of an RMR.
    #[rstest]
    #[case(3, 0, Some(MemoryType::DeviceNGnRnE))]
    #[case(3, 1, Some(MemoryType::DeviceNGnRE))]
    #[case(3, 2, Some(MemoryType::DeviceNGRE))]
    #[case(3, 3, Some(MemoryType::DeviceGRE))]
    #[case(3, 4, Some(MemoryType::NormalNonCacheable))]
    #[case(3, 5, Some(MemoryType::NormalWriteBack))]
    #[case(1, 0, None)]
    #[case(2, 0xff, None)]
    fn access_attributes(
        #[case] revision: u8,
        #[case] attributes: u32,
        #[case] want: Option<MemoryType>,
    ) {
        // The bits above are reserved, and are not looked at.
        let flags = attributes << 2 | 0xffff_fc00;
        let memory = rmr_of(revision, flags, &[(0, 0x1000)]);
        let bytes = with(|[first, _]| vec![memory.map([0, 0, 1, first, SINGLE])]);
        let windows = of(&bytes, stream(0, 1));
        assert_eq!(windows.iter().map(|one| one.unwrap().memory_type).collect::<Vec<_>>(), [want]);
    }

    #[rstest]
    #[case(6)]
    #[case(0xff)]
    fn reserved_access_attributes_are_an_error_of_their_streams(#[case] got: u8) {
        let memory = rmr(u32::from(got) << 2, &[(0, 0x1000), (0x1000, 0x1000)]);
        let good = rmr(WRITE_BACK, &[(0x4000, 0x1000)]);
        let bytes = with(|[first, _]| {
            let both = |node: Node| node.map([0, 0, 1, first, SINGLE]);
            vec![both(memory), good.map([0, 1, 1, first, 0])]
        });
        let windows = of(&bytes, stream(0, 1));
        let error = windows[0].unwrap_err();
        assert_eq!(error.problem, IortProblem::AccessAttributes { got });
        let at = error.at as usize;
        assert_eq!(bytes[at..at + 4], (u32::from(got) << 2).to_le_bytes());
        assert_eq!((windows.len(), told(windows[1].unwrap())), (2, (0x4000, 0x1000, Some(0x4000))));
        // Another stream has nothing to do with it.
        assert!(of(&bytes, stream(0, 2)).iter().all(Result::is_ok));
    }

    #[test]
    fn a_wrong_mapping_may_be_that_of_any_stream() {
        let bytes = with(|[first, _]| {
            let wrong = rmr(WRITE_BACK, &[(0x8000_0000, 0x1000)]).map([0, 0, 1, 5, SINGLE]);
            vec![wrong.map([0, 5, u32::MAX, first, 0]).map([0, 0, 1, first, SINGLE])]
        });
        let windows = of(&bytes, stream(0, 1));
        let problems: Vec<_> =
            windows.iter().filter_map(|one| one.err().map(|error| error.problem)).collect();
        let wraps = IortProblem::RangeWraps { first: u32::MAX, more: 5 };
        assert_eq!(problems, [IortProblem::NoTarget { target: 5 }, wraps]);
        assert_eq!((windows.len(), windows[2].is_ok()), (3, true));
        // A stream without any window still hears of them.
        assert_eq!(of(&bytes, stream(1, 7)).len(), 2);
    }

    #[test]
    fn streams_of_other_iommus_are_not_those_of_an_smmu() {
        let nodes = [its(), smmu(4, 0, 1, 0, [0; 4]), smmu_v2()];
        let at = offsets(&nodes)[2];
        let memory = rmr(WRITE_BACK, &[(0, 0x1000)]).map([0, 0, 1, at, SINGLE]);
        let bytes = table(&[&nodes[..], &[memory, root_complex(0, 0)]].concat());
        assert_eq!(of(&bytes, stream(0, 1)), []);
    }

    /// QEMU reserves nothing. With one node more, the function of a stream has a window.
    #[rstest]
    #[case(include_bytes!("firmware/qemu.iort"), 1)]
    #[case(include_bytes!("firmware/qemu-three.iort"), 3)]
    fn in_a_table_of_qemu(#[case] qemu: &[u8], #[case] smmus: u16) {
        for n in 0..smmus {
            let smmu_at = Iort::new(qemu).unwrap().smmu(SmmuId(n)).unwrap().at;
            assert_eq!(of(qemu, stream(n, 0x10)), []);
            let memory = rmr(WRITE_BACK, &[(0x4800_0000, 0x80_0000)]);
            let mut bytes = qemu.to_vec();
            iort_more::add_node(&mut bytes, &memory.map([0, 0, 0x10, smmu_at, SINGLE]));
            assert!(Iort::new(&bytes).unwrap().checksum_is_right());
            let windows = of(&bytes, stream(n, 0x10));
            let want = (0x4800_0000, 0x80_0000, Some(0x4800_0000));
            assert_eq!((windows.len(), told(windows[0].unwrap())), (1, want));
            assert_eq!(of(&bytes, stream(n, 0x11)), []);
            let other = (n + 1) % 3;
            assert_eq!(of(&bytes, stream(other, 0x10)), []);
        }
    }
}

mod in_a_device_tree {
    use super::*;

    fn of(blob: &[u8], stream: Stream) -> Vec<Result<ReservedWindow, FdtError>> {
        DeviceTree::new(blob).unwrap().windows_of(stream).collect()
    }

    fn memory(regions: impl IntoIterator<Item = DtNode>) -> DtNode {
        let bus = node("reserved-memory").cells("#address-cells", &[2]).cells("#size-cells", &[2]);
        regions.into_iter().fold(bus.flag("ranges"), DtNode::child)
    }

    const USB: u32 = 9;
    const FRAME: u32 = 20;

    fn machine(regions: impl IntoIterator<Item = DtNode>) -> Vec<u8> {
        let display = node("display").cells("phandle", &[DEVICE]);
        let display = display.cells("iommus", &[SMMU, 1, SMMU, 5]).flag("dma-coherent");
        let narrow = node("bus").cells("#address-cells", &[1]).cells("#size-cells", &[1]);
        let usb = node("usb").cells("phandle", &[USB]).cells("iommus", &[SMMU, 2]);
        root(smmu_node("smmu", SMMU, 0))
            .child(display.cells("memory-region", &[77, FRAME]))
            .child(narrow.child(usb))
            .child(memory(regions))
            .blob()
    }

    fn frame() -> DtNode {
        node("frame@80000000")
            .cells("reg", &[0, 0x8000_0000, 0, 0x80_0000])
            .cells("phandle", &[FRAME])
    }

    #[test]
    fn each_stream_of_a_device_has_its_regions() {
        let both = [DEVICE, 0, 0x8000_0000, 0, 0x80_0000, USB, 0x1000, 0x2000];
        let hole = [DEVICE, 0x10, 0, 0, 0x1000];
        let blob = machine([
            frame().cells("iommu-addresses", &both),
            node("unrelated"),
            node("hole").cells("iommu-addresses", &hole),
        ]);
        let windows = |id| of(&blob, stream(0, id)).into_iter().map(Result::unwrap);
        let display = [(0x8000_0000, 0x80_0000, Some(0x8000_0000)), (0x10_0000_0000, 0x1000, None)];
        for id in [1, 5] {
            assert_eq!(windows(id).map(told).collect::<Vec<_>>(), display);
        }
        let usb: Vec<_> = windows(2).collect();
        // At other IOVAs than the memory has.
        assert_eq!((usb.len(), told(usb[0])), (1, (0x1000, 0x2000, Some(0x8000_0000))));
        assert_eq!(windows(3).count() + of(&blob, stream(1, 1)).len(), 0);
        let first = windows(1).next().unwrap();
        assert_eq!(first.memory_type, Some(MemoryType::NormalWriteBack));
        assert_eq!(usb[0].memory_type, Some(MemoryType::NormalNonCacheable));
        assert!(windows(1).all(|one| !one.privileged && !one.may_move));
        let tree = DeviceTree::new(&blob).unwrap();
        assert_eq!(tree.path_at(first.at).to_string(), "/reserved-memory/frame@80000000");
        let all: Vec<_> = tree.reserved_regions().map(Result::unwrap).collect();
        // Only `/display` names the frame, and no device the hole.
        let named = all.iter().map(|region| (region.device.to_string(), region.named));
        let want = [("/display", true), ("/bus/usb", false), ("/display", false)];
        assert_eq!(named.collect::<Vec<_>>(), want.map(|(path, named)| (path.to_owned(), named)));
        let device = tree.device_with(&all[1]);
        assert_eq!((device.at(), tree.mappings(&device).count()), (all[1].device_at, 1));
    }

    #[test]
    fn every_stream_behind_a_bridge_has_its_windows() {
        let bridge = node("pcie").cells("phandle", &[DEVICE]);
        let bridge = bridge.cells("iommu-map", &[0, SMMU, 0x100, 0x10]);
        let entry = [DEVICE, 0, 0x8000_0000, 0, 0x1000];
        let blob = root(smmu_node("smmu", SMMU, 0))
            .child(bridge)
            .child(memory([frame().cells("iommu-addresses", &entry)]))
            .blob();
        let count = |id| of(&blob, stream(0, id)).len();
        assert_eq!([count(0xff), count(0x100), count(0x10f), count(0x110)], [0, 1, 1, 0]);
    }

    #[test]
    fn iovas_beyond_the_memory_are_an_error() {
        let entry = |length| [DEVICE, 0, 0x8000_0000, 0, length];
        let blob = machine([
            frame().cells("iommu-addresses", &[entry(0x80_1000), entry(0x7f_f000)].concat())
        ]);
        let windows = of(&blob, stream(0, 1));
        let (length, memory) = (0x80_1000, 0x80_0000);
        let error = windows[0].unwrap_err();
        assert_eq!(error.problem, FdtProblem::LongerThanMemory { length, memory });
        assert_eq!(blob[error.at as usize..][..4], DEVICE.to_be_bytes());
        // The next entry is read, and is shorter than its memory.
        assert_eq!((windows.len(), windows[1].unwrap().length), (2, 0x7f_f000));
    }

    #[rstest]
    #[case(&[])]
    #[case(&[0, 0x8000_0000, 0])]
    fn a_region_with_half_a_reg_is_no_hole(#[case] reg: &[u32]) {
        let entry = [DEVICE, 0, 0x8000_0000, 0, 0x1000];
        let region = node("short").cells("reg", reg).cells("iommu-addresses", &entry);
        let windows = of(&machine([region]), stream(0, 1));
        let error = windows[0].unwrap_err();
        let want = FdtProblem::Length { property: "reg", bytes: reg.len() * 4, entry: 16 };
        assert_eq!((windows.len(), error.problem), (1, want));
    }

    #[test]
    fn a_wrong_entry_may_be_that_of_any_stream() {
        let lost = node("lost").cells("iommu-addresses", &[99, 0, 0, 0, 0]);
        let entry = [DEVICE, 0, 0x8000_0000, 0, 0x1000];
        let blob = machine([lost, frame().cells("iommu-addresses", &entry)]);
        let windows = of(&blob, stream(0, 1));
        assert!(matches!(windows[..], [Err(_), Ok(_)]), "{windows:?}");
        assert_eq!(of(&blob, stream(0, 2)).len(), 1);
    }

    /// QEMU reserves nothing. With a region more, a stream behind its bridge has a window.
    #[test]
    fn in_a_tree_of_qemu() {
        let qemu: &[u8] = include_bytes!("firmware/qemu.dtb");
        assert_eq!(of(qemu, stream(0, 8)), []);
        let root = dtb_reader::read(qemu);
        // The same tree, written by us.
        let same = |blob: &[u8]| {
            let tree = DeviceTree::new(blob).unwrap();
            let mappings = tree.devices().flat_map(|device| tree.mappings(&device));
            let outputs = mappings.map(|one| one.map(|one| (one.inputs, one.output, one.target)));
            (
                tree.nodes().count(),
                outputs.collect::<Vec<_>>(),
                tree.smmu(SmmuId(0)).map(|smmu| smmu.base),
            )
        };
        assert_eq!(same(&root.blob()), same(qemu));
        let entry = [0x77, 0, 0x4800_0000, 0, 0x80_0000];
        let region = node("frame@48000000")
            .cells("reg", &[0, 0x4800_0000, 0, 0x80_0000])
            .cells("iommu-addresses", &entry);
        let blob =
            dtb_reader::changed(root, "pcie@10000000", |bridge| bridge.cells("phandle", &[0x77]))
                .child(memory([region]))
                .blob();
        // The bus of the bridge has two cells for addresses and sizes.
        for id in [0, 8, 0xffff] {
            let windows = of(&blob, stream(0, id));
            let want = (0x4800_0000, 0x80_0000, Some(0x4800_0000));
            assert_eq!((windows.len(), told(windows[0].unwrap())), (1, want));
        }
        assert_eq!(of(&blob, stream(0, 0x1_0000)), []);
    }
}

#[test]
fn windows_of_ones_own() {
    let window = ReservedWindow::new(Iova(0x1000), PhysAddr(0x8000_0000), 0x2000);
    assert_eq!(told(window), (0x1000, 0x2000, Some(0x8000_0000)));
    let identity = ReservedWindow::identity(PhysAddr(0x1000), 0x2000);
    assert_eq!(told(identity), (0x1000, 0x2000, Some(0x1000)));
    assert_eq!(told(ReservedWindow::hole(Iova(0x1000), 0x2000)), (0x1000, 0x2000, None));
}

#[test]
fn memory_types_have_the_names_of_the_architecture() {
    let all = [MemoryType::DeviceNGnRnE, MemoryType::DeviceNGnRE, MemoryType::DeviceNGRE];
    let names = all.map(|one| one.to_string());
    assert_eq!(names, ["Device-nGnRnE", "Device-nGnRE", "Device-nGRE"]);
    let all = [MemoryType::DeviceGRE, MemoryType::NormalNonCacheable, MemoryType::NormalWriteBack];
    let names = all.map(|one| one.to_string());
    assert_eq!(names, ["Device-GRE", "Normal Non-cacheable", "Normal Write-Back"]);
}
