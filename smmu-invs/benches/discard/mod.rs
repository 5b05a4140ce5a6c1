//! The queue of the benchmarks.

use std::hint::black_box;

use smmu_types::seam::{CommandSink, EncodedBatch, SinkError};
use smmu_types::{Command, SmmuId, SyncProof};

/// A queue that reads the commands and discards them.
pub(crate) struct Discard;

impl CommandSink for Discard {
    type Ticket = SmmuId;
    type Pushed = SmmuId;

    fn issue(&self, smmu: SmmuId, commands: &[Command]) -> Result<SmmuId, SinkError> {
        black_box(commands);
        Ok(smmu)
    }
    fn push(
        &self,
        smmu: SmmuId,
        _: Option<SmmuId>,
        commands: &[Command],
    ) -> Result<SmmuId, SinkError> {
        black_box(commands);
        Ok(smmu)
    }
    fn prove(&self, pushed: SmmuId, commands: &[Command]) -> Result<SmmuId, SinkError> {
        self.issue(pushed, commands)
    }
    fn wait(&self, ticket: SmmuId) -> Result<SyncProof, SinkError> {
        Ok(SyncProof::vouch(ticket))
    }
    fn issue_encoded(&self, smmu: SmmuId, commands: EncodedBatch<'_>) -> Result<SmmuId, SinkError> {
        black_box(commands.words());
        Ok(smmu)
    }
    fn push_encoded(
        &self,
        smmu: SmmuId,
        _: Option<SmmuId>,
        commands: EncodedBatch<'_>,
    ) -> Result<SmmuId, SinkError> {
        black_box(commands.words());
        Ok(smmu)
    }
    fn prove_encoded(
        &self,
        pushed: SmmuId,
        commands: EncodedBatch<'_>,
    ) -> Result<SmmuId, SinkError> {
        self.issue_encoded(pushed, commands)
    }
}
