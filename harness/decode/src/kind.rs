//! What words can be, and how that is found out.

use std::fmt;

use smmu_types::layout::Layout;
use smmu_types::queue::QueueSize;
use smmu_types::{EventKind, RawCommand, fields};

use super::words::{Place, Width, Word};

/// A structure that can be decoded.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A command: 2 words.
    Command,
    /// An event record: 4 words.
    Event,
    /// A page request: 2 words.
    Pri,
    /// A stream table entry: 8 words.
    Ste,
    /// A context descriptor: 8 words.
    Cd,
    /// A level-1 descriptor of a stream table: 1 word.
    StreamDescriptor,
    /// A level-1 descriptor of a table of CDs: 1 word.
    ContextDescriptor,
    /// A register: 1 word.
    Register(&'static Layout),
    /// The ID registers in the order of their numbers: as many words as there are.
    IdRegisters,
    /// The producer and the consumer of a queue, and log2 of its size where it is known: 2 or 3 words.
    Queue,
}

impl PartialEq for Kind {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Kind::Register(a), Kind::Register(b)) => a.name() == b.name(),
            (a, b) => std::mem::discriminant(a) == std::mem::discriminant(b),
        }
    }
}

/// The words of the command line for the kinds, for messages.
pub(crate) const NAMES: &str =
    "ste, cd, cmd, event, pri, idr, queue, l1std, l1cd, or a register such as cr0 or gerror";

impl Kind {
    /// The kind that a word of the command line names.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Kind> {
        Some(match name.to_ascii_lowercase().as_str() {
            "cmd" | "command" => Kind::Command,
            "event" | "evt" => Kind::Event,
            "pri" | "ppr" => Kind::Pri,
            "ste" => Kind::Ste,
            "cd" => Kind::Cd,
            "l1std" => Kind::StreamDescriptor,
            "l1cd" => Kind::ContextDescriptor,
            "idr" => Kind::IdRegisters,
            "queue" => Kind::Queue,
            _ => Kind::Register(fields::register_by_name(name)?.1),
        })
    }

    /// How many 64-bit words one has; `None` where that varies.
    #[must_use]
    pub const fn words(self) -> Option<usize> {
        match self {
            Kind::Command | Kind::Pri => Some(2),
            Kind::Event => Some(4),
            Kind::Ste | Kind::Cd => Some(8),
            Kind::StreamDescriptor | Kind::ContextDescriptor | Kind::Register(_) => Some(1),
            Kind::IdRegisters | Kind::Queue => None,
        }
    }

    /// The word for machines.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Command => "command",
            Kind::Event => "event",
            Kind::Pri => "pri",
            Kind::Ste => "ste",
            Kind::Cd => "cd",
            Kind::StreamDescriptor => "l1std",
            Kind::ContextDescriptor => "l1cd",
            Kind::Register(_) => "register",
            Kind::IdRegisters => "idr",
            Kind::Queue => "queue",
        }
    }
}

/// As in "an STE has 8 words".
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Command => f.write_str("a command"),
            Kind::Event => f.write_str("an event record"),
            Kind::Pri => f.write_str("a PRI queue entry"),
            Kind::Ste => f.write_str("an STE"),
            Kind::Cd => f.write_str("a CD"),
            Kind::StreamDescriptor => f.write_str("a level-1 stream table descriptor"),
            Kind::ContextDescriptor => f.write_str("a level-1 CD table descriptor"),
            Kind::Register(layout) => write!(f, "register {}", layout.name()),
            Kind::IdRegisters => f.write_str("the ID registers"),
            Kind::Queue => f.write_str("a pair of queue pointers"),
        }
    }
}

