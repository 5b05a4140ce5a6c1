//! Global errors: `GERROR` and `GERRORN`, by name.

use core::fmt;

use smmu_types::regs::{self, gerror};
use smmu_types::seam::{Registers, RegistersExt};

/// The active global errors: the bits in which `GERROR` differs from `GERRORN`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gerror {
    error: u32,
    active: u32,
}

const NAMES: [(u32, &str); 10] = [
    (gerror::CMDQ, "CMDQ_ERR"),
    (gerror::EVENTQ_ABT, "EVENTQ_ABT_ERR"),
    (gerror::PRIQ_ABT, "PRIQ_ABT_ERR"),
    (gerror::MSI_CMDQ_ABT, "MSI_CMDQ_ABT_ERR"),
    (gerror::MSI_EVENTQ_ABT, "MSI_EVENTQ_ABT_ERR"),
    (gerror::MSI_PRIQ_ABT, "MSI_PRIQ_ABT_ERR"),
    (gerror::MSI_GERROR_ABT, "MSI_GERROR_ABT_ERR"),
    (gerror::SFM, "SFM_ERR"),
    (gerror::CMDQP, "CMDQP_ERR"),
    (gerror::DPT, "DPT_ERR"),
];

impl Gerror {
    /// Read `GERROR` and `GERRORN`.
    #[must_use]
    pub fn read<R: Registers + ?Sized>(registers: &R) -> Self {
        Self::decode(registers.read(regs::GERROR), registers.read(regs::GERRORN))
    }

    /// Decode the values of `GERROR` and `GERRORN`.
    #[must_use]
    pub const fn decode(gerror: u32, gerrorn: u32) -> Self {
        Gerror { error: gerror, active: gerror ^ gerrorn }
    }

    /// All active bits, with or without a name.
    #[must_use]
    pub const fn active(self) -> u32 {
        self.active
    }

    /// Whether no error is active.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.active == 0
    }

    /// Whether any of these bits (of [`smmu_types::regs::gerror`]) is active.
    #[must_use]
    pub const fn contains(self, bits: u32) -> bool {
        self.active & bits != 0
    }

    /// Names of the active bits; a bit without a name is left out.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        NAMES.into_iter().filter(move |(bit, _)| self.contains(*bit)).map(|(_, name)| name)
    }

    /// Acknowledge the active bits of [`gerror::ALL`], except `CMDQ`. No effect the second time.
    ///
    /// The command queue acknowledges `CMDQ`, after it has handled the refused command. Enhanced
    /// command queues and the device permission table have their own acknowledgements; this crate
    /// enables neither.
    ///
    /// Only one thread at a time may write `GERRORN`, because this call reads it and writes it
    /// back. Call it where no command queue is in use. `CommandQueue::handle_global_errors` of
    /// `smmu-cmdq` does the same beside a queue, also in an interrupt handler.
    pub fn acknowledge<R: Registers + ?Sized>(self, registers: &R) {
        let bits = self.active & gerror::ALL & !gerror::CMDQ;
        if bits != 0 {
            let acknowledged = registers.read(regs::GERRORN);
            registers.write(regs::GERRORN, acknowledged & !bits | self.error & bits);
        }
    }
}

/// Prints the names, or `none`; prints bits without a name as a number.
impl fmt::Display for Gerror {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("none");
        }
        let mut separator = "";
        for name in self.names() {
            write!(f, "{separator}{name}")?;
            separator = ", ";
        }
        match self.active & !gerror::DEFINED {
            0 => Ok(()),
            unknown => write!(f, "{separator}unknown {unknown:#x}"),
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use rstest::rstest;
    use smmu_types::fake::FakeRegisters;
    use std::string::ToString;
    use std::vec::Vec;

    #[rstest]
    #[case(0x1fd, 0x1fd, "none")]
    #[case(0x1, 0x0, "CMDQ_ERR")]
    #[case(0x0, 0x4, "EVENTQ_ABT_ERR")]
    #[case(0x105, 0x4, "CMDQ_ERR, SFM_ERR")]
    #[case(0x200, 0x0, "CMDQP_ERR")]
    #[case(0x800, 0x0, "unknown 0x800")]
    #[case(0x0, 0xc02, "DPT_ERR, unknown 0x802")]
    #[case(
        0x0f8,
        0x0,
        "PRIQ_ABT_ERR, MSI_CMDQ_ABT_ERR, MSI_EVENTQ_ABT_ERR, MSI_PRIQ_ABT_ERR, MSI_GERROR_ABT_ERR"
    )]
    fn a_bit_that_differs_is_active(#[case] gerror: u32, #[case] gerrorn: u32, #[case] text: &str) {
        assert_eq!(Gerror::decode(gerror, gerrorn).to_string(), text);
    }

    #[rstest]
    #[case::leaves_cmdq(0x105, 0x000, Some(0x104))]
    #[case::keeps_others(0x005, 0x100, Some(0x004))]
    #[case::only_cmdq(0x001, 0x000, None)]
    #[case::of_enhanced_queues(0x200, 0x000, None)]
    #[case::nothing(0x1fd, 0x1fd, None)]
    fn acknowledges_all_except_the_command_queue(
        #[case] error: u32,
        #[case] acknowledged: u32,
        #[case] write: Option<u64>,
    ) {
        let registers = FakeRegisters::new();
        registers.set(regs::GERROR.offset(), error.into());
        registers.set(regs::GERRORN.offset(), acknowledged.into());
        let gerror = Gerror::read(&registers);
        gerror.acknowledge(&registers);
        let writes: Vec<_> =
            write.map(|value| (regs::GERRORN.offset(), value)).into_iter().collect();
        assert_eq!(registers.take_writes(), writes);
        let before = registers.get(regs::GERRORN.offset());
        gerror.acknowledge(&registers);
        assert_eq!(registers.get(regs::GERRORN.offset()), before);
    }
}
