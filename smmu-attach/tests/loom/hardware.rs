//! An SMMU under loom: its memory, its caches, its command queue and the DMA of its devices.

use std::ops::Range;
use std::sync::atomic::{AtomicBool as PlainBool, AtomicU64 as PlainWord};
use std::sync::atomic::{AtomicUsize as PlainCount, Ordering as Plain};
use std::sync::{Arc, Mutex as PlainMutex};

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};
use loom::sync::{Mutex, MutexGuard};
use smmu_attach::*;
use smmu_types::range::Extent;
use smmu_types::seam::{
    CommandSink, DmaBlock, DmaError, DmaLayout, DmaMemory, Notice, Observer, SinkError,
};
use smmu_types::*;

use crate::ats::Atc;
use crate::seams::{Seam, is_kept, publish_late_arrays};

/// Domains of a world, and page tables: those of number `n` lie at `ROOT + n * 0x1000`.
pub(crate) const DOMAINS: usize = 3;
pub(crate) const ROOT: u64 = 0x8000_0000;
pub(crate) const SMMU: SmmuId = SmmuId(0);
const TAGS: usize = 8;
pub(crate) const STREAMS: usize = 4;
/// Bytes between the addresses of two blocks. No block is longer.
const BLOCK: u64 = 0x1_0000;
const ADDRESS: u64 = 0x000f_ffff_ffff_ffc0;
/// Streams in the second-level table that have a word in the SMMU's view.
pub(crate) const IN_SPAN: [u32; 2] = [8, 9];

/// The place of an ASID in lists of tags.
fn asid_tag(asid: u16) -> usize {
    usize::from(asid)
}

/// The place of a VMID in lists of tags.
fn vmid_tag(vmid: u16) -> usize {
    TAGS / 2 + usize::from(vmid)
}

/// The words of a block that the SMMU reads, as the SMMU sees them.
///
/// A store of the driver gets here in the `publish` that covers it, before the barrier. So the SMMU
/// may see it early or late, and the words of one `publish` in any order.
pub(crate) struct View {
    address: u64,
    words: Vec<SeenWord>,
    freed: PlainBool,
    fences: Arc<AtomicUsize>,
}

struct SeenWord {
    index: usize,
    seen: AtomicU64,
    /// The newest value of `seen`.
    newest: PlainWord,
}

impl View {
    fn load(&self, word: usize) -> u64 {
        assert!(!self.freed.load(Plain::Relaxed), "the SMMU reads a table that was freed");
        let word = self.words.iter().find(|seen| seen.index == word).unwrap();
        // Relaxed: the SMMU reads the words of an entry in any order.
        word.seen.load(Ordering::Relaxed)
    }
}

/// What the SMMU found for a stream: the number of the tables, and the tag.
type Translation = (usize, usize);

/// What the devices of a model use beside the STEs of a linear stream table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beside {
    Nothing,
    /// A second level of the stream table.
    SecondLevel,
    /// SubstreamIDs of one bit.
    Substreams,
    /// Translation caches of their own, with a switch.
    Ats,
}

/// What the SMMU and the devices have cached. Locked while a DMA is in progress, because `CMD_SYNC`
/// waits for that.
#[derive(Default)]
pub(crate) struct Caches {
    /// A level-1 descriptor, valid or not.
    level_1: Option<u64>,
    /// The words of the STE of each stream.
    stes: [Option<[u64; 4]>; STREAMS],
    /// Address, word 0 and word 1 of each CD of each stream.
    cds: [Vec<(u64, [u64; 2])>; STREAMS],
    /// The tables whose page is cached with each tag.
    lines: [Option<usize>; TAGS],
    pub(crate) atcs: [Atc; STREAMS],
}

/// Commands that the SMMU ignores.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    None,
    /// So many batches of `CFGI_STE`, after so many that it carries out.
    Cfgi {
        after: u32,
        ignored: u32,
    },
    /// The next flush of a tag.
    Flush,
}

