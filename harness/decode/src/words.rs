//! Hexadecimal words, as people paste them.

use std::fmt;

/// Where something stands in the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The n-th argument, from 1, and the character in it, from 1.
    Argument {
        /// Which argument.
        number: usize,
        /// Which character.
        column: usize,
    },
    /// The n-th line, from 1, and the character in it, from 1.
    Line {
        /// Which line.
        number: usize,
        /// Which character.
        column: usize,
    },
}

impl Place {
    /// The same place some characters on.
    #[must_use]
    pub const fn shifted(self, by: usize) -> Place {
        match self {
            Place::Argument { number, column } => Place::Argument { number, column: column + by },
            Place::Line { number, column } => Place::Line { number, column: column + by },
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Argument { number, column } => write!(f, "argument {number}, column {column}"),
            Place::Line { number, column } => write!(f, "line {number}, column {column}"),
        }
    }
}

/// Why a text is not a word.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WordError {
    /// A character that no hexadecimal number has.
    #[error("{place}: \"{text}\" is not a hexadecimal word: '{found}' is not a digit")]
    NotHex {
        /// Where the character is.
        place: Place,
        /// The whole text.
        text: String,
        /// The character.
        found: char,
    },
    /// Nothing behind the prefix.
    #[error("{place}: \"{text}\" is not a hexadecimal word: it has no digits")]
    Empty {
        /// Where it is.
        place: Place,
        /// The whole text.
        text: String,
    },
    /// More than 64 bits.
    #[error("{place}: \"{text}\" has {digits} digits; a word has at most 16 (64 bits)")]
    TooLong {
        /// Where it is.
        place: Place,
        /// The whole text.
        text: String,
        /// How many digits it has.
        digits: usize,
    },
}

/// One word as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word {
    /// Its value.
    pub value: u64,
    /// How many digits were written, leading zeros included.
    pub digits: usize,
    /// Whether `0x` stood before them.
    pub prefixed: bool,
    /// Where it stands.
    pub place: Place,
}

impl Word {
    /// Read one token: hexadecimal digits with or without `0x`, with `_` or `'` between them, a suffix of C's
    /// (`ull`), and brackets or commas around.
    ///
    /// # Errors
    ///
    /// It is not a number, or has more than 64 bits.
    pub fn parse(token: &str, place: Place) -> Result<Word, WordError> {
        let text = || token.chars().take(40).collect::<String>();
        let bare = token.trim_start_matches(is_bracket);
        let before = token.chars().count() - bare.chars().count();
        let bare = bare.trim_end_matches(is_bracket).trim_end_matches(['u', 'U', 'l', 'L']);
        let digits = bare.strip_prefix("0x").or_else(|| bare.strip_prefix("0X"));
        let prefixed = digits.is_some();
        let before = before + if prefixed { 2 } else { 0 };
        let (mut value, mut count) = (0u64, 0usize);
        for (offset, found) in digits.unwrap_or(bare).chars().enumerate() {
            if found == '_' || found == '\'' {
                continue;
            }
            let Some(digit) = found.to_digit(16) else {
                return Err(WordError::NotHex {
                    place: place.shifted(before + offset),
                    text: text(),
                    found,
                });
            };
            value = value << 4 | u64::from(digit);
            count += 1;
        }
        match count {
            0 => Err(WordError::Empty { place, text: text() }),
            1..=16 => Ok(Word { value, digits: count, prefixed, place }),
            digits => Err(WordError::TooLong { place, text: text(), digits }),
        }
    }
}

fn is_bracket(c: char) -> bool {
    "<>[](){},;|\"`".contains(c)
}

/// What stands before a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Before {
    /// Nothing that it could go on with.
    Nothing,
    /// Words.
    Words,
    /// Bytes that make no whole word yet.
    Bytes,
}

/// What a line of an input is, as far as words go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Plain {
    /// Nothing, or a comment.
    Blank,
    /// `*`: repetitions that a dump left out.
    Star,
    /// Words.
    Words(Vec<Word>),
    /// Bytes, in the order of memory.
    Bytes(Vec<u8>),
    /// Words, if what stands around them is words as well: "10 8 0 200" could be anything.
    Perhaps(Vec<Word>),
    /// Words, but for one that is broken.
    Broken(WordError),
    /// Something else.
    Prose,
}

