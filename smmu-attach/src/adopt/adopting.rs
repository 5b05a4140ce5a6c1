//! Takes over a running SMMU: reserves its tags, keeps chosen streams, and aborts all others.

use alloc::vec::Vec;
use core::fmt;
use core::mem;
use core::sync::atomic::Ordering;

use hashbrown::HashMap;
use smmu_invs::Counted;
use smmu_tags::{AsidSpace, FreshTag, TagError, VmidSpace};
use smmu_types::regs::strtab::StreamTableFormat;
use smmu_types::seam::{CommandSink, DmaBlock, DmaLayout, SinkError};
use smmu_types::{Asid, AtsMode, CacheTag, Capabilities, Command, PhysAddr, SmmuId, Ste, StreamId};

use super::doubt::AdoptError;
use super::memory::AdoptMemory;
use super::read::LiveStream;
use super::survey::Survey;
use super::tags::{ForeignTags, Holding, NumberUse, Row, share_asid};
use crate::batch::wait;
use crate::entry::{self, EntrySlot};
use crate::foreign_streams::{ForeignStream, ForeignStreams};
use crate::platform::Block;
use crate::smmu_core::{SmmuCore, SmmuParts};
use crate::stream_table::StreamTable;
use crate::{AttachError, Env, Platform, Smmu, SmmuConfig};

/// What becomes of a live stream when its SMMU is taken over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// It runs on, on the tables of its old owner.
    Running,
    /// The SMMU aborts it.
    #[default]
    Abort,
}

/// What [`Smmu::adopt`] takes over.
pub struct Adoption<'a, P: Platform> {
    survey: &'a Survey,
    beside: Option<&'a SmmuCore<P>>,
}

impl<'a, P: Platform> Adoption<'a, P> {
    /// The tables of a survey.
    #[must_use]
    pub const fn new(survey: &'a Survey) -> Self {
        Adoption { survey, beside: None }
    }

    /// With the ASID space of an SMMU that was taken over before, from the same old owner. An ASID
    /// that both use stays reserved until the last stream of both has left it.
    #[must_use]
    pub fn beside(self, first: &'a Smmu<P>) -> Self {
        Adoption { beside: Some(first.core()), ..self }
    }

    /// [`beside`](Self::beside) an SMMU that is not taken over yet.
    ///
    /// Either may be taken over first, or given up: an ASID that both use stays reserved while one of
    /// them is left. A third SMMU of the space names the second, and so on.
    #[must_use]
    pub fn beside_adopting(self, first: &'a Adopting<P>) -> Self {
        Adoption { beside: Some(&first.core), ..self }
    }
}

impl<P: Platform> fmt::Debug for Adoption<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let beside = self.beside.map(|core| core.id);
        f.debug_struct("Adoption").field("beside", &beside).finish_non_exhaustive()
    }
}

/// An SMMU that can be taken over, and is not yet. Nothing has changed.
///
/// Dropping it gives the tags back, unless [`abort_others`](Self::abort_others) has begun.
#[must_use = "the SMMU is not taken over before abort_others"]
pub struct Adopting<P: Platform> {
    smmu: Smmu<P>,
    core: SmmuCore<P>,
    /// The memory of all STEs, with the first StreamID of each.
    arrays: Vec<(u32, Counted<Block<P>>)>,
    /// Ascending.
    kept: Vec<StreamId>,
    progress: Progress,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    Prepared,
    Begun,
    /// The SMMU did not confirm a step, and may hold any entry of it.
    Unconfirmed,
}

/// The SMMU did not confirm that it aborts the streams that are not kept.
///
/// Their entries are invalid in memory, and the SMMU may still use the old ones. The kept streams run.
/// All tags stay reserved, and all tables mapped.
#[must_use = "dropping it leaves an SMMU that is half taken over: turn the SMMU off then"]
pub struct AbortUnconfirmed<P: Platform> {
    adopting: Adopting<P>,
    error: SinkError,
}

impl<P: Platform> AbortUnconfirmed<P> {
    /// What the SMMU did not confirm.
    #[must_use]
    pub const fn error(&self) -> SinkError {
        self.error
    }

    /// The SMMU, to try again.
    pub fn into_adopting(self) -> Adopting<P> {
        self.adopting
    }
}

impl<P: Platform> fmt::Debug for AbortUnconfirmed<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AbortUnconfirmed").field("error", &self.error).finish_non_exhaustive()
    }
}

