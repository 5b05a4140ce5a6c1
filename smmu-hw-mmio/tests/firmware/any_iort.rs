//! What must hold for an IORT of any bytes: for the property tests and the fuzz target.

use smmu_hw_mmio::firmware::iort::{Iort, IortError};
use smmu_hw_mmio::firmware::{Inputs, Stream, StreamNames, Target};
use smmu_hw_mmio::smmu_types::{SmmuId, StreamId};

/// Reads all of a table, if it is one.
///
/// Every error has a place in the bytes and a text. A stream that a device has is found again, and
/// named.
pub(crate) fn check(bytes: &[u8]) {
    let placed = |error: IortError| {
        assert!(!error.problem.to_string().is_empty());
        assert!((error.at as usize) < bytes.len(), "{error}");
    };
    let iort = match Iort::new(bytes) {
        Ok(iort) => iort,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    assert!(iort.length() <= bytes.len());
    let _ = (iort.checksum_is_right(), iort.revision());
    let mut smmus = 0;
    for smmu in iort.smmus() {
        smmus += 1;
        match smmu {
            Ok(smmu) => assert!(iort.smmu_at(smmu.base).is_some_and(|id| id <= smmu.id)),
            Err(error) => placed(error),
        }
    }
    assert_eq!(smmus, iort.smmu_count());
    let mut streams = 0;
    for device in iort.devices() {
        let _ = device.name().map_err(placed);
        assert!(device.pasid_bits() < 32 && !device.to_string().is_empty());
        for mapping in iort.mappings(&device) {
            let mapping = match mapping {
                Ok(mapping) => mapping,
                Err(error) => {
                    placed(error);
                    continue;
                }
            };
            assert!((mapping.at as usize) < bytes.len() && mapping.output <= mapping.last_output());
            let input = match mapping.inputs {
                Inputs::Any => 0,
                Inputs::Range { first, last } => {
                    assert!(first <= last && mapping.input_of(mapping.last_output()) == Some(last));
                    first
                }
            };
            let _ = iort.msi_of(&device, input).map_err(placed);
            let Target::Smmu(smmu) = mapping.target else { continue };
            assert!(smmu.0 < smmus);
            // Each costs a pass over the table.
            streams += 1;
            if streams > 64 {
                continue;
            }
            let stream = mapping.stream_of(input);
            let stream = stream.unwrap_or_else(|| panic!("{mapping:?} lacks {input:#x}"));
            assert!(mapping.holds(stream) && iort.device_of(stream).is_some());
            let mut name = String::new();
            assert_eq!(iort.write_name(stream, &mut name), Ok(true));
            assert!(!name.is_empty());
        }
        let _ = iort.stream_of(&device, 8_u32).map_err(placed);
    }
    for memory in iort.reserved_memory() {
        assert!(memory.ranges().all(|range| (range.at as usize) < bytes.len()));
        iort.reserved_streams(&memory).filter_map(Result::err).for_each(placed);
        let _ = memory.windows().map_err(placed).map(|windows| {
            assert!(windows.eq(memory.windows().into_iter().flatten()));
        });
    }
    for window in iort.windows_of(Stream { smmu: SmmuId(0), id: StreamId(8) }) {
        match window {
            Ok(window) => assert!((window.at as usize) < bytes.len()),
            Err(error) => placed(error),
        }
    }
}
