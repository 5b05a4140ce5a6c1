//! IORT tables: QEMU's own, hand-made ones, broken ones, and any bytes at all.
#![cfg(feature = "iort")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "firmware/any_iort.rs"]
mod any_iort;
#[path = "firmware/iort_builder.rs"]
mod iort_builder;

use iort_builder::{
    Node, SINGLE, its, named, offsets, rmr, root_complex, root_complex_with_pasids, smmu, smmu_v2,
    smmu_with_index, table,
};
use proptest::prelude::*;
use rstest::rstest;
use smmu_hw_mmio::Coherency;
use smmu_hw_mmio::firmware::iort::{Iort, IortDevice, IortError, IortProblem, NodeKind};
use smmu_hw_mmio::firmware::{FirmwareQuirks, Inputs, RequestId, Stream, StreamNames, Target};
use smmu_types::{PhysAddr, SmmuId, StreamId};

const QEMU: &[u8] = include_bytes!("firmware/qemu.iort");
const QEMU_THREE: &[u8] = include_bytes!("firmware/qemu-three.iort");
const QEMU_NONE: &[u8] = include_bytes!("firmware/qemu-none.iort");

fn stream(smmu: u16, id: u32) -> Stream {
    Stream { smmu: SmmuId(smmu), id: StreamId(id) }
}

fn name(iort: &Iort<'_>, stream: Stream) -> Option<String> {
    let mut name = String::new();
    iort.write_name(stream, &mut name).unwrap().then_some(name)
}

/// The figures are those of QEMU's board, as its register probe finds them.
#[test]
fn the_table_of_qemu() {
    let iort = Iort::new(QEMU).unwrap();
    assert!(iort.checksum_is_right());
    assert_eq!((iort.revision(), iort.length()), (5, QEMU.len()));
    let smmu = iort.smmu(SmmuId(0)).unwrap();
    assert_eq!((smmu.base, smmu.size), (PhysAddr(0x0905_0000), None));
    assert_eq!((smmu.registers_size(), smmu.coherency), (0x2_0000, Coherency::Coherent));
    let found = smmu.interrupts;
    let intids = [found.eventq, found.priq, found.cmdq_sync, found.gerror];
    // SPIs 74 to 77.
    assert_eq!(intids.map(|one| one.unwrap().intid), [106, 107, 108, 109]);
    // All interrupts are wired.
    assert_eq!((smmu.msi_device_id, smmu.numa_node), (None, None));
    let function = |bus, device| RequestId::new(bus, device, 0).unwrap();
    let of = |bus, device| iort.stream_of_request(0, function(bus, device)).unwrap();
    assert_eq!((of(0, 1), of(0, 31)), (Some(stream(0, 8)), Some(stream(0, 0xf8))));
    // QEMU lets other buses pass by the SMMU, straight to the ITS.
    assert_eq!((of(1, 0), of(254, 31)), (None, None));
    assert_eq!(iort.stream_of_request(1, function(0, 1)), Ok(None));
    let complex = iort.root_complexes(0).next().unwrap();
    assert_eq!((complex.address_bits(), complex.coherency()), (64, Coherency::Coherent));
    for (input, want) in [(8_u32, Some(8)), (0x100, Some(0x100)), (0xffff, Some(0xffff))] {
        let route = iort.msi_of(&complex, input).unwrap();
        assert_eq!(route.map(|route| route.device_id), want);
        assert_eq!(route.map(|route| route.its_group_at), Some(48));
    }
    assert_eq!(name(&iort, stream(0, 0x10)).as_deref(), Some("0000:00:02.0"));
    assert_eq!((name(&iort, stream(0, 0x100)), name(&iort, stream(1, 0x10))), (None, None));
}

/// Three SMMUs: bus 0, bus 8 and bus 12. QEMU wrote the table before firmware numbered the buses,
/// so the second one has bus 0 as well.
#[test]
fn the_table_of_qemu_with_three_smmus() {
    let iort = Iort::new(QEMU_THREE).unwrap();
    let bases: Vec<u64> = iort.smmus().map(|smmu| smmu.unwrap().base.0).collect();
    assert_eq!(bases, [0x0c00_0000, 0x0c02_0000, 0x0c04_0000]);
    assert_eq!(iort.smmu_at(PhysAddr(0x0c04_0000)), Some(SmmuId(2)));
    let of =
        |bus, device| iort.stream_of_request(0, RequestId::new(bus, device, 0).unwrap()).unwrap();
    assert_eq!(
        (of(0, 1), of(8, 0), of(12, 3)),
        (Some(stream(0, 8)), Some(stream(1, 0x800)), Some(stream(2, 0xc18)))
    );
    assert_eq!(of(13, 0), None);
}

