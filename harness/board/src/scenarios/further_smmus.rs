//! SMMUs that the command line names, because the device tree does not.
//!
//! QEMU's tree tells of the first SMMU only. Its command line (`-append`) tells of the others, in the
//! words of `Further`: it is a second source, and the program prints that it used it.
//!
//! ```text
//! smmu=0xc020000,eventq=148,gerror=151,ids=0x800-0x9ff
//! ```

use alloc::vec::Vec;
use core::ops::RangeInclusive;

use smmu_hw_mmio::firmware::{Interrupt, Trigger};

const KEY: &str = "smmu=";
/// Two pages of 64 KiB.
const REGISTERS_ALIGN: u64 = 0x1_0000;

/// An SMMU of the command line. Its interrupts are edges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Further {
    /// The address of its registers.
    pub base: u64,
    /// The interrupt of its event queue.
    pub eventq: Interrupt,
    /// The interrupt of its `GERROR`.
    pub gerror: Interrupt,
    /// The requester IDs of PCI behind it. Each is the StreamID too. They go before those of the
    /// device tree.
    pub ids: RangeInclusive<u32>,
}

/// An SMMU of the command line is described wrongly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "SMMU {number} of the command line is wrong; write \
     smmu=ADDRESS,eventq=INTID,gerror=INTID,ids=FIRST-LAST, with an address of whole 64 KiB"
)]
pub struct WrongFurther {
    /// Which, from 1.
    pub number: usize,
}

/// The SMMUs of a command line. Other words of it are left alone.
///
/// # Errors
///
/// A word that begins with `smmu=` is not of the form above.
pub fn further_smmus(command_line: &str) -> Result<Vec<Further>, WrongFurther> {
    let words = command_line.split_ascii_whitespace();
    let described = words.filter_map(|word| word.strip_prefix(KEY)).enumerate();
    described.map(|(n, text)| parse(text).ok_or(WrongFurther { number: n + 1 })).collect()
}

fn parse(text: &str) -> Option<Further> {
    let mut parts = text.split(',');
    let base = number(parts.next()?)?;
    let interrupt = |part: Option<&str>, key: &str| {
        let intid = u32::try_from(number(part?.strip_prefix(key)?)?).ok()?;
        Some(Interrupt { intid, trigger: Some(Trigger::Edge) })
    };
    let eventq = interrupt(parts.next(), "eventq=")?;
    let gerror = interrupt(parts.next(), "gerror=")?;
    let (first, last) = parts.next()?.strip_prefix("ids=")?.split_once('-')?;
    let (first, last) = (u16::try_from(number(first)?).ok()?, u16::try_from(number(last)?).ok()?);
    let fits = base > 0 && base.is_multiple_of(REGISTERS_ALIGN) && first <= last;
    (fits && parts.next().is_none()).then(|| Further {
        base,
        eventq,
        gerror,
        ids: first.into()..=last.into(),
    })
}

/// A decimal number, or a hexadecimal one after `0x`.
fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(hex) if !hex.starts_with('+') => u64::from_str_radix(hex, 16).ok(),
        _ if text.starts_with('+') => None,
        _ => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;

    #[test]
    fn smmus_are_found_among_other_words() {
        let line = "quiet smmu=0xc020000,eventq=148,gerror=151,ids=0x800-0x9ff root=/dev/ram \
                    smmu=201588736,eventq=152,gerror=155,ids=3072-3583";
        let edge = |intid| Interrupt { intid, trigger: Some(Trigger::Edge) };
        let further = |base, eventq, gerror, ids| Further {
            base,
            eventq: edge(eventq),
            gerror: edge(gerror),
            ids,
        };
        assert_eq!(
            further_smmus(line).unwrap(),
            [
                further(0xc02_0000, 148, 151, 0x800..=0x9ff),
                further(0xc04_0000, 152, 155, 0xc00..=0xdff)
            ]
        );
        assert_eq!(further_smmus("").unwrap(), []);
    }

    #[test]
    fn wrong_ones_are_refused_with_their_number() {
        let good = "smmu=0xc020000,eventq=148,gerror=151,ids=0x800-0x9ff";
        let wrong = [
            "smmu=",
            "smmu=0xc020001,eventq=148,gerror=151,ids=0x800-0x9ff",
            "smmu=0xc020000,eventq=148,gerror=151,ids=0x9ff-0x800",
            "smmu=0xc020000,eventq=148,gerror=151,ids=0x800-0x10000",
            "smmu=0xc020000,gerror=151,eventq=148,ids=0x800-0x9ff",
            "smmu=0xc020000,eventq=148,gerror=151,ids=0x800-0x9ff,more",
            "smmu=0,eventq=148,gerror=151,ids=0x800-0x9ff",
            "smmu=0x1ffffffffffffffff,eventq=148,gerror=151,ids=0x800-0x9ff",
            "smmu=0xc020000,eventq=+148,gerror=151,ids=0x800-0x9ff",
        ];
        for one in wrong {
            let line = std::format!("{good} {one}");
            assert_eq!(further_smmus(&line), Err(WrongFurther { number: 2 }), "{one}");
        }
    }
}
