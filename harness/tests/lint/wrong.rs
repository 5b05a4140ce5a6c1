//! Tables with one of each mistake that `lint` knows.

use crate::dtb_builder::{DtNode, node};
use crate::iort_builder::{
    SINGLE, its, named, offsets, rmr, root_complex, smmu, smmu_v2, smmu_with_index, table,
};

const GIC: u32 = 1;
const GOOD: u32 = 10;
const OVER: u32 = 11;
const ODD: u32 = 12;
const OFF: u32 = 13;
const OTHER: u32 = 14;
const DISPLAY: u32 = 20;
const CAMERA: u32 = 21;
const FRAME: u32 = 30;
const MOVED: u32 = 31;

fn smmu_node(name: &str, phandle: u32, reg: [u32; 2]) -> DtNode {
    node(name)
        .strings("compatible", &["arm,smmu-v3"])
        .cells("reg", &[0, reg[0], 0, reg[1]])
        .cells("#iommu-cells", &[1])
        .cells("phandle", &[phandle])
}

fn wired(smmu: DtNode, first: u32, flags: u32) -> DtNode {
    smmu.strings("interrupt-names", &["eventq", "gerror"])
        .cells("interrupts", &[0, first, flags, 0, first + 1, flags])
}

fn bridge(name: &str) -> DtNode {
    node(name).strings("device_type", &["pci"]).cells("bus-range", &[0, 0xff])
}

fn root() -> DtNode {
    node("")
        .cells("#address-cells", &[2])
        .cells("#size-cells", &[2])
        .cells("interrupt-parent", &[GIC])
        .flag("dma-coherent")
        .child(node("gic").cells("phandle", &[GIC]).cells("#interrupt-cells", &[3]))
}

fn reserved(regions: Vec<DtNode>) -> DtNode {
    let memory = node("reserved-memory").cells("#address-cells", &[2]).cells("#size-cells", &[2]);
    regions.into_iter().fold(memory.flag("ranges"), DtNode::child)
}

pub(crate) fn good_device_tree() -> Vec<u8> {
    let frame = node("frame@80000000")
        .cells("reg", &[0, 0x8000_0000, 0, 0x80_0000])
        .cells("phandle", &[FRAME])
        .cells("iommu-addresses", &[DISPLAY, 0, 0x8000_0000, 0, 0x80_0000]);
    let moved = node("moved@90000000")
        .cells("reg", &[0, 0x9000_0000, 0, 0x1000])
        .cells("phandle", &[MOVED])
        .cells("iommu-addresses", &[DISPLAY, 0, 0x1000_0000, 0, 0x1000]);
    let hole = node("hole").cells("iommu-addresses", &[DISPLAY, 0, 0, 0, 0x1_0000]);
    root()
        .child(wired(smmu_node("smmu@9000000", GOOD, [0x900_0000, 0x2_0000]), 74, 1))
        .child(wired(
            smmu_node("smmu@9020000", OVER, [0x902_0000, 0x1_0000])
                .flag("cavium,cn9900-broken-page1-regspace")
                .flag("hisilicon,broken-prefetch-cmd")
                .cells("numa-node-id", &[1]),
            78,
            1,
        ))
        .child(
            bridge("pcie@10000000")
                .cells("iommu-map", &[0, GOOD, 0, 0x1_0000])
                .flag("ats-supported"),
        )
        .child(
            node("display@1")
                .cells("iommus", &[OVER, 5, OVER, 6])
                .cells("phandle", &[DISPLAY])
                .cells("memory-region", &[FRAME, MOVED])
                .flag("dma-can-stall")
                .flag("dma-noncoherent")
                .cells("pasid-num-bits", &[16]),
        )
        .child(reserved(vec![frame, moved, hole]))
        .blob()
}

