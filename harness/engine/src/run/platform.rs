//! The harness's implementations of the seams, around the real ones.

use alloc::sync::Arc;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

use smmu_driver::smmu_attach::adopt::{AdoptMemory, PhysicalMemory, Unreadable};
use smmu_driver::smmu_attach::{TableDescription, TranslationTable};
use smmu_driver::smmu_invs::{AtsGate, GatedCell, InvArray, OutOfMemory, Publication};
use smmu_driver::smmu_types::pool::{Pool, PoolBlock, Window};
use smmu_driver::smmu_types::seam::{
    CommandSink, DmaBlock, DmaError, DmaLayout, DmaMemory, EncodedBatch, Notice, Observer,
    SinkError,
};
use smmu_driver::smmu_types::{CacheTag, Command, DomainId, PhysAddr, SmmuId, StreamId, SyncProof};
use smmu_driver::{DriverQueue, Platform, QueueSink, Queues, Slot};

use super::sabotage::Sabotage;
use super::switches::Switches;
use super::tap::{Tap, Watch};
use crate::alloc_fault;
use crate::lock::{Lock, Mutex, MutexGuard, Published};
use crate::machine::{Clock, QueueName, Ram};
use crate::page_tables::PageTables;
use crate::prelude::*;
use crate::row::{Detail, Facts, TagChange};
use crate::transcript::{LineKind as Kind, Recorder};

/// The platform of the harness.
#[derive(Debug)]
pub struct Harness;

impl Platform for Harness {
    type Registers = Tap;
    type Wait = Clock;
    type Lock = Lock;
    type SleepLock = Lock;
    type Dma = Dma;
    type Sink = Sink;
    type Cell = Cell;
    type QueueCell = Published<Slot<Self>>;
    type Observer = Names;
    type Tables = SharedTables;
    type Ats = Switches;
}

/// The page tables of a domain, which the steps of a scenario change.
#[derive(Debug)]
pub struct SharedTables(Mutex<PageTables<Dma>>);

impl SharedTables {
    pub(crate) fn new(tables: PageTables<Dma>) -> Self {
        SharedTables(Mutex::new(tables))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, PageTables<Dma>> {
        self.0.lock()
    }
}

impl TranslationTable for SharedTables {
    fn describe(&self) -> TableDescription {
        self.lock().describe()
    }
}

/// DMA memory from the machine's RAM, whose allocations can be made to fail.
#[derive(Clone, Debug)]
pub struct Dma(pub(crate) Pool<Ram, Lock>);

/// A block of [`Dma`].
#[derive(Debug)]
pub enum Block {
    /// One of the pool's.
    Own(PoolBlock<Ram, Lock>),
    /// RAM that an old owner has allocated. Dropping it frees nothing.
    Old(Ram, Range<usize>),
}

impl Block {
    /// Words of RAM for words of the block.
    const fn in_ram(old: &Range<usize>, words: &Range<usize>) -> Range<usize> {
        old.start + words.start..old.start + words.end
    }
}

#[expect(unsafe_code, reason = "passes the promises of the pool and of its window on")]
// SAFETY: the words are the pool's, or RAM that stays where it is; the barriers are theirs.
unsafe impl DmaBlock for Block {
    fn words(&self) -> &[AtomicU64] {
        match self {
            Block::Own(block) => block.words(),
            Block::Old(ram, words) => ram.words().get(words.clone()).unwrap_or_default(),
        }
    }

    fn address(&self) -> PhysAddr {
        match self {
            Block::Own(block) => block.address(),
            Block::Old(ram, words) => PhysAddr(ram.base().0 + 8 * words.start as u64),
        }
    }

    fn publish(&self, words: Range<usize>) {
        match self {
            Block::Own(block) => block.publish(words),
            Block::Old(ram, old) => ram.publish(Block::in_ram(old, &words)),
        }
    }

