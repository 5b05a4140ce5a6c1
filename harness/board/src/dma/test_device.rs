//! QEMU's `iommu-testdev`: a write of 4 bytes, complete when the register read returns.

use smmu_types::{Iova, PhysAddr};

use super::registers::{BarRegisters, NoBar};
use super::{DmaResult, Generator};
use crate::pci::Function;

const TRIGGER: u64 = 0x00;
const IOVA_LOW: u64 = 0x04;
const IOVA_HIGH: u64 = 0x08;
const LENGTH: u64 = 0x0c;
const RESULT: u64 = 0x10;
const DOORBELL: u64 = 0x14;
const ATTRIBUTES: u64 = 0x18;
const CHECK_LOW: u64 = 0x1c;
const CHECK_HIGH: u64 = 0x20;
const BYTES: u64 = 0x24;
/// Non-secure, and the bit that makes the security state valid.
const NON_SECURE: u32 = 0x0a;
const DONE: u32 = 0;
/// The write is done, and memory at the address to check has other bytes.
const ELSEWHERE: u32 = 0xdead_0004;

/// An `iommu-testdev`.
#[derive(Debug)]
pub struct TestDevice {
    registers: BarRegisters,
    pattern: [u8; 4],
}

impl TestDevice {
    /// Vendor and device ID.
    pub const ID: (u16, u16) = (0x1b36, 0x0005);

    /// The device, which reads `readable` back after each write; any 4 bytes of RAM serve.
    ///
    /// # Safety
    ///
    /// The BARs of the function are mapped as Device memory for ever, and only this value uses
    /// them. What the device writes to is memory that the program has mapped for it.
    ///
    /// # Errors
    ///
    /// The function has no such BAR.
    pub unsafe fn new(function: &Function, readable: PhysAddr) -> Result<Self, NoBar> {
        // SAFETY: as the caller promises.
        let registers = unsafe { BarRegisters::new(function, 0, BYTES)? };
        registers.write32(CHECK_LOW, readable.0 as u32);
        registers.write32(CHECK_HIGH, (readable.0 >> 32) as u32);
        Ok(TestDevice { registers, pattern: 0x1234_5678_u32.to_le_bytes() })
    }
}

impl Generator for TestDevice {
    fn name(&self) -> &'static str {
        "iommu-testdev"
    }

    fn pattern(&self) -> &[u8] {
        &self.pattern
    }

    fn write(&mut self, iova: Iova) -> DmaResult {
        self.registers.write32(IOVA_LOW, iova.0 as u32);
        self.registers.write32(IOVA_HIGH, (iova.0 >> 32) as u32);
        self.registers.write32(LENGTH, self.pattern.len() as u32);
        self.registers.write32(ATTRIBUTES, NON_SECURE);
        self.registers.write32(DOORBELL, 1);
        // The write happens within this read.
        let _ = self.registers.read32(TRIGGER);
        match self.registers.read32(RESULT) {
            DONE | ELSEWHERE => DmaResult::Done,
            code => DmaResult::Refused(code),
        }
    }
}
