//! Why a command queue stopped (IHI 0070, 7.1).

use core::fmt;

/// Why the command queue stopped: `CMDQ_CONS.ERR`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CommandErrorCode(pub u8);

impl CommandErrorCode {
    /// No error.
    pub const NONE: Self = Self(0);
    /// `CERROR_ILL`: the command is illegal.
    pub const ILL: Self = Self(1);
    /// `CERROR_ABT`: the command could not be fetched.
    pub const ABT: Self = Self(2);
    /// `CERROR_ATC_INV_SYNC`: an ATC invalidation before this `CMD_SYNC` timed out.
    pub const ATC_INV_SYNC: Self = Self(3);
}

impl fmt::Display for CommandErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NONE => f.write_str("CERROR_NONE"),
            Self::ILL => f.write_str("CERROR_ILL"),
            Self::ABT => f.write_str("CERROR_ABT"),
            Self::ATC_INV_SYNC => f.write_str("CERROR_ATC_INV_SYNC"),
            Self(code) => write!(f, "CERROR {code:#x}"),
        }
    }
}
