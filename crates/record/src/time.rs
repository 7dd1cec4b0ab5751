//! Times as text and numbers, in and out. Inside Lodge a time is UTC nanoseconds since 1970 (`i64`),
//! which covers the years 1677 to 2262; what lies beyond is clamped by the decoders and marked.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};

const NS_PER_S: i64 = 1_000_000_000;

/// Reads a time in one of the forms that log shippers send: RFC 3339 (`T` or a space, `.` or `,`
/// before the fraction, `Z`, `+02:00`, `+0200` or nothing for UTC), a date alone, or a number since
/// 1970 in seconds (also with a fraction), milliseconds, microseconds or nanoseconds, told apart by
/// its size.
pub fn parse(text: &str) -> Option<i64> {
    let text = text.trim();
    if let Some(time) = parse_fixed(text.as_bytes()) {
        return Some(time);
    }
    parse_number(text).or_else(|| parse_loose(text))
}

/// A number since 1970 whose unit follows from its size: below 2^32 × 10 or so seconds, then
/// milliseconds, microseconds, nanoseconds.
pub fn from_unix_number(value: i64) -> Option<i64> {
    let size = value.unsigned_abs();
    let unit = match size {
        0..=99_999_999_999 => NS_PER_S,
        100_000_000_000..=99_999_999_999_999 => 1_000_000,
        100_000_000_000_000..=99_999_999_999_999_999 => 1_000,
        _ => 1,
    };
    value.checked_mul(unit)
}

/// A number of seconds, milliseconds, … with a fraction.
pub fn from_unix_float(value: f64) -> Option<i64> {
    let unit = match value.abs() {
        v if !v.is_finite() => return None,
        v if v < 1e11 => 1e9,
        v if v < 1e14 => 1e6,
        v if v < 1e17 => 1e3,
        _ => 1.0,
    };
    let whole = value.trunc();
    let ns = whole * unit;
    // 2^63 as a float: beyond it an i64 would saturate silently.
    if ns.abs() >= 9_223_372_036_854_775_807.0 {
        return None;
    }
    (whole as i64).checked_mul(unit as i64)?.checked_add((value.fract() * unit).round() as i64)
}

/// RFC 3339 in UTC with nanoseconds as needed: `2026-03-01T12:00:00Z`, `2026-03-01T12:00:00.25Z`.
pub fn format(time_ns: i64) -> String {
    let mut text = Vec::with_capacity(30);
    write(&mut text, time_ns);
    String::from_utf8(text).unwrap_or_default()
}

/// As [`format`], appended to `out`.
pub fn write(out: &mut Vec<u8>, time_ns: i64) {
    let (days, ns_of_day) =
        (time_ns.div_euclid(86_400 * NS_PER_S), time_ns.rem_euclid(86_400 * NS_PER_S));
    let (year, month, day) = civil_from_days(days);
    let seconds = ns_of_day / NS_PER_S;
    push_digits(out, year, 4);
    out.push(b'-');
    push_digits(out, month, 2);
    out.push(b'-');
    push_digits(out, day, 2);
    out.push(b'T');
    push_digits(out, seconds / 3600, 2);
    out.push(b':');
    push_digits(out, seconds / 60 % 60, 2);
    out.push(b':');
    push_digits(out, seconds % 60, 2);
    let mut fraction = ns_of_day % NS_PER_S;
    if fraction != 0 {
        let mut width = 9;
        while fraction % 10 == 0 {
            fraction /= 10;
            width -= 1;
        }
        out.push(b'.');
        push_digits(out, fraction, width);
    }
    out.push(b'Z');
}

/// UTC nanoseconds of a date and a time of day; `None` where there is no such day.
pub fn from_civil(year: i64, month: i64, day: i64, ns_of_day: i64) -> Option<i64> {
    if !(0..=9_999).contains(&year) || !(1..=month_days(year, month)).contains(&day) {
        return None;
    }
    let seconds = days_from_civil(year, month, day) * 86_400;
    seconds.checked_mul(NS_PER_S)?.checked_add(ns_of_day)
}

/// The year that a time lies in, in UTC.
pub fn year_of(time_ns: i64) -> i64 {
    civil_from_days(time_ns.div_euclid(86_400 * NS_PER_S)).0
}

