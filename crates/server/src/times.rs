//! Times and durations as request arguments write them (VictoriaMetrics' timestamp formats).
//!
//! A time is: Unix seconds, milliseconds, microseconds or nanoseconds (told apart by magnitude,
//! seconds may have a fraction), an RFC 3339 time, a part of one (`2024`, `2024-03`,
//! `2024-03-29T01`, each optionally with `Z` or `+02:30`), `now`, `now-1h5m`, or a duration that
//! is taken back from now (`5m`, `-5m`). A time without a zone is UTC.
//!
//! Invariant: every function is total; what cannot be represented in nanoseconds is an error.

const NS_PER_S: i64 = 1_000_000_000;

/// Nanoseconds since 1970 of the time that `text` means when the clock shows `now_ns`.
pub(crate) fn parse_time_ns(text: &str, now_ns: i64) -> Result<i64, String> {
    let text = text.trim();
    if text == "now" {
        return Ok(now_ns);
    }
    if let Some(rest) = text.strip_prefix("now") {
        let (sign, duration) = match rest.split_at_checked(1) {
            Some(("-", d)) => (-1, d),
            Some(("+", d)) => (1, d),
            _ => return Err(bad_time(text)),
        };
        return shift(now_ns, parse_duration_ns(duration)?, sign);
    }
    if let Some(ns) = calendar(text) {
        return ns;
    }
    if let Some(ns) = unix(text) {
        return ns;
    }
    let magnitude = text.strip_prefix('-').unwrap_or(text);
    match parse_duration_ns(magnitude) {
        Ok(ns) => shift(now_ns, ns, -1),
        Err(_) => Err(bad_time(text)),
    }
}

/// Nanoseconds of a duration such as `1h5m`, `1.5s`, `250ms`, `2d`; a bare number is seconds.
pub(crate) fn parse_duration_ns(text: &str) -> Result<i64, String> {
    let whole = text.trim();
    let (negative, mut rest) = match whole.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, whole),
    };
    if rest.is_empty() {
        return Err(bad_duration(whole));
    }
    let mut total = 0f64;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
        let (number, tail) = rest.split_at(digits);
        let number: f64 = number.parse().map_err(|_| bad_duration(whole))?;
        let letters = tail.bytes().take_while(|b| !b.is_ascii_digit() && *b != b'.').count();
        let (unit, tail) = tail.split_at(letters);
        total += number * unit_ns(unit).ok_or_else(|| bad_duration(whole))?;
        rest = tail;
    }
    // 2^63 as f64 is exact; anything at or above it does not fit.
    if !total.is_finite() || total >= 9_223_372_036_854_775_808.0 {
        return Err(format!("the duration `{whole}` is longer than 292 years"));
    }
    let ns = total.round() as i64;
    Ok(if negative { -ns } else { ns })
}

fn unit_ns(unit: &str) -> Option<f64> {
    Some(match unit {
        "ns" => 1.0,
        "us" | "µs" | "μs" => 1e3,
        "ms" => 1e6,
        "s" | "" => 1e9,
        "m" => 60e9,
        "h" => 3_600e9,
        "d" => 86_400e9,
        "w" => 7.0 * 86_400e9,
        "y" => 365.0 * 86_400e9,
        _ => return None,
    })
}

fn shift(now_ns: i64, by_ns: i64, sign: i64) -> Result<i64, String> {
    by_ns
        .checked_mul(sign)
        .and_then(|by| now_ns.checked_add(by))
        .ok_or_else(|| "the time is outside of the years 1677 to 2262".to_owned())
}

/// A Unix time; `None` if the text is not a number. Four digits are a year, not seconds.
fn unix(text: &str) -> Option<Result<i64, String>> {
    if text.contains('.') {
        let seconds: f64 = text.parse().ok()?;
        let in_range = seconds.is_finite() && seconds.abs() < 9e9;
        let ns = seconds * 1e9;
        return Some(if in_range { Ok(ns.round() as i64) } else { Err(bad_time(text)) });
    }
    if !text.strip_prefix('-').unwrap_or(text).bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number: i64 = text.parse().ok()?;
    // The same magnitudes as for inserted records: seconds up to the year 2248, and so on.
    let factor = match number.unsigned_abs() {
        0..=0x1_FFFF_FFFF => NS_PER_S,
        0x2_0000_0000..=8_796_093_022_207 => 1_000_000,
        8_796_093_022_208..=9_007_199_254_740_991 => 1_000,
        _ => 1,
    };
    Some(number.checked_mul(factor).ok_or_else(|| bad_time(text)))
}

