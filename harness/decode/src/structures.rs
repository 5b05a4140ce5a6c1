//! Splits words into structures of a given kind, or guesses the kind.

use smmu_types::layout::Layout;
use smmu_types::queue::QueueSize;
use smmu_types::{EventKind, RawCommand, fields};

use crate::item::FoundWords;
use crate::kind::{self, KindError, StructureKind};
use crate::words::{InputPlace, Word, WordError, WordWidth};

/// A kind, and the words that follow it.
pub type Segment = (Option<StructureKind>, Vec<Word>);

/// Splits tokens at the names of kinds: `ste 0x... cd 0x... GERROR=0x1`. Words before the first
/// name have no kind; a name at the end has no words.
///
/// # Errors
///
/// A token is neither a kind nor a word.
pub fn segments(tokens: &[(InputPlace, &str)]) -> Result<Vec<Segment>, WordError> {
    let mut segments: Vec<Segment> = Vec::new();
    let mut open = false;
    for (place, token) in tokens {
        let value = token.split_once('=');
        if let Some((name, value)) = value
            && let Some((_, layout)) = fields::register_by_name(name)
        {
            let word = Word::parse(value, place.shifted(name.len() + 1))?;
            segments.push((Some(StructureKind::Register(layout)), vec![word]));
            open = false;
        } else if let Some(kind) = StructureKind::from_name(token) {
            segments.push((Some(kind), Vec::new()));
            open = true;
        } else {
            let name = value.map_or(*token, |(name, _)| name);
            let word = Word::parse(token, *place).map_err(|error| misspelt(name, *place, error))?;
            match segments.last_mut() {
                Some((_, words)) if open => words.push(word),
                _ => {
                    segments.push((None, vec![word]));
                    open = true;
                }
            }
        }
    }
    Ok(segments)
}

/// The error of a token that is no word: with the name that its writer may mean.
fn misspelt(name: &str, place: InputPlace, error: WordError) -> WordError {
    if !matches!(error, WordError::NotHex { .. }) {
        return error;
    }
    // A number with a wrong digit is no name.
    let letter = name.starts_with(|c: char| c.is_ascii_alphabetic());
    match kind::near(name).filter(|_| letter) {
        Some(near) => WordError::Misspelt { place, text: name.to_owned(), near },
        None => error,
    }
}

/// Splits plain words into structures.
///
/// # Errors
///
/// The words do not fit the kind, or without one, no kind or several kinds fit them.
pub fn decode(
    kind: Option<StructureKind>,
    width: Option<WordWidth>,
    words: &[Word],
) -> Result<Vec<FoundWords>, KindError> {
    let Some(first) = words.first() else { return Ok(Vec::new()) };
    let found = |kind, words, place| {
        let line = match place {
            InputPlace::Argument { .. } => 0,
            InputPlace::Line { number, .. } => number,
        };
        FoundWords::new(kind, words, line, "", "")
    };
    match kind {
        Some(kind) => {
            let cut = cut(kind, words, width)?;
            Ok(cut.into_iter().map(|(words, place)| found(kind, words, place)).collect())
        }
        None => {
            let (kind, words, _) = guess(words, width, &GUESSED)?;
            Ok(vec![found(kind, words, first.place)])
        }
    }
}

/// The words of one structure, and the place of the first.
pub type Piece = (Vec<u64>, InputPlace);

/// Splits words into structures of one kind.
///
/// # Errors
///
/// Some words are left over, or a value does not fit.
pub fn cut(
    kind: StructureKind,
    words: &[Word],
    width: Option<WordWidth>,
) -> Result<Vec<Piece>, KindError> {
    let Some(first) = words.first() else { return Ok(Vec::new()) };
    let (found, place) = (words.len(), first.place);
    not_too_wide(words, width)?;
    match kind {
        StructureKind::Register(layout) => words
            .iter()
            .map(|word| {
                if layout.bits() < 64 && word.value >> layout.bits() != 0 {
                    let (kind, value, bits) = (kind.to_string(), word.value, layout.bits());
                    return Err(KindError::TooLarge { kind, value, bits, place: word.place });
                }
                Ok((vec![word.value], word.place))
            })
            .collect(),
        StructureKind::IdRegisters | StructureKind::Queue => {
            let (range, want) = match kind {
                StructureKind::Queue => {
                    (2..=3, "PROD, CONS, and log2 of the number of entries if known")
                }
                _ => (1..=7, "IDR0, IDR1, IDR2, IDR3, ... in this order, up to IDR6"),
            };
            if !range.contains(&found) {
                let kind = kind.to_string();
                return Err(KindError::List { kind, want, found, place });
            }
            if let Some(word) = words.iter().find(|word| word.value > u64::from(u32::MAX)) {
                let (kind, value) = (kind.to_string(), word.value);
                return Err(KindError::TooLarge { kind, value, bits: 32, place: word.place });
            }
            let mut values: Vec<u64> = words.iter().map(|word| word.value).collect();
            if let (StructureKind::Queue, Some(word), Some(size)) =
                (kind, words.get(2), values.get_mut(2))
            {
                // People count entries in decimal.
                let decimal = (!word.prefixed).then(|| format!("{:x}", word.value).parse().ok());
                *size = decimal.flatten().unwrap_or(word.value);
                if *size > u64::from(QueueSize::MAX_LOG2) {
                    return Err(KindError::QueueSize { log2: *size, place: word.place });
                }
            }
            Ok(vec![(values, place)])
        }
        _ => {
            let want = kind.words().unwrap_or(1);
            let possible = WordWidth::possible(words);
            let asked = width.as_ref().map_or(possible, std::slice::from_ref);
            let all_doubts = |pieces: &Vec<Piece>| -> u32 {
                pieces.iter().map(|(words, _)| doubts(kind, words)).sum()
            };
            let pieces = |width: &WordWidth| {
                let joined = width.join(words).filter(|joined| joined.len() % want == 0)?;
                let places = words.iter().step_by(want * width.tokens()).map(|word| word.place);
                Some(joined.chunks(want).map(<[u64]>::to_vec).zip(places).collect())
            };
            asked
                .iter()
                .filter_map(pieces)
                // Of equals, the first.
                .min_by_key(all_doubts)
                .ok_or_else(|| KindError::Count { kind: kind.to_string(), want, found, place })
        }
    }
}