/// Why words cannot be cut into structures.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KindError {
    /// The number of words does not fit the kind.
    #[error("{place}: {kind} has {want} words of 64 bits, or {} of 32; {}", want * 2, counted(*found, "begins here"))]
    Count {
        /// The kind.
        kind: String,
        /// How many words it has.
        want: usize,
        /// How many there are.
        found: usize,
        /// The first of them.
        place: Place,
    },
    /// A queue or the ID registers with another number of words.
    #[error("{place}: {kind} wants {want}; {}", counted(*found, "begins here"))]
    List {
        /// The kind.
        kind: String,
        /// What it wants, in words.
        want: &'static str,
        /// How many there are.
        found: usize,
        /// The first of them.
        place: Place,
    },
    /// A 32-bit register or a size with a value that is too large.
    #[error("{place}: {value:#x} does not fit {kind}: it has {bits} bits")]
    TooLarge {
        /// The kind.
        kind: String,
        /// The value.
        value: u64,
        /// Bits of it.
        bits: u16,
        /// Where the value is.
        place: Place,
    },
    /// A queue has no such size.
    #[error("{place}: a queue has 2^0 to 2^{} entries, not 2^{log2}", QueueSize::MAX_LOG2)]
    QueueSize {
        /// The size that was given.
        log2: u64,
        /// Where.
        place: Place,
    },
    /// A word is wider than the words are said to be.
    #[error("{place}: {value:#x} has more than 32 bits, and --word-size says 32")]
    TooWide {
        /// The word.
        value: u64,
        /// Where it is.
        place: Place,
    },
    /// The number of words is that of no structure.
    #[error(
        "{place}: {} A command has 2 words of 64 bits (4 of 32), an event record 4 (8), an STE and a CD \
         8 (16); for anything else, and for several at once, say what they are: {NAMES}",
        counted(*found, "begins here.")
    )]
    NoSuchCount {
        /// How many there are.
        found: usize,
        /// The first of them.
        place: Place,
    },
    /// The words could be several things, or nothing.
    #[error("{place}: these {found} words could be {}; say which: {NAMES}", could_be(candidates))]
    Unclear {
        /// What they could be.
        candidates: Vec<&'static str>,
        /// How many there are.
        found: usize,
        /// The first of them.
        place: Place,
    },
}

fn counted(found: usize, then: &str) -> String {
    match found {
        1 => format!("1 word {then}"),
        n => format!("a run of {n} words {then}"),
    }
}

