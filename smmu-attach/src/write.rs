//! Writes the entries of all devices of a transaction, in rounds.
//!
//! 1. A round stores the next step of every entry, and sends the `CFGI`s of each SMMU with one
//!    `CMD_SYNC`. So the longest way of an entry decides the number of syncs, not the number of
//!    entries.
//! 2. Every SMMU has its commands before the first wait: they work at the same time.
//! 3. The devices of an SMMU that does not confirm a round take no further step. Those of other
//!    SMMUs go on.

use core::cell::Cell;

use smallvec::SmallVec;
use smmu_types::seam::{CommandSink, Notice, Observer, SinkError, TableEntry};
use smmu_types::{Command, SmmuId, Ste};

use crate::Platform;
use crate::batch::{SyncBatch, wait};
use crate::device::{DeviceParts, forget_ste};
use crate::entry;
use crate::leaf_table::{LeafSwap, LeafTable};
use crate::platform::Block;
use crate::smmu_core::SmmuParts;
use crate::sync::{Barrier, is_kept};

/// SMMUs that carry out a round at the same time.
const AT_ONCE: usize = 16;

/// One step of the way of a device's entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The STEs become this one, with as many stores and syncs as the architecture demands.
    Ste(Ste),
    /// One store to level 1 of the CD table replaces a leaf.
    Leaf(LeafSwap),
}

/// The way of a device's entries to new ones.
///
/// The progress is a cell: while the devices of an SMMU take a step, the command sink is borrowed
/// from one of them.
#[derive(Clone)]
pub(crate) struct Path {
    first: Step,
    last: Step,
    progress: Cell<Progress>,
    syncs: Cell<u32>,
}

/// How far the STEs of a device are on their way.
#[derive(Clone, Copy)]
enum Progress {
    First,
    Last,
    /// The SMMU has confirmed the last step.
    Written,
    /// The SMMU has not confirmed a step.
    Failed(SinkError),
}

impl Path {
    pub(crate) const fn new(first: Step, last: Step) -> Self {
        Path { first, last, progress: Cell::new(Progress::First), syncs: Cell::new(0) }
    }

    pub(crate) const fn abort() -> Self {
        Self::new(Step::Ste(Ste::ABORT), Step::Ste(Ste::ABORT))
    }

    /// Another way, for a device that has not taken a step. A failure stays.
    pub(crate) fn redirect(&mut self, first: Step, last: Step) {
        (self.first, self.last) = (first, last);
    }

    /// Take no further step.
    pub(crate) fn fail(&self, error: SinkError) {
        if !matches!(self.progress.get(), Progress::Written) {
            self.progress.set(Progress::Failed(error));
        }
    }

    /// The way has ended, and something else that belongs to it has failed.
    pub(crate) fn revoke(&self, error: SinkError) {
        self.progress.set(Progress::Failed(error));
    }

    /// Whether the SMMU failed to confirm something.
    pub(crate) fn has_failed(&self) -> bool {
        matches!(self.progress.get(), Progress::Failed(_))
    }

    /// Whether the SMMU confirmed the way. A way that a panic of a seam cut short is not confirmed.
    pub(crate) fn result(&self, smmu: SmmuId) -> Result<(), SinkError> {
        match self.progress.get() {
            Progress::Written => Ok(()),
            Progress::Failed(error) => Err(error),
            Progress::First | Progress::Last => Err(SinkError::timeout(smmu)),
        }
    }

    /// Store the next step of all streams of the device. Returns whether one was left.
    fn step<P: Platform>(
        &self,
        device: &DeviceParts<P>,
        leaves: Option<&LeafTable<Block<P>>>,
        batch: &mut SyncBatch<'_, P::Sink>,
    ) -> Result<bool, SinkError> {
        loop {
            let (target, next) = match self.progress.get() {
                Progress::First if self.first != self.last => (&self.first, Progress::Last),
                Progress::First | Progress::Last => (&self.last, Progress::Written),
                Progress::Written | Progress::Failed(_) => return Ok(false),
            };
            let mut stored = false;
            match target {
                Step::Ste(ste) => {
                    for (stream, slot) in device.slots() {
                        if entry::advance(&slot, ste) {
                            stored = true;
                            batch.add(forget_ste(stream))?;
                        }
                    }
                }
                Step::Leaf(swap) => {
                    if leaves.is_some_and(|leaves| leaves.store(*swap)) {
                        stored = true;
                        for (stream, _) in device.slots() {
                            batch.add(Command::CfgiCdAll { stream })?;
                        }
                    }
                }
            }
            if stored {
                self.syncs.set(self.syncs.get() + 1);
                return Ok(true);
            }
            self.progress.set(next);
        }
    }
}