    fn observe(&self, words: Range<usize>) {
        match self {
            Block::Own(block) => block.observe(words),
            Block::Old(ram, old) => ram.observe(Block::in_ram(old, &words)),
        }
    }
}

#[expect(unsafe_code, reason = "the old owner of a scenario keeps its memory for ever")]
// SAFETY: the old owner is a driver of this pool that is never shut down, so the pool gives none of
// its memory to another caller. Nothing writes to it but the new owner.
unsafe impl AdoptMemory for Dma {
    fn adopt(&self, address: PhysAddr, layout: DmaLayout) -> Result<Block, DmaError> {
        let refused = DmaError { bytes: layout.bytes(), align: layout.align() };
        let ram = self.0.window();
        let first = address.0.checked_sub(ram.base().0).ok_or(refused)? / 8;
        let first = usize::try_from(first).map_err(|_| refused)?;
        let end = first.checked_add(layout.words()).filter(|end| *end <= ram.words().len());
        Ok(Block::Old(ram.clone(), first..end.ok_or(refused)?))
    }
}

impl PhysicalMemory for Dma {
    fn read(&self, address: PhysAddr, words: &mut [u64]) -> Result<(), Unreadable> {
        for (n, word) in words.iter_mut().enumerate() {
            let at = address.0.checked_add(8 * n as u64).ok_or(Unreadable)?;
            let cell = self.0.window().word(PhysAddr(at)).ok_or(Unreadable)?;
            *word = cell.load(Ordering::Acquire);
        }
        Ok(())
    }
}

#[expect(unsafe_code, reason = "passes the pool's promise on")]
// SAFETY: every block is one of the pool's, whose promises are passed on unchanged.
unsafe impl DmaMemory for Dma {
    type Block = Block;

    fn allocate(&self, layout: DmaLayout) -> Result<Self::Block, DmaError> {
        let refused = DmaError { bytes: layout.bytes(), align: layout.align() };
        alloc_fault::checkpoint().map_err(|_| refused)?;
        alloc_fault::suspended(|| self.0.allocate(layout)).map(Block::Own)
    }

    fn full_barrier(&self) {
        self.0.full_barrier();
    }
}

/// The publication of arrays, whose nodes can be made to fail.
#[derive(Debug)]
pub struct Cell(GatedCell<Published<InvArray>>);

impl Publication<InvArray> for Cell {
    type Node = <Published<InvArray> as Publication<InvArray>>::Node;
    type Guard<'a> = <Published<InvArray> as Publication<InvArray>>::Guard<'a>;

    fn node(value: InvArray) -> Result<Self::Node, OutOfMemory> {
        alloc_fault::checkpoint().map_err(|_| OutOfMemory { bytes: size_of::<InvArray>() })?;
        alloc_fault::suspended(|| Published::node(value))
    }

    fn new(node: Self::Node) -> Self {
        Cell(GatedCell::new(node))
    }

    fn read(&self) -> Self::Guard<'_> {
        // The first read of a thread makes room for its epoch, which is not the driver's doing.
        alloc_fault::suspended(|| self.0.read())
    }

    fn publish(&self, node: Self::Node) {
        self.0.publish(node);
    }

    fn reclaim_replaced(&self) {
        self.0.reclaim_replaced();
    }

    fn gate(&self) -> Option<&AtsGate> {
        self.0.gate()
    }
}

/// The queues of all SMMUs, with a way to break them and a way to look in between.
pub struct Sink {
    queues: Queues<Harness>,
    sabotage: Option<Sabotage>,
    watch: Mutex<Option<Arc<Watch>>>,
}

impl core::fmt::Debug for Sink {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Sink").field("sabotage", &self.sabotage).finish_non_exhaustive()
    }
}

impl QueueSink<Harness> for Sink {
    fn queues(&self) -> &Queues<Harness> {
        &self.queues
    }
}

impl Sink {
    pub(crate) fn new(queues: Queues<Harness>, sabotage: Option<Sabotage>) -> Self {
        Sink { queues, sabotage, watch: Mutex::new(None) }
    }

    /// The main queue of an SMMU.
    pub(crate) fn queue(&self, smmu: SmmuId) -> Option<&DriverQueue<Harness>> {
        self.queue_named(smmu, QueueName::Main)
    }

    /// A queue of an SMMU, if it has that one.
    pub(crate) fn queue_named(
        &self,
        smmu: SmmuId,
        name: QueueName,
    ) -> Option<&DriverQueue<Harness>> {
        let at = match name {
            QueueName::Main => 0,
            QueueName::Second => 1,
        };
        self.queues.get(smmu)?.inner().queues().get(at)
    }

    /// Call `watch` after each completed sync, until it is replaced.
    pub(crate) fn set_watch(&self, watch: Option<Arc<Watch>>) {
        *self.watch.lock() = watch;
    }

