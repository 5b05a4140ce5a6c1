//! The known name that a mistyped one is nearest to.

/// Names that differ in more than this share of their letters are not near.
const FARTHEST: usize = 3;

/// The name among `known` that `name` was probably meant to be. Case does not count.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_lowercase();
    let distance = |other: &str| strsim::damerau_levenshtein(&name, &other.to_lowercase());
    // A typo in each three letters at most, and one in a short name.
    let near = |other: &str| name.chars().count().max(other.chars().count()).div_ceil(FARTHEST);
    known
        .into_iter()
        .map(|other| (distance(other), other))
        .filter(|(distance, other)| *distance <= near(other) && *distance < other.chars().count())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, other)| other)
}

#[cfg(test)]
mod tests {
    use super::*;

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
