//! The ID registers of a guest on any hosts.

use smmu_attach::guest::{Emulation, GuestSmmu, GuestSmmuError, guest_ids};
use smmu_types::legal::SmmuView;
use smmu_types::{Capabilities, Endianness, IdRegisters, OutputSize, TableFormats};

use super::world::parent;

/// The sixteen emulations that the four bits choose.
fn emulation(choices: u8) -> Emulation {
    let size = OutputSize::from_encoding(choices >> 4 & 7).unwrap_or(OutputSize::Bits48);
    let mut emulation = Emulation::new(size);
    emulation.ats = choices & 1 != 0;
    emulation.page_requests = choices & 1 != 0;
    emulation.stalls = choices & 2 != 0;
    emulation.table_update = choices & 4 != 0;
    emulation.msi = choices & 8 != 0;
    emulation.sev = choices & 8 != 0;
    emulation
}

/// inv_7, for any registers.
pub(crate) fn ids(hosts: &[IdRegisters], choices: u8) {
    let emulation = emulation(choices);
    let ids = match guest_ids(hosts, &emulation) {
        Ok(ids) => ids,
        Err(error) => {
            assert!(error.to_string().len() > 40, "{error}");
            return;
        }
    };
    usable(ids);
    less_than_each(ids, hosts);
    let caps = Capabilities::decode(ids);
    assert!(emulation.ats || !caps.ats && !caps.pri && caps.priq_log2 == 0);
    assert!(emulation.msi || !caps.msi && !caps.sev);
    assert!(emulation.table_update || !caps.access_flag_update);
    assert!(caps.output_size.unwrap().bits() <= emulation.output_size.bits().max(48));
    // The same again: the guest's registers are what a guest in the guest would share with them.
    let mut more = hosts.to_vec();
    more.reverse();
    assert_eq!(guest_ids(&more, &emulation), Ok(ids), "the order matters");
    for host in hosts {
        match GuestSmmu::new(SmmuView::new(*host), ids, parent(host)) {
            Ok(smmu) => assert_eq!(smmu.ids(), ids),
            // A parent of ours does not suit every host.
            Err(GuestSmmuError::Parent { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }
}

/// What the probe of a driver wants.
fn usable(ids: IdRegisters) {
    let caps = Capabilities::decode(ids);
    assert!(caps.stage1 && !caps.stage2 && !caps.hyp && !caps.broadcast_tlb);
    assert!(!caps.atos && caps.vatos_page.is_none() && caps.enhanced_queues.is_none());
    assert!(matches!(caps.table_formats, TableFormats::AArch64 | TableFormats::Both));
    assert!(matches!(caps.endianness, Endianness::Little | Endianness::Mixed));
    assert!(!caps.tables_preset && !caps.queues_preset && !caps.relative_bases);
    assert!(caps.cmdq_log2 >= 1 && caps.cmdq_log2 <= 19 && caps.eventq_log2 <= 19);
    assert!(caps.sid_bits <= 32 && caps.ssid_bits <= 20);
    assert!(ids.idr5 & 0x70 != 0 && caps.output_size.is_some() && caps.va_bits.is_some());
    assert!(!caps.attribute_override && !caps.permission_override && !caps.mpam);
    assert_eq!((ids.idr2, ids.idr4, ids.idr6, ids.iidr), (0, 0, 0, 0));
}

/// No feature and no size is larger than that of a host.
fn less_than_each(ids: IdRegisters, hosts: &[IdRegisters]) {
    let guest = Capabilities::decode(ids);
    for id in hosts {
        let host = Capabilities::decode(*id);
        let features = |caps: &Capabilities| {
            [
                caps.ats,
                caps.pri,
                caps.msi,
                caps.sev,
                caps.coherent,
                caps.two_level_cd,
                caps.two_level_stream_table,
                caps.range_invalidation,
                caps.small_tables,
                caps.wide_small_granules,
                caps.wide_descriptors,
                caps.hierarchical_disable,
                caps.e0pd,
                caps.epan,
                caps.access_flag_update,
                caps.dirty_update,
            ]
        };
        for (guest, host) in features(&guest).into_iter().zip(features(&host)) {
            assert!(!guest || host, "{ids:x?} {id:x?}");
        }
        let sizes = |caps: &Capabilities| {
            [
                caps.sid_bits,
                caps.ssid_bits,
                caps.cmdq_log2,
                caps.eventq_log2,
                caps.priq_log2,
                caps.asid_bits,
                caps.bbm_level,
                caps.minor_version,
            ]
        };
        for (guest, host) in sizes(&guest).into_iter().zip(sizes(&host)) {
            assert!(guest <= host, "{ids:x?} {id:x?}");
        }
        assert!(guest.output_size.unwrap().bits() <= host.output_size.map_or(48, OutputSize::bits));
        assert_eq!(ids.idr5 & 0x70 & !id.idr5, 0, "granules");
        assert_eq!(ids.idr0 & 0xc & !id.idr0, 0, "TTF");
        // STALL_MODEL: a host with a choice serves every guest.
        let models = (ids.idr0 >> 24 & 3, id.idr0 >> 24 & 3);
        assert!(models.1 == 0 || models.0 == models.1, "{models:?}");
    }
}
