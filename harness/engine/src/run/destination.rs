//! What a step attaches a device to.

use smmu_driver::smmu_attach::{AttachError, Group, Outcome, Target};
use smmu_driver::smmu_types::SubstreamId;
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

    /// All steps of an attach, of a device or of one of its substreams.
    pub(crate) fn attach(
        &self,
        device: &Device<Harness>,
        substream: Option<SubstreamId>,
    ) -> Result<Outcome, AttachError> {
        let Some(substream) = substream else {
            return match self {
                Destination::Bypass => device.bypass(),
                Destination::Blocked => Ok(device.block()),
                Destination::Domain(domain) => device.attach(domain),
            };
        };
        let substream = device.substream(substream)?;
        match self {
            Destination::Blocked => Ok(substream.block()),
            Destination::Domain(domain) => substream.attach(domain),
            // The driver refuses it: a substream has no bypass.
            Destination::Bypass => {
                Ok(substream.prepare(Target::Bypass)?.publish().install().commit())
            }
        }
    }

    /// All steps of an attach of several devices, or of one substream of each.
    pub(crate) fn attach_group(
        &self,
        group: &Group<Attach<Harness>>,
        substream: Option<SubstreamId>,
    ) -> Result<Outcome, AttachError> {
        let Some(substream) = substream else {
            return match self {
                Destination::Bypass => group.bypass(),
                Destination::Blocked => Ok(group.block()),
                Destination::Domain(domain) => group.attach(domain),
            };
        };
        let substream = group.substream(substream)?;
        match self {
            Destination::Blocked => Ok(substream.block()),
            Destination::Domain(domain) => substream.attach(domain),
            Destination::Bypass => {
                Ok(substream.prepare(Target::Bypass)?.publish().install().commit())
            }
        }
    }
}
