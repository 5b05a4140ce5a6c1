//! The proof that a `CMD_SYNC` is complete.

use crate::SmmuId;

/// Proof that a `CMD_SYNC` of one SMMU completed, and with it every command queued before it.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct SyncProof {
    smmu: SmmuId,
}

impl SyncProof {
    /// Vouch that a `CMD_SYNC` of `smmu` has completed without an error.
    ///
    /// For implementors of [`CommandSink`](super::CommandSink) alone. A tag is reused on the strength of this, so a
    /// wrong word here lets a device reach memory through a translation that was taken away.
    pub const fn vouch(smmu: SmmuId) -> Self {
        SyncProof { smmu }
    }

    /// The SMMU whose `CMD_SYNC` completed.
    #[must_use]
    pub const fn smmu(&self) -> SmmuId {
        self.smmu
    }
}
