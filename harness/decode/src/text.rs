//! Helpers of the log formats: patterns, numbers in text, and event names.

use smmu_types::{EventKind, EventRecord, Iova, StreamId};

/// A constant pattern.
macro_rules! pattern {
    ($name:ident, $pattern:literal) => {
        static $name: std::sync::LazyLock<regex::Regex> = std::sync::LazyLock::new(|| {
            regex::Regex::new($pattern).expect("a pattern that compiles")
        });
    };
}
pub(crate) use pattern;

/// A number of a match, hexadecimal with or without `0x`.
pub(crate) fn hex(captures: &regex::Captures<'_>, name: &str) -> Option<u64> {
    let text = captures.name(name)?.as_str();
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
    u64::from_str_radix(digits, 16).ok()
}

/// A record of which the log line has only a part.
pub(crate) fn partial_event(name: &str, stream: u64, address: Option<u64>) -> Option<EventRecord> {
    let kind = EventKind::from_name(name)?;
    let record = EventRecord::new(kind, StreamId(u32::try_from(stream).ok()?));
    Some(match address {
        Some(address) => EventRecord([record.0[0], record.0[1], Iova(address).0, record.0[3]]),
        None => record,
    })
}

/// A part of a match; empty if the match does not have it.
pub(crate) fn part<'t>(captures: &regex::Captures<'t>, name: &str) -> &'t str {
    captures.name(name).map_or("", |found| found.as_str())
}

/// The number of the event that a headline names.
pub(crate) fn number_of(name: &str) -> Option<u8> {
    EventKind::from_name(name).map(|kind| kind.0)
}

pattern!(
    TIME,
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?|(?:[A-Z][a-z]{2} )?[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d(?: \d{4})?|\[ *\d+\.\d+[\]@]"
);

/// The time that a log has at the beginning of a line; empty without one.
pub(crate) fn time_of(text: &str) -> String {
    let found = TIME.find(text).filter(|found| found.start() < 40);
    let time = found.map_or("", |found| found.as_str());
    time.trim_matches(['[', ']', '@', ' ']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("[   55.123456] arm-smmu-v3 a: x", "55.123456")]
    #[case("<4>[   55.123456] arm-smmu-v3 a: x", "55.123456")]
    #[case("Nov  2 10:00:01 host kernel: [   55.1] x", "Nov  2 10:00:01")]
    #[case("[Tue Nov 29 11:12:00 2026] x", "Tue Nov 29 11:12:00 2026")]
    #[case("2026-11-29T11:12:00.123456+00:00 host kernel: x", "2026-11-29T11:12:00.123456+00:00")]
    #[case("[    1.0@2] x", "1.0")]
    #[case("arm-smmu-v3 a: x", "")]
    fn a_line_has_a_time(#[case] line: &str, #[case] time: &str) {
        assert_eq!(time_of(line), time);
    }
}
