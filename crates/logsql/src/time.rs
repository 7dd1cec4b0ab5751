//! `_time:…` filters.
//!
//! Deviation from VictoriaLogs: a time without a zone is UTC, not the host's local time.

use jiff::civil::{Date, DateTime, Time};
use jiff::{Span, Timestamp};
use lodge_segment::predicate::{DAY_NS, Predicate, parse_duration_ns};

use super::cursor::{Cursor, shorten};
use crate::error::SyntaxError;

const FORMS: &str = "5m, >1h, 2026-03-01, 2026-03-01T12:30:00Z, >=2026-03-01, \
                     [2026-03-01, 2026-03-02) or now-1h";

/// A span of time: a moment of some precision is the whole year, day, second, … it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Moment {
    first_ns: i64,
    last_ns: i64,
}

/// Parses what follows `_time:`.
pub(super) fn parse_time_filter(cursor: &mut Cursor<'_>) -> Result<Predicate, SyntaxError> {
    if cursor.eat_keyword("day_range") {
        return day_range(cursor);
    }
    if cursor.eat_keyword("week_range") {
        return week_range(cursor);
    }
    if cursor.peek() == Some('*') {
        cursor.advance(1);
        return Ok(Predicate::All);
    }
    let now_ns = cursor.now_ns;
    // `_time:offset 1h` alone: everything until then.
    if cursor.peek_bare().eq_ignore_ascii_case("offset") {
        let offset = offset(cursor)?;
        return Ok(time(i64::MIN, now_ns.saturating_sub(offset)));
    }
    let (min_ns, max_ns) = match cursor.peek() {
        Some('[' | '(') => range(cursor)?,
        Some('<' | '>' | '=') => comparison(cursor)?,
        _ => {
            let start = cursor.at();
            let text = raw(cursor);
            match parse_duration_ns(text) {
                // (now-duration, now]
                Some(length) => (now_ns.saturating_sub(length).saturating_add(1), now_ns),
                None => {
                    let moment = moment(cursor, start, text)?;
                    (moment.first_ns, moment.last_ns)
                }
            }
        }
    };
    let offset = offset(cursor)?;
    let shift = |bound: i64| match bound {
        i64::MIN | i64::MAX => bound,
        other => other.saturating_sub(offset),
    };
    Ok(time(shift(min_ns), shift(max_ns)))
}

fn time(min_ns: i64, max_ns: i64) -> Predicate {
    if min_ns > max_ns { Predicate::None } else { Predicate::Time { min_ns, max_ns } }
}

/// An optional `offset 1h`; 0 if there is none.
fn offset(cursor: &mut Cursor<'_>) -> Result<i64, SyntaxError> {
    let before = cursor.at();
    cursor.skip_space();
    if !cursor.eat_keyword("offset") {
        cursor.go_to(before);
        return Ok(0);
    }
    cursor.skip_space();
    let start = cursor.at();
    let word = cursor.expect_word("a duration after `offset`")?;
    parse_duration_ns(&word.text).ok_or_else(|| {
        cursor.error_at(start, format!("`{}` is not a duration like 5m", shorten(&word.text)))
    })
}

/// The text up to a space or a sign that can end a time.
fn raw<'t>(cursor: &mut Cursor<'t>) -> &'t str {
    let rest = cursor.rest();
    if let Some(quote @ ('"' | '\'' | '`')) = rest.chars().next()
        && let Some(inner) = rest.get(1..).and_then(|tail| tail.split_once(quote))
    {
        cursor.advance(inner.0.len() + 2);
        return inner.0;
    }
    let ends = |c: char| c.is_whitespace() || "()[]|,#".contains(c);
    let length = rest.find(ends).unwrap_or(rest.len());
    cursor.advance(length);
    rest.get(..length).unwrap_or_default()
}

fn range(cursor: &mut Cursor<'_>) -> Result<(i64, i64), SyntaxError> {
    let min_open = cursor.eat("(");
    if !min_open {
        cursor.eat("[");
    }
    cursor.skip_space();
    let start = cursor.at();
    let text = raw(cursor);
    let min = moment(cursor, start, text)?;
    cursor.expect(",", "the beginning of the time range")?;
    cursor.skip_space();
    let start = cursor.at();
    let text = raw(cursor);
    let max = moment(cursor, start, text)?;
    cursor.skip_space();
    let max_open = cursor.eat(")");
    if !max_open {
        cursor.expect("]", "the end of the time range")?;
    }
    Ok((
        if min_open { min.last_ns.saturating_add(1) } else { min.first_ns },
        if max_open { max.first_ns.saturating_sub(1) } else { max.last_ns },
    ))
}