#[test]
fn the_table_of_qemu_without_an_smmu() {
    let iort = Iort::new(QEMU_NONE).unwrap();
    assert_eq!(iort.smmu_count(), 0);
    assert_eq!(iort.stream_of_request(0, RequestId(8)), Ok(None));
    let complex = iort.devices().next().unwrap();
    let mapping = iort.mappings(&complex).next().unwrap().unwrap();
    assert_eq!((mapping.target, mapping.last_output()), (Target::NoIommu, 0xffff));
    assert_eq!(iort.msi_of(&complex, 8_u32).unwrap().unwrap().device_id, 8);
    let error = iort.smmu(SmmuId(0)).unwrap_err();
    assert_eq!(error.problem, IortProblem::NoSuchSmmu { asked: 0, count: 0 });
}

const WIRED: [u32; 4] = [64, 65, 66, 67];

/// An ITS group, an SMMU, and these nodes. `of` makes them from the offsets of the first two.
fn with_smmu(of: impl Fn(u32, u32) -> Vec<Node>) -> Vec<u8> {
    let first = [its(), smmu(4, 0x1000_0000, 0, 0, WIRED)];
    let at = offsets(&first);
    table(&[first.to_vec(), of(at[0], at[1])].concat())
}

fn only<'a>(iort: &Iort<'a>) -> IortDevice<'a> {
    let devices: Vec<_> = iort.devices().collect();
    let [device] = devices[..] else { panic!("{devices:?}") };
    device
}

#[test]
fn counts_are_less_one() {
    let bytes = with_smmu(|_, smmu| vec![root_complex(7, 1).map([0x100, 0xff, 0x4000, smmu, 0])]);
    let iort = Iort::new(&bytes).unwrap();
    let complex = only(&iort);
    let cases =
        [(0xff, None), (0x100, Some(0x4000)), (0x1ff, Some(0x40ff)), (0x200, None), (0, None)];
    for (input, id) in cases {
        let want = id.map(|id| stream(0, id));
        assert_eq!(iort.stream_of(&complex, RequestId(input)), Ok(want), "{input:#x}");
    }
    assert!(complex.has_ats() && !complex.can_stall());
    assert_eq!((complex.segment(), complex.name()), (Some(7), Ok(None)));
    assert_eq!(name(&iort, stream(0, 0x40ff)).as_deref(), Some("0007:01:1f.7"));
    assert_eq!((name(&iort, stream(0, 0x3fff)), name(&iort, stream(0, 0x4100))), (None, None));
}

#[test]
fn named_components_have_single_mappings_or_ranges() {
    let bytes = with_smmu(|_, smmu| {
        let dma = named(b"\\_SB.DMA0\0", 0b1011).map([0, 0, 0x77, smmu, SINGLE]);
        let dma = dma.map([0, 0xffff_ffff, 0x78, smmu, SINGLE]);
        vec![dma, named(b"\\_SB.GPU0\0", 0).map([0, 3, 0x90, smmu, 0])]
    });
    let iort = Iort::new(&bytes).unwrap();
    let dma = iort.named_component("\\_SB.DMA0").unwrap();
    let all: Vec<_> = iort.mappings(&dma).map(Result::unwrap).collect();
    assert_eq!([all[0].output, all[1].output], [0x77, 0x78]);
    assert!(all.iter().all(|one| one.inputs == Inputs::Any && one.more() == 0));
    assert_eq!(iort.stream_of(&dma, 99_u32), Ok(Some(stream(0, 0x77))));
    assert!(dma.can_stall() && !dma.has_ats());
    assert_eq!((dma.pasid_bits(), dma.address_bits(), dma.segment()), (5, 40, None));
    let gpu = iort.named_component("\\_SB.GPU0").unwrap();
    assert_eq!(iort.stream_of(&gpu, 3_u32), Ok(Some(stream(0, 0x93))));
    assert_eq!(iort.stream_of(&gpu, 4_u32), Ok(None));
    assert_eq!(name(&iort, stream(0, 0x78)).as_deref(), Some("\\_SB.DMA0"));
    assert_eq!(name(&iort, stream(0, 0x92)).as_deref(), Some("\\_SB.GPU0 ID 0x2"));
    assert!(iort.named_component("\\_SB").is_none());
}