pub(crate) struct LoomSmmu {
    views: PlainMutex<Vec<Arc<View>>>,
    caches: Mutex<Caches>,
    /// The descriptor of each table that leads to its page.
    descriptors: [AtomicUsize; DOMAINS],
    /// Whether the mapper has taken the page of a table away. Plain memory to loom: a DMA that is
    /// not ordered before the mapper's reuse fails the test.
    pages: [UnsafeCell<bool>; DOMAINS],
    /// The domain that owns each tag.
    owners: PlainMutex<[Option<usize>; TAGS]>,
    fault: PlainMutex<Fault>,
    /// Loom lets no other thread run between a store and a fence unless an access that both threads
    /// make lies between them. This is that access. It carries no order that a fence has not made.
    fences: Arc<AtomicUsize>,
    beside: Beside,
    /// The tables of each domain.
    tables: [usize; DOMAINS],
}

// SAFETY: loom checks each access to a page.
unsafe impl Sync for LoomSmmu {}
// SAFETY: as above.
unsafe impl Send for LoomSmmu {}

impl LoomSmmu {
    pub(crate) fn new(beside: Beside, tables: [usize; DOMAINS]) -> Arc<Self> {
        Arc::new(LoomSmmu {
            views: PlainMutex::default(),
            caches: Mutex::default(),
            descriptors: std::array::from_fn(|_| AtomicUsize::new(1)),
            pages: std::array::from_fn(|_| UnsafeCell::new(false)),
            owners: PlainMutex::default(),
            fault: PlainMutex::new(Fault::None),
            fences: Arc::new(AtomicUsize::new(0)),
            beside,
            tables,
        })
    }

    /// From now on the SMMU ignores these commands, and does not answer their `CMD_SYNC`.
    pub(crate) fn fail(&self, fault: Fault) {
        *self.fault.lock().unwrap() = fault;
    }

    /// Whether the SMMU has ignored all that it was to ignore.
    pub(crate) fn has_failed(&self) -> bool {
        matches!(*self.fault.lock().unwrap(), Fault::None | Fault::Cfgi { ignored: 0, .. })
    }

    /// Whether the SMMU ignores a batch.
    fn ignores(&self, commands: &[Command]) -> bool {
        let mut fault = self.fault.lock().unwrap();
        let configures = matches!(commands, [Command::CfgiSte { .. }, ..]);
        match *fault {
            Fault::Cfgi { after, ignored } if configures => {
                *fault = match (after, ignored) {
                    (0, 0) => Fault::None,
                    (0, _) => Fault::Cfgi { after, ignored: ignored - 1 },
                    _ => Fault::Cfgi { after: after - 1, ignored },
                };
                after == 0 && ignored > 0
            }
            Fault::Flush
                if matches!(
                    commands,
                    [Command::TlbiS12Vmall { .. } | Command::TlbiNhAsid { .. }, ..]
                ) =>
            {
                *fault = Fault::None;
                true
            }
            _ => false,
        }
    }

    fn has_second_level(&self) -> bool {
        self.beside == Beside::SecondLevel
    }

    fn view(&self, address: u64) -> Arc<View> {
        let views = self.views.lock().unwrap();
        let found = views.iter().find(|view| view.address == address);
        found.cloned().unwrap_or_else(|| panic!("the SMMU reads {address:#x}: no table is there"))
    }

    /// The stream table, or its first level: the first block of all.
    fn root(&self) -> Arc<View> {
        self.views.lock().unwrap()[0].clone()
    }

