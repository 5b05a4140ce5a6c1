//! The SMMU of the stress test: registers, and a thread that carries out commands.

use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

use smmu_types::queue::{Position, QueueSize};
use smmu_types::regs::{self, gerror};
use smmu_types::seam::{DmaBlock, Registers};
use smmu_types::{Command, CommandErrorCode, RawCommand};

use crate::commands::{CommandKind, MarkedCommand, SYNC};
use crate::memory::{BASE, StressMemory, StressRing};
use crate::random::XorShift;

/// A bit of `GERROR` that the queue must not touch: `EVENTQ_ABT_ERR`.
pub(crate) const FOREIGN: u32 = 1 << 2;

/// The result of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CommandOutcome {
    Done,
    Failed(CommandErrorCode),
}

/// The command at a position, and its result.
pub(crate) type LogEntry = (RawCommand, CommandOutcome);

#[derive(Debug, Default)]
pub(crate) struct StressRegisters {
    producer: AtomicU32,
    consumer: AtomicU32,
    gerror: AtomicU32,
    gerrorn: AtomicU32,
    pub(crate) events: AtomicU64,
    pub(crate) stop: AtomicBool,
    /// The number of commands that have failed so far.
    pub(crate) failed: AtomicU64,
    wrongs: Mutex<Vec<String>>,
}

impl StressRegisters {
    /// Record something that no SMMU may see.
    fn wrong(&self, wrong: fmt::Arguments<'_>) {
        self.wrongs.lock().unwrap().push(wrong.to_string());
    }

    pub(crate) fn wrongs(&self) -> Vec<String> {
        self.wrongs.lock().unwrap().clone()
    }

    /// Acknowledge the foreign bit, as a driver's `GERROR` handler does.
    pub(crate) fn acknowledge_foreign(&self) {
        let active = (self.gerror.load(Relaxed) ^ self.gerrorn.load(Relaxed)) & FOREIGN;
        self.write32(regs::GERRORN.offset(), self.gerrorn.load(Relaxed) ^ active);
    }

    fn is_stopped(&self) -> bool {
        (self.gerror.load(Relaxed) ^ self.gerrorn.load(Relaxed)) & gerror::CMDQ != 0
    }
}

/// The SMMU: registers, memory, and the size of the queue.
pub(crate) struct StressSmmu<'m> {
    pub(crate) registers: StressRegisters,
    pub(crate) memory: &'m StressMemory,
    pub(crate) size: QueueSize,
}

impl Registers for StressRegisters {
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
                // Changing a bit while its error is inactive would raise an error.
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
pub(crate) struct SmmuHabits {
    pub(crate) random: XorShift,
    /// It pauses at one in so many looks at `CMDQ_PROD`.
    pub(crate) stalls: u64,
    /// It cannot fetch one in so many commands.
    pub(crate) aborts: u64,
    /// It refuses one in so many `CMD_SYNC`s.
    pub(crate) refused_syncs: u64,
    /// It loses one in so many MSIs.
    pub(crate) lost_msis: u64,
}

/// What the SMMU has done.
#[derive(Debug, Default)]
pub(crate) struct SmmuLog {
    pub(crate) entries: Vec<LogEntry>,
    /// The positions of failed commands, in order.
    pub(crate) failed: Vec<u64>,
    pub(crate) aborts: u64,
    pub(crate) msis: u64,
    pub(crate) lost_msis: u64,
}

struct SmmuThread<'d, 'm> {
    device: &'d StressSmmu<'m>,
    habits: SmmuHabits,
    log: SmmuLog,
    // An ATC invalidation timed out, which the next CMD_SYNC has to report.
    late: bool,
    msi_on_its_way: Option<u32>,
}

impl StressSmmu<'_> {
    /// Carry out commands until the ring is empty and the test is over.
    pub(crate) fn work(&self, habits: SmmuHabits) -> SmmuLog {
        let log = SmmuLog::default();
        let mut smmu = SmmuThread { device: self, habits, log, late: false, msi_on_its_way: None };
        while smmu.look() {}
        smmu.log
    }
}

impl SmmuThread<'_, '_> {
    fn registers(&self) -> &StressRegisters {
        &self.device.registers
    }

    fn position(&self) -> u64 {
        self.log.entries.len() as u64
    }

    fn look(&mut self) -> bool {
        let size = self.device.size;
        let stop = self.registers().stop.load(Relaxed);
        let producer = self.registers().producer.load(Relaxed);
        let Some(mut waiting) = size.used(producer, Position(self.position()).pointer(size)) else {
            let at = self.position();
            self.registers().wrong(format_args!("CMDQ_PROD = {producer:#x} at position {at}"));
            return false;
        };
        if waiting == 0 {
            std::thread::yield_now();
            return !stop;
        }
        if self.habits.random.once_in(self.habits.stalls) {
            for _ in 0..self.habits.random.below(8) {
                std::thread::yield_now();
            }
        }
        if self.habits.random.once_in(64) {
            self.registers().gerror.fetch_xor(self.idle_foreign(), Relaxed);
        }
        // Several commands before one update of CMDQ_CONS.
        while waiting > 0 && !self.habits.random.once_in(4) {
            self.carry_out();
            waiting -= 1;
        }
        self.update_cons(0);
        true
    }

