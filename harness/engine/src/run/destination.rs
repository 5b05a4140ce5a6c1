//! What a step attaches a device to.

use smmu_driver::smmu_attach::{AttachError, Outcome, Target};
use smmu_driver::{Attach, Device, Domain};

use super::platform::Harness;

/// The target that a name stands for.
pub(crate) enum Destination {
    Bypass,
    Blocked,
    Domain(Domain<Harness>),
}

impl Destination {
    /// The target of a transaction.
    pub(crate) fn target(&self) -> Target<'_, Attach<Harness>> {
        match self {
            Destination::Bypass => Target::Bypass,
            Destination::Blocked => Target::Blocked,
            Destination::Domain(domain) => Target::Domain(domain),
        }
    }

    /// All steps of an attach.
    pub(crate) fn attach(&self, device: &Device<Harness>) -> Result<Outcome, AttachError> {
        match self {
            Destination::Bypass => device.bypass(),
            Destination::Blocked => Ok(device.block()),
            Destination::Domain(domain) => device.attach(domain),
        }
    }
}