    /// The words of an STE; word 1 only where a model needs it. `None` if the stream has no
    /// second-level table.
    pub(crate) fn ste(&self, caches: &mut Caches, stream: u32) -> Option<[u64; 4]> {
        let cached = stream as usize % STREAMS;
        if let Some(words) = caches.stes[cached] {
            return Some(words);
        }
        let (table, first) = if self.has_second_level() {
            let descriptor = *caches.level_1.get_or_insert_with(|| self.root().load(0));
            if descriptor == 0 {
                return None;
            }
            (self.view(descriptor & ADDRESS), stream as usize * 8)
        } else {
            (self.root(), stream as usize * 8)
        };
        // An address dependency orders the words behind the descriptor.
        fence(Ordering::Acquire);
        let words = [0, 1, 2, 3].map(|n| match (n, self.beside) {
            (1, Beside::Nothing | Beside::SecondLevel) => 0,
            _ => table.load(first + n),
        });
        if self.has_second_level() {
            assert!(words[0] & 1 == 1, "the SMMU reads a second-level table that is not filled");
        }
        caches.stes[cached] = Some(words);
        // And what the words lead to behind them.
        fence(Ordering::Acquire);
        Some(words)
    }

    /// Words 0 and 1 of the CD at `address`.
    fn cd(&self, caches: &mut Caches, stream: u32, address: u64) -> [u64; 2] {
        let cached = &mut caches.cds[stream as usize % STREAMS];
        if let Some((_, words)) = cached.iter().find(|(of, _)| *of == address) {
            return *words;
        }
        let table = self.view(address & !(BLOCK - 1));
        let first = (address & (BLOCK - 1)) as usize / 8;
        let words = [0, 1].map(|n| table.load(first + n));
        fence(Ordering::Acquire);
        cached.push((address, words));
        words
    }

    /// The SMMU's view of a SubstreamID: the tables and the tag that the STE, and perhaps the CD, name.
    /// 0 stands for transactions without a SubstreamID.
    pub(crate) fn translation(
        &self,
        caches: &mut Caches,
        stream: u32,
        substream: u64,
    ) -> Option<Translation> {
        let [w0, w1, w2, w3] = self.ste(caches, stream)?;
        let (tag, root) = match w0 & 0xf {
            // Invalid, or Config = 0b000: abort.
            n if n & 1 == 0 || n == 0x1 => return None,
            // Bypass: no translation.
            0x9 => return None,
            0xd => (vmid_tag(w2 as u16), w3 & ADDRESS),
            0xb => {
                let (bits, default) = (w0 >> 59, w1 & 0x3);
                let is_read = match substream {
                    // Without a SubstreamID S1DSS decides, unless S1CDMax is 0.
                    0 => bits == 0 || default == 0b10,
                    _ => substream >> bits == 0,
                };
                if !is_read {
                    return None;
                }
                let [w0, w1] = self.cd(caches, stream, (w0 & ADDRESS) + substream * 64);
                let is_valid = w0 >> 31 & 1 == 1;
                // The CD of a substream that is not attached aborts.
                if substream != 0 && !is_valid {
                    return None;
                }
                assert!(is_valid, "the STE leads to an invalid CD");
                (asid_tag((w0 >> 48) as u16), w1 & ADDRESS)
            }
            config => panic!("an STE that no attach writes: {config:#x}"),
        };
        let tables = (root.wrapping_sub(ROOT) / 0x1000) as usize;
        let owner = self.owners.lock().unwrap().get(tag).copied().flatten();
        assert!(
            owner.is_some_and(|owner| self.tables[owner] == tables),
            "wrong translation: tag {tag} of {owner:?} with tables at {root:#x}"
        );
        Some((tables, tag))
    }

    /// Word 0 of the stream's STE, if the SMMU finds one. Caches what it has read.
    pub(crate) fn fetch(&self, stream: u32) -> Option<u64> {
        self.ste(&mut self.caches.lock().unwrap(), stream).map(|words| words[0])
    }

    /// A DMA of a stream. Caches what the SMMU has read, and its translation.
    pub(crate) fn dma(&self, stream: u32) {
        let _ = self.dma_of(stream, 0);
    }

