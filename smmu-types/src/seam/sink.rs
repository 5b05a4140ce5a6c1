//! The seam to command queues.

use core::fmt;
use core::num::NonZeroU32;

use crate::regs::queue_pointer;
use crate::seam::EncodedBatch;
use crate::{Command, CommandErrorCode, RawCommand, SmmuId, SyncProof};

/// The state of a command queue when a wait for it timed out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Stall {
    // CMDQ_PROD + 1, so that an `Option` of a stall takes no more memory; and STANDS.
    producer: NonZeroU32,
    consumer: u32,
    command: RawCommand,
}

/// In [`Stall::producer`]: the SMMU stands at a command.
const STANDS: u32 = 1 << 30;

// Callers get an error in a result. Compilers copy up to four words in line, also where a target has
// no unaligned accesses. Beyond that they call `memcpy`.
const _: () = assert!(size_of::<SinkError>() <= 32);

impl Stall {
    /// A state of `CMDQ_PROD` as last written, of `CMDQ_CONS` as last read, and the command at
    /// `CMDQ_CONS`, unless the queue is empty.
    ///
    /// Of `producer`, the index and the wrap bit count: bits 19 to 0.
    #[must_use]
    pub fn new(producer: u32, consumer: u32, command: Option<RawCommand>) -> Self {
        let stands = if command.is_some() { STANDS } else { 0 };
        Stall {
            producer: NonZeroU32::MIN.saturating_add(producer & queue_pointer::POINTER) | stands,
            consumer,
            command: command.unwrap_or_default(),
        }
    }

    /// `CMDQ_PROD` as last written: index and wrap bit.
    #[must_use]
    pub const fn producer(&self) -> u32 {
        (self.producer.get() & !STANDS).saturating_sub(1)
    }

    /// `CMDQ_CONS` as last read, with its error code.
    #[must_use]
    pub const fn consumer(&self) -> u32 {
        self.consumer
    }

    /// The command at `CMDQ_CONS`, unless the queue is empty.
    #[must_use]
    pub const fn command(&self) -> Option<RawCommand> {
        if self.producer.get() & STANDS == 0 { None } else { Some(self.command) }
    }
}

impl fmt::Debug for Stall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stall")
            .field("producer", &self.producer())
            .field("consumer", &self.consumer)
            .field("command", &self.command())
            .finish()
    }
}

impl fmt::Display for Stall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (producer, consumer) = (self.producer(), self.consumer);
        write!(f, "CMDQ_PROD = {producer:#x}, CMDQ_CONS = {consumer:#x}, ")?;
        match self.command() {
            Some(command) => write!(f, "the SMMU stands at {}", Command::decode(command)),
            None => f.write_str("the SMMU has nothing left to do"),
        }
    }
}

/// The end of a message: the state of the queue, if it is known.
struct Standing(Option<Stall>);

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |stall| write!(f, ": {stall}"))
    }
}

/// Why commands did not reach an SMMU, or why the SMMU may not have carried them out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SinkError {
    /// No queue for this SMMU.
    #[error("{smmu} has no command queue here; register its queue first")]
    UnknownSmmu {
        /// The SMMU that the caller named.
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
        /// The state of its queue, if the sink knows it.
        stall: Option<Stall>,
    },
    /// The SMMU refused a command of the batch.
    #[error("{smmu}: {code} on {}", Command::decode(*command))]
    Command {
        /// The SMMU.
        smmu: SmmuId,
        /// The command as it lay in the queue.
        command: RawCommand,
        /// The error code of the SMMU.
        code: CommandErrorCode,
    },
    /// `CMDQ_CONS` lies outside the commands in flight.
    #[error(
        "{smmu}: CMDQ_CONS = {cons:#x} lies outside the commands in flight; the SMMU was reset or is gone"
    )]
    Lost {
        /// The SMMU.
        smmu: SmmuId,
        /// The register's value.
        cons: u32,
    },
    /// The SMMU sleeps, and it does not owe these commands: only `CFGI_*` and `TLBI_*` are paid by
    /// the flush with which it wakes.
    #[error(
        "{smmu} sleeps, and no flush at its wake stands for these commands; wake it, then send them"
    )]
    Asleep {
        /// The SMMU.
        smmu: SmmuId,
    },
    /// More commands failed than the queue can record before their callers wait.
    #[error(
        "{smmu}: more commands failed than the queue can record; no command queued up to then counts as done"
    )]
    TooManyFailures {
        /// The SMMU.
        smmu: SmmuId,
    },
    /// An `ATC_INV` without a `CMD_SYNC` of its own.
    #[error(
        "{smmu}: ATC_INV needs a CMD_SYNC in its own batch, because only that reports its timeout; issue it, do not push it"
    )]
    AtcInvPushed {
        /// The SMMU.
        smmu: SmmuId,
    },
    /// The sink returned a proof of another SMMU.
    #[error("the proof is of {got}, the commands went to {want}")]
    ForeignProof {
        /// The SMMU that the commands went to.
        want: SmmuId,
        /// The SMMU of the proof.
        got: SmmuId,
    },
}