impl<P: Platform> Smmu<P>
where
    P::Dma: AdoptMemory,
{
    /// Prepare to take over a running SMMU, on the stream table that it uses.
    ///
    /// `keep` decides for each stream of the survey. `caps` are what the driver relies on, as for
    /// [`new`](Self::new); the ID registers are those of the survey. [`SmmuConfig::stream_bits`] has
    /// no effect: the table is as large as it is.
    ///
    /// Reads the tables once more, and writes nothing.
    ///
    /// # Errors
    ///
    /// The table has a form that this crate does not use, cannot be mapped, or has changed since the
    /// survey; a tag is not free; or memory is short. Nothing has changed.
    pub fn adopt(
        env: &Env<P>,
        id: SmmuId,
        caps: Capabilities,
        config: SmmuConfig,
        adoption: Adoption<'_, P>,
        mut keep: impl FnMut(&LiveStream<'_>) -> Keep,
    ) -> Result<Adopting<P>, AdoptError> {
        let out_of_memory = AttachError::OutOfMemory { smmu: id };
        let Adoption { survey, beside } = adoption;
        let table = map(env, id, survey)?;
        check(id, &table, survey)?;
        let arrays = table.arrays().map_err(|_| out_of_memory)?;

        let mut found = Found::default();
        for live in survey.streams() {
            if keep(&live) == Keep::Running {
                found.add(&live, &caps).map_err(|_| out_of_memory)?;
            }
        }
        let mut kept = Vec::new();
        kept.try_reserve_exact(found.streams.len()).map_err(|_| out_of_memory)?;
        kept.extend(found.streams.iter().map(|foreign| foreign.stream));

        let asids = match (beside, config.asids) {
            (Some(first), _) => first.asids.clone(),
            (None, Some(shared)) => shared,
            (None, None) => AsidSpace::new(caps.asid_bits).map_err(AttachError::from)?,
        };
        let vmids = VmidSpace::with_config(id, caps.vmid_bits, config.vmids);
        let vmids = vmids.map_err(AttachError::from)?;
        let tags = beside.map(|first| &first.foreign);
        let claims = Claims { id, caps: &caps, asids: &asids, vmids: &vmids, beside: tags };
        let rows = claims.rows(found.users)?;

        let rules = *survey.tables().smmu();
        let before = beside.map_or(ForeignTags::NONE, |first| first.foreign.clone());
        let foreign = ForeignTags::new(rows, before).map_err(AttachError::from)?;
        let parts = SmmuParts::new(id, caps, rules, asids, vmids, env.clone());
        let core = Counted::new(SmmuParts { foreign: foreign.clone(), ..parts });
        let core = core.map_err(|error| {
            foreign.abandon();
            AttachError::from(error)
        })?;
        let streams = ForeignStreams { streams: found.streams, tags: found.tags };
        let made = Smmu::of_parts(core.clone(), table, streams);
        let progress = Progress::Prepared;
        match made {
            Ok(smmu) => Ok(Adopting { smmu, core, arrays, kept, progress }),
            Err(error) => {
                foreign.abandon();
                Err(AttachError::from(error).into())
            }
        }
    }
}

impl<P: Platform> Adopting<P> {
    /// Take the SMMU over: abort each stream that is not kept, and make the SMMU forget all that it has
    /// cached. The command queue works already.
    ///
    /// Steps, each confirmed by one `CMD_SYNC`:
    ///
    /// 1. Hold the tags of the kept streams. From here on their numbers are never given out without a
    ///    flush.
    /// 2. Write `Config` = 0 to each other STE, by the steps of [`entry`](mod@entry), and send `CFGI_ALL`.
    ///    One to three rounds: the SMMU forgets also what the old owner changed and did not invalidate.
    ///    A kept STE is not written.
    /// 3. Send `TLBI_EL2_ALL` (if the SMMU has EL2) and `TLBI_NSNH_ALL`: no translation of an aborted
    ///    stream is left, so its tag is free. A kept stream walks its tables again.
    ///
    /// # Errors
    ///
    /// The SMMU does not confirm, or another owner still writes the table.
    pub fn abort_others(mut self) -> Result<Smmu<P>, AbortUnconfirmed<P>> {
        if self.progress == Progress::Prepared {
            self.core.foreign.hold();
        }
        let after = mem::replace(&mut self.progress, Progress::Begun);
        match self.write(after) {
            Ok(()) => Ok(self.smmu.clone()),
            Err(error) => {
                self.progress = Progress::Unconfirmed;
                Err(AbortUnconfirmed { adopting: self, error })
            }
        }
    }

    fn write(&self, after: Progress) -> Result<(), SinkError> {
        if after == Progress::Unconfirmed {
            // A fetch that began before the failure may mix old and new words.
            self.run(&[Command::CfgiAll])?;
        }
        let written = self.abort_rounds();
        if written.is_err() {
            self.others(|slot| {
                if slot.read::<Ste>() != Ste::ABORT {
                    slot.invalidate();
                }
            });
        }
        written?;
        match self.core.caps.hyp {
            true => self.run(&[Command::TlbiEl2All, Command::TlbiNsnhAll]),
            false => self.run(&[Command::TlbiNsnhAll]),
        }
    }

    fn abort_rounds(&self) -> Result<(), SinkError> {
        // The way of an entry has at most three steps.
        for round in 0..=3 {
            let mut stored = false;
            self.others(|slot| stored |= entry::advance(slot, &Ste::ABORT));
            if !stored && round > 0 {
                return Ok(());
            }
            // Also without a store: the old owner may have changed an STE, and its CFGI_STE is cut off.
            self.run(&[Command::CfgiAll])?;
            if !stored {
                return Ok(());
            }
        }
        Err(SinkError::timeout(self.core.id))
    }

    /// Call `each` with the STE of each stream that is not kept.
    fn others(&self, mut each: impl FnMut(&EntrySlot<'_, Block<P>>)) {
        for (first, block) in &self.arrays {
            for index in 0..block.words().len() / (Ste::BYTES / 8) {
                let stream = StreamId(first.wrapping_add(index as u32));
                if self.kept.binary_search(&stream).is_err()
                    && let Some(slot) = EntrySlot::new(&**block, index)
                {
                    each(&slot);
                }
            }
        }
    }

    fn run(&self, commands: &[Command]) -> Result<(), SinkError> {
        let (sink, id) = (self.core.env.sink(), self.core.id);
        let ticket = sink.issue(id, commands)?;
        wait(sink, id, ticket)
    }
}

impl<P: Platform> Drop for Adopting<P> {
    fn drop(&mut self) {
        if self.progress == Progress::Prepared {
            self.core.foreign.abandon();
        }
    }
}

impl<P: Platform> fmt::Debug for Adopting<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = self.kept.len();
        f.debug_struct("Adopting").field("smmu", &self.core.id).field("kept", &kept).finish()
    }
}

