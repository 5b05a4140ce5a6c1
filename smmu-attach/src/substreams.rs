//! The attached substreams of a device.

use alloc::collections::TryReserveError;
use alloc::vec::Vec;
use core::mem;

use smmu_types::SubstreamId;

use crate::Platform;
use crate::membership::Member;

/// The uses of domains by substreams, ascending by SubstreamID.
///
/// An attach beside many others moves no [`Member`]: the sorted list has indices only.
pub(crate) struct Substreams<P: Platform> {
    order: Vec<(SubstreamId, usize)>,
    members: Vec<Option<Member<P>>>,
    free: Vec<usize>,
}

impl<P: Platform> Substreams<P> {
    pub(crate) const NONE: Self =
        Substreams { order: Vec::new(), members: Vec::new(), free: Vec::new() };

    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    pub(crate) fn get(&self, id: SubstreamId) -> Option<&Member<P>> {
        let at = self.place(id).ok()?;
        self.members.get(self.order.get(at)?.1)?.as_ref()
    }

    /// All substreams, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (SubstreamId, &Member<P>)> {
        self.order.iter().filter_map(|&(id, slot)| Some((id, self.members.get(slot)?.as_ref()?)))
    }

    /// Whether another substream than this one is attached.
    pub(crate) fn has_other(&self, than: Option<SubstreamId>) -> bool {
        match (self.order.first(), self.order.get(1), than) {
            (None, ..) => false,
            (Some(_), Some(_), _) | (Some(_), None, None) => true,
            (Some((only, _)), None, Some(than)) => *only != than,
        }
    }

    /// Room for one substream more. Later changes then need no memory.
    pub(crate) fn reserve(&mut self) -> Result<(), TryReserveError> {
        let most = self.order.len() + 1;
        self.order.try_reserve(1)?;
        self.members.try_reserve(1)?;
        self.free.try_reserve(most.saturating_sub(self.free.len()))
    }

    /// Attach a substream, and return what it was attached to. [`reserve`](Self::reserve) made room.
    pub(crate) fn insert(&mut self, id: SubstreamId, new: Member<P>) -> Option<Member<P>> {
        match self.place(id) {
            Ok(at) => {
                let slot = self.order.get(at)?.1;
                self.members.get_mut(slot)?.replace(new)
            }
            Err(at) => {
                let slot = match self.free.pop() {
                    Some(slot) => {
                        if let Some(place) = self.members.get_mut(slot) {
                            *place = Some(new);
                        }
                        slot
                    }
                    None => {
                        self.members.push(Some(new));
                        self.members.len() - 1
                    }
                };
                self.order.insert(at, (id, slot));
                None
            }
        }
    }

    pub(crate) fn remove(&mut self, id: SubstreamId) -> Option<Member<P>> {
        let at = self.place(id).ok()?;
        let (_, slot) = self.order.remove(at);
        self.free.push(slot);
        self.members.get_mut(slot)?.take()
    }

    /// Take out all substreams.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Member<P>> {
        let Substreams { order, mut members, .. } = mem::replace(self, Self::NONE);
        order.into_iter().filter_map(move |(_, slot)| members.get_mut(slot)?.take())
    }

    fn place(&self, id: SubstreamId) -> Result<usize, usize> {
        self.order.binary_search_by_key(&id, |(id, _)| *id)
    }
}
