//! Text within a page.

use std::fmt;

/// A text in which no character has a meaning for HTML, in an element or in a quoted attribute.
pub(super) struct Text<'t>(pub(super) &'t str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some(at) = rest.find(['&', '<', '>', '"', '\'']) {
            let (before, after) = rest.split_at(at);
            f.write_str(before)?;
            let mut letters = after.chars();
            f.write_str(match letters.next() {
                Some('&') => "&amp;",
                Some('<') => "&lt;",
                Some('>') => "&gt;",
                Some('"') => "&quot;",
                _ => "&#39;",
            })?;
            rest = letters.as_str();
        }
        f.write_str(rest)
    }
}

/// The name of an anchor: letters, digits and dashes of a text.
pub(super) fn anchor(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect()
}

/// JSON for a `<script>` element, which ends at the first `</`.
pub(super) fn script_json(value: &serde_json::Value) -> String {
    value.to_string().replace('<', "\\u003c")
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
        assert_eq!(anchor("a b/<c>"), "a-b--c-");
        let json = script_json(&serde_json::json!("</script><!--"));
        assert!(!json.contains('<'), "{json}");
    }
}
