//! What a command queue has besides its registers: faults, a pending timeout, a listener.

use smmu_types::{Command, RawCommand};

use crate::command::form::CommandForm;
use crate::injected_fault::InjectedFault;

/// One of the command queues of an SMMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum QueueId {
    Main,
    Second,
    /// An enhanced queue, counted over all control pages.
    Enhanced(u16),
}

/// State of a command queue beside its registers.
#[derive(Debug, Default)]
pub(crate) struct CommandFeed {
    pub(crate) faults: Vec<InjectedFault>,
    /// A device has not answered `ATC_INV`; the next `CMD_SYNC` fails.
    pub(crate) atc_timed_out: bool,
    /// Invalidations that wait for a `CMD_SYNC` of this queue, oldest first.
    pub(crate) held_back: Vec<(Command, CommandForm)>,
    /// The commands carried out since the last take; `None` without a listener.
    pub(crate) heard: Option<Vec<RawCommand>>,
}

impl CommandFeed {
    pub(crate) fn with(faults: Vec<InjectedFault>) -> Self {
        CommandFeed { faults, ..CommandFeed::default() }
    }

    /// Reset as at power-on. Injected faults stay: they belong to the machine.
    pub(crate) fn reset(&mut self) {
        self.atc_timed_out = false;
        self.held_back.clear();
    }

    pub(crate) fn listen(&mut self) {
        self.heard.get_or_insert_default();
    }

    pub(crate) fn heard(&mut self) -> Vec<RawCommand> {
        self.heard.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Count down the injected refusal; true when it is this command's turn.
    pub(crate) fn take_refusal(&mut self) -> bool {
        let at = self.faults.iter().position(|f| matches!(f, InjectedFault::RefuseCommand { .. }));
        match at.and_then(|at| self.faults.get_mut(at).map(|fault| (at, fault))) {
            Some((at, InjectedFault::RefuseCommand { after: 0 })) => {
                self.faults.remove(at);
                true
            }
            Some((_, InjectedFault::RefuseCommand { after })) => {
                *after -= 1;
                false
            }
            _ => false,
        }
    }

    /// Count down the injected aborts; true when this fetch aborts.
    pub(crate) fn take_abort(&mut self) -> bool {
        self.faults.retain(|fault| *fault != InjectedFault::FetchAbort { times: 0 });
        let aborts = self.faults.iter_mut().find_map(|fault| match fault {
            InjectedFault::FetchAbort { times } => Some(times),
            _ => None,
        });
        let aborts_now = aborts.map(|times| *times -= 1).is_some();
        self.faults.retain(|fault| *fault != InjectedFault::FetchAbort { times: 0 });
        aborts_now
    }
}
