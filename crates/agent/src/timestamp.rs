//! The time a plain line states about itself: which bytes at its start are a timestamp, and when
//! that was.
//!
//! Sans-I/O: the caller brings the present time (for formats without a year) and the zone (for
//! formats without an offset). Formats: RFC 3339 and its looser kin (`2024-01-02 15:04:05,123`,
//! `2024/01/02 15:04:05`), syslog (`Jan  2 15:04:05`, RFC 3164), Common Log Format
//! (`[02/Jan/2024:15:04:05 +0000]`), Apache errors (`[Tue Jan 02 15:04:05 2024]`) and klog
//! (`I0102 15:04:05.000000`). A syslog priority (`<34>`, with or without a version) may come first.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// How far into a line the start of its timestamp is looked for: `[02/Jan/…` of access logs
/// stands behind addresses and user names.
const CLF_SEARCH_BYTES_MAX: usize = 200;
/// A time without a year that would be later than now by more than this was last year.
const FUTURE_SLACK_NS: i64 = 2 * 86_400 * 1_000_000_000;
const NS: i64 = 1_000_000_000;

/// What is known about a line's time before reading it.
#[derive(Clone, Debug)]
pub struct TimeContext {
    /// The present, UTC nanoseconds since 1970: the year of formats that have none.
    pub now_ns: i64,
    /// Zone of formats that name none; `None` is UTC.
    pub zone: Option<TimeZone>,
}

impl TimeContext {
    /// A context in UTC.
    pub fn utc(now_ns: i64) -> Self {
        TimeContext { now_ns, zone: None }
    }

    /// The zone of this machine; UTC when that is what the machine is set to.
    pub fn system(now_ns: i64) -> Self {
        let zone = TimeZone::system();
        // "Etc/UTC" read from a file is no fixed offset to the library, but it never changes.
        let changes = zone.following(Timestamp::UNIX_EPOCH).next().is_some();
        let is_utc = !changes && zone.to_offset(Timestamp::now()).is_zero();
        TimeContext { now_ns, zone: if is_utc { None } else { Some(zone) } }
    }
}

/// A timestamp found in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// UTC nanoseconds since 1970.
    pub time_ns: i64,
    /// Number of bytes from the line's start to behind the timestamp.
    pub end: usize,
}

/// Finds the timestamp at the start of `line` (or, for access logs, in its first bracket).
pub fn find(line: &[u8], context: &TimeContext) -> Option<Found> {
    let start = skip_prefix(line);
    let rest = line.get(start..)?;
    let first = *rest.first()?;
    let found = match first {
        b'0'..=b'9' => iso(rest, context),
        b'A'..=b'Z' => syslog(rest, context).or_else(|| klog(rest, context)),
        b'[' => bracketed(rest, context),
        _ => None,
    };
    found
        .map(|found| Found { end: found.end + start, ..found })
        .or_else(|| clf_anywhere(line, context))
}

/// Reads the whole of `text` as one of the timestamps above.
pub fn parse(text: &str, context: &TimeContext) -> Option<i64> {
    let text = text.trim();
    find(text.as_bytes(), context).filter(|found| found.end == text.len()).map(|f| f.time_ns)
}

/// Length of what may stand before a timestamp: blanks and a syslog priority.
fn skip_prefix(line: &[u8]) -> usize {
    let mut at = line.iter().take_while(|b| **b == b' ').count().min(8);
    if line.get(at) == Some(&b'<')
        && let Some(close) = line.get(at..).and_then(|l| l.iter().take(6).position(|b| *b == b'>'))
        && close > 1
        && line.get(at + 1..at + close).is_some_and(|p| p.iter().all(u8::is_ascii_digit))
    {
        at += close + 1;
        if line.get(at) == Some(&b'1') && line.get(at + 1) == Some(&b' ') {
            at += 2;
        }
    }
    at
}

