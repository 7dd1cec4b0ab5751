//! LogsQL's order of values, as bytes that compare in that order.
//!
//! Empty values come first, then numbers by value (`9 < 10`, `1s < 1m`), then times with their zones,
//! then texts, in which runs of digits compare as numbers (`host-9 < host-10`). The text itself is at
//! the end of its key, so equal ranks have one order and the text can be had back:
//!
//! ```text
//!  class (1) | rank | text | length (4)
//!  rank: 8 bytes of a number or a time, or the text with encoded digit runs and a 0
//! ```

use lodge_record::time;
use lodge_segment::predicate::parse_number;

const CLASS_EMPTY: u8 = 0;
const CLASS_NUMBER: u8 = 1;
const CLASS_TIME: u8 = 2;
const CLASS_TEXT: u8 = 3;

/// The key of a value.
pub(super) fn key(text: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(text.len() * 2 + 16);
    if text.is_empty() {
        key.push(CLASS_EMPTY);
    } else if let Some(number) = parse_number(text) {
        key.push(CLASS_NUMBER);
        key.extend(ordered_bits(number).to_be_bytes());
    } else if let Some(time_ns) = moment(text) {
        key.push(CLASS_TIME);
        key.extend(ordered_time(time_ns).to_be_bytes());
    } else {
        key.push(CLASS_TEXT);
        push_natural(&mut key, text);
        key.push(0);
    }
    key.extend(text.as_bytes());
    // A value is at most a message, far below 4 GiB.
    key.extend((text.len() as u32).to_be_bytes());
    key
}

/// The text of a key.
pub(super) fn text(key: &[u8]) -> Option<&str> {
    let (rest, length) = key.split_last_chunk::<4>()?;
    let length = u32::from_be_bytes(*length) as usize;
    let start = rest.len().checked_sub(length)?;
    std::str::from_utf8(rest.get(start..)?).ok()
}

/// The time that `text` is if it is a date and a time of day, not a date or a number alone.
pub(super) fn moment(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let sign = |place: usize| bytes.get(place).copied();
    let shaped = sign(4) == Some(b'-') && sign(7) == Some(b'-') && sign(13) == Some(b':');
    shaped.then(|| time::parse(text)).flatten()
}

/// A time so that it orders as an unsigned number.
fn ordered_time(time_ns: i64) -> u64 {
    time_ns.cast_unsigned() ^ 1 << 63
}

/// The bits of a float so that they order as it does.
fn ordered_bits(number: f64) -> u64 {
    // Minus zero and zero are one number.
    let bits = (number + 0.0).to_bits();
    if bits >> 63 == 0 { bits | 1 << 63 } else { !bits }
}

/// Replaces each run of digits by `0`, its length without leading zeros, and its digits: a longer
/// number is greater, and towards other characters a number stays where its digits are.
fn push_natural(key: &mut Vec<u8>, text: &str) {
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        if !first.is_ascii_digit() {
            key.push(first);
            rest = tail;
            continue;
        }
        let end = rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
        let (run, after) = rest.split_at(end);
        let zeros = run.iter().take_while(|digit| **digit == b'0').count();
        let digits = run.get(zeros..).unwrap_or_default();
        key.push(b'0');
        key.extend((digits.len() as u32).to_be_bytes());
        key.extend(digits);
        rest = after;
    }
}
