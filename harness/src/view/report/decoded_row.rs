//! The command or the event of a row, decoded.

use smmu_decode::{DecodeContext, FoundWords, StructureKind};
use smmu_engine::record::Row;
use smmu_engine::transcript::LineKind;

use crate::view::page::Structures;

/// The number of the structure of a row, if it has one.
pub(super) fn number_of(row: &Row, structures: &mut Structures) -> Option<usize> {
    let kind = match row.kind {
        LineKind::Command => StructureKind::Command,
        LineKind::Event => StructureKind::Event,
        _ => return None,
    };
    let words: Vec<u64> = row.raw.iter().flatten().map(|word| word.0).collect();
    if kind.words() != Some(words.len()) {
        return None;
    }
    structures.of(&FoundWords::plain(kind, words), &DecodeContext::default())
}
