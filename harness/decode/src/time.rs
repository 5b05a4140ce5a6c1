//! The time of a log line as a number.

use std::fmt;

/// Which clock a log writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogClock {
    /// Seconds since the system began: `[   55.123456]`.
    Uptime,
    /// A date with its year.
    Date,
    /// A date without a year, as syslog writes it.
    Yearless,
}

/// The time of a log line. Two times compare if their clocks are the same. A time zone is not
/// counted, because a log seldom changes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogTime {
    /// Which clock.
    pub clock: LogClock,
    /// Microseconds since the clock's beginning: of the system, of 1970, or of the year.
    pub micros: i64,
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
/// A year with 29 February, for dates without one.
const LEAP: i64 = 1972;

impl LogTime {
    /// Reads the time that a [`FoundWords`](crate::FoundWords) or a note has; `None` if it is none.
    #[must_use]
    pub fn read(text: &str) -> Option<LogTime> {
        iso(text).or_else(|| syslog(text)).or_else(|| {
            let micros = seconds(text)?;
            Some(LogTime { clock: LogClock::Uptime, micros })
        })
    }

    /// Microseconds from `earlier` to this time; `None` if the clocks differ.
    #[must_use]
    pub fn since(self, earlier: LogTime) -> Option<i64> {
        (self.clock == earlier.clock).then(|| self.micros.saturating_sub(earlier.micros))
    }
}

/// `2026-11-29T11:12:00.123456+00:00`
fn iso(text: &str) -> Option<LogTime> {
    let (date, time) = text.split_at_checked(10)?;
    let mut parts = date.split('-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    let time = time.strip_prefix(['T', ' '])?;
    let end = time.find(['Z', '+', '-']).unwrap_or(time.len());
    let micros = day_number(year, month, day)? + of_day(time.get(..end)?)?;
    Some(LogTime { clock: LogClock::Date, micros })
}

/// `Nov  2 10:00:01`, `Tue Nov 29 11:12:00 2026`
fn syslog(text: &str) -> Option<LogTime> {
    let mut words: Vec<&str> = text.split_whitespace().collect();
    let month = |word: &str| MONTHS.iter().position(|month| *month == word);
    if words.len() > 3 && month(words.first()?).is_none() {
        words.remove(0);
    }
    let month = month(words.first()?)? as i64 + 1;
    let day = words.get(1)?.parse().ok()?;
    let time = of_day(words.get(2)?)?;
    let (clock, year) = match words.get(3) {
        Some(year) => (LogClock::Date, year.parse().ok()?),
        None => (LogClock::Yearless, LEAP),
    };
    let first = if clock == LogClock::Date { 0 } else { day_number(LEAP, 1, 1)? };
    Some(LogTime { clock, micros: day_number(year, month, day)? - first + time })
}

/// `11:12:00.123456`
fn of_day(text: &str) -> Option<i64> {
    let mut parts = text.splitn(3, ':');
    let mut number =
        |below: i64| parts.next()?.parse::<i64>().ok().filter(|number| (0..below).contains(number));
    let minutes = number(24)? * 60 + number(60)?;
    let seconds = seconds(parts.next()?).filter(|micros| *micros <= 60_999_999)?;
    Some(minutes * 60_000_000 + seconds)
}

/// Seconds with a fraction, as microseconds.
fn seconds(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once(['.', ',']).unwrap_or((text, "0"));
    if fraction.is_empty()
        || !text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.' || byte == b',')
    {
        return None;
    }
    let digits: String = fraction.chars().chain("000000".chars()).take(6).collect();
    whole.parse::<i64>().ok()?.checked_mul(1_000_000)?.checked_add(digits.parse().ok()?)
}

/// Microseconds from 1970 to the beginning of a day. The proleptic Gregorian calendar repeats after
/// 400 years of 146,097 days; a year that begins in March has its leap day at the end.
fn day_number(year: i64, month: i64, day: i64) -> Option<i64> {
    if !(1..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let year = if month > 2 { year } else { year - 1 };
    let (era, of_era) = (year / 400, year % 400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    Some(days * 86_400_000_000)
}

/// Short, as beside an axis: `55.123`, `10:00:01`.
impl fmt::Display for LogTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, millis) =
            (self.micros.div_euclid(1_000_000), self.micros.rem_euclid(1_000_000) / 1000);
        if self.clock == LogClock::Uptime {
            return write!(f, "{seconds}.{millis:03}");
        }
        let of_day = seconds.rem_euclid(86_400);
        write!(f, "{:02}:{:02}:{:02}", of_day / 3600, of_day / 60 % 60, of_day % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("55.123456", LogClock::Uptime, 55_123_456, "55.123")]
    #[case("1.5", LogClock::Uptime, 1_500_000, "1.500")]
    // `date -u -d '2026-11-29T11:12:00' +%s` is 1795950720.
    #[case("2026-11-29T11:12:00.5+00:00", LogClock::Date, 1_795_950_720_500_000, "11:12:00")]
    #[case("2026-11-29 11:12:00,5", LogClock::Date, 1_795_950_720_500_000, "11:12:00")]
    #[case("Sun Nov 29 11:12:00 2026", LogClock::Date, 1_795_950_720_000_000, "11:12:00")]
    #[case("2000-03-01T00:00:00Z", LogClock::Date, 951_868_800_000_000, "00:00:00")]
    #[case("Jan  1 00:00:01", LogClock::Yearless, 1_000_000, "00:00:01")]
    #[case("Mar  1 00:00:00", LogClock::Yearless, 60 * 86_400_000_000, "00:00:00")]
    fn times_are_numbers(
        #[case] text: &str,
        #[case] clock: LogClock,
        #[case] micros: i64,
        #[case] shown: &str,
    ) {
        let time = LogTime::read(text).unwrap();
        assert_eq!(time, LogTime { clock, micros });
        assert_eq!(time.to_string(), shown);
    }

    #[rstest]
    #[case("")]
    #[case("-1.5")]
    #[case("99999999999999999999.0")]
    #[case("2026-13-01T00:00:00")]
    #[case("2026-11-29T25:00:00")]
    #[case("Nov 99 10:00:01")]
    #[case("Foo  2 10:00:01")]
    #[case("2026-11-29T11:12")]
    fn what_is_no_time_is_none(#[case] text: &str) {
        assert_eq!(LogTime::read(text), None);
    }

    #[test]
    fn times_of_two_clocks_do_not_compare() {
        let [a, b, c] = ["1.5", "2.0", "Jan  1 00:00:01"].map(|text| LogTime::read(text).unwrap());
        assert_eq!(b.since(a), Some(500_000));
        assert_eq!(c.since(a), None);
    }
}