    fn tampered(&self, smmu: SmmuId, commands: &[Command]) -> Vec<Command> {
        let apply = |&command| match self.sabotage {
            Some(sabotage) => sabotage.apply(smmu, command),
            None => Some(command),
        };
        commands.iter().filter_map(apply).collect()
    }
}

impl CommandSink for Sink {
    type Ticket = (SmmuId, <Queues<Harness> as CommandSink>::Ticket);
    type Pushed = (SmmuId, <Queues<Harness> as CommandSink>::Pushed);

    fn issue(&self, smmu: SmmuId, commands: &[Command]) -> Result<Self::Ticket, SinkError> {
        Ok((smmu, self.queues.issue(smmu, &self.tampered(smmu, commands))?))
    }

    fn push(
        &self,
        smmu: SmmuId,
        pushed: Option<Self::Pushed>,
        commands: &[Command],
    ) -> Result<Self::Pushed, SinkError> {
        let (pushed, commands) = (pushed.map(|(_, pushed)| pushed), self.tampered(smmu, commands));
        Ok((smmu, self.queues.push(smmu, pushed, &commands)?))
    }

    fn prove(
        &self,
        (smmu, pushed): Self::Pushed,
        commands: &[Command],
    ) -> Result<Self::Ticket, SinkError> {
        Ok((smmu, self.queues.prove(pushed, &self.tampered(smmu, commands))?))
    }

    fn wait(&self, (smmu, ticket): Self::Ticket) -> Result<SyncProof, SinkError> {
        let proof = match self.sabotage {
            Some(Sabotage::SyncWithoutWait) => SyncProof::vouch(smmu),
            Some(Sabotage::TimeoutCountsAsDone) => match self.queues.wait(ticket) {
                Err(SinkError::Timeout { .. }) => SyncProof::vouch(smmu),
                outcome => outcome?,
            },
            _ => self.queues.wait(ticket)?,
        };
        let watch = self.watch.lock().clone();
        if let Some(watch) = watch {
            watch();
        }
        Ok(proof)
    }

    fn issue_encoded(
        &self,
        smmu: SmmuId,
        commands: EncodedBatch<'_>,
    ) -> Result<Self::Ticket, SinkError> {
        match self.sabotage {
            None => Ok((smmu, self.queues.issue_encoded(smmu, commands)?)),
            Some(_) => commands.decoded(|commands| self.issue(smmu, commands)),
        }
    }

    fn push_encoded(
        &self,
        smmu: SmmuId,
        pushed: Option<Self::Pushed>,
        commands: EncodedBatch<'_>,
    ) -> Result<Self::Pushed, SinkError> {
        if self.sabotage.is_some() {
            return commands.decoded(|commands| self.push(smmu, pushed, commands));
        }
        let pushed = pushed.map(|(_, pushed)| pushed);
        Ok((smmu, self.queues.push_encoded(smmu, pushed, commands)?))
    }

    fn prove_encoded(
        &self,
        pushed: Self::Pushed,
        commands: EncodedBatch<'_>,
    ) -> Result<Self::Ticket, SinkError> {
        match self.sabotage {
            None => Ok((pushed.0, self.queues.prove_encoded(pushed.1, commands)?)),
            Some(_) => commands.decoded(|commands| self.prove(pushed, commands)),
        }
    }
}

/// An observer that puts what it hears into the transcript, under the scenario's names.
#[derive(Debug)]
pub struct Names {
    pub(crate) recorder: Recorder,
    pub(crate) smmus: Vec<String>,
    pub(crate) domains: Vec<String>,
    pub(crate) freed: Mutex<Vec<(SmmuId, CacheTag)>>,
}

impl Names {
    fn smmu(&self, smmu: SmmuId) -> &str {
        self.smmus.get(usize::from(smmu.0)).map_or("?", String::as_str)
    }

    fn domain(&self, domain: DomainId) -> &str {
        self.domains.get(domain.0 as usize).map_or("?", String::as_str)
    }

    /// Tags that were freed since the last call.
    pub(crate) fn take_freed(&self) -> Vec<(SmmuId, CacheTag)> {
        core::mem::take(&mut *self.freed.lock())
    }
}

