//! The registers of a command queue: the main queue's, or those of an ECMDQ or a virtual queue.

use smmu_types::fields::{ecmdq_cons, ecmdq_prod};
use smmu_types::regs::{self, ecmdq, gerror};
use smmu_types::seam::Registers;

/// The registers of a command queue, as offsets for its [`Registers`].
///
/// [`Port::MAIN`] is the queue that every SMMU has. Other queues have these registers at other
/// offsets, and some combine two of them in one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port {
    /// The register for the producer's pointer. It reads as written.
    pub producer: u32,
    /// The register with the consumer's pointer, and the error code in bits 30:24.
    pub consumer: u32,
    /// The register that reports an error. It is active while [`error_bit`](Self::error_bit) here
    /// differs from the one in `acknowledge`.
    pub error: u32,
    /// The register in which the driver acknowledges the error. May be the producer's register.
    pub acknowledge: u32,
    /// The mask of the error's bit in `error` and in `acknowledge`.
    pub error_bit: u32,
    /// Bits that every write of the producer's register sets beside the pointer. While the queue is
    /// enabled, the consumer's register has them set as well, except for `error_bit`.
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

    /// A virtual queue of Tegra241's CMDQV. `base` is the offset of its first page.
    ///
    /// Such a queue sends neither MSIs nor events: use [`SyncBy::Polling`](crate::SyncBy::Polling).
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

    /// An enhanced command queue (3.5.6). `ECMDQ_CONS` reports errors, and `ECMDQ_PROD`
    /// acknowledges them.
    ///
    /// Enable the queue by writing [`enable`](Self::enable) to `ECMDQ_PROD`, with `ERRACK` 0. If
    /// `ECMDQ_CONS.ERR` is 1 before that, add [`error_bit`](Self::error_bit) to `enable`, for that
    /// write and for the queue. `GERROR.CMDQP_ERR` says that some enhanced queue has an error; the
    /// driver's `GERROR` handler acknowledges that bit, the queue does not.
    #[must_use]
    pub const fn ecmdq(interface: ecmdq::Interface) -> Port {
        let (producer, consumer) = (interface.producer.offset(), interface.consumer.offset());
        Port {
            producer,
            consumer,
            error: consumer,
            acknowledge: producer,
            error_bit: ecmdq_cons::ERR.mask() as u32,
            enable: ecmdq_prod::EN.mask() as u32,
        }
    }

    /// Whether a write of the producer's register acknowledges errors.
    #[inline]
    pub(crate) const fn acknowledges_by_producer(self) -> bool {
        self.acknowledge == self.producer
    }

    /// Bits of the consumer's register that are set while the queue is enabled.
    pub(crate) const fn enabled_flags(self) -> u32 {
        self.enable & !self.error_bit
    }

    /// Bits of the consumer's register that belong neither to the pointer nor to the error code.
    pub(crate) const fn consumer_flags(self) -> u32 {
        if self.error == self.consumer {
            self.enabled_flags() | self.error_bit
        } else {
            self.enabled_flags()
        }
    }

    pub(crate) fn read_producer<R: Registers>(self, registers: &R) -> u32 {
        registers.read32(self.producer)
    }

    pub(crate) fn read_consumer<R: Registers>(self, registers: &R) -> u32 {
        registers.read32(self.consumer)
    }

    /// The value of `acknowledge`, if an error is active.
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
