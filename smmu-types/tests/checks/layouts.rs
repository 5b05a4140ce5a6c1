//! Every table of fields.

use smmu_types::layout::{Layout, Meaning};

use super::text_of;

/// The words of a structure, cut from any number of words. Bits beyond a 32-bit register are
/// dropped.
pub(crate) fn keep_width(layout: &Layout, words: &[u64]) -> Vec<u64> {
    let count = usize::from(layout.bits()).div_ceil(64);
    let mut kept: Vec<u64> =
        words.iter().copied().chain(std::iter::repeat(0)).take(count).collect();
    if let (32, Some(word)) = (layout.bits(), kept.first_mut()) {
        *word &= u64::from(u32::MAX);
    }
    kept
}

/// Fields and residue are the pattern again. Every value is in bounds, prints, and fits its place.
pub(crate) fn layout(layout: &Layout, words: &[u64]) {
    let name = layout.name();
    let mut again = vec![0; words.len()];
    for part in layout.split(words) {
        let (field, value) = (part.field, part.value);
        let place = format!("{name}.{}", field.name());
        assert!(value <= field.max(), "{place}: {value:#x} is above {:#x}", field.max());
        assert_eq!(value, field.get(words), "{place}");

        // The same value put back is the same pattern, so `with(key, get(key))` is the identity.
        let kept = words[field.word()] & field.mask();
        assert_eq!(field.place(value), Ok(kept), "{place}");
        assert_eq!(again[field.word()] & field.mask(), 0, "{place} overlaps another field");
        again[field.word()] |= kept;

        text_of(&part);
        if let Some(meaning) = part.meaning() {
            text_of(&meaning);
        }
        let listed = match field.meaning() {
            Meaning::Choice(choices) => choices.iter().any(|choice| choice.value == value),
            _ => true,
        };
        assert_eq!(part.is_reserved(), !listed, "{place} = {value:#x}");
        let more = field.max().checked_add(1).map(|value| field.place(value).is_err());
        assert_ne!(more, Some(false), "{place} takes more than fits");
    }
    let mut last = None;
    for run in layout.residue(words) {
        assert!(run.lo <= run.hi && run.hi < layout.bits(), "{name}: {run:?}");
        assert!(last < Some(run.lo), "{name}: runs out of order at {run:?}");
        assert_eq!(run.lo / 64, run.hi / 64, "{name}: {run:?} crosses a word");
        last = Some(run.hi);
        again[usize::from(run.lo / 64)] |= u64::MAX >> (63 - (run.hi - run.lo)) << (run.lo % 64);
    }
    assert_eq!(again, words, "{name}: fields and residue are not the pattern");

    // Too few words read as zeros.
    if let Some((_, fewer)) = words.split_last() {
        let mut zeroed = words.to_vec();
        zeroed[fewer.len()] = 0;
        for (short, long) in layout.split(fewer).zip(layout.split(&zeroed)) {
            assert_eq!(short.value, long.value, "{name}.{}", short.field.name());
        }
        assert!(layout.residue(fewer).eq(layout.residue(&zeroed)), "{name}");
    }
}
