//! Collects the words of neighbouring lines until the block ends.

use crate::line::LogLine;
use crate::words::{Before, InputPlace, Word};

/// The words of one block of lines.
#[derive(Debug, Default)]
pub(crate) struct WordBlock {
    pub(crate) words: Vec<Word>,
    pub(crate) lines: Vec<LogLine>,
    /// Bytes that do not fill a word yet, lowest first, and the place of the first.
    bytes: Vec<u8>,
    bytes_at: Option<InputPlace>,
    /// Other text surrounds the block, so its words may be anything.
    pub(crate) of_a_log: bool,
    /// Groups of several bytes could be values, or bytes in the order of memory (`xxd -g4`).
    pub(crate) either_order: bool,
    /// The numbers of the block may be no words.
    pub(crate) perhaps: bool,
}

/// The block collects no more words: a longer one is no structure.
pub(crate) const MOST_WORDS: usize = 4096;

impl WordBlock {
    pub(crate) fn is_empty(&self) -> bool {
        self.words.is_empty() && self.bytes.is_empty() && self.lines.is_empty()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.words.len() >= MOST_WORDS || self.lines.len() >= MOST_WORDS
    }

    /// What the next line continues.
    pub(crate) fn before(&self) -> Before {
        match (self.bytes.is_empty(), self.words.is_empty()) {
            (false, _) => Before::Bytes,
            (true, false) => Before::Words,
            (true, true) => Before::Nothing,
        }
    }

    /// Adds bytes in the order of memory.
    pub(crate) fn push_bytes(&mut self, bytes: impl IntoIterator<Item = u8>, place: InputPlace) {
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

    /// Ends the block. A cut-off word keeps its bytes; the count of words then shows that some are
    /// missing.
    pub(crate) fn close(&mut self) {
        if let (false, Some(place)) = (self.bytes.is_empty(), self.bytes_at) {
            let missing = 8 - self.bytes.len() % 8;
            self.push_bytes(std::iter::repeat_n(0, missing), place);
        }
    }

    /// The words with the bytes of each swapped.
    pub(crate) fn swapped(&self) -> Vec<Word> {
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
