//! One line of an input, unchanged.

use std::borrow::Cow;

use crate::text::pattern;

/// One line of an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// Its number, from 1; 0 for an argument.
    pub number: usize,
    /// Its bytes, with the end of the line if the input has one.
    pub raw: Vec<u8>,
}

pattern!(COLOUR, r"\x1b\[[0-9;]*m");

impl LogLine {
    /// The text that the formats match: without its end, without colours, and with a tab for each
    /// `\x09`, as `/dev/kmsg` writes it.
    #[must_use]
    pub fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.raw);
        let text = text.trim_end_matches(['\r', '\n']);
        let text =
            if text.contains('\x1b') { COLOUR.replace_all(text, "") } else { Cow::from(text) };
        if text.contains(r"\x09") { text.replace(r"\x09", "\t") } else { text.into_owned() }
    }
}
