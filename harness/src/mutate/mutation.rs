//! The ways to change a command, by the bits of IHI 0070, chapter 4.

use smmu_engine::machine::QueueName;
use smmu_types::RawCommand;

use super::site::Site;

const OPCODE: u64 = 0xff;
const SYNC: u64 = 0x46;
const PREFETCH_CONFIG: u64 = 0x01;
const CFGI_STE: u64 = 0x03;
const CFGI_CD: u64 = 0x05;
const CFGI_CD_ALL: u64 = 0x06;
const NH_ALL: u64 = 0x10;
const NH_ASID: u64 = 0x11;
const NH_VA: u64 = 0x12;
const S12_VMALL: u64 = 0x28;
const S2_IPA: u64 = 0x2a;
const ATC_INV: u64 = 0x40;
const PRI_RESP: u64 = 0x41;
const RESUME: u64 = 0x44;

const VMID_ONE: u64 = 1 << 32;
const STREAM_ONE: u64 = 1 << 32;
const ASID_SHIFT: u32 = 48;
/// `NUM` and `SCALE` of a range invalidation.
const NUM_AND_SCALE: u64 = 0x1f << 12 | 0x3f << 20;
const LEAF: u64 = 1;
const TTL_SHIFT: u32 = 8;
const TG: u64 = 3 << 10;
const PAGE_ONE: u64 = 1 << 12;
/// `Size` of `ATC_INV`.
const ATC_SIZE: u64 = 0x3f;
/// `PREFETCH_CONFIG` of the last StreamID, which no stream table reaches. A prefetch is a hint, and
/// records no event (4.2). A `CMD_SYNC` instead would complete the commands before it.
const NOTHING: [u64; 2] = [PREFETCH_CONFIG | 0xffff_ffff << 32, 0];
/// A second queue may take no prefetch. `TLBI_NH_ASID` of the last ASID of 8 bits, which no scenario with
/// a second queue uses.
const NOTHING_BY_SECOND: [u64; 2] = [NH_ASID | 0xff << ASID_SHIFT, 0];

/// No mutation has the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no mutation is called so; there are {}", names())]
pub struct NoSuchMutation;

fn names() -> String {
    Mutation::ALL.map(Mutation::keyword).join(", ")
}

/// A way to change a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mutation {
    /// It is left out: a command that does nothing is in its place.
    LeftOut,
    /// It comes after the `CMD_SYNC` that follows it directly. No other command has this mutation.
    AfterSync,
    /// The next command, which is no `CMD_SYNC`, comes before it.
    Swapped,
    /// It is for the next ASID, or for the VMID or StreamID that differs in bit 0. So an answer to a
    /// fault or a page request goes to another stream.
    WrongTag,
    /// Its address is that of the next page.
    WrongAddress,
    /// A range becomes its first page.
    Shorter,
    /// It drops entries of the last level only, where it was to drop those of all levels.
    LastLevelOnly,
    /// Its level hint names another level.
    WrongLevel,
}

impl Mutation {
    /// All of them.
    pub const ALL: [Mutation; 8] = [
        Mutation::LeftOut,
        Mutation::AfterSync,
        Mutation::Swapped,
        Mutation::WrongTag,
        Mutation::WrongAddress,
        Mutation::Shorter,
        Mutation::LastLevelOnly,
        Mutation::WrongLevel,
    ];

