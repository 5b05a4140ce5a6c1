//! The commands of a call, typed or encoded.

use smmu_types::{Command, RawCommand};

/// The commands of a call. Callers know which kind theirs are, so the compiler decides most matches.
#[derive(Clone, Copy)]
pub(crate) enum Commands<'a> {
    Typed(&'a [Command]),
    Encoded(&'a [RawCommand]),
}

impl<'a> From<&'a [Command]> for Commands<'a> {
    #[inline]
    fn from(commands: &'a [Command]) -> Self {
        Commands::Typed(commands)
    }
}

impl<'a> From<&'a [RawCommand]> for Commands<'a> {
    #[inline]
    fn from(commands: &'a [RawCommand]) -> Self {
        Commands::Encoded(commands)
    }
}

impl Commands<'_> {
    #[inline]
    pub(crate) const fn len(self) -> usize {
        match self {
            Commands::Typed(commands) => commands.len(),
            Commands::Encoded(commands) => commands.len(),
        }
    }

    /// The same commands, for a rare call that takes them through memory: without a value of its own,
    /// every call would store them there.
    #[inline(always)]
    pub(crate) const fn copied(self) -> Self {
        match self {
            Commands::Typed(commands) => Commands::Typed(commands),
            Commands::Encoded(commands) => Commands::Encoded(commands),
        }
    }

    /// The only command.
    #[inline(always)]
    pub(crate) const fn only(self) -> Option<RawCommand> {
        match self {
            Commands::Typed([one]) => Some(one.encode()),
            Commands::Encoded([one]) => Some(*one),
            _ => None,
        }
    }

    /// The commands before `at`, which is at most the length, and those from there on.
    pub(crate) fn split_at(self, at: usize) -> (Self, Self) {
        match self {
            Commands::Typed(commands) => {
                let (first, rest) = commands.split_at(at);
                (Commands::Typed(first), Commands::Typed(rest))
            }
            Commands::Encoded(commands) => {
                let (first, rest) = commands.split_at(at);
                (Commands::Encoded(first), Commands::Encoded(rest))
            }
        }
    }
}
