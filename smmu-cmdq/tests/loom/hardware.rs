//! The SMMU under the model checker: registers, memory, and a thread that consumes commands.

use std::ops::Range;
use std::sync::atomic::AtomicU64 as Plain;
use std::time::Duration;

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use loom::thread;
use smmu_cmdq::{Port, Slots};
use smmu_types::seam::{Registers, Wait};
use smmu_types::{Asid, Command, CommandErrorCode, PhysAddr, RawCommand, SmmuId, Vmid, regs};

pub(crate) const SMMU: SmmuId = SmmuId(0);
pub(crate) const BASE: PhysAddr = PhysAddr(0x1_0000);
/// The slot for MSIs, behind a ring of up to 4.
pub(crate) const MSI_SLOT: usize = 4;
pub(crate) const SYNC: u8 = 0x46;
pub(crate) const EVENTQ_ABT: u32 = regs::gerror::EVENTQ_ABT;
pub(crate) const PRIQ_ABT: u32 = regs::gerror::PRIQ_ABT;
pub(crate) const POINTER: u32 = 0xf_ffff;
/// After so many waits of all threads, the checker explores no more branches. `SMMU_LOOM_WAITS`
/// replaces it.
pub(crate) const WAITS: u64 = 2;

/// A command with the caller's number in bits 7:4 of the ASID, and its own below.
pub(crate) const fn command(caller: u16, number: u16) -> Command {
    Command::TlbiNhAsid { vmid: Vmid(0), asid: Asid(caller << 4 | number) }
}

/// The number of a command that the SMMU refuses.
pub(crate) const BAD: u16 = 15;

pub(crate) fn is_sync(word: u64) -> bool {
    word as u8 == SYNC
}

pub(crate) fn caller_of(word: u64) -> usize {
    (word >> 52) as usize
}

/// One command. The checker watches accesses to the second word.
pub(crate) struct LoomSlot {
    pub(crate) word: AtomicU64,
    pub(crate) fetched: UnsafeCell<u64>,
}

pub(crate) fn waits() -> u64 {
    let Ok(value) = std::env::var("SMMU_LOOM_WAITS") else { return WAITS };
    value.parse().expect("SMMU_LOOM_WAITS is a number")
}

pub(crate) struct LoomSmmu {
    pub(crate) slots: Vec<LoomSlot>,
    pub(crate) msi: AtomicU32,
    pub(crate) prod: AtomicU32,
    pub(crate) cons: AtomicU32,
    pub(crate) gerror: AtomicU32,
    /// A read of `GERROR` may return an older value unless a barrier orders it.
    pub(crate) gerror_needs_order: bool,
    pub(crate) gerrorn: AtomicU32,
    pub(crate) prod_writes: UnsafeCell<()>,
    pub(crate) pages: [UnsafeCell<()>; 2],
    /// The time: one microsecond for each wait.
    pub(crate) ticks: Plain,
    pub(crate) waits: u64,
}

impl LoomSmmu {
    pub(crate) fn new(entries: usize) -> Self {
        let slot = || LoomSlot { word: AtomicU64::new(0), fetched: UnsafeCell::new(0) };
        LoomSmmu {
            slots: (0..entries).map(|_| slot()).collect(),
            msi: AtomicU32::new(0),
            prod: AtomicU32::new(0),
            cons: AtomicU32::new(0),
            gerror: AtomicU32::new(0),
            gerror_needs_order: false,
            gerrorn: AtomicU32::new(0),
            prod_writes: UnsafeCell::new(()),
            pages: [UnsafeCell::new(()), UnsafeCell::new(())],
            ticks: Plain::new(0),
            waits: waits(),
        }
    }

    /// Wait for another thread.
    ///
    /// Without a limit the checker would never finish: two threads can wait for a third in
    /// endlessly many orders.
    pub(crate) fn wait(&self) {
        if self.ticks.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == self.waits {
            loom::skip_branch();
        }
        thread::yield_now();
    }

    /// An error of the event queue, reported as any error in `GERROR`.
    pub(crate) fn abort_event(&self) {
        self.gerror.fetch_or(EVENTQ_ABT, Ordering::Relaxed);
    }

    pub(crate) fn touch_page(&self, caller: usize) {
        self.pages[caller].with_mut(|_| ());
    }
}

