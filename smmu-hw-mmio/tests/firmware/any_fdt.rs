//! What must hold for a device tree of any bytes: for the property tests and the fuzz target.

use smmu_hw_mmio::firmware::fdt::{DeviceTree, FdtError};
use smmu_hw_mmio::firmware::{Stream, StreamNames, Target};
use smmu_hw_mmio::smmu_types::{SmmuId, StreamId};

/// Reads all of a device tree, if it is one.
///
/// Every error has a place in the bytes and a text. A stream that a device has is found again, and
/// named.
pub(crate) fn check(bytes: &[u8]) {
    let told = |error: FdtError| {
        assert!(!error.problem.to_string().is_empty());
        error.at as usize
    };
    let tree = match DeviceTree::new(bytes) {
        Ok(tree) => tree,
        Err(error) => return assert!(told(error) <= bytes.len().max(20), "{error}"),
    };
    let placed = |error: FdtError| {
        assert!(told(error) < bytes.len(), "{error}");
        assert!(tree.path_at(error.at).to_string().starts_with('/'));
    };
    let mut smmus = 0;
    for smmu in tree.smmus() {
        smmus += 1;
        match smmu {
            Ok(smmu) => {
                assert!(tree.smmu_at(smmu.base).is_some_and(|id| id <= smmu.id));
                assert!(smmu.interrupts.iter().count() <= 5);
            }
            Err(error) => placed(error),
        }
    }
    assert_eq!(smmus, tree.smmu_count());
    let mut streams = 0;
    for device in tree.devices() {
        assert!(device.path().to_string().starts_with('/'));
        let _ = (device.coherency(), device.pasid_bits().map_err(placed), device.map_mask());
        for mapping in tree.mappings(&device) {
            let mapping = match mapping {
                Ok(mapping) => mapping,
                Err(error) => {
                    placed(error);
                    continue;
                }
            };
            assert!((mapping.at as usize) < bytes.len() && mapping.output <= mapping.last_output());
            let Target::Smmu(smmu) = mapping.target else { continue };
            assert!(smmu.0 < smmus);
            // Each costs a pass over the tree.
            streams += 1;
            if streams > 64 {
                continue;
            }
            for input in [mapping.input_of(mapping.output), mapping.input_of(mapping.last_output())]
            {
                let stream = mapping.stream_of(input.unwrap_or(0));
                let stream = stream.unwrap_or_else(|| panic!("{mapping:?} lacks {input:?}"));
                assert!(mapping.holds(stream) && tree.device_of(stream).is_some());
                let mut name = String::new();
                assert_eq!(tree.write_name(stream, &mut name), Ok(true));
                assert!(name.starts_with('/'));
            }
        }
        let _ = tree.stream_of(&device, 8_u32).map_err(placed);
    }
    for region in tree.reserved_regions() {
        match region {
            Ok(region) => {
                assert!(region.device.to_string().starts_with('/'));
                assert_eq!(tree.device_with(&region).at(), region.device_at);
                assert_eq!(region.window().memory, region.memory);
            }
            Err(error) => placed(error),
        }
    }
    for window in tree.windows_of(Stream { smmu: SmmuId(0), id: StreamId(1) }) {
        match window {
            Ok(window) => assert!((window.at as usize) < bytes.len()),
            Err(error) => placed(error),
        }
    }
    assert!(tree.devices_without_iommu().count() <= bytes.len());
    let wrong = |error: FdtError| {
        assert!(told(error) < bytes.len(), "{error}");
    };
    match tree.memory_reservations() {
        Ok(list) => assert!(list.count() * 16 < bytes.len()),
        Err(error) => wrong(error),
    }
    for node in tree.nodes() {
        assert!(node.path().is(&node.path().to_string()));
        assert!(node.cells("reg").into_iter().flatten().count() * 4 <= bytes.len());
        let _ = (node.is_enabled(), node.is_compatible("arm,pl011"), node.text("compatible"));
        match node.reg() {
            Ok(entries) => {
                for (address, length) in entries {
                    node.to_cpu(address, length).map_or_else(wrong, |cpu| {
                        assert!(cpu.checked_add(length.saturating_sub(1)).is_some());
                    });
                }
            }
            Err(error) => wrong(error),
        }
        match node.ranges() {
            Ok(ranges) => ranges.for_each(|range| {
                let _ = range.map_err(wrong);
            }),
            Err(error) => wrong(error),
        }
    }
}
