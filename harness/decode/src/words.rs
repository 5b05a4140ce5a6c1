//! Parses hexadecimal words in the notations of logs, dumps and source code.

use std::fmt;

/// A place in the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputPlace {
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

impl InputPlace {
    /// The place some characters further.
    #[must_use]
    pub const fn shifted(self, by: usize) -> InputPlace {
        match self {
            InputPlace::Argument { number, column } => {
                InputPlace::Argument { number, column: column + by }
            }
            InputPlace::Line { number, column } => InputPlace::Line { number, column: column + by },
        }
    }
}

impl fmt::Display for InputPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InputPlace::Argument { number, column } => {
                write!(f, "argument {number}, column {column}")
            }
            InputPlace::Line { number, column } => write!(f, "line {number}, column {column}"),
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
        place: InputPlace,
        /// The whole text.
        text: String,
        /// The character.
        found: char,
    },
    /// No digit follows the prefix.
    #[error("{place}: \"{text}\" is not a hexadecimal word: it has no digits")]
    Empty {
        /// Where it is.
        place: InputPlace,
        /// The whole text.
        text: String,
    },
    /// The prefix of a binary number.
    #[error(
        "{place}: \"{text}\" looks like a binary number; words are hexadecimal: give it as {value:#x}, or as 0x{text} if these are its digits"
    )]
    Binary {
        /// Where it is.
        place: InputPlace,
        /// The text without brackets and suffixes.
        text: String,
        /// The value of the binary number.
        value: u64,
    },
    /// A name that is no kind and no register.
    #[error(
        "{place}: \"{text}\" is neither a kind, a register nor a word; did you mean \"{near}\"?"
    )]
    Misspelt {
        /// Where it is.
        place: InputPlace,
        /// The name.
        text: String,
        /// The known name nearest to it.
        near: &'static str,
    },
    /// More than 64 bits.
    #[error("{place}: \"{text}\" has {digits} digits; a word has at most 16 (64 bits)")]
    TooLong {
        /// Where it is.
        place: InputPlace,
        /// The whole text.
        text: String,
        /// How many digits it has.
        digits: usize,
    },
}

/// One word, and how the input writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word {
    /// Its value.
    pub value: u64,
    /// The number of its digits, leading zeros included.
    pub digits: usize,
    /// Whether `0x` precedes them.
    pub prefixed: bool,
    /// Its place.
    pub place: InputPlace,
}

impl Word {
    /// Parses one token: hexadecimal digits with or without `0x`, with `_` or `'` between them,
    /// with a C suffix (`ull`), in brackets or commas.
    ///
    /// `0b1000` is refused, because its writer means 8 and not 0xb1000. A line of a dump may have a
    /// word of 8 or 16 digits that begins with `0b`; that one is hexadecimal.
    ///
    /// # Errors
    ///
    /// It is not a number, is binary, or has more than 64 bits.
    pub fn parse(token: &str, place: InputPlace) -> Result<Word, WordError> {
        let text = || token.chars().take(40).collect::<String>();
        let bare = token.trim_start_matches(is_bracket);
        let before = token.chars().count() - bare.chars().count();
        let bare = bare.trim_end_matches(is_bracket).trim_end_matches(['u', 'U', 'l', 'L']);
        let digits = bare.strip_prefix("0x").or_else(|| bare.strip_prefix("0X"));
        let prefixed = digits.is_some();
        if let Some(value) = binary(bare)
            && !(matches!(place, InputPlace::Line { .. }) && matches!(bare.len(), 8 | 16))
        {
            return Err(WordError::Binary { place, text: bare.chars().take(80).collect(), value });
        }
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

/// The value of `0b` and up to 64 binary digits.
pub(crate) fn binary(text: &str) -> Option<u64> {
    let digits = text.strip_prefix("0b").or_else(|| text.strip_prefix("0B"))?;
    let digits = digits.replace(['_', '\''], "");
    // The radix alone would also take a sign.
    let all = digits.bytes().all(|digit| matches!(digit, b'0' | b'1'));
    all.then(|| u64::from_str_radix(&digits, 2).ok()).flatten()
}

/// What stands around words.
const BRACKETS: &str = "<>[](){},;|\"`";

fn is_bracket(c: char) -> bool {
    BRACKETS.contains(c)
}

/// What a byte of ASCII can be a part of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ByteClass {
    /// Words, with what [`Word::parse`] takes off them.
    Word,
    /// Names, or what stands between a name and its value.
    Name,
    /// What lies between tokens.
    Blank,
    /// The beginning of a comment.
    Hash,
    /// Other text.
    Other,
}

static BYTES: [ByteClass; 128] = {
    let mut classes = [ByteClass::Other; 128];
    let mut brackets = BRACKETS.as_bytes();
    while let [bracket, rest @ ..] = brackets {
        classes[*bracket as usize] = ByteClass::Word;
        brackets = rest;
    }
    let mut byte = 0;
    while byte < 128 {
        classes[byte as usize] = match byte {
            b'\t'..=b'\r' | b' ' | b',' => ByteClass::Blank,
            b'#' => ByteClass::Hash,
            b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F' => ByteClass::Word,
            b'_' | b'\'' | b'x' | b'X' | b'u' | b'U' | b'l' | b'L' => ByteClass::Word,
            b'a'..=b'z' | b'A'..=b'Z' | b'=' => ByteClass::Name,
            _ => classes[byte as usize],
        };
        byte += 1;
    }
    classes
};

/// What the characters of a line exclude. Most lines of a log are told apart by them alone, which is
/// much faster than to parse their tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LineShape {
    /// A token is neither a word, nor a name, nor a name with a value.
    pub(crate) has_other: bool,
    /// Two tokens or more are no words.
    pub(crate) is_prose: bool,
}

