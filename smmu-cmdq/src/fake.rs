//! A fake SMMU that consumes a command queue, for tests of this crate and of its users.
//!
//! Needs the feature `fake`.
//!
//! ```
//! use smmu_cmdq::fake::{Consumer, Pace};
//! use smmu_cmdq::{CommandQueue, QueueConfig, SyncBy};
//! use smmu_types::fake::heap_pool;
//! use smmu_types::queue::QueueSize;
//! use smmu_types::seam::{CountingWait, DmaMemory};
//! use smmu_types::{Command, SmmuId};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let pool = heap_pool(0x1_0000);
//! let device = Consumer::new(pool.window(), Pace::PerRead(1));
//! let size = QueueSize::from_log2(4).ok_or("no such size")?;
//! let block = pool.allocate(smmu_cmdq::layout(size, SyncBy::Polling))?;
//! let (wait, config) = (CountingWait::new(), QueueConfig::default());
//! let queue = CommandQueue::new(SmmuId(0), &device, block, size, wait, config)?;
//! device.enable(queue.base(), queue.size());
//! let _proof = queue.run(&[Command::CfgiAll])?;
//! assert_eq!(device.executed(), [Command::CfgiAll, Command::SYNC]);
//! # Ok(())
//! # }
//! ```

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::vec::Vec;

use smmu_types::fake::HeapWindow;
use smmu_types::pool::Window;
use smmu_types::queue::{Position, QueueSize};
use smmu_types::regs::{self, gerror, queue_base};
use smmu_types::seam::{Registers, RegistersExt};
use smmu_types::{Command, CommandErrorCode, PhysAddr, RawCommand};

/// When the fake SMMU carries out commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pace {
    /// All queued commands, inside the write of `CMDQ_PROD` or of `GERRORN`.
    OnWrite,
    /// At most so many at each read of `CMDQ_CONS`.
    PerRead(u32),
    /// Never.
    Dead,
}

#[derive(Debug)]
struct ConsumerState {
    pace: Pace,
    base: u64,
    size: QueueSize,
    producer: u32,
    consumer: Position,
    error: u8,
    gerror: u32,
    gerrorn: u32,
    failures: BTreeMap<u64, Vec<CommandErrorCode>>,
    lie: Option<u32>,
    executed: Vec<Command>,
}

/// The registers of a fake SMMU that consumes its command queue.
///
/// It stops with `CERROR_ILL` at a command that [`Command::interpret`] does not know, and with the
/// given codes at a position of [`fail_at`](Self::fail_at). It stays stopped until a write of
/// `GERRORN` acknowledges the error.
#[derive(Debug)]
pub struct Consumer {
    memory: Arc<[AtomicU64]>,
    memory_base: PhysAddr,
    state: Mutex<ConsumerState>,
}

impl Consumer {
    /// A fake SMMU that reads the memory of `window`.
    #[must_use]
    pub fn new(window: &HeapWindow, pace: Pace) -> Self {
        Consumer {
            memory: window.share(),
            memory_base: window.base(),
            state: Mutex::new(ConsumerState {
                pace,
                base: 0,
                size: const { QueueSize::from_log2(0).unwrap() },
                producer: 0,
                consumer: Position(0),
                error: 0,
                gerror: 0,
                gerrorn: 0,
                failures: BTreeMap::new(),
                lie: None,
                executed: Vec::new(),
            }),
        }
    }

    /// Enable the queue as a bring-up does. No effect if `base` cannot be a queue's base.
    pub fn enable(&self, base: PhysAddr, size: QueueSize) {
        if let Ok(value) = queue_base::encode(base, size, RawCommand::BYTES as u64) {
            self.write(regs::CMDQ_BASE, value);
            self.write(regs::CMDQ_PROD, 0);
            self.write(regs::CMDQ_CONS, 0);
        }
    }

    /// Change when commands are carried out.
    pub fn set_pace(&self, pace: Pace) {
        self.lock().pace = pace;
    }

    /// Stop at the command at `position`, counted from 0 in the queue, with each of these errors in
    /// turn. The command is carried out after the last.
    pub fn fail_at(&self, position: u64, codes: &[CommandErrorCode]) {
        let reversed = codes.iter().rev().copied().collect();
        self.lock().failures.insert(position, reversed);
    }

