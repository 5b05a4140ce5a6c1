//! Queues with registers at other offsets.

use crate::common::{QueueFixture, illegal, nth, refused};
use rstest::rstest;
use smmu_cmdq::fake::Pace;
use smmu_cmdq::{Port, QueueConfig};
use smmu_types::seam::{CountingWait, Registers};
use smmu_types::{CommandErrorCode, regs};

/// The main queue of the fixture's device at other offsets. Any other access fails the test.
struct MovedRegisters<'f> {
    fixture: &'f QueueFixture,
    // Of the consumer, the producer, the error and the acknowledgement.
    offsets: [u32; 4],
    shift: u32,
}

impl MovedRegisters<'_> {
    fn main(&self, offset: u32) -> u32 {
        let there = [
            regs::CMDQ_CONS.offset(),
            regs::CMDQ_PROD.offset(),
            regs::GERROR.offset(),
            regs::GERRORN.offset(),
        ];
        let at = self.offsets.iter().position(|here| *here == offset);
        there[at.unwrap_or_else(|| panic!("an access to {offset:#x}"))]
    }

    fn shift(&self, offset: u32) -> u32 {
        if self.offsets[2..].contains(&offset) { self.shift } else { 0 }
    }
}

impl Registers for MovedRegisters<'_> {
    fn read32(&self, offset: u32) -> u32 {
        self.fixture.device.read32(self.main(offset)) << self.shift(offset)
    }

    fn write32(&self, offset: u32, value: u32) {
        self.fixture.device.write32(self.main(offset), value >> self.shift(offset));
    }

    fn read64(&self, offset: u32) -> u64 {
        panic!("an access to {offset:#x}")
    }

    fn write64(&self, offset: u32, _: u64) {
        panic!("an access to {offset:#x}")
    }
}

// The offsets in the first page of a virtual queue of Tegra241's CMDQV, as in Linux's driver.
const VCMDQ: [u32; 4] = [0x0, 0x4, 0x10, 0x14];
const CUSTOM: Port = Port {
    producer: 0x98,
    consumer: 0x9c,
    error: 0x60,
    acknowledge: 0x64,
    error_bit: 1 << 5,
    enable: 0,
};

#[rstest]
#[case::at_0(Port::vcmdq(0), VCMDQ, 0)]
#[case::behind_others(Port::vcmdq(0x5_0080), VCMDQ.map(|offset| 0x5_0080 + offset), 0)]
#[case::main(Port::MAIN, [0x9c, 0x98, 0x60, 0x64], 0)]
#[case::another_bit(CUSTOM, [0x9c, 0x98, 0x60, 0x64], 5)]
fn a_queue_accesses_only_its_own_registers(
    #[case] port: Port,
    #[case] offsets: [u32; 4],
    #[case] shift: u32,
    #[values(Pace::OnWrite, Pace::PerRead(1))] pace: Pace,
) {
    let fixture = QueueFixture::new(pace);
    let registers = MovedRegisters { fixture: &fixture, offsets, shift };
    let config = QueueConfig { port, ..QueueConfig::default() };
    let wait = CountingWait::new();
    let queue = fixture.queue_on(&registers, wait, 3, config);
    for n in 0..20 {
        let commands: Vec<_> = (0..n).map(nth).collect();
        let _proof = queue.run(&commands).unwrap();
        let error = refused(illegal(n), CommandErrorCode::ILL);
        assert_eq!(queue.run(&[nth(n), illegal(n)]), Err(error));
    }
    assert_eq!(queue.failure_counts().total, 20);
}

/// The acknowledgement register may have bits of others, which the queue must not change.
#[test]
fn a_queue_changes_one_bit_of_the_acknowledgement() {
    let fixture = QueueFixture::new(Pace::OnWrite);
    let registers = MovedRegisters { fixture: &fixture, offsets: VCMDQ, shift: 0 };
    let config = QueueConfig { port: Port::vcmdq(0), ..QueueConfig::default() };
    let wait = CountingWait::new();
    let queue = fixture.queue_on(&registers, wait, 3, config);
    registers.write32(0x14, 0xfffe);
    assert!(queue.run(&[illegal(0)]).is_err());
    assert_eq!(registers.read32(0x14), 0xffff);
    assert!(queue.run(&[illegal(1)]).is_err());
    assert_eq!(registers.read32(0x14), 0xfffe);
}
