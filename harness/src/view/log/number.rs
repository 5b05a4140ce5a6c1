//! Numbers as a reader reads them.

use std::fmt;

/// A number with a comma between thousands.
pub(super) struct Grouped(pub(super) u64);

impl fmt::Display for Grouped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        for (n, digit) in digits.chars().enumerate() {
            if n > 0 && (digits.len() - n).is_multiple_of(3) {
                f.write_str(",")?;
            }
            write!(f, "{digit}")?;
        }
        Ok(())
    }
}

/// A number and its noun: "1 line", "2 lines".
pub(super) struct Counted(pub(super) u64, pub(super) &'static str);

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counted(number, noun) = *self;
        write!(f, "{} {noun}{}", Grouped(number), if number == 1 { "" } else { "s" })
    }
}

/// How often something happens, by the time between the first and the last: a rate for each second,
/// minute or hour.
pub(super) fn rate(count: u64, micros: i64) -> String {
    if count < 2 || micros < 0 {
        return String::new();
    }
    if micros == 0 {
        return "at once".into();
    }
    let per_second = (count - 1) as f64 * 1e6 / micros as f64;
    match per_second {
        10.0.. => format!("{}/s", Grouped(per_second.round() as u64)),
        0.1.. => format!("{per_second:.1}/s"),
        _ if per_second * 60.0 >= 0.1 => format!("{:.1}/min", per_second * 60.0),
        _ => format!("{:.1}/h", per_second * 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_nouns_follow() {
        let shown = [0, 999, 1000, 1_234_567].map(|number| Grouped(number).to_string());
        assert_eq!(shown, ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(Counted(1, "line").to_string(), "1 line");
        assert_eq!(Counted(0, "line").to_string(), "0 lines");
    }

    #[test]
    fn a_rate_counts_the_gaps() {
        assert_eq!(rate(4, 3_000_000), "1.0/s");
        assert_eq!(rate(5001, 1_000_000), "5,000/s");
        assert_eq!(rate(2, 60_000_000), "1.0/min");
        assert_eq!(rate(2, 3_600_000_000), "1.0/h");
        assert_eq!(rate(3, 0), "at once");
        assert_eq!(rate(3, -1), "");
        assert_eq!(rate(1, 1_000_000), "");
    }
}
