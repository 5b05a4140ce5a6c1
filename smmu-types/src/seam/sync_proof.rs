//! The proof that a `CMD_SYNC` is complete.

use crate::SmmuId;

/// Proof that a `CMD_SYNC` of one SMMU completed, and every command queued before it.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct SyncProof {
    smmu: SmmuId,
}

impl SyncProof {
    /// Promises that a `CMD_SYNC` of `smmu` has completed without an error.
    ///
    /// Only an implementor of [`CommandSink`](super::CommandSink) calls this. A tag is reused
    /// because of it, so a wrong promise lets a device reach memory through a removed translation.
    pub const fn vouch(smmu: SmmuId) -> Self {
        SyncProof { smmu }
    }

    /// The SMMU whose `CMD_SYNC` completed.
    #[must_use]
    pub const fn smmu(&self) -> SmmuId {
        self.smmu
    }
}
