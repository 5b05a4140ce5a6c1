//! QEMU's `edu`: copies between its buffer of 4 KiB and an IOVA.
//!
//! The device says nothing of a refused access. Its IOVAs have 28 bits, unless the machine sets its
//! `dma_mask`.

use core::time::Duration;

use smmu_types::Iova;
use smmu_types::seam::poll;

use super::registers::{BarRegisters, NoBar};
use super::{DmaResult, Generator};
use crate::pci::Function;
use crate::timer::GenericTimer;

const SOURCE: u64 = 0x80;
const DESTINATION: u64 = 0x88;
const COUNT: u64 = 0x90;
const COMMAND: u64 = 0x98;
const REGISTERS_BYTES: u64 = 0xa0;
const RUN: u64 = 1;
const TO_MEMORY: u64 = 2;
/// The device's own address of its buffer.
const BUFFER: u64 = 0x4_0000;
const PATTERN_BYTES: usize = 64;
/// A transfer takes 100 ms.
const PATIENCE: Duration = Duration::from_secs(2);

/// An `edu`.
#[derive(Debug)]
pub struct Edu {
    registers: BarRegisters,
    /// What the buffer holds: zeroes, or what the device read last.
    pattern: [u8; PATTERN_BYTES],
    /// How many of these a transfer has.
    count: usize,
}

impl Edu {
    /// Vendor and device ID.
    pub const ID: (u16, u16) = (0x1234, 0x11e8);

    /// The device. Its buffer is zero after a reset.
    ///
    /// # Safety
    ///
    /// The BARs of the function are mapped as Device memory for ever, and only this value uses
    /// them. What the device reads and writes is memory that the program has mapped for it.
    ///
    /// # Errors
    ///
    /// The function has no such BAR.
    pub unsafe fn new(function: &Function) -> Result<Self, NoBar> {
        // SAFETY: as the caller promises.
        let registers = unsafe { BarRegisters::new(function, 0, REGISTERS_BYTES)? };
        Ok(Edu { registers, pattern: [0; PATTERN_BYTES], count: PATTERN_BYTES })
    }

    /// Tells what the memory holds that the next [`read`](Generator::read) reads: the pattern after
    /// it.
    pub fn expect(&mut self, bytes: [u8; PATTERN_BYTES]) {
        self.pattern = bytes;
    }

    /// Transfers 4 bytes from now on. QEMU makes an access of each 4 bytes, so a refused transfer gives
    /// one event then.
    #[must_use]
    pub fn of_one_access(mut self) -> Self {
        self.count = 4;
        self
    }

    fn transfer(&self, source: u64, destination: u64, command: u64) -> DmaResult {
        self.registers.write64(SOURCE, source);
        self.registers.write64(DESTINATION, destination);
        self.registers.write64(COUNT, self.count as u64);
        self.registers.write64(COMMAND, command | RUN);
        let done = || (self.registers.read64(COMMAND) & RUN == 0).then_some(());
        match poll(&GenericTimer, PATIENCE, done) {
            Ok(()) => DmaResult::Silent,
            Err(_) => DmaResult::TimedOut,
        }
    }
}

impl Generator for Edu {
    fn name(&self) -> &'static str {
        "edu"
    }

    fn pattern(&self) -> &[u8] {
        self.pattern.get(..self.count).unwrap_or(&self.pattern)
    }

    fn write(&mut self, iova: Iova) -> DmaResult {
        self.transfer(BUFFER, iova.0, TO_MEMORY)
    }

    fn read(&mut self, iova: Iova) -> Option<DmaResult> {
        Some(self.transfer(iova.0, BUFFER, 0))
    }
}