fn comparison(cursor: &mut Cursor<'_>) -> Result<(i64, i64), SyntaxError> {
    let above = cursor.eat(">");
    let below = !above && cursor.eat("<");
    let included = cursor.eat("=");
    cursor.skip_space();
    let start = cursor.at();
    let text = raw(cursor);
    // `>1h` means older than an hour, as the documentation has it: an age, not a moment.
    if let Some(age) = parse_duration_ns(text) {
        let edge = cursor.now_ns.saturating_sub(age);
        return Ok(match (above, included) {
            (true, true) => (i64::MIN, edge),
            (true, false) => (i64::MIN, edge.saturating_sub(1)),
            (false, true) => (edge, i64::MAX),
            (false, false) => (edge.saturating_add(1), i64::MAX),
        });
    }
    let moment = moment(cursor, start, text)?;
    Ok(match (above, below, included) {
        (true, _, true) => (moment.first_ns, i64::MAX),
        (true, _, false) => (moment.last_ns.saturating_add(1), i64::MAX),
        (_, true, true) => (i64::MIN, moment.last_ns),
        (_, true, false) => (i64::MIN, moment.first_ns.saturating_sub(1)),
        (false, false, _) => (moment.first_ns, moment.last_ns),
    })
}

fn moment(cursor: &Cursor<'_>, start: usize, text: &str) -> Result<Moment, SyntaxError> {
    parse_moment(text, cursor.now_ns).ok_or_else(|| {
        let found =
            if text.is_empty() { cursor.describe() } else { format!("`{}`", shorten(text)) };
        cursor.error_at(start, format!("expected a time like {FORMS}, not {found}"))
    })
}

/// A moment: `now`, `now-5m`, an age (`5m`), a date or time of any precision with or without a
/// zone, or a number since 1970.
fn parse_moment(text: &str, now_ns: i64) -> Option<Moment> {
    if let Some(shift) = text.strip_prefix("now") {
        let at = match shift {
            "" => now_ns,
            _ => now_ns.saturating_add(parse_duration_ns(shift)?),
        };
        return Some(Moment { first_ns: at, last_ns: at });
    }
    if let Some(age) = parse_duration_ns(text) {
        let at = now_ns.saturating_sub(age);
        return Some(Moment { first_ns: at, last_ns: at });
    }
    calendar_moment(text).or_else(|| {
        // Numbers since 1970, and the forms that shippers send.
        let at = lodge_record::time::parse(text)?;
        Some(Moment { first_ns: at, last_ns: at })
    })
}

/// `YYYY[-MM[-DD[THH[:MM[:SS[.fraction]]]]]]` with an optional zone.
fn calendar_moment(text: &str) -> Option<Moment> {
    let (text, offset_ns) = split_zone(text)?;
    let (date, clock) = match text.split_once(['T', 't', ' ']) {
        Some((date, clock)) => (date, Some(clock)),
        None => (text, None),
    };
    let mut parts = date.splitn(3, '-');
    let year: i16 = digits(parts.next()?, 4)?;
    let month: Option<i8> =
        parts.next().map(|part| digits(part, 2)).map_or(Some(None), |m| m.map(Some))?;
    let day: Option<i8> =
        parts.next().map(|part| digits(part, 2)).map_or(Some(None), |d| d.map(Some))?;
    let first = Date::new(year, month.unwrap_or(1), day.unwrap_or(1)).ok()?;
    let midnight = first.to_datetime(Time::midnight());
    let (first, length) = match (month, day, clock) {
        (None, _, None) => (midnight, Span::new().years(1)),
        (Some(_), None, None) => (midnight, Span::new().months(1)),
        (Some(_), Some(_), None) => (midnight, Span::new().days(1)),
        (Some(_), Some(_), Some(clock)) => {
            let (time, length) = clock_moment(clock)?;
            (first.to_datetime(time), length)
        }
        _ => return None,
    };
    let next = first.checked_add(length).ok()?;
    Some(Moment {
        first_ns: utc_ns(first)?.checked_sub(offset_ns)?,
        last_ns: utc_ns(next)?.checked_sub(offset_ns)?.checked_sub(1)?,
    })
}

/// `HH[:MM[:SS[.fraction]]]` and the length of what it names.
fn clock_moment(clock: &str) -> Option<(Time, Span)> {
    let mut parts = clock.splitn(3, ':');
    let hour: i8 = digits(parts.next()?, 2)?;
    let Some(minute) = parts.next() else {
        return Some((Time::new(hour, 0, 0, 0).ok()?, Span::new().hours(1)));
    };
    let minute: i8 = digits(minute, 2)?;
    let Some(second) = parts.next() else {
        return Some((Time::new(hour, minute, 0, 0).ok()?, Span::new().minutes(1)));
    };
    let (second, fraction) = match second.split_once(['.', ',']) {
        Some((second, fraction)) => (second, Some(fraction)),
        None => (second, None),
    };
    let second: i8 = digits(second, 2)?;
    let Some(fraction) = fraction else {
        return Some((Time::new(hour, minute, second, 0).ok()?, Span::new().seconds(1)));
    };
    let kept = fraction.get(..fraction.len().min(9))?;
    let places = u32::try_from(kept.len()).ok()?;
    let unit = 10i32.checked_pow(9u32.checked_sub(places)?)?;
    let value: i32 = digits(kept, kept.len())?;
    let time = Time::new(hour, minute, second, value.checked_mul(unit)?).ok()?;
    Some((time, Span::new().nanoseconds(i64::from(unit))))
}

