//! The kinds of structures, and the errors when words are none of them.

use std::fmt;

use smmu_types::fields;
use smmu_types::layout::Layout;
use smmu_types::queue::QueueSize;

use crate::nearest::nearest;
use crate::words::InputPlace;

/// A structure that can be decoded.
#[derive(Clone, Copy, Debug)]
pub enum StructureKind {
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
    /// The ID registers from `IDR0` on, in the order of their numbers: 1 to 7 words.
    IdRegisters,
    /// The producer and the consumer of a queue, and log2 of its size where it is known: 2 or 3
    /// words.
    Queue,
}

impl PartialEq for StructureKind {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (StructureKind::Register(a), StructureKind::Register(b)) => a.name() == b.name(),
            (a, b) => std::mem::discriminant(a) == std::mem::discriminant(b),
        }
    }
}

/// The names of the kinds on a command line, for messages.
pub(crate) const NAMES: &str =
    "ste, cd, cmd, event, pri, idr, queue, l1std, l1cd, or a register such as cr0 or gerror";

/// The name of a kind or a register that a mistyped one is nearest to.
pub(crate) fn near(name: &str) -> Option<&'static str> {
    let kinds = ["ste", "cd", "cmd", "command", "event", "pri", "idr", "queue", "l1std", "l1cd"];
    nearest(name, kinds.into_iter().chain(fields::REGISTERS.iter().map(|info| info.layout.name())))
}

impl StructureKind {
    /// The kind of this name on a command line.
    #[must_use]
    pub fn from_name(name: &str) -> Option<StructureKind> {
        Some(match name.to_ascii_lowercase().as_str() {
            "cmd" | "command" => StructureKind::Command,
            "event" | "evt" => StructureKind::Event,
            "pri" | "ppr" => StructureKind::Pri,
            "ste" => StructureKind::Ste,
            "cd" => StructureKind::Cd,
            "l1std" => StructureKind::StreamDescriptor,
            "l1cd" => StructureKind::ContextDescriptor,
            "idr" => StructureKind::IdRegisters,
            "queue" => StructureKind::Queue,
            _ => StructureKind::Register(fields::register_by_name(name)?.1),
        })
    }

    /// How many 64-bit words a structure of this kind has; `None` if that varies.
    #[must_use]
    pub const fn words(self) -> Option<usize> {
        match self {
            StructureKind::Command | StructureKind::Pri => Some(2),
            StructureKind::Event => Some(4),
            StructureKind::Ste | StructureKind::Cd => Some(8),
            StructureKind::StreamDescriptor
            | StructureKind::ContextDescriptor
            | StructureKind::Register(_) => Some(1),
            StructureKind::IdRegisters | StructureKind::Queue => None,
        }
    }

    /// The name in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            StructureKind::Command => "command",
            StructureKind::Event => "event",
            StructureKind::Pri => "pri",
            StructureKind::Ste => "ste",
            StructureKind::Cd => "cd",
            StructureKind::StreamDescriptor => "l1std",
            StructureKind::ContextDescriptor => "l1cd",
            StructureKind::Register(_) => "register",
            StructureKind::IdRegisters => "idr",
            StructureKind::Queue => "queue",
        }
    }
}

/// As in "an STE has 8 words".
impl fmt::Display for StructureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StructureKind::Command => f.write_str("a command"),
            StructureKind::Event => f.write_str("an event record"),
            StructureKind::Pri => f.write_str("a PRI queue entry"),
            StructureKind::Ste => f.write_str("an STE"),
            StructureKind::Cd => f.write_str("a CD"),
            StructureKind::StreamDescriptor => f.write_str("a level-1 stream table descriptor"),
            StructureKind::ContextDescriptor => f.write_str("a level-1 CD table descriptor"),
            StructureKind::Register(layout) => write!(f, "register {}", layout.name()),
            StructureKind::IdRegisters => f.write_str("the ID registers"),
            StructureKind::Queue => f.write_str("a pair of queue pointers"),
        }
    }
}

/// Why words cannot be split into structures.
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
        place: InputPlace,
    },
    /// A queue or the ID registers cannot have so many words.
    #[error("{place}: {kind} wants {want}; {}", counted(*found, "begins here"))]
    List {
        /// The kind.
        kind: String,
        /// How many it takes, as text.
        want: &'static str,
        /// How many there are.
        found: usize,
        /// The first of them.
        place: InputPlace,
    },
    /// The value does not fit a 32-bit register or a size.
    #[error("{place}: {value:#x} does not fit {kind}: it has {bits} bits")]
    TooLarge {
        /// The kind.
        kind: String,
        /// The value.
        value: u64,
        /// The bits of the kind.
        bits: u16,
        /// Where the value is.
        place: InputPlace,
    },
    /// No queue has this size.
    #[error("{place}: a queue has 2^0 to 2^{} entries, not 2^{log2}", QueueSize::MAX_LOG2)]
    QueueSize {
        /// The size that was given.
        log2: u64,
        /// Where.
        place: InputPlace,
    },
    /// The word does not fit the word size that the caller gave.
    #[error("{place}: {value:#x} has more than 32 bits, and --word-size says 32")]
    TooWide {
        /// The word.
        value: u64,
        /// Where it is.
        place: InputPlace,
    },
    /// No structure has this number of words.
    #[error(
        "{place}: {} A command has 2 words of 64 bits (4 of 32), an event record 4 (8), an STE and a CD \
         8 (16); for anything else, and for several at once, say what they are: {NAMES}",
        counted(*found, "begins here.")
    )]
    NoSuchCount {
        /// How many there are.
        found: usize,
        /// The first of them.
        place: InputPlace,
    },
    /// The words could be several things, or nothing.
    #[error("{place}: these {found} words could be {}; say which: {NAMES}", could_be(candidates))]
    Unclear {
        /// What they could be.
        candidates: Vec<&'static str>,
        /// How many there are.
        found: usize,
        /// The first of them.
        place: InputPlace,
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
