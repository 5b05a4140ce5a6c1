//! Which transactions of a device.

use smmu_types::SubstreamId;

/// Which transactions of a device an attach changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AttachKey {
    /// Those without a SubstreamID.
    Stream,
    /// Those of one substream.
    Substream(SubstreamId),
}