/// Map the stream table where it is.
fn map<P: Platform>(
    env: &Env<P>,
    smmu: SmmuId,
    survey: &Survey,
) -> Result<StreamTable<Block<P>>, AdoptError>
where
    P::Dma: AdoptMemory,
{
    let shape = survey.shape();
    let format = match shape.split {
        None => StreamTableFormat::Linear { log2: shape.log2 },
        Some(split) => StreamTableFormat::TwoLevel { log2: shape.log2, split },
    };
    let bytes = format.bytes().map_err(AttachError::from)?;
    let mapped = |address: PhysAddr, bytes: u64| {
        let refused = smmu_types::seam::DmaError { bytes, align: bytes };
        let layout = DmaLayout::naturally_aligned(bytes).ok_or(refused);
        let block = layout.and_then(|layout| env.dma().adopt(address, layout));
        let block = block.map_err(|error| AdoptError::Map { smmu, address, error })?;
        if block.address() != address || block.words().len() as u64 != bytes.div_ceil(8) {
            return Err(AdoptError::Map { smmu, address, error: refused });
        }
        block.observe(0..block.words().len());
        Ok(block)
    };
    let mut table = StreamTable::over(mapped(shape.base, bytes)?, format)?;
    table
        .second
        .try_reserve(2 * shape.arrays.len())
        .map_err(|_| AttachError::OutOfMemory { smmu })?;
    for array in &shape.arrays {
        let Some((address, stes)) = shape.stes(array) else { continue };
        // At most 64 KiB, and no more than `split` allows: the survey has judged it.
        let block = mapped(address, Ste::BYTES as u64 * stes)?;
        table.adopt_second(array.index, block, array.descriptor.0[0])?;
    }
    Ok(table)
}

