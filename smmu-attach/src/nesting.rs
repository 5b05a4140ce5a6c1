//! A nested attach as a transaction sees it. Without the feature `guest` no value of it exists.

#[cfg(feature = "guest")]
mod present {
    use smmu_invs::{Counted, InvSpec, Publication, RequestBuffer};
    use smmu_types::{AtsMode, CacheTag, Ste};

    use crate::ats_switch::AtsUse;
    use crate::device::DeviceParts;
    use crate::guest::{GuestConfig, HostEntry};
    use crate::key::AttachKey;
    use crate::via::Via;
    use crate::virtual_smmu::VirtualSmmu;
    use crate::{AttachError, Domain, Platform};

    /// An entry of a guest that lets transactions in.
    pub(crate) struct Nesting<'a, P: Platform> {
        to: &'a VirtualSmmu<P>,
        entry: HostEntry,
    }

    impl<'a, P: Platform> Nesting<'a, P> {
        /// `None` for an entry that lets no transaction in.
        pub(crate) fn new(to: &'a VirtualSmmu<P>, entry: HostEntry) -> Option<Self> {
            let translates = matches!(entry.config(), GuestConfig::Bypass | GuestConfig::Stage1);
            translates.then_some(Nesting { to, entry })
        }

        pub(crate) fn parent(&self) -> &'a Domain<P> {
            self.to.parent()
        }

        pub(crate) fn via(&self) -> Via<P> {
            self.to.clone()
        }

        /// The VMID, which an SMMU may use from now on.
        pub(crate) fn use_tag(&self) -> CacheTag {
            self.to.use_tag()
        }

        pub(crate) fn entry(&self) -> Ste {
            self.entry.entry()
        }

        /// Whether the transactions of a key may be attached so.
        pub(crate) fn check(
            &self,
            device: &DeviceParts<P>,
            key: AttachKey,
        ) -> Result<(), AttachError> {
            let smmu = device.smmu.id;
            let stream = device.entries.first().map(|entry| entry.stream).unwrap_or_default();
            if let AttachKey::Substream(_) = key {
                return Err(AttachError::SubstreamStage2 { smmu, domain: self.parent().id() });
            }
            let same = Counted::ptr_eq(&self.to.parts().smmu, &device.smmu);
            if !same || !self.to.owns(&self.entry()) {
                return Err(AttachError::ForeignVirtualSmmu { smmu, stream });
            }
            if self.entry.ats() != AtsMode::Off && device.ats == AtsUse::Never {
                return Err(AttachError::GuestAts { smmu, stream });
            }
            Ok(())
        }

        /// What the device asks of the parent's array: the VMID, what the guest's stage 1 has cached
        /// with it, and the whole cache of the device, because the guest's addresses are unknown.
        pub(crate) fn request(
            &self,
            device: &DeviceParts<P>,
        ) -> Result<RequestBuffer, AttachError> {
            let (smmu, vmid) = (&device.smmu, self.to.vmid());
            let off = self.entry.ats() == AtsMode::Off;
            let streams = if off { &[][..] } else { &device.entries };
            if !streams.is_empty() && self.parent().cell().gate().is_none() {
                let domain = self.parent().id();
                return Err(AttachError::NoAtsGate { domain, smmu: smmu.id });
            }
            let mut request = RequestBuffer::with_capacity(2 + streams.len())?;
            request.push(InvSpec::vsmmu(smmu.id, vmid, smmu.caps.range_support()))?;
            request.push(InvSpec::s1_clear(smmu.id, vmid))?;
            for entry in streams {
                request.push(InvSpec::ats_full(smmu.id, entry.stream))?;
            }
            Ok(request)
        }
    }
}

#[cfg(not(feature = "guest"))]
mod absent {
    use core::convert::Infallible;
    use core::marker::PhantomData;

    use smmu_invs::RequestBuffer;
    use smmu_types::{CacheTag, Ste};

    use crate::device::DeviceParts;
    use crate::key::AttachKey;
    use crate::via::Via;
    use crate::{AttachError, Platform};

    pub(crate) struct Nesting<'a, P>(Infallible, PhantomData<&'a fn() -> P>);

    impl<P: Platform> Nesting<'_, P> {
        pub(crate) fn via(&self) -> Via<P> {
            match self.0 {}
        }
        pub(crate) fn use_tag(&self) -> CacheTag {
            match self.0 {}
        }
        pub(crate) fn entry(&self) -> Ste {
            match self.0 {}
        }
        pub(crate) fn check(&self, _: &DeviceParts<P>, _: AttachKey) -> Result<(), AttachError> {
            match self.0 {}
        }
        pub(crate) fn request(&self, _: &DeviceParts<P>) -> Result<RequestBuffer, AttachError> {
            match self.0 {}
        }
    }
}

#[cfg(not(feature = "guest"))]
pub(crate) use absent::Nesting;
#[cfg(feature = "guest")]
pub(crate) use present::Nesting;
