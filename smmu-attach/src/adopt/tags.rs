//! The tags of streams that another owner attached: reserved until the last such stream has left.
//!
//! 1. A number that the running tables use is not given out before [`ForeignTags::release`] of its
//!    last use has a proof of its flush.
//! 2. A number of a shared ASID space stays taken while one SMMU of the space has a use of it.
//!    The first SMMU that holds the number makes it so, also if another one has claimed it.
//! 3. A use is released once: the device whose entries led to the tag holds it, under its lock.
//! 4. A table that is dropped quarantines the numbers of its rows, and frees its memory.

use alloc::vec::Vec;
use core::mem;
use core::sync::atomic::{AtomicUsize, Ordering};

use lock_api::Mutex;
use smmu_invs::Counted;
use smmu_tags::{FreshTag, InUseTag, RetiringTag};
use smmu_types::seam::{CommandSink, Notice, Observer, SinkError};
use smmu_types::{
    Asid, CacheTag, Command, FlushProof, GoneProof, OutOfMemory, Regime, SmmuId, Vmid,
};

use crate::{Env, Platform};

/// A number of a tag space, for all rows that use it, of one SMMU or several.
struct Number<P: Platform> {
    rows: AtomicUsize,
    /// `None` after the last row.
    tag: Mutex<P::Lock, Option<Claimed>>,
}

enum Claimed {
    /// No SMMU with the number is taken over yet. Dropping it frees the number.
    Fresh(FreshTag),
    Held(InUseTag),
}

/// One row's use of a number. Dropping it gives the use back. The last one frees a fresh number. A held
/// number stays taken: the space quarantines it.
pub(crate) struct NumberUse<P: Platform>(Option<Counted<Number<P>>>);

impl<P: Platform> NumberUse<P> {
    pub(crate) fn new(tag: FreshTag) -> Result<Self, OutOfMemory> {
        let (rows, tag) = (AtomicUsize::new(1), Mutex::new(Some(Claimed::Fresh(tag))));
        Ok(NumberUse(Some(Counted::new(Number { rows, tag })?)))
    }

    /// Another row that uses the number. The caller's row keeps the number taken.
    fn share(&self) -> Self {
        if let Some(number) = &self.0 {
            number.rows.fetch_add(1, Ordering::Relaxed);
        }
        NumberUse(self.0.clone())
    }

    /// Hold a number that the SMMU already uses.
    fn hold(&self) {
        let Some(number) = &self.0 else { return };
        let mut tag = number.tag.lock();
        *tag = match tag.take() {
            Some(Claimed::Fresh(fresh)) => Some(Claimed::Held(fresh.install())),
            held => held,
        };
    }

    /// Give up the memory, not the use: no other row is the last one any more. The number stays taken,
    /// and counts as quarantined after the last row.
    fn never_end(mut self) {
        self.0 = None;
    }

    /// The tag, if this was the last use.
    fn end(mut self) -> Option<InUseTag> {
        let number = self.0.take()?;
        // AcqRel: the last row sees what the others did before they ended.
        let last = number.rows.fetch_sub(1, Ordering::AcqRel) == 1;
        let tag = if last { number.tag.lock().take() } else { None };
        match tag {
            Some(Claimed::Held(tag)) => Some(tag),
            // No row of an SMMU that is taken over: the number is free.
            Some(Claimed::Fresh(_)) | None => None,
        }
    }
}

