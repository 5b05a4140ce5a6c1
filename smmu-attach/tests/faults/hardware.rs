//! A command queue whose SMMU knows which transactions and groups wait.

use std::collections::BTreeSet;
use std::sync::Mutex;

use smmu_attach::faults::{PageGroup, StalledFault};
use smmu_types::seam::{CommandSink, SinkError};
use smmu_types::{Command, SmmuId, SyncProof};

/// What waits: a stall by stream and tag, or a group by stream, substream and number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Waits {
    Stall(u32, u16),
    Group(u32, Option<u32>, u16),
}

#[derive(Default)]
struct State {
    waits: BTreeSet<Waits>,
    sent: Vec<Command>,
    pushes: u32,
    // Pushes that still succeed, and how many fail after them.
    fails: Option<(u32, u32)>,
    panics: bool,
    wrong: Vec<String>,
}

/// The sink. It judges each answer against what waits.
pub(crate) struct Hardware {
    smmu: SmmuId,
    judges: bool,
    state: Mutex<State>,
}

impl Hardware {
    pub(crate) fn new(smmu: SmmuId) -> Self {
        Hardware { smmu, judges: true, state: Mutex::default() }
    }

    /// Hardware that takes every answer.
    pub(crate) fn lenient(smmu: SmmuId) -> Self {
        Hardware { judges: false, ..Self::new(smmu) }
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    pub(crate) fn stalls(&self, stream: u32, tag: u16) {
        assert!(self.with(|state| state.waits.insert(Waits::Stall(stream, tag))));
    }

    pub(crate) fn asks(&self, stream: u32, substream: Option<u32>, group: u16) {
        assert!(self.with(|state| state.waits.insert(Waits::Group(stream, substream, group))));
    }

    pub(crate) fn waits(&self, what: Waits) -> bool {
        self.with(|state| state.waits.contains(&what))
    }

    /// `after` more pushes succeed, then `times` of them fail.
    pub(crate) fn fail_after(&self, after: u32, times: u32) {
        self.with(|state| (state.fails, state.pushes) = (Some((after, times)), 0));
    }

    pub(crate) fn mend(&self) {
        self.with(|state| state.fails = None);
    }

    pub(crate) fn panic_once(&self) {
        self.with(|state| state.panics = true);
    }

    /// Pushes since [`fail_after`](Self::fail_after).
    pub(crate) fn pushes(&self) -> u32 {
        self.with(|state| state.pushes)
    }

    /// The SMMU loses its stalled transactions.
    pub(crate) fn reset(&self) {
        self.with(|state| state.waits.retain(|waits| matches!(waits, Waits::Group(..))));
    }

    /// The answers since the last call.
    pub(crate) fn take(&self) -> Vec<Command> {
        self.with(|state| std::mem::take(&mut state.sent))
    }

    /// Every answer was for something that waited, and nothing waits.
    pub(crate) fn check(&self) {
        self.with(|state| {
            assert_eq!(state.wrong, Vec::<String>::new());
            assert_eq!(state.waits, BTreeSet::new(), "not answered");
        });
    }

    /// Every answer so far was for something that waited.
    pub(crate) fn check_so_far(&self) {
        self.with(|state| assert_eq!(state.wrong, Vec::<String>::new()));
    }
}

impl CommandSink for Hardware {
    type Ticket = ();
    type Pushed = ();

    fn issue(&self, smmu: SmmuId, _: &[Command]) -> Result<(), SinkError> {
        Err(SinkError::UnknownSmmu { smmu })
    }

    fn push(&self, smmu: SmmuId, _: Option<()>, commands: &[Command]) -> Result<(), SinkError> {
        self.with(|state| {
            state.pushes += 1;
            if std::mem::take(&mut state.panics) {
                panic!("the sink of this test panics");
            }
            match &mut state.fails {
                Some((0, 0)) | None => {}
                Some((0, times)) => {
                    *times = times.saturating_sub(1);
                    return Err(SinkError::timeout(smmu));
                }
                Some((after, _)) => *after -= 1,
            }
            assert_eq!(smmu, self.smmu);
            for command in commands {
                let answered = match *command {
                    Command::Resume { stream, tag, .. } => Some(Waits::Stall(stream.0, tag)),
                    Command::PriResp { stream, substream, group, .. } => {
                        let substream = substream.map(|substream| substream.get());
                        Some(Waits::Group(stream.0, substream, group.get()))
                    }
                    _ => None,
                };
                let waited = answered.is_some_and(|answered| state.waits.remove(&answered));
                if self.judges && !waited {
                    state.wrong.push(format!("{command} answers nothing that waits"));
                }
                state.sent.push(*command);
            }
            Ok(())
        })
    }

    fn prove(&self, (): (), _: &[Command]) -> Result<(), SinkError> {
        Err(SinkError::UnknownSmmu { smmu: self.smmu })
    }

    fn wait(&self, (): ()) -> Result<SyncProof, SinkError> {
        Err(SinkError::UnknownSmmu { smmu: self.smmu })
    }
}

/// What a handler holds of a fault until it ends it.
pub(crate) enum Token<'h> {
    Stall(StalledFault<&'h Hardware>),
    Group(PageGroup<&'h Hardware>),
}

impl Token<'_> {
    /// Gives the answer 0, 1 or 2, or drops it. What the answer returns is the concern of others.
    pub(crate) fn end(self, how: u8) {
        let _ = match (self, how) {
            (Token::Stall(fault), 0) => fault.retry(),
            (Token::Stall(fault), 1) => fault.abort(),
            (Token::Stall(fault), 2) => fault.terminate(),
            (Token::Group(group), 0) => group.success(),
            (Token::Group(group), 1) => group.invalid(),
            (Token::Group(group), 2) => group.failure(),
            (token, _) => {
                drop(token);
                return;
            }
        };
    }
}