/// Compare the mapped table with what the survey read of it.
fn check<B: DmaBlock>(
    smmu: SmmuId,
    table: &StreamTable<B>,
    survey: &Survey,
) -> Result<(), AdoptError> {
    let shape = survey.shape();
    for array in &shape.arrays {
        let address = PhysAddr(shape.base.0 + u64::from(array.index) * 8);
        let word = table.root_word(array.index).map(|word| word.load(Ordering::Relaxed));
        if word != Some(array.descriptor.0[0]) {
            return Err(AdoptError::Differs { smmu, address });
        }
    }
    for live in survey.streams() {
        let entry = table.entry(live.stream);
        let read = entry.as_ref().and_then(|(entry, _)| Some(entry.slot()?.read::<Ste>()));
        if read != Some(live.ste) {
            let address = entry.map_or(shape.base, |(entry, _)| {
                PhysAddr(entry.table.address().0 + (entry.index * Ste::BYTES) as u64)
            });
            return Err(AdoptError::Differs { smmu, address });
        }
    }
    Ok(())
}

/// The streams that are kept, and the uses of their tags.
#[derive(Default)]
struct Found {
    streams: Vec<ForeignStream>,
    tags: Vec<CacheTag>,
    users: HashMap<CacheTag, u64>,
    last: Option<Ste>,
}

impl Found {
    fn add(&mut self, live: &LiveStream<'_>, caps: &Capabilities) -> Result<(), NoRoom> {
        for tag in live.tags() {
            self.users.try_reserve(1).map_err(|_| NoRoom)?;
            *self.users.entry(tag).or_insert(0) += 1;
        }
        let tags = match self.streams.last() {
            // Streams of one device share the list.
            Some(before) if self.last == Some(live.ste) => before.tags.clone(),
            _ => {
                let from = self.tags.len();
                for tag in live.tags() {
                    self.tags.try_reserve(1).map_err(|_| NoRoom)?;
                    self.tags.push(tag);
                }
                from..self.tags.len()
            }
        };
        self.last = Some(live.ste);
        self.streams.try_reserve(1).map_err(|_| NoRoom)?;
        let has_ats = caps.ats && live.ste.ats() != AtsMode::Off;
        self.streams.push(ForeignStream { stream: live.stream, has_ats, tags, taken: false });
        Ok(())
    }
}

/// No memory for a list.
struct NoRoom;

/// Reserves numbers in the tag spaces.
struct Claims<'a, P: Platform> {
    id: SmmuId,
    caps: &'a Capabilities,
    asids: &'a AsidSpace,
    vmids: &'a VmidSpace,
    beside: Option<&'a ForeignTags<P>>,
}

impl<P: Platform> Claims<'_, P> {
    fn rows(&self, users: HashMap<CacheTag, u64>) -> Result<Vec<Row<P>>, AdoptError> {
        let smmu = self.id;
        let out_of_memory = AttachError::OutOfMemory { smmu };
        let (mut tags, mut rows) = (Vec::new(), Vec::new());
        let room = tags.try_reserve_exact(users.len()).and(rows.try_reserve_exact(users.len()));
        room.map_err(|_| out_of_memory)?;
        tags.extend(users);
        tags.sort_unstable();
        for (tag, users) in tags {
            let taken = |error| AdoptError::Tag { smmu, tag, error };
            let number = match self.claim(&rows, tag).map_err(taken)? {
                Claim::Nothing => Holding::Nothing,
                Claim::Shared(number) => Holding::Use(number),
                Claim::Fresh(number) => {
                    Holding::Use(NumberUse::new(number).map_err(AttachError::from)?)
                }
            };
            rows.push(Row { tag, users, number });
        }
        Ok(rows)
    }

    fn claim(&self, rows: &[Row<P>], tag: CacheTag) -> Result<Claim<P>, TagError> {
        let (regime, asid) = match tag {
            CacheTag::Vmid(vmid) => return self.vmids.claim(vmid).map(Claim::Fresh),
            // A space never gives out 0.
            CacheTag::Asid(_, Asid(0)) => return Ok(Claim::Nothing),
            CacheTag::Asid(regime, asid) => (regime, asid),
        };
        // Both regimes may have the number, and so may an SMMU that shares the space.
        let shared =
            share_asid(rows, asid).or_else(|| self.beside.and_then(|first| first.share(asid)));
        match shared {
            Some(number) => Ok(Claim::Shared(number)),
            None => {
                let claimed = self.asids.claim(self.id, regime, self.caps.asid_bits, asid);
                claimed.map(Claim::Fresh)
            }
        }
    }
}

enum Claim<P: Platform> {
    Nothing,
    Shared(NumberUse<P>),
    Fresh(FreshTag),
}