fn not_too_wide(words: &[Word], width: Option<WordWidth>) -> Result<(), KindError> {
    let wide = words.iter().find(|word| word.value > u64::from(u32::MAX));
    match (width, wide) {
        (Some(WordWidth::Bits32), Some(word)) => {
            Err(KindError::TooWide { value: word.value, place: word.place })
        }
        _ => Ok(()),
    }
}

/// The kinds that a guess can find. Page requests are not among them, because every pattern is one.
pub const GUESSED: [StructureKind; 4] =
    [StructureKind::Command, StructureKind::Event, StructureKind::Ste, StructureKind::Cd];

/// The structures of a guess, and the doubts about it: 0 for none.
pub type Guess = (StructureKind, Vec<u64>, u32);

/// Guesses which of some kinds words are.
///
/// # Errors
///
/// Several kinds fit the words, or none.
pub fn guess(
    words: &[Word],
    width: Option<WordWidth>,
    kinds: &[StructureKind],
) -> Result<Guess, KindError> {
    let Some(first) = words.first() else {
        let place = InputPlace::Argument { number: 1, column: 1 };
        return Err(KindError::NoSuchCount { found: 0, place });
    };
    let (found, place) = (words.len(), first.place);
    not_too_wide(words, width)?;
    let possible = WordWidth::possible(words);
    let widths = width.as_ref().map_or(possible, std::slice::from_ref);
    let joined: Vec<Vec<u64>> = widths.iter().filter_map(|width| width.join(words)).collect();
    let fits: Vec<(StructureKind, &Vec<u64>)> = joined
        .iter()
        .flat_map(|joined| kinds.iter().map(move |kind| (*kind, joined)))
        .filter(|(kind, joined)| kind.words() == Some(joined.len()))
        .collect();
    if fits.is_empty() {
        return Err(KindError::NoSuchCount { found, place });
    }
    let scored: Vec<(u32, StructureKind, &Vec<u64>)> = fits
        .iter()
        .filter_map(|(kind, joined)| Some((implausible(*kind, joined)?, *kind, *joined)))
        .collect();
    let best = scored.iter().map(|(score, ..)| *score).min();
    let mut leading = scored.iter().filter(|(score, ..)| Some(*score) == best);
    match (leading.next(), leading.next()) {
        (Some((score, kind, joined)), None) => Ok((*kind, (*joined).clone(), *score)),
        _ => {
            let candidates = if scored.is_empty() { Vec::new() } else { names(&scored) };
            Err(KindError::Unclear { candidates, found, place })
        }
    }
}

fn names(scored: &[(u32, StructureKind, &Vec<u64>)]) -> Vec<&'static str> {
    let mut names: Vec<_> = scored.iter().map(|(_, kind, _)| kind.name()).collect();
    names.dedup();
    names
}

/// The doubts whether words are of a kind, from 0 (none) to 100 (they cannot be).
pub(crate) fn doubts(kind: StructureKind, words: &[u64]) -> u32 {
    match kind.words() {
        Some(1) | None => 0,
        Some(_) => implausible(kind, words).unwrap_or(100),
    }
}

/// The doubts whether words are of a kind; `None` if they cannot be.
fn implausible(kind: StructureKind, words: &[u64]) -> Option<u32> {
    let first = words.first().copied().unwrap_or(0);
    let bits = |layout: &Layout| {
        let residue: u32 = layout.residue(words).map(|run| u32::from(run.hi - run.lo) + 1).sum();
        let reserved = layout.split(words).filter(smmu_types::layout::FieldValue::is_reserved);
        residue + 2 * reserved.count() as u32
    };
    match kind {
        StructureKind::Command => {
            let raw = RawCommand([first, words.get(1).copied().unwrap_or(0)]);
            Some(bits(fields::command(raw.opcode())?))
        }
        StructureKind::Event => {
            let kind = EventKind(first as u8);
            kind.name()?;
            Some(bits(fields::event(kind)))
        }
        StructureKind::Pri => Some(bits(&fields::page_request::LAYOUT)),
        StructureKind::Ste => {
            let word = |n: usize| words.get(n).copied().unwrap_or(0);
            // An entry that has what its Config does not use is rare.
            let config = first >> 1 & 7;
            let stray1 = config & 5 != 5 && first >> 4 != 0;
            let stray2 = config & 6 != 6 && word(3) != 0;
            let rare = 4 * (u32::from(stray1) + u32::from(stray2));
            (first & 1 != 0).then(|| rare + bits(&fields::ste::LAYOUT))
        }
        StructureKind::Cd => {
            // Descriptors of AArch32 tables are rare.
            let rare = if first >> 41 & 1 == 0 { 4 } else { 0 };
            (first >> 31 & 1 != 0).then(|| rare + bits(&fields::cd::LAYOUT))
        }
        _ => None,
    }
}
