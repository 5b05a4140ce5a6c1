//! Compares what memory says of each device with what the driver was asked for.
//!
//! An audit compares caches with memory. A store that never reached memory is stale nowhere: caches and
//! memory are old together. So here the attachments and the tables, as the driver has them, say where
//! each device must get.

use smmu_driver::smmu_attach::Attachment;
use smmu_driver::smmu_types::{EventKind, PhysAddr, StreamId};
use smmu_driver::{Attach, Device};

use super::platform::Harness;
use super::rig::Rig;
use super::stop::Stop;
use crate::machine::{HazardPlace, HazardReport, MemoryLead};
use crate::page_tables::{INPUT_BITS, MappedLeaf, PAGE};
use crate::prelude::*;

/// Leaves of a domain that are looked at: the first ones.
const MOST_LEAVES: usize = 64;

/// The last page of the input addresses.
const LAST_PAGE: u64 = (1 << INPUT_BITS) - PAGE;
/// An address that every output size has.
const LOW_PAGE: u64 = 0xffff_f000;

/// What a device must get at an address.
struct Promise {
    iova: u64,
    lead: MemoryLead,
}

/// By memory alone, each stream of each device gets where its attachment says.
pub(super) fn memory_is_as_told(rig: &Rig) -> Result<(), Stop> {
    let mut devices = rig.each_device().filter(|(name, _)| !rig.past_driver.contains(*name));
    devices.try_for_each(|(name, device)| as_told(rig, name, device))
}

/// After a step that an SMMU has not confirmed, entries may stay invalid until the next attach. Such
/// devices are left out until then.
pub(super) fn note_unconfirmed(rig: &mut Rig) {
    let differ = rig.each_device().filter(|(name, device)| as_told(rig, name, device).is_err());
    let differ: Vec<String> = differ.map(|(name, _)| name.to_owned()).collect();
    rig.past_driver.extend(differ);
}

fn as_told(rig: &Rig, name: &str, device: &Device<Harness>) -> Result<(), Stop> {
    let Some(insight) = rig.machine.insight() else { return Ok(()) };
    let Some(promises) = promises(&device.attachment()) else { return Ok(()) };
    let smmu = usize::from(device.smmu().0);
    for stream in device.streams() {
        for Promise { iova, lead } in &promises {
            let found = match insight.in_memory(smmu, stream, *iova) {
                MemoryLead::Unknown => continue,
                MemoryLead::Faults(kind) if blocks(kind) => MemoryLead::Aborts,
                found => found,
            };
            if found != *lead {
                return Err(differs(rig, name, (smmu, stream), *iova, [*lead, found]));
            }
        }
    }
    Ok(())
}

/// A stream is blocked as well without an STE, with one that is not valid, and where `S1DSS` lets only
/// substreams pass.
const fn blocks(kind: EventKind) -> bool {
    matches!(kind, EventKind::C_BAD_STREAMID | EventKind::C_BAD_STE | EventKind::F_STREAM_DISABLED)
}

/// `None` for what the driver does not decide alone.
fn promises(attachment: &Attachment<Attach<Harness>>) -> Option<Vec<Promise>> {
    let passes = |iova| {
        let address = PhysAddr(iova);
        Promise { iova, lead: MemoryLead::To { address, read: true, write: true } }
    };
    match attachment {
        Attachment::Blocked => Some(vec![Promise { iova: 0, lead: MemoryLead::Aborts }]),
        Attachment::Bypass => Some([0, LOW_PAGE].map(passes).into()),
        Attachment::Domain(domain) => {
            let tables = domain.tables().lock();
            let leaves = tables.leaves();
            let promise = |leaf: &MappedLeaf| Promise {
                iova: leaf.input,
                lead: MemoryLead::To { address: leaf.output, read: true, write: leaf.write },
            };
            let mut promises: Vec<_> = leaves.iter().take(MOST_LEAVES).map(promise).collect();
            let unmapped = leaves.last().is_none_or(|last| last.input < LAST_PAGE);
            let holes = tables.unmapped().chain(unmapped.then_some(LAST_PAGE));
            let lead = MemoryLead::Faults(EventKind::F_TRANSLATION);
            promises.extend(holes.map(|iova| Promise { iova, lead }));
            Some(promises)
        }
        _ => None,
    }
}

fn differs(
    rig: &Rig,
    name: &str,
    (smmu, stream): (usize, StreamId),
    iova: u64,
    [wanted, found]: [MemoryLead; 2],
) -> Stop {
    let words = |lead| match lead {
        MemoryLead::Unknown => "unknown".to_owned(),
        MemoryLead::Aborts => "nowhere, by its STE".to_owned(),
        MemoryLead::Faults(kind) => format!("into {kind}"),
        MemoryLead::To { address, write: true, .. } => rig.named(&format!("to {address}")),
        MemoryLead::To { address, .. } => rig.named(&format!("to {address}, for reads")),
    };
    let text = format!(
        "{}: memory leads stream {stream} ({name}) at iova {iova:#x} {}, and must lead {}",
        rig.smmu_name(smmu),
        words(found),
        words(wanted)
    );
    let place =
        HazardPlace { smmu: Some(smmu), stream: Some(stream), substream: None, iova: Some(iova) };
    let happened = "memory does not hold what the driver was asked for";
    Stop::hazards(happened, vec![HazardReport::new(text, None).at(place)])
}