#[test]
fn pasids_of_a_root_complex_need_revision_4() {
    let bits = |node: Node| {
        let bytes = table(&[node]);
        let iort = Iort::new(&bytes).unwrap();
        only(&iort).pasid_bits()
    };
    assert_eq!(bits(root_complex_with_pasids(0, 20)), 20);
    assert_eq!(bits(root_complex(0, 0)), 0);
}

#[test]
fn streams_go_on_to_device_ids() {
    let first = [its()];
    let its_at = offsets(&first)[0];
    let middle = smmu_with_index(5, 1 << 4, [0; 4], 0);
    let middle = middle.map([0, 0, 0xbeef, its_at, SINGLE]).map([0, 0xffff, 0x2_0000, its_at, 0]);
    let smmu_at = its_at + first[0].length();
    let complex = root_complex(0, 0).map([0, 0xff, 0x1000, smmu_at, 0]);
    let complex = complex.map([0x100, 0xff, 0x9000, its_at, 0]);
    let bytes = table(&[its(), middle, complex]);
    let iort = Iort::new(&bytes).unwrap();
    assert_eq!(iort.smmu(SmmuId(0)).unwrap().msi_device_id, Some(0xbeef));
    let route = |input: u32| iort.msi_of(&only(&iort), input).unwrap().map(|one| one.device_id);
    assert_eq!((route(8), route(0x108), route(0x200)), (Some(0x2_1008), Some(0x9008), None));
}

#[rstest]
// Revision 0 has no index.
#[case::old(0, 0, [0; 4], Ok(None))]
// Up to revision 4, an SMMU with an interrupt that is not wired has one.
#[case::all_wired(4, 0, WIRED, Ok(None))]
#[case::one_not_wired(4, 0, [64, 0, 66, 67], Ok(Some(0xbeef)))]
#[case::flag_not_yet_known(4, 1 << 4, WIRED, Ok(None))]
// From revision 5 on, a flag tells it.
#[case::no_flag(5, 0, [0; 4], Ok(None))]
#[case::flag(5, 1 << 4, WIRED, Ok(Some(0xbeef)))]
fn the_own_device_id(
    #[case] revision: u8,
    #[case] flags: u32,
    #[case] gsivs: [u32; 4],
    #[case] want: Result<Option<u32>, IortError>,
) {
    let node = match revision {
        0 => smmu(0, 0x1000_0000, flags, 0, gsivs),
        _ => smmu_with_index(revision, flags, gsivs, 1),
    };
    let node = node.map([0, 0xff, 0, 48, 0]).map([0, 0, 0xbeef, 48, SINGLE]);
    let bytes = table(&[its(), node]);
    let found = Iort::new(&bytes).unwrap().smmu(SmmuId(0));
    assert_eq!(found.map(|smmu| smmu.msi_device_id), want);
}

#[test]
fn a_wrong_own_device_id_is_told() {
    let found = |index, mapping| {
        let bytes = table(&[its(), smmu_with_index(5, 1 << 4, [0; 4], index).map(mapping)]);
        Iort::new(&bytes).unwrap().smmu(SmmuId(0)).unwrap_err().problem
    };
    let single = [0, 0, 1, 48, SINGLE];
    assert_eq!(found(1, single), IortProblem::DeviceIdIndex { index: 1, count: 1 });
    assert_eq!(found(u32::MAX, single), IortProblem::DeviceIdIndex { index: u32::MAX, count: 1 });
    assert_eq!(found(0, [0, 0, 1, 48, 0]), IortProblem::DeviceIdNotSingle);
}