impl LineShape {
    /// Looks at the text before a `#`. Text beyond ASCII is left to the parsers.
    pub(crate) fn of(line: &str) -> LineShape {
        let mut shape = LineShape { has_other: false, is_prose: false };
        let (mut foreign, mut counted) = (0, false);
        for byte in line.bytes() {
            match BYTES.get(usize::from(byte)) {
                Some(ByteClass::Word) => {}
                Some(ByteClass::Blank) => counted = false,
                Some(ByteClass::Hash) => break,
                Some(class @ (ByteClass::Name | ByteClass::Other)) => {
                    shape.has_other |= *class == ByteClass::Other;
                    foreign += usize::from(!counted);
                    counted = true;
                }
                None => {}
            }
        }
        // The parsers split at blanks beyond ASCII too.
        shape.is_prose = foreign > 1 && line.is_ascii();
        shape
    }
}

/// What the lines before this one left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Before {
    /// Nothing to continue.
    Nothing,
    /// Words.
    Words,
    /// Bytes that make no whole word yet.
    Bytes,
}

/// A line of an input, by the words in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PlainLine {
    /// Nothing, or a comment.
    Blank,
    /// `*`: repetitions that a dump left out.
    Star,
    /// Words.
    Words(Vec<Word>),
    /// Bytes, in the order of memory.
    Bytes(Vec<u8>),
    /// Words, if the lines around it are words too: "10 8 0 200" could be anything.
    Perhaps(Vec<Word>),
    /// Words, of which one is broken.
    Broken(WordError),
    /// Something else.
    Prose,
}

impl PlainLine {
    pub(crate) fn of(line: &str, number: usize, before: Before) -> PlainLine {
        // The text after a `#` is a comment.
        let line = line.split('#').next().unwrap_or_default();
        let mended = mended(line);
        let tokens: Vec<(usize, &str)> = tokens(mended.as_deref().unwrap_or(line)).collect();
        match tokens.as_slice() {
            [] => return PlainLine::Blank,
            [(_, "*")] => return PlainLine::Star,
            [(_, token)] if is_hexdump_of_bytes(token, before) => {
                return PlainLine::Bytes(bytes(token));
            }
            _ => {}
        }
        let word = |(column, token): &(usize, &str)| {
            Word::parse(token, InputPlace::Line { number, column: column + 1 })
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
                    return PlainLine::Bytes(words.iter().map(|word| word.value as u8).collect());
                }
                let numbers =
                    tokens.iter().filter(|(_, token)| token.contains(|c: char| c.is_ascii_digit()));
                match (
                    before != Before::Nothing || words.iter().any(sure),
                    2 * numbers.count() >= tokens.len(),
                ) {
                    (true, _) => PlainLine::Words(words),
                    (_, true) => PlainLine::Perhaps(words),
                    _ => PlainLine::Prose,
                }
            }
            // One bad token among clear words is a mistake. Any other line has no words.
            (Some((token, error)), None)
                if several && words.iter().all(sure) && is_nearly(token) =>
            {
                PlainLine::Broken(error.clone())
            }
            _ => PlainLine::Prose,
        }
    }
}

