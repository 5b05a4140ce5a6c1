//! Commands of one SMMU on their way to one `CMD_SYNC`.

use smallvec::SmallVec;
use smmu_types::seam::{CommandSink, SinkError};
use smmu_types::{Command, SmmuId};

const ROOM: usize = 16;

/// Commands that one `CMD_SYNC` will confirm together.
///
/// Needs no heap: 16 commands wait here, and the sink gets them when the 17th comes.
pub(crate) struct SyncBatch<'s, S: CommandSink> {
    sink: &'s S,
    smmu: SmmuId,
    commands: SmallVec<[Command; ROOM]>,
    pushed: Option<S::Pushed>,
}

impl<'s, S: CommandSink> SyncBatch<'s, S> {
    pub(crate) fn new(sink: &'s S, smmu: SmmuId) -> Self {
        SyncBatch { sink, smmu, commands: SmallVec::new(), pushed: None }
    }

    /// Add a command. The SMMU may carry it out at once.
    pub(crate) fn add(&mut self, command: Command) -> Result<(), SinkError> {
        if self.commands.len() == ROOM {
            self.pushed = Some(self.sink.push(self.smmu, self.pushed.take(), &self.commands)?);
            self.commands.clear();
        }
        self.commands.push(command);
        Ok(())
    }

    /// Send what is left and a `CMD_SYNC`.
    pub(crate) fn issue(self) -> Result<S::Ticket, SinkError> {
        let rest = &*self.commands;
        match self.pushed {
            None => self.sink.issue(self.smmu, rest),
            Some(pushed) => self.sink.prove(pushed, rest),
        }
    }

    /// [`issue`](Self::issue), then [`wait`].
    pub(crate) fn sync(self) -> Result<(), SinkError> {
        let (sink, smmu) = (self.sink, self.smmu);
        let ticket = self.issue()?;
        wait(sink, smmu, ticket)
    }
}

/// Wait for the `CMD_SYNC` of an SMMU's batch.
pub(crate) fn wait<S: CommandSink>(
    sink: &S,
    smmu: SmmuId,
    ticket: S::Ticket,
) -> Result<(), SinkError> {
    let proof = sink.wait(ticket)?;
    if proof.smmu() != smmu {
        return Err(SinkError::ForeignProof { want: smmu, got: proof.smmu() });
    }
    Ok(())
}