/// A number of exactly `width` digits.
fn digits<T: std::str::FromStr>(text: &str, width: usize) -> Option<T> {
    let plain = text.len() == width && text.bytes().all(|byte| byte.is_ascii_digit());
    if plain { text.parse().ok() } else { None }
}

/// Takes `Z`, `+hh:mm` or `-hh:mm` off the end; gives its offset in nanoseconds.
fn split_zone(text: &str) -> Option<(&str, i64)> {
    if let Some(rest) = text.strip_suffix(['Z', 'z']) {
        return Some((rest, 0));
    }
    let Some(start) = text.len().checked_sub(6) else {
        return Some((text, 0));
    };
    let (rest, zone) = match text.split_at_checked(start) {
        Some(split) => split,
        None => return Some((text, 0)),
    };
    let (sign, zone) = match zone.split_at_checked(1) {
        Some(("+", zone)) => (1, zone),
        Some(("-", zone)) => (-1, zone),
        _ => return Some((text, 0)),
    };
    // `2026-02-03` ends in six characters that begin with a sign and have no colon.
    let Some((hours, minutes)) = zone.split_once(':') else {
        return Some((text, 0));
    };
    let (hours, minutes): (i64, i64) = (digits(hours, 2)?, digits(minutes, 2)?);
    (hours < 24 && minutes < 60)
        .then_some((rest, sign * (hours * 3600 + minutes * 60) * 1_000_000_000))
}

fn utc_ns(time: DateTime) -> Option<i64> {
    let timestamp: Timestamp = time.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
    i64::try_from(timestamp.as_nanosecond()).ok()
}

/// `day_range[08:00, 18:00)`, the name already read.
fn day_range(cursor: &mut Cursor<'_>) -> Result<Predicate, SyntaxError> {
    cursor.skip_space();
    let start = cursor.at();
    let (min_open, [min, max], max_open) = bracketed(cursor, "day_range[08:00, 18:00)")?;
    let (Some(min), Some(max)) = (time_of_day(&min), time_of_day(&max)) else {
        return Err(cursor.error_at(start, "expected times of day, as in day_range[08:00, 18:00)"));
    };
    let (min_ns, max_ns) = (min + i64::from(min_open), max - i64::from(max_open));
    let offset_ns = offset(cursor)?;
    if min_ns > max_ns || min_ns >= DAY_NS {
        return Ok(Predicate::None);
    }
    Ok(Predicate::DayRange { min_ns, max_ns, offset_ns })
}

/// The nanosecond of the day of `HH:MM[:SS[.fraction]]`.
fn time_of_day(text: &str) -> Option<i64> {
    if text == "24:00" {
        return Some(DAY_NS);
    }
    let (time, _) = clock_moment(text).filter(|_| text.contains(':'))?;
    let seconds = (i64::from(time.hour()) * 60 + i64::from(time.minute())) * 60;
    Some((seconds + i64::from(time.second())) * 1_000_000_000 + i64::from(time.subsec_nanosecond()))
}

/// `week_range[Mon, Fri]`, the name already read.
fn week_range(cursor: &mut Cursor<'_>) -> Result<Predicate, SyntaxError> {
    cursor.skip_space();
    let start = cursor.at();
    let (min_open, [min, max], max_open) = bracketed(cursor, "week_range[Mon, Fri]")?;
    let names = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];
    let day = |text: &str| {
        let text = text.to_ascii_lowercase();
        let known = |name: &&str| text.len() >= 3 && name.starts_with(text.as_str());
        names.iter().position(known)
    };
    let (Some(min), Some(max)) = (day(&min), day(&max)) else {
        return Err(cursor.error_at(start, "expected days of the week, as in week_range[Mon, Fri]"));
    };
    let (min, max) = (min + usize::from(min_open), (max + 1).saturating_sub(usize::from(max_open)));
    let days = (min..max).filter(|day| *day < 7).fold(0u8, |days, day| days | (1 << day));
    let offset_ns = offset(cursor)?;
    Ok(if days == 0 { Predicate::None } else { Predicate::WeekRange { days, offset_ns } })
}

/// `[a, b)` with any brackets: whether the ends are left out, and their texts.
fn bracketed(
    cursor: &mut Cursor<'_>,
    example: &str,
) -> Result<(bool, [String; 2], bool), SyntaxError> {
    cursor.skip_space();
    let min_open = cursor.eat("(");
    if !min_open && !cursor.eat("[") {
        let found = cursor.describe();
        return Err(cursor.error(format!("expected `[` or `(` as in {example}, not {found}")));
    }
    cursor.skip_space();
    let min = raw(cursor).to_owned();
    cursor.expect(",", "the beginning of the range")?;
    cursor.skip_space();
    let max = raw(cursor).to_owned();
    cursor.skip_space();
    let max_open = cursor.eat(")");
    if !max_open {
        cursor.expect("]", "the end of the range")?;
    }
    Ok((min_open, [min, max], max_open))
}