/// `YYYY[-MM[-DD[(T| )hh[:mm[:ss[.f]]]]]][Z|±hh:mm]`; `None` if the text has another shape.
fn calendar(text: &str) -> Option<Result<i64, String>> {
    let (civil, offset_s) = split_zone(text)?;
    let mut fields = [0i64, 1, 1, 0, 0, 0];
    let mut fraction_ns = 0i64;
    let mut rest = civil;
    let separators: [&[char]; 6] = [&[], &['-'], &['-'], &['T', ' ', 't'], &[':'], &[':']];
    for (i, (field, separator)) in fields.iter_mut().zip(separators).enumerate() {
        if i > 0 {
            if rest.is_empty() {
                break;
            }
            rest = rest.strip_prefix(separator)?;
        }
        let width = if i == 0 { 4 } else { 2 };
        let (digits, tail) = rest.split_at_checked(width)?;
        if !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        *field = digits.parse().ok()?;
        rest = tail;
    }
    if let Some(digits) = rest.strip_prefix(['.', ',']) {
        if digits.is_empty() || digits.len() > 9 || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        fraction_ns = format!("{digits:0<9}").parse().ok()?;
    } else if !rest.is_empty() {
        return None;
    }
    Some(to_ns(fields, fraction_ns, offset_s).ok_or_else(|| bad_time(text)))
}

/// Takes `Z` or `±hh:mm` off the end. The date's own hyphens are not a zone.
fn split_zone(text: &str) -> Option<(&str, i64)> {
    if let Some(civil) = text.strip_suffix(['Z', 'z']) {
        return Some((civil, 0));
    }
    let split = text.len().saturating_sub("+02:30".len());
    let Some((civil, zone)) = text.split_at_checked(split) else { return Some((text, 0)) };
    let zone_bytes = zone.as_bytes();
    let (Some(sign @ (b'+' | b'-')), Some(b':')) = (zone_bytes.first(), zone_bytes.get(3)) else {
        return Some((text, 0));
    };
    let hours: i64 = zone.get(1..3)?.parse().ok()?;
    let minutes: i64 = zone.get(4..6)?.parse().ok()?;
    let seconds = hours * 3_600 + minutes * 60;
    Some((civil, if *sign == b'-' { -seconds } else { seconds }))
}

fn to_ns(fields: [i64; 6], fraction_ns: i64, offset_s: i64) -> Option<i64> {
    let [year, month, day, hour, minute, second] = fields;
    let small = |n: i64| i8::try_from(n).ok();
    // A leap second is taken as the last second of its minute.
    let civil = jiff::civil::DateTime::new(
        i16::try_from(year).ok()?,
        small(month)?,
        small(day)?,
        small(hour)?,
        small(minute)?,
        small(second.min(59))?,
        0,
    )
    .ok()?;
    let zoned = civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    let seconds = zoned.timestamp().as_second().checked_sub(offset_s)?;
    seconds.checked_mul(NS_PER_S)?.checked_add(fraction_ns)
}

fn bad_time(text: &str) -> String {
    format!(
        "`{text}` is not a time between the years 1677 and 2262; write it like \
         2024-03-29T01:02:03Z, 2024-03-29, 1711674123 (Unix), now-15m or 5m"
    )
}

fn bad_duration(text: &str) -> String {
    format!("`{text}` is not a duration; write it like 30s, 5m, 1h30m, 250ms or 7d")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const NOW: i64 = 1_700_000_000 * NS_PER_S;

    #[test]
    fn every_documented_form_of_a_time_is_read() {
        for (text, ns) in [
            ("now", NOW),
            ("now-1h5m", NOW - 3_900 * NS_PER_S),
            ("now+1s", NOW + NS_PER_S),
            ("5m", NOW - 300 * NS_PER_S),
            ("-5m", NOW - 300 * NS_PER_S),
            ("1562529662", 1_562_529_662 * NS_PER_S),
            ("1562529662.5", 1_562_529_662_500_000_000),
            ("1562529662678", 1_562_529_662_678_000_000),
            ("1562529662678901", 1_562_529_662_678_901_000),
            ("1562529662678901234", 1_562_529_662_678_901_234),
            ("0", 0),
            ("1970", 0),
            ("2022-03-29T01:05:06.123456789Z", 1_648_515_906_123_456_789),
            ("2022-03-29T01:05:06+02:30", 1_648_506_906 * NS_PER_S),
            ("2022-03-29 01:05:06", 1_648_515_906 * NS_PER_S),
            ("2022-03-29T01:05", 1_648_515_900 * NS_PER_S),
            ("2022-03-29T01", 1_648_515_600 * NS_PER_S),
            ("2022-03-29Z", 1_648_512_000 * NS_PER_S),
            ("2022-03", 1_646_092_800 * NS_PER_S),
            ("2022+02:00", 1_640_988_000 * NS_PER_S),
        ] {
            assert_eq!(parse_time_ns(text, NOW), Ok(ns), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in
            ["", "yesterday", "now5m", "2022-13-01", "9999", "2022-3", "now-", "é", "1e300y"]
        {
            assert!(parse_time_ns(text, NOW).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_add_up() {
        for (text, ns) in [
            ("1h5m", 3_900 * NS_PER_S),
            ("1.5s", 1_500_000_000),
            ("250ms", 250_000_000),
            ("10", 10 * NS_PER_S),
            ("2d", 172_800 * NS_PER_S),
            ("7µs", 7_000),
            ("-1m", -60 * NS_PER_S),
        ] {
            assert_eq!(parse_duration_ns(text), Ok(ns), "{text}");
        }
        for text in ["", "-", "h", "5x", "1..2s", "1000000y"] {
            assert!(parse_duration_ns(text).is_err(), "{text}");
        }
    }
}
