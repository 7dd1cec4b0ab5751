//! Rounds values down to buckets.

use jiff::Timestamp;
use jiff::civil::date;
use jiff::tz::TimeZone;
use lodge_record::schema;
use lodge_segment::predicate::{parse_ipv4, parse_number};

use crate::logsql::Bucket;
use crate::scan::bucket_floor;

/// The start of the bucket of a time.
pub(crate) fn of_time(bucket: &Bucket, time_ns: i64) -> i64 {
    match *bucket {
        Bucket::Step { step_ns, offset_ns, .. } => bucket_floor(time_ns, step_ns, offset_ns),
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

/// The bucket of a value that is no time, as text: numbers by number, durations and sizes too;
/// what is no number is its own bucket.
pub(crate) fn of_text(bucket: &Bucket, text: &str) -> String {
    match *bucket {
        Bucket::Step { step, offset_ns, .. } => match parse_number(text) {
            Some(number) => {
                let offset = offset_ns as f64;
                schema::float_text(((number + offset) / step).floor() * step - offset)
            }
            None => text.to_owned(),
        },
        Bucket::Month { .. } | Bucket::Year { .. } => match lodge_record::time::parse(text) {
            Some(time_ns) => lodge_record::time::format(of_time(bucket, time_ns)),
            None => text.to_owned(),
        },
        Bucket::Ipv4 { bits } => match parse_ipv4(text) {
            Some(address) => {
                let host = u32::MAX.checked_shr(u32::from(bits)).unwrap_or(0);
                std::net::Ipv4Addr::from(address & !host).to_string()
            }
            None => text.to_owned(),
        },
    }
}
