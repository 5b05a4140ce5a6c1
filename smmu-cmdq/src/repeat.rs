//! Sends invalidations twice, for SMMUs that may miss the first ones.

use smmu_types::seam::{CommandSink, EncodedBatch, SinkError};
use smmu_types::{Command, Quirk, Quirks, SmmuId, SyncProof};

use crate::OfSmmu;

/// How often a [`RepeatingSink`] sends each invalidation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Passes {
    /// Once, as the architecture says.
    #[default]
    One,
    /// Twice, with a `CMD_SYNC` between ([`Quirk::RepeatInvalidations`]).
    Two,
}

impl Passes {
    /// The passes that an SMMU with these quirks needs.
    #[must_use]
    pub const fn suited_to(quirks: Quirks) -> Self {
        if quirks.contains(Quirk::RepeatInvalidations) { Passes::Two } else { Passes::One }
    }
}

/// A [`CommandSink`] that sends each invalidation twice where the SMMU needs it.
///
/// Some SMMUs may keep an entry that a `CFGI_*` or `TLBI_*` had to drop, and drop it at the second
/// one (Tegra264). For a call with such commands the sink `S` gets, in this order:
///
/// 1. the `CFGI_*` and `TLBI_*` of the call, without its other commands;
/// 2. a `CMD_SYNC`, so that the first pass is complete before the second begins;
/// 3. all commands of the call, as the caller gave them;
/// 4. for [`issue`](CommandSink::issue) and [`prove`](CommandSink::prove), the `CMD_SYNC` of the
///    call.
///
/// No other command is repeated: a second `ATC_INV` has no use, and a second `RESUME` or `PRI_RESP`
/// would answer another transaction. The order of the caller's commands holds in the second pass.
///
/// One ticket covers both passes. An error of either is an error of the call.
///
/// # What it costs
///
/// Nothing allocates. With [`Passes::One`] a call costs one comparison. With [`Passes::Two`] a call
/// takes two reservations more for each run of invalidations, and other callers' commands may lie
/// between the passes. The commands of the second pass stay together, as every sink promises.
///
/// ```
/// use smmu_cmdq::{Passes, RepeatingSink};
/// use smmu_cmdq::smmu_types::fake::RecordingSink;
/// use smmu_cmdq::smmu_types::seam::CommandSink;
/// use smmu_cmdq::smmu_types::{Command, Quirk, Quirks, SmmuId};
///
/// // The device tree says `nvidia,tegra264-smmu`; IIDR does not.
/// let quirks = Quirks::default().with(Quirk::RepeatInvalidations);
/// let sink = RepeatingSink::new(RecordingSink::new(), Passes::suited_to(quirks));
/// let _proof = sink.run(SmmuId(0), &[Command::CfgiAll])?;
/// assert_eq!(sink.inner().take().len(), 4); // CFGI_ALL; SYNC; CFGI_ALL and its SYNC; the wait
/// # Ok::<(), smmu_cmdq::smmu_types::seam::SinkError>(())
/// ```
#[derive(Clone, Debug)]
pub struct RepeatingSink<S> {
    sink: S,
    passes: Passes,
}

/// Commands that a [`RepeatingSink`] has pushed.
#[derive(Debug)]
#[must_use = "the commands are not known to be carried out until they are proven"]
pub struct RepeatedPushed<T> {
    smmu: SmmuId,
    pushed: T,
}

impl<T> OfSmmu for RepeatedPushed<T> {
    fn smmu(&self) -> SmmuId {
        self.smmu
    }
}

impl<S> RepeatingSink<S> {
    /// A sink over `sink`, whose SMMUs all need these passes.
    pub const fn new(sink: S, passes: Passes) -> Self {
        RepeatingSink { sink, passes }
    }

    /// The sink below.
    pub const fn inner(&self) -> &S {
        &self.sink
    }

    /// How often it sends each invalidation.
    #[must_use]
    pub const fn passes(&self) -> Passes {
        self.passes
    }
}

/// The commands of a call that are sent twice, in runs.
fn repeated(passes: Passes, commands: &[Command]) -> impl Iterator<Item = &[Command]> {
    let commands = if passes == Passes::Two { commands } else { &[] };
    let runs = commands.chunk_by(|a, b| a.is_invalidation() == b.is_invalidation());
    runs.filter(|run| run.first().is_some_and(Command::is_invalidation))
}

