//! The preparation of an attach: all that can fail.

use alloc::vec::Vec;
use core::num::NonZeroU32;

use smallvec::SmallVec;
use smmu_invs::{InvArray, InvSpec, InvUsers, Publication, RequestBuffer};
use smmu_types::{CacheTag, Ste};

use crate::ats_switch::{AtsState, AtsUse};
use crate::context::{CdTable, CdTables, LinearTable, NewTable};
use crate::device::{Device, DeviceParts, State};
use crate::held::{Contention, Rank};
use crate::image::{Change, Image, is_two_level};
use crate::key::AttachKey;
use crate::leaf_table::{LeafTable, leaf_of, new_leaf};
use crate::locks::Locks;
use crate::membership::{End, Leads, Member};
use crate::nesting::Nesting;
use crate::platform::{Block, SmmuInstance};
use crate::stream_entry::allocate;
use crate::target::{DomainTag, Fresh, Target, entry_of, find_or_allocate, judge};
use crate::transaction::{FreshTags, Part, PendingPublish, Room, Transaction};
use crate::write::Writing;
use crate::{AttachError, Domain, Platform};

type Parts<P> = SmallVec<[Part<P>; 1]>;

impl<P: Platform> Transaction<P> {
    /// Prepare to attach the transactions of one key of these devices. `devices` ascend by rank.
    ///
    /// Without a new domain, this needs no memory for one device, and cannot fail for lack of any.
    pub(crate) fn prepare(
        &mut self,
        devices: &[Device<P>],
        target: Target<'_, P>,
        contention: Contention,
    ) -> Result<(), AttachError> {
        let wish = Wish::of(target);
        let new = match &wish {
            Wish::Domain(domain, _) => Some(*domain),
            Wish::Bypass | Wish::Blocked => None,
        };
        let key = self.key;
        lock(&mut self.parts, devices, contention)?;
        let Some(first) = self.parts.first() else { return Err(AttachError::EmptyGroup) };
        let out_of_memory = AttachError::OutOfMemory { smmu: first.device().smmu.id };
        for part in &mut self.parts {
            if matches!(key, AttachKey::Substream(_)) && part.device.is_foreign() {
                return Err(part.device.object().foreign_attached());
            }
            if let Some(domain) = new {
                suits(part, domain)?;
            }
            // After a change that the SMMU did not confirm, a fetch may still be in progress. No
            // word may change under it. Blocking goes on all the same: the entries are invalid
            // already.
            let (parts, device) = part.device.split();
            match (device.confirm(parts, contention), &wish) {
                (Ok(()), _) => {}
                (Err(error), Wish::Blocked) => part.path.fail(error),
                (Err(error), _) => return Err(error.into()),
            }
        }
        let olds = self.parts.iter().filter_map(|part| Some(&part.device.member(key)?.domain));
        self.locks = Locks::take(new, olds, contention, out_of_memory)?;
        match &wish {
            Wish::Domain(domain, nesting) => self.join(domain, nesting.as_ref(), out_of_memory),
            Wish::Bypass | Wish::Blocked => leave(&mut self.parts, key, &wish),
        }
    }

    /// The tags, entries and the array of devices that go to a domain.
    fn join(
        &mut self,
        domain: &Domain<P>,
        nesting: Option<&Nesting<'_, P>>,
        out_of_memory: AttachError,
    ) -> Result<(), AttachError> {
        let Transaction { pending, locks, parts, key, .. } = self;
        *pending = Some(join(parts, *key, domain, nesting, locks, out_of_memory)?);
        Ok(())
    }
}

/// What an attach makes of the devices' transactions.
enum Wish<'a, P: Platform> {
    Domain(&'a Domain<P>, Option<Nesting<'a, P>>),
    Bypass,
    Blocked,
}

impl<'a, P: Platform> Wish<'a, P> {
    fn of(target: Target<'a, P>) -> Self {
        match target {
            Target::Domain(domain) => Wish::Domain(domain, None),
            // A guest's entry that lets no transaction in blocks the device as any other.
            #[cfg(feature = "guest")]
            Target::Nested(to, entry) => match Nesting::new(to, entry) {
                Some(nesting) => Wish::Domain(nesting.parent(), Some(nesting)),
                None => Wish::Blocked,
            },
            Target::Bypass => Wish::Bypass,
            Target::Blocked => Wish::Blocked,
        }
    }
}

