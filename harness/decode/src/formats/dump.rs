//! Memory dumps: an address or offset, and the bytes from there on.
//!
//! `xxd`, `hexdump -C`, `od`, GDB's `x`, U-Boot's `md`, QEMU's `xp`, the kernel's `print_hex_dump`,
//! `crash rd`, TRACE32's `Data.dump`. Groups of one and two bytes are bytes in the order of memory, larger ones are
//! values, or bytes where only that makes sense.

use crate::block::WordBlock;
use crate::line::LogLine;
use crate::text::{part, pattern};
use crate::words::{InputPlace, Word};

pattern!(
    LINE,
    r"^(?:.*?[\s\]])??(?P<at>(?:0x)?[0-9a-fA-F]{6,16})(?:\s+<[^>]*>)?(?P<colon>:?)\s+(?P<rest>(?:0x)?[0-9a-fA-F].*)$"
);

/// A dump that is being collected.
#[derive(Debug, Default)]
pub(crate) struct Dump {
    block: WordBlock,
    /// The last line, for what follows it and for `*`.
    last: Option<DumpRow>,
    repeats: bool,
    /// The possible radices of the addresses, as far as the rows show.
    radixes: Vec<u32>,
}

/// A line of a dump.
#[derive(Clone, Debug)]
struct DumpRow {
    /// The digits of the address. They may be octal or decimal: `od -A` chooses.
    at: String,
    units: Vec<DigitGroup>,
    place: InputPlace,
    colon: bool,
    /// Text precedes the address.
    prefixed: bool,
    either_order: bool,
}

/// One group of digits.
#[derive(Clone, Copy, Debug)]
struct DigitGroup {
    value: u64,
    bytes: usize,
    /// The digits are bytes in the order of memory.
    memory_order: bool,
}

/// What the dump did with a line.
pub(crate) enum DumpStep {
    /// The line continues the dump.
    More,
    /// The line begins a dump; this is the dump before it.
    New(WordBlock),
    /// The line ends this dump.
    Ended(WordBlock),
    /// The line is no dump; this is the dump before it.
    No(WordBlock),
}

impl DumpRow {
    fn length(&self) -> u64 {
        self.units.iter().map(|unit| unit.bytes as u64).sum()
    }

    /// The possible radices of the address, the likeliest first. Seven digits without a colon
    /// before groups other than two bytes come from `od` alone, which counts in octal.
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
    pub(crate) fn take(&mut self, line: &LogLine, text: &str) -> DumpStep {
        if text.trim() == "*" && self.last.is_some() {
            self.repeats = true;
            self.block.lines.push(line.clone());
            return DumpStep::More;
        }
        if self.is_end(text) {
            self.block.lines.push(line.clone());
            return DumpStep::Ended(self.end());
        }
        let Some(row) = parse(text, line.number) else { return DumpStep::No(self.end()) };
        let follows = self.follows(&row.at) && !self.block.is_full();
        let before = if follows { None } else { Some(self.end()) };
        self.repeats = false;
        if before.is_some() {
            self.radixes = row.radixes();
        }
        self.push(&row);
        self.block.lines.push(line.clone());
        self.last = Some(row);
        before.map_or(DumpStep::More, DumpStep::New)
    }

    /// Whether an address continues the last row, or the repetitions of it.
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

    /// The rows that `*` stands for, 4 KiB at most: a longer run is no structure.
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

