//! What an SMMU makes of a command: fields without an effect, and operands that it aligns.

use super::codec::{ATC_INV, CFGI_STE_RANGE, PREFETCH_ADDR, PREFETCH_CONFIG, PRI_RESP, RESUME};
use super::codec::{RANGE_ALL, SSV, SYNC, is_tlbi_by_address};
use super::{AtcSpan, Command, RawCommand};
use crate::range;
use crate::spec::bits::{get, mask};

impl Command {
    /// The command that an SMMU carries out for 16 bytes, where [`decode`](Self::decode) says what they are bit by bit.
    ///
    /// It differs where a legal command has bits that the architecture ignores or replaces, which no encoder here sets:
    ///
    /// | command | what |
    /// |---|---|
    /// | with `SSV` | a SubstreamID with `SSV` = 0 does not count (4.1.6) |
    /// | `CMD_CFGI_ALL` | the StreamID does not count (4.3.6) |
    /// | `CMD_TLBI_*` by address | a `SCALE` above 39 is 39; an address that is not aligned to its level (4.4.1.1), see below |
    /// | `CMD_ATC_INV` | the address is aligned to the size downwards, to 0 for everything (4.5.1) |
    /// | `CMD_RESUME` | `Ab` does not count for a retry (4.7.1) |
    /// | `CMD_SYNC` | data and address do not count without `SIG_IRQ`, nor data without an address; `MSH` = 1 is 0 (4.7.3) |
    ///
    /// Which addresses a ranged invalidation drops is unpredictable where its address is not aligned to what an entry
    /// of its level maps. Here it loses the level, which drops more, and is aligned to the granule.
    ///
    /// [`Command::Unknown`] is left for what an SMMU may refuse as `CERROR_ILL`: reserved opcodes, reserved values,
    /// `SSec` = 1, and reserved fields that are not zero, which the architecture allows to refuse and to ignore
    /// (4.1.5). `CMD_DPTI_PA` and the implementation defined opcodes have no type, and are left as well.
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

/// The same command without the bits that have no effect, and with its operands as the SMMU uses them.
fn effective(raw: RawCommand) -> RawCommand {
    const SSID: u64 = mask(31, 12);
    const HIGH: u64 = mask(63, 32);
    const AB: u64 = 1 << 13;
    const MSI_ADDRESS: u64 = mask(55, 2);

    let [mut w0, mut w1] = raw.0;
    let opcode = get(w0, 7, 0);
    if matches!(opcode, PREFETCH_CONFIG | PREFETCH_ADDR | ATC_INV | PRI_RESP) && w0 & SSV == 0 {
        w0 &= !SSID;
    }
    match opcode {
        CFGI_STE_RANGE if get(w1, 4, 0) == RANGE_ALL => w0 &= !HIGH,
        ATC_INV if get(w1, 5, 0) <= AtcSpan::MAX_SIZE as u64 => {
            w1 &= !mask(11 + get(w1, 5, 0) as u32, 0) | mask(11, 0);
        }
        RESUME if get(w0, 12, 12) == 1 => w0 &= !AB,
        SYNC => {
            if get(w0, 23, 22) == 1 {
                w0 &= !mask(23, 22);
            }
            match get(w0, 13, 12) {
                1 if w1 & MSI_ADDRESS != 0 => {}
                0..=2 => (w0, w1) = (w0 & !HIGH, w1 & !MSI_ADDRESS),
                _ => {}
            }
        }
        opcode if is_tlbi_by_address(opcode) => [w0, w1] = range::effective(w0, w1),
        _ => {}
    }
    RawCommand([w0, w1])
}
