//! The queues of one machine: what goes in, what comes out, and how they change while they run.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use smmu_engine::machine::BackendError;
use smmu_types::pool::Window;
use smmu_types::regs::{self, cr0, gbpa, gerror};
use smmu_types::seam::RegistersExt;
use smmu_types::{CommandErrorCode, EventRecord, PriRecord};

use super::raw_rig::{LOOKS, RawRig, SYNC};
use super::seen::Seen;
use crate::explore::memory::{
    BASE, PAGE_REQUESTS_LOG2, SMMUS, STREAM_TABLE_LOG2, command_ring, event_ring, page_ring,
    placed, stream_table, stream_table_l1,
};
use crate::explore::raw_op::Kind;

const OVERFLOW: u32 = 1 << 31;

impl RawRig {
    pub(super) fn active_errors(&self, smmu: usize) -> u32 {
        let Some(r) = self.registers.get(smmu) else { return 0 };
        r.read(regs::GERROR) ^ r.read(regs::GERRORN)
    }

    /// The enable bits of a machine whose queues are on.
    fn queue_bits(&self) -> u32 {
        let plain = cr0::CMDQEN | cr0::EVENTQEN;
        match self.kind {
            Kind::Plain => plain,
            Kind::Full => plain | cr0::PRIQEN | cr0::ATSCHK,
        }
    }

    /// Sends commands and a `CMD_SYNC`, mends the queue at each refusal, and says what was refused.
    pub(super) fn send(
        &mut self,
        smmu: usize,
        commands: &[[u64; 2]],
    ) -> Result<Vec<(u32, CommandErrorCode)>, BackendError> {
        let mut refused = Vec::new();
        let Some(log2) = self.queues.get(smmu).map(|queues| queues.commands) else {
            return Ok(refused);
        };
        let (full, sync) = (commands.len() / (1 << log2) * (1 << log2), [SYNC]);
        let (whole, rest) = commands.split_at(full);
        // A ring that is full stops the driver until the SMMU has consumed all.
        for (n, part) in (0..).zip(whole.chunks(1 << log2)) {
            self.send_part(smmu, n << log2, part.iter(), &mut refused)?;
        }
        self.send_part(smmu, full as u32, rest.iter().chain(&sync), &mut refused)?;
        Ok(refused)
    }

