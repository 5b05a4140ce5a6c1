//! Properties of a device, as the caller of `add_device_with` knows them.

use crate::ats_switch::AtsUse;
use crate::fault_model::FaultModel;

/// Properties of a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeviceConfig {
    /// Number of SubstreamID bits that the device can send; 0 if it has no substreams. For a PCIe
    /// function the width of its PASID capability.
    ///
    /// At most `IDR1.SSIDSIZE` bits are used, and 10 bits of an SMMU without two-level tables
    /// (`IDR0.CD2L`). The first attach of a substream takes the memory of the table: 8 bytes for each
    /// 64 SubstreamIDs, and 4 KiB for each 64 of them that have been in use. Up to 6 bits, and
    /// without two-level tables, it takes two tables of 2^n CDs of 64 bytes.
    pub substream_bits: u8,
    /// Whether the device uses ATS. An SMMU without `IDR0.ATS` makes it [`AtsUse::Never`].
    ///
    /// The domains of a device with ATS need a cell with a gate:
    /// [`GatedCell`](smmu_invs::GatedCell).
    pub ats: AtsUse,
    /// Whether the device asks for pages (PRI) while its ATS is on. No effect without ATS, and on an
    /// SMMU without `IDR0.PRI`.
    ///
    /// [`AtsSwitch::enable_page_requests`](crate::AtsSwitch::enable_page_requests) turns that on.
    /// The PRI queue of the SMMU must be on, and have a reader that answers.
    pub page_requests: bool,
    /// What the SMMU does with a transaction that faults. A device of PCIe must not stall (3.12.1).
    pub faults: FaultModel,
}

impl DeviceConfig {
    /// A device whose faulting transactions stall, where the SMMU can do that. Firmware says which
    /// devices bear it (`dma-can-stall` of a device tree, the stall flag of an IORT node).
    #[must_use]
    pub const fn with_stalls(self) -> Self {
        DeviceConfig { faults: FaultModel::Stall, ..self }
    }

    /// A device that sends SubstreamIDs of this many bits.
    #[must_use]
    pub const fn with_substream_bits(self, substream_bits: u8) -> Self {
        DeviceConfig { substream_bits, ..self }
    }

    /// A device that uses ATS. The root complex must pass translated requests on, as firmware says
    /// (`ATS_SUPPORTED`), and the device must be trusted: its translated requests are not checked.
    #[must_use]
    pub const fn with_ats(self, ats: AtsUse) -> Self {
        DeviceConfig { ats, ..self }
    }

    /// A device that asks for pages while its ATS is on.
    #[must_use]
    pub const fn with_page_requests(self) -> Self {
        DeviceConfig { page_requests: true, ..self }
    }
}
