//! The domain locks of one transaction.

use smallvec::SmallVec;

use crate::domain::{DomainGuard, DomainState};
use crate::held::{Contention, Locked, Rank};
use crate::sync::{Barrier, is_kept};
use crate::{AttachError, Domain, Platform};

/// Up to this many guards a search looks at each.
const FEW: usize = 4;

/// The held locks of the new domain and of the old ones, in the order in which the domains were
/// made. Each domain has one lock, however many devices leave it.
pub(crate) struct Locks<P: Platform> {
    held: SmallVec<[DomainGuard<P>; 2]>,
}

impl<P: Platform> Locks<P> {
    pub(crate) fn none() -> Self {
        Locks { held: SmallVec::new() }
    }

    /// Take the locks. The caller holds those of the devices. Needs no memory for two domains.
    pub(crate) fn take<'d>(
        new: Option<&'d Domain<P>>,
        olds: impl Iterator<Item = &'d Domain<P>> + Clone,
        contention: Contention,
        out_of_memory: AttachError,
    ) -> Result<Self, AttachError> {
        let mut domains: SmallVec<[&Domain<P>; 2]> = SmallVec::new();
        let mut held = SmallVec::new();
        let most = new.iter().count() + olds.clone().count();
        domains.try_reserve(most).map_err(|_| out_of_memory)?;
        domains.extend(new.into_iter().chain(olds));
        let comes_first = |domain: &Domain<P>| {
            !is_kept(Barrier::DomainOrder) && new.is_some_and(|new| new.is_same(domain))
        };
        domains.sort_unstable_by_key(|domain| (!comes_first(domain), domain.rank()));
        domains.dedup_by(|a, b| a.is_same(b));
        held.try_reserve(domains.len()).map_err(|_| out_of_memory)?;
        let mut holding = Rank::ANY_DEVICE;
        for domain in domains {
            let busy = AttachError::DomainBusy { domain: domain.id() };
            held.push(domain.lock_as(contention, holding).ok_or(busy)?);
            holding = domain.rank();
        }
        Ok(Locks { held })
    }

    /// State of a domain whose lock is held.
    pub(crate) fn of(&self, domain: &Domain<P>) -> Option<&DomainState> {
        Some(&**self.held.get(self.place(domain)?)?)
    }

    /// [`of`](Self::of), to change it.
    pub(crate) fn of_mut(&mut self, domain: &Domain<P>) -> Option<&mut DomainState> {
        let at = self.place(domain)?;
        Some(&mut **self.held.get_mut(at)?)
    }

    fn place(&self, domain: &Domain<P>) -> Option<usize> {
        if self.held.len() <= FEW {
            return self.held.iter().position(|guard| domain.is_guarded_by(guard));
        }
        self.held.binary_search_by_key(&domain.rank(), |guard| guard.object().rank()).ok()
    }
}