// Accesses to a device's register have one order that all threads agree on. In the checker only
// read-modify-writes have that. They are relaxed, so they order nothing else.
pub(crate) fn now(register: &AtomicU32) -> u32 {
    register.fetch_add(0, Ordering::Relaxed)
}

pub(crate) fn put(register: &AtomicU32, value: u32) {
    register.swap(value, Ordering::Relaxed);
}

#[derive(Clone)]
pub(crate) struct LoomMmio(pub(crate) Arc<LoomSmmu>);

impl Registers for LoomMmio {
    fn read32(&self, offset: u32) -> u32 {
        match offset {
            o if [Port::MAIN.producer, ENHANCED.producer].contains(&o) => now(&self.0.prod),
            o if [Port::MAIN.consumer, ENHANCED.consumer].contains(&o) => now(&self.0.cons),
            o if o == Port::MAIN.error && self.0.gerror_needs_order => {
                self.0.gerror.load(Ordering::Relaxed)
            }
            o if o == Port::MAIN.error => now(&self.0.gerror),
            o if o == Port::MAIN.acknowledge => self.0.gerrorn.load(Ordering::Relaxed),
            o => panic!("read of {o:#x}"),
        }
    }
    fn write32(&self, offset: u32, value: u32) {
        match offset {
            o if [Port::MAIN.producer, ENHANCED.producer].contains(&o) => {
                self.0.prod_writes.with_mut(|_| ());
                put(&self.0.prod, value);
            }
            o if o == Port::MAIN.acknowledge => self.0.gerrorn.store(value, Ordering::Relaxed),
            o => panic!("write of {o:#x}"),
        }
    }
    fn read64(&self, offset: u32) -> u64 {
        panic!("64-bit read of {offset:#x}")
    }
    fn write64(&self, offset: u32, _: u64) {
        panic!("64-bit write of {offset:#x}")
    }
}

#[derive(Clone)]
pub(crate) struct LoomRing(pub(crate) Arc<LoomSmmu>);

impl Slots for LoomRing {
    fn fill(&self, first: usize, commands: &[Command]) -> bool {
        for (at, command) in commands.iter().enumerate() {
            self.store(first + at, command.encode());
        }
        false
    }
    fn copy(&self, first: usize, commands: &[RawCommand]) -> bool {
        for (at, command) in commands.iter().enumerate() {
            self.store(first + at, *command);
        }
        false
    }
    fn store(&self, slot: usize, command: RawCommand) {
        // The queue clears the word for MSIs when it is made, before any other thread runs.
        let Some(slot) = self.0.slots.get(slot) else { return };
        // SAFETY: the checker watches over the access.
        slot.fetched.with_mut(|high| unsafe { *high = command.0[1] });
        slot.word.store(command.0[0], Ordering::Relaxed);
    }
    fn load(&self, slot: usize) -> RawCommand {
        RawCommand([self.0.slots[slot].word.load(Ordering::Relaxed), 0])
    }
    fn msi(&self, slot: usize) -> u32 {
        assert_eq!(slot, MSI_SLOT);
        self.0.msi.load(Ordering::Relaxed)
    }
    fn publish(&self, _: Range<usize>) {
        fence(Ordering::Release);
    }
    fn observe(&self, _: Range<usize>) {
        fence(Ordering::Acquire);
    }
    fn address(&self) -> PhysAddr {
        BASE
    }
    fn slots(&self) -> u64 {
        MSI_SLOT as u64 + 4
    }
}

impl Wait for LoomMmio {
    fn now(&self) -> Duration {
        Duration::from_micros(self.0.ticks.load(std::sync::atomic::Ordering::Relaxed))
    }
    fn relax(&self, _: u32) {
        self.0.wait();
    }
}

/// Where the SMMU reports errors, and callers acknowledge them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum ErrorReport {
    InGerror,
    /// As an enhanced command queue.
    InPointerRegisters,
}

/// An enhanced command queue, at offsets of its own.
pub(crate) const ENHANCED: Port = Port {
    producer: 0x8,
    consumer: 0xc,
    error: 0xc,
    acknowledge: 0x8,
    error_bit: 1 << 23,
    enable: 1 << 31,
};

