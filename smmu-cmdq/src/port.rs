//! Which registers a queue has.

use smmu_types::fields::{ecmdq_cons, ecmdq_prod};
use smmu_types::regs::{self, ecmdq, gerror};
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
    /// Where it is acknowledged. This may be the producer's register.
    pub acknowledge: u32,
    /// The bit of both.
    pub error_bit: u32,
    /// Bits that the producer's register has beside the pointer whenever it is written. Those but `error_bit` are set in the
    /// consumer's register as well, for as long as the queue works.
    pub enable: u32,
}

impl Port {
    /// `CMDQ_PROD`, `CMDQ_CONS`, `GERROR` and `GERRORN`.
    pub const MAIN: Port = Port {
        producer: regs::CMDQ_PROD.offset(),
        consumer: regs::CMDQ_CONS.offset(),
        error: regs::GERROR.offset(),
        acknowledge: regs::GERRORN.offset(),
        error_bit: gerror::CMDQ,
        enable: 0,
    };

    /// A virtual queue of Tegra241's CMDQV, whose first page begins at `base`.
    ///
    /// Such a queue sends neither MSIs nor events: its `CMD_SYNC`s complete by polling.
    #[must_use]
    pub const fn vcmdq(base: u32) -> Port {
        Port {
            consumer: base,
            producer: base + 4,
            error: base + 0x10,
            acknowledge: base + 0x14,
            error_bit: 1,
            enable: 0,
        }
    }

    /// An enhanced command queue (3.5.6), which reports errors in `ECMDQ_CONS` and has them acknowledged in
    /// `ECMDQ_PROD`.
    ///
    /// It is to be enabled with `ECMDQ_PROD` = [`enable`](Self::enable): with `ERRACK` 0, or, where `ECMDQ_CONS.ERR` is 1
    /// before that, with [`error_bit`](Self::error_bit) added to `enable` for both. `GERROR.CMDQP_ERR`, which says that some
    /// enhanced queue has an error, is acknowledged by whoever handles `GERROR`.
    #[must_use]
    pub const fn ecmdq(interface: ecmdq::Interface) -> Port {
        let (producer, consumer) = (interface.producer.offset(), interface.consumer.offset());
        Port {
            producer,
            consumer,
            error: consumer,
            acknowledge: producer,
            error_bit: ecmdq_cons::ERR.field().mask() as u32,
            enable: ecmdq_prod::EN.field().mask() as u32,
        }
    }

    /// Whether an error is acknowledged by a write of the producer.
    #[inline]
    pub(crate) const fn acknowledges_by_producer(self) -> bool {
        self.acknowledge == self.producer
    }

    /// Bits of the consumer's register that say whether the queue works, and how they are then.
    pub(crate) const fn working(self) -> u32 {
        self.enable & !self.error_bit
    }

    /// Bits of the consumer's register that are neither its pointer nor an error's code.
    pub(crate) const fn beside(self) -> u32 {
        if self.error == self.consumer { self.working() | self.error_bit } else { self.working() }
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