    fn push(&mut self, row: &DumpRow) {
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

    /// Returns the dump so far; the next line begins a new one.
    pub(crate) fn end(&mut self) -> WordBlock {
        let mut block = std::mem::take(self).block;
        block.close();
        block
    }
}

pattern!(TRACE32, r"^\s*(?:[A-Z]{1,5}:)?(?P<at>[0-9A-Fa-f]{4,16})\|(?P<rest>[> ]?[0-9A-Fa-f].*)$");
// GDB prints values with their own digits: `0x80001000: 0xd 0x0`.
pattern!(
    UNPADDED,
    r"^\s*(?P<at>0x[0-9a-fA-F]{3,16})(?:\s+<[^>]*>)?:(?P<rest>(?:\s+0x[0-9a-fA-F]{1,16}){1,8})\s*$"
);

/// A row of TRACE32. Its `>` marks the cursor, and a character column follows two blanks or more
/// than the groups.
fn trace32(text: &str, number: usize) -> Option<DumpRow> {
    let captures = TRACE32.captures(text)?;
    let at = part(&captures, "at");
    let mut units = Vec::new();
    let mut width = None;
    for token in part(&captures, "rest").split([' ', '>']).filter(|token| !token.is_empty()) {
        let fits = matches!(token.len(), 2 | 4 | 8 | 16) && width.is_none_or(|w| w == token.len());
        let (true, Ok(value)) = (fits, u64::from_str_radix(token, 16)) else { break };
        width = Some(token.len());
        let bytes = token.len() / 2;
        units.push(DigitGroup { value, bytes, memory_order: bytes == 1 });
    }
    let place = InputPlace::Line { number, column: 1 };
    let row = DumpRow {
        at: format!("0x{at}"),
        units,
        place,
        colon: true,
        prefixed: false,
        either_order: false,
    };
    (!row.units.is_empty()).then_some(row)
}

/// A row of GDB with values of different lengths. Two values or fewer are of 64 bits, as GDB puts
/// two of these or four of 32 bits on a line.
fn unpadded(text: &str, number: usize) -> Option<DumpRow> {
    let captures = UNPADDED.captures(text)?;
    let values: Vec<&str> = part(&captures, "rest").split_whitespace().collect();
    let mut lengths = values.iter().map(|value| value.len());
    let first = lengths.next()?;
    if lengths.all(|length| length == first) && matches!(first - 2, 2 | 4 | 8 | 16) {
        return None;
    }
    let wide = values.len() <= 2 || values.iter().any(|value| value.len() > 10);
    let bytes = if wide { 8 } else { 4 };
    let value = |text: &&str| u64::from_str_radix(text.trim_start_matches("0x"), 16).ok();
    let units: Option<Vec<DigitGroup>> = values
        .iter()
        .map(|text| Some(DigitGroup { value: value(text)?, bytes, memory_order: false }))
        .collect();
    Some(DumpRow {
        at: part(&captures, "at").to_owned(),
        units: units?,
        place: InputPlace::Line { number, column: 1 },
        colon: true,
        prefixed: false,
        either_order: false,
    })
}

/// Whether six digits or more stand behind a blank or a bracket and before a blank or a colon, and
/// digits or `<` follow. The search is much faster than the pattern, and most lines of a log do not
/// pass.
fn may_have_address(text: &str) -> bool {
    let mut digits = 0;
    text.bytes().enumerate().any(|(at, byte)| {
        if byte.is_ascii_hexdigit() {
            digits += 1;
            return false;
        }
        let ends = byte == b':' || matches!(byte, b'\t'..=b'\r' | b' ') || !byte.is_ascii();
        let count = std::mem::take(&mut digits);
        if !ends || count < 6 {
            return false;
        }
        let before = text.get(..at - count).unwrap_or_default();
        let before = before.strip_suffix("0x").unwrap_or(before);
        let behind = text.get(at..).unwrap_or_default();
        let behind = behind.strip_prefix(':').unwrap_or(behind).trim_start();
        (before.is_empty() || before.ends_with(|c: char| c == ']' || c.is_whitespace()))
            && behind.starts_with(|c: char| c.is_ascii_hexdigit() || c == '<')
    })
}

/// The address and the groups of a line of a dump.
fn parse(text: &str, number: usize) -> Option<DumpRow> {
    if text.contains('|')
        && let Some(row) = trace32(text, number)
    {
        return Some(row);
    }
    if text.trim_start().starts_with("0x")
        && let Some(row) = unpadded(text, number)
    {
        return Some(row);
    }
    if !may_have_address(text) {
        return None;
    }
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
    let mut units: Vec<DigitGroup> = Vec::new();
    let mut width = None;
    for token in rest.split_whitespace() {
        let digits = token.strip_prefix("0x").unwrap_or(token);
        let fits =
            matches!(digits.len(), 2 | 4 | 8 | 16) && width.is_none_or(|w| w == digits.len());
        let (true, Ok(value)) = (fits, u64::from_str_radix(digits, 16)) else { break };
        let bytes = digits.len() / 2;
        width = Some(digits.len());
        units.push(DigitGroup { value, bytes, memory_order: bytes == 1 || colon });
    }
    let total: usize = units.iter().map(|unit| unit.bytes).sum();
    // Without a colon, only `hexdump` and `od` count: plain words in a row look like any other
    // dump.
    let short = width.is_some_and(|width| width < 8) && total >= 8 && at.len() <= 8;
    let row = if colon { total >= 4 } else { short || matches!(at.len(), 6 | 7) && total >= 8 };
    let place = InputPlace::Line { number, column: 1 };
    let wide = width.is_some_and(|width| width >= 8);
    row.then(|| DumpRow {
        at: at.as_str().to_owned(),
        units,
        place,
        colon,
        prefixed: !text.get(..at.start()).unwrap_or_default().trim().is_empty(),
        either_order: colon && column && wide,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Parts of lines of dumps, and of what looks like them.
    fn a_line() -> impl Strategy<Value = String> {
        let part = prop_oneof![
            "(0x)?[0-9a-fA-F]{1,18}",
            "[ \\t\\u{b}\\u{a0}]{1,2}",
            "<[a-z+0-9]{0,4}>",
            "[:\\]\\[(.,x-]",
            "[a-z\\u{e9}]{1,3}",
        ];
        proptest::collection::vec(part, 0..9).prop_map(|parts| parts.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn each_line_that_the_pattern_takes_may_have_an_address(line in a_line()) {
            prop_assert!(may_have_address(&line) || LINE.captures(&line).is_none());
        }
    }
}
