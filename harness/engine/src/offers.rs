//! What a scenario needs, as far as the ID registers of SMMUs answer it.

use smmu_driver::smmu_types::Capabilities;

use crate::machine::Need;

/// Whether a machine with these SMMUs offers something. `None` if ID registers cannot tell: then
/// the backend answers.
///
/// Every SMMU must offer it, because a scenario chooses its SMMUs by their numbers alone.
///
/// ```
/// use smmu_engine::machine::Need;
/// use smmu_engine::offers::offered_by_id_registers;
/// use smmu_types::{Capabilities, IdRegisters};
///
/// // `IDR0.S1P` alone.
/// let id = IdRegisters { idr0: 1 << 1, ..IdRegisters::default() };
/// let smmus = [Capabilities::decode(id)];
/// assert_eq!(offered_by_id_registers(Need::Stage1, &smmus), Some(true));
/// assert_eq!(offered_by_id_registers(Need::Stage2, &smmus), Some(false));
/// assert_eq!(offered_by_id_registers(Need::Reset, &smmus), None);
/// ```
#[must_use]
pub fn offered_by_id_registers(need: Need, smmus: &[Capabilities]) -> Option<bool> {
    let each =
        |offers: fn(&Capabilities) -> bool| Some(!smmus.is_empty() && smmus.iter().all(offers));
    match need {
        Need::Stage1 => each(|smmu| smmu.stage1),
        Need::Stage2 => each(|smmu| smmu.stage2),
        Need::Nesting => each(|smmu| smmu.stage1 && smmu.stage2),
        Need::SeveralSmmus => Some(smmus.len() > 1),
        Need::Asid8 => each(|smmu| smmu.asid_bits == 8),
        Need::Ats => each(|smmu| smmu.ats),
        Need::Msi => each(|smmu| smmu.msi),
        Need::Sev => each(|smmu| smmu.sev),
        Need::QueueStop
        | Need::SlowQueues
        | Need::FetchAborts
        | Need::AtcTimeouts
        | Need::LostMsis
        | Need::SecondQueue
        | Need::Reset
        | Need::SmmuKinds
        | Need::DmaReads
        | Need::EventOverflow
        // The devices must be able to wait and to ask, too.
        | Need::Stalls
        | Need::PageRequests
        | Need::Substreams
        | Need::AtsDevices
        | Need::Parallel
        | Need::Caches => None,
    }
}
