//! Dumps of memory: an address or offset, and what is there.
//!
//! `xxd`, `hexdump -C`, `od`, GDB's `x`, U-Boot's `md`, QEMU's `xp`, the kernel's `print_hex_dump`, `crash rd`. Groups of
//! one and two bytes are bytes in the order of memory, larger ones are values, or bytes where only that makes sense.

use super::super::words::{Place, Word};
use super::line::{Block, Line};
use super::pattern;

pattern!(
    LINE,
    r"^(?:.*?[\s\]])??(?P<at>(?:0x)?[0-9a-fA-F]{6,16})(?:\s+<[^>]*>)?(?P<colon>:?)\s+(?P<rest>(?:0x)?[0-9a-fA-F].*)$"
);

/// A dump that is being collected.
#[derive(Debug, Default)]
pub(super) struct Dump {
    block: Block,
    /// The last line, for what follows it and for `*`.
    last: Option<Row>,
    repeats: bool,
    /// In what the addresses may be counted, as far as the rows show.
    radixes: Vec<u32>,
}

/// A line of a dump.
#[derive(Clone, Debug)]
struct Row {
    /// The digits of the address. `od` counts in octal or decimal unless told otherwise.
    at: String,
    units: Vec<Unit>,
    place: Place,
    colon: bool,
    /// Something stands before the address.
    prefixed: bool,
    either_order: bool,
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

impl Row {
    fn length(&self) -> u64 {
        self.units.iter().map(|unit| unit.bytes as u64).sum()
    }

    /// In what the address may be counted, the likeliest first. `od` counts in octal, and is the only one that has
    /// seven digits without a colon before anything but groups of two bytes.
    fn radixes(&self) -> Vec<u32> {
        let pairs = self.units.first().is_some_and(|unit| unit.bytes == 2);
        match (self.at.starts_with("0x"), self.at.len()) {
            (true, _) => vec![16],
            (false, 7) if !self.colon && !pairs => vec![8, 16, 10],
            _ => vec![16, 8, 10],
        }
    }

    /// How many bytes lie between the end of this row and an address.
    fn gap(&self, at: &str, radix: u32) -> Option<u64> {
        let number =
            |text: &str| u64::from_str_radix(text.strip_prefix("0x").unwrap_or(text), radix).ok();
        number(at)?.checked_sub(number(&self.at)?.checked_add(self.length())?)
    }
}

impl Dump {
    pub(super) fn take(&mut self, line: &Line, text: &str) -> Taken {
        if text.trim() == "*" && self.last.is_some() {
            self.repeats = true;
            self.block.lines.push(line.clone());
            return Taken::More;
        }
        if self.is_end(text) {
            self.block.lines.push(line.clone());
            return Taken::Ended(self.end());
        }
        let Some(row) = parse(text, line.number) else { return Taken::No(self.end()) };
        let follows = self.follows(&row.at) && !self.block.is_full();
        let before = if follows { None } else { Some(self.end()) };
        self.repeats = false;
        if before.is_some() {
            self.radixes = row.radixes();
        }
        self.push(&row);
        self.block.lines.push(line.clone());
        self.last = Some(row);
        before.map_or(Taken::More, Taken::New)
    }

    /// Whether an address goes on where the last row ended, or where the repetitions of it do.
    fn follows(&mut self, at: &str) -> bool {
        let Some(last) = self.last.clone() else { return false };
        if self.repeats {
            let whole = |gap: &u64| gap.is_multiple_of(last.length().max(1));
            let gap = self.radixes.iter().find_map(|radix| last.gap(at, *radix).filter(whole));
            gap.inspect(|gap| self.repeat(*gap));
            return gap.is_some();
        }
        let fits = |radix: &u32| last.gap(at, *radix) == Some(0);
        let fitting: Vec<u32> = self.radixes.iter().copied().filter(fits).collect();
        let follows = !fitting.is_empty();
        if follows {
            self.radixes = fitting;
        }
        follows
    }

    /// What `*` stands for. At most 4 KiB of it: more is not a structure.
    fn repeat(&mut self, bytes: u64) {
        let Some(row) = self.last.clone() else { return };
        let length = row.length().max(1);
        for _ in 0..(bytes / length).min(4096 / length) {
            self.push(&row);
        }
    }

    /// `hexdump` and `od` end with a line that has only the offset.
    fn is_end(&mut self, text: &str) -> bool {
        let token = text.trim().trim_end_matches(':');
        let hex = token.len() >= 6 && token.chars().all(|c| c.is_ascii_hexdigit());
        if !hex || self.last.is_none() {
            return false;
        }
        let same = self.last.as_ref().is_some_and(|last| last.at.len() == token.len());
        // The last row may have been short.
        self.follows(token) || same && !self.repeats
    }

    fn push(&mut self, row: &Row) {
        self.block.of_a_log |= row.prefixed;
        self.block.either_order |= row.either_order;
        let place = row.place;
        for unit in &row.units {
            if unit.bytes >= 4 {
                let (value, digits) = (unit.value, unit.bytes * 2);
                self.block.words.push(Word { value, digits, prefixed: false, place });
                continue;
            }
            let bytes = unit.value.to_be_bytes();
            let bytes = bytes.get(8 - unit.bytes..).unwrap_or_default().iter().copied();
            if unit.memory_order {
                self.block.push_bytes(bytes, place);
            } else {
                self.block.push_bytes(bytes.rev(), place);
            }
        }
    }

    /// What there is so far; the next line begins anew.
    pub(super) fn end(&mut self) -> Block {
        let mut block = std::mem::take(self).block;
        block.close();
        block
    }
}

/// The address and the groups of a line of a dump.
fn parse(text: &str, number: usize) -> Option<Row> {
    let captures = LINE.captures(text)?;
    let at = captures.name("at")?;
    let colon = captures.name("colon").is_some_and(|colon| !colon.as_str().is_empty());
    let rest = captures.name("rest")?.as_str();
    // A column of characters stands between bars, or behind two blanks.
    let (rest, column) = match (rest.split_once('|'), rest.split_once("  ")) {
        (Some((rest, _)), _) => (rest, true),
        (None, Some((rest, column))) => (rest, !column.trim().is_empty()),
        (None, None) => (rest, false),
    };
    let mut units: Vec<Unit> = Vec::new();
    let mut width = None;
    for token in rest.split_whitespace() {
        let digits = token.strip_prefix("0x").unwrap_or(token);
        let fits =
            matches!(digits.len(), 2 | 4 | 8 | 16) && width.is_none_or(|w| w == digits.len());
        let (true, Ok(value)) = (fits, u64::from_str_radix(digits, 16)) else { break };
        let bytes = digits.len() / 2;
        width = Some(digits.len());
        units.push(Unit { value, bytes, memory_order: bytes == 1 || colon });
    }
    let total: usize = units.iter().map(|unit| unit.bytes).sum();
    // Without a colon only `hexdump` and `od` are meant: words in a row look the same otherwise.
    let short = width.is_some_and(|width| width < 8) && total >= 8 && at.len() <= 8;
    let row = if colon { total >= 4 } else { short || matches!(at.len(), 6 | 7) && total >= 8 };
    let place = Place::Line { number, column: 1 };
    let wide = width.is_some_and(|width| width >= 8);
    row.then(|| Row {
        at: at.as_str().to_owned(),
        units,
        place,
        colon,
        prefixed: !text.get(..at.start()).unwrap_or_default().trim().is_empty(),
        either_order: colon && column && wide,
    })
}
