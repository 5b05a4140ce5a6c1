//! The command queues: commands are carried out when somebody looks, never before.

use smmu_types::regs::{cr0, gerror};
use smmu_types::{Command, CommandErrorCode, Completion, RawCommand};

use super::cmdq::meaning;
use super::device::Smmu;
use super::events::Ring;
use super::memory::Ram;
use super::profile::{Fault, SecondQueue};
use smmu_types::Irq;

/// One of the command queues of an SMMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    Main,
    Second,
}

/// What a command queue has besides its registers.
#[derive(Debug, Default)]
pub(super) struct Feed {
    pub(super) faults: Vec<Fault>,
    /// A device has not answered; the next `CMD_SYNC` tells.
    atc_timed_out: bool,
    heard: Option<Vec<RawCommand>>,
}

impl Feed {
    pub(super) fn with(faults: Vec<Fault>) -> Self {
        Feed { faults, ..Feed::default() }
    }

    /// Faults are part of the machine and stay.
    pub(super) fn reset(&mut self) {
        self.atc_timed_out = false;
    }

    pub(super) fn listen(&mut self) {
        self.heard.get_or_insert_default();
    }

    pub(super) fn heard(&mut self) -> Vec<RawCommand> {
        self.heard.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Count down the injected refusal; true when it is this command's turn.
    fn take_refusal(&mut self) -> bool {
        let at = self.faults.iter().position(|f| matches!(f, Fault::RefuseCommand { .. }));
        match at.and_then(|at| self.faults.get_mut(at).map(|fault| (at, fault))) {
            Some((at, Fault::RefuseCommand { after: 0 })) => {
                self.faults.remove(at);
                true
            }
            Some((_, Fault::RefuseCommand { after })) => {
                *after -= 1;
                false
            }
            _ => false,
        }
    }

    /// Count down the injected aborts; true when this fetch aborts.
    fn take_abort(&mut self) -> bool {
        self.faults.retain(|fault| *fault != Fault::FetchAbort { times: 0 });
        let aborts = self.faults.iter_mut().find_map(|fault| match fault {
            Fault::FetchAbort { times } => Some(times),
            _ => None,
        });
        let aborts_now = aborts.map(|times| *times -= 1).is_some();
        self.faults.retain(|fault| *fault != Fault::FetchAbort { times: 0 });
        aborts_now
    }
}

impl Smmu {
    fn feed(&self, which: Which) -> &Feed {
        match which {
            Which::Main => &self.main,
            Which::Second => &self.second,
        }
    }

    fn feed_mut(&mut self, which: Which) -> &mut Feed {
        match which {
            Which::Main => &mut self.main,
            Which::Second => &mut self.second,
        }
    }

    pub(super) fn command_ring(&self, which: Which) -> Ring {
        let base = match which {
            Which::Main => self.regs.cmdq_base,
            Which::Second => self.second_regs.base,
        };
        Ring::new(base, self.profile.cmdq_log2, RawCommand::BYTES as u64)
    }

    /// How many commands a look at the consumer carries out.
    pub(super) fn pace(&self, which: Which) -> u32 {
        let slow = self.feed(which).faults.iter().find_map(|fault| match fault {
            Fault::CommandQueueSlow { per_look } => Some(*per_look),
            _ => None,
        });
        slow.unwrap_or(self.profile.consume_per_poll)
    }

    fn runs(&self, which: Which) -> bool {
        let enabled = match which {
            Which::Main => {
                self.regs.cr0 & cr0::CMDQEN != 0 && self.active_errors() & gerror::CMDQ == 0
            }
            Which::Second => self.second_regs.runs(),
        };
        enabled && !self.feed(which).faults.contains(&Fault::CommandQueueStuck)
    }

    /// Carry out up to `limit` commands.
    pub(super) fn consume(&mut self, ram: &Ram, which: Which, limit: u32) {
        for _ in 0..limit {
            if !self.runs(which) {
                return;
            }
            let ring = self.command_ring(which);
            let mask = ring.size.pointer_mask();
            let (prod, cons) = match which {
                Which::Main => (self.regs.cmdq_prod, self.regs.cmdq_cons),
                Which::Second => (self.second_regs.prod, self.second_regs.cons),
            };
            let (at, upper) = (cons & mask, cons & !mask);
            // A producer that is nowhere in the queue was reported when it was written.
            if matches!(ring.size.used(prod & mask, at), None | Some(0)) {
                return;
            }
            match self.step(ram, which, &ring, at) {
                Ok(raw) => {
                    *self.consumer(which) = upper | ring.after(at);
                    if let Some(heard) = &mut self.feed_mut(which).heard {
                        heard.push(raw);
                    }
                }
                Err(code) => {
                    *self.consumer(which) = u32::from(code.0) << 24 | at;
                    match which {
                        Which::Main => self.raise_error(ram, gerror::CMDQ),
                        Which::Second => {
                            self.second_regs.raise_error();
                            self.interrupt(Irq::SecondQueue);
                        }
                    }
                    return;
                }
            }
        }
    }

    fn consumer(&mut self, which: Which) -> &mut u32 {
        match which {
            Which::Main => &mut self.regs.cmdq_cons,
            Which::Second => &mut self.second_regs.cons,
        }
    }

    fn step(
        &mut self,
        ram: &Ram,
        which: Which,
        ring: &Ring,
        at: u32,
    ) -> Result<RawCommand, CommandErrorCode> {
        if ring.base & (ring.align() - 1) != 0 || self.feed_mut(which).take_abort() {
            return Err(CommandErrorCode::ABT);
        }
        let raw = RawCommand(ram.read_words(ring.slot(at)).ok_or(CommandErrorCode::ABT)?);
        if self.feed_mut(which).take_refusal() {
            return Err(CommandErrorCode::ILL);
        }
        let (command, form) = meaning(raw);
        if which == Which::Second && !self.second_takes(command) {
            return Err(CommandErrorCode::ILL);
        }
        if let Command::Sync { .. } = command
            && std::mem::take(&mut self.feed_mut(which).atc_timed_out)
        {
            return Err(CommandErrorCode::ATC_INV_SYNC);
        }
        self.execute(ram, command, form)?;
        if let Command::AtcInv { stream, .. } = command {
            let feed = self.feed_mut(which);
            feed.atc_timed_out |= feed.faults.contains(&Fault::AtcTimeout { stream });
        }
        Ok(raw)
    }

    /// Whether the second queue takes a command; it has neither MSIs nor events for its `CMD_SYNC`.
    fn second_takes(&self, command: Command) -> bool {
        match command {
            Command::Sync { completion, .. } => completion == Completion::None,
            Command::TlbiNhAsid { .. } | Command::TlbiNhVa { .. } | Command::AtcInv { .. } => true,
            _ => self.profile.second_queue == Some(SecondQueue::Full),
        }
    }

    /// What a device has not answered is not forgotten when the second queue is turned off: the main queue's next
    /// `CMD_SYNC` tells.
    pub(super) fn inherit_timeout(&mut self) {
        self.main.atc_timed_out |= std::mem::take(&mut self.second.atc_timed_out);
    }
}
