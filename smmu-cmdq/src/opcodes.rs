use core::fmt;

use smmu_types::Command;

/// A set of opcodes: the commands that a queue takes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Opcodes([u64; 4]);

impl Opcodes {
    /// Every command.
    pub const ALL: Opcodes = Opcodes([u64::MAX; 4]);
    /// No command but `CMD_SYNC`, without which nothing could be proven.
    pub const NONE: Opcodes = Opcodes([0; 4]).with(0x46);
    /// What a guest's virtual queue of Tegra241's CMDQV takes: `TLBI_NH_ASID`, `TLBI_NH_VA` and `ATC_INV`.
    pub const VCMDQ_GUEST: Opcodes = Opcodes::NONE.with(0x11).with(0x12).with(0x40);

    /// These, and one more.
    #[must_use]
    pub const fn with(mut self, opcode: u8) -> Self {
        self.0[opcode as usize / 64] |= 1 << (opcode % 64);
        self
    }

    /// Whether an opcode is among them.
    #[must_use]
    pub const fn has(self, opcode: u8) -> bool {
        self.0[opcode as usize / 64] >> (opcode % 64) & 1 != 0
    }

    /// Whether all of `commands` are among them.
    #[must_use]
    pub fn have(self, commands: &[Command]) -> bool {
        self == Opcodes::ALL || commands.iter().all(|command| self.has(command.encode().opcode()))
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
