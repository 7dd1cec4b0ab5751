//! The time a plain line states about itself: which bytes at its start are a timestamp, and when
//! that was.
//!
//! Sans-I/O: the caller brings the present time (for formats without a year) and the zone (for
//! formats without an offset). Formats: RFC 3339 and its looser kin (`2024-01-02 15:04:05,123`,
//! `2024/01/02 15:04:05`), syslog (`Jan  2 15:04:05`, with a year or without), Common Log Format
//! (`[02/Jan/2024:15:04:05 +0000]`), Apache errors and ctime (`Tue Jan 02 15:04:05 2024`), RFC 2822
//! (`Tue, 02 Jan 2024 15:04:05 +0000`), Tomcat (`02-Jan-2024 15:04:05.123`), Redis
//! (`1:M 02 Jan 2024 15:04:05.123`), java.util.logging (`Jan 02, 2024 3:04:05 PM`), klog and glog
//! (`I0102 15:04:05.000000`), and numbers since 1970 (`1704207845.123`) in seconds to nanoseconds.
//! A syslog priority (`<34>`, with or without a version) may come first.
//!
//! `01/02/2024` is left alone: in half of the world it is in January, in the other half in
//! February. Zones that are only named (`CET`) are left alone too, but for `UTC` and `GMT`.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// How far into a line the start of its timestamp is looked for: `[02/Jan/…` of access logs
/// stands behind addresses and user names.
const CLF_SEARCH_BYTES_MAX: usize = 200;
/// A time without a year that would be later than now by more than this was last year.
const FUTURE_SLACK_NS: i64 = 2 * 86_400 * 1_000_000_000;
/// Numbers since 1970 before 2001-09-09 have fewer digits.
const EPOCH_NS_MIN: i64 = 1_000_000_000 * NS;
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

/// The zone of a configuration: a name of the system's zone files (`Europe/Berlin`), `UTC`, or a
/// rule as POSIX writes it (`CET-1CEST,M3.5.0,M10.5.0/3`).
pub fn zone(name: &str) -> Option<TimeZone> {
    const FOLDERS: [&str; 3] =
        ["/usr/share/zoneinfo", "/usr/lib/zoneinfo", "/usr/share/lib/zoneinfo"];
    /// Largest zone file that is read.
    const ZONE_BYTES_MAX: u64 = 1 << 20;
    if matches!(name, "UTC" | "Etc/UTC" | "GMT" | "Z") {
        return Some(TimeZone::UTC);
    }
    let plain = |part: &str| !part.is_empty() && !part.starts_with('.');
    let in_folder = |folder: &&str| {
        let path = std::path::Path::new(folder).join(name);
        let small = std::fs::metadata(&path).is_ok_and(|m| m.len() <= ZONE_BYTES_MAX);
        let bytes = std::fs::read(path).ok().filter(|_| small)?;
        TimeZone::tzif(name, &bytes).ok()
    };
    let of_file =
        if name.split('/').all(plain) { FOLDERS.iter().find_map(in_folder) } else { None };
    of_file.or_else(|| TimeZone::posix(name).ok())
}

/// A timestamp found in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// UTC nanoseconds since 1970.
    pub time_ns: i64,
    /// Number of bytes from the line's start to behind the timestamp.
    pub end: usize,
    /// It names its zone, or is a number since 1970: no setting was needed to read it.
    pub zoned: bool,
    /// It stands in brackets behind a client's name, as in access logs.
    pub is_access: bool,
}

impl Found {
    fn new(time_ns: i64, end: usize, zoned: bool) -> Found {
        Found { time_ns, end, zoned, is_access: false }
    }
}

/// Finds the timestamp at the start of `line` (or, for access logs, in its first bracket).
pub fn find(line: &[u8], context: &TimeContext) -> Option<Found> {
    let start = skip_prefix(line);
    let rest = line.get(start..)?;
    let first = *rest.first()?;
    let found = match first {
        b'0'..=b'9' => iso(rest, context).or_else(|| digits_first(rest, context)),
        b'A'..=b'Z' => syslog(rest, context)
            .or_else(|| klog(rest, context))
            .or_else(|| weekday_first(rest, context)),
        b'[' => bracketed(rest, context),
        _ => None,
    };
    found
        .map(|found| Found { end: found.end + start, ..found })
        .or_else(|| clf_anywhere(line, context))
}