pub(crate) fn device_tree() -> Vec<u8> {
    let two_cells = node("smmu@9060000")
        .strings("compatible", &["arm,smmu-v3"])
        .cells("reg", &[0, 0x906_0000, 0, 0x2_0000])
        .cells("#iommu-cells", &[2])
        .cells("phandle", &[OFF])
        .strings("status", &["disabled"]);
    let no_reg = node("smmu@lost").strings("compatible", &["arm,smmu-v3"]);
    let page = |name: &str, device: u32, first: u32, length: u32| {
        node(name).cells("iommu-addresses", &[device, 0, first, 0, length])
    };
    let window = |name: &str, iova: u32, memory: u32, length: [u32; 2]| {
        page(name, DISPLAY, iova, length[0]).cells("reg", &[0, memory, 0, length[1]])
    };
    root()
        .child(wired(smmu_node("smmu@9000000", GOOD, [0x900_0000, 0x2_0000]), 74, 1))
        // Overlaps the one before, and shares an interrupt with it.
        .child(wired(smmu_node("smmu@9010000", OVER, [0x901_0000, 0x2_0000]), 75, 4))
        // Neither aligned nor long enough, and without interrupts.
        .child(smmu_node("smmu@9041000", ODD, [0x904_1000, 0x1000]))
        .child(two_cells)
        .child(no_reg)
        .child(node("mmu@0").cells("#iommu-cells", &[0]).cells("phandle", &[OTHER]))
        // One ID less than the bus has.
        .child(bridge("pcie@1").cells("iommu-map", &[0, GOOD, 0, 0xffff]))
        // An overlap with other streams; a hole inside of a bus; an entry above the last ID.
        .child(bridge("pcie@2").cells(
            "iommu-map",
            &[
                0, OVER, 0, 0x100, 0xf8, OVER, 0x1_0000, 8, 0x108, OVER, 0x2_0000, 0xf8, 0xff00,
                OVER, 0x3_0000, 0x200,
            ],
        ))
        .child(bridge("pcie@3"))
        .child(
            bridge("pcie@4")
                .cells("iommu-map", &[0, ODD, 0, 0x100, 0x800, ODD, 0x800, 0x100])
                .cells("iommu-map-mask", &[0xff]),
        )
        .child(bridge("pcie@5").cells("iommu-map", &[0, ODD, 0x1_0000, 0, 0x100]))
        .child(node("dma@1").cells("iommus", &[ODD, 0x7_0000]))
        .child(node("dma@2").cells("iommus", &[ODD, 0x7_0000]))
        .child(node("dma@3").cells("iommus", &[ODD]))
        .child(node("dma@4").cells("iommus", &[0x99, 1]))
        .child(node("dma@5").cells("iommus", &[OTHER]))
        .child(node("dma@6").cells("iommus", &[OFF, 1, 0x7f]))
        .child(node("usb@1").flag("dma-coherent"))
        .child(node("usb@2").flag("dma-coherent"))
        .child(node("usb@3").flag("dma-coherent"))
        .child(
            node("display")
                .cells("iommus", &[GOOD, 0x8_0000])
                .cells("phandle", &[DISPLAY])
                .cells("pasid-num-bits", &[21]),
        )
        .child(node("camera").cells("phandle", &[CAMERA]))
        .child(reserved(vec![
            page("empty", DISPLAY, 0x1000, 0),
            page("odd", DISPLAY, 0x8000_0010, 0x1000),
            page("again", DISPLAY, 0x8000_0000, 0x2000),
            page("nowhere", CAMERA, 0x8000_0000, 0x2000),
            page("nobody", 0x99, 0, 0x1000),
            window("here", 0xa000_0000, 0xa000_0000, [0x2000; 2]),
            window("elsewhere", 0xa000_1000, 0xb000_0000, [0x1000; 2]),
            window("long", 0xa100_0000, 0xa100_0000, [0x2000, 0x1000]),
            window("skewed", 0xa200_0000, 0xa200_0800, [0x1000; 2]),
            window("registers", 0xa300_0000, 0x901_f000, [0x1000; 2]),
            page("halved", DISPLAY, 0xa400_0000, 0x1000).cells("reg", &[0, 0xa400_0000]),
        ]))
        .blob()
}

