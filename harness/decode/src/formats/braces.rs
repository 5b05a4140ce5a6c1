//! Words between braces: C initialisers, and GDB's `print`.

use crate::block::MOST_WORDS;
use crate::kind::StructureKind;
use crate::text::{part, pattern};
use crate::words::{InputPlace, Word};

pattern!(LIST, r"^(?P<before>[^{}]*)\{(?P<list>[^{}]*)\}\s*[;,]?\s*$");
pattern!(
    NUMBER,
    r"(?P<word>0[xX][0-9a-fA-F_']+|\b\d+)(?i:u?l{0,2}|lu|llu)\b\s*(?:<repeats (?P<times>\d+) times>)?"
);

/// The words of a list in braces on one line, and the kind that its name says.
///
/// Every element must be a number, perhaps in a conversion such as `cpu_to_le64(0x10)`.
pub(crate) fn list(text: &str, number: usize) -> Option<(Option<StructureKind>, Vec<Word>)> {
    let captures = LIST.captures(text)?;
    let (before, list) = (part(&captures, "before"), part(&captures, "list"));
    let at = captures.name("list").map_or(0, |list| list.start());
    let mut words = Vec::new();
    for element in list.split(',').map(str::trim).filter(|element| !element.is_empty()) {
        let mut numbers = NUMBER.captures_iter(element);
        let (Some(found), None) = (numbers.next(), numbers.next()) else { return None };
        let times = part(&found, "times").parse().unwrap_or(1).min(MOST_WORDS);
        let place = InputPlace::Line { number, column: at + 1 };
        let token = part(&found, "word");
        let word = match token.strip_prefix('0').filter(|rest| rest.starts_with(['x', 'X'])) {
            Some(_) => Word::parse(token, place).ok()?,
            // Decimal, as in C.
            None => Word { value: token.parse().ok()?, digits: 1, prefixed: true, place },
        };
        words.extend(std::iter::repeat_n(word, times));
    }
    let whole = words.iter().any(|word| word.prefixed && word.digits > 1);
    let name = before.split(|c: char| !c.is_ascii_alphanumeric()).find_map(kind);
    (whole && words.len() > 1 && words.len() <= MOST_WORDS).then_some((name, words))
}

/// The kind that a name of a variable says: `ste`, `my_cd`, `cmd0`.
fn kind(name: &str) -> Option<StructureKind> {
    let name = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let found = StructureKind::from_name(name)?;
    matches!(
        found,
        StructureKind::Ste
            | StructureKind::Cd
            | StructureKind::Command
            | StructureKind::Event
            | StructureKind::Pri
    )
    .then_some(found)
}