/// A device whose entries a transaction writes.
pub(crate) trait Writing<P: Platform> {
    fn device(&self) -> &DeviceParts<P>;
    fn path(&self) -> &Path;
    /// The two-level table of CDs, if the device has one.
    fn leaves(&self) -> Option<&LeafTable<Block<P>>>;
}

type Ticket<P> = <<P as Platform>::Sink as CommandSink>::Ticket;

/// Write the entries of all devices. The devices of one SMMU are neighbours.
///
/// Each [`Path::result`] then says whether the SMMU confirmed. Needs no memory.
pub(crate) fn write_entries<P: Platform, W: Writing<P>>(all: &[W]) {
    for one in all {
        // Barrier: an SMMU that sees a new entry also sees the CDs and the tables behind it.
        if is_kept(Barrier::TablesBeforeSte) && !one.path().has_failed() {
            one.device().slots().for_each(|(_, slot)| slot.publish());
        }
    }
    while round(all) {}
    for one in all {
        if let Progress::Written = one.path().progress.get() {
            notice_written(one.device(), one.path().syncs.get());
        }
    }
}

/// One round. Returns whether an entry took a step, or an SMMU failed.
fn round<P: Platform, W: Writing<P>>(all: &[W]) -> bool {
    let mut again = false;
    let mut sent: SmallVec<[(&[W], Ticket<P>); AT_ONCE]> = SmallVec::new();
    for run in all.chunk_by(|a, b| a.device().smmu.instance == b.device().smmu.instance) {
        match send(run) {
            Ok(None) => {}
            Ok(Some(ticket)) => {
                again = true;
                if sent.len() == AT_ONCE {
                    sent.drain(..).for_each(|(run, ticket)| confirm(run, ticket));
                }
                sent.push((run, ticket));
            }
            Err(error) => {
                again = true;
                fail(run, error);
            }
        }
    }
    sent.drain(..).for_each(|(run, ticket)| confirm(run, ticket));
    again
}

/// Store one step of each entry of an SMMU, and send the commands. `None` if no step was left.
fn send<P: Platform, W: Writing<P>>(run: &[W]) -> Result<Option<Ticket<P>>, SinkError> {
    let Some(first) = run.first() else { return Ok(None) };
    let smmu = &first.device().smmu;
    let mut batch = SyncBatch::new(smmu.env.sink(), smmu.id);
    let mut stored = false;
    for one in run {
        stored |= one.path().step(one.device(), one.leaves(), &mut batch)?;
    }
    if stored { batch.issue().map(Some) } else { Ok(None) }
}

fn confirm<P: Platform, W: Writing<P>>(run: &[W], ticket: Ticket<P>) {
    let Some(first) = run.first() else { return };
    let smmu = &first.device().smmu;
    if let Err(error) = wait(smmu.env.sink(), smmu.id, ticket) {
        fail(run, error);
    }
}

fn fail<P: Platform, W: Writing<P>>(run: &[W], error: SinkError) {
    run.iter().for_each(|one| one.path().fail(error));
}

/// Make the entries invalid and send `CFGI_STE` once more, because the SMMU may use the old or the
/// new entry.
pub(crate) fn give_up<P: Platform>(device: &DeviceParts<P>, error: SinkError) {
    let smmu = &device.smmu;
    // A confirmation here would come too late: the change has failed already.
    let _unproven = device.forget_entries();
    if let Some((stream, _)) = device.slots().next() {
        let notice = Notice::ConfigUnconfirmed { smmu: smmu.id, stream, error };
        smmu.env.observer().notice(notice);
    }
}

fn notice_written<P: Platform>(device: &DeviceParts<P>, syncs: u32) {
    if syncs == 0 {
        return;
    }
    let SmmuParts { id, env, .. } = &*device.smmu;
    for (stream, _) in device.slots() {
        let notice = Notice::EntryWritten { smmu: *id, stream, entry: TableEntry::Ste, syncs };
        env.observer().notice(notice);
    }
}
