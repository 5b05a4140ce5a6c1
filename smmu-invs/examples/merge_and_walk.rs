//! The invalidation array of a domain, from the attach of two devices to the end of the domain.
//!
//!     cargo run -p smmu-invs --example merge_and_walk

use std::error::Error;

use smmu_invs::smmu_types::fake::{RecordingSink, SinkCall};
use smmu_invs::smmu_types::range::{Extent, RangeSupport};
use smmu_invs::smmu_types::{Asid, CacheTag, FlushProof, Granule, Leaf, Regime, SmmuId, StreamId};
use smmu_invs::{
    GatedCell, InvArray, InvSpec, LockCell, Publication, UnrefOutcome, invalidate_published,
};

const SMMU: SmmuId = SmmuId(0);
const TAG: CacheTag = CacheTag::Asid(Regime::El1, Asid(7));

/// Where readers find the current array. The lock is the integrator's; the gate is for ATS entries.
type Cell = GatedCell<LockCell<parking_lot::RawMutex, InvArray>>;

fn main() -> Result<(), Box<dyn Error>> {
    let cell = Cell::new(Cell::node(InvArray::empty())?);
    // A double of the command queues, which records each command. A driver uses its own queues.
    let queues = RecordingSink::new();

    // What each device needs to have invalidated. Both use ASID 7 of one SMMU; the second device
    // has ATS, so it caches translations itself.
    let tag = InvSpec::tagged(SMMU, TAG, RangeSupport::Ril);
    let plain = [tag];
    let with_ats = [tag, InvSpec::ats(SMMU, StreamId(0x10), None)];

    // Attach: merge the request into a new array, and publish it. A driver holds the domain's lock
    // here, and writes the STE and the CD afterwards.
    for request in [&plain[..], &with_ats] {
        let merged = cell.read().merge(request)?;
        cell.publish(Cell::node(merged)?);
    }
    println!("both devices are attached:\n{}", *cell.read());

    // Unmap: the caller has removed one page from the page table. Any thread may do this at any
    // time, beside an attach or a detach. Without a level hint the smallest range is two pages.
    let page = Extent::range(0x8000_1000, 0x1000, Granule::K4, Leaf::Last);
    invalidate_published(&cell, page, &queues)?;
    println!("\nan unmap of one page:");
    print_calls(&queues);

    // Detach the device with ATS: take its users away. The array changes in place, and this step
    // cannot fail. First ATS is off in the STE, and the device's own cache is empty.
    println!("\nthe device with ATS leaves:");
    detach(&cell, &with_ats);
    // Detach the other device. No device uses the ASID now, but the SMMU may still have cached
    // translations of it.
    println!("\nthe other device leaves:");
    detach(&cell, &plain);
    println!("\nthe ASID still gets invalidations, and the ATS entry is trash:\n{}", *cell.read());

    // The flush of the ASID is the proof that no cache has it any more.
    let proof = FlushProof::obtain(&queues, SMMU, TAG)?;
    println!("\nthe flush of the ASID:");
    print_calls(&queues);
    cell.read().settle(&proof);

    // Purge: a new array without trash. `None` would mean: no trash.
    let purged = cell.read().purge()?;
    if let Some(purged) = purged {
        cell.publish(Cell::node(purged)?);
    }
    println!("\nafter the purge:\n{}", *cell.read());
    Ok(())
}

fn detach(cell: &Cell, request: &[InvSpec]) {
    cell.read().unref(request, |index, outcome| {
        let entry = request.get(index).map(InvSpec::to_string).unwrap_or_default();
        match outcome {
            UnrefOutcome::StillUsed { users } => println!("  {entry}: {users} user left"),
            UnrefOutcome::LastUserGone => println!("  {entry}: no user left"),
            UnrefOutcome::NotPresent => println!("  {entry}: was not attached"),
        }
    });
}

/// Prints the calls that the queues got since the last look.
fn print_calls(queues: &RecordingSink) {
    for call in queues.take() {
        let (smmu, commands, end) = match call {
            SinkCall::Push(smmu, commands) => (smmu, commands, None),
            SinkCall::Issue(smmu, commands) => (smmu, commands, Some("CMD_SYNC")),
            SinkCall::Wait(smmu) => (smmu, Vec::new(), Some("wait for the CMD_SYNC")),
        };
        for command in commands {
            println!("  {smmu}: {command}");
        }
        if let Some(end) = end {
            println!("  {smmu}: {end}");
        }
    }
}
