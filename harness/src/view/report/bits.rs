//! Two versions of a table entry: which bits changed, and what fields they belong to.

use std::fmt::{self, Write};

use smmu_engine::record::Hex;
use smmu_types::fields::{cd, ste};
use smmu_types::layout::FieldValue;

use crate::view::page::Text;

/// Writes the changed words of an entry as bits, with the changed ones marked, and the fields that
/// have changed.
pub(super) fn entry(out: &mut String, name: &str, before: &[Hex], after: &[Hex]) -> fmt::Result {
    write!(out, "<div class=bits>")?;
    for (n, (was, is)) in before.iter().zip(after).enumerate() {
        if was == is {
            continue;
        }
        let (hi, lo) = (n * 64 + 63, n * 64);
        write!(out, "<div><b>{hi}:{lo}</b><code>{}</code>", Bits(was.0, was.0 ^ is.0))?;
        write!(out, "<code>{}</code></div>", Bits(is.0, was.0 ^ is.0))?;
    }
    write!(out, "</div>")?;
    let words = |words: &[Hex]| words.iter().map(|word| word.0).collect::<Vec<u64>>();
    let (before, after) = (words(before), words(after));
    let layout = if name == "STE" { &ste::LAYOUT } else { &cd::LAYOUT };
    let pairs = layout.split(&before).zip(layout.split(&after));
    let changed: Vec<_> = pairs.filter(|(was, is)| was.value != is.value).collect();
    if changed.is_empty() {
        return Ok(());
    }
    write!(out, "<table class=fields><tr><th>field<th>before<th>after<th>")?;
    for (was, is) in changed {
        let name = is.field.name();
        let (was, now) = (Shown(&was), Shown(&is));
        write!(out, "<tr><th scope=row>{name}<td>{was}<td><mark>{now}</mark>")?;
        let meaning = is.meaning().map_or(String::new(), |meaning| meaning.to_string());
        write!(out, "<td>{}", Text(&meaning))?;
    }
    write!(out, "</table>")
}

struct Shown<'v>(&'v FieldValue);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Text(&self.0.to_string()))
    }
}

/// The bits of a word in bytes, the highest first; those of the second number are marked.
struct Bits(u64, u64);

impl fmt::Display for Bits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Bits(word, changed) = *self;
        let mut marked = false;
        for bit in (0..64).rev() {
            let wanted = changed >> bit & 1 == 1;
            if wanted != marked {
                f.write_str(if wanted { "<mark>" } else { "</mark>" })?;
                marked = wanted;
            }
            f.write_char(if word >> bit & 1 == 1 { '1' } else { '0' })?;
            if bit % 8 == 0 && bit > 0 {
                f.write_char(' ')?;
            }
        }
        if marked { f.write_str("</mark>") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_the_changed_bits_are_marked() {
        let shown = Bits(0b101, 0b110).to_string();
        assert!(shown.ends_with("00000<mark>10</mark>1"), "{shown}");
        assert_eq!(shown.matches("<mark>").count(), 1);
        let shown = Bits(0, 1 << 63).to_string();
        assert!(shown.starts_with("<mark>0</mark>0000000 "), "{shown}");
        let digits: String = shown.chars().filter(|c| *c == '0' || *c == '1').collect();
        assert_eq!(digits.len(), 64);
    }

    #[test]
    fn changed_fields_have_their_names() {
        let (before, mut after) = (vec![Hex(0); 8], vec![Hex(0); 8]);
        after[0] = Hex(0b1011);
        let mut out = String::new();
        entry(&mut out, "STE", &before, &after).unwrap();
        for name in ["V", "Config"] {
            assert!(out.contains(&format!("<th scope=row>{name}<td>")), "{name}: {out}");
        }
        assert!(out.contains("<b>63:0</b>") && !out.contains("<b>127:64</b>"));
    }
}
