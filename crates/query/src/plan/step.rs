//! The step of a bucket of time as it is written outside of a query: `5m`, `1h30m`, `week`, `month`.

use lodge_segment::predicate::{DAY_NS, parse_duration_ns};

use super::functions::ValueFunction;
use crate::error::QueryError;
use crate::logsql::Bucket;

const HOUR_NS: i64 = DAY_NS / 24;

/// The function that rounds times down to multiples of `step`, shifted by `offset`.
pub(crate) fn bucket_function(
    step: &str,
    offset: Option<&str>,
) -> Result<ValueFunction, QueryError> {
    let offset_ns = offset.map(duration).transpose()?.unwrap_or(0);
    let of = |step_ns: i64| Bucket::Step { step: step_ns as f64, step_ns, offset_ns };
    let bucket = match step {
        "second" => of(HOUR_NS / 3_600),
        "minute" => of(HOUR_NS / 60),
        "hour" => of(HOUR_NS),
        "day" => of(DAY_NS),
        // 1970-01-01 was a Thursday; weeks begin on Monday.
        "week" => Bucket::Step {
            step: 7.0 * DAY_NS as f64,
            step_ns: 7 * DAY_NS,
            offset_ns: offset_ns.saturating_add(3 * DAY_NS),
        },
        "month" => Bucket::Month { offset_ns },
        "year" => Bucket::Year { offset_ns },
        step => match duration(step)? {
            step_ns if step_ns > 0 => of(step_ns),
            _ => return Err(bad(step)),
        },
    };
    Ok(ValueFunction::Bucket(bucket))
}

fn duration(text: &str) -> Result<i64, QueryError> {
    parse_duration_ns(text).ok_or_else(|| bad(text))
}

fn bad(text: &str) -> QueryError {
    QueryError::invalid(format!(
        "`{text}` is no step of time; write it like 30s, 5m, 1h30m, 1d, or as second, minute, hour, \
         day, week, month or year"
    ))
}
