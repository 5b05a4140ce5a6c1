//! From the bytes of a fuzzer to what must hold for any input: one function for each fuzz target.

use smmu_harness::decode::formats::{Item, Scanner};
use smmu_harness::decode::kind::Kind;
use smmu_harness::decode::words::Width;

const KINDS: &[&str] =
    &["", "command", "event", "ste", "cd", "pri", "l1std", "l1cd", "idr", "queue"];

/// The input of `smmu-harness decode`, line by line. The last byte chooses what is asked for; the end
/// of a line asks for nothing, so that any log is a seed.
///
/// Every line that comes back has been put in, none comes back more often than that, and all that is found has words.
pub fn scanner(data: &[u8]) {
    let (&choices, data) = data.split_last().unwrap_or((&0, &[]));
    let kind = KINDS.get(usize::from(choices & 0x1f)).and_then(|name| Kind::from_name(name));
    let width = match choices >> 6 {
        0 | 1 => None,
        2 => Some(Width::Bits32),
        _ => Some(Width::Bits64),
    };
    let mut scanner = Scanner::new(kind, width);
    let text = String::from_utf8_lossy(data);
    let mut lines = 0;
    let mut others = vec![0; text.lines().count() + 1];
    let mut check = |items: Vec<Item>, lines: usize| {
        for item in items {
            match item {
                Item::Found(found) => {
                    assert!(!found.words.is_empty() && found.line <= lines, "{found:?}");
                }
                Item::Other { line, .. } => {
                    others[line] += 1;
                    assert!(others[line] == 1, "line {line} comes back twice");
                }
                Item::Note { line, text, .. } => {
                    assert!((1..=lines).contains(&line) && !text.is_empty(), "{line}: {text:?}");
                }
                Item::Broken(error) => assert!(!error.to_string().is_empty()),
            }
        }
    };
    for (at, line) in text.lines().enumerate() {
        lines = at + 1;
        check(scanner.line(lines, line), lines);
    }
    check(scanner.finish(), lines);
    assert!(scanner.finish().is_empty(), "something is left after the end");
}