/// A cursor over the bytes of a candidate; every step fails softly.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn new(bytes: &'a [u8], at: usize) -> Self {
        Cursor { bytes, at }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn eat(&mut self, wanted: &[u8]) -> Option<u8> {
        let byte = self.peek().filter(|b| wanted.contains(b))?;
        self.at += 1;
        Some(byte)
    }

    /// Exactly `count` digits.
    fn digits(&mut self, count: usize) -> Option<i64> {
        let text = self.bytes.get(self.at..self.at + count)?;
        let mut value = 0i64;
        for byte in text {
            value = value * 10 + i64::from(byte.is_ascii_digit().then(|| byte - b'0')?);
        }
        self.at += count;
        Some(value)
    }

    /// `HH:MM:SS` and up to nine digits behind `.` or `,`: nanoseconds of the day.
    fn clock(&mut self) -> Option<i64> {
        let hour = self.digits(2).filter(|h| *h < 24)?;
        self.eat(b":")?;
        let minute = self.digits(2).filter(|m| *m < 60)?;
        self.eat(b":")?;
        let second = self.digits(2).filter(|s| *s <= 60)?;
        let mut ns = (hour * 3600 + minute * 60 + second.min(59)) * NS;
        let next_is_digit = self.bytes.get(self.at + 1).is_some_and(u8::is_ascii_digit);
        if next_is_digit && self.eat(b".,").is_some() {
            let mut unit = NS / 10;
            while let Some(digit) = self.peek().filter(u8::is_ascii_digit) {
                ns += i64::from(digit - b'0') * unit;
                unit /= 10;
                self.at += 1;
            }
        }
        Some(ns)
    }

    /// `Z`, `+hh:mm`, `+hhmm`, `+hh`, each also behind a blank, and ` UTC`/` GMT`: seconds.
    fn offset(&mut self) -> Option<i64> {
        let before = self.at;
        let blank = self.eat(b" ").is_some();
        let offset = self.offset_here(blank);
        if offset.is_none() {
            self.at = before;
        }
        offset
    }

    fn offset_here(&mut self, after_blank: bool) -> Option<i64> {
        let rest = self.bytes.get(self.at..)?;
        if rest.starts_with(b"UTC") || rest.starts_with(b"GMT") {
            self.at += 3;
            return Some(0);
        }
        if self.eat(b"Zz").is_some() {
            let ends = !self.peek().is_some_and(|b| b.is_ascii_alphanumeric());
            return ends.then_some(0);
        }
        let sign = if self.eat(b"+-")? == b'-' { -1 } else { 1 };
        let hours = self.digits(2).filter(|h| *h <= 18)?;
        let colon = self.eat(b":").is_some();
        let minutes = match self.digits(2) {
            Some(minutes) => minutes,
            // " -12" behind a blank is more likely a number than a zone.
            None if colon || after_blank => return None,
            None => 0,
        };
        (minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
    }

    fn month_name(&mut self) -> Option<i64> {
        let month = month_number(self.bytes.get(self.at..self.at + 3)?)?;
        self.at += 3;
        Some(month)
    }
}

fn month_number(name: &[u8]) -> Option<i64> {
    const MONTHS: [&[u8]; 12] = [
        b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov",
        b"Dec",
    ];
    MONTHS.iter().position(|month| *month == name).map(|at| at as i64 + 1)
}

/// `2024-01-02T15:04:05.123Z`, `2024-01-02 15:04:05,123`, `2024/01/02 15:04:05 +0100`.
fn iso(bytes: &[u8], context: &TimeContext) -> Option<Found> {
    let mut cursor = Cursor::new(bytes, 0);
    let year = cursor.digits(4)?;
    let separator = cursor.eat(b"-/")?;
    let month = cursor.digits(2)?;
    cursor.eat(&[separator])?;
    let day = cursor.digits(2)?;
    cursor.eat(b"Tt ")?;
    let clock = cursor.clock()?;
    let offset = cursor.offset();
    let time_ns = instant(year, month, day, clock, offset, context)?;
    Some(Found { time_ns, end: cursor.at })
}

/// `Jan  2 15:04:05`, with fractions of a second where a daemon writes them.
fn syslog(bytes: &[u8], context: &TimeContext) -> Option<Found> {
    let mut cursor = Cursor::new(bytes, 0);
    let month = cursor.month_name()?;
    cursor.eat(b" ")?;
    let day = if cursor.eat(b" ").is_some() { cursor.digits(1)? } else { cursor.digits(2)? };
    cursor.eat(b" ")?;
    let clock = cursor.clock()?;
    let time_ns = without_year(month, day, clock, context)?;
    Some(Found { time_ns, end: cursor.at })
}

/// `I0102 15:04:05.000000`: level letter, month and day.
fn klog(bytes: &[u8], context: &TimeContext) -> Option<Found> {
    let mut cursor = Cursor::new(bytes, 0);
    cursor.eat(b"IWEF")?;
    let month = cursor.digits(2)?;
    let day = cursor.digits(2)?;
    cursor.eat(b" ")?;
    let clock = cursor.clock()?;
    let time_ns = without_year(month, day, clock, context)?;
    Some(Found { time_ns, end: cursor.at })
}

/// `[2024-01-02T15:04:05Z]`, `[02/Jan/2024:15:04:05 +0000]`, `[Tue Jan 02 15:04:05.12 2024]`.
fn bracketed(bytes: &[u8], context: &TimeContext) -> Option<Found> {
    let inner = bytes.get(1..)?;
    let found = iso(inner, context)
        .or_else(|| clf(inner, context))
        .or_else(|| apache(inner, context))
        .or_else(|| syslog(inner, context))?;
    let closed = inner.get(found.end) == Some(&b']');
    Some(Found { end: found.end + 1 + usize::from(closed), ..found })
}