/// The line without blanks in the middle of its words: `0x00004402 00000010 0x0000020000000000`.
/// Another word must show that the words have 16 digits.
fn mended(line: &str) -> Option<String> {
    let prefixed = |token: &str| token.strip_prefix("0x").map(str::len);
    let words: Vec<&str> = line.split([' ', '\t']).filter(|token| !token.is_empty()).collect();
    let whole = words.iter().any(|token| prefixed(token) == Some(16));
    let mut joined: Vec<String> = Vec::new();
    for token in &words {
        let torn = joined.last().and_then(|last| prefixed(last)).filter(|digits| *digits < 16);
        let hex = token.bytes().all(|byte| byte.is_ascii_hexdigit());
        match (joined.last_mut(), torn) {
            (Some(last), Some(digits)) if hex && digits + token.len() == 16 => last.push_str(token),
            _ => joined.push((*token).to_owned()),
        }
    }
    (whole && joined.len() < words.len()).then(|| joined.join(" "))
}

/// Whether a token looks like a word, perhaps with a mistake.
fn is_nearly(token: &str) -> bool {
    let prefixed = token.starts_with("0x") || token.starts_with("0X");
    let hex = token.chars().filter(char::is_ascii_hexdigit).count();
    prefixed
        || binary(token).is_some()
        || token.len() >= 8 && !token.ends_with(':') && 4 * hex >= 3 * token.len()
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

/// The tokens of a line between blanks and commas, each with the index of its first character.
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

/// The width of the words in the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WordWidth {
    /// 32 bits; the low half of a 64-bit word comes first.
    Bits32,
    /// 64 bits.
    Bits64,
}