    /// Return this value from every read of `CMDQ_CONS`; with `None` the real one again.
    pub fn lie(&self, cons: Option<u32>) {
        self.lock().lie = cons;
    }

    /// The commands carried out so far, in order.
    #[must_use]
    pub fn executed(&self) -> Vec<Command> {
        self.lock().executed.clone()
    }

    /// Report an error without a command, like an SMMU with an error from before the queue was
    /// enabled.
    pub fn raise_cmdq_error(&self, code: CommandErrorCode) {
        let mut state = self.lock();
        state.error = code.0;
        state.gerror ^= gerror::CMDQ;
    }

    /// Report global errors that have nothing to do with the command queue: bits of
    /// [`regs::gerror`], of which each is toggled.
    pub fn raise_global_errors(&self, bits: u32) {
        self.lock().gerror ^= bits & !gerror::CMDQ;
    }

    fn lock(&self) -> MutexGuard<'_, ConsumerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fetch(&self, state: &ConsumerState) -> RawCommand {
        fence(Ordering::SeqCst);
        let address = state.base + state.consumer.index(state.size) as u64 * 16;
        let word = (address - self.memory_base.0) as usize / 8;
        let load = |at: usize| self.memory.get(at).map_or(0, |word| word.load(Ordering::Relaxed));
        RawCommand([load(word), load(word + 1)])
    }

    fn consume(&self, state: &mut ConsumerState, most: u32) {
        for _ in 0..most {
            let pointer = state.consumer.pointer(state.size);
            let waiting = state.size.used(state.producer, pointer).unwrap_or(0);
            if waiting == 0 || (state.gerror ^ state.gerrorn) & gerror::CMDQ != 0 {
                return;
            }
            let command = Command::interpret(self.fetch(state));
            let planned = state.failures.get_mut(&state.consumer.0).and_then(Vec::pop);
            let code = match command {
                Command::Unknown(_) => planned.or(Some(CommandErrorCode::ILL)),
                _ => planned,
            };
            if let Some(code) = code {
                state.error = code.0;
                state.gerror ^= gerror::CMDQ;
                return;
            }
            state.executed.push(command);
            state.consumer = state.consumer.advanced(1);
        }
    }

    fn consume_on_write(&self, state: &mut ConsumerState) {
        if state.pace == Pace::OnWrite {
            self.consume(state, u32::MAX);
        }
    }
}

impl Registers for Consumer {
    fn read32(&self, offset: u32) -> u32 {
        let mut state = self.lock();
        match offset {
            o if o == regs::CMDQ_PROD.offset() => state.producer,
            o if o == regs::CMDQ_CONS.offset() => {
                if let Pace::PerRead(most) = state.pace {
                    self.consume(&mut state, most);
                }
                let truth = state.consumer.pointer(state.size) | u32::from(state.error) << 24;
                state.lie.unwrap_or(truth)
            }
            o if o == regs::GERROR.offset() => state.gerror,
            o if o == regs::GERRORN.offset() => state.gerrorn,
            _ => 0,
        }
    }

    fn write32(&self, offset: u32, value: u32) {
        let mut state = self.lock();
        match offset {
            o if o == regs::CMDQ_PROD.offset() => {
                state.producer = value;
                self.consume_on_write(&mut state);
            }
            o if o == regs::CMDQ_CONS.offset() => {
                state.consumer = Position(value.into());
                state.error = 0;
            }
            o if o == regs::GERRORN.offset() => {
                state.gerrorn = value;
                self.consume_on_write(&mut state);
            }
            _ => {}
        }
    }

    fn read64(&self, offset: u32) -> u64 {
        if offset == regs::CMDQ_BASE.offset() {
            let state = self.lock();
            return state.base | u64::from(state.size.log2());
        }
        self.read32(offset).into()
    }

    fn write64(&self, offset: u32, value: u64) {
        if offset == regs::CMDQ_BASE.offset()
            && let Some(size) = QueueSize::from_log2((value & 0x1f) as u8)
        {
            let mut state = self.lock();
            state.base = value & 0x000f_ffff_ffff_ffe0;
            state.size = size;
        }
    }
}