fn clf(bytes: &[u8], context: &TimeContext) -> Option<Found> {
    let mut cursor = Cursor::new(bytes, 0);
    let day = cursor.digits(2)?;
    cursor.eat(b"/")?;
    let month = cursor.month_name()?;
    cursor.eat(b"/")?;
    let year = cursor.digits(4)?;
    cursor.eat(b":")?;
    let clock = cursor.clock()?;
    let offset = cursor.offset();
    let time_ns = instant(year, month, day, clock, offset, context)?;
    Some(Found { time_ns, end: cursor.at })
}

fn apache(bytes: &[u8], context: &TimeContext) -> Option<Found> {
    let mut cursor = Cursor::new(bytes, 4);
    let weekday = bytes.get(..3)?.iter().all(u8::is_ascii_alphabetic);
    if !weekday || bytes.get(3) != Some(&b' ') {
        return None;
    }
    let month = cursor.month_name()?;
    cursor.eat(b" ")?;
    cursor.eat(b" ");
    let day = cursor.digits(2).or_else(|| cursor.digits(1))?;
    cursor.eat(b" ")?;
    let clock = cursor.clock()?;
    cursor.eat(b" ")?;
    let year = cursor.digits(4)?;
    let time_ns = instant(year, month, day, clock, None, context)?;
    Some(Found { time_ns, end: cursor.at })
}

/// An access log's `[02/Jan/2024:15:04:05 +0000]`, behind the client's address and name.
fn clf_anywhere(line: &[u8], context: &TimeContext) -> Option<Found> {
    let window = line.get(..line.len().min(CLF_SEARCH_BYTES_MAX))?;
    for open in memchr::memchr_iter(b'[', window) {
        if line.get(open + 3) != Some(&b'/') {
            continue;
        }
        if let Some(found) = clf(line.get(open + 1..)?, context) {
            let closed = line.get(open + 1 + found.end) == Some(&b']');
            return Some(Found { end: open + 1 + found.end + usize::from(closed), ..found });
        }
    }
    None
}

/// The instant of a civil time; without an offset it is in the context's zone.
fn instant(
    year: i64,
    month: i64,
    day: i64,
    clock_ns: i64,
    offset_s: Option<i64>,
    context: &TimeContext,
) -> Option<i64> {
    let days = days_from_civil(year, month, day)?;
    if let (None, Some(zone)) = (offset_s, &context.zone) {
        return in_zone(year, month, day, clock_ns, zone);
    }
    let seconds = days.checked_mul(86_400)?.checked_sub(offset_s.unwrap_or(0))?;
    seconds.checked_mul(NS)?.checked_add(clock_ns)
}

fn in_zone(year: i64, month: i64, day: i64, clock_ns: i64, zone: &TimeZone) -> Option<i64> {
    let seconds = clock_ns / NS;
    let civil = DateTime::new(
        i16::try_from(year).ok()?,
        i8::try_from(month).ok()?,
        i8::try_from(day).ok()?,
        i8::try_from(seconds / 3600).ok()?,
        i8::try_from(seconds / 60 % 60).ok()?,
        i8::try_from(seconds % 60).ok()?,
        i32::try_from(clock_ns % NS).ok()?,
    )
    .ok()?;
    let instant = zone.to_ambiguous_timestamp(civil).compatible().ok()?;
    i64::try_from(instant.as_nanosecond()).ok()
}

/// Puts a month and day into the latest year in which they are not in the future.
fn without_year(month: i64, day: i64, clock_ns: i64, context: &TimeContext) -> Option<i64> {
    let this_year = year_of(context.now_ns);
    // 29 February may be up to eight years back (around 1900 and 2100).
    (0..=8)
        .filter_map(|back| instant(this_year + 1 - back, month, day, clock_ns, None, context))
        .find(|time_ns| *time_ns <= context.now_ns.saturating_add(FUTURE_SLACK_NS))
}

/// Days since 1970-01-01 of a proleptic Gregorian date; `None` when there is no such day.
fn days_from_civil(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i64::from(leap),
        _ => return None,
    };
    if !(1..=length).contains(&day) {
        return None;
    }
    // Count from 1 March, so that the leap day ends the year.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(era * 146_097 + day_of_era - 719_468)
}

fn year_of(time_ns: i64) -> i64 {
    let days = time_ns.div_euclid(86_400 * NS) + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    year_of_era + era * 400 + i64::from(day_of_year >= 306)
}
