//! The ranges of VictoriaMetrics' histograms: eighteen to a power of ten, from 1e-9 to 1e18, and one
//! on each side for what is beyond.

use std::collections::BTreeMap;
use std::fmt::Write;

const EXPONENT_MIN: i16 = -9;
const EXPONENT_MAX: i16 = 18;
/// Ranges of a power of ten.
const STEPS: i16 = 18;
const BUCKETS: i16 = (EXPONENT_MAX - EXPONENT_MIN) * STEPS;
const BELOW: i16 = -1;

/// The range that a number is in: -1 below all others, [`BUCKETS`] above; `None` if it is negative.
pub(super) fn bucket(number: f64) -> Option<i16> {
    if number.is_nan() || number < 0.0 {
        return None;
    }
    let place = (number.log10() - f64::from(EXPONENT_MIN)) * f64::from(STEPS);
    if place < 0.0 {
        return Some(BELOW);
    }
    if place >= f64::from(BUCKETS) {
        return Some(BUCKETS);
    }
    let bucket = place as i16;
    // Powers of ten are the last number of a range, not the first of the next.
    Some(if place == f64::from(bucket) && bucket > 0 { bucket - 1 } else { bucket })
}

/// The ranges with their hits, the least first: `[{"vmrange":"1.000e+00...1.136e+00","hits":3}]`.
pub(super) fn json(buckets: &BTreeMap<i16, u64>) -> String {
    let mut json = String::from("[");
    for (index, (bucket, hits)) in buckets.iter().enumerate() {
        if index > 0 {
            json.push(',');
        }
        // Writing to a string cannot fail.
        let _ = match *bucket {
            BELOW => write!(json, "{{\"vmrange\":\"0...{}\"", end(0)),
            BUCKETS.. => write!(json, "{{\"vmrange\":\"{}...+Inf\"", end(BUCKETS)),
            bucket => write!(json, "{{\"vmrange\":\"{}...{}\"", end(bucket), end(bucket + 1)),
        };
        let _ = write!(json, ",\"hits\":{hits}}}");
    }
    json.push(']');
    json
}

/// Where a range begins, with three decimals and an exponent of two digits at least.
fn end(bucket: i16) -> String {
    let exponent = f64::from(EXPONENT_MIN) + f64::from(bucket) / f64::from(STEPS);
    let text = format!("{:.3e}", 10f64.powf(exponent));
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, digits) = match exponent.strip_prefix('-') {
        Some(digits) => ('-', digits),
        None => ('+', exponent),
    };
    format!("{mantissa}e{sign}{digits:0>2}")
}
