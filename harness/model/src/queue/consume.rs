//! The command queues: the SMMU carries out commands when a driver reads `CONS`, never before.

use smmu_types::queue::QueueSize;
use smmu_types::regs::{cr0, gerror};
use smmu_types::{Command, CommandErrorCode, Completion, Irq, PhysAddr, RawCommand};

use crate::command::form::meaning;
use crate::injected_fault::InjectedFault;
use crate::model_ram::ModelRam;
use crate::model_smmu::ModelSmmu;
use crate::profile::SecondQueue;
use crate::queue::feed::{CommandFeed, QueueId};
use crate::queue::ring::QueueRing;

impl ModelSmmu {
    fn feed(&self, which: QueueId) -> &CommandFeed {
        match which {
            QueueId::Main => &self.main,
            QueueId::Second => &self.second,
            QueueId::Enhanced(n) => &self.enhanced[usize::from(n)].feed,
        }
    }

    fn feed_mut(&mut self, which: QueueId) -> &mut CommandFeed {
        match which {
            QueueId::Main => &mut self.main,
            QueueId::Second => &mut self.second,
            QueueId::Enhanced(n) => &mut self.enhanced[usize::from(n)].feed,
        }
    }

    /// All command queues that the SMMU has.
    pub(crate) fn command_queues(&self) -> impl Iterator<Item = QueueId> + use<> {
        let enhanced = (0..self.enhanced.len() as u16).map(QueueId::Enhanced);
        [QueueId::Main, QueueId::Second].into_iter().chain(enhanced)
    }

    /// `PROD` and `CONS` as stored.
    fn pointers(&self, which: QueueId) -> (u32, u32) {
        match which {
            QueueId::Main => (self.regs.cmdq_prod, self.regs.cmdq_cons),
            QueueId::Second => (self.second_regs.prod, self.second_regs.cons),
            QueueId::Enhanced(n) => {
                let queue = &self.enhanced[usize::from(n)];
                (queue.prod, queue.cons)
            }
        }
    }

    pub(crate) fn command_ring(&self, which: QueueId) -> QueueRing {
        let base = match which {
            QueueId::Main => self.regs.cmdq_base,
            QueueId::Second => self.second_regs.base,
            QueueId::Enhanced(n) => self.enhanced[usize::from(n)].base,
        };
        QueueRing::new(base, self.profile.cmdq_log2, RawCommand::BYTES as u64)
    }

    /// Commands that the SMMU carries out at each read of `CONS`.
    pub(crate) fn pace(&self, which: QueueId) -> u32 {
        let slow = self.feed(which).faults.iter().find_map(|fault| match fault {
            InjectedFault::CommandQueueSlow { per_look } => Some(*per_look),
            _ => None,
        });
        slow.unwrap_or(self.profile.consume_per_poll)
    }

    fn runs(&self, which: QueueId) -> bool {
        let enabled = match which {
            QueueId::Main => {
                self.regs.cr0 & cr0::CMDQEN != 0 && self.active_errors() & gerror::CMDQ == 0
            }
            QueueId::Second => self.second_regs.runs(),
            QueueId::Enhanced(n) => self.enhanced[usize::from(n)].runs(),
        };
        enabled && !self.feed(which).faults.contains(&InjectedFault::CommandQueueStuck)
    }

