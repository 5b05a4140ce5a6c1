//! Devices that do DMA when the program asks: what proves that an SMMU lets it pass, or not.
//!
//! | generator | writes | reads | a refused write |
//! |---|---|---|---|
//! | [`TestDevice`](test_device::TestDevice): QEMU's `iommu-testdev` | 4 bytes | no | tells it |
//! | [`Edu`](edu::Edu): QEMU's `edu` | up to 4 KiB | yes | does not tell |
//! | [`BlockDevice`](virtio_blk::BlockDevice): `virtio-blk-pci` | 512 bytes | no | does not tell, or never completes |
//! | [`Nvme`](nvme::Nvme): any NVMe | 4 KiB, or a block | no | tells it, or does not |

#[cfg(target_arch = "aarch64")]
pub mod edu;
#[cfg(target_arch = "aarch64")]
pub mod io_space;
#[cfg(target_arch = "aarch64")]
pub mod nvme;
mod registers;
pub mod test_device;
#[cfg(target_arch = "aarch64")]
pub mod virtio_blk;

use core::fmt;

use smmu_types::Iova;

pub use registers::NoBar;

/// What a device says of a DMA access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DmaResult {
    /// It is complete, and the device tells if it is not.
    Done,
    /// It was refused. The number is the device's own.
    Refused(u32),
    /// The device is ready and says nothing. Look at the memory, or for an event.
    Silent,
    /// The device did not answer in time. It was reset.
    TimedOut,
}

impl fmt::Display for DmaResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DmaResult::Done => f.write_str("done"),
            DmaResult::Refused(status) => write!(f, "refused with status {status:#x}"),
            DmaResult::Silent => f.write_str("ready again without a word"),
            DmaResult::TimedOut => f.write_str("no answer in time"),
        }
    }
}

/// A device that writes memory at an IOVA.
///
/// A call waits until the device is ready again, with a bound. After it the device does no more DMA
/// for that call.
pub trait Generator {
    /// The name of the device.
    fn name(&self) -> &'static str;

    /// The bytes that [`write`](Self::write) puts at the IOVA. Never empty.
    fn pattern(&self) -> &[u8];

    /// Whether a write looks through memory of others, and changes it for a moment. Then nothing else
    /// writes meanwhile.
    fn needs_all_memory(&self) -> bool {
        false
    }

    /// Lets the device write [`pattern`](Self::pattern) at `iova`, a multiple of 4 KiB.
    fn write(&mut self, iova: Iova) -> DmaResult;

    /// Lets the device read as many bytes as the pattern has, at `iova`: they are the pattern from
    /// then on. `None` if the device has no such command.
    fn read(&mut self, iova: Iova) -> Option<DmaResult> {
        let _ = iova;
        None
    }
}
