//! What every step of one transaction carries, and what the steps do.

use alloc::collections::TryReserveError;
use alloc::vec::Vec;
use core::mem;

use smallvec::SmallVec;
use smmu_invs::{InvArray, InvSpec, Publication};
use smmu_tags::{FreshTag, RetiringTag};
use smmu_types::seam::{Notice, Observer, SinkError};
use smmu_types::{AtsMode, Cd};

use crate::ats_switch::{AtcPart, AtsState, AtsUse};
use crate::context::{CdTable, NewTable};
use crate::device::{Confirmation, DeviceGuard, DeviceParts, State};
use crate::domain::{DomainState, Owned};
use crate::image::{CdWrite, Change, Image};
use crate::key::AttachKey;
use crate::leaf_table::LeafTable;
use crate::locks::Locks;
use crate::membership::{End, Member, release};
use crate::outcome::Outcome;
use crate::platform::{Block, SmmuInstance};
use crate::sync::{Barrier, is_kept};
use crate::target::abort;
use crate::write::{Path, Writing, give_up, write_entries};
use crate::{Domain, Platform};

/// State that every step of one transaction carries.
///
/// A dropped transaction ends where it is: what is prepared is undone, what is published is
/// withdrawn, what is installed is committed.
pub(crate) struct Transaction<P: Platform> {
    pub(crate) stage: Stage,
    /// What `publish` makes visible, if the devices go to a domain.
    pub(crate) pending: Option<PendingPublish<P>>,
    // The locks drop in this order: the domains' before the devices'.
    pub(crate) locks: Locks<P>,
    /// In the order of their locks, so the devices of one SMMU are neighbours.
    pub(crate) parts: SmallVec<[Part<P>; 1]>,
    pub(crate) key: AttachKey,
}

/// The last step that a transaction has taken.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Prepared,
    Published,
    /// The entries are written, or were about to be when a seam panicked.
    Installed,
    Ended,
}

/// One device of a transaction.
pub(crate) struct Part<P: Platform> {
    pub(crate) device: DeviceGuard<P>,
    pub(crate) becomes: State<P>,
    /// The CDs that are written before the first step.
    pub(crate) cds: CdWrite,
    /// The way of the entries. It has failed if the SMMU still does not confirm an earlier change:
    /// then the entries stay invalid.
    pub(crate) path: Path,
    /// Whether the STE has `EATS` afterwards.
    pub(crate) ats_after: bool,
    /// Memory for CDs that the attach brings.
    pub(crate) new: Option<NewTable<Block<P>>>,
}

impl<P: Platform> Writing<P> for Part<P> {
    fn device(&self) -> &DeviceParts<P> {
        self.device.object()
    }
    fn path(&self) -> &Path {
        &self.path
    }
    fn leaves(&self) -> Option<&LeafTable<Block<P>>> {
        self.device.cds.leaves()
    }
}

/// Tags that no SMMU has seen, with the SMMU of each.
pub(crate) type FreshTags = SmallVec<[(FreshTag, SmmuInstance); 1]>;

/// Empty lists with room for all tags of a domain and some more.
///
/// They are new instead of grown, so that dropping a preparation leaves the domain as it was.
pub(crate) struct Room {
    tags: Vec<Owned>,
    retiring: Vec<RetiringTag>,
}

impl Room {
    /// `kept` is room that others have reserved in the list of retiring tags.
    pub(crate) fn beside(
        state: &DomainState,
        more: usize,
        kept: usize,
    ) -> Result<Self, TryReserveError> {
        let mut room = Room { tags: Vec::new(), retiring: Vec::new() };
        let tags = state.tags.len() + more;
        room.tags.try_reserve_exact(tags)?;
        room.retiring.try_reserve_exact(state.retiring.len() + tags + kept)?;
        Ok(room)
    }

