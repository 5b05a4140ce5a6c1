//! What is known of one machine.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use smmu_engine::machine::{BackendError, Machine, Ram};
use smmu_types::pool::Window;
use smmu_types::regs;
use smmu_types::seam::{Registers, RegistersExt};

use crate::explore::memory::{BASE, DEVICES, SMMUS};
use crate::explore::raw_op::Kind;

/// Looks at `CMDQ_CONS` or at a register before an SMMU counts as stuck.
pub(super) const LOOKS: u32 = 1000;
pub(super) const SYNC: [u64; 2] = [0x46, 0];

pub(super) type Regs = Arc<dyn Registers + Send + Sync>;

/// When a rig empties the caches of an SMMU by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::explore) enum Flushes {
    Never,
    /// So that each transaction sees the tables of that moment.
    BeforeEachDma,
}

/// One machine that raw work runs on.
pub(in crate::explore) struct RawRig {
    pub(super) machine: Box<dyn Machine>,
    pub(super) ram: Ram,
    pub(super) registers: Vec<Regs>,
    pub(super) kind: Kind,
    pub(super) queues: [Queues; SMMUS],
    /// How many writes of each device wait.
    pub(super) waiting: [usize; DEVICES.len()],
    /// Where in its page each of them writes.
    pub(super) offsets: Vec<u64>,
    /// The same of those that ended by the last operation.
    pub(super) ended_offsets: Vec<u64>,
    pub(super) flushes: Flushes,
    /// The SMMUs whose stream table has had two levels, and is linear now or still has them.
    pub(super) split: [Levels; SMMUS],
}

/// The levels of a stream table since the work began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Levels {
    #[default]
    One,
    /// Two, with this `SPLIT`.
    Two(u32),
    /// It had two, and is linear again.
    OneAgain,
}

/// What the driver knows of the queues of an SMMU.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Queues {
    /// log2 of the commands, and where the next one goes.
    pub(super) commands: u32,
    pub(super) produced: u32,
    /// log2 of the events, and where the next one comes from.
    pub(super) events: u32,
    pub(super) taken: u32,
    /// The next page request.
    pub(super) pages_taken: u32,
    /// The overflow flags that the driver has acknowledged: of events, and of page requests.
    pub(super) acknowledged: [u32; 2],
    /// Nothing is taken out.
    pub(super) held: bool,
}

impl RawRig {
    pub(super) fn write(&self, smmu: usize, register: regs::Reg<u32, regs::Rw>, value: u32) {
        if let Some(r) = self.registers.get(smmu) {
            r.write(register, value);
        }
    }

    pub(super) fn put(&self, at: u64, word: u64) {
        let index = (at.wrapping_sub(BASE) / 8) as usize;
        if let Some(to) = self.ram.words().get(index) {
            to.store(word, Ordering::SeqCst);
        }
    }

    pub(super) fn get(&self, at: u64) -> u64 {
        let index = (at.wrapping_sub(BASE) / 8) as usize;
        self.ram.words().get(index).map_or(0, |word| word.load(Ordering::SeqCst))
    }

    pub(super) fn wait_for(
        &self,
        smmu: usize,
        register: &str,
        done: impl Fn(&Regs) -> bool,
    ) -> Result<(), BackendError> {
        match self.registers.get(smmu) {
            Some(r) if (0..LOOKS).any(|_| done(r)) => Ok(()),
            _ => {
                self.machine.check()?;
                Err(BackendError::Broken(format!("smmu{smmu}: {register} does not change")))
            }
        }
    }
}