/// Reads the whole of `text` as one of the timestamps above.
pub fn parse(text: &str, context: &TimeContext) -> Option<Found> {
    let text = text.trim();
    find(text.as_bytes(), context).filter(|found| found.end == text.len())
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
            let digit = i64::from(byte.is_ascii_digit().then(|| byte - b'0')?);
            value = value.checked_mul(10)?.checked_add(digit)?;
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
        let ns = (hour * 3600 + minute * 60 + second.min(59)) * NS;
        Some(ns + self.fraction().unwrap_or(0))
    }

    /// Digits behind `.` or `,`: nanoseconds.
    fn fraction(&mut self) -> Option<i64> {
        self.bytes.get(self.at + 1).filter(|b| b.is_ascii_digit())?;
        self.eat(b".,")?;
        let (mut ns, mut unit) = (0, NS / 10);
        while let Some(digit) = self.peek().filter(u8::is_ascii_digit) {
            ns += i64::from(digit - b'0') * unit;
            unit /= 10;
            self.at += 1;
        }
        Some(ns)
    }

    /// `3:04:05 PM`: nanoseconds of the day.
    fn clock_of_halves(&mut self) -> Option<i64> {
        let hour = self.digits(2).or_else(|| self.digits(1)).filter(|h| (1..=12).contains(h))?;
        self.eat(b":")?;
        let minute = self.digits(2).filter(|m| *m < 60)?;
        self.eat(b":")?;
        let second = self.digits(2).filter(|s| *s <= 60)?;
        self.eat(b" ")?;
        let half = if self.eat(b"AP")? == b'A' { 0 } else { 12 };
        self.eat(b"M")?;
        Some(((hour % 12 + half) * 3600 + minute * 60 + second.min(59)) * NS)
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
    let separator = cursor.eat(b"-/.")?;
    let month = cursor.digits(2)?;
    cursor.eat(&[separator])?;
    let day = cursor.digits(2)?;
    cursor.eat(b"Tt _")?;
    let clock = cursor.clock()?;
    let offset = cursor.offset();
    let time_ns = instant(year, month, day, clock, offset, context)?;
    Some(Found::new(time_ns, cursor.at, offset.is_some()))
}

/// `Jan  2 15:04:05`, with fractions of a second where a daemon writes them, and with a year:
/// `Jan  2 2024 15:04:05`, `Jan 02, 2024 3:04:05 PM`.
fn syslog(bytes: &[u8], context: &TimeContext) -> Option<Found> {
    let mut cursor = Cursor::new(bytes, 0);
    let month = cursor.month_name()?;
    cursor.eat(b" ")?;
    let day = if cursor.eat(b" ").is_some() { cursor.digits(1)? } else { cursor.digits(2)? };
    let comma = cursor.eat(b",").is_some();
    cursor.eat(b" ")?;
    if bytes.get(cursor.at + 2) == Some(&b':') && !comma {
        let clock = cursor.clock()?;
        let time_ns = without_year(month, day, clock, context)?;
        return Some(Found::new(time_ns, cursor.at, false));
    }
    let year = cursor.digits(4)?;
    cursor.eat(b" ")?;
    let clock = if comma { cursor.clock_of_halves()? } else { cursor.clock()? };
    let offset = cursor.offset();
    let time_ns = instant(year, month, day, clock, offset, context)?;
    Some(Found::new(time_ns, cursor.at, offset.is_some()))
}

/// `I0102 15:04:05.000000`: level letter, month and day, of glog also with the year before them.
fn klog(bytes: &[u8], context: &TimeContext) -> Option<Found> {
    let mut cursor = Cursor::new(bytes, 0);
    cursor.eat(b"IWEF")?;
    let year = if bytes.get(9) == Some(&b' ') { Some(cursor.digits(4)?) } else { None };
    let month = cursor.digits(2)?;
    let day = cursor.digits(2)?;
    cursor.eat(b" ")?;
    let clock = cursor.clock()?;
    let time_ns = match year {
        Some(year) => instant(year, month, day, clock, None, context)?,
        None => without_year(month, day, clock, context)?,
    };
    Some(Found::new(time_ns, cursor.at, false))
}

