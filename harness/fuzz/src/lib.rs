//! From the bytes of a fuzzer to what must hold for any input: one function for each fuzz target.

#[path = "../../../smmu-hw-mmio/tests/firmware/any_fdt.rs"]
mod any_fdt;
#[path = "../../../smmu-hw-mmio/tests/firmware/any_iort.rs"]
mod any_iort;

use smmu_decode::{ScanItem, Scanner, StructureKind, WordWidth};

const KINDS: &[&str] =
    &["", "command", "event", "ste", "cd", "pri", "l1std", "l1cd", "idr", "queue"];

/// The input of `smmu-harness decode`, line by line. The last byte chooses kind and width. A line
/// feed chooses neither, so any log is a seed.
///
/// Every line is in exactly one item, and comes back as it was; all that is found has words.
pub fn scanner(data: &[u8]) {
    let (&choices, data) = data.split_last().unwrap_or((&0, &[]));
    let kind =
        KINDS.get(usize::from(choices & 0x1f)).and_then(|name| StructureKind::from_name(name));
    let width = match choices >> 6 {
        0 | 1 => None,
        2 => Some(WordWidth::Bits32),
        _ => Some(WordWidth::Bits64),
    };
    let mut scanner = Scanner::new(kind, width);
    let lines: Vec<&[u8]> = data.split_inclusive(|byte| *byte == b'\n').collect();
    let mut seen = vec![0; lines.len() + 1];
    let mut check = |items: Vec<ScanItem>| {
        for item in items {
            match item {
                ScanItem::Found(found) => {
                    assert!(!found.words.is_empty() && found.line < seen.len(), "{found:?}");
                    found.lines.iter().for_each(|line| seen[*line] += 1);
                }
                ScanItem::Other(line) => {
                    seen[line.number] += 1;
                    assert_eq!(line.raw, lines[line.number - 1]);
                }
                ScanItem::Note { line, text, .. } => {
                    seen[line] += 1;
                    assert!(!text.is_empty());
                }
                ScanItem::Again { line } => seen[line] += 1,
                ScanItem::Broken(error) => assert!(!error.to_string().is_empty()),
            }
        }
    };
    for (at, line) in lines.iter().enumerate() {
        check(scanner.line(at + 1, line));
    }
    check(scanner.finish());
    assert!(seen.iter().skip(1).all(|times| *times == 1), "{seen:?}");
    assert!(scanner.finish().is_empty(), "something is left after the end");
}

/// A flattened device tree: read or refused, every error with a place, every stream named again.
pub fn device_tree(data: &[u8]) {
    any_fdt::check(data);
}

/// An IORT: read or refused, every error with a place, every stream named again.
pub fn iort(data: &[u8]) {
    any_iort::check(data);
}
