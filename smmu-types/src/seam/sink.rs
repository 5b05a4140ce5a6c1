//! The seam to command queues.

use core::fmt;

use crate::{Command, CommandErrorCode, RawCommand, SmmuId, SyncProof};

/// What a command queue was doing when somebody gave up waiting for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stall {
    /// `CMDQ_PROD` as last written: index and wrap bit.
    pub producer: u32,
    /// `CMDQ_CONS` as last read, with its error code.
    pub consumer: u32,
    /// The command at `CMDQ_CONS`, if there is one before `CMDQ_PROD`.
    pub command: Option<RawCommand>,
}

impl fmt::Display for Stall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stall { producer, consumer, command } = *self;
        write!(f, "CMDQ_PROD = {producer:#x}, CMDQ_CONS = {consumer:#x}, ")?;
        match command {
            Some(command) => write!(f, "the SMMU stands at {}", Command::decode(command)),
            None => f.write_str("the SMMU has nothing left to do"),
        }
    }
}

/// The end of a message: what the queue was doing, where that is known.
struct Standing(Option<Stall>);

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |stall| write!(f, ": {stall}"))
    }
}

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
    #[error(
        "{smmu}: no CMD_SYNC completion in time; nothing queued before it counts as done{}",
        Standing(*stall)
    )]
    Timeout {
        /// The SMMU that does not answer.
        smmu: SmmuId,
        /// What its queue was doing, as far as the sink knows.
        stall: Option<Stall>,
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
    /// More commands failed than the queue has room for, before anybody asked.
    #[error(
        "{smmu}: more commands failed than can be told apart; nothing that was queued up to then counts as done"
    )]
    TooManyFailures {
        /// The SMMU.
        smmu: SmmuId,
    },
    /// An `ATC_INV` without a `CMD_SYNC` of its own.
    #[error(
        "{smmu}: ATC_INV needs a CMD_SYNC in its own batch, which alone learns of its timeout; issue it instead of pushing it"
    )]
    AtcInvPushed {
        /// The SMMU.
        smmu: SmmuId,
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
    /// A time-out of which no more is known.
    #[must_use]
    pub const fn timeout(smmu: SmmuId) -> Self {
        SinkError::Timeout { smmu, stall: None }
    }

    /// The SMMU that the error is about.
    #[must_use]
    pub const fn smmu(&self) -> SmmuId {
        match *self {
            SinkError::UnknownSmmu { smmu }
            | SinkError::Timeout { smmu, .. }
            | SinkError::Command { smmu, .. }
            | SinkError::Lost { smmu, .. }
            | SinkError::TooManyFailures { smmu }
            | SinkError::AtcInvPushed { smmu }
            | SinkError::ForeignProof { want: smmu, .. } => smmu,
        }
    }
}

/// Where commands go: the queues of one or more SMMUs.
///
/// # What an implementor owes
///
/// - Commands of one SMMU are carried out in the order in which they were queued by one thread, as far as they are
///   [proven](Self::prove) together; what one call queues is never interleaved with another call's.
/// - Every store that the caller made to DMA memory and published before a call is visible to the
///   SMMU before it sees the commands.
/// - `wait` returns a proof only after the `CMD_SYNC` of that `issue` or `prove` has completed without an
///   error of any command that it stands for; loads that follow it see what the SMMU stored before.
/// - Nothing is dropped: an `Err` from `issue`, `push` or `prove` means that none, or an unknown part, was
///   queued, never that all was.
/// - No call waits for ever, allocates, or takes a lock that an interrupt handler could find taken.
pub trait CommandSink {
    /// Stands for one `CMD_SYNC` on its way.
    type Ticket;
    /// Stands for commands that were queued without a `CMD_SYNC`.
    type Pushed;

    /// Queue `commands` and a `CMD_SYNC` behind them.
    fn issue(&self, smmu: SmmuId, commands: &[Command]) -> Result<Self::Ticket, SinkError>;

    /// Queue `commands` without a `CMD_SYNC`, behind what was `pushed` before, if anything was. They are for
    /// [`prove`](Self::prove): whoever drops the returned value will never know what became of them.
    ///
    /// An `ATC_INV` may be refused ([`SinkError::AtcInvPushed`]): its time-out is told to the next `CMD_SYNC` in the queue,
    /// whosever that is.
    fn push(
        &self,
        smmu: SmmuId,
        pushed: Option<Self::Pushed>,
        commands: &[Command],
    ) -> Result<Self::Pushed, SinkError>;

    /// Queue `commands`, which may be none, and a `CMD_SYNC` behind them, which stands for all that was `pushed` as well.
    fn prove(&self, pushed: Self::Pushed, commands: &[Command]) -> Result<Self::Ticket, SinkError>;

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
    type Pushed = S::Pushed;

    fn issue(&self, smmu: SmmuId, commands: &[Command]) -> Result<Self::Ticket, SinkError> {
        (**self).issue(smmu, commands)
    }
    fn push(
        &self,
        smmu: SmmuId,
        pushed: Option<Self::Pushed>,
        commands: &[Command],
    ) -> Result<Self::Pushed, SinkError> {
        (**self).push(smmu, pushed, commands)
    }
    fn prove(&self, pushed: Self::Pushed, commands: &[Command]) -> Result<Self::Ticket, SinkError> {
        (**self).prove(pushed, commands)
    }
    fn wait(&self, ticket: Self::Ticket) -> Result<SyncProof, SinkError> {
        (**self).wait(ticket)
    }
}
