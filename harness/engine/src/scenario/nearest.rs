//! The known name that a mistyped one is nearest to.

use crate::prelude::*;

/// Names that differ in more than this share of their letters are not near.
const FARTHEST: usize = 3;

/// A longer text is no name: comparing it would take memory and time for nothing.
const LONGEST: usize = 64;

/// The name among `known` that `name` was probably meant to be. Case does not count.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if name.chars().nth(LONGEST).is_some() {
        return None;
    }
    let name: Vec<char> = name.to_lowercase().chars().collect();
    let distance = |other: &str| typos(&name, &other.to_lowercase().chars().collect::<Vec<char>>());
    // A typo in each three letters at most, and one in a short name.
    let near = |other: &str| name.len().max(other.chars().count()).div_ceil(FARTHEST);
    known
        .into_iter()
        .map(|other| (distance(other), other))
        .filter(|(distance, other)| *distance <= near(other) && *distance < other.chars().count())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, other)| other)
}

/// The typos that turn one text into the other: a letter that is missing, surplus or wrong, or two
/// neighbours that have changed places. No letter takes part in two of them.
fn typos(from: &[char], to: &[char]) -> usize {
    // Of the last three rows of the table: from all of `from` so far to each beginning of `to`.
    let (mut before, mut last) = (Vec::new(), (0..=to.len()).collect::<Vec<usize>>());
    for (i, &letter) in from.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, &wanted) in to.iter().enumerate() {
            let replaced = last[j] + usize::from(letter != wanted);
            let mut least = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && letter == to[j - 1] && from[i - 1] == wanted {
                let swapped: &Vec<usize> = &before;
                least = least.min(swapped[j - 1] + 1);
            }
            row.push(least);
        }
        before = core::mem::replace(&mut last, row);
    }
    last[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn typos_are_those_of_another_implementation(a in "[a-dä]{0,9}", b in "[a-dä]{0,9}") {
            let letters = |text: &str| text.chars().collect::<Vec<char>>();
            prop_assert_eq!(typos(&letters(&a), &letters(&b)), strsim::osa_distance(&a, &b));
        }
    }

    #[test]
    fn a_text_too_long_for_a_name_is_near_to_nothing() {
        let name = "a".repeat(LONGEST);
        assert_eq!(nearest(&name, [name.as_str()]), Some(name.as_str()));
        let longer = "a".repeat(LONGEST + 1);
        assert_eq!(nearest(&longer, [longer.as_str()]), None);
    }

    #[test]
    fn typos_are_near_and_other_words_are_not() {
        let known = ["first-light", "tag-reuse", "stage2-vmid"];
        assert_eq!(nearest("first-ligth", known), Some("first-light"));
        assert_eq!(nearest("Tag-Reuse", known), Some("tag-reuse"));
        assert_eq!(nearest("stage2vmid", known), Some("stage2-vmid"));
        assert_eq!(nearest("remap", known), None);
        assert_eq!(nearest("", known), None);
        assert_eq!(nearest("x", ["D"]), None);
        assert_eq!(nearest("dev1", ["dev0", "other"]), Some("dev0"));
    }
}