impl WordWidth {
    /// The possible widths of words, the likelier first.
    pub(crate) fn possible(words: &[Word]) -> &'static [WordWidth] {
        if words.iter().any(|word| word.digits > 8) {
            &[WordWidth::Bits64]
        } else if words.iter().all(|word| word.digits == 8) {
            &[WordWidth::Bits32, WordWidth::Bits64]
        } else {
            &[WordWidth::Bits64, WordWidth::Bits32]
        }
    }

    /// Joins the words to words of 64 bits; `None` if their number is odd, or one is too wide.
    pub(crate) fn join(self, words: &[Word]) -> Option<Vec<u64>> {
        if self == WordWidth::Bits32 && words.iter().any(|word| word.value > u64::from(u32::MAX)) {
            return None;
        }
        match self {
            WordWidth::Bits64 => Some(words.iter().map(|word| word.value).collect()),
            WordWidth::Bits32 => {
                let (pairs, rest) = words.as_chunks::<2>();
                let joined = pairs.iter().map(|[low, high]| low.value | high.value << 32).collect();
                rest.is_empty().then_some(joined)
            }
        }
    }

    /// How many of these words make one of 64 bits.
    pub(crate) const fn tokens(self) -> usize {
        match self {
            WordWidth::Bits32 => 2,
            WordWidth::Bits64 => 1,
        }
    }

    /// Bits.
    #[must_use]
    pub const fn bits(self) -> u32 {
        match self {
            WordWidth::Bits32 => 32,
            WordWidth::Bits64 => 64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::structures::segments;
    use proptest::prelude::*;
    use rstest::rstest;

    const HERE: InputPlace = InputPlace::Argument { number: 1, column: 1 };

    #[rstest]
    #[case("0x10", 0x10, 2, true)]
    #[case("10", 0x10, 2, false)]
    #[case("0X0000000800000010", 0x8_0000_0010, 16, true)]
    #[case("0x0000_0008_0000_0010,", 0x8_0000_0010, 16, true)]
    #[case("<0x40>;", 0x40, 2, true)]
    #[case("0xffULL", 0xff, 2, true)]
    #[case("ffffffffffffffff", u64::MAX, 16, false)]
    #[case("0x0b1000", 0xb_1000, 6, true)]
    #[case("0b", 0xb, 2, false)]
    #[case("0b1200", 0xb_1200, 6, false)]
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
    #[case(
        "0b1000",
        "argument 1, column 1: \"0b1000\" looks like a binary number; words are hexadecimal: give it as 0x8, or as 0x0b1000 if these are its digits"
    )]
    #[case(
        "<0B10_01u>,",
        "argument 1, column 1: \"0B10_01\" looks like a binary number; words are hexadecimal: give it as 0x9, or as 0x0B10_01 if these are its digits"
    )]
    #[case(
        "0b000010",
        "argument 1, column 1: \"0b000010\" looks like a binary number; words are hexadecimal: give it as 0x2, or as 0x0b000010 if these are its digits"
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
        match PlainLine::of(line, 7, Before::Nothing) {
            PlainLine::Blank => "blank",
            PlainLine::Star => "star",
            PlainLine::Words(_) => "words",
            PlainLine::Bytes(_) => "bytes",
            PlainLine::Perhaps(_) => "perhaps",
            PlainLine::Broken(_) => "broken",
            PlainLine::Prose => "prose",
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
    #[case("0x00004402 00000010 0x0000020000000000 0x00000000fe001000 0x0", "words")]
    #[case("0x10, 0x20,0x30 0", "words")]
    #[case("0x10 0x20 # the event", "words")]
    #[case("00000010 00000008", "words")]
    #[case("0b000010 00000008", "words")]
    #[case("0x10 0b1000 0x30", "broken")]
    #[case("1000000008000000000000000002000000000100000000000000000000000000", "bytes")]
    #[case("  0x10, 0x00, 0x00, 0x00, 0x08, 0x00, 0x00, 0x00, 0x00,", "bytes")]
    fn lines_of_words_are_told_from_prose(#[case] line: &str, #[case] kind: &str) {
        assert_eq!(kind_of(line), kind);
    }

    #[test]
    fn a_broken_word_among_words_is_told_with_its_place() {
        let line = "0x0000000800000010 0x000002000000000x 0x10";
        let PlainLine::Broken(error) = PlainLine::of(line, 7, Before::Nothing) else {
            panic!("{:?}", PlainLine::of(line, 7, Before::Nothing))
        };
        assert_eq!(
            error.to_string(),
            "line 7, column 37: \"0x000002000000000x\" is not a hexadecimal word: 'x' is not a digit"
        );
    }

    /// Tokens of logs and dumps, and what is between them.
    fn a_line() -> impl Strategy<Value = String> {
        let token = prop_oneof![
            "0x[0-9a-f]{0,16}",
            "[0-9a-fA-F]{1,17}",
            "0b[01]{1,8}",
            "[\\[({<\"]?[0-9a-fx_'ulUL]{1,10}[\\])}>;|\"]?",
            "(GERROR|CMDQ_PROD|smmu_cr0|event|ste|IDR0)(=0x[0-9a-f]{1,4}|:)?",
            "[a-zA-Z0-9.:/=+@#\u{e9}\u{a0}\u{2003}-]{1,8}",
            "\\*",
        ];
        let blank = prop_oneof!["[ \\t,\u{b}]{1,2}", Just("\u{a0}".to_owned())];
        proptest::collection::vec((token, blank), 0..7)
            .prop_map(|parts| parts.into_iter().map(|(token, blank)| token + &blank).collect())
    }

    proptest! {
        /// What the characters exclude, the parsers do not find.
        #[test]
        fn the_shape_of_a_line_excludes_nothing_that_is_there(line in a_line()) {
            let shape = LineShape::of(&line);
            let text = line.split('#').next().unwrap();
            if shape.has_other {
                let tokens: Vec<_> = tokens(text).map(|(_, token)| (HERE, token)).collect();
                prop_assert!(segments(&tokens).is_err());
            }
            if shape.is_prose {
                for before in [Before::Nothing, Before::Words, Before::Bytes] {
                    prop_assert_eq!(PlainLine::of(&line, 1, before), PlainLine::Prose);
                }
            }
        }
    }
}
