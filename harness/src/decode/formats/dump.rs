//! Dumps of memory: an address or offset, and what is there.
//!
//! `xxd`, `hexdump -C`, `od`, GDB's `x`, U-Boot's `md`, QEMU's `xp`, the kernel's `print_hex_dump`, `crash rd`. Groups of
//! one and two bytes are bytes in the order of memory, larger ones are values.

use super::super::words::{Place, Word};
use super::{hex, pattern};

pattern!(
    LINE,
    r"^(?:.*?[\s\]])??(?P<at>(?:0x)?[0-9a-fA-F]{6,16})(?:\s+<[^>]*>)?(?P<colon>:?)\s+(?P<rest>(?:0x)?[0-9a-fA-F].*)$"
);

/// A dump that is being collected.
#[derive(Debug, Default)]
pub(super) struct Dump {
    words: Vec<Word>,
    /// Bytes that do not make a word yet, lowest first.
    bytes: Vec<u8>,
    bytes_at: Option<Place>,
    /// The last line, for `*`.
    last: Option<(u64, Vec<Unit>, Place)>,
    repeats: bool,
    /// The lines, and whether there is something before their addresses.
    lines: Vec<(usize, String)>,
    prefixed: bool,
}

/// What a dump holds.
#[derive(Debug, Default)]
pub(super) struct Block {
    /// The words.
    pub(super) words: Vec<Word>,
    /// The lines.
    pub(super) lines: Vec<(usize, String)>,
    /// The dump is a part of a log, which may be full of dumps of other things.
    pub(super) of_a_log: bool,
}

/// One group of digits.
#[derive(Clone, Copy, Debug)]
struct Unit {
    value: u64,
    bytes: usize,
    /// The digits are bytes in the order of memory.
    memory_order: bool,
}

/// What became of a line.
pub(super) enum Taken {
    /// It goes on with the dump.
    More,
    /// It begins a dump; this is the one before.
    New(Block),
    /// It ended a dump.
    Ended(Block),
    /// It is no dump; this is the one before.
    No(Block),
}

impl Dump {
    pub(super) fn take(&mut self, number: usize, text: &str) -> Taken {
        if text.trim() == "*" && self.last.is_some() {
            self.repeats = true;
            self.lines.push((number, text.to_owned()));
            return Taken::More;
        }
        if self.is_end(text) {
            return Taken::Ended(self.end());
        }
        let Some((at, units)) = parse(text) else { return Taken::No(self.end()) };
        let place = Place::Line { number, column: 1 };
        let follows = self.last.clone().is_some_and(|(last, before, last_place)| {
            let length = length(&before);
            let next = last.wrapping_add(length);
            if self.repeats && at > next && (at - next).is_multiple_of(length.max(1)) {
                self.repeat(&before, at - next, last_place);
                return true;
            }
            at == next
        });
        let before = if follows { None } else { Some(self.end()) };
        self.repeats = false;
        self.push(&units, place);
        self.last = Some((at, units, place));
        self.lines.push((number, text.to_owned()));
        self.prefixed |= !text.trim_start().starts_with(|c: char| c.is_ascii_hexdigit());
        before.map_or(Taken::More, Taken::New)
    }

    /// What `*` stands for. At most 4 KiB of it: more is not a structure.
    fn repeat(&mut self, units: &[Unit], bytes: u64, place: Place) {
        let length = length(units).max(1);
        for _ in 0..(bytes / length).min(4096 / length) {
            self.push(units, place);
        }
    }

    /// `hexdump` ends with a line that has only the offset.
    fn is_end(&mut self, text: &str) -> bool {
        let Some((last, units, place)) = self.last.clone() else { return false };
        let token = text.trim().trim_end_matches(':');
        let Ok(at) = u64::from_str_radix(token, 16) else { return false };
        let next = last.wrapping_add(length(&units));
        if token.len() < 6 || at < next {
            return false;
        }
        if self.repeats {
            self.repeat(&units, at - next, place);
        }
        true
    }

    fn push(&mut self, units: &[Unit], place: Place) {
        for unit in units {
            if unit.bytes >= 4 {
                let (value, digits) = (unit.value, unit.bytes * 2);
                self.words.push(Word { value, digits, place });
                continue;
            }
            let bytes = unit.value.to_be_bytes();
            let bytes = bytes.get(8 - unit.bytes..).unwrap_or_default();
            self.bytes_at.get_or_insert(place);
            if unit.memory_order {
                self.bytes.extend(bytes);
            } else {
                self.bytes.extend(bytes.iter().rev());
            }
            while let Some((word, rest)) = self.bytes.split_first_chunk::<8>() {
                let value = u64::from_le_bytes(*word);
                let rest = rest.to_vec();
                let place = self.bytes_at.take().unwrap_or(place);
                self.words.push(Word { value, digits: 16, place });
                self.bytes = rest;
            }
        }
    }

    /// What there is so far; the next line begins anew.
    pub(super) fn end(&mut self) -> Block {
        let mut dump = std::mem::take(self);
        if let (false, Some(place)) = (dump.bytes.is_empty(), dump.bytes_at) {
            // A word that is cut off keeps its bytes; the count of words then says what is missing.
            dump.bytes.resize(8, 0);
            if let Some((word, _)) = dump.bytes.split_first_chunk::<8>() {
                dump.words.push(Word { value: u64::from_le_bytes(*word), digits: 16, place });
            }
        }
        Block { words: dump.words, lines: dump.lines, of_a_log: dump.prefixed }
    }
}

fn length(units: &[Unit]) -> u64 {
    units.iter().map(|unit| unit.bytes as u64).sum()
}

/// The address and the groups of a line of a dump.
fn parse(text: &str) -> Option<(u64, Vec<Unit>)> {
    let captures = LINE.captures(text)?;
    let at = hex(&captures, "at")?;
    let colon = captures.name("colon").is_some_and(|colon| !colon.as_str().is_empty());
    // A column of characters stands behind two blanks or more, or behind a bar.
    let rest = captures.name("rest")?.as_str();
    let rest = rest.split(['|', '>']).next()?;
    let mut units: Vec<Unit> = Vec::new();
    let mut width = None;
    let mut total = 0;
    for token in rest.split_whitespace() {
        let digits = token.strip_prefix("0x").unwrap_or(token);
        let fits =
            matches!(digits.len(), 2 | 4 | 8 | 16) && width.is_none_or(|w| w == digits.len());
        let (true, Ok(value)) = (fits, u64::from_str_radix(digits, 16)) else { break };
        let bytes = digits.len() / 2;
        if total + bytes > 64 {
            break;
        }
        width = Some(digits.len());
        total += bytes;
        units.push(Unit { value, bytes, memory_order: bytes == 1 || colon });
        // Rows of bytes are 16 long: what follows is their text.
        if total == 16 && bytes < 4 {
            break;
        }
    }
    // Without a colon only `hexdump` and `od` are meant: words in a row look the same otherwise.
    let offset = captures.name("at").map_or(0, |at| at.len());
    let short = width.is_some_and(|width| width < 8) && total >= 8 && offset <= 8;
    let row =
        if colon { !units.is_empty() } else { short || matches!(offset, 6 | 7) && total >= 8 };
    row.then_some((at, units))
}