#[test]
fn flags_and_models_of_an_smmu() {
    let of = |flags, model| {
        let bytes = table(&[smmu(4, 0x1_2345_0000, flags, model, [0, 0, 7, 0])]);
        Iort::new(&bytes).unwrap().smmu(SmmuId(0)).unwrap()
    };
    let plain = of(0, 0);
    assert_eq!((plain.base, plain.coherency), (PhysAddr(0x1_2345_0000), Coherency::NonCoherent));
    assert_eq!((plain.quirks, plain.numa_node), (FirmwareQuirks::default(), None));
    assert_eq!(plain.interrupts.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["gerror"]);
    assert_eq!(of(1, 0).coherency, Coherency::Coherent);
    assert_eq!(of(1 << 3, 0).numa_node, Some(5));
    assert!(of(0, 1).quirks.broken_prefetch && !of(0, 1).quirks.page0_only);
    assert!(of(0, 2).quirks.page0_only && of(0, 2).registers_size() == 0x1_0000);
}

#[test]
fn reserved_memory_has_ranges_and_streams() {
    let ranges = [(0x8000_0000, 0x80_0000), (0x10_0000_0000, 0x1000)];
    let bytes = with_smmu(|_, smmu| {
        let memory = rmr(0b11, &ranges).map([9, 0, 0x77, smmu, SINGLE]);
        vec![memory.map([9, 3, 0x90, smmu, 0]), rmr(0, &[])]
    });
    let iort = Iort::new(&bytes).unwrap();
    let all: Vec<_> = iort.reserved_memory().collect();
    let found: Vec<_> = all[0].ranges().map(|one| (one.base.0, one.length)).collect();
    assert_eq!(found, ranges);
    assert!(all[0].may_be_remapped() && all[0].is_privileged());
    let streams: Vec<_> = iort.reserved_streams(&all[0]).map(Result::unwrap).collect();
    assert_eq!((streams[0].output, streams[0].last_output()), (0x77, 0x77));
    assert_eq!((streams[1].output, streams[1].last_output()), (0x90, 0x93));
    assert_eq!(all[1].ranges().count() + iort.reserved_streams(&all[1]).count(), 0);
    assert!(!all[1].may_be_remapped() && !all[1].is_privileged());
}

#[test]
fn an_older_smmu_gives_no_stream() {
    let first = [smmu_v2()];
    let bytes = table(&[smmu_v2(), root_complex(0, 0).map([0, 0xffff, 0, offsets(&first)[0], 0])]);
    let iort = Iort::new(&bytes).unwrap();
    let mapping = iort.mappings(&only(&iort)).next().unwrap().unwrap();
    assert_eq!(mapping.target, Target::OtherIommu(48));
    assert_eq!(iort.stream_of(&only(&iort), 8_u32), Ok(None));
}

/// The error of the first mapping of the last node, which leads where `of` says.
fn wrong_mapping(of: impl Fn(u32, u32) -> Node) -> IortProblem {
    let bytes = with_smmu(|its, smmu| vec![of(its, smmu)]);
    let iort = Iort::new(&bytes).unwrap();
    let error = iort.mappings(&only(&iort)).next().unwrap().unwrap_err();
    let by_lookup = iort.stream_of(&only(&iort), 0_u32).unwrap_err();
    assert_eq!(error, by_lookup);
    assert!((error.at as usize) + 20 <= bytes.len());
    error.problem
}

#[test]
fn wrong_mappings_say_what() {
    let complex = |mapping| root_complex(0, 0).map(mapping);
    assert_eq!(
        wrong_mapping(|_, smmu| complex([0, 1, 0, smmu + 4, 0])),
        IortProblem::NoTarget { target: 76 }
    );
    assert_eq!(
        wrong_mapping(|_, _| complex([0, 1, 0, u32::MAX, 0])),
        IortProblem::NoTarget { target: u32::MAX }
    );
    assert_eq!(
        wrong_mapping(|_, smmu| complex([0, 2, 0xffff_fffe, smmu, 0])),
        IortProblem::RangeWraps { first: 0xffff_fffe, more: 2 }
    );
    assert_eq!(
        wrong_mapping(|_, smmu| complex([1, u32::MAX, 0, smmu, 0])),
        IortProblem::RangeWraps { first: 1, more: u32::MAX }
    );
    // Itself.
    assert_eq!(
        wrong_mapping(|_, smmu| complex([0, 1, 0, smmu + 68, 0])),
        IortProblem::WrongTarget { from: NodeKind::RootComplex, to: NodeKind::RootComplex }
    );
}

