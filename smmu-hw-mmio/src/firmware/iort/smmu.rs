//! SMMUv3 nodes.

use smmu_types::{PhysAddr, SmmuId};

use super::error::{IortError, IortProblem};
use super::node::{IortNode, RawMapping};
use crate::Coherency;
use crate::firmware::smmu::{FirmwareQuirks, FirmwareSmmu, Interrupt, SmmuInterrupts};

const COHACC_OVERRIDE: u32 = 1 << 0;
const PROXIMITY_VALID: u32 = 1 << 3;
const DEVICE_ID_VALID: u32 = 1 << 4;
/// The revision that says by a flag whether the DeviceID mapping index is valid.
const REVISION_WITH_FLAG: u8 = 5;

pub(super) fn smmu(node: IortNode<'_>, id: SmmuId) -> Result<FirmwareSmmu, IortError> {
    // All fields up to byte 60 are there: the node was checked.
    let word = |at| node.word(at).unwrap_or(0);
    let flags = word(24);
    // 0 means none: no SPI has this number.
    let wired = |at| match word(at) {
        0 => None,
        // ACPI tells no trigger; the architecture asks for an edge.
        intid => Some(Interrupt { intid, trigger: None }),
    };
    let interrupts = SmmuInterrupts {
        eventq: wired(44),
        priq: wired(48),
        gerror: wired(52),
        cmdq_sync: wired(56),
        combined: None,
    };
    let model = word(40);
    Ok(FirmwareSmmu {
        id,
        base: PhysAddr(node.long(16).unwrap_or(0)),
        size: None,
        coherency: match flags & COHACC_OVERRIDE {
            0 => Coherency::NonCoherent,
            _ => Coherency::Coherent,
        },
        enabled: true,
        interrupts,
        msi_device_id: device_id_mapping(node)?.map(|mapping| mapping.output),
        quirks: FirmwareQuirks {
            broken_prefetch: model == 1,
            page0_only: model == 2,
            // No model of the table says so; the integrator does.
            repeat_invalidations: false,
        },
        numa_node: (flags & PROXIMITY_VALID != 0 && node.has_field(64)).then(|| word(60)),
        at: node.at,
    })
}

/// The mapping that gives the SMMU's own MSIs their DeviceID.
///
/// From revision 5 on, a flag says whether there is one. Before, there is one unless all
/// interrupts are wired. Revision 0 has none.
pub(super) fn device_id_mapping(node: IortNode<'_>) -> Result<Option<RawMapping>, IortError> {
    let word = |at| node.word(at).unwrap_or(0);
    let valid = match node.revision() {
        0 => false,
        REVISION_WITH_FLAG.. => word(24) & DEVICE_ID_VALID != 0,
        _ => [44, 48, 52, 56].into_iter().any(|at| word(at) == 0),
    };
    if !valid || !node.has_field(68) {
        return Ok(None);
    }
    let (index, count) = (word(64), node.mapping_count());
    // An SMMU without any mapping sends no MSI, whatever its index says.
    if count == 0 && node.revision() < REVISION_WITH_FLAG {
        return Ok(None);
    }
    let Some(mapping) = node.mapping(index) else {
        let problem = IortProblem::DeviceIdIndex { index, count };
        return Err(IortError { at: node.at + 64, problem });
    };
    if !mapping.single {
        return Err(IortError { at: mapping.at, problem: IortProblem::DeviceIdNotSingle });
    }
    Ok(Some(mapping))
}
