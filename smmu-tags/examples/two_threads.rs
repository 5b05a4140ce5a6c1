//! Two threads take tags from one space, retire them, prove their flush and reuse their numbers.
//!
//!     cargo run -p smmu-tags --example two_threads

use std::error::Error;
use std::sync::{Mutex, PoisonError};
use std::thread;

use smmu_tags::smmu_types::fake::RecordingSink;
use smmu_tags::smmu_types::seam::SinkError;
use smmu_tags::smmu_types::{FlushProof, Regime, SmmuId};
use smmu_tags::{AsidSpace, InUseTag, RetiringTag};

const SMMU: SmmuId = SmmuId(0);

/// Attach: take a number, and install it before the CD names it.
fn attach(space: &AsidSpace) -> Result<InUseTag, Box<dyn Error>> {
    let fresh = space.allocate(SMMU, Regime::El1, 16)?;
    // A failure here would drop `fresh`, and the number would be free again.
    Ok(fresh.install())
}

/// Detach: no CD names the tag any more. Flush it, and free the number with the proof.
fn detach(tag: InUseTag, queue: &RecordingSink) -> Result<Option<RetiringTag>, Box<dyn Error>> {
    let retiring = tag.retire();
    match FlushProof::obtain(queue, SMMU, retiring.tag()) {
        Ok(proof) => {
            println!("{} is flushed and free", retiring.free(proof)?);
            Ok(None)
        }
        Err(error) => {
            println!("{} is not free: {error}", retiring.tag());
            Ok(Some(retiring))
        }
    }
}

/// A queue double that confirms every flush or none. A driver uses its command queue here.
fn queue(answers: bool) -> RecordingSink {
    RecordingSink::failing(move |_| (!answers).then(|| SinkError::timeout(SMMU)))
}

fn main() -> Result<(), Box<dyn Error>> {
    let space = AsidSpace::new(16)?;
    let held = Mutex::new(Vec::new());

    // No lock protects the space; the mutex is only for the list.
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..3 {
                    let tag = attach(&space).map_err(|error| error.to_string());
                    held.lock().unwrap_or_else(PoisonError::into_inner).push(tag);
                }
            });
        }
    });
    let held = held.into_inner()?.into_iter().collect::<Result<Vec<_>, _>>()?;
    println!("two threads took: {held:?}");
    println!("{:?}", space.stats());

    let mut tags = held.into_iter();
    // The SMMU confirms the flush of all tags but the last.
    let last = tags.next_back().ok_or("no tag")?;
    for tag in tags {
        detach(tag, &queue(true))?;
    }
    let unproven = detach(last, &queue(false))?;

    // The lowest free number comes first. The number without a proof does not come back.
    let reused = attach(&space)?;
    println!("reused: {}", reused.tag());
    detach(reused, &queue(true))?;
    if let Some(retiring) = unproven {
        println!("{} stays out of use", retiring.tag());
        retiring.quarantine();
    }
    println!("{:?}", space.stats());
    Ok(())
}