impl Names {
    fn tag(
        &self,
        smmu: SmmuId,
        tag: CacheTag,
        domain: Option<DomainId>,
        (change, users): (TagChange, Option<u32>),
        text: impl FnOnce() -> String,
    ) {
        let facts = || Facts {
            domain: domain.map(|domain| self.domain(domain).to_owned()),
            detail: Some(Detail::Tag { tag: tag.to_string(), change, users }),
            ..Facts::default()
        };
        self.recorder.typed(Kind::Tag, Some(self.smmu(smmu)), &[], facts, text);
    }

    fn stream(
        &self,
        kind: Kind,
        smmu: SmmuId,
        stream: StreamId,
        entry: Option<(&'static str, Option<u32>)>,
        text: impl FnOnce() -> String,
    ) {
        let facts = || Facts {
            stream: Some(stream),
            detail: entry.map(|(entry, syncs)| Detail::Entry { entry: entry.into(), syncs }),
            ..Facts::default()
        };
        self.recorder.typed(kind, Some(self.smmu(smmu)), &[], facts, text);
    }
}

impl Observer for Names {
    fn notice(&self, notice: Notice) {
        match notice {
            Notice::TagAllocated { domain, smmu, tag: t } => {
                self.tag(smmu, t, Some(domain), (TagChange::Allocated, None), || {
                    format!("{t} allocated for {}", self.domain(domain))
                });
            }
            Notice::TagFound { domain, smmu, tag: t, users } => {
                self.tag(smmu, t, Some(domain), (TagChange::Found, Some(users)), || {
                    format!("{t} found in the array of {}, users {users}", self.domain(domain))
                });
            }
            Notice::TagAborted { smmu, tag: t } => {
                self.tag(smmu, t, None, (TagChange::Aborted, None), || {
                    format!("{t} given back unused")
                });
            }
            Notice::TagRetired { domain, smmu, tag: t } => {
                self.tag(smmu, t, Some(domain), (TagChange::Retired, None), || {
                    format!("{t} has lost its last user in {}", self.domain(domain))
                });
            }
            Notice::TagForgotten { smmu, tag: t } => {
                self.tag(smmu, t, None, (TagChange::Forgotten, None), || {
                    format!("{t} is free: the SMMU is gone")
                });
            }
            Notice::TagFreed { smmu, tag: t } => {
                alloc_fault::suspended(|| {
                    let mut freed = self.freed.lock();
                    freed.push((smmu, t));
                });
                self.tag(smmu, t, None, (TagChange::Freed, None), || {
                    format!("{t} is flushed and free")
                });
            }
            Notice::TagQuarantined { smmu, tag: t, error } => {
                self.tag(smmu, t, None, (TagChange::Quarantined, None), || {
                    format!("{t} is quarantined: {error}")
                });
            }
            Notice::EntryWritten { smmu, stream, entry, syncs } => {
                let entry = match entry {
                    smmu_driver::smmu_types::seam::TableEntry::Ste => "STE",
                    smmu_driver::smmu_types::seam::TableEntry::Cd => "CD",
                    _ => "entry",
                };
                self.stream(Kind::Entry, smmu, stream, Some((entry, Some(syncs))), || {
                    let plural = if syncs == 1 { "" } else { "s" };
                    format!("{entry} of sid={stream} changed in {syncs} sync{plural}")
                });
            }
            Notice::ConfigUnconfirmed { smmu, stream, error } => {
                self.stream(Kind::Error, smmu, stream, None, || {
                    format!("the entry of sid={stream} is not confirmed: {error}")
                });
            }
            Notice::AtsSwitched { smmu, stream, on } => {
                self.stream(Kind::Entry, smmu, stream, Some(("ATS", None)), || {
                    format!("ATS of sid={stream} is {}", if on { "on" } else { "off" })
                });
            }
            Notice::PageRequestsSwitched { smmu, stream, on } => {
                self.stream(Kind::Entry, smmu, stream, Some(("PRI", None)), || {
                    format!("PRI of sid={stream} is {}", if on { "on" } else { "off" })
                });
            }
            Notice::AtcUnconfirmed { smmu, stream, error } => {
                self.stream(Kind::Error, smmu, stream, None, || {
                    format!("the ATC of sid={stream} does not confirm: {error}")
                });
            }
            other => self.recorder.note(Kind::Tag, || format!("{other:?}")),
        }
    }
}
