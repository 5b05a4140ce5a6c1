//! Text within a page.

use std::fmt::{self, Write};

/// A text in which no character has a meaning for HTML, in an element or in a quoted attribute.
/// What a reader would not see, or would see in another order, is replaced by a visible sign.
pub(in crate::view) struct Text<'t>(pub(in crate::view) &'t str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some(at) = rest.find(is_special) {
            let (before, after) = rest.split_at(at);
            f.write_str(before)?;
            let mut letters = after.chars();
            match letters.next() {
                Some('&') => f.write_str("&amp;")?,
                Some('<') => f.write_str("&lt;")?,
                Some('>') => f.write_str("&gt;")?,
                Some('"') => f.write_str("&quot;")?,
                Some('\'') => f.write_str("&#39;")?,
                Some(unseen) => f.write_char(sign(unseen))?,
                None => {}
            }
            rest = letters.as_str();
        }
        f.write_str(rest)
    }
}

fn is_special(letter: char) -> bool {
    matches!(letter, '&' | '<' | '>' | '"' | '\'') || is_unseen(letter)
}

/// Control characters, and those that turn the direction of the text behind them.
fn is_unseen(letter: char) -> bool {
    let turns = matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    turns || letter.is_control() && !matches!(letter, '\n' | '\t')
}

/// The picture of a control character; a replacement for others.
fn sign(unseen: char) -> char {
    match unseen {
        '\0'..='\x1f' => {
            char::from_u32(0x2400 + u32::from(unseen)).unwrap_or(char::REPLACEMENT_CHARACTER)
        }
        '\x7f' => '\u{2421}',
        _ => char::REPLACEMENT_CHARACTER,
    }
}

/// The name of an anchor: letters, digits, `_` and dashes of a text.
pub(in crate::view) fn anchor(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' }).collect()
}

/// JSON for a `<script>` element, which ends at the first `</`.
pub(super) fn script_json(value: &serde_json::Value) -> String {
    let json = value.to_string().replace('<', "\\u003c");
    json.chars().map(|letter| if is_unseen(letter) { sign(letter) } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_character_keeps_a_meaning() {
        let text = "<a href=\"x\" title='y'>&amp;</a>";
        let want = "&lt;a href=&quot;x&quot; title=&#39;y&#39;&gt;&amp;amp;&lt;/a&gt;";
        assert_eq!(Text(text).to_string(), want);
        assert_eq!(Text("plain").to_string(), "plain");
        assert_eq!(
            Text("a\0b\x1b[31m\u{202e}c\x7f\n").to_string(),
            "a\u{2400}b\u{241b}[31m\u{fffd}c\u{2421}\n"
        );
        assert_eq!(anchor("a b/<c>"), "a-b--c-");
        let json = script_json(&serde_json::json!("</script><!--"));
        assert!(!json.contains('<'), "{json}");
        let json = script_json(&serde_json::json!("a\u{202e}b"));
        assert_eq!(json, "\"a\u{fffd}b\"");
    }
}
