//! The SMMU: registers, and a thread that carries out commands.

use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

use smmu_types::queue::{Position, QueueSize};
use smmu_types::regs::{self, gerror};
use smmu_types::seam::{DmaBlock, Registers};
use smmu_types::{Command, CommandErrorCode, RawCommand};

use crate::commands::{Marked, SYNC, What};
use crate::memory::{BASE, Memory, Ring};
use crate::random::Random;

/// A bit of `GERROR` that is none of the queue's business: `EVENTQ_ABT_ERR`.
pub(crate) const FOREIGN: u32 = 1 << 2;

/// What became of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    Failed(CommandErrorCode),
}

/// What lay at a position, and what became of it.
pub(crate) type Entry = (RawCommand, Outcome);

#[derive(Debug, Default)]
pub(crate) struct Registry {
    producer: AtomicU32,
    consumer: AtomicU32,
    gerror: AtomicU32,
    gerrorn: AtomicU32,
    pub(crate) events: AtomicU64,
    pub(crate) stop: AtomicBool,
    /// How many commands have failed so far.
    pub(crate) failed: AtomicU64,
    wrongs: Mutex<Vec<String>>,
}

impl Registry {
    /// Something that no SMMU may see.
    fn wrong(&self, wrong: fmt::Arguments<'_>) {
        self.wrongs.lock().unwrap().push(wrong.to_string());
    }

    pub(crate) fn wrongs(&self) -> Vec<String> {
        self.wrongs.lock().unwrap().clone()
    }

    /// Acknowledge whatever else there is, as a driver's handler of `GERROR` does.
    pub(crate) fn acknowledge_foreign(&self) {
        let active = (self.gerror.load(Relaxed) ^ self.gerrorn.load(Relaxed)) & FOREIGN;
        self.write32(regs::GERRORN.offset(), self.gerrorn.load(Relaxed) ^ active);
    }

    fn is_stopped(&self) -> bool {
        (self.gerror.load(Relaxed) ^ self.gerrorn.load(Relaxed)) & gerror::CMDQ != 0
    }
}

/// The registers of a queue of one size.
pub(crate) struct Device<'m> {
    pub(crate) registry: Registry,
    pub(crate) memory: &'m Memory,
    pub(crate) size: QueueSize,
}

impl Registers for Registry {
    fn read32(&self, offset: u32) -> u32 {
        match offset {
            o if o == regs::CMDQ_PROD.offset() => self.producer.load(Relaxed),
            o if o == regs::CMDQ_CONS.offset() => self.consumer.load(Relaxed),
            o if o == regs::GERROR.offset() => self.gerror.load(Relaxed),
            o if o == regs::GERRORN.offset() => self.gerrorn.load(Relaxed),
            _ => panic!("a read of {offset:#x}"),
        }
    }

    fn write32(&self, offset: u32, value: u32) {
        match offset {
            o if o == regs::CMDQ_PROD.offset() => self.producer.store(value, Relaxed),
            o if o == regs::GERRORN.offset() => {
                // A bit that is changed while no error is active would raise one.
                let active = self.gerror.load(Relaxed) ^ self.gerrorn.load(Relaxed);
                let changed = self.gerrorn.swap(value, Relaxed) ^ value;
                if changed & !active != 0 {
                    self.wrong(format_args!("GERRORN: {changed:#x} of {active:#x}"));
                }
            }
            _ => panic!("a write of {offset:#x}"),
        }
    }

    fn read64(&self, offset: u32) -> u64 {
        panic!("a read of {offset:#x}")
    }

    fn write64(&self, offset: u32, _: u64) {
        panic!("a write of {offset:#x}")
    }
}

/// How the SMMU works.
pub(crate) struct Manner {
    pub(crate) random: Random,
    /// It stands still once in so many looks at `CMDQ_PROD`.
    pub(crate) stalls: u64,
    /// It cannot fetch a command once in so many.
    pub(crate) aborts: u64,
    /// It refuses a `CMD_SYNC` once in so many.
    pub(crate) refused_syncs: u64,
    /// It loses an MSI once in so many.
    pub(crate) lost_msis: u64,
}

/// What the SMMU has done.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) entries: Vec<Entry>,
    /// Where commands failed, in order.
    pub(crate) failed: Vec<u64>,
    pub(crate) aborts: u64,
    pub(crate) msis: u64,
    pub(crate) lost_msis: u64,
}

struct Worker<'d, 'm> {
    device: &'d Device<'m>,
    manner: Manner,
    log: Log,
    // An ATC invalidation was not answered, and the next CMD_SYNC has to say so.
    late: bool,
    msi_on_its_way: Option<u32>,
}

impl Device<'_> {
    /// Carry out commands until there are none and the test is over.
    pub(crate) fn work(&self, manner: Manner) -> Log {
        let log = Log::default();
        let mut worker = Worker { device: self, manner, log, late: false, msi_on_its_way: None };
        while worker.look() {}
        worker.log
    }
}

impl Worker<'_, '_> {
    fn registry(&self) -> &Registry {
        &self.device.registry
    }

    fn position(&self) -> u64 {
        self.log.entries.len() as u64
    }

