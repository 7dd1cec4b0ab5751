//! Rounds values down to buckets.

use std::net::Ipv4Addr;

use jiff::Timestamp;
use jiff::civil::date;
use jiff::tz::TimeZone;
use lodge_record::schema;
use lodge_segment::predicate::{DAY_NS, parse_ipv4, parse_number};

use super::natural;
use crate::logsql::Bucket;
use crate::scan::bucket_floor;

/// A week of time.
pub(super) const WEEK_NS: i64 = 7 * DAY_NS;
/// 1970-01-01 was a Thursday; weeks begin on Monday.
pub(super) const WEEK_OFFSET_NS: i64 = 3 * DAY_NS;
/// Most decimal places of a width that are looked at.
const DIGITS_MAX: i32 = 13;
/// What two numbers may differ by and still be meant as the same.
const TINY: f64 = 1e-9;

/// The start of the bucket of a time.
pub(crate) fn of_time(bucket: &Bucket, time_ns: i64) -> i64 {
    match *bucket {
        Bucket::Step { step_ns, offset_ns, .. } => bucket_floor(time_ns, step_ns, offset_ns),
        Bucket::Week { offset_ns } => {
            bucket_floor(time_ns, WEEK_NS, offset_ns.saturating_add(WEEK_OFFSET_NS))
        }
        Bucket::Month { offset_ns } => calendar(time_ns, offset_ns, false),
        Bucket::Year { offset_ns } => calendar(time_ns, offset_ns, true),
        Bucket::Ipv4 { .. } => time_ns,
    }
}

fn calendar(time_ns: i64, offset_ns: i64, year: bool) -> i64 {
    let local = time_ns.saturating_add(offset_ns);
    let start = Timestamp::from_nanosecond(i128::from(local)).ok().and_then(|timestamp| {
        let day = timestamp.to_zoned(TimeZone::UTC).date();
        let first = date(day.year(), if year { 1 } else { day.month() }, 1);
        let first = first.to_zoned(TimeZone::UTC).ok()?.timestamp().as_nanosecond();
        i64::try_from(first).ok()
    });
    // Only the first month that nanoseconds reach has no representable start.
    start.unwrap_or(i64::MIN).saturating_sub(offset_ns)
}

/// The bucket of a value that is no time, as text: numbers by number, durations and sizes too, times
/// in text and addresses; what is none of these is its own bucket.
pub(crate) fn of_text(bucket: &Bucket, text: &str) -> String {
    match *bucket {
        Bucket::Ipv4 { bits } => match parse_ipv4(text) {
            Some(address) => {
                let host = u32::MAX.checked_shr(u32::from(bits)).unwrap_or(0);
                Ipv4Addr::from(address & !host).to_string()
            }
            None => text.to_owned(),
        },
        Bucket::Step { step, step_ns, offset_ns } => {
            of_number(text, step, step_ns, offset_ns).unwrap_or_else(|| by_time(bucket, text))
        }
        Bucket::Week { offset_ns } => of_number(text, WEEK_NS as f64, WEEK_NS, offset_ns)
            .unwrap_or_else(|| by_time(bucket, text)),
        Bucket::Month { .. } | Bucket::Year { .. } => by_time(bucket, text),
    }
}

fn by_time(bucket: &Bucket, text: &str) -> String {
    match natural::moment(text) {
        Some(time_ns) => lodge_record::time::format(of_time(bucket, time_ns)),
        None => text.to_owned(),
    }
}

/// The bucket of a number, of a duration or size as a number; of an address as an address.
fn of_number(text: &str, step: f64, step_whole: i64, offset: i64) -> Option<String> {
    let whole = step == step_whole as f64;
    if whole && let Ok(number) = text.parse::<i64>() {
        return Some(bucket_floor(number, step_whole, offset).to_string());
    }
    let Some(number) = parse_number(text) else {
        let address = parse_ipv4(text).filter(|_| whole)?;
        let start = bucket_floor(i64::from(address), step_whole, offset).max(0);
        return Some(Ipv4Addr::from(u32::try_from(start).unwrap_or(u32::MAX)).to_string());
    };
    // In units in which the width is whole, so that 0.3 is a multiple of 0.1.
    let unit = (0..DIGITS_MAX).map(|digits| 10f64.powi(digits)).find(|unit| {
        let width = step * unit;
        (width - width.round()).abs() < TINY
    });
    let unit = unit.unwrap_or(1.0);
    let offset = offset as f64;
    let steps = (number + offset) * unit / (step * unit);
    let near = steps.round();
    let steps = if (steps - near).abs() < TINY { near } else { steps.floor() };
    let start = steps * (step * unit) - offset * unit;
    let start = if unit > 1.0 { start.round() / unit } else { start };
    // Minus zero is zero.
    Some(schema::float_text(start + 0.0))
}
