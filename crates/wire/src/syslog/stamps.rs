//! The times of syslog messages: RFC 3339, and `Mmm dd hh:mm:ss` with or without a year.
//!
//! Sans-I/O: the caller brings the present, and the zone of times that name none. Invariant: a time
//! without a year lies in the latest year in which it is not in the future by more than
//! [`FUTURE_NS_MAX`], so that a message of 31 December that comes in January is of last year.

use lodge_record::time;

/// How far ahead of the receiver a sender's clock may be.
pub const FUTURE_NS_MAX: i64 = 2 * 86_400 * NS_PER_S;
const NS_PER_S: i64 = 1_000_000_000;
/// 29 February may be up to eight years back, around 1900 and 2100.
const YEARS_BACK_MAX: i64 = 8;
/// Longest time that is remembered.
const REMEMBERED_BYTES_MAX: usize = 64;

/// Says when in UTC it is so many nanoseconds since 1970 by the clock of a place; `None` if never.
pub type Zone = Box<dyn Fn(i64) -> Option<i64> + Send>;

/// Reads times, the one that it read last without work.
pub struct Stamps {
    zone: Zone,
    last: String,
    last_ns: Option<i64>,
}

impl Stamps {
    /// A reader of times that are in `zone` if they name none.
    pub fn new(zone: Zone) -> Self {
        Stamps { zone, last: String::new(), last_ns: None }
    }

    /// UTC nanoseconds of a message's time; `None` if it is none. `now_ns` is the present.
    pub fn read(&mut self, stamp: &str, now_ns: i64) -> Option<i64> {
        if stamp == self.last {
            return self.last_ns;
        }
        let is_dated = stamp.as_bytes().first().is_some_and(u8::is_ascii_digit);
        let time_ns = if is_dated { self.dated(stamp) } else { self.named_month(stamp, now_ns) };
        if stamp.len() <= REMEMBERED_BYTES_MAX {
            stamp.clone_into(&mut self.last);
            self.last_ns = time_ns;
        }
        time_ns
    }

    fn dated(&self, stamp: &str) -> Option<i64> {
        let bytes = stamp.as_bytes();
        if bytes.get(4) != Some(&b'-') || bytes.get(7) != Some(&b'-') {
            return None;
        }
        let time_ns = time::parse(stamp)?;
        let clock = bytes.get(19..).unwrap_or_default();
        let fraction = |b: &&u8| b.is_ascii_digit() || matches!(b, b'.' | b',');
        let names_zone = clock.iter().any(|b| !fraction(&b));
        if names_zone { Some(time_ns) } else { (self.zone)(time_ns) }
    }

    fn named_month(&self, stamp: &str, now_ns: i64) -> Option<i64> {
        let bytes = stamp.as_bytes();
        let month = month(bytes.get(..3)?)?;
        let day = digits(stamp.get(4..6)?.trim_start())?;
        let rest = stamp.get(7..)?;
        if rest.as_bytes().get(2) == Some(&b':') {
            let clock_ns = clock_ns(rest)?;
            let this_year = time::year_of(now_ns);
            let years = (0..=YEARS_BACK_MAX).map(|back| this_year + 1 - back);
            return years
                .filter_map(|year| (self.zone)(time::from_civil(year, month, day, clock_ns)?))
                .find(|time_ns| *time_ns <= now_ns.saturating_add(FUTURE_NS_MAX));
        }
        let year = digits(rest.get(..4)?)?;
        let clock_ns = clock_ns(rest.get(5..)?)?;
        (self.zone)(time::from_civil(year, month, day, clock_ns)?)
    }
}

/// `hh:mm:ss`, and digits behind `.` or `,`: nanoseconds.
fn clock_ns(text: &str) -> Option<i64> {
    let (hour, minute) = (digits(text.get(..2)?)?, digits(text.get(3..5)?)?);
    let second = digits(text.get(6..8)?)?;
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let fraction = text.get(9..).unwrap_or_default();
    let kept = fraction.get(..fraction.len().min(9))?;
    let fraction_ns = match kept.len() {
        0 => 0,
        length => digits(kept)? * 10i64.pow(9 - length as u32),
    };
    Some(((hour * 60 + minute) * 60 + second) * NS_PER_S + fraction_ns)
}

fn digits(text: &str) -> Option<i64> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| plain)
}

fn month(name: &[u8]) -> Option<i64> {
    const MONTHS: [&[u8]; 12] = [
        b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov",
        b"Dec",
    ];
    MONTHS.iter().position(|month| *month == name).map(|at| at as i64 + 1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn utc() -> Stamps {
        Stamps::new(Box::new(Some))
    }

    #[test]
    fn times_of_both_standards() {
        let now = time::parse("2026-03-01T12:00:00Z").unwrap();
        for (stamp, expected) in [
            ("2003-10-11T22:14:15.003Z", "2003-10-11T22:14:15.003Z"),
            ("2003-10-11T22:14:15.000003-07:00", "2003-10-12T05:14:15.000003Z"),
            ("2003-10-11T22:14:15", "2003-10-11T22:14:15Z"),
            ("Feb 28 23:59:59", "2026-02-28T23:59:59Z"),
            ("Mar  1 13:00:00.25", "2026-03-01T13:00:00.25Z"),
            ("Jan  2 2024 15:04:05.123", "2024-01-02T15:04:05.123Z"),
            ("Feb 29 00:00:00", "2024-02-29T00:00:00Z"),
        ] {
            let read = utc().read(stamp, now).map(time::format);
            assert_eq!(read.as_deref(), Some(expected), "{stamp}");
        }
        let bad =
            ["Feb 30 00:00:00", "Jan  2 25:00:00", "1709294400", "Jan", "never", "", "2003-é"];
        for stamp in bad {
            assert_eq!(utc().read(stamp, now), None, "{stamp}");
        }
    }

    #[test]
    fn the_year_follows_from_the_present() {
        for (now, stamp, expected) in [
            ("2026-01-01T00:10:00Z", "Dec 31 23:59:58", "2025-12-31T23:59:58Z"),
            ("2025-12-31T23:59:58Z", "Jan  1 00:00:01", "2026-01-01T00:00:01Z"),
            ("2026-06-01T00:00:00Z", "Jun  2 00:00:00", "2026-06-02T00:00:00Z"),
            ("2026-06-01T00:00:00Z", "Jun  4 00:00:00", "2025-06-04T00:00:00Z"),
        ] {
            let read = utc().read(stamp, time::parse(now).unwrap()).map(time::format);
            assert_eq!(read.as_deref(), Some(expected), "{stamp} at {now}");
        }
    }

    #[test]
    fn times_without_a_zone_are_in_the_given_one() {
        let two_hours_ahead = |civil_ns: i64| civil_ns.checked_sub(7_200 * NS_PER_S);
        let mut stamps = Stamps::new(Box::new(two_hours_ahead));
        let now = time::parse("2026-03-01T12:00:00Z").unwrap();
        for (stamp, expected) in [
            ("Mar  1 13:00:00", "2026-03-01T11:00:00Z"),
            ("2026-03-01T13:00:00.5", "2026-03-01T11:00:00.5Z"),
            ("2026-03-01T13:00:00.5Z", "2026-03-01T13:00:00.5Z"),
            ("2026-03-01T13:00:00.5Z", "2026-03-01T13:00:00.5Z"),
        ] {
            assert_eq!(stamps.read(stamp, now).map(time::format).as_deref(), Some(expected));
        }
    }
}