    fn look(&mut self) -> bool {
        let size = self.device.size;
        let stop = self.registry().stop.load(Relaxed);
        let producer = self.registry().producer.load(Relaxed);
        let Some(mut waiting) = size.used(producer, Position(self.position()).pointer(size)) else {
            let at = self.position();
            self.registry().wrong(format_args!("CMDQ_PROD = {producer:#x} at position {at}"));
            return false;
        };
        if waiting == 0 {
            std::thread::yield_now();
            return !stop;
        }
        if self.manner.random.once_in(self.manner.stalls) {
            for _ in 0..self.manner.random.below(8) {
                std::thread::yield_now();
            }
        }
        if self.manner.random.once_in(64) {
            self.registry().gerror.fetch_xor(self.idle_foreign(), Relaxed);
        }
        // Several commands, before CMDQ_CONS says so.
        while waiting > 0 && !self.manner.random.once_in(4) {
            self.carry_out();
            waiting -= 1;
        }
        self.tell(0);
        true
    }

    /// The foreign bit, if it may be raised.
    fn idle_foreign(&self) -> u32 {
        let registry = self.registry();
        !(registry.gerror.load(Relaxed) ^ registry.gerrorn.load(Relaxed)) & FOREIGN
    }

    fn tell(&self, code: u8) {
        let pointer = Position(self.position()).pointer(self.device.size);
        self.device.memory.release();
        self.registry().consumer.store(pointer | u32::from(code) << 24, Relaxed);
    }

    /// Stop with an error, and go on when it is acknowledged.
    fn fail(&mut self, code: CommandErrorCode) {
        self.tell(code.0);
        self.device.memory.release();
        self.registry().gerror.fetch_xor(gerror::CMDQ, Relaxed);
        while self.registry().is_stopped() {
            // Callers that have given up acknowledge nothing.
            if self.registry().stop.load(Relaxed) {
                return;
            }
            std::thread::yield_now();
        }
    }

    fn fetch(&self) -> RawCommand {
        self.device.memory.acquire();
        let slot = Position(self.position()).index(self.device.size);
        let ring = Ring(self.device.memory);
        let words = &ring.words()[slot * 2..slot * 2 + 2];
        RawCommand([words[0].load(Relaxed), words[1].load(Relaxed)])
    }

    fn failed(&mut self, code: CommandErrorCode) -> Outcome {
        self.log.failed.push(self.position());
        self.registry().failed.store(self.log.failed.len() as u64, Relaxed);
        self.fail(code);
        Outcome::Failed(code)
    }

    fn carry_out(&mut self) {
        // Three errors in a row at one command would be the end of the queue.
        if !self.late && self.manner.random.once_in(self.manner.aborts) {
            self.log.aborts += 1;
            self.fail(CommandErrorCode::ABT);
        }
        let found = self.fetch();
        let outcome = match Marked::of(found) {
            _ if found.opcode() == SYNC => self.sync(found),
            Some(Marked { what: What::Illegal, .. }) => self.refuse(),
            Some(Marked { what, caller, page, .. }) => {
                self.late |= what == What::AtcLate;
                // SAFETY: this is the SMMU, and the command names the page.
                unsafe { self.device.memory.touch(caller, page) };
                Outcome::Done
            }
            None => {
                let at = self.position();
                self.registry().wrong(format_args!("{found:x?} at position {at} was never queued"));
                self.refuse()
            }
        };
        self.log.entries.push((found, outcome));
    }

    fn refuse(&mut self) -> Outcome {
        let outcome = self.failed(CommandErrorCode::ILL);
        let mended = self.fetch();
        if mended != Command::SYNC.encode() {
            let at = self.position();
            self.registry().wrong(format_args!("{mended:x?} in place of what was refused at {at}"));
        }
        if std::mem::take(&mut self.late) {
            // It is the first CMD_SYNC behind the ATC invalidation.
            self.fail(CommandErrorCode::ATC_INV_SYNC);
        }
        outcome
    }

    fn sync(&mut self, sync: RawCommand) -> Outcome {
        if std::mem::take(&mut self.late) {
            // It is tried again, and then it completes.
            let outcome = self.failed(CommandErrorCode::ATC_INV_SYNC);
            self.complete(sync);
            return outcome;
        }
        if self.manner.random.once_in(self.manner.refused_syncs) {
            return self.refuse();
        }
        self.complete(sync);
        Outcome::Done
    }

    fn write_msi(&mut self, end: u32) {
        self.log.msis += 1;
        self.device.memory.release();
        self.device.memory.msi().store(end.into(), Relaxed);
    }

    /// `CS` is bits 13:12: 1 is an MSI with its data in bits 63:32 and its address in bits 119:66, and 2 an event.
    fn complete(&mut self, sync: RawCommand) {
        let [low, high] = sync.0;
        match low >> 12 & 3 {
            1 => {
                let position = self.position();
                let behind = u64::from(self.device.size.entries() * 16).max(64);
                let address = high & 0x00ff_ffff_ffff_fffc;
                let end = position as u32 + 1;
                if (address, low >> 32) != (BASE + behind, end.into()) {
                    self.registry().wrong(format_args!("{sync:x?} at position {position}"));
                }
                if let Some(end) = self.msi_on_its_way.take() {
                    self.write_msi(end);
                }
                if self.manner.random.once_in(self.manner.lost_msis) {
                    self.log.lost_msis += 1;
                } else if self.manner.random.once_in(3) {
                    // It is visible before the next CMD_SYNC is complete, and no sooner.
                    self.msi_on_its_way = Some(end);
                } else {
                    self.write_msi(end);
                }
            }
            2 => {
                self.registry().events.fetch_add(1, Relaxed);
            }
            _ => {}
        }
    }
}
