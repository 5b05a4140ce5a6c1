//! The ring, and an SMMU that consumes it and checks what it finds.

use std::cell::RefCell;
use std::fmt;

use crate::machine::{Core, Machine, Word};

/// Slots of a ring, and cells of ours.
pub(crate) const ENTRIES: u64 = 1024;
/// Slots of 16 bytes in a cache line.
const SLOTS_PER_LINE: u64 = 4;

/// The commands of one call: the core, and the number of the call on that core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) core: usize,
    pub(crate) call: u64,
    /// The number of commands, with the `CMD_SYNC` if there is one.
    pub(crate) count: u64,
}

/// What the SMMU found in the ring that must not be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// `CMDQ_PROD` covers a slot that no core has filled.
    Unfilled { position: u64 },
    /// A command of another call than the one that comes next here.
    Order { position: u64, core: usize, call: u64 },
    /// `CMDQ_PROD` went back, or beyond a whole ring.
    Producer { from: u64, to: u64 },
    /// A core filled a slot that the SMMU has yet to consume.
    Overwritten { position: u64 },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Unfilled { position } => {
                write!(f, "the SMMU fetches position {position}, which no core has filled")
            }
            Fault::Order { position, core, call } => write!(
                f,
                "position {position} has call {call} of core {core}, which is not the next there"
            ),
            Fault::Producer { from, to } => write!(f, "CMDQ_PROD goes from {from} to {to}"),
            Fault::Overwritten { position } => {
                write!(f, "position {position} is filled before the SMMU has consumed its slot")
            }
        }
    }
}

#[derive(Debug, Default)]
struct Smmu {
    /// The first position that is not consumed.
    consumer: u64,
    /// The batch at which the SMMU is, and how many of its commands it has consumed.
    batch: Option<(u64, u64, u64)>,
    /// The next call of each core that has pushed here.
    calls: Vec<u64>,
    fault: Option<Fault>,
}

/// What the registers of the SMMU are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Registers {
    /// Registers of a device: no line moves.
    Device,
    /// A word of memory, as in the benchmarks of `smmu-cmdq`.
    Memory,
}

/// The ring. The SMMU consumes everything at the write of `CMDQ_PROD`.
#[derive(Debug)]
pub(crate) struct Ring {
    slots: Vec<Word>,
    /// `CMDQ_PROD` and `CMDQ_CONS`, where they are memory.
    register: Option<Word>,
    count: u64,
    smmu: RefCell<Smmu>,
}

/// A slot holds its position and its batch, so that the SMMU notices what is not in its place.
fn slot_value(position: u64, batch: Batch) -> u64 {
    (position + 1) << 34 | (batch.core as u64) << 24 | batch.call & 0xff_ffff
}

impl Ring {
    /// A ring for batches of `count` commands.
    pub(crate) fn new(machine: &Machine, registers: Registers, cores: usize, count: u64) -> Ring {
        let smmu = Smmu { calls: vec![0; cores], ..Smmu::default() };
        Ring {
            slots: machine.words("ring", ENTRIES, SLOTS_PER_LINE),
            register: (registers == Registers::Memory)
                .then(|| machine.word(machine.line("registers"), 0)),
            count,
            smmu: RefCell::new(smmu),
        }
    }

    /// Fill the slots of a batch, as `CommandQueue::fill` of `produce.rs` does.
    pub(crate) async fn fill(&self, core: &Core, start: u64, batch: Batch) {
        core.pass(core.costs().command * batch.count).await;
        for position in start..start + batch.count {
            let value = slot_value(position, batch);
            core.store(self.slots[(position % ENTRIES) as usize], value).await;
            let smmu = &mut *self.smmu.borrow_mut();
            if position >= smmu.consumer + ENTRIES {
                smmu.fault.get_or_insert(Fault::Overwritten { position });
            }
        }
    }

    /// Write `CMDQ_PROD`. The SMMU consumes everything before `end`.
    pub(crate) async fn write_prod(&self, core: &Core, end: u64) {
        match self.register {
            Some(register) => core.store(register, end).await,
            None => core.register().await,
        }
        let smmu = &mut *self.smmu.borrow_mut();
        if end < smmu.consumer || end > smmu.consumer + ENTRIES {
            smmu.fault.get_or_insert(Fault::Producer { from: smmu.consumer, to: end });
            return;
        }
        for position in smmu.consumer..end {
            let value = core.peek(self.slots[(position % ENTRIES) as usize]);
            if let Err(fault) = smmu.consume(position, value, self.count) {
                smmu.fault.get_or_insert(fault);
            }
        }
        smmu.consumer = end;
    }

    /// Read `CMDQ_CONS`.
    pub(crate) async fn read_cons(&self, core: &Core) -> u64 {
        match self.register {
            Some(register) => {
                core.load(register).await;
            }
            None => core.register().await,
        }
        self.smmu.borrow().consumer
    }

    /// The calls of each core whose commands the SMMU has consumed.
    pub(crate) fn calls(&self) -> Vec<u64> {
        self.smmu.borrow().calls.clone()
    }

    /// The first fault.
    pub(crate) fn fault(&self) -> Option<Fault> {
        self.smmu.borrow().fault
    }
}

impl Smmu {
    fn consume(&mut self, position: u64, value: u64, count: u64) -> Result<(), Fault> {
        if value >> 34 != (position + 1) & 0x3fff_ffff {
            return Err(Fault::Unfilled { position });
        }
        let (core, call) = (value >> 24 & 0x3ff, value & 0xff_ffff);
        let found = Fault::Order { position, core: core as usize, call };
        let next = self.calls.get_mut(core as usize).ok_or(found)?;
        if call != *next & 0xff_ffff {
            return Err(found);
        }
        // A batch begun must come to its end before another begins.
        let consumed = match self.batch.take() {
            Some((of, its, consumed)) if (of, its) == (core, call) => consumed + 1,
            Some(_) => return Err(found),
            None => 1,
        };
        if consumed == count {
            *next += 1;
        } else {
            self.batch = Some((core, call, consumed));
        }
        Ok(())
    }
}