impl SinkError {
    /// A timeout without the state of the queue.
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
            | SinkError::Asleep { smmu }
            | SinkError::TooManyFailures { smmu }
            | SinkError::AtcInvPushed { smmu }
            | SinkError::ForeignProof { want: smmu, .. } => smmu,
        }
    }
}

/// Takes commands: the command queues of one or more SMMUs.
///
/// # What an implementor owes
///
/// - The SMMU carries out the commands that one thread queues and [proves](Self::prove) together in
///   their order. The commands of one call are never interleaved with those of another call.
/// - Every store to DMA memory that the caller published before the call is visible to the SMMU
///   before the commands are.
/// - `wait` returns a proof only after the `CMD_SYNC` of that `issue` or `prove` has completed, and
///   no command that it covers had an error. Later loads see what the SMMU stored before.
/// - An `Err` from `issue`, `push` or `prove` means that no command, or an unknown part of them,
///   was queued, never all of them.
/// - No call waits without a bound, allocates, or takes a lock that an interrupt handler could find
///   held.
/// - A call with encoded commands does what the call with the decoded ones does. Without an
///   implementation the sink decodes them, and makes that call.
pub trait CommandSink {
    /// A queued `CMD_SYNC`.
    type Ticket;
    /// Commands that were queued without a `CMD_SYNC`.
    type Pushed;

    /// Queues `commands` and a `CMD_SYNC` behind them.
    fn issue(&self, smmu: SmmuId, commands: &[Command]) -> Result<Self::Ticket, SinkError>;

    /// Queues `commands` without a `CMD_SYNC`, behind the commands of `pushed`.
    ///
    /// Pass the result to [`prove`](Self::prove). A caller that drops it never learns whether the
    /// SMMU carried the commands out.
    ///
    /// A sink may refuse an `ATC_INV` ([`SinkError::AtcInvPushed`]). The SMMU reports its timeout
    /// at the next `CMD_SYNC` in the queue, which may be that of another caller.
    fn push(
        &self,
        smmu: SmmuId,
        pushed: Option<Self::Pushed>,
        commands: &[Command],
    ) -> Result<Self::Pushed, SinkError>;

    /// Queues `commands`, which may be empty, and a `CMD_SYNC` behind them. It also covers the
    /// commands of `pushed`.
    fn prove(&self, pushed: Self::Pushed, commands: &[Command]) -> Result<Self::Ticket, SinkError>;

    /// Waits until the `CMD_SYNC` is complete.
    fn wait(&self, ticket: Self::Ticket) -> Result<SyncProof, SinkError>;

    /// [`issue`](Self::issue), then [`wait`](Self::wait).
    fn run(&self, smmu: SmmuId, commands: &[Command]) -> Result<SyncProof, SinkError> {
        let ticket = self.issue(smmu, commands)?;
        self.wait(ticket)
    }

    /// [`issue`](Self::issue) with encoded commands.
    fn issue_encoded(
        &self,
        smmu: SmmuId,
        commands: EncodedBatch<'_>,
    ) -> Result<Self::Ticket, SinkError> {
        commands.decoded(|commands| self.issue(smmu, commands))
    }

    /// [`push`](Self::push) with encoded commands.
    fn push_encoded(
        &self,
        smmu: SmmuId,
        pushed: Option<Self::Pushed>,
        commands: EncodedBatch<'_>,
    ) -> Result<Self::Pushed, SinkError> {
        commands.decoded(|commands| self.push(smmu, pushed, commands))
    }

    /// [`prove`](Self::prove) with encoded commands.
    fn prove_encoded(
        &self,
        pushed: Self::Pushed,
        commands: EncodedBatch<'_>,
    ) -> Result<Self::Ticket, SinkError> {
        commands.decoded(|commands| self.prove(pushed, commands))
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
    fn issue_encoded(
        &self,
        smmu: SmmuId,
        commands: EncodedBatch<'_>,
    ) -> Result<Self::Ticket, SinkError> {
        (**self).issue_encoded(smmu, commands)
    }
    fn push_encoded(
        &self,
        smmu: SmmuId,
        pushed: Option<Self::Pushed>,
        commands: EncodedBatch<'_>,
    ) -> Result<Self::Pushed, SinkError> {
        (**self).push_encoded(smmu, pushed, commands)
    }
    fn prove_encoded(
        &self,
        pushed: Self::Pushed,
        commands: EncodedBatch<'_>,
    ) -> Result<Self::Ticket, SinkError> {
        (**self).prove_encoded(pushed, commands)
    }
}
