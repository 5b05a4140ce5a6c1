//! The known name that a mistyped one is nearest to.

/// One typo in so many letters.
const FARTHEST: usize = 3;
/// A longer text is no name.
const LONGEST: usize = 40;

/// The known name that a text is the beginning of, or else the one with the fewest typos. `None` if
/// none is near.
pub(crate) fn nearest(
    text: &str,
    known: impl Iterator<Item = &'static str>,
) -> Option<&'static str> {
    let length = text.chars().count();
    if length > LONGEST {
        return None;
    }
    let text = text.to_lowercase();
    let rated = known.filter_map(|name| {
        let lower = name.to_lowercase();
        let typos = match length >= 3 && lower.starts_with(&text) {
            true => 0,
            false => strsim::damerau_levenshtein(&text, &lower),
        };
        let letters = name.chars().count();
        let near = typos <= length.max(letters).div_ceil(FARTHEST) && typos < letters;
        near.then_some((typos, name))
    });
    rated.min_by_key(|(typos, _)| *typos).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("evnt", Some("event"))]
    #[case("GEROR", Some("GERROR"))]
    #[case("S1CD", Some("S1CDMax"))]
    #[case("translation", None)]
    #[case("", None)]
    fn finds(#[case] text: &str, #[case] want: Option<&str>) {
        let known = ["event", "GERROR", "S1DSS", "S1CDMax"];
        assert_eq!(nearest(text, known.into_iter()), want);
    }
}