pub(crate) fn iort() -> Vec<u8> {
    let wired = [64, 65, 66, 67];
    let mut nodes = vec![
        its(),
        smmu(4, 0x1000_0000, 1, 0, wired),
        // Overlaps the one before, has its interrupts, and a private one.
        smmu(4, 0x1001_0000, 0, 2, [64, 0, 20, 0]),
        smmu_with_index(5, 1 << 4, [0; 4], 3),
        smmu_v2(),
    ];
    let at = offsets(&nodes);
    let (its_at, first, second) = (at[0], at[1], at[2]);
    nodes.extend([
        // The number of IDs instead of that number minus one: once at the end, once at the next.
        root_complex(0, 1).map([0, 0x100, 0, first, 0]).map([0x100, 0xff00, 0x100, second, 0]),
        // Streams of the one before.
        root_complex(1, 0).map([0, 0xff, 0x80, first, 0]).map([0x200, 0x1f, 0x200, its_at, 0]),
        root_complex(2, 0).map([0, 0xffff, 0, at[4], 0]),
        root_complex(3, 0).map([0, 0xffff, 0xffff_0001, first, 0]).map([0, 1, 0, 4, 0]),
        named(b"\\_SB.DMA0\0", 1).map([0, 0, 0x5000, first, SINGLE]),
        named(b"\\_SB.DMA1\0", 0).map([0, 0, 0x5000, first, SINGLE]),
        named(b"\\_SB.\x07\0", 0),
        rmr(0, &[(0x8000_0000, 0x1_0000), (0x8000_8000, 0x1000)])
            .map([0, 0, 0x5000, first, SINGLE]),
        rmr(0, &[(0x9000_0000, 0)]).map([0, 3, 0x6000, first, 0]),
        rmr(0, &[]),
        rmr(0b11 | 4 << 2, &[(0xa000_0000, 0x1_0000), (0x1001_0000, 0x1_0000)])
            .map([0, 0, 0x5000, first, SINGLE]),
        rmr(6 << 2, &[(0xb000_0000, 0x1_0000)]).map([0, 0, 0x5000, first, SINGLE]),
    ]);
    let mut table = table(&nodes);
    table[9] ^= 1;
    table
}

/// Large tables: a name, the bytes, and a part of what `lint` says of them.
pub(crate) fn hostile() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let behind = || root().child(smmu_node("smmu@0", GOOD, [0, 0x2_0000]));
    // Names that repeat cost 2 KiB each; the blob shares nothing.
    let deep = (0..50).fold(node("end"), |inner, _| node(&"n".repeat(200)).child(inner));
    let many = |count: u32, device: &dyn Fn(u32) -> DtNode| {
        (0..count).fold(behind(), |tree, n| tree.child(device(n)))
    };
    let devices = many(30_000, &|n| node("d").cells("iommus", &[GOOD, n / 2]));
    let entries: Vec<u32> = (0..90_000).flat_map(|n| [n * 2, GOOD, n, 3]).collect();
    let maps = behind().child(bridge("pcie").cells("iommu-map", &entries));
    let missing: Vec<u32> = (0..100_000).flat_map(|_| [0, 0x99, 0, 1]).collect();
    let lost = behind().child(bridge("pcie").cells("iommu-map", &missing));
    let regions: Vec<DtNode> =
        (0..20_000).map(|n| node("r").cells("iommu-addresses", &[n % 2, 0, 0, 0, 0])).collect();
    let smmus =
        (0..255).fold(root(), |tree, n| tree.child(smmu_node("s", 100 + n, [n << 17, 0x2_0000])));
    let first = [its(), smmu(4, 0, 1, 0, [64; 4])];
    let at = offsets(&first)[1];
    let map = |node: crate::iort_builder::Node, count: u32, map: &dyn Fn(u32) -> [u32; 5]| {
        (0..count).fold(node, |node, n| node.map(map(n)))
    };
    let complex = |n: u32| map(root_complex(n, 0), 3_000, &|n| [n, 1, n * 2, at, 0]);
    let mut complexes = first.to_vec();
    complexes.extend((0..4).map(complex));
    let mut regions_of_streams = first.to_vec();
    let mut ranges = vec![(0, 0x1000); 1_500];
    ranges.push((0, 0));
    regions_of_streams.push(map(rmr(0, &ranges), 1_500, &|n| [0, 0, n, at, SINGLE]));
    let mut components = first.to_vec();
    components.extend((0..3_000).map(|_| named(b"A\0", 0).map([0, 0, 5, at, SINGLE])));
    components.push(named(b"B\0", 0).map([0, 0, 5, 4, SINGLE]));
    let mut regions_and_devices = behind().child(node("x").child(deep));
    regions_and_devices = regions_and_devices.child(reserved(regions));
    vec![
        ("devices.dtb", devices.blob(), "more than 4096 devices"),
        ("maps.dtb", maps.blob(), "not shown"),
        ("lost.dtb", lost.blob(), "refers to phandle 0x99"),
        ("regions.dtb", regions_and_devices.blob(), "more than 256 references"),
        ("smmus.dtb", smmus.child(node("d").cells("iommus", &[0x9999, 1])).blob(), "255 SMMUv3s"),
        ("complexes.iort", table(&complexes), "not shown"),
        ("regions.iort", table(&regions_of_streams), "no device has stream"),
        ("components.iort", table(&components), "not shown"),
    ]
}