impl<P: Platform> Drop for NumberUse<P> {
    fn drop(&mut self) {
        if let Some(number) = &self.0 {
            number.rows.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// A tag of one SMMU's streams.
pub(crate) struct Row<P: Platform> {
    pub(crate) tag: CacheTag,
    /// Uses: one for each stream that leads to the tag.
    pub(crate) users: u64,
    pub(crate) number: Holding<P>,
}

/// What a row holds of the tag space.
pub(crate) enum Holding<P: Platform> {
    /// Nothing: a space never gives out 0, or the last use has ended.
    Nothing,
    Use(NumberUse<P>),
    /// No row uses the number. Its flush is not proven.
    Retiring(RetiringTag),
}

/// The tags of one SMMU's foreign streams. None for an SMMU that was not taken over.
pub(crate) struct ForeignTags<P: Platform>(Option<Counted<TagTable<P>>>);

struct TagTable<P: Platform> {
    /// Ascending.
    rows: Mutex<P::Lock, Vec<Row<P>>>,
    /// Those of an SMMU of the same ASID space that was claimed before.
    beside: ForeignTags<P>,
}

impl<P: Platform> Clone for ForeignTags<P> {
    fn clone(&self) -> Self {
        ForeignTags(self.0.clone())
    }
}

impl<P: Platform> ForeignTags<P> {
    pub(crate) const NONE: Self = ForeignTags(None);

    pub(crate) fn new(rows: Vec<Row<P>>, beside: Self) -> Result<Self, OutOfMemory> {
        let table = Counted::new(TagTable { rows: Mutex::new(Vec::new()), beside })?;
        // Behind the allocation: a table that is dropped keeps the numbers of its rows taken.
        *table.rows.lock() = rows;
        Ok(ForeignTags(Some(table)))
    }

    /// A use of an ASID that a row holds, in whichever regime: of this SMMU, or of those beside it.
    pub(crate) fn share(&self, asid: Asid) -> Option<NumberUse<P>> {
        let mut tags = self;
        while let Some(table) = &tags.0 {
            let found = share_asid(&table.rows.lock(), asid);
            if found.is_some() {
                return found;
            }
            tags = &table.beside;
        }
        None
    }

    /// Give up rows whose SMMU is not taken over after all.
    pub(crate) fn abandon(&self) {
        let Some(table) = &self.0 else { return };
        // The lock is released first, then the rows are freed.
        let rows = mem::take(&mut *table.rows.lock());
        drop(rows);
    }

    /// Hold the numbers that the SMMU already uses.
    pub(crate) fn hold(&self) {
        let Some(table) = &self.0 else { return };
        for row in table.rows.lock().iter() {
            if let Holding::Use(number) = &row.number {
                number.hold();
            }
        }
    }

    /// End one use of a tag, whose stream the SMMU has confirmed to have forgotten. After the last
    /// one, flush the tag and free its number. Returns the tag if the number is free.
    ///
    /// # Errors
    ///
    /// The SMMU does not confirm the flush. The use stays, and the caller asks again.
    pub(crate) fn release(
        &self,
        env: &Env<P>,
        smmu: SmmuId,
        tag: CacheTag,
    ) -> Result<Option<CacheTag>, SinkError> {
        let Some(mut held) = self.take_last(tag) else { return Ok(None) };
        let freed = match flush(env, smmu, tag, &held) {
            Ok(()) => {
                free(env, &mut held, |tag| FlushProof::obtain(env.sink(), tag.smmu(), tag.tag()))
            }
            Err(error) => Err(error),
        };
        match freed {
            Ok(freed) => {
                self.put(tag, 0, Holding::Nothing);
                Ok(freed)
            }
            Err(error) => {
                env.observer().notice(Notice::TagQuarantined { smmu, tag, error });
                self.put(tag, 1, held);
                Err(error)
            }
        }
    }

    /// End one use of a tag, because the SMMU is gone.
    pub(crate) fn forget(&self, env: &Env<P>, tag: CacheTag, proof: &GoneProof) {
        let Some(mut held) = self.take_last(tag) else { return };
        // A number that was held for another SMMU of the space is proven there. If that SMMU does
        // not answer, the number is lost.
        let freed = free(env, &mut held, |tag| match tag.smmu() == proof.smmu() {
            true => Ok(proof.flush(tag.tag())),
            false => FlushProof::obtain(env.sink(), tag.smmu(), tag.tag()),
        });
        self.put(tag, 0, Holding::Nothing);
        if let Ok(Some(tag)) = freed {
            env.observer().notice(Notice::TagForgotten { smmu: proof.smmu(), tag });
        }
    }

    /// End a use, unless it is the last: then take what the row holds.
    fn take_last(&self, tag: CacheTag) -> Option<Holding<P>> {
        let mut rows = self.0.as_ref()?.rows.lock();
        let at = rows.binary_search_by_key(&tag, |row| row.tag).ok()?;
        let row = rows.get_mut(at)?;
        match row.users {
            0 => None,
            // The caller is the only one: the last use is its own.
            1 => Some(mem::replace(&mut row.number, Holding::Nothing)),
            _ => {
                row.users -= 1;
                None
            }
        }
    }

    fn put(&self, tag: CacheTag, users: u64, number: Holding<P>) {
        let Some(table) = &self.0 else { return };
        let mut rows = table.rows.lock();
        if let Ok(at) = rows.binary_search_by_key(&tag, |row| row.tag)
            && let Some(row) = rows.get_mut(at)
        {
            (row.users, row.number) = (users, number);
        }
    }
}

/// A use of an ASID that a row holds. `rows` ascend.
pub(crate) fn share_asid<P: Platform>(rows: &[Row<P>], asid: Asid) -> Option<NumberUse<P>> {
    [Regime::El1, Regime::El2].into_iter().find_map(|regime| {
        let tag = CacheTag::Asid(regime, asid);
        let at = rows.binary_search_by_key(&tag, |row| row.tag).ok()?;
        match &rows.get(at)?.number {
            Holding::Use(held) => Some(held.share()),
            Holding::Nothing | Holding::Retiring(_) => None,
        }
    })
}

impl<P: Platform> Drop for TagTable<P> {
    fn drop(&mut self) {
        // The SMMU may still use the tags, so no other SMMU of the space frees their numbers.
        for row in self.rows.get_mut().drain(..) {
            match row.number {
                Holding::Use(number) => number.never_end(),
                Holding::Retiring(tag) => tag.quarantine(),
                Holding::Nothing => {}
            }
        }
    }
}

/// Flush what this SMMU has cached with a tag of stage 1, global entries included: their owner need not
/// have set `nG`. The proof of a VMID's flush covers all of it.
fn flush<P: Platform>(
    env: &Env<P>,
    smmu: SmmuId,
    tag: CacheTag,
    held: &Holding<P>,
) -> Result<(), SinkError> {
    let command = match (tag, held) {
        (CacheTag::Vmid(_), _) | (_, Holding::Retiring(_)) => return Ok(()),
        (CacheTag::Asid(Regime::El1, _), _) => Command::TlbiNhAll { vmid: Vmid(0) },
        (CacheTag::Asid(Regime::El2, _), _) => Command::TlbiEl2All,
    };
    let proof = env.sink().run(smmu, &[command])?;
    match proof.smmu() == smmu {
        true => Ok(()),
        false => Err(SinkError::ForeignProof { want: smmu, got: proof.smmu() }),
    }
}

/// Free a number that no row uses.
fn free<P: Platform>(
    env: &Env<P>,
    held: &mut Holding<P>,
    prove: impl FnOnce(&RetiringTag) -> Result<FlushProof, SinkError>,
) -> Result<Option<CacheTag>, SinkError> {
    let retiring = match mem::replace(held, Holding::Nothing) {
        Holding::Nothing => return Ok(None),
        Holding::Use(last) => match last.end() {
            Some(tag) => tag.retire(),
            None => return Ok(None),
        },
        Holding::Retiring(tag) => tag,
    };
    match prove(&retiring) {
        Ok(proof) => {
            let smmu = retiring.smmu();
            // No `Err`: the proof names this tag. Dropping the error would quarantine the number.
            let freed = retiring.free(proof).ok();
            if let Some(tag) = freed {
                env.observer().notice(Notice::TagFreed { smmu, tag });
            }
            Ok(freed)
        }
        Err(error) => {
            *held = Holding::Retiring(retiring);
            Err(error)
        }
    }
}