    /// Move the domain's tags and the new ones into these lists.
    fn take_over(mut self, state: &mut DomainState, new: FreshTags) {
        self.tags.append(&mut state.tags);
        let owned = |(tag, smmu): (FreshTag, _)| Owned { tag: tag.install(), smmu };
        self.tags.extend(new.into_iter().map(owned));
        self.retiring.append(&mut state.retiring);
        (state.tags, state.retiring) = (self.tags, self.retiring);
    }
}

/// What `publish` makes visible for the new domain.
pub(crate) struct PendingPublish<P: Platform> {
    // `None` if the domain already has a tag on each SMMU. The held lock keeps those tags in the
    // array.
    pub(crate) fresh: Option<(FreshTags, Room)>,
    pub(crate) node: <P::Cell as Publication<InvArray>>::Node,
}

impl<P: Platform> Transaction<P> {
    pub(crate) fn new(key: AttachKey) -> Self {
        let (locks, parts) = (Locks::none(), SmallVec::new());
        Transaction { stage: Stage::Prepared, pending: None, locks, parts, key }
    }

    pub(crate) fn publish(&mut self) {
        // All devices go to the same domain.
        if let Some(PendingPublish { fresh, node }) = self.pending.take()
            && let Some(domain) = self.parts.first().and_then(Part::new_domain)
        {
            if let (Some((tags, room)), Some(state)) = (fresh, self.locks.of_mut(domain)) {
                room.take_over(state, tags);
            }
            domain.cell().publish(node);
            for part in &mut self.parts {
                if let Some(new) = part.new.take() {
                    part.device.cds.add(new);
                }
            }
        }
        self.stage = Stage::Published;
    }

    /// Give back the tags that no SMMU has seen.
    fn undo(&mut self) {
        let Some(PendingPublish { fresh: Some((tags, _)), .. }) = self.pending.take() else {
            return;
        };
        let Some(first) = self.parts.first() else { return };
        let env = &first.device().smmu.env;
        tags.into_iter().for_each(|(tag, _)| abort(tag, env));
    }

    /// Take the devices out of the new domain. No entry has named its tags for them, so they leave
    /// without a `CFGI`.
    fn withdraw(&mut self) {
        let new = self.parts.first().and_then(Part::new_domain);
        let Some(state) = new.and_then(|domain| self.locks.of_mut(domain)) else { return };
        for Part { device, becomes, .. } in &mut self.parts {
            if let State::Member(member) = &*becomes
                && let Outcome::Unflushed(..) = release(member, state, &device.object().smmu.env)
                && let State::Member(mut member) = mem::replace(becomes, State::Blocked)
            {
                // `prepare` reserved the room.
                member.end = End::Unflushed;
                device.unsettled.push(member);
            }
        }
    }

    pub(crate) fn install(&mut self) {
        // A panic of a seam ends the transaction here: the change then counts as not confirmed.
        self.stage = Stage::Installed;
        for part in &mut self.parts {
            part.device.confirmation = Confirmation::Unconfirmed;
            if part.has_ats() {
                part.ats_before(self.key);
            }
            if is_kept(Barrier::CdBeforeSte) {
                part.write_cds(self.key);
            }
        }
        write_entries(&self.parts);
        for part in &mut self.parts {
            if !is_kept(Barrier::CdBeforeSte) {
                part.write_cds(self.key);
            }
            if part.has_ats() {
                part.ats_after(self.key);
            }
            match part.result() {
                Ok(()) => part.device.confirmation = Confirmation::Confirmed,
                Err(error) => give_up(part.device.object(), error),
            }
            part.tidy_cds(self.key);
        }
    }

