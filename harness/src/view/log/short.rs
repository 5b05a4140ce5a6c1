//! Texts of a log have no bound, and those of a page have.

/// How many bytes of a name, and of a sentence, a page has.
const NAME: usize = 96;
const SENTENCE: usize = 480;

/// The beginning of a name.
pub(super) fn name(text: &str) -> &str {
    beginning(text, NAME)
}

/// The beginning of a sentence.
pub(super) fn sentence(text: &str) -> &str {
    beginning(text, SENTENCE)
}

fn beginning(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text.get(..end.unwrap_or(0)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_letters() {
        assert_eq!(name("arm-smmu-v3.0.auto"), "arm-smmu-v3.0.auto");
        assert_eq!(name(&"ä".repeat(1000)).chars().count(), NAME / 2);
        assert_eq!(name(&format!("x{}", "ä".repeat(1000))).len(), NAME - 1);
        assert_eq!(sentence(&"x".repeat(1000)).len(), SENTENCE);
    }
}
