//! Transactions that stall, are recorded, and are resumed.

use smmu_types::regs::cr0;
use smmu_types::{Command, CommandErrorCode, EventRecord, ResumeAction, StallModel, StreamId};

use crate::dma::access::DmaAccess;
use crate::dma::transaction::NoPassage;
use crate::hazard::{Hazard, Waits};
use crate::model_ram::ModelRam;
use crate::model_smmu::ModelSmmu;
use crate::waiting::stalls::{DmaProgress, StallId, Stalled, Transaction};

impl ModelSmmu {
    /// A transaction arrives.
    pub(crate) fn begin(&mut self, ram: &ModelRam, transaction: Transaction) -> DmaProgress {
        let id = self.stalls.next;
        self.stalls.next += 1;
        self.arrive(ram, id, transaction)
    }

    /// A transaction arrives, or is retried as if it had just arrived.
    fn arrive(&mut self, ram: &ModelRam, id: u64, transaction: Transaction) -> DmaProgress {
        let Transaction { source, iova, write } = transaction;
        let access = if write.is_some() { DmaAccess::Write } else { DmaAccess::Read };
        let end = match self.translate(ram, source, iova, access) {
            Ok(address) => match write {
                Some(value) => ram.write32(address, value).map(|()| DmaProgress::Written),
                None => ram.read32(address).map(DmaProgress::Read),
            }
            .unwrap_or(DmaProgress::Refused),
            Err(NoPassage::Refused) => DmaProgress::Refused,
            Err(NoPassage::Stalls(event)) => {
                let tag = self.record_stall(ram, event);
                self.stalls.waiting.insert(id, Stalled { transaction, tag });
                return DmaProgress::Stalled(StallId(id));
            }
        };
        if self.stalls.waiting.remove(&id).is_some() {
            self.stalls.ended.insert(id, end);
        }
        end
    }

    /// Record the event of a stall. `None` if the queue is not writable, or no tag is free: the SMMU
    /// retries the transaction later, and loses nothing (7.4).
    fn record_stall(&mut self, ram: &ModelRam, event: EventRecord) -> Option<u16> {
        let tag = self.stalls.free_tag(self.profile.stall_max)?;
        let recorded = self.record_if_room(ram, event.with_stall(tag));
        if recorded {
            self.stalls.answered.remove(&(event.stream().0, tag));
        }
        recorded.then_some(tag)
    }

    /// Retry the stalled transactions whose event could not be recorded.
    pub(crate) fn retry_unrecorded(&mut self, ram: &ModelRam) {
        if self.regs.cr0 & cr0::SMMUEN == 0 {
            return;
        }
        let waiting = self.stalls.waiting.iter();
        let unrecorded: Vec<(u64, Transaction)> = waiting
            .filter(|(_, stalled)| stalled.tag.is_none())
            .map(|(id, stalled)| (*id, stalled.transaction))
            .collect();
        for (id, transaction) in unrecorded {
            self.arrive(ram, id, transaction);
        }
    }

    /// Whether this SMMU has the stall model.
    pub(crate) fn has_stalls(&self) -> bool {
        matches!(self.profile.stall_model, StallModel::Both | StallModel::Forced)
    }

    pub(crate) fn resume(
        &mut self,
        ram: &ModelRam,
        stream: StreamId,
        tag: u16,
        action: ResumeAction,
    ) -> Result<(), CommandErrorCode> {
        if !self.has_stalls() {
            return Err(CommandErrorCode::ILL);
        }
        let mut waiting = self.stalls.waiting.iter();
        let found =
            waiting.find(|(_, s)| s.transaction.source.stream == stream && s.tag == Some(tag));
        let Some((id, transaction)) = found.map(|(id, s)| (*id, s.transaction)) else {
            let twice = self.stalls.answered.contains(&(stream.0, tag));
            let command = Command::Resume { stream, tag, action };
            self.hazard(Hazard::WrongAnswer { smmu: self.index, command, twice });
            return Ok(());
        };
        self.stalls.answered.insert((stream.0, tag));
        match action {
            ResumeAction::Retry => {
                // The tag is free before the retry may need one.
                if let Some(stalled) = self.stalls.waiting.get_mut(&id) {
                    stalled.tag = None;
                }
                self.arrive(ram, id, transaction);
            }
            // `IDR0.TERM_MODEL` = 1: every end is an abort.
            ResumeAction::Terminate | ResumeAction::Abort => {
                self.stalls.waiting.remove(&id);
                self.stalls.ended.insert(id, DmaProgress::Refused);
            }
        }
        self.retry_unrecorded(ram);
        Ok(())
    }

    pub(crate) fn stall_term(
        &mut self,
        ram: &ModelRam,
        stream: StreamId,
    ) -> Result<(), CommandErrorCode> {
        if !self.has_stalls() {
            return Err(CommandErrorCode::ILL);
        }
        let of_stream = |stalled: &Stalled| stalled.transaction.source.stream == stream;
        let waiting = self.stalls.waiting.iter();
        let ids: Vec<(u64, Option<u16>)> =
            waiting.filter(|(_, s)| of_stream(s)).map(|(id, s)| (*id, s.tag)).collect();
        for (id, tag) in ids {
            self.stalls.waiting.remove(&id);
            self.stalls.ended.insert(id, DmaProgress::Refused);
            self.stalls.answered.extend(tag.map(|tag| (stream.0, tag)));
        }
        self.retry_unrecorded(ram);
        Ok(())
    }

    /// What the driver was told of and has not answered.
    pub(crate) fn unanswered(&self) -> Vec<Hazard> {
        let smmu = self.index;
        let stalls = self.stalls.recorded().map(|(stream, tag)| {
            let missing = Command::Resume { stream, tag, action: ResumeAction::Abort };
            Hazard::Unanswered { smmu, stream, waits: Waits::Stall { tag }, missing }
        });
        stalls.chain(self.pages.unanswered(smmu)).collect()
    }
}
