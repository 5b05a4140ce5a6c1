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
        let at = |offset: usize| match place {
            Place::Argument { number, column } => {
                Place::Argument { number, column: column + offset }
            }
            Place::Line { number, column } => Place::Line { number, column: column + offset },
        };
        let bare = token.trim_matches(|c: char| "<>[](){},;|\"`".contains(c));
        let bare = bare.trim_end_matches(['u', 'U', 'l', 'L']);
        let digits = bare.strip_prefix("0x").or_else(|| bare.strip_prefix("0X")).unwrap_or(bare);
        let (mut value, mut count) = (0u64, 0usize);
        for found in digits.chars().filter(|c| *c != '_' && *c != '\'') {
            let Some(digit) = found.to_digit(16) else {
                let offset = token.chars().position(|c| c == found).unwrap_or(0);
                return Err(WordError::NotHex { place: at(offset), text: text(), found });
            };
            value = value << 4 | u64::from(digit);
            count += 1;
        }
        match count {
            0 => Err(WordError::Empty { place, text: text() }),
            1..=16 => Ok(Word { value, digits: count, place }),
            digits => Err(WordError::TooLong { place, text: text(), digits }),
        }
    }

    /// Whether a token in running text is meant to be a word: `0x...`, or eight digits and more.
    pub(super) fn is_meant(token: &str) -> bool {
        let bare = token.trim_matches(|c: char| "<>[](){},;|\"`".contains(c));
        let prefixed = bare.starts_with("0x") || bare.starts_with("0X");
        let long = bare.len() >= 8 && bare.chars().all(|c| c.is_ascii_hexdigit() || c == '_');
        prefixed || long
    }
}

/// The words of a line that is all words, or `None` when it is something else.
///
/// # Errors
///
/// It is meant to be words, but one of them is broken.
pub(super) fn of_line(line: &str, number: usize) -> Option<Result<Vec<Word>, WordError>> {
    let tokens: Vec<(usize, &str)> = tokens(line).collect();
    let meant = tokens.iter().filter(|(_, token)| Word::is_meant(token)).count();
    let place = |column: usize| Place::Line { number, column: column + 1 };
    let words: Vec<_> =
        tokens.iter().map(|(column, token)| Word::parse(token, place(*column))).collect();
    let broken = words.iter().filter(|word| word.is_err()).count();
    // Prose is not a mistake; one bad token among words that are clearly meant is.
    if meant == 0 || broken > 1 || broken == 1 && meant < 2 {
        return None;
    }
    Some(words.into_iter().collect())
}

/// The tokens of a line between blanks and commas, each with the character at which it begins, from 0.
pub(crate) fn tokens(line: &str) -> impl Iterator<Item = (usize, &str)> {
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

    /// The words as 64-bit words, or `None` when their number is odd.
    pub(super) fn join(self, words: &[Word]) -> Option<Vec<u64>> {
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
    #[case("0x10", 0x10, 2)]
    #[case("10", 0x10, 2)]
    #[case("0X0000000800000010", 0x8_0000_0010, 16)]
    #[case("0x0000_0008_0000_0010,", 0x8_0000_0010, 16)]
    #[case("<0x40>;", 0x40, 2)]
    #[case("0xffULL", 0xff, 2)]
    #[case("ffffffffffffffff", u64::MAX, 16)]
    fn reads(#[case] token: &str, #[case] value: u64, #[case] digits: usize) {
        assert_eq!(Word::parse(token, HERE), Ok(Word { value, digits, place: HERE }));
    }

    #[rstest]
    #[case(
        "0x12g4",
        "argument 1, column 5: \"0x12g4\" is not a hexadecimal word: 'g' is not a digit"
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

    #[test]
    fn lines_of_words_are_told_from_prose() {
        assert!(of_line("", 1).is_none());
        assert!(of_line("a bad cafe added", 1).is_none());
        assert!(of_line("event 0x10 received:", 1).is_none());
        assert_eq!(of_line("\t0x0000000800000010", 1).unwrap().unwrap().len(), 1);
        assert_eq!(of_line("0x10, 0x20,0x30 0", 1).unwrap().unwrap().len(), 4);
        let broken = of_line("0x0000000800000010 0x000002000000000x 0x10", 7).unwrap();
        assert_eq!(
            broken.unwrap_err().to_string(),
            "line 7, column 21: \"0x000002000000000x\" is not a hexadecimal word: 'x' is not a digit"
        );
    }
}