/// Days of a month, none if there is no such month.
fn month_days(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => 0,
    }
}

fn push_digits(out: &mut Vec<u8>, value: i64, width: u32) {
    for place in (0..width).rev() {
        out.push(b'0' + (value / 10i64.pow(place) % 10) as u8);
    }
}

/// Days since 1970 to a proleptic Gregorian date; after Howard Hinnant, "chrono-Compatible
/// Low-Level Date Algorithms".
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + i64::from(month <= 2), month, day)
}

/// The inverse of [`civil_from_days`].
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let y = year - i64::from(month <= 2);
    let era = y.div_euclid(400);
    let yoe = y.rem_euclid(400);
    let doy = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    let doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    era * 146_097 + doe - 719_468
}

/// The usual form, without allocation: `YYYY-MM-DD[T ]HH:MM:SS[.,fraction][zone]`.
fn parse_fixed(text: &[u8]) -> Option<i64> {
    let (head, tail) = text.split_at_checked(19)?;
    let borders = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')];
    if borders.iter().any(|&(at, byte)| head.get(at) != Some(&byte)) {
        return None;
    }
    if !matches!(head.get(10), Some(b'T' | b't' | b' ')) {
        return None;
    }
    let number = |from: usize, to: usize| digits(head.get(from..to)?);
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if !(1..=month_days(year, month)).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (fraction_ns, zone) = fraction(tail)?;
    let seconds = days_from_civil(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    (seconds - zone_seconds(zone)?).checked_mul(NS_PER_S)?.checked_add(fraction_ns)
}

/// Nanoseconds of an optional `.123`, and what follows it. Digits beyond nine are cut.
fn fraction(tail: &[u8]) -> Option<(i64, &[u8])> {
    let Some((b'.' | b',', rest)) = tail.split_first().map(|(b, r)| (*b, r)) else {
        return Some((0, tail));
    };
    let length = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    let kept = length.min(9);
    let value = digits(rest.get(..kept)?)? * 10i64.pow(9 - kept as u32);
    (length > 0).then_some((value, rest.get(length..)?))
}

fn zone_seconds(zone: &[u8]) -> Option<i64> {
    let (sign, rest) = match zone {
        [] | [b'Z' | b'z'] => return Some(0),
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        [b' ', rest @ ..] if !rest.is_empty() => return zone_seconds(rest),
        b"UTC" | b"GMT" => return Some(0),
        _ => return None,
    };
    let (hours, minutes) = match rest {
        [a, b] => (digits(&[*a, *b])?, 0),
        [a, b, b':', c, d] | [a, b, c, d] => (digits(&[*a, *b])?, digits(&[*c, *d])?),
        _ => return None,
    };
    (hours <= 23 && minutes <= 59).then_some(sign * (hours * 3600 + minutes * 60))
}

fn digits(text: &[u8]) -> Option<i64> {
    text.iter().try_fold(0i64, |sum, byte| {
        let digit = byte.is_ascii_digit().then(|| i64::from(byte - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

fn parse_number(text: &str) -> Option<i64> {
    if !text.starts_with(|c: char| c.is_ascii_digit() || c == '-') {
        return None;
    }
    if let Ok(value) = text.parse::<i64>() {
        // Four digits are a year, as in LogsQL's partial dates.
        if text.len() == 4 && value > 0 {
            return parse_loose(text);
        }
        return from_unix_number(value);
    }
    // Seconds with a fraction, read as digits so that nanoseconds stay exact.
    let (whole, rest) = text.split_once('.')?;
    let unsigned = whole.strip_prefix('-').unwrap_or(whole);
    if unsigned.len() <= 11 && !unsigned.is_empty() {
        let seconds = digits(unsigned.as_bytes())?.checked_mul(NS_PER_S)?;
        let kept = rest.get(..rest.len().min(9))?;
        let ns = digits(kept.as_bytes())? * 10i64.pow(9 - kept.len() as u32);
        // Finer than nanoseconds: any number of digits, and nothing else.
        if !rest.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let size = seconds.checked_add(ns)?;
        return Some(if unsigned.len() < whole.len() { -size } else { size });
    }
    from_unix_float(text.parse().ok()?)
}

/// Partial dates (`2026`, `2026-03`, `2026-03-01`, `2026-03-01T12`, `2026-03-01T12:30`, with an
/// optional zone) and whatever else jiff reads.
fn parse_loose(text: &str) -> Option<i64> {
    const WHOLE: &str = "0000-01-01T00:00:00";
    let body = text.strip_suffix(['Z', 'z']).unwrap_or(text);
    if (4..19).contains(&body.len())
        && body.is_ascii()
        && let Some(rest) = WHOLE.get(body.len()..)
        && let Some(time) = parse_fixed(format!("{body}{rest}").as_bytes())
    {
        return Some(time);
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return i64::try_from(time.as_nanosecond()).ok();
    }
    let civil = text.parse::<DateTime>().ok()?;
    let zone = TimeZone::fixed(Offset::UTC);
    i64::try_from(civil.to_zoned(zone).ok()?.timestamp().as_nanosecond()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_that_shippers_send() {
        let noon = 1_772_366_400_000_000_000; // 2026-03-01T12:00:00Z
        for text in [
            "2026-03-01T12:00:00Z",
            "2026-03-01 12:00:00",
            "2026-03-01T12:00:00.000Z",
            "2026-03-01T12:00:00,000",
            "2026-03-01T14:00:00+02:00",
            "2026-03-01T10:30:00-0130",
            "2026-03-01T12:00",
            "2026-03-01T12",
            "1772366400",
            "1772366400.0",
            "1772366400000",
            "1772366400000000",
            "1772366400000000000",
            " 2026-03-01T12:00:00Z ",
        ] {
            assert_eq!(parse(text), Some(noon), "{text}");
        }
        assert_eq!(parse("1772366400.123456789"), Some(noon + 123_456_789));
        assert_eq!(parse("2026-03-01T12:00:00.25Z"), Some(noon + 250_000_000));
        assert_eq!(parse("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(parse("2100-01-01"), Some(4_102_444_800_000_000_000));
        assert_eq!(parse("-1.5"), Some(-1_500_000_000));
        for bad in ["", "yesterday", "2026-02-30T00:00:00Z", "2026-03-01T25:00:00Z", "12:00", "1e9"]
        {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    /// Found by fuzzing: digits beyond the nanoseconds were summed up until they overflowed.
    #[test]
    fn a_fraction_of_seconds_may_have_any_number_of_digits() {
        let ns = 53_131_131_000_006_666;
        assert_eq!(parse(&format!("53131131.{:0<30}", "000006666")), Some(ns));
        assert_eq!(parse(&format!("53131131.000006666{}", "9".repeat(1000))), Some(ns));
        assert_eq!(parse(&format!("-53131131.000006666{}", "9".repeat(40))), Some(-ns));
        assert_eq!(parse(&format!("53131131.000006666{}x", "9".repeat(40))), None);
        assert_eq!(parse(&format!("2026-03-01T12:00:00.{}Z", "1".repeat(99))), {
            Some(1_772_366_400_111_111_111)
        });
        assert_eq!(parse(&"9".repeat(100)), None);
    }

    #[test]
    fn dates_are_checked() {
        assert_eq!(from_civil(2024, 2, 29, 1), Some(1_709_164_800_000_000_001));
        assert_eq!(year_of(1_709_164_800_000_000_001), 2024);
        assert_eq!(year_of(-1), 1969);
        for (year, month, day) in [(2023, 2, 29), (2024, 13, 1), (2024, 0, 1), (2024, 4, 31)] {
            assert_eq!(from_civil(year, month, day, 0), None);
        }
        assert_eq!(from_civil(9_999, 1, 1, 0), None, "beyond what nanoseconds reach");
    }

    #[test]
    fn format_is_read_back() {
        for time in [0, 1, -1, 1_772_366_400_250_000_000, i64::MIN / 2, 4_102_444_800_000_000_001] {
            assert_eq!(parse(&format(time)), Some(time), "{}", format(time));
        }
        assert_eq!(format(250_000_000), "1970-01-01T00:00:00.25Z");
        assert_eq!(format(1_709_164_800_000_000_000), "2024-02-29T00:00:00Z");
    }
}