    /// A DMA of a substream, or of 0 as in [`translation`](Self::translation). Returns the number of
    /// the tables that the SMMU found.
    pub(crate) fn dma_of(&self, stream: u32, substream: u64) -> Option<usize> {
        let mut caches = self.lock_caches();
        let translation = self.translation(&mut caches, stream, substream)?;
        if let Some(tables) = self.line(&mut caches, translation) {
            self.access(tables);
        }
        Some(translation.0)
    }

    pub(crate) fn lock_caches(&self) -> MutexGuard<'_, Caches> {
        self.caches.lock().unwrap()
    }

    /// The tables, if their page is cached with the tag or their descriptor leads there.
    pub(crate) fn line(&self, caches: &mut Caches, (tables, tag): Translation) -> Option<usize> {
        match caches.lines[tag] {
            Some(line) => assert_eq!(line, tables, "wrong translation: tag {tag} was not flushed"),
            None if self.descriptors[tables].load(Ordering::Relaxed) == 1 => {
                caches.lines[tag] = Some(tables);
            }
            None => return None,
        }
        Some(tables)
    }

    /// An access to the page of these tables.
    pub(crate) fn access(&self, tables: usize) {
        // SAFETY: loom checks the access.
        let taken = self.pages[tables].with(|page| unsafe { *page });
        assert!(!taken, "DMA reached a page that was taken away");
    }

    /// An unmap as a mapper does it, and the reuse of the page. The domains share their tables.
    pub(crate) fn unmap<P: Platform>(&self, domains: &[&Domain<P>]) {
        let number = self.tables[domains[0].id().0 as usize];
        self.descriptors[number].store(0, Ordering::Relaxed);
        let page = Extent::range(0x1000, 0x1000, Granule::K4, Leaf::Last);
        for domain in domains {
            self.fences.fetch_add(1, Ordering::Relaxed);
            domain.invalidate(page).unwrap();
        }
        // SAFETY: loom checks the access.
        self.pages[number].with_mut(|page| unsafe { *page = true });
    }

    fn carry_out(&self, commands: &[Command]) {
        let mut caches = self.caches.lock().unwrap();
        for command in commands {
            let tag = match *command {
                Command::CfgiSte { stream, leaf } => {
                    if is_kept(Seam::Cfgi) {
                        let cached = stream.0 as usize % STREAMS;
                        caches.stes[cached] = None;
                        caches.cds[cached].clear();
                    }
                    if leaf == Leaf::All && is_kept(Seam::CfgiLevel1) {
                        caches.level_1 = None;
                    }
                    continue;
                }
                Command::TlbiS2Ipa { vmid, .. } | Command::TlbiS12Vmall { vmid } => {
                    vmid_tag(vmid.0)
                }
                Command::TlbiNhVa { asid, .. } | Command::TlbiNhAsid { asid, .. } => {
                    asid_tag(asid.0)
                }
                Command::AtcInv { stream, .. } => {
                    caches.atcs[stream.0 as usize % STREAMS].invalidate();
                    continue;
                }
                other => panic!("the model does not know {other}"),
            };
            if is_kept(Seam::Tlbi) {
                caches.lines[tag] = None;
            }
        }
    }
}

pub(crate) struct Block {
    memory: Box<[PlainWord]>,
    view: Arc<View>,
}

// SAFETY: the words live as long as the block.
unsafe impl DmaBlock for Block {
    fn words(&self) -> &[PlainWord] {
        &self.memory
    }
    fn address(&self) -> PhysAddr {
        PhysAddr(self.view.address)
    }
    fn publish(&self, range: Range<usize>) {
        for word in self.view.words.iter().filter(|word| range.contains(&word.index)) {
            let stored = self.memory[word.index].load(Plain::Relaxed);
            if word.newest.swap(stored, Plain::Relaxed) != stored {
                word.seen.store(stored, Ordering::Relaxed);
            }
        }
        self.view.fences.fetch_add(1, Ordering::Relaxed);
        if is_kept(Seam::Publish) {
            fence(Ordering::SeqCst);
        }
    }
    fn observe(&self, _: Range<usize>) {}
}