/// What begins with a digit and is not written from the year on.
fn digits_first(bytes: &[u8], context: &TimeContext) -> Option<Found> {
    day_first(bytes, context).or_else(|| redis(bytes, context)).or_else(|| epoch(bytes, context))
}

/// `02-Jan-2024 15:04:05.123`, `02 Jan 2024 15:04:05 +0000`, `2 Jan 2024 15:04:05`.
fn day_first(bytes: &[u8], context: &TimeContext) -> Option<Found> {
    let mut cursor = Cursor::new(bytes, 0);
    let day = cursor.digits(2).or_else(|| cursor.digits(1))?;
    let separator = cursor.eat(b"- ")?;
    let month = cursor.month_name()?;
    cursor.eat(&[separator])?;
    let year = cursor.digits(4)?;
    cursor.eat(b" ")?;
    let clock = cursor.clock()?;
    let offset = cursor.offset();
    let time_ns = instant(year, month, day, clock, offset, context)?;
    Some(Found::new(time_ns, cursor.at, offset.is_some()))
}

/// `1:M 02 Jan 2024 15:04:05.123`: process and role come first.
fn redis(bytes: &[u8], context: &TimeContext) -> Option<Found> {
    let digits = bytes.iter().take(10).take_while(|b| b.is_ascii_digit()).count();
    let mut cursor = Cursor::new(bytes, digits);
    cursor.eat(b":")?;
    cursor.eat(b"MSCX")?;
    cursor.eat(b" ")?;
    let found = day_first(bytes.get(cursor.at..)?, context)?;
    Some(Found { end: found.end + cursor.at, ..found })
}

/// A number since 1970 in seconds (also with a fraction), milli-, micro- or nanoseconds, by its
/// digits; only of this century and not later than now, as other numbers may stand there too.
fn epoch(bytes: &[u8], context: &TimeContext) -> Option<Found> {
    let digits = bytes.iter().take(20).take_while(|b| b.is_ascii_digit()).count();
    let unit_ns = match digits {
        10 => NS,
        13 => 1_000_000,
        16 => 1_000,
        19 => 1,
        _ => return None,
    };
    let mut cursor = Cursor::new(bytes, 0);
    let mut time_ns = cursor.digits(digits)?.checked_mul(unit_ns)?;
    if digits == 10 && cursor.peek() == Some(b'.') {
        time_ns = time_ns.checked_add(cursor.fraction()?)?;
    }
    let ends = cursor.peek().is_none_or(|b| matches!(b, b' ' | b'\t' | b']' | b',' | b':' | b'|'));
    let latest = context.now_ns.saturating_add(FUTURE_SLACK_NS);
    let plausible = time_ns >= EPOCH_NS_MIN && (context.now_ns == 0 || time_ns <= latest);
    (ends && plausible).then(|| Found::new(time_ns, cursor.at, true))
}

/// `Tue, 02 Jan 2024 15:04:05 +0000` and `Tue Jan  2 15:04:05 2024`.
fn weekday_first(bytes: &[u8], context: &TimeContext) -> Option<Found> {
    if bytes.get(3) == Some(&b',') && bytes.get(4) == Some(&b' ') {
        let found = day_first(bytes.get(5..)?, context)?;
        return Some(Found { end: found.end + 5, ..found });
    }
    apache(bytes, context)
}

/// `[2024-01-02T15:04:05Z]`, `[02/Jan/2024:15:04:05 +0000]`, `[Tue Jan 02 15:04:05.12 2024]`.
fn bracketed(bytes: &[u8], context: &TimeContext) -> Option<Found> {
    let inner = bytes.get(1..)?;
    let found = iso(inner, context)
        .or_else(|| clf(inner, context))
        .or_else(|| weekday_first(inner, context))
        .or_else(|| syslog(inner, context))
        .or_else(|| digits_first(inner, context))?;
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
    Some(Found::new(time_ns, cursor.at, offset.is_some()))
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
    // date(1) writes the zone before the year.
    let offset = cursor.offset();
    cursor.eat(b" ")?;
    let year = cursor.digits(4)?;
    let time_ns = instant(year, month, day, clock, offset, context)?;
    Some(Found::new(time_ns, cursor.at, offset.is_some()))
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
            let end = open + 1 + found.end + usize::from(closed);
            return Some(Found { end, is_access: open > 0, ..found });
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