impl Plain {
    pub(super) fn of(line: &str, number: usize, before: Before) -> Plain {
        // What stands behind a `#` is a comment.
        let line = line.split('#').next().unwrap_or_default();
        let tokens: Vec<(usize, &str)> = tokens(line).collect();
        match tokens.as_slice() {
            [] => return Plain::Blank,
            [(_, "*")] => return Plain::Star,
            [(_, token)] if is_hexdump_of_bytes(token, before) => {
                return Plain::Bytes(bytes(token));
            }
            _ => {}
        }
        let word = |(column, token): &(usize, &str)| {
            Word::parse(token, Place::Line { number, column: column + 1 })
        };
        let parsed: Vec<Result<Word, WordError>> = tokens.iter().map(word).collect();
        let words: Vec<Word> = parsed.iter().filter_map(|word| word.clone().ok()).collect();
        let several = tokens.len() > 1;
        let sure = |word: &Word| word.prefixed || word.digits == 16 || several && word.digits >= 8;
        let mut broken = tokens.iter().zip(&parsed).filter_map(|(token, word)| match word {
            Err(error) => Some((token.1, error)),
            Ok(_) => None,
        });
        match (broken.next(), broken.next()) {
            (None, _) => {
                let enough = before == Before::Bytes || words.len() >= 8;
                if enough && words.iter().all(|word| word.prefixed && word.digits == 2) {
                    return Plain::Bytes(words.iter().map(|word| word.value as u8).collect());
                }
                let numbers =
                    tokens.iter().filter(|(_, token)| token.contains(|c: char| c.is_ascii_digit()));
                match (
                    before != Before::Nothing || words.iter().any(sure),
                    2 * numbers.count() >= tokens.len(),
                ) {
                    (true, _) => Plain::Words(words),
                    (_, true) => Plain::Perhaps(words),
                    _ => Plain::Prose,
                }
            }
            // One bad token among words that are clearly meant is a mistake; anything else is not about words.
            (Some((token, error)), None)
                if several && words.iter().all(sure) && is_nearly(token) =>
            {
                Plain::Broken(error.clone())
            }
            _ => Plain::Prose,
        }
    }
}

/// Whether a token was meant to be a word.
fn is_nearly(token: &str) -> bool {
    let prefixed = token.starts_with("0x") || token.starts_with("0X");
    let hex = token.chars().filter(char::is_ascii_hexdigit).count();
    prefixed || token.len() >= 8 && !token.ends_with(':') && 4 * hex >= 3 * token.len()
}

/// `xxd -p`: one long run of digits.
fn is_hexdump_of_bytes(token: &str, before: Before) -> bool {
    let hex = token.chars().all(|c| c.is_ascii_hexdigit());
    hex && (token.len() > 16 || before == Before::Bytes) && token.len().is_multiple_of(2)
}

fn bytes(digits: &str) -> Vec<u8> {
    let digit = |c: char| c.to_digit(16).unwrap_or(0) as u8;
    let digits: Vec<u8> = digits.chars().map(digit).collect();
    digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect()
}

/// The tokens of a line between blanks and commas, each with the character at which it begins, from 0.
pub fn tokens(line: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut rest = line;
    let mut column = 0;
    std::iter::from_fn(move || {
        let blank = |c: char| c.is_whitespace() || c == ',';
        let start = rest.find(|c: char| !blank(c))?;
        column += rest.get(..start)?.chars().count();
        rest = rest.get(start..)?;
        let end = rest.find(blank).unwrap_or(rest.len());
        let (token, behind) = rest.split_at_checked(end)?;
        rest = behind;
        let at = column;
        column += token.chars().count();
        Some((at, token))
    })
}

/// Width of the words that were written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Width {
    /// 32 bits; the low half of a 64-bit word comes first.
    Bits32,
    /// 64 bits.
    Bits64,
}

