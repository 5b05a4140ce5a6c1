//! Which registers a queue has.

use smmu_types::CommandErrorCode;
use smmu_types::regs::{self, gerror};
use smmu_types::seam::Registers;

/// The registers of a command queue, as offsets in what its [`Registers`] stands for.
///
/// [`Port::MAIN`] is the queue that every SMMU has. Others have the same registers elsewhere, or fewer bits of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port {
    /// Where the producer's pointer is written. It reads as written.
    pub producer: u32,
    /// Where the consumer's pointer is read, with the error code in bits 30:24.
    pub consumer: u32,
    /// Where an error is reported: it is active while the bit differs from that of `acknowledge`.
    pub error: u32,
    /// Where it is acknowledged.
    pub acknowledge: u32,
    /// The bit of both.
    pub error_bit: u32,
}

impl Port {
    /// `CMDQ_PROD`, `CMDQ_CONS`, `GERROR` and `GERRORN`.
    pub const MAIN: Port = Port {
        producer: regs::CMDQ_PROD.offset(),
        consumer: regs::CMDQ_CONS.offset(),
        error: regs::GERROR.offset(),
        acknowledge: regs::GERRORN.offset(),
        error_bit: gerror::CMDQ,
    };

    /// A virtual queue of Tegra241's CMDQV, whose first page begins at `base`.
    #[must_use]
    pub const fn vcmdq(base: u32) -> Port {
        Port {
            consumer: base,
            producer: base + 4,
            error: base + 0x10,
            acknowledge: base + 0x14,
            error_bit: 1,
        }
    }

    #[inline]
    pub(crate) fn write_producer<R: Registers>(self, registers: &R, pointer: u32) {
        registers.write32(self.producer, pointer);
    }

    pub(crate) fn read_producer<R: Registers>(self, registers: &R) -> u32 {
        registers.read32(self.producer)
    }

    pub(crate) fn read_consumer<R: Registers>(self, registers: &R) -> u32 {
        registers.read32(self.consumer)
    }

    /// What was last acknowledged, if an error is active that was not.
    pub(crate) fn error<R: Registers>(self, registers: &R) -> Option<u32> {
        let acknowledged = registers.read32(self.acknowledge);
        let active = registers.read32(self.error) ^ acknowledged;
        (active & self.error_bit != 0).then_some(acknowledged)
    }

    pub(crate) fn acknowledge<R: Registers>(self, registers: &R, acknowledged: u32) {
        registers.write32(self.acknowledge, acknowledged ^ self.error_bit);
    }
}

impl Default for Port {
    fn default() -> Self {
        Port::MAIN
    }
}

/// The error code in a value of the consumer's register.
pub(crate) const fn error_code(consumer: u32) -> CommandErrorCode {
    regs::cmdq_cons::error(consumer)
}