    /// Its name in the table.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Mutation::LeftOut => "left out",
            Mutation::AfterSync => "after its sync",
            Mutation::Swapped => "swapped with the next",
            Mutation::WrongTag => "wrong tag",
            Mutation::WrongAddress => "wrong address",
            Mutation::Shorter => "first page only",
            Mutation::LastLevelOnly => "last level only",
            Mutation::WrongLevel => "wrong level",
        }
    }

    /// The mutation of this name, with `-` for each space.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn of_keyword(keyword: &str) -> Result<Self, NoSuchMutation> {
        let found = Self::ALL.into_iter().find(|mutation| mutation.keyword() == keyword);
        found.ok_or(NoSuchMutation)
    }

    /// Its name on the command line.
    #[must_use]
    pub fn keyword(self) -> String {
        self.name().replace(' ', "-")
    }

    /// The mutations of a command.
    pub fn of(site: &Site) -> impl Iterator<Item = Self> + use<> {
        let site = *site;
        Self::ALL.into_iter().filter(move |mutation| mutation.apply(&site).is_some())
    }

    /// What stands in the place of the command, and of the next one if that changes too.
    pub(super) fn apply(self, site: &Site) -> Option<(RawCommand, Option<RawCommand>)> {
        let [first, second] = site.command.0;
        let opcode = first & OPCODE;
        let is_invalidation = matches!(opcode, NH_VA | S2_IPA);
        let is_sync = |command: &RawCommand| command.0[0] & OPCODE == SYNC;
        let changed = match self {
            Mutation::LeftOut => match site.queue {
                QueueName::Main => NOTHING,
                QueueName::Second => NOTHING_BY_SECOND,
            },
            Mutation::AfterSync => {
                let next = site.next.filter(is_sync)?;
                return (opcode != SYNC).then_some((next, Some(site.command)));
            }
            Mutation::Swapped => {
                let next = site.next.filter(|next| !is_sync(next) && *next != site.command)?;
                return (opcode != SYNC).then_some((next, Some(site.command)));
            }
            Mutation::WrongTag => match opcode {
                NH_ASID | NH_VA => {
                    let asid = (first >> ASID_SHIFT).wrapping_add(1);
                    [first & !(0xffff << ASID_SHIFT) | asid << ASID_SHIFT, second]
                }
                NH_ALL | S12_VMALL | S2_IPA => [first ^ VMID_ONE, second],
                CFGI_STE | CFGI_CD | CFGI_CD_ALL | ATC_INV | PRI_RESP | RESUME => {
                    [first ^ STREAM_ONE, second]
                }
                _ => return None,
            },
            Mutation::WrongAddress if is_invalidation => [first, second.wrapping_add(PAGE_ONE)],
            // The whole address space, and every power of two above a page, has the next page too.
            Mutation::WrongAddress if opcode == ATC_INV && second & ATC_SIZE == 0 => {
                [first, second.wrapping_add(PAGE_ONE)]
            }
            Mutation::Shorter
                if is_invalidation && second & TG != 0 && first & NUM_AND_SCALE != 0 =>
            {
                [first & !NUM_AND_SCALE, second]
            }
            Mutation::Shorter if opcode == ATC_INV && second & ATC_SIZE != 0 => {
                [first, second & !ATC_SIZE]
            }
            Mutation::LastLevelOnly
                if (is_invalidation || matches!(opcode, CFGI_STE | CFGI_CD))
                    && second & LEAF == 0 =>
            {
                [first, second | LEAF]
            }
            Mutation::WrongLevel
                if is_invalidation && second & TG != 0 && second >> TTL_SHIFT & 3 != 0 =>
            {
                let level = second >> TTL_SHIFT & 3;
                [first, second & !(3 << TTL_SHIFT) | (level % 3 + 1) << TTL_SHIFT]
            }
            _ => return None,
        };
        Some((RawCommand(changed), None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYNC_WORDS: [u64; 2] = [0x46, 0];
    const PREFETCH_WORDS: [u64; 2] = [0xffff_ffff_0000_0001, 0];

    /// Each mutation of a command, with what stands in its place.
    fn all(
        command: [u64; 2],
        next: Option<[u64; 2]>,
    ) -> Vec<(Mutation, [u64; 2], Option<[u64; 2]>)> {
        let site = Site {
            smmu: 0,
            queue: QueueName::Main,
            command: RawCommand(command),
            next: next.map(RawCommand),
        };
        let words = |mutation: Mutation| {
            let (first, second) = mutation.apply(&site)?;
            Some((mutation, first.0, second.map(|second| second.0)))
        };
        Mutation::of(&site).filter_map(words).collect()
    }

    #[test]
    fn a_tlbi_of_one_page() {
        use Mutation::*;
        let command = [0x12 | 0xffff << 48, 0x1_0001];
        let expected = [
            (LeftOut, PREFETCH_WORDS, None),
            (AfterSync, SYNC_WORDS, Some(command)),
            (WrongTag, [0x12, 0x1_0001], None),
            (WrongAddress, [0x12 | 0xffff << 48, 0x1_1001], None),
        ];
        assert_eq!(all(command, Some(SYNC_WORDS)), expected);
    }

    #[test]
    fn a_tlbi_of_a_range() {
        use Mutation::*;
        // NUM = 2, SCALE = 1, TG = 4 KiB, TTL = 3, of all levels.
        let (first, second) = (0x2a | 2 << 12 | 1 << 20 | 3 << 32, 0x1_0000 | 1 << 10 | 3 << 8);
        let expected = [
            (LeftOut, PREFETCH_WORDS, None),
            (WrongTag, [first ^ 1 << 32, second], None),
            (WrongAddress, [first, second + 0x1000], None),
            (Shorter, [0x2a | 3 << 32, second], None),
            (LastLevelOnly, [first, second | 1], None),
            (WrongLevel, [first, 0x1_0000 | 1 << 10 | 1 << 8], None),
        ];
        assert_eq!(all([first, second], None), expected);
    }

    #[test]
    fn commands_of_streams() {
        use Mutation::*;
        let (cfgi_ste, atc_inv) = ([0x03 | 8 << 32, 0], [0x40 | 8 << 32, 52]);
        let expected = [
            (LeftOut, PREFETCH_WORDS, None),
            (Swapped, atc_inv, Some(cfgi_ste)),
            (WrongTag, [0x03 | 9 << 32, 0], None),
            (LastLevelOnly, [0x03 | 8 << 32, 1], None),
        ];
        assert_eq!(all(cfgi_ste, Some(atc_inv)), expected);
        let expected = [
            (LeftOut, PREFETCH_WORDS, None),
            (WrongTag, [0x40 | 9 << 32, 52], None),
            (Shorter, [0x40 | 8 << 32, 0], None),
        ];
        assert_eq!(all(atc_inv, None), expected);
    }

    #[test]
    fn a_sync_is_only_left_out() {
        assert_eq!(all(SYNC_WORDS, Some([0x30, 0])), [(Mutation::LeftOut, PREFETCH_WORDS, None)]);
    }

    #[test]
    fn keywords_name_mutations() {
        for mutation in Mutation::ALL {
            assert_eq!(Mutation::of_keyword(&mutation.keyword()), Ok(mutation));
        }
        assert_eq!(Mutation::of_keyword("left out"), Err(NoSuchMutation));
    }
}
