//! The SMMU, its registers and its memory, as far as a command queue sees them.

use std::ops::Range;
use std::sync::atomic::AtomicU64 as Plain;
use std::time::Duration;

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use loom::thread;
use smmu_cmdq::{Port, Slots};
use smmu_types::seam::{Registers, Wait};
use smmu_types::{Asid, Command, CommandErrorCode, PhysAddr, RawCommand, SmmuId, Vmid};

pub(crate) const SMMU: SmmuId = SmmuId(0);
pub(crate) const BASE: PhysAddr = PhysAddr(0x1_0000);
/// Behind a ring of up to 4.
pub(crate) const MSI_SLOT: usize = 4;
pub(crate) const SYNC: u8 = 0x46;
pub(crate) const POINTER: u32 = 0xf_ffff;
/// The waits of all after which a run goes on in one way only, unless `SMMU_LOOM_WAITS` says otherwise.
pub(crate) const RESTS: u64 = 2;

/// A caller's command: the caller in bits 7:4 of its ASID, and a number.
pub(crate) const fn command(caller: u16, number: u16) -> Command {
    Command::TlbiNhAsid { vmid: Vmid(0), asid: Asid(caller << 4 | number) }
}

/// A number that no SMMU knows.
pub(crate) const BAD: u16 = 15;

pub(crate) fn is_sync(word: u64) -> bool {
    word as u8 == SYNC
}

pub(crate) fn caller_of(word: u64) -> usize {
    (word >> 52) as usize
}

/// One command. The second word is for the SMMU alone.
pub(crate) struct Slot {
    pub(crate) word: AtomicU64,
    pub(crate) fetched: UnsafeCell<u64>,
}

pub(crate) fn rests() -> u64 {
    let Ok(told) = std::env::var("SMMU_LOOM_WAITS") else { return RESTS };
    told.parse().expect("SMMU_LOOM_WAITS is a number")
}

pub(crate) struct Hardware {
    pub(crate) slots: Vec<Slot>,
    pub(crate) msi: AtomicU32,
    pub(crate) prod: AtomicU32,
    pub(crate) cons: AtomicU32,
    pub(crate) gerror: AtomicU32,
    pub(crate) gerrorn: AtomicU32,
    pub(crate) told: UnsafeCell<()>,
    pub(crate) pages: [UnsafeCell<()>; 2],
    /// Time passes when somebody waits.
    pub(crate) ticks: Plain,
    pub(crate) rests: u64,
}

impl Hardware {
    pub(crate) fn new(entries: usize) -> Self {
        let slot = || Slot { word: AtomicU64::new(0), fetched: UnsafeCell::new(0) };
        Hardware {
            slots: (0..entries).map(|_| slot()).collect(),
            msi: AtomicU32::new(0),
            prod: AtomicU32::new(0),
            cons: AtomicU32::new(0),
            gerror: AtomicU32::new(0),
            gerrorn: AtomicU32::new(0),
            told: UnsafeCell::new(()),
            pages: [UnsafeCell::new(()), UnsafeCell::new(())],
            ticks: Plain::new(0),
            rests: rests(),
        }
    }

    /// Wait for somebody else. Without a limit there would be no end to the ways in which two can wait for a third.
    pub(crate) fn rest(&self) {
        if self.ticks.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == self.rests {
            loom::skip_branch();
        }
        thread::yield_now();
    }

    pub(crate) fn touch_page(&self, caller: usize) {
        self.pages[caller].with_mut(|_| ());
    }
}

// To the checker only read-modify-writes have one order that all agree on, as accesses to a device's registers have. They
// are relaxed: nothing else is ordered by them.
pub(crate) fn now(register: &AtomicU32) -> u32 {
    register.fetch_add(0, Ordering::Relaxed)
}

pub(crate) fn put(register: &AtomicU32, value: u32) {
    register.swap(value, Ordering::Relaxed);
}

#[derive(Clone)]
pub(crate) struct Mmio(pub(crate) Arc<Hardware>);

