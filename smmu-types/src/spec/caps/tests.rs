//! Tests of capabilities against ID registers from outside.

use super::*;

#[test]
fn decodes_what_qemu_says() {
    // ID registers read from QEMU 11.1.3.
    let caps = Capabilities::decode(IdRegisters {
        idr0: 0x0d44_101b,
        idr1: 0x0273_0010,
        idr3: 0x1414,
        idr5: 0x74,
        aidr: 1,
        ..IdRegisters::default()
    });
    assert!(caps.stage1 && caps.stage2 && caps.coherent && caps.two_level_stream_table);
    assert_eq!(caps.table_formats, TableFormats::AArch64);
    assert_eq!(caps.endianness, Endianness::Little);
    assert_eq!(caps.stall_model, StallModel::TerminateOnly);
    assert_eq!((caps.asid_bits, caps.vmid_bits), (16, 16));
    assert_eq!((caps.cmdq_log2, caps.eventq_log2), (19, 19));
    assert_eq!((caps.sid_bits, caps.ssid_bits), (16, 0));
    assert!(!caps.msi && !caps.sev && !caps.ats && !caps.pri);
    assert!(caps.range_invalidation && !caps.forced_write_back);
    assert_eq!(caps.bbm_level, 2);
    assert_eq!(caps.output_size, Some(OutputSize::Bits44));
    for granule in [Granule::K4, Granule::K16, Granule::K64] {
        assert!(caps.granules.contains(granule));
    }
    assert_eq!(caps.minor_version, 1);
}

#[test]
fn reserved_values_stay_visible() {
    let caps = Capabilities::decode(IdRegisters {
        idr0: 3 << 24 | 1 << 21,
        idr5: 7,
        ..IdRegisters::default()
    });
    assert_eq!(caps.output_size, None);
    assert_eq!(caps.stall_model, StallModel::Reserved);
    assert_eq!(caps.endianness, Endianness::Reserved);
    assert_eq!(caps.table_formats, TableFormats::Reserved);
}

#[test]
fn what_came_later_is_decoded_too() {
    let caps = Capabilities::decode(IdRegisters {
        idr0: 0x40f7_cdff,
        idr1: 0x8e00_0514,
        idr2: 0x3,
        idr3: 0x00ff_ffbc,
        idr4: 0xdead_beef,
        idr5: 0x0010_09f7,
        idr6: 0x0407_0000,
        aidr: 4,
        ..IdRegisters::default()
    });
    assert!(caps.broadcast_tlb && caps.dormant_hint && caps.atos && caps.vmid_wildcard);
    assert!(caps.ats_errors && !caps.split_stage_ats && caps.granule_protection);
    assert_eq!(caps.table_update, TableUpdate::TableAccess);
    assert!(caps.access_flag_update && caps.dirty_update);
    assert_eq!(caps.terminate_model, TerminateModel::Both);
    assert_eq!(caps.vatos_page, Some(0x5_0000));
    assert!(caps.permission_override && caps.attribute_override);
    assert_eq!((caps.sid_bits, caps.ssid_bits), (20, 20));
    assert_eq!(caps.enhanced_queues, Some(EnhancedQueues { pages_log2: 4, queues_log2: 7 }));
    assert!(caps.small_tables && caps.e0pd && caps.device_walks_noncacheable && caps.mpam);
    assert!(caps.no_tag_access && caps.attribute_index && caps.translated_pasid && caps.epan);
    assert_eq!(caps.output_size, Some(OutputSize::Bits56));
    assert!(caps.wide_descriptors && caps.wide_small_granules && caps.wide_input);
    assert_eq!((caps.va_bits, caps.input_bits()), (Some(56), 52));
}

#[test]
fn output_sizes_depend_on_the_version() {
    let size = |oas: u32, aidr| {
        let id = IdRegisters { idr5: oas, aidr, ..IdRegisters::default() };
        Capabilities::decode(id).output_size
    };
    assert_eq!((size(6, 0), size(6, 1)), (None, Some(OutputSize::Bits52)));
    assert_eq!((size(0x107, 3), size(0x107, 4)), (None, Some(OutputSize::Bits56)));
    assert_eq!((size(7, 4), size(5, 0)), (None, Some(OutputSize::Bits48)));
}

#[test]
fn what_is_not_there_says_nothing() {
    let caps = Capabilities::decode(IdRegisters {
        idr0: 0x0400_0403,
        idr2: 0x3,
        idr6: 0x0407_0000,
        idr5: 3 << 10,
        ..IdRegisters::default()
    });
    assert_eq!((caps.vatos_page, caps.enhanced_queues), (None, None));
    assert_eq!(caps.terminate_model, TerminateModel::AbortOnly);
    assert!(caps.split_stage_ats);
    assert_eq!((caps.va_bits, caps.input_bits(), caps.wide_input), (None, 48, false));
}