impl<S: CommandSink> RepeatingSink<S> {
    /// Pushes the first pass behind nothing. `None` if the call has none.
    fn first_pass(
        &self,
        smmu: SmmuId,
        commands: &[Command],
    ) -> Result<Option<S::Pushed>, SinkError> {
        let mut runs = repeated(self.passes, commands);
        let Some(first) = runs.next() else { return Ok(None) };
        let mut pushed = self.sink.push(smmu, None, first)?;
        for run in runs {
            pushed = self.sink.push(smmu, Some(pushed), run)?;
        }
        Ok(Some(self.sync(smmu, pushed)?))
    }

    /// Pushes the first pass, if the call has one, behind `pushed`.
    fn first_pass_behind(
        &self,
        smmu: SmmuId,
        mut pushed: S::Pushed,
        commands: &[Command],
    ) -> Result<S::Pushed, SinkError> {
        let mut runs = repeated(self.passes, commands).peekable();
        if runs.peek().is_none() {
            return Ok(pushed);
        }
        for run in runs {
            pushed = self.sink.push(smmu, Some(pushed), run)?;
        }
        self.sync(smmu, pushed)
    }

    /// Ends the first pass: the SMMU completes it before it reads the second.
    fn sync(&self, smmu: SmmuId, pushed: S::Pushed) -> Result<S::Pushed, SinkError> {
        self.sink.push(smmu, Some(pushed), &[Command::SYNC])
    }
}

impl<S: OfSmmu> OfSmmu for RepeatingSink<S> {
    fn smmu(&self) -> SmmuId {
        self.sink.smmu()
    }
}

impl<S: CommandSink> CommandSink for RepeatingSink<S> {
    type Ticket = S::Ticket;
    type Pushed = RepeatedPushed<S::Pushed>;

    fn issue(&self, smmu: SmmuId, commands: &[Command]) -> Result<S::Ticket, SinkError> {
        match self.first_pass(smmu, commands)? {
            None => self.sink.issue(smmu, commands),
            Some(pushed) => self.sink.prove(pushed, commands),
        }
    }

    fn push(
        &self,
        smmu: SmmuId,
        pushed: Option<Self::Pushed>,
        commands: &[Command],
    ) -> Result<Self::Pushed, SinkError> {
        let before = match pushed {
            Some(of) if of.smmu != smmu => return Err(SinkError::UnknownSmmu { smmu }),
            Some(of) => Some(self.first_pass_behind(smmu, of.pushed, commands)?),
            None => self.first_pass(smmu, commands)?,
        };
        Ok(RepeatedPushed { smmu, pushed: self.sink.push(smmu, before, commands)? })
    }

    fn prove(&self, pushed: Self::Pushed, commands: &[Command]) -> Result<S::Ticket, SinkError> {
        let RepeatedPushed { smmu, pushed } = pushed;
        self.sink.prove(self.first_pass_behind(smmu, pushed, commands)?, commands)
    }

    fn wait(&self, ticket: S::Ticket) -> Result<SyncProof, SinkError> {
        self.sink.wait(ticket)
    }

    fn issue_encoded(
        &self,
        smmu: SmmuId,
        commands: EncodedBatch<'_>,
    ) -> Result<S::Ticket, SinkError> {
        match self.passes {
            Passes::One => self.sink.issue_encoded(smmu, commands),
            Passes::Two => commands.decoded(|commands| self.issue(smmu, commands)),
        }
    }

    fn push_encoded(
        &self,
        smmu: SmmuId,
        pushed: Option<Self::Pushed>,
        commands: EncodedBatch<'_>,
    ) -> Result<Self::Pushed, SinkError> {
        let before = match pushed {
            _ if self.passes == Passes::Two => {
                return commands.decoded(|commands| self.push(smmu, pushed, commands));
            }
            Some(of) if of.smmu != smmu => return Err(SinkError::UnknownSmmu { smmu }),
            Some(of) => Some(of.pushed),
            None => None,
        };
        Ok(RepeatedPushed { smmu, pushed: self.sink.push_encoded(smmu, before, commands)? })
    }

    fn prove_encoded(
        &self,
        pushed: Self::Pushed,
        commands: EncodedBatch<'_>,
    ) -> Result<S::Ticket, SinkError> {
        match self.passes {
            Passes::One => self.sink.prove_encoded(pushed.pushed, commands),
            Passes::Two => commands.decoded(|commands| self.prove(pushed, commands)),
        }
    }
}