fn could_be(candidates: &[&'static str]) -> String {
    if candidates.is_empty() { "nothing that is known".into() } else { candidates.join(" or ") }
}

/// The words of one structure, and where the first of them stands.
pub type Piece = (Vec<u64>, Place);

/// Cut words into structures of one kind.
///
/// # Errors
///
/// Some words are left over, or a value does not fit.
pub fn cut(kind: Kind, words: &[Word], width: Option<Width>) -> Result<Vec<Piece>, KindError> {
    let Some(first) = words.first() else { return Ok(Vec::new()) };
    let (found, place) = (words.len(), first.place);
    not_too_wide(words, width)?;
    match kind {
        Kind::Register(layout) => words
            .iter()
            .map(|word| {
                if layout.bits() < 64 && word.value >> layout.bits() != 0 {
                    let (kind, value, bits) = (kind.to_string(), word.value, layout.bits());
                    return Err(KindError::TooLarge { kind, value, bits, place: word.place });
                }
                Ok((vec![word.value], word.place))
            })
            .collect(),
        Kind::IdRegisters | Kind::Queue => {
            let (range, want) = match kind {
                Kind::Queue => (2..=3, "PROD, CONS, and log2 of the number of entries if known"),
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
            if let (Kind::Queue, Some(word), Some(size)) = (kind, words.get(2), values.get_mut(2)) {
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
            let possible = Width::possible(words);
            let asked = width.as_ref().map_or(possible, std::slice::from_ref);
            let all_doubts = |pieces: &Vec<Piece>| -> u32 {
                pieces.iter().map(|(words, _)| doubts(kind, words)).sum()
            };
            let pieces = |width: &Width| {
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

fn not_too_wide(words: &[Word], width: Option<Width>) -> Result<(), KindError> {
    let wide = words.iter().find(|word| word.value > u64::from(u32::MAX));
    match (width, wide) {
        (Some(Width::Bits32), Some(word)) => {
            Err(KindError::TooWide { value: word.value, place: word.place })
        }
        _ => Ok(()),
    }
}

/// What words can be taken for without being told. Every pattern is a page request, so it is not among them.
pub const GUESSED: [Kind; 4] = [Kind::Command, Kind::Event, Kind::Ste, Kind::Cd];

/// Words that were found to be something, and how much speaks against it: 0 for nothing.
pub type Guess = (Kind, Vec<u64>, u32);

/// Find out what words are, among some kinds.
///
/// # Errors
///
/// They could be several things, or nothing.
pub fn guess(words: &[Word], width: Option<Width>, kinds: &[Kind]) -> Result<Guess, KindError> {
    let Some(first) = words.first() else {
        let place = Place::Argument { number: 1, column: 1 };
        return Err(KindError::NoSuchCount { found: 0, place });
    };
    let (found, place) = (words.len(), first.place);
    not_too_wide(words, width)?;
    let possible = Width::possible(words);
    let widths = width.as_ref().map_or(possible, std::slice::from_ref);
    let joined: Vec<Vec<u64>> = widths.iter().filter_map(|width| width.join(words)).collect();
    let fits: Vec<(Kind, &Vec<u64>)> = joined
        .iter()
        .flat_map(|joined| kinds.iter().map(move |kind| (*kind, joined)))
        .filter(|(kind, joined)| kind.words() == Some(joined.len()))
        .collect();
    if fits.is_empty() {
        return Err(KindError::NoSuchCount { found, place });
    }
    let scored: Vec<(u32, Kind, &Vec<u64>)> = fits
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

fn names(scored: &[(u32, Kind, &Vec<u64>)]) -> Vec<&'static str> {
    let mut names: Vec<_> = scored.iter().map(|(_, kind, _)| kind.name()).collect();
    names.dedup();
    names
}

/// How much speaks against words being of a kind: 0 for nothing, 100 for everything.
pub(super) fn doubts(kind: Kind, words: &[u64]) -> u32 {
    match kind.words() {
        Some(1) | None => 0,
        Some(_) => implausible(kind, words).unwrap_or(100),
    }
}

/// How much speaks against words being of a kind; `None` when they cannot be.
fn implausible(kind: Kind, words: &[u64]) -> Option<u32> {
    let first = words.first().copied().unwrap_or(0);
    let bits = |layout: &Layout| {
        let residue: u32 = layout.residue(words).map(|run| u32::from(run.hi - run.lo) + 1).sum();
        let reserved = layout.split(words).filter(smmu_types::layout::FieldValue::is_reserved);
        residue + 2 * reserved.count() as u32
    };
    match kind {
        Kind::Command => {
            let raw = RawCommand([first, words.get(1).copied().unwrap_or(0)]);
            Some(bits(fields::command(raw.opcode())?))
        }
        Kind::Event => {
            let kind = EventKind(first as u8);
            kind.name()?;
            Some(bits(fields::event(kind)))
        }
        Kind::Pri => Some(bits(&fields::page_request::LAYOUT)),
        Kind::Ste => {
            let word = |n: usize| words.get(n).copied().unwrap_or(0);
            // An entry that has what its Config does not use is rare.
            let config = first >> 1 & 7;
            let stray1 = config & 5 != 5 && first >> 4 != 0;
            let stray2 = config & 6 != 6 && word(3) != 0;
            let rare = 4 * (u32::from(stray1) + u32::from(stray2));
            (first & 1 != 0).then(|| rare + bits(&fields::ste::LAYOUT))
        }
        Kind::Cd => {
            // Descriptors of AArch32 tables are rare.
            let rare = if first >> 41 & 1 == 0 { 4 } else { 0 };
            (first >> 31 & 1 != 0).then(|| rare + bits(&fields::cd::LAYOUT))
        }
        _ => None,
    }
}
