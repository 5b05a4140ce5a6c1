//! Lines as they came, and blocks of them.

use std::borrow::Cow;

use super::super::words::{Before, Place, Word};
use super::pattern;

/// One line of an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Its number, from 1; 0 for an argument.
    pub number: usize,
    /// Its bytes, with the end of the line if it had one.
    pub raw: Vec<u8>,
}

pattern!(COLOUR, r"\x1b\[[0-9;]*m");

impl Line {
    /// What is looked at: text without its end, without colours, and with tabs where `/dev/kmsg` writes `\x09`.
    #[must_use]
    pub fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.raw);
        let text = text.trim_end_matches(['\r', '\n']);
        let text =
            if text.contains('\x1b') { COLOUR.replace_all(text, "") } else { Cow::from(text) };
        if text.contains(r"\x09") { text.replace(r"\x09", "\t") } else { text.into_owned() }
    }
}

/// Words that stand together.
#[derive(Debug, Default)]
pub(super) struct Block {
    pub(super) words: Vec<Word>,
    pub(super) lines: Vec<Line>,
    /// Bytes that do not make a word yet, lowest first, and where they begin.
    bytes: Vec<u8>,
    bytes_at: Option<Place>,
    /// There is other text around, so that it may be anything.
    pub(super) of_a_log: bool,
    /// Groups of several bytes could be values, or bytes in the order of memory (`xxd -g4`).
    pub(super) either_order: bool,
    /// It may be no words at all.
    pub(super) perhaps: bool,
}

/// More words than that are no structures, and are not collected.
pub(super) const MOST_WORDS: usize = 4096;

impl Block {
    pub(super) fn is_empty(&self) -> bool {
        self.words.is_empty() && self.bytes.is_empty() && self.lines.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.words.len() >= MOST_WORDS || self.lines.len() >= MOST_WORDS
    }

    /// What the next line goes on with.
    pub(super) fn before(&self) -> Before {
        match (self.bytes.is_empty(), self.words.is_empty()) {
            (false, _) => Before::Bytes,
            (true, false) => Before::Words,
            (true, true) => Before::Nothing,
        }
    }

    /// Bytes in the order of memory.
    pub(super) fn push_bytes(&mut self, bytes: impl IntoIterator<Item = u8>, place: Place) {
        self.bytes_at.get_or_insert(place);
        self.bytes.extend(bytes);
        while let Some((word, rest)) = self.bytes.split_first_chunk::<8>() {
            let value = u64::from_le_bytes(*word);
            let rest = rest.to_vec();
            let at = self.bytes_at.take().unwrap_or(place);
            self.words.push(Word { value, digits: 16, prefixed: false, place: at });
            self.bytes_at = Some(place);
            self.bytes = rest;
        }
    }

    /// A word that is cut off keeps its bytes; the count of words then says that something is missing.
    pub(super) fn close(&mut self) {
        if let (false, Some(place)) = (self.bytes.is_empty(), self.bytes_at) {
            let missing = 8 - self.bytes.len() % 8;
            self.push_bytes(std::iter::repeat_n(0, missing), place);
        }
    }

    /// The words with the bytes of each swapped.
    pub(super) fn swapped(&self) -> Vec<Word> {
        let swap = |word: &Word| {
            let value = match word.digits {
                8 => u64::from((word.value as u32).swap_bytes()),
                _ => word.value.swap_bytes(),
            };
            Word { value, ..*word }
        };
        self.words.iter().map(swap).collect()
    }
}