#[test]
fn circles_between_smmus_are_refused() {
    let at = offsets(&[its()])[0] + its().length();
    let circle = smmu(4, 0x1000_0000, 0, 0, WIRED).map([0, 0xffff, 0, at, 0]);
    let bytes = table(&[its(), circle, root_complex(0, 0).map([0, 0xff, 0, at, 0])]);
    let iort = Iort::new(&bytes).unwrap();
    // The stream is known: only the way on to the ITS is wrong.
    assert_eq!(iort.stream_of(&only(&iort), 1_u32), Ok(Some(stream(0, 1))));
    let problem = iort.msi_of(&only(&iort), 1_u32).unwrap_err().problem;
    assert_eq!(problem, IortProblem::WrongTarget { from: NodeKind::SmmuV3, to: NodeKind::SmmuV3 });
}

#[test]
fn a_mapping_after_a_wrong_one_is_read() {
    let bytes = with_smmu(|_, smmu| {
        vec![root_complex(0, 0).map([0, 9, 0, 7, 0]).map([0x10, 0xf, 0x10, smmu, 0])]
    });
    let iort = Iort::new(&bytes).unwrap();
    let all: Vec<_> = iort.mappings(&only(&iort)).collect();
    assert!(all[0].is_err() && all[1].is_ok());
    assert_eq!(name(&iort, stream(0, 0x18)).as_deref(), Some("0000:00:03.0"));
}

#[test]
fn damaged_tables_are_refused() {
    let good = with_smmu(|_, smmu| vec![root_complex(0, 0).map([0, 0xff, 0, smmu, 0])]);
    let refused = |bytes: &[u8]| Iort::new(bytes).unwrap_err();
    let with = |at: usize, value: u32| {
        let mut bytes = good.clone();
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        refused(&bytes)
    };
    let length = good.len() as u32;
    let at = |at, problem| IortError { at, problem };
    assert_eq!(refused(&[]), at(0, IortProblem::NoHeader { have: 0, need: 48 }));
    assert_eq!(refused(&good[..47]), at(0, IortProblem::NoHeader { have: 47, need: 48 }));
    assert_eq!(with(0, 0), at(0, IortProblem::Signature { got: [0; 4] }));
    assert_eq!(
        refused(&good[..good.len() - 1]),
        at(4, IortProblem::Truncated { length, have: good.len() - 1 })
    );
    assert_eq!(with(4, u32::MAX), at(4, IortProblem::TooLong { length: u32::MAX }));
    assert_eq!(with(4, 47), at(4, IortProblem::NoHeader { have: 47, need: 48 }));
    assert_eq!(with(36, 4097), at(36, IortProblem::TooManyNodes { count: 4097 }));
    // A fourth node begins where the table ends.
    assert!(matches!(
        with(36, 4).problem,
        IortProblem::NodeLength { number: 3, count: 4, length: 0, least: 16, room: 0 }
    ));
    assert!(matches!(with(40, u32::MAX).problem, IortProblem::NodeLength { number: 0, .. }));
    // The root complex is at byte 140, its mapping at byte 180.
    assert!(matches!(
        with(148, 0x1000_0000),
        IortError { at: 140, problem: IortProblem::MappingsOutside { count: 0x1000_0000, .. } }
    ));
    assert!(matches!(with(148, u32::MAX).problem, IortProblem::MappingsOutside { .. }));
    assert!(matches!(
        with(152, 44).problem,
        IortProblem::MappingsOutside { count: 1, offset: 44, length: 60 }
    ));
    assert!(matches!(with(152, 12).problem, IortProblem::MappingsOutside { offset: 12, .. }));
}

#[test]
fn lengths_of_nodes_are_checked() {
    let good = table(&[its(), its()]);
    for (length, want) in [(0_u16, 0), (15, 15), (19, 19), (60, 60), (u16::MAX, u16::MAX)] {
        let mut bytes = good.clone();
        bytes[49..51].copy_from_slice(&length.to_le_bytes());
        let error = Iort::new(&bytes).unwrap_err();
        let problem =
            IortProblem::NodeLength { number: 0, count: 2, length: want, least: 20, room: 48 };
        assert_eq!(error, IortError { at: 48, problem });
    }
}

