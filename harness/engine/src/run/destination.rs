//! What a step attaches a device to.

use alloc::sync::Arc;

use smmu_driver::{Domain, Target};

use super::platform::Harness;

/// The target that a name stands for.
pub(crate) enum Destination {
    Bypass,
    Blocked,
    Domain(Arc<Domain<Harness>>),
}

impl Destination {
    /// The target as the driver takes it.
    pub(crate) fn target(&self) -> Target<'_, Harness> {
        match self {
            Destination::Bypass => Target::Bypass,
            Destination::Blocked => Target::Blocked,
            Destination::Domain(domain) => Target::Domain(domain),
        }
    }
}
