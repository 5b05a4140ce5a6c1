//! `/proc/iomem`: what the kernel says of physical addresses.

use crate::machine::Region;

/// A line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    pub(super) region: Region,
    /// Who has it. The kernel writes a device's name first, and may write more words.
    pub(super) owner: &'a str,
}

/// The lines of the file. What is no such line is left out.
pub(super) fn lines(text: &str) -> impl Iterator<Item = Line<'_>> {
    text.lines().filter_map(|line| {
        let (range, owner) = line.trim_start().split_once(" : ")?;
        let (first, last) = range.split_once('-')?;
        let number = |text| u64::from_str_radix(text, 16).ok();
        let (first, last) = (number(first)?, number(last)?);
        let bytes = last.checked_sub(first)?.checked_add(1)?;
        Some(Line { region: Region::new(first, bytes)?, owner })
    })
}

/// Whether the kernel shows its addresses: to a process without privilege it writes zeroes.
pub(super) fn shows_addresses(text: &str) -> bool {
    lines(text).any(|line| line.region.base > 0)
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::super::test_system::IOMEM;
    use super::*;

    #[test]
    fn nested_lines_and_odd_lines() {
        let lines: Vec<Line<'_>> = lines(IOMEM).collect();
        assert_eq!(lines.len(), 8);
        let region = Region { base: 0x900_0000, bytes: 0x1000 };
        assert_eq!(lines[2], Line { region, owner: "9000000.pl011 pl011@9000000" });
        for odd in ["", "x-y : z", "20-10 : backwards", "0-ffffffffffffffff : all", "10-20"] {
            assert_eq!(super::lines(odd).count(), 0, "{odd}");
        }
    }

    #[test]
    fn hidden_addresses_are_noticed() {
        assert!(shows_addresses(IOMEM));
        assert!(!shows_addresses("00000000-00000000 : System RAM\n  00000000-00000000 : x\n"));
        assert!(!shows_addresses(""));
    }
}