impl Registers for Mmio {
    fn read32(&self, offset: u32) -> u32 {
        match offset {
            o if [Port::MAIN.producer, ENHANCED.producer].contains(&o) => now(&self.0.prod),
            o if [Port::MAIN.consumer, ENHANCED.consumer].contains(&o) => now(&self.0.cons),
            o if o == Port::MAIN.error => now(&self.0.gerror),
            o if o == Port::MAIN.acknowledge => self.0.gerrorn.load(Ordering::Relaxed),
            o => panic!("read of {o:#x}"),
        }
    }
    fn write32(&self, offset: u32, value: u32) {
        match offset {
            o if [Port::MAIN.producer, ENHANCED.producer].contains(&o) => {
                self.0.told.with_mut(|_| ());
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
pub(crate) struct Ring(pub(crate) Arc<Hardware>);

impl Slots for Ring {
    fn fill(&self, first: usize, commands: &[Command]) -> bool {
        for (at, command) in commands.iter().enumerate() {
            self.store(first + at, command.encode());
        }
        false
    }
    fn store(&self, slot: usize, command: RawCommand) {
        // Once, before there is anybody else: the place of the MSIs.
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

impl Wait for Mmio {
    fn now(&self) -> Duration {
        Duration::from_micros(self.0.ticks.load(std::sync::atomic::Ordering::Relaxed))
    }
    fn relax(&self, _: u32) {
        self.0.rest();
    }
}

/// Where the SMMU reports errors, and has them acknowledged.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Errors {
    InGerror,
    /// Of an enhanced command queue.
    BesidePointers,
}

/// Such a queue, at offsets of its own.
pub(crate) const ENHANCED: Port = Port {
    producer: 0x8,
    consumer: 0xc,
    error: 0xc,
    acknowledge: 0x8,
    error_bit: 1 << 23,
    enable: 1 << 31,
};

/// What the SMMU does.
#[derive(Clone, Copy)]
pub(crate) struct Script {
    pub(crate) errors: Errors,
    /// Commands after which it is done, or dies.
    pub(crate) commands: usize,
    /// What it refuses, with which code and how often.
    pub(crate) refuses: Option<(u64, CommandErrorCode, u32)>,
    /// How often it cannot fetch its first command.
    pub(crate) aborts: u32,
    /// Whether an MSI gets lost.
    pub(crate) msi: Msi,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Msi {
    Written,
    Lost,
}

pub(crate) const fn all(commands: usize) -> Script {
    Script { errors: Errors::InGerror, commands, refuses: None, aborts: 0, msi: Msi::Written }
}

/// What the SMMU has carried out, and how often it was told to go on.
pub(crate) struct Log {
    pub(crate) words: Vec<u64>,
    pub(crate) acknowledged: u32,
    /// What stands beside the pointer in the consumer's register.
    pub(crate) beside: u32,
}

pub(crate) fn smmu(hardware: &Hardware, script: Script) -> Log {
    let entries = hardware.slots.len() as u32;
    let beside = if script.errors == Errors::InGerror { 0 } else { ENHANCED.enable };
    let mut log = Log { words: Vec::new(), acknowledged: 0, beside };
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
            if is_sync(word) && word >> 12 & 3 == 1 && script.msi == Msi::Written {
                assert_eq!(high, BASE.0 + MSI_SLOT as u64 * 16, "an MSI into the ring");
                hardware.msi.store((word >> 32) as u32, Ordering::Relaxed);
            }
            cons = (cons + 1) % (entries * 2);
            put(&hardware.cons, cons | log.beside);
            if log.words.len() == script.commands {
                return log;
            }
        }
        hardware.rest();
    }
}

/// Report an error, and wait until somebody says that it may go on. Nobody does if the queue has given up.
pub(crate) fn is_acknowledged(
    hardware: &Hardware,
    log: &mut Log,
    cons: u32,
    code: CommandErrorCode,
) -> bool {
    let code = u32::from(code.0) << 24;
    if log.beside != 0 {
        log.beside ^= ENHANCED.error_bit;
        fence(Ordering::Release);
        put(&hardware.cons, cons | code | log.beside);
        let is_acknowledged = |prod: u32| (prod ^ log.beside) & ENHANCED.error_bit == 0;
        return (0..20).any(|_| {
            let done = is_acknowledged(hardware.prod.load(Ordering::Acquire));
            if !done {
                hardware.rest();
            }
            done
        });
    }
    put(&hardware.cons, cons | code);
    let gerror = hardware.gerror.load(Ordering::Relaxed) ^ Port::MAIN.error_bit;
    fence(Ordering::Release);
    put(&hardware.gerror, gerror);
    for _ in 0..20 {
        if hardware.gerrorn.load(Ordering::Acquire) == gerror {
            return true;
        }
        hardware.rest();
    }
    false
}
