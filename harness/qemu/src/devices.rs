//! The devices of a machine, which do DMA on request.

use std::sync::Mutex;

use super::error::QemuError;
use super::plan::{DeviceKind, Endpoint};
use super::process::lock;
use super::qtest::{Qtest, QtestCommand};
use super::ram::RAM_BASE;

/// The word that an `iommu-testdev` writes.
pub const TESTDEV_PATTERN: u32 = 0x1234_5678;

/// The outcome of a DMA write, as far as the device knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DmaOutcome {
    /// The bus took the write. Memory shows where it landed.
    Written,
    /// The bus refused the write.
    Refused,
    /// The device returned a code that this crate does not know.
    Unknown(u32),
}

/// The registers of an `iommu-testdev`.
mod testdev {
    pub(super) const TRIGGER: u64 = 0x00;
    pub(super) const IOVA_LOW: u64 = 0x04;
    pub(super) const IOVA_HIGH: u64 = 0x08;
    pub(super) const LENGTH: u64 = 0x0c;
    pub(super) const RESULT: u64 = 0x10;
    pub(super) const DOORBELL: u64 = 0x14;
    pub(super) const ATTRIBUTES: u64 = 0x18;
    pub(super) const CHECK_LOW: u64 = 0x1c;
    pub(super) const CHECK_HIGH: u64 = 0x20;
    /// Non-secure, and the bit that makes the security state valid.
    pub(super) const NON_SECURE: u32 = 0x0a;
    pub(super) const DONE: u32 = 0;
    pub(super) const REFUSED: u32 = 0xdead_0002;
    pub(super) const ELSEWHERE: u32 = 0xdead_0004;
}

/// The registers of an `edu`.
mod edu {
    pub(super) const SOURCE: u64 = 0x80;
    pub(super) const DESTINATION: u64 = 0x88;
    pub(super) const COUNT: u64 = 0x90;
    pub(super) const COMMAND: u64 = 0x98;
    pub(super) const RUN: u64 = 1;
    pub(super) const TO_RAM: u64 = 2;
    /// The device's own address of its buffer.
    pub(super) const BUFFER: u64 = 0x4_0000;
    pub(super) const BUFFER_SIZE: u32 = 4096;
    /// A transfer ends this much virtual time after its start.
    pub(super) const DURATION_NS: u64 = 100_000_000;
}

/// The maximum number of steps of virtual time for a transfer.
const MOST_STEPS: u32 = 10;

#[derive(Clone, Copy)]
pub(super) enum EduCopy {
    In,
    Out,
}

/// The devices of one machine, at the indices of its configuration.
pub(super) struct Devices(Vec<DmaDevice>);

struct DmaDevice {
    endpoint: Endpoint,
    /// Held during all accesses of one transfer.
    busy: Mutex<()>,
}

impl Devices {
    pub(super) fn new(endpoints: &[Endpoint]) -> Self {
        let device = |&endpoint| DmaDevice { endpoint, busy: Mutex::new(()) };
        Self(endpoints.iter().map(device).collect())
    }

    pub(super) fn dma_write(
        &self,
        qtest: &Qtest,
        device: usize,
        iova: u64,
    ) -> Result<DmaOutcome, QemuError> {
        let target = self.device(device, DeviceKind::TestDev, "write a fixed word at once")?;
        let bar = target.endpoint.bar;
        let set = |offset, value| QtestCommand::Write32(bar + offset, value);
        let _busy = lock(&target.busy);
        // After its write, the device compares the word at a physical address with the pattern.
        // The caller looks at memory itself, so any readable address serves, and a difference
        // means nothing. The halves of an address fit their registers.
        let answers = qtest.run(&[
            set(testdev::IOVA_LOW, iova as u32),
            set(testdev::IOVA_HIGH, (iova >> 32) as u32),
            set(testdev::CHECK_LOW, RAM_BASE as u32),
            set(testdev::CHECK_HIGH, (RAM_BASE >> 32) as u32),
            set(testdev::LENGTH, 4),
            set(testdev::ATTRIBUTES, testdev::NON_SECURE),
            set(testdev::DOORBELL, 1),
            QtestCommand::Read32(bar + testdev::TRIGGER),
            QtestCommand::Read32(bar + testdev::RESULT),
        ])?;
        let result = answers.last().copied().unwrap_or_default();
        Ok(match result as u32 {
            testdev::DONE | testdev::ELSEWHERE => DmaOutcome::Written,
            testdev::REFUSED => DmaOutcome::Refused,
            code => DmaOutcome::Unknown(code),
        })
    }

    pub(super) fn edu_copy(
        &self,
        qtest: &Qtest,
        device: usize,
        iova: u64,
        length: u32,
        copy: EduCopy,
    ) -> Result<(), QemuError> {
        let target = self.device(device, DeviceKind::Edu, "copy to or from a buffer")?;
        // QEMU aborts if a transfer leaves the buffer.
        if length == 0 || length > edu::BUFFER_SIZE || !length.is_multiple_of(4) {
            return Err(QemuError::BadLength { length });
        }
        let (source, destination, command) = match copy {
            EduCopy::In => (iova, edu::BUFFER, edu::RUN),
            EduCopy::Out => (edu::BUFFER, iova, edu::RUN | edu::TO_RAM),
        };
        let bar = target.endpoint.bar;
        let set = |offset, value| QtestCommand::Write64(bar + offset, value);
        let wait = QtestCommand::ClockStep(edu::DURATION_NS);
        let look = QtestCommand::Read64(bar + edu::COMMAND);
        let _busy = lock(&target.busy);
        let mut answers = qtest.run(&[
            set(edu::SOURCE, source),
            set(edu::DESTINATION, destination),
            set(edu::COUNT, length.into()),
            set(edu::COMMAND, command),
            wait,
            look,
        ])?;
        for _ in 1..MOST_STEPS {
            if answers.last().is_some_and(|command| command & edu::RUN == 0) {
                return Ok(());
            }
            answers = qtest.run(&[wait, look])?;
        }
        Err(QemuError::Stuck { device, steps: MOST_STEPS })
    }

    fn device(
        &self,
        device: usize,
        wanted: DeviceKind,
        action: &'static str,
    ) -> Result<&DmaDevice, QemuError> {
        let count = self.0.len();
        let found = self.0.get(device);
        let found = found.ok_or(QemuError::NoSuchDevice { device, count })?;
        let kind = found.endpoint.config.kind;
        if kind != wanted {
            return Err(QemuError::WrongKind { device, kind, action });
        }
        Ok(found)
    }
}