#[test]
fn ranges_of_reserved_memory_are_checked() {
    let good = table(&[rmr(0, &[(0, 1)])]);
    let mut bytes = good.clone();
    bytes[68..72].copy_from_slice(&u32::MAX.to_le_bytes());
    let problem = Iort::new(&bytes).unwrap_err().problem;
    assert_eq!(problem, IortProblem::RangesOutside { count: u32::MAX, offset: 28, length: 48 });
}

#[rstest]
// Its last byte is the last of the node.
#[case::without_an_end(b"\\_SB.DEVICE")]
#[case::empty(b"\0")]
#[case::strange(b"\\_SB\x07\0")]
#[case::not_ascii("\\_SB.Ü\0".as_bytes())]
fn wrong_names_are_told(#[case] bytes: &[u8]) {
    let table = table(&[named(bytes, 0)]);
    let iort = Iort::new(&table).unwrap();
    let error = only(&iort).name().unwrap_err();
    assert_eq!(error, IortError { at: 48 + 29, problem: IortProblem::Name });
    assert_eq!(only(&iort).to_string(), "named component at byte 0x30");
}

#[test]
fn a_wrong_checksum_is_told_and_read() {
    let mut bytes = QEMU.to_vec();
    bytes[10] ^= 1;
    assert!(!Iort::new(&bytes).unwrap().checksum_is_right());
}

#[test]
fn a_node_of_a_later_kind_is_stepped_over() {
    let mut bytes = with_smmu(|_, smmu| vec![root_complex(0, 0).map([0, 0xff, 0, smmu, 0])]);
    // The ITS group.
    bytes[48] = 99;
    let iort = Iort::new(&bytes).unwrap();
    assert_eq!(iort.stream_of_request(0, RequestId(8)), Ok(Some(stream(0, 8))));
}

fn any_mapping() -> impl Strategy<Value = [u32; 5]> {
    let target = prop_oneof![Just(48_u32), Just(72_u32), any::<u32>()];
    let more = prop_oneof![0..300_u32, any::<u32>()];
    let all = (any::<u32>(), more, any::<u32>(), target, 0..2_u32);
    all.prop_map(|(first, more, output, target, flags)| [first, more, output, target, flags])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        any_iort::check(&bytes);
        any_iort::check(&[b"IORT\x90\x01\0\0", &bytes[..]].concat());
    }

    /// QEMU's table with some bytes changed, and perhaps cut.
    #[test]
    fn any_damage_is_read_or_refused(
        changes in proptest::collection::vec((8..QEMU_THREE.len(), any::<u8>()), 1..8),
        cut in proptest::option::of(0..QEMU_THREE.len()),
    ) {
        let mut bytes = QEMU_THREE.to_vec();
        changes.into_iter().for_each(|(at, byte)| bytes[at] = byte);
        bytes.truncate(cut.unwrap_or(bytes.len()));
        any_iort::check(&bytes);
    }

    /// A well-formed table with any mappings.
    #[test]
    fn any_mappings_are_read_or_refused(
        mappings in proptest::collection::vec(any_mapping(), 0..8),
        index in 0..9_u32,
    ) {
        let all = |node: Node| mappings.iter().fold(node, |node, one| node.map(*one));
        let smmu = all(smmu_with_index(5, 1 << 4, [0; 4], index));
        let component = all(named(b"\\_SB.A\0", 0));
        let bytes = table(&[its(), smmu, all(root_complex(0, 0)), component, all(rmr(0, &[(0, 1)]))]);
        prop_assert!(Iort::new(&bytes).is_ok());
        any_iort::check(&bytes);
    }

    /// The first matching mapping by a plain reading of the specification.
    #[test]
    fn mappings_agree_with_the_specification(
        mappings in proptest::collection::vec((0..64_u32, 0..16_u32, 0..64_u32), 1..5),
        input in 0..96_u16,
    ) {
        let bytes = with_smmu(|_, smmu| {
            let map = |node: Node, (first, more, output): &(u32, u32, u32)| {
                node.map([*first, *more, *output, smmu, 0])
            };
            vec![mappings.iter().fold(root_complex(0, 0), map)]
        });
        let id = u32::from(input);
        let mut fitting = mappings.iter().filter(|(first, more, _)| *first <= id && id - first <= *more);
        let want = fitting.next().map(|(first, _, output)| stream(0, id - first + output));
        let iort = Iort::new(&bytes).unwrap();
        prop_assert_eq!(iort.stream_of_request(0, RequestId(input)), Ok(want));
    }
}