/// Take the locks of the devices, in their order.
fn lock<P: Platform>(
    parts: &mut Parts<P>,
    devices: &[Device<P>],
    contention: Contention,
) -> Result<(), AttachError> {
    if let Some(first) = devices.first() {
        let out_of_memory = AttachError::OutOfMemory { smmu: first.smmu() };
        parts.try_reserve(devices.len()).map_err(|_| out_of_memory)?;
    }
    let mut holding = Rank::Nothing;
    for device in devices {
        let (smmu, stream) = (device.smmu(), device.first_stream());
        let busy = AttachError::DeviceBusy { smmu, stream };
        let guard = device.lock_as(contention, holding).ok_or(busy)?;
        if guard.removed {
            return Err(AttachError::Removed { smmu, stream });
        }
        if guard.object().smmu.is_gone() {
            return Err(AttachError::Gone { smmu });
        }
        holding = device.rank();
        parts.push(Part::new(guard));
    }
    Ok(())
}

/// Whether the device's SMMU can walk the domain's tables.
fn suits<P: Platform>(part: &Part<P>, domain: &Domain<P>) -> Result<(), AttachError> {
    let smmu = &part.device().smmu;
    if !domain.env().is_same(&smmu.env) {
        return Err(AttachError::ForeignEnv { domain: domain.id(), smmu: smmu.id });
    }
    match domain.description().lacks_with(&smmu.caps, part.device.faults) {
        None => Ok(()),
        Some(lacks) => Err(AttachError::CannotShare { domain: domain.id(), smmu: smmu.id, lacks }),
    }
}

/// The entries of devices that go to no domain.
fn leave<P: Platform>(
    parts: &mut [Part<P>],
    key: AttachKey,
    wish: &Wish<'_, P>,
) -> Result<(), AttachError> {
    for part in parts {
        let device = part.device();
        let becomes = match (wish, key) {
            (Wish::Bypass, AttachKey::Substream(substream)) => {
                return Err(AttachError::SubstreamBypass { smmu: device.smmu.id, substream });
            }
            (Wish::Bypass, AttachKey::Stream) => State::Bypass,
            _ => State::Blocked,
        };
        let live = device.ste().unwrap_or(Ste::INVALID);
        let change = Change { key, becomes: &becomes };
        // An attach has made the same STE before, so no field is out of range. If one were, the
        // SMMU would abort more than it was asked to.
        let image = Image::of(&device.smmu, &part.device, change, None, live, device.ats);
        part.becomes = becomes;
        part.take(&image.unwrap_or(Image::ABORT));
    }
    Ok(())
}

/// What the device asks of the domain's array: the tag, and the entries of its own cache.
fn request<P: Platform>(
    device: &DeviceParts<P>,
    key: AttachKey,
    domain: &Domain<P>,
    tag: CacheTag,
) -> Result<RequestBuffer, AttachError> {
    let smmu = &device.smmu;
    let spec = InvSpec::tagged(smmu.id, tag, smmu.caps.range_support());
    if device.ats == AtsUse::Never {
        let mut request = RequestBuffer::with_capacity(1)?;
        request.push(spec)?;
        return Ok(request);
    }
    if domain.cell().gate().is_none() {
        return Err(AttachError::NoAtsGate { domain: domain.id(), smmu: smmu.id });
    }
    let substream = match key {
        AttachKey::Stream => None,
        AttachKey::Substream(id) => Some(id),
    };
    let mut request = RequestBuffer::with_capacity(1 + device.entries.len())?;
    request.push(spec)?;
    for entry in &device.entries {
        request.push(InvSpec::ats(smmu.id, entry.stream, substream))?;
    }
    Ok(request)
}

