//! The set of opcodes that a queue takes.

use core::fmt;

use smmu_types::{Command, RawCommand};

/// Opcodes that a queue takes; [`QueueGroup`](crate::QueueGroup) routes by them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Opcodes([u64; 4]);

impl Opcodes {
    /// Every command.
    pub const ALL: Opcodes = Opcodes([u64::MAX; 4]);
    /// Only `CMD_SYNC`, which every queue needs to prove its commands.
    pub const NONE: Opcodes = Opcodes([0; 4]).with(0x46);
    /// A guest's virtual queue of Tegra241's CMDQV: `TLBI_NH_ASID`, `TLBI_NH_VA`, `ATC_INV` and
    /// `CMD_SYNC`.
    pub const VCMDQ_GUEST: Opcodes = Opcodes::NONE.with(0x11).with(0x12).with(0x40);

    /// The set with one more opcode.
    #[must_use]
    pub const fn with(mut self, opcode: u8) -> Self {
        self.0[opcode as usize / 64] |= 1 << (opcode % 64);
        self
    }

    /// Whether the set has an opcode.
    #[must_use]
    pub const fn has(self, opcode: u8) -> bool {
        self.0[opcode as usize / 64] >> (opcode % 64) & 1 != 0
    }

    /// Whether the set has the opcode of each command.
    #[must_use]
    pub fn has_all(self, commands: &[Command]) -> bool {
        self == Opcodes::ALL || commands.iter().all(|command| self.has(command.encode().opcode()))
    }

    /// [`has_all`](Self::has_all) of encoded commands.
    #[must_use]
    pub fn has_all_encoded(self, commands: &[RawCommand]) -> bool {
        self == Opcodes::ALL || commands.iter().all(|command| self.has(command.opcode()))
    }
}

impl Default for Opcodes {
    fn default() -> Self {
        Opcodes::ALL
    }
}

impl fmt::Debug for Opcodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Opcodes::ALL {
            return f.write_str("ALL");
        }
        let mut set = f.debug_set();
        for opcode in (0..=u8::MAX).filter(|opcode| self.has(*opcode)) {
            set.entry(&format_args!("{opcode:#04x}"));
        }
        set.finish()
    }
}
