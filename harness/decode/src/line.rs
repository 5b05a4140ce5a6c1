//! One line of an input, unchanged, and the text in it that the formats match.

use std::borrow::Cow;

use serde_json::Value;

use crate::text::pattern;

/// One line of an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// Its number, from 1; 0 for an argument.
    pub number: usize,
    /// Its bytes, with the end of the line if the input has one.
    pub raw: Vec<u8>,
}

// A tab and an escape as rsyslog, `cat -v` and `/dev/kmsg` write them.
const WRITTEN: [(&str, &str); 6] = [
    ("#011", "\t"),
    ("^I", "\t"),
    (r"\x09", "\t"),
    ("#033", "\x1b"),
    ("^[", "\x1b"),
    (r"\x1b", "\x1b"),
];

// Mail programs write these bytes as `=` and two digits.
pattern!(QUOTED, r"=20\s*$|=09|=3D");

impl LogLine {
    /// The text that the formats match: without its end, without colours, and with a tab for each
    /// way in which log programs write one. The message alone for a line of JSON.
    #[must_use]
    pub fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.raw);
        let mut text = Cow::from(text.trim_end_matches(['\r', '\n']));
        if let Some(message) = message(&text) {
            text = message.into();
        }
        for (written, meant) in WRITTEN {
            if text.contains(written) {
                text = text.replace(written, meant).into();
            }
        }
        if text.contains("=09") || text.contains("=20") || text.contains("=3D") {
            text = unquoted(&text).into();
        }
        if text.contains('[') {
            text = without_colours(&text).into();
        }
        text.into_owned()
    }
}

/// The message of a line of JSON, as journald, containers and log collectors write them, behind
/// its time if it has one.
fn message(line: &str) -> Option<String> {
    let line = line.trim_start();
    if !line.starts_with('{') {
        return None;
    }
    let object: Value = serde_json::from_str(line).ok()?;
    let found = ["MESSAGE", "message", "msg", "log"].into_iter().find_map(|key| object.get(key))?;
    let message = match found {
        Value::String(text) => text.clone(),
        // journald writes a message with control characters as a list of bytes.
        Value::Array(bytes) => {
            let bytes: Option<Vec<u8>> =
                bytes.iter().map(|byte| byte.as_u64()?.try_into().ok()).collect();
            String::from_utf8_lossy(&bytes?).into_owned()
        }
        _ => return None,
    };
    let message = message.trim_end_matches(['\r', '\n']);
    let time = object.get("__MONOTONIC_TIMESTAMP").and_then(Value::as_str);
    let time = time.and_then(|time| time.parse::<u64>().ok());
    Some(match time {
        Some(time) => format!("[{}.{:06}] {message}", time / 1_000_000, time % 1_000_000),
        None => message.to_owned(),
    })
}

fn unquoted(text: &str) -> String {
    let byte = |captures: &regex::Captures<'_>| match captures.get(0).map_or("", |m| m.as_str()) {
        "=09" => "\t",
        "=3D" => "=",
        _ => "",
    };
    QUOTED.replace_all(text, byte).into_owned()
}

/// The text without colours, also if their escape character is lost: `[32m`.
fn without_colours(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('[') {
        let (before, behind) = rest.split_at(at);
        let code = behind.get(1..).unwrap_or_default();
        let end = code.find(|c: char| !c.is_ascii_digit() && c != ';').unwrap_or(code.len());
        let escaped = before.ends_with('\x1b');
        let tail = code.get(end..).unwrap_or_default();
        // Without the escape, `[m` alone may be text.
        match tail.strip_prefix('m').filter(|_| escaped || end > 0) {
            Some(tail) => {
                out.push_str(before.strip_suffix('\x1b').unwrap_or(before));
                rest = tail;
            }
            None => {
                out.push_str(before);
                out.push('[');
                rest = code;
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::rsyslog("host kernel: a:#011 0x10", "host kernel: a:\t 0x10")]
    #[case::cat("a:^I0x10", "a:\t0x10")]
    #[case::kmsg(r"a:\x090x10", "a:\t0x10")]
    #[case::colour("\x1b[32m[   55.1] \x1b[0marm", "[   55.1] arm")]
    #[case::escape_of_rsyslog("#033[32m[   55.1] #033[0marm", "[   55.1] arm")]
    #[case::lost_escape("[32m[   55.1] [0marm", "[   55.1] arm")]
    #[case::not_a_colour("[   55.1] x[m] [12] [0x10m", "[   55.1] x[m] [12] [0x10m")]
    #[case::json(
        r#"{"PRIORITY":"3","MESSAGE":"a: \t0x0000440000000002"}"#,
        "a: \t0x0000440000000002"
    )]
    #[case::json_bytes(r#"{"MESSAGE":[97,58,9,48]}"#, "a:\t0")]
    #[case::json_time(r#"{"__MONOTONIC_TIMESTAMP":"55123456","MESSAGE":"a"}"#, "[55.123456] a")]
    #[case::no_json("{ 0x10, 0x20 }", "{ 0x10, 0x20 }")]
    #[case::quoted("a:=090x10=20", "a:\t0x10")]
    #[case::not_quoted("iova=2000 GERROR=0x1", "iova=2000 GERROR=0x1")]
    fn the_text_is_what_was_meant(#[case] raw: &str, #[case] text: &str) {
        let line = LogLine { number: 1, raw: format!("{raw}\n").into_bytes() };
        assert_eq!(line.text(), text);
    }
}