    fn send_part<'c>(
        &mut self,
        smmu: usize,
        before: u32,
        commands: impl Iterator<Item = &'c [u64; 2]>,
        refused: &mut Vec<(u32, CommandErrorCode)>,
    ) -> Result<(), BackendError> {
        let (Some(r), Some(queues)) = (self.registers.get(smmu), self.queues.get(smmu)) else {
            return Ok(());
        };
        let (r, log2, first) = (Arc::clone(r), queues.commands, queues.produced);
        let pointer = (2 << log2) - 1;
        let ring = placed(command_ring(smmu), log2);
        let slot = |at: u32| ring + 16 * u64::from(at & ((1 << log2) - 1));
        let mut at = first;
        for [w0, w1] in commands {
            self.put(slot(at), *w0);
            self.put(slot(at) + 8, *w1);
            at = (at + 1) & pointer;
        }
        if let Some(queues) = self.queues.get_mut(smmu) {
            queues.produced = at;
        }
        r.write(regs::CMDQ_PROD, at);
        let mut looks = 0;
        loop {
            let cons = r.read(regs::CMDQ_CONS);
            if cons & pointer == at {
                return Ok(());
            }
            if self.active_errors(smmu) & gerror::CMDQ != 0 {
                let index = before + ((cons & pointer).wrapping_sub(first) & pointer);
                refused.push((index, regs::cmdq_cons::error(cons)));
                self.put(slot(cons), SYNC[0]);
                self.put(slot(cons) + 8, SYNC[1]);
                r.write(regs::GERRORN, r.read(regs::GERRORN) ^ gerror::CMDQ);
            }
            looks += 1;
            if looks > LOOKS {
                self.machine.check()?;
                let (cons, code) = (cons & pointer, regs::cmdq_cons::error(cons));
                return Err(BackendError::Broken(format!(
                    "smmu{smmu} is stuck: CMDQ_CONS {cons:#x}, CMDQ_PROD {at:#x}, last error {code}"
                )));
            }
        }
    }

    /// Sets the registers of the queues, which are off.
    pub(super) fn set_up_queues(&mut self, smmu: usize, commands: u32, events: u32) {
        let Some(r) = self.registers.get(smmu).cloned() else { return };
        self.set_command_queue(smmu, commands);
        self.set_event_queue(smmu, events);
        if self.kind == Kind::Full {
            r.write(regs::PRIQ_BASE, page_ring(smmu) | u64::from(PAGE_REQUESTS_LOG2));
            r.write(regs::PRIQ_PROD, 0);
            r.write(regs::PRIQ_CONS, 0);
        }
        if let Some(queues) = self.queues.get_mut(smmu) {
            (queues.pages_taken, queues.acknowledged, queues.held) = (0, [0; 2], false);
        }
    }

    fn set_command_queue(&mut self, smmu: usize, log2: u32) {
        let (Some(r), Some(queues)) = (self.registers.get(smmu), self.queues.get_mut(smmu)) else {
            return;
        };
        r.write(regs::CMDQ_BASE, placed(command_ring(smmu), log2) | u64::from(log2));
        r.write(regs::CMDQ_PROD, 0);
        r.write(regs::CMDQ_CONS, 0);
        (queues.commands, queues.produced) = (log2, 0);
    }

    fn set_event_queue(&mut self, smmu: usize, log2: u32) {
        let (Some(r), Some(queues)) = (self.registers.get(smmu), self.queues.get_mut(smmu)) else {
            return;
        };
        r.write(regs::EVENTQ_BASE, placed(event_ring(smmu), log2) | u64::from(log2));
        r.write(regs::EVENTQ_PROD, 0);
        r.write(regs::EVENTQ_CONS, 0);
        (queues.events, queues.taken) = (log2, 0);
        let [of_events, _] = &mut queues.acknowledged;
        *of_events = 0;
    }

    /// Writes `CR0` and waits for `CR0ACK`.
    pub(super) fn enable(&self, smmu: usize, bits: u32) -> Result<(), BackendError> {
        self.write(smmu, regs::CR0, bits);
        self.wait_for(smmu, "CR0ACK", |r| r.read(regs::CR0ACK) == bits)
    }

    fn enabled(&self, smmu: usize) -> u32 {
        self.registers.get(smmu).map_or(0, |r| r.read(regs::CR0))
    }

    pub(super) fn change_command_queue(
        &mut self,
        smmu: usize,
        log2: u32,
    ) -> Result<(), BackendError> {
        let bits = self.enabled(smmu);
        self.enable(smmu, bits & !cr0::CMDQEN)?;
        self.set_command_queue(smmu, log2);
        self.enable(smmu, bits | cr0::CMDQEN)
    }

    pub(super) fn change_event_queue(
        &mut self,
        smmu: usize,
        log2: Option<u32>,
    ) -> Result<(), BackendError> {
        let bits = self.enabled(smmu) & !cr0::EVENTQEN;
        self.enable(smmu, bits)?;
        let Some(log2) = log2 else { return Ok(()) };
        self.set_event_queue(smmu, log2);
        self.enable(smmu, bits | cr0::EVENTQEN)
    }

    /// The driver holds what comes, or takes it again.
    pub(super) fn hold(&mut self, smmu: usize, on: bool) {
        if let Some(queues) = self.queues.get_mut(smmu) {
            queues.held = on;
        }
    }

    /// Takes out of the queues of an SMMU what has come, unless the driver holds it.
    pub(super) fn take(&mut self, smmu: usize, seen: &mut Seen) -> Result<(), BackendError> {
        if self.queues.get(smmu).is_some_and(|queues| !queues.held) {
            self.take_held(smmu, seen)?;
        }
        Ok(())
    }

    /// Takes out of the queues of an SMMU what has come.
    pub(super) fn take_held(&mut self, smmu: usize, seen: &mut Seen) -> Result<(), BackendError> {
        let (Some(r), Some(queues)) = (self.registers.get(smmu), self.queues.get(smmu)) else {
            return Ok(());
        };
        let (r, mut queues) = (Arc::clone(r), *queues);
        let pointer = (2 << queues.events) - 1;
        let produced = r.read(regs::EVENTQ_PROD);
        let [of_events, of_requests] = &mut queues.acknowledged;
        let lost = produced ^ std::mem::replace(of_events, produced);
        let ring = placed(event_ring(smmu), queues.events);
        if produced & pointer != queues.taken || lost & OVERFLOW != 0 {
            while produced & pointer != queues.taken {
                let index = u64::from(queues.taken & ((1 << queues.events) - 1));
                seen.events.push((smmu, EventRecord(self.words_at(ring + 32 * index))));
                queues.taken = (queues.taken + 1) & pointer;
            }
            r.write(regs::EVENTQ_CONS, queues.taken | produced & OVERFLOW);
            self.machine.check()?;
            if lost & OVERFLOW != 0 {
                seen.lost.push(smmu);
            }
        }
        if self.kind == Kind::Full {
            let pointer = (2 << PAGE_REQUESTS_LOG2) - 1;
            let produced = r.read(regs::PRIQ_PROD);
            let lost = produced ^ std::mem::replace(of_requests, produced);
            while produced & pointer != queues.pages_taken {
                let index = u64::from(queues.pages_taken & ((1 << PAGE_REQUESTS_LOG2) - 1));
                let record = PriRecord(self.words_at(page_ring(smmu) + 16 * index));
                seen.requests.push((smmu, record));
                queues.pages_taken = (queues.pages_taken + 1) & pointer;
            }
            r.write(regs::PRIQ_CONS, queues.pages_taken | produced & OVERFLOW);
            if lost & OVERFLOW != 0 {
                seen.lost.push(smmu);
            }
        }
        if let Some(to) = self.queues.get_mut(smmu) {
            *to = queues;
        }
        Ok(())
    }

    fn words_at<const N: usize>(&self, at: u64) -> [u64; N] {
        let first = ((at - BASE) / 8) as usize;
        let mut words = [0; N];
        for (to, from) in words.iter_mut().zip(self.ram.words().get(first..).unwrap_or_default()) {
            *to = from.load(Ordering::SeqCst);
        }
        words
    }

    pub(super) fn translate(&self, smmu: usize, on: bool) -> Result<(), BackendError> {
        // A queue that is off stays off.
        let queues = cr0::CMDQEN | cr0::EVENTQEN;
        let bits = self.enabled(smmu) & queues | self.queue_bits() & !queues;
        // SMMUEN = 0 implies PRIQEN = 0 (8.2).
        let bits = if on { bits | cr0::SMMUEN } else { bits & !cr0::PRIQEN };
        self.enable(smmu, bits)
    }

    pub(super) fn abort_all(&self, smmu: usize, on: bool) -> Result<(), BackendError> {
        self.write(smmu, regs::GBPA, gbpa::UPDATE | if on { gbpa::ABORT } else { 0 });
        self.wait_for(smmu, "GBPA", |r| r.read(regs::GBPA) & gbpa::UPDATE == 0)
    }

    /// The registers of the stream table. Translation is off.
    pub(super) fn set_stream_table(&self, smmu: usize, split: Option<u32>) {
        let Some(r) = self.registers.get(smmu).filter(|_| smmu < SMMUS) else { return };
        let (base, config) = match split {
            None => (stream_table(smmu), STREAM_TABLE_LOG2),
            Some(split) => (stream_table_l1(smmu), STREAM_TABLE_LOG2 | split << 6 | 1 << 16),
        };
        r.write(regs::STRTAB_BASE, base);
        r.write(regs::STRTAB_BASE_CFG, config);
    }
}
