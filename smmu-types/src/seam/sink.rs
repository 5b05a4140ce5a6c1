use crate::{Command, CommandErrorCode, RawCommand, SmmuId, SyncProof};

/// Why commands did not reach an SMMU, or are not known to have been carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SinkError {
    /// No queue for this SMMU.
    #[error("{smmu} has no command queue here; register it before it is used")]
    UnknownSmmu {
        /// The SMMU asked for.
        smmu: SmmuId,
    },
    /// The `CMD_SYNC` did not complete, or the queue did not drain, in time.
    #[error("{smmu}: no CMD_SYNC completion in time; nothing queued before it counts as done")]
    Timeout {
        /// The SMMU that does not answer.
        smmu: SmmuId,
    },
    /// The SMMU refused a command of the batch.
    #[error("{smmu}: {code} on {}", Command::decode(*command))]
    Command {
        /// The SMMU.
        smmu: SmmuId,
        /// The command as it lay in the queue.
        command: RawCommand,
        /// What the SMMU said.
        code: CommandErrorCode,
    },
    /// `CMDQ_CONS` held a value that no queue of ours can have.
    #[error(
        "{smmu}: CMDQ_CONS = {cons:#x} lies outside the commands in flight; the SMMU was reset or is gone"
    )]
    Lost {
        /// The SMMU.
        smmu: SmmuId,
        /// The register's value.
        cons: u32,
    },
    /// A completion of another SMMU was returned.
    #[error("the proof is of {got}, the commands went to {want}")]
    ForeignProof {
        /// The SMMU that the commands went to.
        want: SmmuId,
        /// The SMMU of the proof.
        got: SmmuId,
    },
}

impl SinkError {
    /// The SMMU that the error is about.
    #[must_use]
    pub const fn smmu(&self) -> SmmuId {
        match *self {
            SinkError::UnknownSmmu { smmu }
            | SinkError::Timeout { smmu }
            | SinkError::Command { smmu, .. }
            | SinkError::Lost { smmu, .. }
            | SinkError::ForeignProof { want: smmu, .. } => smmu,
        }
    }
}

/// Where commands go: the queues of one or more SMMUs.
///
/// # What an implementor owes
///
/// - Commands of one SMMU are carried out in the order in which they were queued by one thread;
///   what one call queues is never interleaved with another call's.
/// - Every store that the caller made to DMA memory and published before a call is visible to the
///   SMMU before it sees the commands.
/// - `wait` returns a proof only after the `CMD_SYNC` of that `issue` has completed without an
///   error of any command of that `issue`; loads that follow it see what the SMMU stored before.
/// - Nothing is dropped: an `Err` from `issue` or `push` means that none, or an unknown part, was
///   queued, never that all was.
/// - No call waits for ever, allocates, or takes a lock that an interrupt handler could find taken.
pub trait CommandSink {
    /// Stands for one `CMD_SYNC` on its way.
    type Ticket;

    /// Queue `commands` and a `CMD_SYNC` behind them.
    fn issue(&self, smmu: SmmuId, commands: &[Command]) -> Result<Self::Ticket, SinkError>;

    /// Queue `commands` without a `CMD_SYNC`: a later [`issue`](Self::issue) to the same SMMU by the
    /// same thread proves them as well, or reports their failure.
    fn push(&self, smmu: SmmuId, commands: &[Command]) -> Result<(), SinkError>;

    /// Wait until the `CMD_SYNC` is complete.
    fn wait(&self, ticket: Self::Ticket) -> Result<SyncProof, SinkError>;

    /// [`issue`](Self::issue), then [`wait`](Self::wait).
    fn run(&self, smmu: SmmuId, commands: &[Command]) -> Result<SyncProof, SinkError> {
        let ticket = self.issue(smmu, commands)?;
        self.wait(ticket)
    }
}

impl<S: CommandSink + ?Sized> CommandSink for &S {
    type Ticket = S::Ticket;

    fn issue(&self, smmu: SmmuId, commands: &[Command]) -> Result<Self::Ticket, SinkError> {
        (**self).issue(smmu, commands)
    }
    fn push(&self, smmu: SmmuId, commands: &[Command]) -> Result<(), SinkError> {
        (**self).push(smmu, commands)
    }
    fn wait(&self, ticket: Self::Ticket) -> Result<SyncProof, SinkError> {
        (**self).wait(ticket)
    }
}
