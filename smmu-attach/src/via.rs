//! The virtual SMMU that a device uses, with its domain. Without the feature `guest` there is none.

#[cfg(feature = "guest")]
pub(crate) use crate::virtual_smmu::VirtualSmmu as Via;

#[cfg(not(feature = "guest"))]
pub(crate) use absent::Via;

#[cfg(not(feature = "guest"))]
mod absent {
    use core::convert::Infallible;
    use core::marker::PhantomData;

    use crate::{Domain, Platform};

    pub(crate) struct Via<P>(Infallible, PhantomData<fn() -> P>);

    impl<P: Platform> Via<P> {
        /// There is none, so it stands for any domain.
        pub(crate) fn never(&self) -> Domain<P> {
            match self.0 {}
        }
    }
}
