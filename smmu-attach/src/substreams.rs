//! The attached substreams of a device.

use alloc::collections::TryReserveError;
use alloc::vec::Vec;

use hashbrown::HashMap;
use smmu_types::SubstreamId;

use crate::Platform;
use crate::membership::Member;

/// The uses of domains by substreams.
///
/// An attach beside many others moves none of them. The order of a walk follows from the attaches
/// alone, so transcripts repeat.
pub(crate) struct Substreams<P: Platform> {
    places: HashMap<SubstreamId, usize>,
    members: Vec<Option<(SubstreamId, Member<P>)>>,
    free: Vec<usize>,
}

/// No memory for one substream more.
pub(crate) struct NoRoom;

impl From<TryReserveError> for NoRoom {
    fn from(_: TryReserveError) -> Self {
        NoRoom
    }
}

impl<P: Platform> Substreams<P> {
    pub(crate) fn new() -> Self {
        Substreams { places: HashMap::new(), members: Vec::new(), free: Vec::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    pub(crate) fn get(&self, id: SubstreamId) -> Option<&Member<P>> {
        let (_, member) = self.members.get(*self.places.get(&id)?)?.as_ref()?;
        Some(member)
    }

    /// All substreams, in the order of their places.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (SubstreamId, &Member<P>)> {
        self.members.iter().flatten().map(|(id, member)| (*id, member))
    }

    /// Whether another substream than this one is attached.
    pub(crate) fn has_other(&self, than: SubstreamId) -> bool {
        self.len() > usize::from(self.places.contains_key(&than))
    }

    /// Room for one substream more. Later changes then need no memory.
    pub(crate) fn reserve(&mut self) -> Result<(), NoRoom> {
        self.places.try_reserve(1).map_err(|_| NoRoom)?;
        self.members.try_reserve(1)?;
        let most = self.members.len() + 1;
        Ok(self.free.try_reserve(most.saturating_sub(self.free.len()))?)
    }

    /// Attach a substream, and return what it was attached to. [`reserve`](Self::reserve) made room.
    pub(crate) fn insert(&mut self, id: SubstreamId, new: Member<P>) -> Option<Member<P>> {
        if let Some(&place) = self.places.get(&id) {
            let (_, old) = self.members.get_mut(place)?.replace((id, new))?;
            return Some(old);
        }
        let place = self.free.pop().unwrap_or(self.members.len());
        match self.members.get_mut(place) {
            Some(free) => *free = Some((id, new)),
            None => self.members.push(Some((id, new))),
        }
        self.places.insert(id, place);
        None
    }

    pub(crate) fn remove(&mut self, id: SubstreamId) -> Option<Member<P>> {
        let place = self.places.remove(&id)?;
        self.free.push(place);
        let (_, member) = self.members.get_mut(place)?.take()?;
        Some(member)
    }

    /// Take out all substreams. Needs no memory.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Member<P>> {
        self.places.clear();
        self.free.clear();
        self.members.drain(..).flatten().map(|(_, member)| member)
    }
}