/// The behaviour of the SMMU in one test.
#[derive(Clone, Copy)]
pub(crate) struct SmmuScript {
    pub(crate) errors: ErrorReport,
    /// After so many commands the SMMU stops for good.
    pub(crate) commands: usize,
    /// The first word of a command that it refuses, the code, and how often.
    pub(crate) refuses: Option<(u64, CommandErrorCode, u32)>,
    /// The number of times that it cannot fetch its first command.
    pub(crate) aborts: u32,
    /// Whether MSIs arrive.
    pub(crate) msi: MsiDelivery,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum MsiDelivery {
    Written,
    Lost,
}

pub(crate) const fn all(commands: usize) -> SmmuScript {
    SmmuScript {
        errors: ErrorReport::InGerror,
        commands,
        refuses: None,
        aborts: 0,
        msi: MsiDelivery::Written,
    }
}

/// The commands that the SMMU carried out, and the number of acknowledged errors.
pub(crate) struct CommandLog {
    pub(crate) words: Vec<u64>,
    pub(crate) acknowledged: u32,
    /// The bits beside the pointer in the consumer's register.
    pub(crate) flags: u32,
}

pub(crate) fn smmu(hardware: &LoomSmmu, script: SmmuScript) -> CommandLog {
    let entries = hardware.slots.len() as u32;
    let flags = if script.errors == ErrorReport::InGerror { 0 } else { ENHANCED.enable };
    let mut log = CommandLog { words: Vec::new(), acknowledged: 0, flags };
    let (mut cons, mut refusals) = (0, 0);
    loop {
        let prod = hardware.prod.load(Ordering::Acquire) & POINTER;
        while cons != prod {
            let index = (cons % entries) as usize;
            if log.acknowledged < script.aborts && cons == 0 {
                if !is_acknowledged(hardware, &mut log, cons, CommandErrorCode::ABT) {
                    return log;
                }
                log.acknowledged += 1;
                continue;
            }
            let slot = &hardware.slots[index];
            // SAFETY: the checker watches over the access.
            let high = slot.fetched.with(|high| unsafe { *high });
            let word = slot.word.load(Ordering::Relaxed);
            if word >> 48 & 0xf == BAD.into() {
                if !is_acknowledged(hardware, &mut log, cons, CommandErrorCode::ILL) {
                    return log;
                }
                log.acknowledged += 1;
                continue;
            }
            match script.refuses {
                Some((refused, code, times)) if refused == word && refusals < times => {
                    refusals += 1;
                    if !is_acknowledged(hardware, &mut log, cons, code) {
                        return log;
                    }
                    log.acknowledged += 1;
                    continue;
                }
                _ => {}
            }
            if !is_sync(word) {
                hardware.touch_page(caller_of(word));
            }
            log.words.push(word);
            fence(Ordering::Release);
            // CS = 1: by MSI.
            if is_sync(word) && word >> 12 & 3 == 1 && script.msi == MsiDelivery::Written {
                assert_eq!(high, BASE.0 + MSI_SLOT as u64 * 16, "an MSI into the ring");
                hardware.msi.store((word >> 32) as u32, Ordering::Relaxed);
            }
            cons = (cons + 1) % (entries * 2);
            put(&hardware.cons, cons | log.flags);
            if log.words.len() == script.commands {
                return log;
            }
        }
        hardware.wait();
    }
}

/// Report an error, and wait for the acknowledgement. `false`: none comes, since the queue has
/// halted.
pub(crate) fn is_acknowledged(
    hardware: &LoomSmmu,
    log: &mut CommandLog,
    cons: u32,
    code: CommandErrorCode,
) -> bool {
    let code = u32::from(code.0) << 24;
    if log.flags != 0 {
        log.flags ^= ENHANCED.error_bit;
        fence(Ordering::Release);
        put(&hardware.cons, cons | code | log.flags);
        let is_acknowledged = |prod: u32| (prod ^ log.flags) & ENHANCED.error_bit == 0;
        return (0..20).any(|_| {
            let done = is_acknowledged(hardware.prod.load(Ordering::Acquire));
            if !done {
                hardware.wait();
            }
            done
        });
    }
    put(&hardware.cons, cons | code);
    fence(Ordering::Release);
    let bit = Port::MAIN.error_bit;
    let gerror = hardware.gerror.fetch_xor(bit, Ordering::Relaxed) ^ bit;
    for _ in 0..20 {
        if (hardware.gerrorn.load(Ordering::Acquire) ^ gerror) & bit == 0 {
            return true;
        }
        hardware.wait();
    }
    false
}
