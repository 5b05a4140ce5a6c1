//! Lines that a mail program wrapped: the first part waits for the second.

use crate::line::LogLine;
use crate::text::time_of;

/// A line that may go on in the next one.
#[derive(Debug)]
pub(super) struct HeldLine {
    pub(super) line: LogLine,
    pub(super) text: String,
    /// The line as it is belongs to no log format.
    pub(super) unknown: bool,
}

/// Whether a line is about an SMMU.
pub(super) fn is_of_smmu(text: &str) -> bool {
    text.contains("smmu") || text.contains("SMMU")
}

/// Whether a line about an SMMU is cut in the middle, though a format may know its first part.
pub(super) fn is_cut(text: &str) -> bool {
    let count = |wanted: u8| text.bytes().filter(|byte| *byte == wanted).count();
    let open = |open: u8, close: u8| count(open) > count(close);
    // Linux prints two more values behind the place of a timeout.
    let place = text.trim_end().rsplit_once("timeout at 0x");
    let place = place.is_some_and(|(_, at)| at.bytes().all(|byte| byte.is_ascii_hexdigit()));
    text.ends_with('=')
        || place
        || open(b'[', b']')
        || open(b'(', b')')
        || short_word(text).is_some()
}

/// The number of digits of the word at the end, if they are fewer than Linux prints.
fn short_word(text: &str) -> Option<usize> {
    let (before, digits) = text.trim_end().rsplit_once("0x")?;
    let hex = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let alone = before.trim_end().ends_with(':');
    (hex && alone && digits.len() < 16).then_some(digits.len())
}

impl HeldLine {
    /// The line with the next one, if that can be its rest.
    pub(super) fn with(&self, next: &str) -> Option<String> {
        let rest = next.trim_start_matches(['>', ' ', '\t']);
        if rest.is_empty() || is_of_smmu(rest) || !time_of(rest).is_empty() {
            return None;
        }
        let held = self.text.trim_end();
        if let Some(held) = held.strip_suffix('=') {
            return Some(format!("{held}{rest}"));
        }
        match short_word(held) {
            Some(digits) => {
                let rest = rest.trim_end();
                let hex = rest.bytes().all(|byte| byte.is_ascii_hexdigit());
                (hex && digits + rest.len() == 16).then(|| format!("{held}{rest}"))
            }
            None => Some(format!("{held} {rest}")),
        }
    }
}
