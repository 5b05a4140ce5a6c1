//! Hosts, and the virtual SMMUs on them.

use smmu_attach::guest::{Emulation, GuestSmmu, guest_ids};
use smmu_types::legal::SmmuView;
use smmu_types::{
    AtsMode, Cacheability, Granule, IdRegisters, OutputSize, PhysAddr, Shareability,
    ShareabilityOverride, Stage2Config, Ste, Vmid,
};

/// QEMU's SMMUv3: 44 bits, no substreams, ATS, stalls or page requests.
pub(crate) const PLAIN: IdRegisters = IdRegisters {
    idr0: 0x0d44_101b,
    idr1: 0x0273_0010,
    idr2: 0,
    idr3: 0x1414,
    idr4: 0,
    idr5: 0x74,
    idr6: 0,
    iidr: 0,
    aidr: 1,
};

/// An SMMUv3.2 with everything: 48 bits, 20 bits of SubstreamID, ATS, PRI, stalls, RIL, HTTU, HYP.
pub(crate) const RICH: IdRegisters = IdRegisters {
    idr0: 0x080f_e6bf,
    idr1: 0x0e73_9d20,
    idr2: 0,
    idr3: 0x1c0c,
    idr4: 0,
    idr5: 0x0040_0075,
    idr6: 0,
    iidr: 0,
    aidr: 2,
};

pub(crate) const VMID: u16 = 0x2a;

/// Stage 2 of the host: 4 KiB, from level 1 or 0, with forced write-back where the host has it.
pub(crate) fn parent(host: &IdRegisters) -> Ste {
    let wide = host.idr5 & 7 >= 5;
    Ste::stage2(
        Stage2Config {
            vmid: Vmid(VMID),
            t0sz: if wide { 16 } else { 20 },
            start_level: 2,
            inner: Cacheability::WriteBack,
            outer: Cacheability::WriteBack,
            shareability: Shareability::Inner,
            granule: Granule::K4,
            output_size: if wide { OutputSize::Bits48 } else { OutputSize::Bits44 },
            table: PhysAddr(0x8_8000_0000),
            forced_write_back: host.idr3 & 1 << 8 != 0,
            protected_walk: true,
            stall: false,
            record: true,
        },
        AtsMode::Off,
        // As the transaction came, where attributes can be replaced.
        if host.idr1 & 1 << 27 != 0 {
            ShareabilityOverride::Incoming
        } else {
            ShareabilityOverride::NonShareable
        },
    )
    .unwrap()
}

/// A virtual SMMU and what it was made from.
pub(crate) struct World {
    pub(crate) host: IdRegisters,
    pub(crate) ids: IdRegisters,
    pub(crate) parent: Ste,
    pub(crate) smmu: GuestSmmu,
}

impl World {
    fn new(host: IdRegisters, change: impl Fn(&mut Emulation)) -> Self {
        let mut emulation = Emulation::new(OutputSize::Bits48);
        change(&mut emulation);
        let ids = guest_ids(&[host], &emulation).unwrap();
        let parent = parent(&host);
        let smmu = GuestSmmu::new(SmmuView::new(host), ids, parent).unwrap();
        World { host, ids, parent, smmu }
    }

    /// The least guest on the plain host.
    pub(crate) fn plain() -> Self {
        Self::new(PLAIN, |_| ())
    }

    /// The least guest on the rich host.
    pub(crate) fn modest() -> Self {
        Self::new(RICH, |emulation| emulation.substream_bits = 0)
    }

    /// A guest that has all that the rich host has.
    pub(crate) fn rich() -> Self {
        Self::new(RICH, |emulation| {
            emulation.ats = true;
            emulation.page_requests = true;
            emulation.stalls = true;
            emulation.table_update = true;
        })
    }

    pub(crate) fn all() -> [World; 3] {
        [Self::plain(), Self::modest(), Self::rich()]
    }
}