    /// Carry out up to `limit` commands.
    pub(crate) fn consume(&mut self, ram: &ModelRam, which: QueueId, limit: u32) {
        for _ in 0..limit {
            if !self.runs(which) {
                return;
            }
            let ring = self.command_ring(which);
            let mask = ring.size.pointer_mask();
            let (prod, cons) = self.pointers(which);
            let (at, upper) = (cons & mask, cons & !mask);
            // The write of an impossible `PROD` was reported as a violation already.
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
                    match which {
                        QueueId::Main => {
                            self.regs.cmdq_cons = u32::from(code.0) << 24 | at;
                            self.raise_error(ram, gerror::CMDQ);
                        }
                        QueueId::Second => {
                            self.second_regs.cons = u32::from(code.0) << 24 | at;
                            self.second_regs.raise_error();
                            self.interrupt(Irq::SecondQueue);
                        }
                        QueueId::Enhanced(n) => {
                            self.enhanced[usize::from(n)].raise_error(code.0, at);
                            self.raise_error(ram, gerror::CMDQP);
                        }
                    }
                    return;
                }
            }
        }
    }

    fn consumer(&mut self, which: QueueId) -> &mut u32 {
        match which {
            QueueId::Main => &mut self.regs.cmdq_cons,
            QueueId::Second => &mut self.second_regs.cons,
            QueueId::Enhanced(n) => &mut self.enhanced[usize::from(n)].cons,
        }
    }

    fn step(
        &mut self,
        ram: &ModelRam,
        which: QueueId,
        ring: &QueueRing,
        at: u32,
    ) -> Result<RawCommand, CommandErrorCode> {
        let refused = which != QueueId::Main && !ring.is_aligned();
        if refused || self.feed_mut(which).take_abort() {
            return Err(CommandErrorCode::ABT);
        }
        // 6.3.26: the SMMU ignores base bits below the alignment.
        let slot = ring.rounded_down().slot(at);
        let raw = RawCommand(ram.read_words(slot).ok_or(CommandErrorCode::ABT)?);
        if self.feed_mut(which).take_refusal() {
            return Err(CommandErrorCode::ILL);
        }
        let (command, form) = meaning(raw);
        if which == QueueId::Second && !self.second_takes(command) {
            return Err(CommandErrorCode::ILL);
        }
        if let Command::Sync { .. } = command {
            let timed_out = std::mem::take(&mut self.feed_mut(which).atc_timed_out);
            if !timed_out {
                self.catch_up(ram, which);
            }
            self.synced(which);
            if timed_out {
                return Err(CommandErrorCode::ATC_INV_SYNC);
            }
        }
        if self.profile.until_sync && command.is_invalidation() {
            self.check(ram, command, form)?;
            self.feed_mut(which).held_back.push((command, form));
        } else {
            self.execute(ram, command, form)?;
        }
        self.fetch_ahead(ram);
        if let Command::AtcInv { stream, substream, span, .. } = command {
            if !self.atc_inv(ram, which, stream, substream, span) {
                self.time_out(which);
            } else if self.profile.until_sync {
                self.feed_mut(which).held_back.push((command, form));
            }
        }
        Ok(raw)
    }

    /// A `CMD_SYNC` of this queue completes: so do the invalidations before it.
    fn catch_up(&mut self, ram: &ModelRam, which: QueueId) {
        for (command, form) in std::mem::take(&mut self.feed_mut(which).held_back) {
            if let Command::AtcInv { stream, substream, span, .. } = command {
                self.drop_from_atc(ram, stream, substream, span);
            } else {
                // The SMMU checked it when it consumed it.
                let _ = self.execute(ram, command, form);
            }
        }
    }

    /// Whether the second queue accepts a command. Its `CMD_SYNC` completes without MSI and event.
    fn second_takes(&self, command: Command) -> bool {
        match command {
            Command::Sync { completion, .. } => completion == Completion::None,
            Command::TlbiNhAsid { .. } | Command::TlbiNhVa { .. } | Command::AtcInv { .. } => true,
            _ => self.profile.second_queue == Some(SecondQueue::Full),
        }
    }

    /// The next `CMD_SYNC` of this queue fails: a device does not answer an `ATC_INV`.
    pub(crate) fn time_out(&mut self, which: QueueId) {
        self.feed_mut(which).atc_timed_out = true;
    }

    pub(crate) fn faults_of(&self, which: QueueId) -> &[InjectedFault] {
        &self.feed(which).faults
    }

    /// The addresses of the commands that a queue holds and the SMMU has not consumed yet.
    pub(crate) fn queued(&self, which: QueueId) -> impl Iterator<Item = PhysAddr> {
        let ring = self.command_ring(which).rounded_down();
        let mask = ring.size.pointer_mask();
        let (prod, cons) = self.pointers(which);
        let cons = cons & mask;
        let used = ring.size.used(prod & mask, cons).unwrap_or(0);
        (0..used).map(move |n| ring.slot(cons.wrapping_add(n)))
    }

    /// Move a pending ATC timeout to the main queue when the second one is disabled: the main
    /// queue's next `CMD_SYNC` fails.
    pub(crate) fn inherit_timeout(&mut self) {
        self.main.atc_timed_out |= std::mem::take(&mut self.second.atc_timed_out);
    }

    /// Carry out commands until each queue is empty or stops.
    pub(crate) fn drain(&mut self, ram: &ModelRam) {
        // Twice the largest queue is enough: no command appears under the lock.
        let all = 2 << QueueSize::MAX_LOG2;
        for queue in self.command_queues() {
            self.consume(ram, queue, all);
        }
    }

    /// Let time pass. Only a driver that waits for an MSI reads no register meanwhile, so an SMMU
    /// without MSIs does nothing.
    pub(crate) fn tick(&mut self, ram: &ModelRam) {
        if self.profile.msi {
            self.consume(ram, QueueId::Main, self.pace(QueueId::Main));
        }
    }
}