impl Drop for Block {
    fn drop(&mut self) {
        self.view.freed.store(true, Plain::Relaxed);
    }
}

pub(crate) struct Memory {
    pub(crate) hardware: Arc<LoomSmmu>,
    next: PlainCount,
}

impl Memory {
    pub(crate) fn new(hardware: Arc<LoomSmmu>) -> Self {
        Memory { hardware, next: PlainCount::new(0x4000_0000) }
    }
}

// SAFETY: each block is new, and zero.
unsafe impl DmaMemory for Memory {
    type Block = Block;
    fn allocate(&self, layout: DmaLayout) -> Result<Block, DmaError> {
        let address = self.next.fetch_add(BLOCK as usize, Plain::Relaxed) as u64;
        let mut views = self.hardware.views.lock().unwrap();
        let all = 0..layout.words();
        let words = match (views.is_empty(), self.hardware.beside) {
            // The first level of the stream table.
            (true, Beside::SecondLevel) => vec![0],
            (false, Beside::SecondLevel) => {
                IN_SPAN.iter().flat_map(|s| [0, 2, 3].map(|n| *s as usize * 8 + n)).collect()
            }
            (true, Beside::Nothing) => all.filter(|n| [0, 2, 3].contains(&(n % 8))).collect(),
            (true, Beside::Substreams | Beside::Ats) => all.filter(|n| n % 8 < 4).collect(),
            // CDs.
            (false, _) => all.filter(|n| n % 8 < 2).collect(),
        };
        let word = |index| SeenWord { index, seen: AtomicU64::new(0), newest: PlainWord::new(0) };
        let fences = self.hardware.fences.clone();
        let words = words.into_iter().map(word).collect();
        let view = Arc::new(View { address, words, freed: PlainBool::new(false), fences });
        views.push(view.clone());
        let memory = (0..layout.words()).map(|_| PlainWord::new(0)).collect();
        Ok(Block { memory, view })
    }
    fn full_barrier(&self) {
        if is_kept(Seam::FullBarrier) {
            fence(Ordering::SeqCst);
        }
    }
}

pub(crate) struct Sink(pub(crate) Arc<LoomSmmu>);

impl CommandSink for Sink {
    type Ticket = Result<SmmuId, SinkError>;
    type Pushed = SmmuId;

    fn issue(&self, smmu: SmmuId, commands: &[Command]) -> Result<Self::Ticket, SinkError> {
        if self.0.ignores(commands) {
            return Ok(Err(SinkError::timeout(smmu)));
        }
        self.0.carry_out(commands);
        Ok(Ok(smmu))
    }
    fn push(&self, smmu: SmmuId, _: Option<SmmuId>, c: &[Command]) -> Result<SmmuId, SinkError> {
        self.0.carry_out(c);
        Ok(smmu)
    }
    fn prove(&self, smmu: SmmuId, c: &[Command]) -> Result<Self::Ticket, SinkError> {
        self.issue(smmu, c)
    }
    fn wait(&self, ticket: Self::Ticket) -> Result<SyncProof, SinkError> {
        ticket.map(SyncProof::vouch)
    }
}

/// Keeps the owner of each tag.
pub(crate) struct Owners(pub(crate) Arc<LoomSmmu>);

impl Observer for Owners {
    fn notice(&self, notice: Notice) {
        let number = |tag| match tag {
            CacheTag::Asid(_, asid) => asid_tag(asid.0),
            CacheTag::Vmid(vmid) => vmid_tag(vmid.0),
        };
        let (tag, owner) = match notice {
            Notice::TagAllocated { domain, tag, .. } => (tag, Some(domain.0 as usize)),
            Notice::TagAborted { tag, .. }
            | Notice::TagFreed { tag, .. }
            | Notice::TagForgotten { tag, .. } => (tag, None),
            Notice::EntryWritten { .. } => return publish_late_arrays(),
            _ => return,
        };
        self.0.owners.lock().unwrap()[number(tag)] = owner;
    }
}