impl Width {
    /// The widths that words can have, the likelier one first.
    pub(super) fn possible(words: &[Word]) -> &'static [Width] {
        if words.iter().any(|word| word.digits > 8) {
            &[Width::Bits64]
        } else if words.iter().all(|word| word.digits == 8) {
            &[Width::Bits32, Width::Bits64]
        } else {
            &[Width::Bits64, Width::Bits32]
        }
    }

    /// The words as 64-bit words, or `None` when their number is odd, or one is too wide.
    pub(super) fn join(self, words: &[Word]) -> Option<Vec<u64>> {
        if self == Width::Bits32 && words.iter().any(|word| word.value > u64::from(u32::MAX)) {
            return None;
        }
        match self {
            Width::Bits64 => Some(words.iter().map(|word| word.value).collect()),
            Width::Bits32 => {
                let (pairs, rest) = words.as_chunks::<2>();
                let joined = pairs.iter().map(|[low, high]| low.value | high.value << 32).collect();
                rest.is_empty().then_some(joined)
            }
        }
    }

    /// How many of these words make one of 64 bits.
    pub(super) const fn tokens(self) -> usize {
        match self {
            Width::Bits32 => 2,
            Width::Bits64 => 1,
        }
    }

    /// Bits.
    #[must_use]
    pub const fn bits(self) -> u32 {
        match self {
            Width::Bits32 => 32,
            Width::Bits64 => 64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const HERE: Place = Place::Argument { number: 1, column: 1 };

    #[rstest]
    #[case("0x10", 0x10, 2, true)]
    #[case("10", 0x10, 2, false)]
    #[case("0X0000000800000010", 0x8_0000_0010, 16, true)]
    #[case("0x0000_0008_0000_0010,", 0x8_0000_0010, 16, true)]
    #[case("<0x40>;", 0x40, 2, true)]
    #[case("0xffULL", 0xff, 2, true)]
    #[case("ffffffffffffffff", u64::MAX, 16, false)]
    fn reads(
        #[case] token: &str,
        #[case] value: u64,
        #[case] digits: usize,
        #[case] prefixed: bool,
    ) {
        assert_eq!(Word::parse(token, HERE), Ok(Word { value, digits, prefixed, place: HERE }));
    }

    #[rstest]
    #[case(
        "0x12g4",
        "argument 1, column 5: \"0x12g4\" is not a hexadecimal word: 'g' is not a digit"
    )]
    #[case(
        "(0x12x",
        "argument 1, column 6: \"(0x12x\" is not a hexadecimal word: 'x' is not a digit"
    )]
    #[case(
        "event:",
        "argument 1, column 2: \"event:\" is not a hexadecimal word: 'v' is not a digit"
    )]
    #[case("0x", "argument 1, column 1: \"0x\" is not a hexadecimal word: it has no digits")]
    #[case(
        "0x00000000000000001",
        "argument 1, column 1: \"0x00000000000000001\" has 17 digits; a word has at most 16 (64 bits)"
    )]
    #[case("ü", "argument 1, column 1: \"ü\" is not a hexadecimal word: 'ü' is not a digit")]
    fn refuses(#[case] token: &str, #[case] message: &str) {
        assert_eq!(Word::parse(token, HERE).unwrap_err().to_string(), message);
    }

    fn kind_of(line: &str) -> &'static str {
        match Plain::of(line, 7, Before::Nothing) {
            Plain::Blank => "blank",
            Plain::Star => "star",
            Plain::Words(_) => "words",
            Plain::Bytes(_) => "bytes",
            Plain::Perhaps(_) => "perhaps",
            Plain::Broken(_) => "broken",
            Plain::Prose => "prose",
        }
    }

    #[rstest]
    #[case("", "blank")]
    #[case("  # 0x10", "blank")]
    #[case("*", "star")]
    #[case("a bad cafe added", "prose")]
    #[case("event 0x10 received:", "prose")]
    #[case("Code: aa1703e0 97fffd3e f9400e80 (d4210000)", "prose")]
    #[case("bd80:   00000000 c0a1b2c4", "prose")]
    #[case("random: 0x10 0x20", "prose")]
    #[case("deadbeef", "prose")]
    #[case("20240101", "perhaps")]
    #[case("10 8 0 200 10000 0 0 0", "perhaps")]
    #[case("\t0x0000000800000010", "words")]
    #[case("0x10, 0x20,0x30 0", "words")]
    #[case("0x10 0x20 # the event", "words")]
    #[case("00000010 00000008", "words")]
    #[case("1000000008000000000000000002000000000100000000000000000000000000", "bytes")]
    #[case("  0x10, 0x00, 0x00, 0x00, 0x08, 0x00, 0x00, 0x00, 0x00,", "bytes")]
    fn lines_of_words_are_told_from_prose(#[case] line: &str, #[case] kind: &str) {
        assert_eq!(kind_of(line), kind);
    }

    #[test]
    fn a_broken_word_among_words_is_told_with_its_place() {
        let line = "0x0000000800000010 0x000002000000000x 0x10";
        let Plain::Broken(error) = Plain::of(line, 7, Before::Nothing) else {
            panic!("{:?}", Plain::of(line, 7, Before::Nothing))
        };
        assert_eq!(
            error.to_string(),
            "line 7, column 37: \"0x000002000000000x\" is not a hexadecimal word: 'x' is not a digit"
        );
    }
}
