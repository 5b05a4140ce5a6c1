//! Commands that name their caller, their page and their number.
//!
//! | Bits | Meaning |
//! |---|---|
//! | 7:0 | the opcode |
//! | 11:8 | the caller |
//! | 12 | an `ATC_INV` that its device will not answer in time |
//! | 31:16 | the page that the SMMU touches for it |
//! | 63:32 | the number of the command, counted by its caller |
//! | 95:64 | the number of the call |

use smmu_types::{Command, RawCommand};

pub(crate) const SYNC: u8 = 0x46;
const TLBI: u8 = 0x11;
const ATC_INV: u8 = 0x40;
const ILLEGAL: u8 = 0xff;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CommandKind {
    Good,
    Illegal,
    Atc,
    AtcLate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MarkedCommand {
    pub(crate) what: CommandKind,
    pub(crate) caller: usize,
    pub(crate) page: usize,
    pub(crate) number: u64,
    pub(crate) call: u64,
}

impl MarkedCommand {
    pub(crate) fn raw(self) -> RawCommand {
        let (opcode, late) = match self.what {
            CommandKind::Good => (TLBI, 0),
            CommandKind::Illegal => (ILLEGAL, 0),
            CommandKind::Atc => (ATC_INV, 0),
            CommandKind::AtcLate => (ATC_INV, 1),
        };
        let low = u64::from(opcode) | (self.caller as u64) << 8 | late << 12;
        RawCommand([low | (self.page as u64) << 16 | self.number << 32, self.call])
    }

    pub(crate) fn command(self) -> Command {
        Command::Unknown(self.raw())
    }

    /// `None` for a command that no caller queued, such as a `CMD_SYNC`.
    pub(crate) fn of(raw: RawCommand) -> Option<Self> {
        let [low, call] = raw.0;
        let late = low >> 12 & 1 != 0;
        let what = match low as u8 {
            TLBI => CommandKind::Good,
            ILLEGAL => CommandKind::Illegal,
            ATC_INV if late => CommandKind::AtcLate,
            ATC_INV => CommandKind::Atc,
            _ => return None,
        };
        let (caller, page) = ((low >> 8 & 0xf) as usize, (low >> 16 & 0xffff) as usize);
        Some(MarkedCommand { what, caller, page, number: low >> 32, call })
    }
}