    /// Let each device leave its old domain. Returns the outcome that leaves the most to settle.
    pub(crate) fn commit(&mut self, mut each: impl FnMut(&DeviceGuard<P>, Outcome)) -> Outcome {
        self.stage = Stage::Ended;
        let mut all = Outcome::Done;
        for part in &mut self.parts {
            let mut outcome = part.leave_old(self.key, &mut self.locks);
            if part.has_ats() && !part.ats_after && part.result().is_ok() {
                let (parts, device) = part.device.split();
                if let Err(error) = device.switch_ats_off(parts) {
                    outcome = outcome.or_worse(Outcome::AtsOn(error));
                }
            }
            each(&part.device, outcome);
            all = all.or_worse(outcome);
        }
        all
    }
}

impl<P: Platform> Drop for Transaction<P> {
    fn drop(&mut self) {
        // The locks are held still.
        match mem::replace(&mut self.stage, Stage::Ended) {
            Stage::Prepared => self.undo(),
            Stage::Published => self.withdraw(),
            Stage::Installed => drop(self.commit(|_, _| {})),
            Stage::Ended => {}
        }
    }
}

impl<P: Platform> Part<P> {
    pub(crate) fn new(device: DeviceGuard<P>) -> Self {
        let path = Path::abort();
        Part {
            device,
            becomes: State::Blocked,
            cds: CdWrite::Nothing,
            path,
            ats_after: false,
            new: None,
        }
    }

    fn joins(&self) -> Option<&Member<P>> {
        match &self.becomes {
            State::Member(member) => Some(member),
            State::Blocked | State::Bypass | State::Foreign => None,
        }
    }

    /// The domain that the device goes to, if to one.
    fn new_domain(&self) -> Option<&Domain<P>> {
        self.joins().map(|member| &member.domain)
    }

    /// What the device asks of the new domain's array.
    pub(crate) fn request(&self) -> Option<&[InvSpec]> {
        self.joins().map(|member| member.request.as_slice())
    }

    /// Lead the entries to an image.
    pub(crate) fn take(&mut self, image: &Image) {
        self.ats_after = image.ste.ats() != AtsMode::Off;
        self.cds = image.cds;
        self.path.redirect(image.first, image.last);
    }

    pub(crate) fn result(&self) -> Result<(), SinkError> {
        self.path.result(self.device().smmu.id)
    }

    /// Write the CDs where no entry leads, so that the SMMU cannot have cached them.
    fn write_cds(&mut self, key: AttachKey) {
        if self.path.has_failed() {
            return;
        }
        let Part { device, becomes, .. } = self;
        let change = Change { key, becomes };
        match self.cds {
            CdWrite::Nothing => {}
            CdWrite::Copy(kind, copy) => {
                if let Some(table) = device.cds.linear(kind)
                    && copy != table.current()
                {
                    table.fill(copy, |n| change.cd(device, n));
                }
                if let Some(table) = device.cds.linear_mut(kind) {
                    table.set_current(copy);
                }
            }
            CdWrite::InPlace => {
                // The list of substreams and the table are parts of one state.
                if let Some(CdTable::TwoLevel(mut table)) = device.cds.all.take() {
                    table.fill(change.missing_cds(device, table.is_stale()));
                    device.cds.all = Some(CdTable::TwoLevel(table));
                }
            }
            CdWrite::Leaf => {
                let (substream, cd) = change.context();
                if let Some(table) = device.cds.leaves_mut() {
                    table.prepare_swap(substream, &cd.unwrap_or(Cd::INVALID));
                }
            }
        }
    }

    /// After the last step: the table of all substreams has what the device's state says, unless
    /// the SMMU did not confirm it.
    fn tidy_cds(&mut self, key: AttachKey) {
        let (written, change) = (self.result(), Change { key, becomes: &self.becomes });
        let leads_there = change.leaves_substreams(&self.device);
        let Some(table) = self.device.cds.leaves_mut() else { return };
        let last_left = !leads_there && matches!(key, AttachKey::Substream(_));
        match written {
            Err(_) => table.set_stale(),
            // No STE leads to the table any more.
            Ok(()) if last_left && !table.is_stale() => {
                table.fill(core::iter::once((change.context().0, Cd::INVALID)));
            }
            Ok(()) => {}
        }
    }