    /// The foreign bit, if its error is not active already.
    fn idle_foreign(&self) -> u32 {
        let registers = self.registers();
        !(registers.gerror.load(Relaxed) ^ registers.gerrorn.load(Relaxed)) & FOREIGN
    }

    fn update_cons(&self, code: u8) {
        let pointer = Position(self.position()).pointer(self.device.size);
        self.device.memory.release();
        self.registers().consumer.store(pointer | u32::from(code) << 24, Relaxed);
    }

    /// Stop with an error, and continue when a caller acknowledges it.
    fn fail(&mut self, code: CommandErrorCode) {
        self.update_cons(code.0);
        self.device.memory.release();
        self.registers().gerror.fetch_xor(gerror::CMDQ, Relaxed);
        while self.registers().is_stopped() {
            // No caller is left to acknowledge it.
            if self.registers().stop.load(Relaxed) {
                return;
            }
            std::thread::yield_now();
        }
    }

    fn fetch(&self) -> RawCommand {
        self.device.memory.acquire();
        let slot = Position(self.position()).index(self.device.size);
        let ring = StressRing(self.device.memory);
        let words = &ring.words()[slot * 2..slot * 2 + 2];
        RawCommand([words[0].load(Relaxed), words[1].load(Relaxed)])
    }

    fn failed(&mut self, code: CommandErrorCode) -> CommandOutcome {
        self.log.failed.push(self.position());
        self.registers().failed.store(self.log.failed.len() as u64, Relaxed);
        self.fail(code);
        CommandOutcome::Failed(code)
    }

    fn carry_out(&mut self) {
        // A time-out follows at this command. With it, three errors in a row would halt the queue.
        if !self.late && self.habits.random.once_in(self.habits.aborts) {
            self.log.aborts += 1;
            self.fail(CommandErrorCode::ABT);
        }
        let found = self.fetch();
        let outcome = match MarkedCommand::of(found) {
            _ if found.opcode() == SYNC => self.sync(found),
            Some(MarkedCommand { what: CommandKind::Illegal, .. }) => self.refuse(),
            Some(MarkedCommand { what, caller, page, .. }) => {
                self.late |= what == CommandKind::AtcLate;
                // SAFETY: this is the SMMU, and the command names the page.
                unsafe { self.device.memory.touch(caller, page) };
                CommandOutcome::Done
            }
            None => {
                let at = self.position();
                self.registers()
                    .wrong(format_args!("{found:x?} at position {at} was never queued"));
                self.refuse()
            }
        };
        self.log.entries.push((found, outcome));
    }

    fn refuse(&mut self) -> CommandOutcome {
        let outcome = self.failed(CommandErrorCode::ILL);
        let replaced = self.fetch();
        if replaced != Command::SYNC.encode() {
            let at = self.position();
            self.registers()
                .wrong(format_args!("{replaced:x?} in place of the refused command at {at}"));
        }
        if std::mem::take(&mut self.late) {
            // The replacement is the first CMD_SYNC behind the ATC invalidation.
            self.fail(CommandErrorCode::ATC_INV_SYNC);
        }
        outcome
    }

    fn sync(&mut self, sync: RawCommand) -> CommandOutcome {
        if std::mem::take(&mut self.late) {
            // The SMMU tries the CMD_SYNC again, and it completes.
            let outcome = self.failed(CommandErrorCode::ATC_INV_SYNC);
            self.complete(sync);
            return outcome;
        }
        if self.habits.random.once_in(self.habits.refused_syncs) {
            return self.refuse();
        }
        self.complete(sync);
        CommandOutcome::Done
    }

    fn write_msi(&mut self, end: u32) {
        self.log.msis += 1;
        self.device.memory.release();
        self.device.memory.msi().store(end.into(), Relaxed);
    }

    /// `CS` is bits 13:12: 1 is an MSI, with its data in bits 63:32 and its address in bits 119:66;
    /// 2 is an event.
    fn complete(&mut self, sync: RawCommand) {
        let [low, high] = sync.0;
        match low >> 12 & 3 {
            1 => {
                let position = self.position();
                let behind = u64::from(self.device.size.entries() * 16).max(64);
                let address = high & 0x00ff_ffff_ffff_fffc;
                let end = position as u32 + 1;
                if (address, low >> 32) != (BASE + behind, end.into()) {
                    self.registers().wrong(format_args!("{sync:x?} at position {position}"));
                }
                if let Some(end) = self.msi_on_its_way.take() {
                    self.write_msi(end);
                }
                if self.habits.random.once_in(self.habits.lost_msis) {
                    self.log.lost_msis += 1;
                } else if self.habits.random.once_in(3) {
                    // Visible just before the next CMD_SYNC is complete.
                    self.msi_on_its_way = Some(end);
                } else {
                    self.write_msi(end);
                }
            }
            2 => {
                self.registers().events.fetch_add(1, Relaxed);
            }
            _ => {}
        }
    }
}
