//! Commands as an SMMU uses them: fields without an effect, and operands that it aligns.

use super::codec::{RANGE_ALL, is_tlbi_by_address};
use super::{AtcSpan, Command, Completion, RawCommand, span};
use crate::Shareability;
use crate::fields::commands::opcode::{
    ATC_INV, CFGI_STE_RANGE, PREFETCH_ADDR, PREFETCH_CONFIG, PRI_RESP, RESUME, SYNC,
};
use crate::fields::commands::{any_command, atc_inv, cfgi_ste_range, resume, sync};

impl Command {
    /// Decodes 16 bytes as an SMMU does.
    ///
    /// It differs from [`decode`](Self::decode) for legal commands with bits that the architecture
    /// ignores or replaces. No encoder here sets them:
    ///
    /// - Commands with `SSV` = 0: no SubstreamID, whatever its field (4.1.6).
    /// - `CMD_CFGI_ALL`: no StreamID, whatever its field (4.3.6).
    /// - `CMD_TLBI_*` by address: a `SCALE` above 39 counts as 39 (4.4.1.1). For an address that is
    ///   not aligned to its level see below.
    /// - `CMD_ATC_INV`: the address is aligned down to the size, and is 0 for all addresses
    ///   (4.5.1).
    /// - `CMD_RESUME`: a retry has no `Ab` (4.7.1).
    /// - `CMD_SYNC`: no data and no address without `SIG_IRQ`, no data without an address, and
    ///   `MSH` = 1 counts as 0 (4.7.3).
    ///
    /// A ranged invalidation drops unpredictable addresses if its address is not aligned to the
    /// size of an entry of its level. Here it loses the level, so that it drops more, and its
    /// address is aligned to the granule.
    ///
    /// [`Command::Unknown`] remains for words that an SMMU may refuse with `CERROR_ILL`: reserved
    /// opcodes, reserved values, `SSec` = 1, and reserved fields that are not zero, which an SMMU
    /// may refuse or ignore (4.1.5). It remains for `CMD_DPTI_PA` and the implementation defined
    /// opcodes as well, which have no type.
    ///
    /// ```
    /// use smmu_types::{Command, RawCommand, ResumeAction, StreamId};
    ///
    /// let raw = RawCommand([0x0000_0008_0000_3044, 0x21]); // Ac = 1, Ab = 1
    /// assert_eq!(Command::decode(raw), Command::Unknown(raw));
    /// let retry = Command::Resume { stream: StreamId(8), tag: 0x21, action: ResumeAction::Retry };
    /// assert_eq!(Command::interpret(raw), retry);
    /// ```
    #[must_use]
    pub fn interpret(raw: RawCommand) -> Command {
        match Self::decode(raw) {
            Command::Unknown(_) => match Self::decode(effective(raw)) {
                Command::Unknown(_) => Command::Unknown(raw),
                command => command,
            },
            command => command,
        }
    }
}

/// The same command without bits that have no effect, and with operands as the SMMU uses them.
fn effective(raw: RawCommand) -> RawCommand {
    let opcode = raw.get(any_command::OPCODE);
    match opcode {
        PREFETCH_CONFIG | PREFETCH_ADDR | PRI_RESP => without_invalid_substream(raw),
        ATC_INV => aligned(without_invalid_substream(raw)),
        CFGI_STE_RANGE if raw.get(cfgi_ste_range::RANGE) == RANGE_ALL => {
            raw.without(cfgi_ste_range::STREAMID)
        }
        RESUME if raw.is_set(resume::AC) => raw.without(resume::AB),
        SYNC => effective_sync(raw),
        opcode if is_tlbi_by_address(opcode) => span::effective(raw),
        _ => raw,
    }
}

fn without_invalid_substream(raw: RawCommand) -> RawCommand {
    // All commands with SSV have both fields in the same place.
    if raw.is_set(atc_inv::SSV) { raw } else { raw.without(atc_inv::SUBSTREAMID) }
}

fn aligned(raw: RawCommand) -> RawCommand {
    let size = raw.get(atc_inv::SIZE);
    let aligned = match AtcSpan::MAX_SIZE as u64 {
        max if size > max => return raw,
        max if size == max => 0,
        _ => raw.get(atc_inv::ADDRESS) >> (12 + size) << (12 + size),
    };
    raw.without(atc_inv::ADDRESS).put(atc_inv::ADDRESS, aligned)
}

fn effective_sync(mut raw: RawCommand) -> RawCommand {
    if raw.get(sync::MSH) == Shareability::Reserved as u64 {
        raw = raw.without(sync::MSH);
    }
    match raw.get(sync::CS) {
        Completion::SIG_IRQ if raw.is_set(sync::MSIADDRESS) => raw,
        Completion::SIG_NONE | Completion::SIG_IRQ | Completion::SIG_SEV => {
            raw.without(sync::MSIDATA).without(sync::MSIADDRESS)
        }
        _ => raw,
    }
}
