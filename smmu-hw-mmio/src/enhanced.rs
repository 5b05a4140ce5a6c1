//! Turns the enhanced command queues (ECMDQ) of an old owner off (3.5.6).
//!
//! The order for each queue that is on:
//!
//! 1. `ECMDQ_PROD.EN` = `ECMDQ_CONS.ENACK`: a change of the old owner has taken effect. Until then
//!    the SMMU ignores writes of `ECMDQ_PROD`.
//! 2. The SMMU carries out what the queue has, or has stopped at an error (`ERR` differs from
//!    `ERRACK`).
//! 3. `EN` = 0, and nothing else of `ECMDQ_PROD` changes: the error stays unacknowledged, so the queue
//!    does not move on.
//! 4. `ENACK` = 0: errors are reported, and the SMMU consumes nothing any more (3.5.6.2).

use smmu_types::fields::{ecmdq_cons, ecmdq_prod};
use smmu_types::queue::QueueSize;
use smmu_types::regs::ecmdq::Interface;
use smmu_types::regs::queue_base::QueueBase;
use smmu_types::regs::{self, cmdq_control_page_base, ecmdq};
use smmu_types::seam::{Registers, RegistersExt, Wait, poll};
use smmu_types::{Capabilities, CommandErrorCode, EnhancedQueues};

use crate::bringup::BringupState;
use crate::takeover_error::{OldCommands, TakeoverError};

const EN: u32 = ecmdq_prod::EN.mask() as u32;
const ENACK: u32 = ecmdq_cons::ENACK.mask() as u32;
const ERR: u32 = ecmdq_cons::ERR.mask() as u32;
// One difference of two registers tells the error, and one their being on.
const _: () = assert!(EN == ENACK && ERR == ecmdq_prod::ERRACK.mask() as u32);

/// Which queues there are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OldEnhanced {
    idr6: u32,
    has: EnhancedQueues,
    /// log2 of the entries of the largest queue (`IDR1.CMDQS`).
    largest: u8,
}

impl OldEnhanced {
    /// The queues of an SMMU. Reads where each control page is; writes nothing.
    ///
    /// # Errors
    ///
    /// A control page lies where no offset reaches, or `IDR6` tells of more queues than a page has.
    pub(crate) fn find<R: Registers>(
        registers: &R,
        caps: &Capabilities,
        has: EnhancedQueues,
    ) -> Result<Self, TakeoverError> {
        let largest = caps.cmdq_log2.min(QueueSize::MAX_LOG2);
        let found = OldEnhanced { idr6: registers.read(regs::IDR6), has, largest };
        for page in 0..found.pages() {
            let _first = found.interface(registers, page, 0)?;
        }
        Ok(found)
    }

    fn pages(&self) -> u16 {
        1 << self.has.pages_log2.min(8)
    }

    fn interface<R: Registers>(
        &self,
        registers: &R,
        page: u16,
        queue: u8,
    ) -> Result<Interface, TakeoverError> {
        let base = registers.read(cmdq_control_page_base(page as u8));
        let unreachable = TakeoverError::ControlPage { page, base };
        ecmdq::interface(self.idr6, base, queue).ok_or(unreachable)
    }

    /// Turns off each queue that is on. Adds up what was cut off; the error is the first one.
    pub(crate) fn turn_off<R: Registers, W: Wait>(
        &self,
        smmu: &BringupState<R, W>,
        drain: Drain,
    ) -> Result<OldCommands, TakeoverError> {
        let mut all = OldCommands::default();
        for page in 0..self.pages() {
            for queue in 0..1_u16 << self.has.queues_log2.min(8) {
                let queue = queue as u8;
                let interface = self.interface(&smmu.registers, page, queue)?;
                let queue = Queue { page, queue, interface, largest: self.largest };
                let old = queue.stop(smmu, drain)?;
                all.cut_off = all.cut_off.saturating_add(old.cut_off);
                all.error = all.error.or(old.error);
            }
        }
        Ok(all)
    }
}

/// Whether step 2 comes before step 3.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Drain {
    Wait,
    /// The SMMU is about to be reset: nothing depends on the commands.
    CutOff,
}

struct Queue {
    page: u16,
    queue: u8,
    interface: Interface,
    largest: u8,
}

impl Queue {
    fn stop<R: Registers, W: Wait>(
        &self,
        smmu: &BringupState<R, W>,
        drain: Drain,
    ) -> Result<OldCommands, TakeoverError> {
        let (registers, timeout) = (&smmu.registers, smmu.config.timeout);
        let read =
            || (registers.read(self.interface.producer), registers.read(self.interface.consumer));
        let settled = |on: u32| {
            poll(&smmu.wait, timeout, || {
                let (producer, consumer) = read();
                (consumer & ENACK == producer & EN & on).then_some(())
            })
        };
        let stuck = |_| {
            let Queue { page, queue, .. } = *self;
            let (producer, consumer) = read();
            TakeoverError::EnhancedQueue { page, queue, producer, consumer, timeout }
        };
        // Step 1. A queue that is off needs no more.
        settled(EN).map_err(stuck)?;
        if read().0 & EN == 0 {
            return Ok(OldCommands::default());
        }
        // Step 2.
        let base = QueueBase::decode(registers.read(self.interface.base));
        let size = QueueSize::from_log2(self.largest).map(|largest| base.effective_size(largest));
        let drained = || {
            let (producer, consumer) = read();
            let left = size?.used(producer, consumer)?;
            let failed = (producer ^ consumer) & ERR != 0;
            let reason = ecmdq_cons::ERR_REASON.get(&[u64::from(consumer)]) as u8;
            let error = failed.then_some(CommandErrorCode(reason));
            (left == 0 || failed).then_some(OldCommands { cut_off: left, error })
        };
        let old = match drain {
            Drain::Wait => poll(&smmu.wait, timeout, drained).map_err(stuck)?,
            Drain::CutOff => OldCommands::default(),
        };
        // Steps 3 and 4.
        registers.write(self.interface.producer, read().0 & !EN);
        settled(0).map_err(stuck)?;
        Ok(old)
    }
}