/// The tags, entries and the array of devices that go to a domain.
fn join<P: Platform>(
    parts: &mut [Part<P>],
    key: AttachKey,
    domain: &Domain<P>,
    nesting: Option<&Nesting<'_, P>>,
    locks: &Locks<P>,
    out_of_memory: AttachError,
) -> Result<PendingPublish<P>, AttachError> {
    let state = locks.of(domain);
    let owned = state.map_or(&[][..], |state| &state.tags);
    let same_smmu = |a: &Part<P>, b: &Part<P>| a.device().smmu.instance == b.device().smmu.instance;
    let smmus = parts.chunk_by(same_smmu).count();
    let mut room = None;
    let mut fresh: SmallVec<[(Fresh<'_, P>, SmmuInstance); 1]> = SmallVec::new();
    fresh.try_reserve(smmus).map_err(|_| out_of_memory)?;
    let mut tag_of: Option<(SmmuInstance, CacheTag)> = None;
    for part in &mut *parts {
        let (device, holds) = part.device.split();
        let smmu = &*device.smmu;
        let out_of_memory = AttachError::OutOfMemory { smmu: smmu.id };
        holds.may_use(key, domain, smmu.id)?;
        holds.reserve(key).map_err(|_| out_of_memory)?;
        if let Some(nesting) = nesting {
            nesting.check(device, key)?;
        }
        // The devices of one SMMU are neighbours, and share the tag.
        let tag = match (tag_of, nesting) {
            (_, Some(nesting)) => nesting.use_tag(),
            (Some((instance, tag)), _) if instance == smmu.instance => tag,
            _ => match find_or_allocate(smmu, domain, owned)? {
                DomainTag::Found(shared) => shared.tag(),
                DomainTag::New(tag, new) => {
                    fresh.push((new, smmu.instance));
                    if let (None, Some(state)) = (&room, state) {
                        let made = Room::beside(state, smmus, domain.virtual_smmus());
                        room = Some(made.map_err(|_| out_of_memory)?);
                    }
                    tag
                }
            },
        };
        tag_of = Some((smmu.instance, tag));
        let (request, leads) = match nesting {
            Some(nesting) => (nesting.request(device)?, Leads::Stage2(nesting.entry())),
            None => {
                let ats = AtsState::mode(device.ats != AtsUse::Never);
                (
                    request(device, key, domain, tag)?,
                    entry_of(smmu, domain, tag, ats, holds.faults)?,
                )
            }
        };
        if let Leads::Context(_) = leads {
            part.new = new_table(device, &mut holds.cds, key)?;
        }
        let via = nesting.map(Nesting::via);
        let member = Member { domain: domain.clone(), request, leads, via, end: End::Open };
        let cd = member.context();
        part.becomes = State::Member(member);
        let live = device.ste().unwrap_or(Ste::INVALID);
        let change = Change { key, becomes: &part.becomes };
        let image = Image::of(smmu, holds, change, part.new.as_ref(), live, device.ats)?;
        judge(smmu, domain, &image.ste, cd.as_ref())?;
        part.take(&image);
    }
    let merged = merge(parts, domain, out_of_memory)?;
    let node = P::Cell::node(merged).map_err(|_| out_of_memory)?;
    let mut tags = FreshTags::new();
    tags.try_reserve(fresh.len()).map_err(|_| out_of_memory)?;
    // From here on nothing fails.
    tags.extend(fresh.into_iter().filter_map(|(tag, smmu)| Some((tag.keep()?, smmu))));
    Ok(PendingPublish { fresh: room.map(|room| (tags, room)), node })
}

/// The memory that the CD of a key needs, and that the device does not have.
fn new_table<P: Platform>(
    device: &DeviceParts<P>,
    cds: &mut CdTables<Block<P>>,
    key: AttachKey,
) -> Result<Option<NewTable<Block<P>>>, AttachError> {
    let (smmu, bits) = (&*device.smmu, device.substream_bits);
    let linear = |log2| {
        let block = allocate(smmu.id, smmu.env.dma(), LinearTable::<Block<P>>::bytes(log2))?;
        Ok::<_, AttachError>(LinearTable::new(block, log2))
    };
    let AttachKey::Substream(id) = key else {
        let missing = cds.single.is_none();
        return Ok(if missing { Some(NewTable::Single(linear(0)?)) } else { None });
    };
    let out_of_memory = AttachError::OutOfMemory { smmu: smmu.id };
    let (substream, dma) = (id.get() as usize, smmu.env.dma());
    if cds.all.is_none() {
        if !is_two_level(&smmu.caps, bits) {
            return Ok(Some(NewTable::All(CdTable::Linear(linear(bits)?))));
        }
        let mut table = LeafTable::new(smmu.id, bits, dma)?;
        if !table.has_leaf(substream) {
            table.reserve().map_err(|_| out_of_memory)?;
            table.add_leaf(leaf_of(substream), new_leaf(smmu.id, dma)?);
        }
        return Ok(Some(NewTable::All(CdTable::TwoLevel(table))));
    }
    match cds.leaves_mut() {
        Some(table) if !table.has_leaf(substream) => {
            table.reserve().map_err(|_| out_of_memory)?;
            Ok(Some(NewTable::Leaf(leaf_of(substream), new_leaf(smmu.id, dma)?)))
        }
        _ => Ok(None),
    }
}

/// The domain's array with one user more for each device.
fn merge<P: Platform>(
    parts: &[Part<P>],
    domain: &Domain<P>,
    out_of_memory: AttachError,
) -> Result<InvArray, AttachError> {
    let requests = || parts.iter().filter_map(Part::request);
    if let ([_], Some(request)) = (parts, requests().next()) {
        return Ok(domain.cell().read().merge(request)?);
    }
    let mut all: Vec<InvUsers> = Vec::new();
    let most = requests().map(<[InvSpec]>::len).sum();
    all.try_reserve_exact(most).map_err(|_| out_of_memory)?;
    all.extend(requests().flatten().map(|&spec| InvUsers { spec, users: NonZeroU32::MIN }));
    all.sort_unstable_by_key(|wanted| wanted.spec.key);
    all.dedup_by(|next, first| {
        let same = next.spec == first.spec;
        if same {
            first.users = first.users.saturating_add(next.users.get());
        }
        same
    });
    Ok(domain.cell().read().merge_users(&all)?)
}
