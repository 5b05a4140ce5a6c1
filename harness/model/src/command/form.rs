//! Decodes a command, and says whether the architecture defines its effect.

use smmu_types::{Command, RawCommand};

/// Whether the architecture defines the effect of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CommandForm {
    Defined,
    /// A ranged invalidation whose address is not aligned to what its level maps. A driver must not
    /// rely on any effect; the model drops nothing.
    UnpredictableRange,
}

/// Decode the 16 bytes of a command as the SMMU does, and judge their form.
pub(crate) fn meaning(raw: RawCommand) -> (Command, CommandForm) {
    let command = Command::interpret(raw);
    let by_address = matches!(
        command,
        Command::TlbiNhVa { .. }
            | Command::TlbiNhVaa { .. }
            | Command::TlbiEl2Va { .. }
            | Command::TlbiEl2Vaa { .. }
            | Command::TlbiS2Ipa { .. }
    );
    match Command::decode(raw) {
        Command::Unknown(_) if by_address => (command, CommandForm::UnpredictableRange),
        _ => (command, CommandForm::Defined),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    // The tests of `Command::interpret` cover which commands the SMMU carries out.
    #[rstest]
    #[case::sync_with_data([0x5_0000_0046, 0], CommandForm::Defined)]
    #[case::aligned([0x0005_0000_0090_0012, 0x20_0601], CommandForm::Defined)]
    #[case::unaligned([0x0005_0000_0090_0012, 0x20_1601], CommandForm::UnpredictableRange)]
    #[case::secure([0x404, 31], CommandForm::Defined)]
    fn only_ranges_are_unpredictable(#[case] raw: [u64; 2], #[case] want: CommandForm) {
        assert_eq!(meaning(RawCommand(raw)).1, want);
    }
}