    fn leave_old(&mut self, key: AttachKey, locks: &mut Locks<P>) -> Outcome {
        let written = self.result();
        let outcome = written.map_or_else(Outcome::Unconfirmed, |()| Outcome::Done);
        let becomes = mem::replace(&mut self.becomes, State::Blocked);
        let old = self.device.replace(key, becomes);
        if let State::Blocked | State::Bypass = old {
            return outcome;
        }
        let (parts, device) = self.device.split();
        let mut old = match old {
            State::Member(old) => old,
            // Without a confirmation the uses stay, until the next one.
            State::Foreign if written.is_ok() => return device.leave_foreign(parts),
            State::Blocked | State::Bypass | State::Foreign => return outcome,
        };
        if let Err(error) = written
            && is_kept(Barrier::ConfirmBeforeLeave)
        {
            // The SMMU may still use the tag for this device, so the device stays a user, and keeps
            // the domain alive.
            if let Some(tag) = old.tag() {
                let notice = Notice::TagQuarantined { smmu: parts.smmu.id, tag, error };
                parts.smmu.env.observer().notice(notice);
            }
            // The attach that made this use reserved the room.
            device.unsettled.push(old);
            return outcome;
        }
        let Some(state) = locks.of_mut(&old.domain) else { return outcome };
        let outcome = release(&old, state, &parts.smmu.env);
        old.end = match outcome {
            Outcome::Unflushed(..) => End::Unflushed,
            // The device's switch goes off, after the readers.
            _ if !self.ats_after && old.has_atc() => End::Undrained,
            _ => return outcome,
        };
        device.unsettled.push(old);
        outcome
    }

    /// Whether the device may use ATS. The steps of one that does not cost nothing.
    fn has_ats(&self) -> bool {
        self.device().ats != AtsUse::Never
    }

    /// Before the entries change: rows 1, 3 and 4 of the table in [`ats`](crate::ats).
    fn ats_before(&mut self, key: AttachKey) {
        let change = Change { key, becomes: &self.becomes };
        let works_on = !matches!(change.stream(&self.device), State::Blocked);
        let (parts, device) = self.device.split();
        let ats = &mut device.ats;
        if !self.ats_after {
            parts.stop_page_requests(ats);
        }
        match (ats.entry, self.ats_after) {
            (false, true) if !self.path.has_failed() => {
                if let Err(error) = parts.clean_atc(ats) {
                    self.path.fail(error);
                }
            }
            // What the ATC has, it keeps.
            (true, false) if works_on => {
                parts.disable_ats(ats);
                ats.dirty = true;
            }
            _ => {}
        }
    }

    /// After the entries have changed: the ATC drops what it has no right to, or may fill.
    fn ats_after(&mut self, key: AttachKey) {
        let written = self.result().is_ok();
        let (parts, device) = self.device.split();
        let ats = &mut device.ats;
        match (ats.entry, self.ats_after) {
            (false, false) => {}
            // The entries are invalid from now on, and the SMMU refuses translated requests.
            _ if !written => {
                parts.stop_page_requests(ats);
                *ats = AtsState { entry: false, dirty: true, ..*ats };
            }
            (true, true) => match parts.flush_atc(AtcPart::Key(key)) {
                Ok(()) => parts.start_page_requests(ats),
                Err(error) => {
                    self.path.revoke(error);
                    parts.stop_page_requests(ats);
                    *ats = AtsState { entry: false, dirty: true, ..*ats };
                }
            },
            (true, false) => {
                ats.entry = false;
                // The SMMU refuses what the ATC still has, if the device does not answer.
                ats.dirty = !ats.on || parts.flush_atc(AtcPart::Everything).is_err();
            }
            (false, true) => {
                ats.entry = true;
                parts.enable_ats(ats);
                parts.start_page_requests(ats);
            }
        }
    }
}
